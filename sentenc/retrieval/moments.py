"""The moments of the vectors of an index, from which the mean and variance of similarities follow.

The dot products of a query q with n vectors have the mean q.m and the variance q'Cq, where m is the mean vector
and C the covariance of the vectors. Neither needs a pass over the vectors.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sentenc.retrieval.quantization import FloatArray

_ROWS_PER_BLOCK = 8192
_FEW = 4
# Rounding can leave a variance of this share of the mean square.
_ROUNDING = 1e-9


@dataclass(frozen=True, eq=False)
class Moments:
    """Sums over the vectors of an index. Sums of disjoint sets can be added and subtracted.

    Attributes:
        sums: (d + 1, d + 1) float64, the sum of the outer products of (x, 1) with itself. The last row contains
            the sum of the vectors, and the last number of it is the number of vectors.
    """

    sums: npt.NDArray[np.float64]

    @classmethod
    def empty(cls, dim: int) -> "Moments":
        """Returns the sums over no vectors of ``dim`` components."""
        return cls(np.zeros((dim + 1, dim + 1)))

    @classmethod
    def of(cls, vectors: Callable[[slice], FloatArray], n: int, dim: int) -> "Moments":
        """Returns the sums over n vectors, which are read block by block."""
        sums = np.zeros((dim + 1, dim + 1))
        for first in range(0, n, _ROWS_PER_BLOCK):
            block = vectors(slice(first, min(first + _ROWS_PER_BLOCK, n)))
            # The products of deviations from the block's mean have small rounding errors in float32.
            center = block.mean(axis=0, dtype=np.float64).astype(np.float32)
            block = block - center
            rest, wide = block.sum(axis=0, dtype=np.float64), center.astype(np.float64)
            sums[:dim, :dim] += block.T @ block
            sums[:dim, :dim] += np.outer(wide, rest) + np.outer(rest + len(block) * wide, wide)
            sums[dim, :dim] += rest + len(block) * wide
            sums[dim, dim] += len(block)
        sums[:dim, dim] = sums[dim, :dim]
        return cls(sums)

    def plus(self, other: "Moments") -> "Moments":
        """Returns the sums over the vectors of both."""
        return Moments(self.sums + other.sums)

    def minus(self, other: "Moments") -> "Moments":
        """Returns the sums without the vectors of the other."""
        return Moments(self.sums - other.sums)

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
