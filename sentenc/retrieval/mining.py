"""Paraphrase mining: pairs of similar texts or vectors, such as near-duplicates."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.io.progress import progress_bar
from sentenc.retrieval.ann import import_faiss
from sentenc.retrieval.top_pairs import Cosines, TopPairs
from sentenc.texts import as_text_list

Method = Literal["auto", "exact", "approximate"]

# With at most this many rows every pair is compared, which takes minutes.
EXACT_ROWS = 200_000
# Columns of a block of products.
_COLUMNS = 4096
# Of the codes that the approximate search compares; what they propose is computed again from the vectors.
_CODE_ERROR = 1e-3
_PROBES = 32
# Pairs considered at a time: after each, fewer of the next may be good enough.
_PROPOSED = 1 << 16


@dataclass(frozen=True, eq=False)
class MinedPairs:
    """Pairs of rows, best first; equal scores in the order of ``left``, then ``right``.

    Attributes:
        scores: (m,) float32 cosines.
        left: (m,) int64, the smaller row of each pair.
        right: (m,) int64, the larger.
        total: Number of pairs above the threshold; more than m if ``max_pairs`` was reached.
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
    """Finds the pairs with a cosine of ``threshold`` or more; each once, none of a row with itself.

    Zero vectors, such as those of empty texts, pair with nothing. Of identical texts only the first takes
    part; each later one is reported once, against that first one, with score 1: ten thousand copies of a
    line are 9,999 pairs and not fifty million.

    Memory is that of the vectors and their unit copies, plus blocks: never rows x rows. The approximate
    method compares each row with its nearest ``neighbors`` in a FAISS index instead of every other row. It
    can miss pairs in larger families, and pairs that the index does not find. Scores are exact with either
    method, and do not depend on the block size or the number of threads.

    Args:
        items: n texts, or an array of vectors (n, d).
        encoder: Encodes the texts.
        threshold: Minimum cosine, inclusive, from -1 to 1; compared in float32, the type of the scores.
        max_pairs: Maximum number of pairs, the best; ``total`` is their number without this limit.
        method: ``"exact"``, ``"approximate"`` or ``"auto"``: exact up to 200,000 rows.
        neighbors: Nearest rows per row that the approximate method compares.
        block_size: Rows compared at a time. Changes speed and memory, never pairs.
        show_progress_bar: Draw bars on standard error.

    Raises:
        TypeError: ``items`` are not texts or vectors, or are texts without an encoder.
        ValueError: A vector is not finite, or an option is out of range.
        MissingExtraError: The approximate method needs faiss-cpu.
    """
    _check_options(threshold, max_pairs, method, neighbors, block_size)
    firsts: npt.NDArray[np.int64] | None
    copies: list[tuple[int, int]]
    if isinstance(items, np.ndarray) and items.dtype.kind in "fiu":
        if encoder is not None:
            raise TypeError("items are vectors, expected no encoder")
        firsts, copies, vectors = None, [], _as_vectors(items)
    elif encoder is None:
        raise TypeError("items are not an array of vectors, expected an encoder with texts")
    else:
        firsts, copies, vectors = _encode_distinct(as_text_list(items), encoder, show_progress_bar)
    cosines, best = Cosines(vectors), TopPairs(max_pairs)
    exact = method == "exact" or (method == "auto" and len(cosines) <= EXACT_ROWS)
    found = _Found(cosines, np.float32(threshold), best, firsts)
    found.add_copies(copies)
    with progress_bar(len(cosines), "comparing", show_progress_bar) as bar:
        if exact:
            _compare_all(cosines.units, found, block_size, bar.update)
        else:
            _compare_neighbors(cosines.units, found, neighbors, block_size, bar.update)
    scores, left, right = best.result()
    return MinedPairs(scores, left, right, best.total, exact)


def group_pairs(n: int, left: npt.ArrayLike, right: npt.ArrayLike) -> list[list[int]]:
    """Connects pairs into groups: rows are together if a chain of pairs leads from one to the other.

    Args:
        n: Number of rows.
        left: (m,) rows.
        right: (m,) rows.

    Returns:
        Groups of two rows or more, each sorted, in the order of their first rows.

    Raises:
        ValueError: The pairs are not two lists of the same length, or hold a row that is not within n.
    """
    ends = [np.asarray(side, np.int64) for side in (left, right)]
    if ends[0].ndim != 1 or ends[0].shape != ends[1].shape:
        raise ValueError(f"left has shape {ends[0].shape} and right {ends[1].shape}, expected (m,) both")
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


