"""Stores int8 matrices in half their size: 4 bits for each value, and a factor for 32 neighboring values.

A value is a step from -7 to 7 times the factor of its group, which is 32 neighboring columns of a row.
:func:`rounded_to_int4` rounds a matrix to such values. :func:`packed` stores them as steps and factors, and
:func:`unpacked` returns the same int8 matrix.
"""

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

#: The bits of a stored value.
Bits = Literal[8, 4]
#: The columns that share a factor.
GROUP = 32
_MAX_STEP, _MAX_INT8 = 7, 127
_MAX_FACTOR = _MAX_INT8 // _MAX_STEP
# Rows that are computed at a time, so that they stay in the cache.
_ROWS_PER_BLOCK = 1024
# The names of a matrix's parts: <name>.int4 and <name>.factors.
_STEPS, _FACTORS = ".int4", ".factors"

Tensors = dict[str, npt.NDArray[Any]]


def check_bits(bits: int) -> None:
    """Checks a number of bits.

    Raises:
        ValueError: It is neither 8 nor 4.
    """
    if bits not in get_args(Bits):
        raise ValueError(f"bits is {bits!r}, expected 8 or 4")


def rounded_to_int4(
    matrix: npt.NDArray[np.floating],
) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
    """Rounds a matrix to values that fit into 4 bits, with the factor of least squared error for each group.

    Args:
        matrix: Shape (rows, columns), finite. ``columns`` is a multiple of 32.

    Returns:
        The values (rows, columns) int8 and their scales (rows,) float32. A row of zeros has scale 0.

    Raises:
        ValueError: The number of columns is no multiple of 32.
    """
    rows, columns = matrix.shape
    if columns % GROUP:
        raise ValueError(f"the matrix has {columns} columns, expected a multiple of {GROUP} for 4 bits")
    rounded = np.empty((rows, columns), np.int8)
    scales: npt.NDArray[np.float32] = np.abs(matrix).max(axis=1, initial=0).astype(np.float32)
    scales /= np.float32(_MAX_STEP * _MAX_FACTOR)
    for start in range(0, rows, _ROWS_PER_BLOCK):
        block = slice(start, start + _ROWS_PER_BLOCK)
        divisors = np.where(scales[block] > 0, scales[block], 1)[:, None]
        groups = (matrix[block].astype(np.float32) / divisors).reshape(-1, GROUP)
        best, least = np.zeros_like(groups), np.full(len(groups), np.inf, np.float32)
        for factor in range(1, _MAX_FACTOR + 1):
            values = np.rint(groups / factor).clip(-_MAX_STEP, _MAX_STEP) * factor
            error = np.square(values - groups).sum(axis=1)
            better = error < least
            best[better], least[better] = values[better], error[better]
        rounded[block] = best.reshape(len(divisors), columns)
    return rounded, scales


def fits_int4(matrix: npt.NDArray[Any]) -> bool:
    """Returns whether a matrix is int8 and needs only 4 bits a value."""
    return _packed_matrix(matrix) is not None


def packed(tensors: Tensors) -> Tensors:
    """Returns tensors by name, with every int8 matrix that fits into 4 bits as its steps and factors."""
    stored: Tensors = {}
    for name, value in tensors.items():
        parts = _packed_matrix(value)
        if parts is None:
            stored[name] = value
        else:
            stored[name + _STEPS], stored[name + _FACTORS] = parts
    return stored


def unpacked(tensors: Tensors) -> Tensors:
    """Returns the tensors that :func:`packed` was given.

    Raises:
        ValueError: The steps of a matrix have no factors that fit them, or the matrix is there too.
    """
    matrices = {name.removesuffix(_STEPS) for name in tensors if name.endswith(_STEPS)}
    parts = {name + suffix for name in matrices for suffix in (_STEPS, _FACTORS)}
    whole = {name: value for name, value in tensors.items() if name not in parts}
    for name in sorted(matrices):
        if name in whole:
            raise ValueError(f"there are both {name} and {name}{_STEPS}, expected one of them")
        whole[name] = _unpacked_matrix(name, tensors[name + _STEPS], tensors.get(name + _FACTORS))
    return whole


def _packed_matrix(
    matrix: npt.NDArray[Any],
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]] | None:
    # Returns steps (rows, columns / 2) and factors (rows, columns / 32) of an int8 matrix, or None for another array
    # and for one with a group that does not fit.
    if matrix.dtype != np.int8 or matrix.ndim != 2 or not matrix.size or matrix.shape[1] % GROUP:
        return None
    rows, columns = matrix.shape
    steps = np.empty((rows, columns // 2), np.uint8)
    factors = np.empty((rows, columns // GROUP), np.uint8)
    for start in range(0, rows, _ROWS_PER_BLOCK):
        block = slice(start, start + _ROWS_PER_BLOCK)
        groups = matrix[block].reshape(-1, GROUP).astype(np.int16)
        divisors = np.maximum(np.gcd.reduce(groups, axis=1), 1)
        values = groups // divisors[:, None]
        if np.abs(values).max() > _MAX_STEP or divisors.max() > _MAX_INT8:
            return None
        codes = (values + _MAX_STEP + 1).astype(np.uint8).reshape(-1, columns)
        steps[block] = codes[:, ::2] | codes[:, 1::2] << 4
        factors[block] = divisors.reshape(-1, columns // GROUP)
    return steps, factors


def _unpacked_matrix(
    name: str, steps: npt.NDArray[Any], factors: npt.NDArray[Any] | None
) -> npt.NDArray[np.int8]:
    if steps.dtype != np.uint8 or steps.ndim != 2 or 2 * steps.shape[1] % GROUP:
        raise ValueError(
            f"{name}{_STEPS} is {steps.dtype} of shape {steps.shape}, expected uint8 (rows, 16 n)"
        )
    rows, columns = steps.shape[0], 2 * steps.shape[1]
    expected = (rows, columns // GROUP)
    if factors is None or factors.dtype != np.uint8 or factors.shape != expected:
        got = "missing" if factors is None else f"{factors.dtype} of shape {factors.shape}"
        raise ValueError(f"{name}{_FACTORS} is {got}, expected uint8 of shape {expected}")
    if factors.size and not factors.all():
        raise ValueError(f"{name}{_FACTORS} has zeros, expected factors from 1 to {_MAX_INT8}")
    matrix: npt.NDArray[np.int8] = _PAIRS[np.ascontiguousarray(steps)].view(np.int8)
    groups = matrix.reshape(*expected, GROUP)
    large = factors > _MAX_FACTOR
    if large.any():
        largest = (np.abs(groups[large]).max(axis=1) * factors[large].astype(np.int64)).max()
        if largest > _MAX_INT8:
            raise ValueError(f"{name} has values up to {largest}, expected at most {_MAX_INT8}")
    groups *= factors.astype(np.int8)[:, :, None]
    return matrix


# The value of each 4-bit code. Code 0 is not written; it is read as the smallest step.
_VALUES = np.maximum(np.arange(16) - (_MAX_STEP + 1), -_MAX_STEP).astype(np.int8)
# The two values of each byte, side by side, so that one look-up reads both.
_PAIRS = _VALUES[np.arange(256)[:, None] >> [0, 4] & 15].view(np.int16).ravel()
