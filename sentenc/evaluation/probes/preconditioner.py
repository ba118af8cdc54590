"""The Hessian of a logistic regression on all rows, factored: the preconditioner of every fold's problem."""

from collections.abc import Iterable
from concurrent.futures import Executor
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

_BLOCK_ROWS = 4096
# Above so many weights the coupling between classes is left out (the Hessian has their square), and above
# so many classes they share one block.
_MOST_COUPLED_WEIGHTS = 6000
_MOST_OWN_BLOCKS = 32


class Curvature:
    """``I + C * X' S X`` at some weights, S being the curvature of the loss in each row's scores.

    Args:
        features: Shape (n, d), the last column being the intercept's, which has no penalty.
        mask: Shape (n,): rows that count.
        weights: Shape (k, d); k = 1 is the binary model.
        strength: C.
        pool: Threads to work in.
        coupled: Whether to keep the blocks between classes, where they are not too large.
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
        shares = _shares(features, weights, mask)
        if coupled and weights.size <= _MOST_COUPLED_WEIGHTS:
            pairs = [(i, j) for i in range(k) for j in range(i + 1)]
            columns: Iterable[Floats] = (shares[i] * ((i == j) - shares[j]) for i, j in pairs)
            blocks = _weighted_grams(features, [c * mask for c in columns], pool)
            matrix = np.empty((k, features.shape[1], k, features.shape[1]))
            for (i, j), block in zip(pairs, blocks, strict=True):
                matrix[i, :, j] = matrix[j, :, i] = block
            matrices = [matrix.reshape(k * features.shape[1], -1)]
        else:
            own = shares * (1.0 - shares) * mask
            own = own if k <= _MOST_OWN_BLOCKS else own.mean(axis=0, keepdims=True)
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


def _shares(features: Floats, weights: Floats, mask: npt.NDArray[np.bool_]) -> Floats:
    """Probabilities of the outputs, shape (k, n)."""
    scores = weights @ features.T
    if len(scores) == 1:
        decay = np.exp(-np.abs(scores))
        return np.asarray(np.where(scores >= 0, 1.0, decay) / (1.0 + decay))
    scores -= scores.max(axis=0)
    np.exp(scores, out=scores)
    return np.asarray(scores / scores.sum(axis=0))


def _weighted_grams(features: Floats, columns: list[Floats], pool: Executor) -> list[Floats]:
    """``X' diag(w) X`` for several w (n,); the sums are the same for any number of threads."""
    n, d = features.shape
    starts = range(0, n, _BLOCK_ROWS)

    def piece(job: tuple[int, int]) -> Floats:
        at, start = job
        rows = features[start : start + _BLOCK_ROWS]
        return np.asarray((rows * columns[at][start : start + _BLOCK_ROWS, None]).T @ rows)

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
    # Without a penalty an intercept may have next to no curvature: enough is added to factor by.
    penalty[-1] = 1e-3
    # So is the rounding error of the largest entry, which features of large scale can make matter.
    diagonal += np.tile(penalty, len(matrix) // d) + 1e-13 * diagonal.max(initial=0.0)
    return cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
