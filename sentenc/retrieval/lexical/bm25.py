"""BM25 over the postings of all segments of an index (Robertson and Zaragoza, 2009).

The score of a row is the sum over the query's terms of ``idf * tf / (tf + k1 * (1 - b + b * length / average))``,
with ``idf = ln(1 + (n - df + 0.5) / (df + 0.5))`` as in Lucene. All numbers count the rows that are not deleted,
so the scores equal those of an index that never contained the deleted rows.
"""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sentenc.retrieval.lexical.postings import NO_TEXT, Postings, hash_terms
from sentenc.retrieval.quantization import FloatArray

K1, B = 1.2, 0.75


@dataclass(frozen=True, eq=False)
class RowScores:
    """Scores of some rows; all other rows have the score zero.

    Attributes:
        rows: (m,) int64, rising.
        scores: (m,) float32.
    """

    rows: npt.NDArray[np.int64]
    scores: FloatArray

    def scaled(self, factor: float) -> "RowScores":
        """Returns the scores times a factor."""
        return RowScores(self.rows, self.scores * np.float32(factor))

    def add_to(self, scores: FloatArray, first_row: int) -> None:
        """Adds the scores to those of the rows first_row, first_row + 1, ... (m,)."""
        low, high = np.searchsorted(self.rows, [first_row, first_row + len(scores)])
        scores[self.rows[low:high] - first_row] += self.scores[low:high]

    def at(self, rows: npt.NDArray[np.int64]) -> FloatArray:
        """Returns the scores (m,) of rows (m,)."""
        if len(self.rows) == 0:
            return np.zeros(len(rows), np.float32)
        places = np.minimum(np.searchsorted(self.rows, rows), len(self.rows) - 1)
        is_present = self.rows[places] == rows
        return np.where(is_present, self.scores[places], np.float32(0))

    def best(self, k: int, left_out: npt.NDArray[np.bool_]) -> "RowScores":
        """Returns the k best rows that are not left out, best first, ties by row; fewer if there are fewer."""
        kept = np.flatnonzero(~left_out[self.rows])
        rows, scores = self.rows[kept], self.scores[kept]
        if len(rows) > k:
            # All rows that equal the k-th are kept, so that ties can be ranked by row.
            worst = np.partition(scores, len(scores) - k)[len(scores) - k]
            kept = np.flatnonzero(scores >= worst)
            rows, scores = rows[kept], scores[kept]
        order = np.argsort(-scores, kind="stable")[:k]
        return RowScores(rows[order], scores[order])

    def mean_and_std(self, n: int) -> tuple[float, float]:
        """Returns the mean and the standard deviation of the scores of n rows, of which these are a part."""
        if n == 0:
            return 0.0, 0.0
        scores = self.scores.astype(np.float64)
        mean = float(scores.sum()) / n
        return mean, math.sqrt(max(float(scores @ scores) / n - mean**2, 0.0))


class Bm25:
    """BM25 of the rows of a snapshot.

    Args:
        postings: Postings of each segment, in the order of rows.
        deleted: Whether each row is deleted, (n,) bool.
    """

    def __init__(self, postings: Sequence[Postings], deleted: npt.NDArray[np.bool_]) -> None:
        self._postings = postings
        self._deleted = deleted if deleted.any() else None
        lengths = np.concatenate([np.zeros(0, np.int32), *(part.lengths for part in postings)])
        has_text = (lengths != NO_TEXT) & ~deleted
        #: The number of live rows with a text.
        self.n_texts = int(has_text.sum())
        average = float(lengths[has_text].mean()) if self.n_texts else 0.0
        # A text without terms has no postings, and if there are only such texts, the average is zero.
        norms = K1 * (1 - B + B * lengths / (average or 1.0))
        self._norms: FloatArray = norms.astype(np.float32)

    def scores(self, terms: Sequence[str]) -> RowScores:
        """Returns the scores of all live rows that contain a term of a query.

        Args:
            terms: The terms of the query, repeated as often as they occur.
        """
        times = Counter(terms)
        total = np.zeros(len(self._norms), np.float32)
        for term, repeats in zip(hash_terms(list(times)), times.values(), strict=True):
            self._add(term, repeats, total)
        rows = np.flatnonzero(total > 0)
        return RowScores(rows, total[rows])

    def _add(self, term: np.uint64, repeats: int, total: FloatArray) -> None:
        postings = []
        first = frequency = 0
        for part in self._postings:
            place = part.find(term)
            if place.stop > place.start:
                rows, counts = part.rows[place] + first, part.counts[place]
                if self._deleted is not None:
                    is_live = ~self._deleted[rows]
                    rows, counts = rows[is_live], counts[is_live]
                frequency += len(rows)
                postings.append((rows, counts))
            first += len(part)
        weight = repeats * math.log1p((self.n_texts - frequency + 0.5) / (frequency + 0.5))
        for rows, counts in postings:
            tf = counts.astype(np.float32)
            total[rows] += np.float32(weight) * tf / (tf + self._norms[rows])
