"""Selects the k best of many scores block by block, with one heap per query. Deleted rows are left out.

Equal scores are ranked by row, the older first, so that results do not depend on the block size.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.kernels.library import check, library


def add_block(
    scores: npt.NDArray[np.float32],
    first_row: int,
    deleted: npt.NDArray[np.bool_],
    best_scores: npt.NDArray[np.float32],
    best_rows: npt.NDArray[np.int64],
    counts: npt.NDArray[np.int64],
) -> None:
    """Adds the scores of rows first_row, first_row + 1, ... to the heap of each query.

    Args:
        scores: (q, m) float32.
        first_row: The number of the first row of the block. Blocks must come in rising order.
        deleted: (m,) bool, the rows to leave out.
        best_scores: (q, k) float32, the heaps.
        best_rows: (q, k) int64, the row of each score.
        counts: (q,) int64, the number of scores in each heap.

    Raises:
        ValueError: An array has another shape or type.
    """
    queries, rows = scores.shape
    k = best_scores.shape[1]
    expected: tuple[tuple[Any, Any, tuple[int, ...]], ...] = (
        (scores, np.float32, (queries, rows)),
        (deleted, np.bool_, (rows,)),
        (best_scores, np.float32, (queries, k)),
        (best_rows, np.int64, (queries, k)),
        (counts, np.int64, (queries,)),
    )
    for array, dtype, shape in expected:
        if array.dtype != dtype or array.shape != shape:
            raise ValueError(
                f"an array is {array.dtype} {array.shape}, expected {np.dtype(dtype)} {shape}, contiguous"
            )
    if not (best_scores.flags.c_contiguous and best_rows.flags.c_contiguous and counts.flags.c_contiguous):
        raise ValueError("the heaps are not contiguous")
    scores, deleted = np.ascontiguousarray(scores), np.ascontiguousarray(deleted)
    check(
        library.sentenc_select(
            scores.ctypes.data, queries, rows, first_row, deleted.ctypes.data, best_scores.ctypes.data,
            best_rows.ctypes.data, k, counts.ctypes.data,
        )
    )  # fmt: skip


def empty_heaps(queries: int, k: int) -> tuple[Any, Any, Any]:
    """Returns empty heaps for :func:`add_block`: scores (q, k), rows (q, k) and counts (q,)."""
    return (
        np.full((queries, k), -np.inf, np.float32),
        np.full((queries, k), -1, np.int64),
        np.zeros(queries, np.int64),
    )
