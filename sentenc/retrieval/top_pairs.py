"""Exact cosines of pairs of rows, and selection of the best of many pairs in bounded memory."""

from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]

_NUMBERS_PER_BLOCK = 1 << 20
# Number of pairs beyond the limit from which sorting them out pays off.
_SLACK = 1 << 16


class Cosines:
    """Unit vectors of rows, and the exact cosines of their pairs.

    Attributes:
        units: (m, d) float32 unit vectors of the rows that are not zero.
        rows: (m,) int64 rows of these vectors, rising.
    """

    def __init__(self, vectors: npt.NDArray[Any]) -> None:
        """Normalizes vectors (n, d); raises ValueError if one is not finite in float32."""
        self._vectors = vectors
        self._step = max(1, _NUMBERS_PER_BLOCK // max(1, vectors.shape[1]))
        norms = np.empty(len(vectors), np.float64)
        for start in range(0, len(vectors), self._step):
            block = self._floats(slice(start, start + self._step))
            invalid = np.flatnonzero(~np.isfinite(block).all(axis=1))
            if len(invalid):
                raise ValueError(f"vector {start + invalid[0]} has NaN or infinity, expected finite numbers")
            norms[start : start + len(block)] = np.linalg.norm(block, axis=1)
        self.rows = np.flatnonzero(norms).astype(np.int64)
        self._norms = norms[self.rows]
        self.units = np.empty((len(self.rows), vectors.shape[1]), np.float32)
        for start in range(0, len(self.rows), self._step):
            numbers = np.arange(start, min(start + self._step, len(self.rows)))
            self.units[numbers] = self._unit(numbers)

    def __len__(self) -> int:
        return len(self.rows)

    def __call__(self, left: Rows, right: Rows) -> Scores:
        """Returns the cosines (m,) of pairs of unit vectors, computed in float64 and rounded to float32.

        Each is computed by itself, so that it does not depend on the other pairs of the call.

        Args:
            left: (m,) positions in ``units``.
            right: (m,) positions in ``units``.
        """
        scores = np.empty(len(left), np.float32)
        for start in range(0, len(left), self._step):
            a, b = (self._unit(side[start : start + self._step]) for side in (left, right))
            scores[start : start + self._step] = np.clip(np.einsum("ij,ij->i", a, b), -1, 1)
        return scores

    def _unit(self, numbers: Rows) -> npt.NDArray[np.float64]:
        return self._floats(self.rows[numbers]) / self._norms[numbers, None]

    def _floats(self, rows: Any) -> npt.NDArray[np.float64]:
        # Numbers beyond the range of float32 become infinite, and are then reported.
        with np.errstate(over="ignore"):
            return np.asarray(self._vectors[rows].astype(np.float32), np.float64)


class TopPairs:
    """Keeps the best ``limit`` pairs: by falling score, then by left, then by right."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._parts: list[tuple[Scores, Rows, Rows]] = []
        self._size = 0
        # The last of the best pairs, as soon as there are ``limit`` of them.
        self._last: tuple[np.float32, int, int] | None = None

    def may_enter(self, bounds: Scores, left: Rows, right: Rows) -> npt.NDArray[np.bool_]:
        """Returns whether each pair (m,), whose score is at most its bound, could be among the best."""
        if self._last is None:
            return np.ones(len(left), bool)
        score, last_left, last_right = self._last
        bounds = np.minimum(bounds, np.float32(1))
        is_earlier = (left < last_left) | ((left == last_left) & (right < last_right))
        may_enter: npt.NDArray[np.bool_] = (bounds > score) | ((bounds == score) & is_earlier)
        return may_enter

    def add(self, scores: Scores, left: Rows, right: Rows) -> None:
        """Adds pairs (m,) in any order. No pair may be added twice."""
        self._parts.append((scores, left, right))
        self._size += len(scores)
        if self._size > 2 * self._limit + _SLACK:
            self._cut()

    def result(self) -> tuple[Scores, Rows, Rows]:
        """Returns the scores, left and right of the best pairs, in order."""
        self._cut()
        return self._parts[0]

    def _cut(self) -> None:
        if not self._parts:
            self._parts = [(np.empty(0, np.float32), np.empty(0, np.int64), np.empty(0, np.int64))]
        scores, left, right = (np.concatenate([part[i] for part in self._parts]) for i in range(3))
        order = np.lexsort((right, left, -scores))[: self._limit]
        self._parts = [(scores[order], left[order], right[order])]
        self._size = len(order)
        if self._size == self._limit:
            self._last = (scores[order[-1]], int(left[order[-1]]), int(right[order[-1]]))
