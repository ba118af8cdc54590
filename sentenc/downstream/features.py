"""Features of pairs of sentences."""

import numpy as np
import numpy.typing as npt


def pair_features(u: npt.ArrayLike, v: npt.ArrayLike) -> npt.NDArray[np.float32]:
    """Returns [|u - v|; u * v], which is the same for (u, v) and (v, u) (Tai, Socher and Manning, 2015).

    Args:
        u: Vectors (n, d) of the first sentences.
        v: Vectors (n, d) of the second sentences.

    Returns:
        (n, 2 d) float32.

    Raises:
        ValueError: The shapes differ.
    """
    first, second = np.asarray(u, np.float32), np.asarray(v, np.float32)
    if first.shape != second.shape:
        raise ValueError(f"u and v have shapes {first.shape} and {second.shape}, expected equal shapes")
    return np.concatenate([np.abs(first - second), first * second], axis=-1)
