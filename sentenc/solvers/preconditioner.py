"""The factored Hessian of a logistic regression on all rows, used as the preconditioner for each fold."""

from collections.abc import Iterable
from concurrent.futures import Executor
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.solvers.losses import probabilities

Floats = npt.NDArray[np.float64]

_ROWS_PER_BLOCK = 4096
# With more weights, the blocks between classes are left out, because the Hessian has the square of that
# number of elements. With more classes, all classes share one block.
_MAX_COUPLED_WEIGHTS = 6000
_MAX_CLASS_BLOCKS = 32


class HessianPreconditioner:
    """The Hessian ``I + C * X' S X`` at given weights; S is the second derivative of the loss.

    Args:
        features: Shape (n, d); the last column belongs to the intercept, which has no penalty.
        mask: Shape (n,): the rows to include.
        weights: Shape (k, d); k = 1 is the binary model.
        strength: C, the inverse strength of the penalty.
        pool: Threads to work in.
        coupled: Whether to include the blocks between classes, unless they are too large.
    """

    def __init__(
        self,
        features: Floats,
        mask: npt.NDArray[np.bool_],
        weights: Floats,
        strength: float,
        pool: Executor,
        coupled: bool = True,
    ) -> None:
        k = len(weights)
        p = probabilities(weights @ features.T, "sigmoid" if k == 1 else "softmax", axis=0)
        if coupled and weights.size <= _MAX_COUPLED_WEIGHTS:
            pairs = [(i, j) for i in range(k) for j in range(i + 1)]
            columns: Iterable[Floats] = (p[i] * ((i == j) - p[j]) for i, j in pairs)
            blocks = _weighted_grams(features, [c * mask for c in columns], pool)
            matrix = np.empty((k, features.shape[1], k, features.shape[1]))
            for (i, j), block in zip(pairs, blocks, strict=True):
                matrix[i, :, j] = matrix[j, :, i] = block
            matrices = [matrix.reshape(k * features.shape[1], -1)]
        else:
            own = p * (1.0 - p) * mask
            own = own if k <= _MAX_CLASS_BLOCKS else own.mean(axis=0, keepdims=True)
            matrices = _weighted_grams(features, list(own), pool)
        self._factors = [_factor(matrix, strength, features.shape[1]) for matrix in matrices]

    def solve(self, vectors: Floats) -> Floats:
        """Multiplies vectors of shape (p, k, d) by the inverse Hessian."""
        from scipy.linalg import cho_solve

        p, k, d = vectors.shape
        if len(self._factors) == k > 1:
            each = [
                cho_solve(f, vectors[:, at].T, check_finite=False).T for at, f in enumerate(self._factors)
            ]
            return np.stack(each, axis=1)
        size = len(self._factors[0][0])
        flat = vectors.reshape(-1, size)
        solved: Floats = cho_solve(self._factors[0], flat.T, check_finite=False).T
        return np.ascontiguousarray(solved).reshape(p, k, d)


def _weighted_grams(features: Floats, columns: list[Floats], pool: Executor) -> list[Floats]:
    """Returns ``X' diag(w) X`` for several w (n,). The result does not depend on the number of threads."""
    n, d = features.shape
    starts = range(0, n, _ROWS_PER_BLOCK)

    def piece(job: tuple[int, int]) -> Floats:
        at, start = job
        rows = features[start : start + _ROWS_PER_BLOCK]
        return np.asarray((rows * columns[at][start : start + _ROWS_PER_BLOCK, None]).T @ rows)

    grams = [np.zeros((d, d)) for _ in columns]
    jobs = [(at, start) for at in range(len(columns)) for start in starts]
    for (at, _), gram in zip(jobs, pool.map(piece, jobs), strict=True):
        grams[at] += gram
    return grams


def _factor(matrix: Floats, strength: float, d: int) -> Any:
    from scipy.linalg import cho_factor

    matrix *= strength
    diagonal = np.einsum("ii->i", matrix)
    penalty = np.ones(d)
    # An intercept has no penalty and may have next to no curvature. A little is added to keep the matrix
    # positive.
    penalty[-1] = 1e-3
    # So is the rounding error of the largest element, which matters for features of large scale.
    diagonal += np.tile(penalty, len(matrix) // d) + 1e-13 * diagonal.max(initial=0.0)
    return cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
