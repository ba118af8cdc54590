"""BERT weights in int8: rounded to nearest, symmetric, a scale per row (an output channel, or a token)."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

Weights = Mapping[str, npt.NDArray[Any]]

_LARGEST = 127


def quantized(weights: Weights) -> dict[str, npt.NDArray[Any]]:
    """Weights with every matrix in int8 and its scales (rows,) float32 beside it, as ``<name>.scale``.

    What has one dimension (biases, layer norms) stays as it is, and so does what is int8 already.

    Args:
        weights: Matrices (rows, columns) and vectors by name, float16 or float32.

    Returns:
        New weights of the same names, and the scales.

    Raises:
        ValueError: A matrix has values that are not finite.
    """
    found: dict[str, npt.NDArray[Any]] = {}
    for name, value in weights.items():
        if value.ndim == 2 and value.dtype != np.int8:
            found[name], found[f"{name}.scale"] = quantized_matrix(value, name)
        else:
            found[name] = value
    return found


def dequantized(weights: Weights) -> dict[str, npt.NDArray[np.float32]]:
    """Weights in float32: int8 rows times their scales, which are themselves left out."""
    return {name: dense_weight(weights, name) for name in weights if not is_scale(weights, name)}


def dense_weight(weights: Weights, name: str) -> npt.NDArray[np.float32]:
    """A weight in float32, whatever it is stored in; int8 rows are multiplied by their scales."""
    value = weights[name]
    dense: npt.NDArray[np.float32] = value.astype(np.float32)
    return dense * weights[f"{name}.scale"][:, None] if value.dtype == np.int8 else dense


def is_scale(weights: Weights, name: str) -> bool:
    """Whether a name is that of another weight's scales."""
    return name.endswith(".scale") and name.removesuffix(".scale") in weights


def quantized_matrix(
    matrix: npt.NDArray[Any], name: str = "matrix", largest: int = _LARGEST
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Rows in whole steps from -largest to largest, and the step of each row; a row of zeros has step 0."""
    if not np.isfinite(matrix).all():
        raise ValueError(f"{name} has values that are not finite, expected finite ones")
    values = matrix.astype(np.float32)
    scale: npt.NDArray[np.float32] = np.abs(values).max(axis=1, initial=0) / np.float32(largest)
    steps = np.rint(values / np.where(scale > 0, scale, 1)[:, None]).clip(-largest, largest)
    return steps.astype(np.int8), scale
