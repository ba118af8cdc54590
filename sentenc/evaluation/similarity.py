"""Unsupervised similarity: cosine against gold scores, and the three ways to aggregate a year's sets."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from sentenc.metrics import Floats, pearson, spearman

Aggregation = Literal["all", "mean", "wmean"]
AGGREGATIONS: tuple[Aggregation, ...] = ("all", "mean", "wmean")


def correlations(sets: Mapping[str, tuple[Floats, Floats]]) -> dict[str, dict[str, float]]:
    """Correlations of a task's sets, one by one and aggregated.

    ``all`` correlates the concatenation of the sets (SBERT, SimCSE, MTEB), ``mean`` averages the sets'
    correlations (Wieting, SentEval), ``wmean`` weighs them by size (BERT-flow). On STS12
    they differ by several points, so a number means nothing without the name of its aggregation.

    Args:
        sets: Predictions and gold scores, both (n,), by the name of the set.

    Returns:
        ``{"pearson": {"all": ..., "mean": ..., "wmean": ..., "<set>": ...}, "spearman": ...}`` x 100.
    """
    sizes = [len(gold) for _, gold in sets.values()]
    predicted = np.concatenate([values for values, _ in sets.values()])
    gold = np.concatenate([values for _, values in sets.values()])
    found: dict[str, dict[str, float]] = {}
    for name, correlation in (("pearson", pearson), ("spearman", spearman)):
        each = {key: 100 * correlation(*pair) for key, pair in sets.items()}
        found[name] = {
            "all": 100 * correlation(predicted, gold),
            "mean": float(np.mean(list(each.values()))),
            "wmean": _weighted(list(each.values()), sizes),
            **each,
        }
    return found


def _weighted(values: Sequence[float], sizes: Sequence[int]) -> float:
    return float(np.dot(values, sizes) / np.sum(sizes))
