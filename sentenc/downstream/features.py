"""Features of a pair of sentences."""

import numpy as np
import numpy.typing as npt


def pair_features(u: npt.ArrayLike, v: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """[|u - v|; u * v], the same for (u, v) and (v, u) (Tai, Socher and Manning, 2015).

    Args:
        u: Vectors (n, d) of the first sentences.
        v: Vectors (n, d) of the second.

    Returns:
        (n, 2 d) float32.
    """
    first, second = np.asarray(u, np.float32), np.asarray(v, np.float32)
    if first.shape != second.shape:
        raise ValueError(f"u and v have shapes {first.shape} and {second.shape}, expected the same")
    return np.concatenate([np.abs(first - second), first * second], axis=-1)
