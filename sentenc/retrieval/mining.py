"""Paraphrase mining: pairs of similar texts or vectors, such as near-duplicates."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.forking import outside_forked_thread
from sentenc.io.progress import progress_bar
from sentenc.retrieval.ann import import_faiss
from sentenc.retrieval.top_pairs import Cosines, TopPairs
from sentenc.texts import as_text_list

Method = Literal["auto", "exact", "approximate"]

# With at most this many rows every pair is compared, which takes minutes.
EXACT_ROWS = 200_000
_COLUMNS_PER_BLOCK = 4096
# Largest error of the cosines of an ANN search, whose codes are float16. Exact scores come from the vectors.
_CODE_ERROR = 1e-3
_LISTS_PER_SEARCH = 32
# After each block of candidate pairs, the lowest score of the best pairs may be higher.
_PAIRS_PER_BLOCK = 1 << 16


@dataclass(frozen=True, eq=False)
class MinedPairs:
    """Pairs of rows by falling score; pairs with equal scores by ``left``, then ``right``.

    Attributes:
        scores: (m,) float32 cosines.
        left: (m,) int64, the smaller row of each pair.
        right: (m,) int64, the larger row of each pair.
        total: Number of pairs that reach the threshold; more than m if ``max_pairs`` was reached.
        exact: Whether every pair was compared; if not, some may be missing.
    """

    scores: npt.NDArray[np.float32]
    left: npt.NDArray[np.int64]
    right: npt.NDArray[np.int64]
    total: int
    exact: bool

    def __len__(self) -> int:
        return len(self.scores)

    def __iter__(self) -> Iterator[tuple[float, int, int]]:
        """Yields tuples (score, left, right)."""
        return zip(self.scores.tolist(), self.left.tolist(), self.right.tolist(), strict=True)


def mine_pairs(
    items: Any,
    *,
    encoder: Encoder | None = None,
    threshold: float = 0.9,
    max_pairs: int = 1_000_000,
    method: Method = "auto",
    neighbors: int = 32,
    block_size: int = 1024,
    show_progress_bar: bool = False,
) -> MinedPairs:
    """Finds the pairs of different rows whose cosine is at least ``threshold``; each pair once.

    Zero vectors, such as those of empty texts, have no pairs. Of identical texts only the first is compared.
    Each later one forms one pair with the first, of score 1. Ten thousand copies of a line are thus 9,999
    pairs and not fifty million.

    Only the vectors, their unit vectors and some blocks are in memory, never rows x rows. The approximate
    method compares each row with its ``neighbors`` nearest rows in an ANN index (FAISS). It misses pairs if
    a row has more similar rows than that, or if the index does not return them. Scores are exact with either
    method, and do not depend on the block size or the number of threads.

    Args:
        items: n texts, or an array of vectors (n, d).
        encoder: Encodes the texts.
        threshold: Minimum cosine, inclusive, from -1 to 1; compared in float32, the type of the scores.
        max_pairs: Maximum number of pairs to return, those with the highest scores.
        method: ``"exact"``, ``"approximate"``, or ``"auto"`` for exact up to 200,000 rows.
        neighbors: Number of nearest rows with which the approximate method compares each row.
        block_size: Number of rows that are compared at a time; it affects speed and memory only.
        show_progress_bar: Draw progress bars on standard error.

    Raises:
        TypeError: ``items`` are neither texts nor vectors, or are texts without or vectors with an encoder.
        ValueError: A vector is not finite, or an argument is out of range.
        MissingExtraError: The approximate method needs faiss-cpu, which is not installed.
    """
    _check_options(threshold, max_pairs, method, neighbors, block_size)
    firsts: npt.NDArray[np.int64] | None
    copies: list[tuple[int, int]]
    if isinstance(items, np.ndarray) and items.dtype.kind in "fiu":
        if encoder is not None:
            raise TypeError("items are vectors, which need no encoder: leave out encoder")
        firsts, copies, vectors = None, [], _as_vectors(items)
    elif encoder is None:
        raise TypeError("items are not an array of vectors: texts need an encoder")
    else:
        firsts, copies, vectors = _encode_distinct(as_text_list(items), encoder, show_progress_bar)
    cosines = Cosines(vectors)
    exact = method == "exact" or (method == "auto" and len(cosines) <= EXACT_ROWS)
    collector = _PairCollector(cosines, np.float32(threshold), max_pairs, firsts)
    collector.add_copies(copies)
    with progress_bar(len(cosines), "comparing", show_progress_bar) as bar:
        if exact:
            _compare_all(cosines.units, collector, block_size, bar.update)
        else:
            _compare_neighbors(cosines.units, collector, neighbors, block_size, bar.update)
    return collector.result(exact)


def group_pairs(n: int, left: npt.ArrayLike, right: npt.ArrayLike) -> list[list[int]]:
    """Groups rows that are connected by pairs, directly or through other rows (connected components).

    Args:
        n: Number of rows.
        left: (m,) one row of each pair.
        right: (m,) the other row of each pair.

    Returns:
        Groups of at least two rows, each in rising order; groups are in the order of their first rows.

    Raises:
        ValueError: ``left`` and ``right`` differ in shape, or contain a row outside 0 to n - 1.
    """
    ends = [np.asarray(side, np.int64) for side in (left, right)]
    if ends[0].ndim != 1 or ends[0].shape != ends[1].shape:
        raise ValueError(f"left has shape {ends[0].shape} and right {ends[1].shape}, expected the same, (m,)")
    for name, side in zip(("left", "right"), ends, strict=True):
        outside = np.flatnonzero((side < 0) | (side >= n))
        if len(outside):
            raise ValueError(f"{name}[{outside[0]}] is {side[outside[0]]}, expected a row from 0 to {n - 1}")
    parent: dict[int, int] = {}

    def root(row: int) -> int:
        while (up := parent.setdefault(row, row)) != row:
            parent[row] = parent[up]
            row = up
        return row

    for a, b in zip(ends[0].tolist(), ends[1].tolist(), strict=True):
        low, high = sorted((root(a), root(b)))
        parent[high] = low
    # Every root is the smallest row of its group, and rows come in rising order.
    groups: dict[int, list[int]] = {}
    for row in sorted(parent):
        groups.setdefault(root(row), []).append(row)
    return [group for group in groups.values() if len(group) > 1]


class _PairCollector:
    """Computes the exact scores of candidate pairs, and keeps the best pairs above the threshold.

    Attributes:
        threshold: Minimum score, inclusive.
        total: Number of pairs that reached the threshold, including those that were not kept.
    """

    def __init__(
        self,
        cosines: Cosines,
        threshold: np.float32,
        max_pairs: int,
        firsts: npt.NDArray[np.int64] | None,
    ) -> None:
        self.threshold = threshold
        self.total = 0
        self._cosines = cosines
        self._best = TopPairs(max_pairs)
        # The caller's row of each unit vector. Rows rise, so that neither the order nor the sides change.
        self._rows = cosines.rows if firsts is None else firsts[cosines.rows]

    def add_copies(self, copies: list[tuple[int, int]]) -> None:
        """Adds pairs (first, later) of the caller's rows with identical texts, except zero vectors."""
        if not copies:
            return
        left, right = np.array(copies, np.int64).T
        is_nonzero = np.isin(left, self._rows)
        left, right = left[is_nonzero], right[is_nonzero]
        self.total += len(left)
        self._best.add(np.ones(len(left), np.float32), left, right)

    def add_products(
        self,
        products: npt.NDArray[np.float32],
        left: npt.NDArray[np.int64],
        right: npt.NDArray[np.int64],
        error: float,
    ) -> None:
        """Adds pairs (m,) of unit vectors, left < right, with cosines within ``error`` of ``products``.

        A pair that surely reaches the threshold, but is too low to be kept, is counted without its score.
        """
        for start in range(0, len(products), _PAIRS_PER_BLOCK):
            block = slice(start, start + _PAIRS_PER_BLOCK)
            estimates, i, j = products[block], left[block], right[block]
            is_possible = estimates >= self.threshold - error
            estimates, i, j = estimates[is_possible], i[is_possible], j[is_possible]
            is_certain = estimates > self.threshold + error
            needs_score = ~is_certain | self._best.may_enter(estimates + error, self._rows[i], self._rows[j])
            self.total += len(estimates) - int(needs_score.sum())
            self.add_pairs(i[needs_score], j[needs_score])

    def add_pairs(self, left: npt.NDArray[np.int64], right: npt.NDArray[np.int64]) -> None:
        """Adds those pairs (m,) of unit vectors, left < right, whose exact scores reach the threshold."""
        scores = self._cosines(left, right)
        reaches = scores >= self.threshold
        self.total += int(reaches.sum())
        self._best.add(scores[reaches], self._rows[left[reaches]], self._rows[right[reaches]])

    def result(self, exact: bool) -> MinedPairs:
        """Returns the kept pairs; ``exact`` states whether every pair was compared."""
        return MinedPairs(*self._best.result(), self.total, exact)


