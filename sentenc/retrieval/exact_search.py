"""Exact search: compares every row, block by block, directly from the memory-mapped files."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.kernels.top_k import add_block, empty_heaps
from sentenc.retrieval.lexical.bm25 import RowScores
from sentenc.retrieval.quantization import FloatArray
from sentenc.retrieval.segments import Segment

Scored = tuple[FloatArray, npt.NDArray[np.int64]]

# Numbers in a block of scores, and in a block of decoded rows.
_NUMBERS_PER_BLOCK = 1 << 20
_QUERIES_PER_BLOCK = 256
# With more queries at a time, a matrix product is as fast as one coarse pass for each.
_COARSE_QUERIES = 4
# BLAS starts threads for a product with few rows, which then wait for each other longer than they compute.
_QUERIES_WITHOUT_BLAS = 4
# If at most this share of a block is to be compared, these rows are copied out of it first.
_GATHERED_SHARE = 0.25


def scan(
    segments: Sequence[Segment],
    deleted: npt.NDArray[np.bool_],
    queries: FloatArray,
    k: int,
    first: int = 0,
    added: Sequence[RowScores] | None = None,
) -> Scored:
    """Returns the k rows with the largest dot products, among those from ``first`` on.

    Args:
        segments: The rows, in order.
        deleted: Whether each row is deleted, (n,) bool.
        queries: (q, d) float32.
        k: Maximum number of rows per query.
        first: First row to compare.
        added: For each query, scores that are added to the dot products; None adds nothing.

    Returns:
        Scores (q, k) and rows (q, k), best first, ties by row; -inf and -1 if there are fewer than k.
    """
    if first == 0 and 0 < len(queries) <= _COARSE_QUERIES and _is_coarse(segments, deleted):
        rest: Sequence[RowScores | None] = added or [None] * len(queries)
        scored = [
            _coarse_scan(segments, deleted, query, k, own) for query, own in zip(queries, rest, strict=True)
        ]
        return np.stack([own[0] for own in scored]), np.stack([own[1] for own in scored])
    parts = [
        _scan(
            segments,
            deleted,
            queries[i : i + _QUERIES_PER_BLOCK],
            k,
            first,
            None if added is None else added[i : i + _QUERIES_PER_BLOCK],
        )
        for i in range(0, len(queries), _QUERIES_PER_BLOCK)
    ]
    if not parts:
        return np.zeros((0, k), np.float32), np.zeros((0, k), np.int64)
    scores, rows = (np.concatenate([part[side] for part in parts]) for side in (0, 1))
    return scores, rows


def _scan(
    segments: Sequence[Segment],
    deleted: npt.NDArray[np.bool_],
    queries: FloatArray,
    k: int,
    first: int,
    added: Sequence[RowScores] | None,
) -> Scored:
    scores, rows, counts = empty_heaps(len(queries), k)
    for segment, start, block in _blocks(segments, first, len(queries)):
        is_deleted = deleted[start : start + block.stop - block.start]
        kept = np.flatnonzero(~is_deleted)
        if len(kept) == 0:
            continue
        if len(kept) > _GATHERED_SHARE * len(is_deleted):
            products = _products(queries, segment, block)
        else:
            products = np.zeros((len(queries), len(is_deleted)), np.float32)
            # In parts, because the copied rows are many more numbers than their scores.
            step = max(1, _NUMBERS_PER_BLOCK // segment.quantizer.dim)
            for low in range(0, len(kept), step):
                places = kept[low : low + step]
                products[:, places] = _products(queries, segment, block.start + places)
        products = np.ascontiguousarray(products, np.float32)
        for row, own in zip(products, added or (), strict=added is not None):
            own.add_to(row, start)
        add_block(products, start, is_deleted, scores, rows, counts)
    return best_first(scores, rows)


def _is_coarse(segments: Sequence[Segment], deleted: npt.NDArray[np.bool_]) -> bool:
    n_coarse = sum(len(segment) for segment in segments if segment.coarse is not None)
    return n_coarse > len(deleted) / 2 and int(deleted.sum()) < (1 - _GATHERED_SHARE) * len(deleted)


def _coarse_scan(
    segments: Sequence[Segment],
    deleted: npt.NDArray[np.bool_],
    query: FloatArray,
    k: int,
    added: RowScores | None,
) -> Scored:
    # The heap has the k best lower bounds. A row whose upper bound is below all of them is not among the k best.
    scores, rows, counts = empty_heaps(1, k)
    lower = np.empty(len(deleted), np.float32)
    errors, start = [], 0
    for segment in segments:
        own = lower[start : start + len(segment)]
        if segment.coarse is not None:
            own[:], error = segment.coarse.products(query)
        else:
            own[:], error = _products(query[None], segment, slice(None))[0], 0.0
        if added is not None:
            added.add_to(own, start)
        # The added scores are rounded as well.
        error += 1e-6 * float(np.abs(own).max(initial=0))
        own -= np.float32(error)
        add_block(own[None], start, deleted[start : start + len(segment)], scores, rows, counts)
        errors.append(error)
        start += len(segment)
    least = float(scores[0].min()) if counts[0] == k else -math.inf
    limits = np.repeat(
        np.float32(least) - 2 * np.array(errors, np.float32), [len(segment) for segment in segments]
    )
    candidates = np.flatnonzero((lower >= limits) & ~deleted)
    starts = np.cumsum([0, *map(len, segments)])[:-1]
    # Row by row, so that equal rows have equal scores.
    exact: FloatArray = np.einsum("ij,j->i", gather(segments, starts, candidates), query)
    if added is not None:
        exact += added.at(candidates)
    padding = max(k - len(candidates), 0)
    exact = np.concatenate([exact, np.full(padding, -np.inf, np.float32)])
    candidates = np.concatenate([candidates, np.full(padding, -1, np.int64)])
    best, best_rows = best_first(exact[None], candidates[None], k)
    return best[0], best_rows[0]


def _products(queries: FloatArray, segment: Segment, rows: Any) -> npt.NDArray[Any]:
    # The step and the start of each dimension are applied to the query, so that codes need no decoding.
    quantizer = segment.quantizer
    digits = quantizer.digits(np.asarray(segment.codes[rows]))
    products = inner_products(queries * quantizer.step, digits)
    if quantizer.start.any():
        products += (queries @ quantizer.start)[:, None]
    return products


def inner_products(queries: FloatArray, rows: FloatArray) -> FloatArray:
    """Returns the inner products (q, n) of queries (q, d) and rows (n, d)."""
    if 0 < len(queries) <= _QUERIES_WITHOUT_BLAS:
        return np.stack([np.einsum("ij,j->i", rows, query) for query in queries])
    products: FloatArray = queries @ rows.T
    return products


def best_first(scores: FloatArray, rows: npt.NDArray[np.int64], k: int | None = None) -> Scored:
    """Sorts every query's candidates: falling score, then rising row; missing ones (-1) last."""
    order = np.lexsort((rows, -scores), axis=1)[:, :k]
    return np.take_along_axis(scores, order, axis=1), np.take_along_axis(rows, order, axis=1)


def gather(
    segments: Sequence[Segment], starts: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> FloatArray:
    """Returns the vectors (m, d) of rows (m,); ``starts`` (s,) are the first rows of the segments."""
    vectors = np.empty((len(rows), segments[0].quantizer.dim), np.float32)
    home = np.searchsorted(starts, rows, "right") - 1
    for index in np.unique(home):
        inside = home == index
        vectors[inside] = segments[index].vectors(rows[inside] - starts[index])
    return vectors


def _blocks(segments: Sequence[Segment], first: int, queries: int) -> Iterator[tuple[Segment, int, slice]]:
    start = 0
    for segment in segments:
        # Rows in float32 are multiplied in place; others are converted to float32 block by block.
        width = 1 if segment.codes.dtype == np.float32 else segment.quantizer.dim
        size = max(1024, _NUMBERS_PER_BLOCK // max(queries, width))
        for low in range(max(0, first - start), len(segment), size):
            yield segment, start + low, slice(low, min(low + size, len(segment)))
        start += len(segment)
