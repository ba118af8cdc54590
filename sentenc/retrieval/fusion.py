"""Hybrid search: the weighted sum of the z-scores of vectors and words.

The score of an item is ``alpha * z(similarity) + (1 - alpha) * z(BM25)``. Both z-scores are relative to the whole
collection, in which an item without a word of the query has a BM25 of zero. The constants of a query do not change
the order of the items. A hybrid search is therefore a search by vectors with a scaled query, in which scaled BM25
scores are added to the dot products.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sentenc.retrieval.exact_search import Scored
from sentenc.retrieval.lexical.bm25 import RowScores
from sentenc.retrieval.quantization import FloatArray
from sentenc.retrieval.snapshot import Snapshot

Mask = npt.NDArray[np.bool_]

# The BM25 scores that are in memory at once, but for those of the last query: 256 MB, as each takes 16 bytes.
_SCORES_AT_ONCE = 2**24


@dataclass(frozen=True, eq=False)
class Ranked:
    """The k best rows of each of q queries, best first, with the parts of their scores.

    Attributes:
        scores: (q, k) float32, the sums of the parts.
        rows: (q, k) int64, -1 if there are fewer.
        semantic: (q, k), the parts of the vectors; None if they were not used.
        lexical: (q, k), the parts of the words; None if they were not used.
        rerank: (q, k), the scores of the reranker; None if there was none.
    """

    scores: FloatArray
    rows: npt.NDArray[np.int64]
    semantic: npt.NDArray[np.floating] | None = None
    lexical: npt.NDArray[np.floating] | None = None
    rerank: FloatArray | None = None

    def at(self, places: npt.NDArray[np.int64]) -> "Ranked":
        """Returns the ranking of the rows at some places (q, m) of each query."""
        parts = {
            name: np.take_along_axis(values, places, axis=1)
            for name, values in vars(self).items()
            if values is not None
        }
        return Ranked(**parts)


def by_vectors(
    snapshot: Snapshot, vectors: FloatArray, k: int, kind: str, store: str, allowed: Mask | None
) -> Ranked:
    """Ranks rows by their dot products with the vectors of queries (q, d)."""
    scores, rows = snapshot.search(vectors, k, kind, store, allowed=allowed)
    return Ranked(scores, rows, semantic=scores)


def by_words(snapshot: Snapshot, terms: Sequence[Sequence[str]], k: int, allowed: Mask | None) -> Ranked:
    """Ranks the rows that contain a term of the query by BM25, for q queries as lists of terms."""
    left_out = snapshot.left_out(allowed)
    best = [snapshot.bm25.scores(own).best(k, left_out) for own in terms]
    scores, rows = _stacked(best)
    return Ranked(scores, rows, lexical=scores)


def by_both(
    snapshot: Snapshot,
    vectors: FloatArray,
    terms: Sequence[Sequence[str]],
    alpha: float,
    k: int,
    kind: str,
    store: str,
    allowed: Mask | None,
) -> Ranked:
    """Ranks rows by the sum of both z-scores.

    If no row contains a term of a query, its rows are ranked by the vectors alone. If its vector is zero, only rows
    that contain a term are returned, and none if there are none.

    Args:
        snapshot: The rows, with words and moments.
        vectors: (q, d), the vectors of the queries.
        terms: The terms of the queries.
        alpha: The weight of the vectors, 0 to 1.
        k: Maximum number of rows per query.
        kind: The index's kind.
        store: The index's store.
        allowed: Whether each row may be a result, (n,) bool; None if all may.
    """
    parts: list[Ranked] = []
    n_ranked = 0
    while n_ranked < len(terms) or not parts:
        words = _first_scores(snapshot, terms[n_ranked:])
        own = vectors[n_ranked : n_ranked + len(words)]
        parts.append(_fused(snapshot, own, words, alpha, k, kind, store, allowed))
        n_ranked += len(words)
    return parts[0] if len(parts) == 1 else _joined(parts)


def _first_scores(snapshot: Snapshot, terms: Sequence[Sequence[str]]) -> list[RowScores]:
    # The BM25 scores of as many of the first queries as memory allows, at least one. Scores are counted and not
    # queries, because a common word is in most rows, and a rare one in a few.
    words: list[RowScores] = []
    n_scores = 0
    for own in terms:
        words.append(snapshot.bm25.scores(own))
        n_scores += len(words[-1].rows)
        if n_scores >= _SCORES_AT_ONCE:
            break
    return words


def _fused(
    snapshot: Snapshot,
    vectors: FloatArray,
    words: Sequence[RowScores],
    alpha: float,
    k: int,
    kind: str,
    store: str,
    allowed: Mask | None,
) -> Ranked:
    word_mean, word_std = np.array([own.mean_and_std(snapshot.n_live) for own in words]).reshape(-1, 2).T
    vector_mean, vector_std = snapshot.measured_moments.mean_and_std(vectors)
    vector_factor, word_factor = _quotient(alpha, vector_std), _quotient(1 - alpha, word_std)
    added = [own.scaled(factor) for own, factor in zip(words, word_factor.tolist(), strict=True)]
    scaled = vectors * vector_factor[:, None].astype(np.float32)
    scores, rows = snapshot.search(scaled, k, kind, store, allowed=allowed, added=added)
    left_out = None
    for i in np.flatnonzero(~vectors.any(axis=1)):
        left_out = snapshot.left_out(allowed) if left_out is None else left_out
        best = added[i].best(rows.shape[1], left_out)
        scores[i], rows[i] = -np.inf, -1
        scores[i, : len(best.rows)], rows[i, : len(best.rows)] = best.scores, best.rows
    lexical = (
        np.stack([own.at(own_rows) for own, own_rows in zip(added, rows, strict=True)]) if added else scores
    )
    semantic = scores - lexical - (vector_factor * vector_mean)[:, None]
    lexical = lexical - (word_factor * word_mean)[:, None]
    return Ranked((semantic + lexical).astype(np.float32), rows, semantic, lexical)


def _joined(parts: Sequence[Ranked]) -> Ranked:
    # All parts have the same arrays, and as many rows for each query.
    names = [name for name, values in vars(parts[0]).items() if values is not None]
    return Ranked(**{name: np.concatenate([getattr(part, name) for part in parts]) for name in names})


def _quotient(weight: float, std: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    # A side that does not tell the rows apart has no part in the score.
    return np.divide(weight, std, out=np.zeros_like(std), where=std > 0)


def _stacked(best: Sequence[RowScores]) -> Scored:
    k = max((len(own.rows) for own in best), default=0)
    scores = np.full((len(best), k), -np.inf, np.float32)
    rows = np.full((len(best), k), -1, np.int64)
    for i, own in enumerate(best):
        scores[i, : len(own.rows)], rows[i, : len(own.rows)] = own.scores, own.rows
    return scores, rows
