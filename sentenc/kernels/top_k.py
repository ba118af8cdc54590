"""Selects the k best of many scores block by block, with one heap per query. Deleted rows are left out.

Equal scores are ranked by row, the older first, so that results do not depend on the block size.
NaN is ranked below every number.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.kernels.arguments import address_of_output, check_shape, readable
from sentenc.kernels.library import check, library
from sentenc.validation import check_integer


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
        ValueError: An array has another shape or type, a heap cannot be written, or ``first_row`` or a count is
            out of range.
    """
    if scores.ndim != 2 or best_scores.ndim != 2:
        raise ValueError(
            f"scores have shape {scores.shape} and best_scores {best_scores.shape}, expected (q, m) and (q, k)"
        )
    queries, rows = scores.shape
    k = best_scores.shape[1]
    for name, array, dtype, shape in (
        ("scores", scores, np.float32, (queries, rows)),
        ("deleted", deleted, np.bool_, (rows,)),
    ):
        check_shape(name, array, shape)
        if array.dtype != dtype:
            raise ValueError(f"{name} are {array.dtype}, expected {np.dtype(dtype)}")
    first_row = check_integer("first_row", first_row, at_least=0, at_most=2**63 - 1 - rows)
    scores, deleted = readable(scores, np.float32), readable(deleted, np.bool_)
    check(
        library.sentenc_select(
            scores.ctypes.data, queries, rows, first_row, deleted.ctypes.data,
            address_of_output("best_scores", best_scores, np.float32, (queries, k)),
            address_of_output("best_rows", best_rows, np.int64, (queries, k)), k,
            address_of_output("counts", counts, np.int64, (queries,)),
        )
    )  # fmt: skip


def empty_heaps(queries: int, k: int) -> tuple[Any, Any, Any]:
    """Returns empty heaps for :func:`add_block`: scores (q, k), rows (q, k) and counts (q,)."""
    return (
        np.full((queries, k), -np.inf, np.float32),
        np.full((queries, k), -1, np.int64),
        np.zeros(queries, np.int64),
    )
