"""Inner products of vectors in int8 with a query: the first pass of an exact search."""

from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.kernels.arguments import readable
from sentenc.kernels.library import check, library


def quantized_query(query: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.int16], float]:
    """Returns a query (d,) in whole steps, int16, and the step.

    The steps are as fine as :func:`dot_int8` can add up in 31 bits: 1 / 32,767 of the largest component up to
    512 dimensions.
    """
    largest = float(np.abs(query).max(initial=0))
    limit = min(32767, (2**31 - 1) // (128 * max(1, len(query))))
    step = largest / limit if largest > 0 else 1.0
    return np.rint(query / np.float32(step)).astype(np.int16), step


def dot_int8(rows: npt.NDArray[np.int8], query: npt.NDArray[np.int16]) -> npt.NDArray[np.int32]:
    """Returns the inner product of each row (n, d) with the query (d,): exact, shape (n,).

    Raises:
        ValueError: An array has another shape or type, or a product may exceed 31 bits.
    """
    expected: tuple[tuple[str, npt.NDArray[Any], Any, int], ...] = (
        ("rows", rows, np.int8, 2),
        ("query", query, np.int16, 1),
    )
    for name, array, dtype, dimensions in expected:
        if array.dtype != dtype or array.ndim != dimensions or array.shape[-1] != len(query):
            raise ValueError(
                f"{name} is {array.dtype} of shape {array.shape}, "
                f"expected {np.dtype(dtype)} with {len(query)} columns"
            )
    if len(query) and len(query) * 128 * int(np.abs(query.astype(np.int32)).max()) >= 2**31:
        raise ValueError(
            f"query has components up to {np.abs(query).max()}, too large for {len(query)} dimensions"
        )
    # Rows may be a slice of a wider or longer array, as long as each is contiguous.
    if rows.size and (rows.strides[1] != 1 or rows.strides[0] < rows.shape[1]):
        rows = np.ascontiguousarray(rows)
    query = readable(query, np.int16)
    products = np.empty(len(rows), np.int32)
    stride = rows.strides[0] if rows.size else len(query)
    check(
        library.sentenc_dot_int8(
            rows.ctypes.data, stride, len(rows), len(query), query.ctypes.data, products.ctypes.data
        )
    )
    return products
