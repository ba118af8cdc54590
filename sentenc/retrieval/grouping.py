"""Search for items of several passages: each item is ranked once, by its best passage."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from sentenc.retrieval.fusion import Ranked
from sentenc.retrieval.snapshot import Snapshot

# Passages that are ranked first for each item of the result, and the factor by which they become more.
_PASSAGES_PER_ITEM, _GROWTH = 3, 4


def best_passages(snapshot: Snapshot, k: int, rank: Callable[[int], Ranked]) -> Ranked:
    """Ranks the k best items of each of q queries; the rows are those of their best passages.

    If the first n passages contain k different items, these are the k best. Otherwise more passages are ranked,
    and in the end all of them.

    Args:
        snapshot: The rows.
        k: Maximum number of items per query.
        rank: Ranks the n best rows of each query.
    """
    if snapshot.is_first is None:
        return rank(k)
    n = _PASSAGES_PER_ITEM * k
    while True:
        ranked = rank(n)
        places = [_best_of_each(snapshot, rows[rows >= 0]) for rows in ranked.rows]
        counts = (ranked.rows >= 0).sum(axis=1)
        if all(len(own) >= k or count < n for own, count in zip(places, counts.tolist(), strict=True)):
            return _only(ranked, [own[:k] for own in places])
        n *= _GROWTH


def _best_of_each(snapshot: Snapshot, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Returns the place in ``rows``, best first, of the first row of each item."""
    _, places = np.unique(snapshot.first_rows(rows), return_index=True)
    return np.sort(places)


def _only(ranked: Ranked, places: list[npt.NDArray[np.int64]]) -> Ranked:
    """Returns a ranking of some places of each query, filled up with the row -1."""
    width = max(map(len, places), default=0)
    chosen = np.full((len(places), width), -1, np.int64)
    for row, own in zip(chosen, places, strict=True):
        row[: len(own)] = own

    result = ranked.at(np.maximum(chosen, 0))
    result.rows[chosen < 0], result.scores[chosen < 0] = -1, -np.inf
    return result
