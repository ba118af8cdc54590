"""The ranking metrics of search, as trec_eval defines them: nDCG, recall, reciprocal rank and MAP.

A ranking is the sequence of the ids that a system returns for a query, best first. The grades of a query map
the ids of its judged documents to whole numbers. A document with a grade above 0 is relevant. A document
without a grade, and one with a grade of 0 or less, is not. Every metric is 0 for a query without a relevant
document.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from operator import itemgetter

import numpy as np
import numpy.typing as npt

Grades = Mapping[str, int]
Ranking = Sequence[str]


def ndcg(ranking: Ranking, grades: Grades, k: int = 10) -> float:
    """Returns the normalized discounted cumulative gain of the first k documents, 0 to 1.

    The gain of a document is its grade (linear gains), divided by log2(rank + 1). The sum is divided by that
    of the best possible ranking of all judged documents (Järvelin and Kekäläinen 2002; trec_eval's
    ``ndcg_cut``).
    """
    gains = [max(grades.get(name, 0), 0) for name in ranking[:k]]
    ideal = sorted((grade for grade in grades.values() if grade > 0), reverse=True)[:k]
    return _discounted(gains) / _discounted(ideal) if ideal else 0.0


def recall(ranking: Ranking, grades: Grades, k: int = 100) -> float:
    """Returns the fraction of the relevant documents that are among the first k, 0 to 1."""
    relevant = _relevant(grades)
    return len(relevant.intersection(ranking[:k])) / len(relevant) if relevant else 0.0


def reciprocal_rank(ranking: Ranking, grades: Grades, k: int = 10) -> float:
    """Returns 1 / rank of the first relevant document; 0 if none is among the first k."""
    relevant = _relevant(grades)
    return next((1 / rank for rank, name in enumerate(ranking[:k], 1) if name in relevant), 0.0)


def average_precision(ranking: Ranking, grades: Grades) -> float:
    """Returns the mean of the precisions at the ranks of the relevant documents, 0 to 1.

    The precision of a relevant document that the ranking lacks is 0.
    """
    relevant = _relevant(grades)
    ranks = [rank for rank, name in enumerate(ranking, 1) if name in relevant]
    return sum(n / rank for n, rank in enumerate(ranks, 1)) / len(relevant) if relevant else 0.0


# The metrics of a search task by their usual names; the first one is the main metric.
RANKING_METRICS: Mapping[str, Callable[[Ranking, Grades], float]] = {
    "nDCG@10": ndcg,
    "recall@100": recall,
    "MRR@10": reciprocal_rank,
    "MAP": average_precision,
}


def ranking_metrics(
    rankings: Mapping[str, Ranking], judgments: Mapping[str, Grades]
) -> dict[str, list[float]]:
    """Returns nDCG@10, recall@100, MRR@10 and MAP of every judged query, 0 to 1.

    Args:
        rankings: The ranking of each query by the query's id. Queries without grades are ignored.
        judgments: The grades of each query. A query without a ranking scores 0, as if nothing was found.

    Returns:
        For every metric one value per query, in the order of ``judgments``. The score of a system is their
        mean.

    Raises:
        ValueError: ``judgments`` is empty, or a ranking contains an id twice.
    """
    if not judgments:
        raise ValueError("judgments is empty, expected the grades of at least one query")
    for query in judgments:
        ranking = rankings.get(query, ())
        if len(set(ranking)) != len(ranking):
            repeated = next(name for name in ranking if list(ranking).count(name) > 1)
            raise ValueError(f"the ranking of query {query!r} contains {repeated!r} twice, expected once")
    return {
        name: [metric(rankings.get(query, ()), grades) for query, grades in judgments.items()]
        for name, metric in RANKING_METRICS.items()
    }


def ranked(scores: npt.ArrayLike, ids: Sequence[str], k: int | None = None) -> list[str]:
    """Returns the ids of the k highest scores, best first.

    Equal scores are ordered by falling id, compared by code points, which is the rule of trec_eval. The order
    of the input therefore decides nothing.

    Args:
        scores: Shape (n,).
        ids: The n distinct ids.
        k: Maximum number of ids; all by default.
    """
    values = np.asarray(scores)
    if values.shape != (len(ids),):
        raise ValueError(f"scores have shape {values.shape}, expected ({len(ids)},): one for each id")
    if k is not None and k < len(ids):
        # All documents that tie with the last one compete for its place.
        candidates = np.flatnonzero(values >= -np.partition(-values, k - 1)[k - 1]) if k > 0 else np.arange(0)
    else:
        candidates = np.arange(len(ids))
    names = [ids[row] for row in candidates.tolist()]
    best = sorted(zip(names, values[candidates].tolist(), strict=True), reverse=True)
    # Sorting is stable: equal scores keep the order of their ids.
    best.sort(key=itemgetter(1), reverse=True)
    return [name for name, _ in best[:k]]


def _relevant(grades: Grades) -> set[str]:
    return {name for name, grade in grades.items() if grade > 0}


def _discounted(gains: Sequence[float]) -> float:
    return sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains, 1))
