"""The tables of a CSE: their memory, products with the filters and quantization, in native code."""

from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.kernels.arguments import check_shape, readable
from sentenc.kernels.library import check, library

# Bytes that memory is read in.
_CACHE_LINE = 64


def side_by_side(n: int, columns: tuple[int, int], dtype: npt.DTypeLike) -> list[npt.NDArray[Any]]:
    """Returns two tables (n, columns[i]) that are not filled, in one memory.

    Both rows of a token follow each other, from the start of a cache line on. So a token reads as few cache lines
    as possible.
    """
    kind = np.dtype(dtype)
    width = sum(columns)
    stride = -(-width * kind.itemsize // _CACHE_LINE) * _CACHE_LINE
    memory = np.empty(n * stride + _CACHE_LINE, np.uint8)
    first = -memory.ctypes.data % _CACHE_LINE
    table = memory[first : first + n * stride].view(kind).reshape(n, stride // kind.itemsize)
    return [table[:, : columns[0]], table[:, columns[0] : width]]


def are_side_by_side(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> bool:
    """Returns whether two tables lie in memory as :func:`side_by_side` puts them."""
    parts = [part for part in (first, second) if part.size]
    address = parts[0].ctypes.data if parts else 0
    if len(first) != len(second) or address % _CACHE_LINE:
        return False
    for part in parts:
        if part.ctypes.data != address or part.strides[0] % _CACHE_LINE or part.strides[1] != part.itemsize:
            return False
        address += part.shape[1] * part.itemsize
    # Rows that overlap or fall, in a view by numpy, are none of side_by_side.
    width = sum(part.shape[1] * part.itemsize for part in parts)
    return all(part.strides[0] == parts[0].strides[0] >= width for part in parts)


def multiply(
    rows: npt.NDArray[Any], scales: npt.NDArray[np.float32] | None, matrix: npt.NDArray[np.float32]
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """Multiplies rows with a matrix in float32. The order of each sum is that of the columns.

    Args:
        rows: (n, d) float32; int8 with scales.
        scales: (n,) float32, by which int8 rows are multiplied first; None for float32.
        matrix: (d, m) float32.

    Returns:
        The products, (n, m), and the largest size of a product of each column, (m,).

    Raises:
        MemoryError: There is too little memory.
        ValueError: An array has another shape or type.
    """
    expected = np.float32 if scales is None else np.int8
    if rows.ndim != 2 or matrix.ndim != 2 or rows.dtype != expected or matrix.dtype != np.float32:
        raise ValueError(
            f"rows are {rows.dtype} of shape {rows.shape} and the matrix {matrix.dtype} of shape {matrix.shape}, "
            f"expected {np.dtype(expected)} of shape (n, d) and float32 of shape (d, m)"
        )
    n, dim = rows.shape
    columns = matrix.shape[1]
    check_shape("matrix", matrix, (dim, columns))
    rows, matrix = readable(rows, expected), readable(matrix, np.float32)
    if scales is not None:
        check_shape("scales", scales, (n,))
        scales = readable(scales, np.float32)
    products, largest = np.empty((n, columns), np.float32), np.empty(columns, np.float32)
    check(
        library.sentenc_multiply(
            rows.ctypes.data, None if scales is None else scales.ctypes.data, n, dim, matrix.ctypes.data, columns,
            products.ctypes.data, largest.ctypes.data,
        )
    )  # fmt: skip
    return products, largest


def quantize(
    values: npt.NDArray[np.float32], steps: npt.NDArray[np.float32], out: npt.NDArray[np.int8]
) -> None:
    """Writes values (n, m) in whole steps (m,) into ``out``, (n, m) int8, whose rows may lie apart.

    Halves are rounded to the even number. A number outside of int8 becomes the nearest one inside.

    Raises:
        ValueError: An array has another shape or type, or ``out`` cannot be written.
    """
    n, columns = out.shape
    check_shape("values", values, (n, columns))
    check_shape("steps", steps, (columns,))
    # The library writes to `columns` bytes from the start of each row.
    stride = out.strides[0] if n > 1 else columns
    if out.dtype != np.int8 or (columns > 1 and out.strides[1] != 1) or stride < columns:
        raise ValueError(f"out is {out.dtype} with strides {out.strides}, expected int8 and contiguous rows")
    if not out.flags.writeable:
        raise ValueError("out is read-only, expected an array that can be written")
    values, steps = readable(values, np.float32), readable(steps, np.float32)
    check(
        library.sentenc_quantize(
            values.ctypes.data, n, columns, steps.ctypes.data, out.ctypes.data, stride
        )
    )  # fmt: skip
