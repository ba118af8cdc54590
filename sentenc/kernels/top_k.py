"""Selects the k best of many scores block by block, with one heap per query. Deleted rows are left out.

Equal scores are ranked by row, the older first, so that results do not depend on the block size.
"""

from typing import Any

import numpy as np

from sentenc.kernels.compilation import compiled


@compiled
def _worse(score_a, row_a, score_b, row_b):  # type: ignore[no-untyped-def]
    return score_a < score_b or (score_a == score_b and row_a > row_b)


@compiled
def _sift_down(scores, rows, count):  # type: ignore[no-untyped-def]
    # Restores the heap, which has the worst score on top, after its top was replaced.
    i = 0
    while True:
        child = 2 * i + 1
        if child >= count:
            return
        if child + 1 < count and _worse(scores[child + 1], rows[child + 1], scores[child], rows[child]):
            child += 1
        if not _worse(scores[child], rows[child], scores[i], rows[i]):
            return
        scores[i], scores[child] = scores[child], scores[i]
        rows[i], rows[child] = rows[child], rows[i]
        i = child


@compiled
def _sift_up(scores, rows, i):  # type: ignore[no-untyped-def]
    while i > 0:
        parent = (i - 1) // 2
        if not _worse(scores[i], rows[i], scores[parent], rows[parent]):
            return
        scores[i], scores[parent] = scores[parent], scores[i]
        rows[i], rows[parent] = rows[parent], rows[i]
        i = parent


@compiled
def add_block(scores, first_row, deleted, best_scores, best_rows, counts):  # type: ignore[no-untyped-def]
    """Adds the scores of rows first_row, first_row + 1, ... to the heap of each query.

    Args:
        scores: (q, m) float32.
        first_row: The number of the first row of the block. Blocks must come in rising order.
        deleted: (m,) bool, the rows to leave out.
        best_scores: (q, k) float32, the heaps.
        best_rows: (q, k) int64, the row of each score.
        counts: (q,) int64, the number of scores in each heap.
    """
    k = best_scores.shape[1]
    for q in range(scores.shape[0]):
        heap, rows, count = best_scores[q], best_rows[q], counts[q]
        for j in range(scores.shape[1]):
            score = scores[q, j]
            if count == k:
                # Of equal scores, the older row stays.
                if score > heap[0] and not deleted[j]:
                    heap[0], rows[0] = score, first_row + j
                    _sift_down(heap, rows, k)
            elif not deleted[j]:
                heap[count], rows[count] = score, first_row + j
                _sift_up(heap, rows, count)
                count += 1
        counts[q] = count


def empty_heaps(queries: int, k: int) -> tuple[Any, Any, Any]:
    """Returns empty heaps for :func:`add_block`: scores (q, k), rows (q, k) and counts (q,)."""
    return (
        np.full((queries, k), -np.inf, np.float32),
        np.full((queries, k), -1, np.int64),
        np.zeros(queries, np.int64),
    )
