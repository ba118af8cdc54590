"""Unsupervised similarity: cosine against gold scores, and the three ways to aggregate a year's sets."""

from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt

Aggregation = Literal["all", "mean", "wmean"]
AGGREGATIONS: tuple[Aggregation, ...] = ("all", "mean", "wmean")
Floats = npt.NDArray[np.float64]


def paired_cosine(left: npt.ArrayLike, right: npt.ArrayLike) -> Floats:
    """Cosine of each row of ``left`` with the same row of ``right``; 0 where either is zero.

    Args:
        left: Shape (n, dim).
        right: Shape (n, dim).

    Returns:
        Shape (n,), float64.
    """
    a, b = np.asarray(left, np.float64), np.asarray(right, np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b))
    dots: Floats = np.einsum("ij,ij->i", a, b)
    return np.asarray(np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0))


def pearson(predicted: npt.ArrayLike, gold: npt.ArrayLike) -> float:
    """Pearson correlation of two (n,) arrays; 0 where it is undefined, that is where one is constant."""
    a = np.asarray(predicted, np.float64)
    b = np.asarray(gold, np.float64)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0


def spearman(predicted: npt.ArrayLike, gold: npt.ArrayLike) -> float:
    """Spearman correlation: Pearson's of the ranks, ties sharing their average rank."""
    return pearson(average_ranks(predicted), average_ranks(gold))


def average_ranks(values: npt.ArrayLike) -> Floats:
    """Ranks from 1, shape (n,); equal values share the mean of their ranks."""
    _, group, sizes = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last: Floats = np.cumsum(sizes).astype(np.float64)
    ranks: Floats = (last - (sizes - 1) / 2)[group]
    return ranks


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
