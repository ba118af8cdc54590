"""Int8 quantization of BERT weights: symmetric, rounded to the nearest step, one scale per row.

A row is an output channel of a dense layer, or a token of an embedding.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.bert.config import DISTANCES
from sentenc.encoders.weights import Weights, dense_weight
from sentenc.io.int4 import GROUP, Bits, check_bits, fits_int4, rounded_to_int4

_MAX_STEP = 127


def quantized(weights: Weights, bits: Bits = 8) -> dict[str, npt.NDArray[Any]]:
    """Returns the weights with every matrix in int8, and its scales (rows,) float32 as ``<name>.scale``.

    Vectors (biases, layer norms) are not changed, and neither are the biases of distances of an MPNet, and matrices in
    int8 that need no more than ``bits``.

    Args:
        weights: Matrices (rows, columns) and vectors by name, float16, float32 or int8.
        bits: 8, or 4 for values that files store in 4 bits; see :mod:`sentenc.io.int4`. A matrix whose number of
            columns is no multiple of 32 keeps 8 bits.

    Raises:
        ValueError: ``bits`` is neither 8 nor 4, or a matrix has values that are not finite.
    """
    check_bits(bits)
    stored: dict[str, npt.NDArray[Any]] = dict(weights)
    for name, value in weights.items():
        # The biases of distances, a thousand numbers, are added to all attention scores.
        if value.ndim != 2 or name == DISTANCES:
            continue
        if bits == 4 and value.shape[1] % GROUP == 0:
            if not fits_int4(value):
                dense = _finite(dense_weight(weights, name), name)
                stored[name], stored[f"{name}.scale"] = rounded_to_int4(dense)
        elif value.dtype != np.int8:
            stored[name], stored[f"{name}.scale"] = quantized_matrix(value, name)
    return stored


def dequantized(weights: Weights) -> dict[str, npt.NDArray[np.float32]]:
    """Returns the weights in float32, without scales: int8 rows are multiplied by theirs."""
    return {name: dense_weight(weights, name) for name in weights if not is_scale(weights, name)}


def is_scale(weights: Weights, name: str) -> bool:
    """Returns whether a name belongs to the scales of another weight."""
    return name.endswith(".scale") and name.removesuffix(".scale") in weights


def quantized_matrix(
    matrix: npt.NDArray[Any], name: str = "matrix", max_step: int = _MAX_STEP
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Returns the rows in whole steps from -max_step to max_step, and the scale of each row.

    Args:
        matrix: Shape (rows, columns).
        name: The name of the matrix in the error message.
        max_step: The largest step, at most 127.

    Returns:
        Steps (rows, columns) int8 and scales (rows,) float32. A row of zeros has scale 0.

    Raises:
        ValueError: The matrix has values that are not finite.
    """
    values = _finite(matrix.astype(np.float32), name)
    scale: npt.NDArray[np.float32] = np.abs(values).max(axis=1, initial=0) / np.float32(max_step)
    steps = np.rint(values / np.where(scale > 0, scale, 1)[:, None]).clip(-max_step, max_step)
    return steps.astype(np.int8), scale


def _finite(matrix: npt.NDArray[np.float32], name: str) -> npt.NDArray[np.float32]:
    if not np.isfinite(matrix).all():
        raise ValueError(f"{name} has values that are not finite")
    return matrix
