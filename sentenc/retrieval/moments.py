"""The moments of the vectors of an index, from which the mean and variance of similarities follow.

The dot products of a query q with n vectors have the mean q.m and the variance q'Cq, where m is the mean vector
and C the covariance of the vectors. Neither needs a pass over the vectors.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sentenc.retrieval.quantization import FloatArray

# Numbers that are converted to float64 at a time, and the least number of rows.
_NUMBERS_PER_BLOCK, _LEAST_ROWS = 2**20, 256
_FEW = 4
# If less than this share of the added and subtracted squares is left, rounding errors count.
_LEAST_LEFT = 1e-3
# Rounding can leave a variance of this share of the mean square.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the vectors of an index. Sums of disjoint sets can be added and subtracted.

    Attributes:
        sums: (d + 1, d + 1) float64, the sum of the outer products of (x, 1) with itself. The last row contains
            the sum of the vectors, and the last number of it is the number of vectors.
        turnover: (d + 1,) float64, the diagonal of the sums over all vectors that were ever added or subtracted.
            Rounding errors grow with it. None means the diagonal of ``sums``.
    """

    sums: npt.NDArray[np.float64]
    turnover: npt.NDArray[np.float64] | None = None

    @classmethod
    def empty(cls, dim: int) -> "Moments":
        """Returns the sums over no vectors of ``dim`` components."""
        return cls(np.zeros((dim + 1, dim + 1)))

    @classmethod
    def of(cls, vectors: Callable[[slice], FloatArray], n: int, dim: int) -> "Moments":
        """Returns the sums over n vectors, which are read block by block."""
        sums = np.zeros((dim + 1, dim + 1))
        step = max(_LEAST_ROWS, _NUMBERS_PER_BLOCK // max(dim, 1))
        for first in range(0, n, step):
            # The squares of a few large vectors would leave nothing of the other ones in float32.
            block = vectors(slice(first, min(first + step, n))).astype(np.float64)
            sums[:dim, :dim] += block.T @ block
            sums[dim, :dim] += block.sum(axis=0)
            sums[dim, dim] += len(block)
        sums[:dim, dim] = sums[dim, :dim]
        return cls(sums)

    def plus(self, other: "Moments") -> "Moments":
        """Returns the sums over the vectors of both."""
        return Moments(self.sums + other.sums, self._turnover + other._turnover)

    def minus(self, other: "Moments") -> "Moments":
        """Returns the sums without the vectors of the other; see :attr:`is_precise`."""
        return Moments(self.sums - other.sums, self._turnover + other._turnover)

    @property
    def is_precise(self) -> bool:
        """Whether rounding errors are small; False if too much of the sums was subtracted again."""
        # Each dimension has its own errors, and may be the only one of a query.
        return bool((self.sums.diagonal() >= _LEAST_LEFT * self._turnover).all())

    def mean_and_std(self, queries: FloatArray) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Returns the mean and standard deviation (q,) of the dot products of queries (q, d) with all vectors."""
        n = self.sums[-1, -1]
        if n < 0.5:
            return np.zeros(len(queries)), np.zeros(len(queries))
        wide = np.zeros((len(queries), len(self.sums)))
        wide[:, :-1] = queries
        # With few queries, the threads of BLAS wait longer than they compute.
        few = len(queries) <= _FEW
        products = np.einsum("ij,jk->ik", wide, self.sums) if few else wide @ self.sums
        mean = products[:, -1] / n
        square = np.einsum("ij,ij->i", products, wide) / n
        variance = square - mean**2
        return mean, np.sqrt(np.where(variance > _ROUNDING * square, variance, 0.0))

    @property
    def _turnover(self) -> npt.NDArray[np.float64]:
        # Rounding can leave negative squares in stored sums.
        return np.abs(self.sums.diagonal()) if self.turnover is None else self.turnover
