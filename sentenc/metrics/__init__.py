"""Metrics: correlations of NumPy arrays, and the ranking metrics of search."""

from sentenc.metrics.correlation import Floats, average_ranks, paired_cosine, pearson, spearman

__all__ = ["Floats", "average_ranks", "paired_cosine", "pearson", "spearman"]
