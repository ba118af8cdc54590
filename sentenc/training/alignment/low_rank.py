"""Principal axes of vectors in a wide space, in which the rows of tokens have fewer components.

A row of 4,096 numbers for each of 30,000 tokens would take half a gigabyte and far more texts to fit than
there are. The model of a text is instead e = z A: z has r components, and the rows of A are r orthonormal axes.
A is fixed, so that |e| = |z|, and the cosine of e and a unit vector y is z.(A y) / |z|: the table is fitted to
the r components A y of each vector as if the space had r dimensions. The part of y outside of the axes is lost.
The axes with the largest mean of |A y|^2 are the first right singular vectors of the vectors, which are not
centered, because the directions of e begin at the origin.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sentenc.training.alignment.tokens import FloatArray, Rows
from sentenc.validation import check_integer

# The widest space whose rows are stored with all of their components.
WIDEST_FULL_ROWS = 1024
# The axes keep this part of the squared length of the vectors, if so few are enough.
_KEPT = 0.95
_RANKS = range(64, 385, 32)
# Vectors from which the axes are computed: many more than there are axes.
SAMPLE = 4096
# The subspace iteration of Halko, Martinsson and Tropp (2011): axes beyond the rank, and rounds.
_MORE_AXES, _ROUNDS = 32, 2


class PrincipalAxes(NamedTuple):
    """Axes of a subspace.

    Attributes:
        axes: Orthonormal rows, (r, d) float32, the most important first.
        kept: The mean part of the squared length of the sample's unit vectors that lies in the subspace.
    """

    axes: FloatArray
    kept: float


def principal_axes(
    vectors: npt.NDArray[np.floating], *, rank: int | None = None, seed: int = 0
) -> PrincipalAxes:
    """Returns the axes that contain most of the squared length of unit vectors.

    Args:
        vectors: A sample of unit vectors, (n, d). Some thousands are enough.
        rank: r, the number of axes; by default the smallest multiple of 32 from 64 to 384 that keeps 95 % of
            the squared length, or else 384. There are never more than n or d axes.
        seed: Seed of the random start.

    Raises:
        ValueError: There are no vectors, or ``rank`` is below 1.
    """
    if vectors.ndim != 2 or not vectors.size:
        raise ValueError(f"vectors has shape {vectors.shape}, expected (n, d) with n of at least 1")
    values = np.asarray(vectors, np.float32)
    most = min(values.shape)
    highest = _RANKS[-1] if rank is None else check_integer("rank", rank)
    axes, squares = _leading_axes(values, min(highest, most), seed)
    total = float(np.einsum("nd,nd->", values, values, dtype=np.float64))
    kept = np.cumsum(squares) / total
    if rank is None:
        enough = next((r for r in _RANKS if r <= len(kept) and kept[r - 1] >= _KEPT), len(kept))
        axes, kept = axes[:enough], kept[:enough]
    return PrincipalAxes(np.ascontiguousarray(axes), float(kept[-1]))


def _leading_axes(values: FloatArray, rank: int, seed: int) -> tuple[FloatArray, npt.NDArray[np.float64]]:
    # The first right singular vectors (rank, d), and the squares of their singular values.
    n, d = values.shape
    width = min(rank + _MORE_AXES, n, d)
    if width == d:
        basis = np.eye(d, dtype=np.float32)
    else:
        start = np.random.default_rng(seed).standard_normal((d, width), np.float32)
        basis = np.linalg.qr(start)[0]
        for _ in range(_ROUNDS):
            basis = np.linalg.qr(values.T @ (values @ basis))[0]
    # The axes within the basis. Eigenvalues of a small matrix are exact enough in float64.
    products = (values @ basis).astype(np.float64)
    squares, rotation = np.linalg.eigh(products.T @ products)
    order = np.argsort(-squares)[:rank]
    axes = (basis.astype(np.float64) @ rotation[:, order]).T
    return axes.astype(np.float32), np.maximum(squares[order], 0.0)


def fitting_targets(
    read: Callable[[Rows], FloatArray], n_vectors: int, seed: int = 0
) -> tuple[FloatArray, FloatArray | None]:
    """Returns the targets that a table is fitted to. Vectors of a wide space are never all in memory.

    Args:
        read: Returns the unit vectors (m, d) of rows (m,).
        n_vectors: n, the number of rows.
        seed: Seed of the sample from which the axes are computed.

    Returns:
        The vectors (n, d) and None, or their components (n, r) and the axes (r, d) if the space is too wide
        for rows with all components.
    """
    axes = None
    if read(np.arange(min(n_vectors, 1))).shape[1] > WIDEST_FULL_ROWS:
        sample = np.sort(np.random.default_rng(seed).permutation(n_vectors)[:SAMPLE])
        axes = principal_axes(read(sample), seed=seed).axes
    parts = []
    for begin in range(0, n_vectors, SAMPLE):
        part = read(np.arange(begin, min(begin + SAMPLE, n_vectors)))
        parts.append(part if axes is None else part @ axes.T)
    return np.concatenate(parts), axes
