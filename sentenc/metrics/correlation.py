"""Metrics of NumPy arrays: paired cosine, Pearson and Spearman correlation."""

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]


def paired_cosine(left: npt.ArrayLike, right: npt.ArrayLike) -> Floats:
    """Returns the cosine of each row of ``left`` with the same row of ``right``; 0 if either is zero.

    Args:
        left: Shape (n, dim).
        right: Shape (n, dim).

    Returns:
        Shape (n,), float64.
    """
    a, b = np.asarray(left, np.float64), np.asarray(right, np.float64)
    norms = np.sqrt(np.einsum("ij,ij->i", a, a) * np.einsum("ij,ij->i", b, b))
    dots: Floats = np.einsum("ij,ij->i", a, b)
    return np.asarray(np.divide(dots, norms, out=np.zeros_like(dots), where=norms > 0))


def pearson(predicted: npt.ArrayLike, gold: npt.ArrayLike) -> float:
    """Returns the Pearson correlation of two (n,) arrays; 0 if it is undefined because one is constant."""
    a = np.asarray(predicted, np.float64)
    b = np.asarray(gold, np.float64)
    a, b = a - a.mean(), b - b.mean()
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else 0.0


def spearman(predicted: npt.ArrayLike, gold: npt.ArrayLike) -> float:
    """Returns the Spearman correlation of two (n,) arrays: Pearson's of their ranks, averaged over ties."""
    return pearson(average_ranks(predicted), average_ranks(gold))


def average_ranks(values: npt.ArrayLike) -> Floats:
    """Returns the ranks (n,) of the values, from 1; equal values share the mean of their ranks."""
    _, group, sizes = np.unique(np.asarray(values), return_inverse=True, return_counts=True)
    last: Floats = np.cumsum(sizes).astype(np.float64)
    ranks: Floats = (last - (sizes - 1) / 2)[group]
    return ranks