class _Found:
    """Takes proposed pairs of unit vectors, computes their scores exactly, keeps those that count."""

    def __init__(
        self,
        cosines: Cosines,
        threshold: np.float32,
        best: TopPairs,
        firsts: npt.NDArray[np.int64] | None,
    ) -> None:
        self.cosines = cosines
        self.threshold = threshold
        self.best = best
        # From rows of unit vectors to the caller's rows. Rising, so that order and sides stay.
        self.rows = cosines.rows if firsts is None else firsts[cosines.rows]

    def add_copies(self, copies: list[tuple[int, int]]) -> None:
        """Identical texts, (first, later) in the caller's rows; dropped where the vector is zero."""
        if not copies:
            return
        left, right = np.array(copies, np.int64).T
        alive = np.isin(left, self.rows)
        self.best.total += int(alive.sum())
        self.best.add(np.ones(int(alive.sum()), np.float32), left[alive], right[alive])

    def propose(
        self,
        near: npt.NDArray[np.float32],
        left: npt.NDArray[np.int64],
        right: npt.NDArray[np.int64],
        error: float,
    ) -> None:
        """Pairs (left < right) whose cosines are ``near`` (m,), to within ``error``."""
        for start in range(0, len(near), _PROPOSED):
            part = slice(start, start + _PROPOSED)
            self._take(near[part], left[part], right[part], error)

    def _take(
        self,
        near: npt.NDArray[np.float32],
        left: npt.NDArray[np.int64],
        right: npt.NDArray[np.int64],
        error: float,
    ) -> None:
        possible = near >= self.threshold - error
        near, left, right = near[possible], left[possible], right[possible]
        # Most need no exact score: they count for certain, and are too low to be kept.
        certain = near > self.threshold + error
        needed = ~certain | self.best.may_enter(near + error, self.rows[left], self.rows[right])
        self.best.total += len(near) - int(needed.sum())
        left, right = left[needed], right[needed]
        scores = self.cosines(left, right)
        enough = scores >= self.threshold
        self.best.total += int(enough.sum())
        self.best.add(scores[enough], self.rows[left[enough]], self.rows[right[enough]])


def _compare_all(
    units: npt.NDArray[np.float32], found: _Found, block_size: int, done: Callable[[int], None]
) -> None:
    error = product_error(units.shape[1])
    least = found.threshold - error
    for start in range(0, len(units), block_size):
        block = units[start : start + block_size]
        for column in range(start, len(units), _COLUMNS):
            products = block @ units[column : column + _COLUMNS].T
            # By flat positions: finding them as pairs of indices takes as long as the product.
            flat = np.flatnonzero(products >= least)
            left, right = np.divmod(flat, products.shape[1])
            left, right = left + start, right + column
            above = left < right
            found.propose(products.ravel()[flat[above]], left[above], right[above], error)
        done(len(block))


def product_error(dim: int) -> float:
    """How far a float32 product of two float32 unit vectors can be from the exact cosine, at most.

    Whatever the order in which it was summed up: (d + 4) roundings, and some for the unit vectors.
    """
    return (dim + 8) * float(np.finfo(np.float32).eps)


def _compare_neighbors(
    units: npt.NDArray[np.float32],
    found: _Found,
    neighbors: int,
    block_size: int,
    done: Callable[[int], None],
) -> None:
    n = len(units)
    if n < 2:
        return
    index = _neighbor_index(units, block_size)
    least = found.threshold - _CODE_ERROR
    keys = []
    for start in range(0, n, block_size):
        block = units[start : start + block_size]
        products, rows = index.search(block, min(neighbors + 1, n))
        row, place = np.nonzero((rows >= 0) & (products >= least))
        other, row = rows[row, place], row + start
        pairs = np.minimum(row, other) * n + np.maximum(row, other)
        keys.append(np.unique(pairs[row != other]))
        done(len(block))
    # A pair is found from either side, or from both.
    pairs = np.unique(np.concatenate(keys))
    for start in range(0, len(pairs), _PROPOSED):
        left, right = np.divmod(pairs[start : start + _PROPOSED], n)
        # All that is known of them is that they may count, so that every one is computed.
        found.propose(np.full(len(left), found.threshold, np.float32), left, right, 2.0)


def _neighbor_index(units: npt.NDArray[np.float32], block_size: int) -> Any:
    faiss = import_faiss(f"mining pairs of more than {EXACT_ROWS:,} texts")
    n, dim = units.shape
    cells = int(max(1, min(4 * n**0.5, n / 39)))
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(dim), dim, cells, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
    )
    index.cp.spherical = True
    # Rows from all over: files are often sorted.
    index.train(np.ascontiguousarray(units[:: max(1, n // (cells * 64))]))
    for start in range(0, n, block_size):
        index.add(units[start : start + block_size])
    index.nprobe = min(cells, _PROBES)
    return index


def _encode_distinct(
    texts: list[str], encoder: Encoder, show_progress_bar: bool
) -> tuple[npt.NDArray[np.int64], list[tuple[int, int]], npt.NDArray[Any]]:
    """Rows of the distinct texts (m,), pairs (first, later) of identical ones, vectors (m, d)."""
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
            raise ValueError(f"{name} is {value!r}, expected an integer of 1 or more")
    if method not in ("auto", "exact", "approximate"):
        raise ValueError(f"method is {method!r}, expected 'auto', 'exact' or 'approximate'")