def _compare_all(
    units: npt.NDArray[np.float32], collector: _PairCollector, block_size: int, done: Callable[[int], None]
) -> None:
    error = product_error(units.shape[1])
    lowest = collector.threshold - error
    for start in range(0, len(units), block_size):
        block = units[start : start + block_size]
        for column in range(start, len(units), _COLUMNS_PER_BLOCK):
            products = block @ units[column : column + _COLUMNS_PER_BLOCK].T
            # Flat positions: np.nonzero would take as long as the product.
            flat = np.flatnonzero(products >= lowest)
            left, right = np.divmod(flat, products.shape[1])
            left, right = left + start, right + column
            # The products below the diagonal are the same pairs once more.
            is_above = left < right
            collector.add_products(products.ravel()[flat[is_above]], left[is_above], right[is_above], error)
        done(len(block))


def product_error(dim: int) -> float:
    """Returns the largest possible error of a cosine that is the float32 product of two float32 unit vectors.

    There are at most d + 4 roundings, whatever the order of summation, and a few more in the unit vectors.
    """
    return (dim + 8) * float(np.finfo(np.float32).eps)


@outside_forked_thread
def _compare_neighbors(
    units: npt.NDArray[np.float32],
    collector: _PairCollector,
    neighbors: int,
    block_size: int,
    done: Callable[[int], None],
) -> None:
    n = len(units)
    if n < 2:
        return
    index = _neighbor_index(units, block_size)
    lowest = collector.threshold - _CODE_ERROR
    # A pair is one integer, left * n + right, so that np.unique finds duplicates.
    keys = []
    for start in range(0, n, block_size):
        block = units[start : start + block_size]
        products, rows = index.search(block, min(neighbors + 1, n))
        row, rank = np.nonzero((rows >= 0) & (products >= lowest))
        neighbor, row = rows[row, rank], row + start
        pairs = np.minimum(row, neighbor) * n + np.maximum(row, neighbor)
        keys.append(np.unique(pairs[row != neighbor]))
        done(len(block))
    # Each row of a pair may be a neighbor of the other.
    pairs = np.unique(np.concatenate(keys))
    for start in range(0, len(pairs), _PAIRS_PER_BLOCK):
        collector.add_pairs(*np.divmod(pairs[start : start + _PAIRS_PER_BLOCK], n))


