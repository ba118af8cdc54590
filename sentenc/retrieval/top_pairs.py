"""Exact cosines of chosen pairs, and the best pairs of a stream that may be far too long to keep."""

from typing import Any

import numpy as np
import numpy.typing as npt

Rows = npt.NDArray[np.int64]
Scores = npt.NDArray[np.float32]

# Numbers made unit vectors, or compared, at a time.
_NUMBERS = 1 << 20
# Pairs above the limit that are worth a sort.
_SLACK = 1 << 16


class Cosines:
    """Vectors ready to be compared.

    Attributes:
        units: (m, d) float32 unit vectors of all that are not zero.
        rows: (m,) which of the n rows those are, rising.
    """

    def __init__(self, vectors: npt.NDArray[Any]) -> None:
        """Takes (n, d) real vectors, as float32; refuses with ValueError what is not finite."""
        self._vectors = vectors
        self._step = max(1, _NUMBERS // max(1, vectors.shape[1]))
        norms = np.empty(len(vectors), np.float64)
        for start in range(0, len(vectors), self._step):
            block = self._floats(slice(start, start + self._step))
            bad = np.flatnonzero(~np.isfinite(block).all(axis=1))
            if len(bad):
                raise ValueError(f"vector {start + bad[0]} holds NaN or infinity, expected finite numbers")
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
        """Cosines (m,) of pairs of unit vectors, by their numbers: in float64, rounded to float32.

        Row by row, so that a pair's cosine is the same whatever it is computed together with.
        """
        scores = np.empty(len(left), np.float32)
        for start in range(0, len(left), self._step):
            a, b = (self._unit(side[start : start + self._step]) for side in (left, right))
            scores[start : start + self._step] = np.clip(np.einsum("ij,ij->i", a, b), -1, 1)
        return scores

    def _unit(self, numbers: Rows) -> npt.NDArray[np.float64]:
        return self._floats(self.rows[numbers]) / self._norms[numbers, None]

    def _floats(self, rows: Any) -> npt.NDArray[np.float64]:
        # What float32 cannot hold becomes infinite, and is refused.
        with np.errstate(over="ignore"):
            return np.asarray(self._vectors[rows].astype(np.float32), np.float64)


class TopPairs:
    """Keeps the best ``limit`` pairs: by falling score, then by left, then by right.

    Attributes:
        total: Pairs that there were; counted by those who add them.
    """

    def __init__(self, limit: int) -> None:
        self.total = 0
        self._limit = limit
        self._parts: list[tuple[Scores, Rows, Rows]] = []
        self._size = 0
        # The last of the best, once there are enough of them.
        self._last: tuple[np.float32, int, int] | None = None

    def may_enter(self, at_most: Scores, left: Rows, right: Rows) -> npt.NDArray[np.bool_]:
        """Which pairs (m,), scored ``at_most`` so, could still be among the best."""
        if self._last is None:
            return np.ones(len(left), bool)
        score, last_left, last_right = self._last
        bound = np.minimum(at_most, np.float32(1))
        earlier = (left < last_left) | ((left == last_left) & (right < last_right))
        may: npt.NDArray[np.bool_] = (bound > score) | ((bound == score) & earlier)
        return may

    def add(self, scores: Scores, left: Rows, right: Rows) -> None:
        """Adds pairs (m,), of any scores and in any order, each pair once."""
        self._parts.append((scores, left, right))
        self._size += len(scores)
        if self._size > 2 * self._limit + _SLACK:
            self._cut()

    def result(self) -> tuple[Scores, Rows, Rows]:
        """Scores, left and right of the best, in order."""
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