def _neighbor_index(units: npt.NDArray[np.float32], block_size: int) -> Any:
    faiss = import_faiss(f"mining pairs of more than {EXACT_ROWS:,} texts")
    n, dim = units.shape
    lists = int(max(1, min(4 * n**0.5, n / 39)))
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dim), dim, lists, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.spherical = True
    # The training rows are spread over all rows, because files are often sorted.
    index.train(np.ascontiguousarray(units[:: max(1, n // (lists * 64))]))
    for start in range(0, n, block_size):
        index.add(units[start : start + block_size])
    index.nprobe = min(lists, _LISTS_PER_SEARCH)
    return index


def _encode_distinct(
    texts: list[str], encoder: Encoder, show_progress_bar: bool
) -> tuple[npt.NDArray[np.int64], list[tuple[int, int]], npt.NDArray[Any]]:
    """Encodes the distinct texts.

    Returns:
        The rows (m,) of the distinct texts, pairs (first, later) of identical texts, and vectors (m, d).
    """
    first: dict[str, int] = {}
    copies = [(first[text], i) for i, text in enumerate(texts) if first.setdefault(text, i) != i]
    vectors = encoder.encode(
        list(first), truncate_dim=encoder.similarity_dim, show_progress_bar=show_progress_bar
    )
    return np.fromiter(first.values(), np.int64, len(first)), copies, _as_vectors(vectors)


def _as_vectors(vectors: npt.NDArray[Any]) -> npt.NDArray[Any]:
    if vectors.ndim != 2:
        raise ValueError(f"items has shape {vectors.shape}, expected (n, d)")
    return vectors


def _check_options(threshold: float, max_pairs: int, method: str, neighbors: int, block_size: int) -> None:
    if not -1 <= threshold <= 1:
        raise ValueError(f"threshold is {threshold!r}, expected a cosine from -1 to 1")
    for name, value in (("max_pairs", max_pairs), ("neighbors", neighbors), ("block_size", block_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} is {value!r}, expected an integer of at least 1")
    if method not in ("auto", "exact", "approximate"):
        raise ValueError(f"method is {method!r}, expected 'auto', 'exact' or 'approximate'")
