"""A snapshot of the rows of an index, which a search uses while others write."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from sentenc.forking import cached_value
from sentenc.retrieval.ann import AnnIndex, hamming_candidates, rescored, search_kind
from sentenc.retrieval.chunking import Span
from sentenc.retrieval.exact_search import Scored, best_first, gather, scan
from sentenc.retrieval.filters import Condition
from sentenc.retrieval.items import Id, Item, hash_ids
from sentenc.retrieval.lexical.bm25 import Bm25, RowScores
from sentenc.retrieval.lexical.postings import Postings
from sentenc.retrieval.moments import Moments
from sentenc.retrieval.quantization import FloatArray
from sentenc.retrieval.rerank_vectors import RerankVectors, joined
from sentenc.retrieval.segments import Segment, merged

# A filter that allows at most this many rows, or one live row in this many, makes an ANN index slow and
# inaccurate. The allowed rows are then compared one by one.
_SCANNED_ROWS, _SCANNED_PART = 4096, 32
# The least number of candidates of the vectors, and of the words, if both are searched without comparing every row.
_FUSED_CANDIDATES = 100


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Consecutive segments, a mask of their deleted rows, and an ANN index over the first rows.

    A snapshot never changes, arrays included, so that values computed from it can be cached.

    Attributes:
        segments: Segments, none of them empty.
        deleted: Whether each row is deleted, (n,) bool.
        ann: The ANN index; None if every row is compared.
        moments: The moments of the vectors that are not deleted; None if no text is searched by words.
        reranker: Fingerprint of the encoder whose vectors are stored for reranking; None if there are none.
    """

    segments: tuple[Segment, ...] = ()
    deleted: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    ann: AnnIndex | None = None
    moments: Moments | None = None
    reranker: str | None = None

    @cached_value
    def starts(self) -> npt.NDArray[np.int64]:
        """First row of every segment, (s,) int64."""
        return np.cumsum([0, *map(len, self.segments)])[:-1].astype(np.int64)

    @cached_value
    def n_live(self) -> int:
        """Number of rows that are not deleted."""
        return len(self.deleted) - int(self.deleted.sum())

    @cached_value
    def is_first(self) -> npt.NDArray[np.bool_] | None:
        """Whether each row (n,) is the first of its item; None if every item is one row."""
        if all(segment.passages is None for segment in self.segments):
            return None
        mask = np.zeros(len(self.deleted), np.bool_)
        mask[self._first_rows] = True
        return mask

    @cached_value
    def n_items(self) -> int:
        """Number of items that are not deleted."""
        return self.n_live if self.is_first is None else int((self.is_first & ~self.deleted).sum())

    @cached_value
    def bm25(self) -> Bm25:
        """BM25 of the rows."""
        parts = [segment.words or Postings.empty(len(segment)) for segment in self.segments]
        return Bm25(parts, self.deleted)

    @cached_value
    def measured_moments(self) -> Moments:
        """The moments of the vectors that are not deleted, computed now if they are not stored."""
        if self.moments is not None:
            return self.moments
        live = np.flatnonzero(~self.deleted)
        dim = self.segments[0].quantizer.dim if self.segments else 0
        return Moments.of(lambda block: self.vectors(live[block]), len(live), dim)

    def allowed(self, condition: Condition) -> npt.NDArray[np.bool_]:
        """Returns whether each row (n,) meets the condition of a filter, deleted rows included."""
        paths = list(dict.fromkeys(condition.paths()))
        masks = [
            segment.by_row(condition.mask(segment.columns(paths), segment.n_items))
            for segment in self.segments
        ]
        return np.concatenate([np.zeros(0, np.bool_), *masks])

    def left_out(self, allowed: npt.NDArray[np.bool_] | None) -> npt.NDArray[np.bool_]:
        """Returns whether each row (n,) is deleted, or is not allowed to be a result."""
        return self.deleted if allowed is None else self.deleted | ~allowed

    def search(
        self,
        queries: FloatArray,
        k: int,
        kind: str,
        store: str,
        effort: int | None = None,
        allowed: npt.NDArray[np.bool_] | None = None,
        added: Sequence[RowScores] | None = None,
    ) -> Scored:
        """Returns the scores and rows of the k best live rows.

        Args:
            queries: (q, d) float32.
            k: Maximum number of rows per query.
            kind: The index's kind.
            store: The index's store.
            effort: Effort of the ANN index; by default its own.
            allowed: Whether each row may be a result, (n,) bool; None if all may.
            added: For each query, scores that are added to the dot products; None adds nothing.

        Returns:
            Scores and rows (q, k), best first; k is at most the number of live rows that are allowed, and there
            are always as many rows.
        """
        left_out = self.left_out(allowed)
        n_left = self.n_live if allowed is None else len(left_out) - int(left_out.sum())
        k = min(k, n_left)
        if k == 0 or len(queries) == 0:
            return np.zeros((len(queries), k), np.float32), np.zeros((len(queries), k), np.int64)
        depth = k if added is None else min(max(k, _FUSED_CANDIDATES), n_left)
        if self._by_bits(kind, store):
            candidates = hamming_candidates(self.segments, left_out, queries, depth)
        elif self.ann is not None and (allowed is None or n_left > self._most_scanned):
            live = self._live_bits if allowed is None else _bits(~left_out[: self.ann.rows])
            # As many of the allowed rows are visited as without a filter.
            effort = math.ceil((effort or self.ann.effort) * self.n_live / n_left)
            candidates = self.ann.candidates(queries, depth, live, effort)
        else:
            return scan(self.segments, left_out, queries, k, added=added)
        if added is not None:
            # Rows that the ANN index does not cover are compared below.
            n_covered = len(left_out) if self.ann is None else self.ann.rows
            best = [own.best(depth, left_out).rows for own in added]
            candidates = _united(candidates, [rows[rows < n_covered] for rows in best])
        scores, rows = rescored(queries, candidates, self.vectors, added)
        if self.ann is not None and self.ann.rows < len(left_out):
            newer = scan(self.segments, left_out, queries, k, self.ann.rows, added)
            scores, rows = np.concatenate([scores, newer[0]], 1), np.concatenate([rows, newer[1]], 1)
        # If fewer than k candidates of a query are live, all rows are compared.
        short = (rows >= 0).sum(axis=1) < k
        if short.all():
            return scan(self.segments, left_out, queries, k, added=added)
        scores, rows = best_first(scores, rows, k)
        if short.any():
            own = None if added is None else [added[i] for i in np.flatnonzero(short).tolist()]
            scores[short], rows[short] = scan(self.segments, left_out, queries[short], k, added=own)
        return scores, rows

    def searched_by(self, kind: str, store: str) -> str:
        """Returns how :meth:`search` searches: ``"exact"``, ``"hamming"`` or the kind of the ANN index."""
        if self._by_bits(kind, store):
            return "hamming"
        return "exact" if self.ann is None else self.ann.kind

    def items(self, rows: npt.NDArray[np.int64]) -> list[Item]:
        """Returns the items of rows (m,)."""
        homes = np.searchsorted(self.starts, rows, "right") - 1
        return [
            self.segments[home].item(row)
            for home, row in zip(homes.tolist(), (rows - self.starts[homes]).tolist(), strict=True)
        ]

    def spans(self, rows: npt.NDArray[np.int64]) -> list[Span | None]:
        """Returns the places of rows (m,) in the texts of their items; None where an item is one row."""
        homes = np.searchsorted(self.starts, rows, "right") - 1
        return [
            self.segments[home].span(row)
            for home, row in zip(homes.tolist(), (rows - self.starts[homes]).tolist(), strict=True)
        ]

    def item_rows(self, rows: npt.NDArray[np.int64]) -> list[npt.NDArray[np.int64]]:
        """Returns all rows of each of the items whose first rows (m,) are given."""
        if self.is_first is None:
            return list(rows[:, None])
        ends = np.append(self._first_rows, len(self.deleted))
        following = ends[np.searchsorted(ends, rows, "right")]
        return [np.arange(row, end) for row, end in zip(rows.tolist(), following.tolist(), strict=True)]

    def first_rows(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Returns the first row of the item of each row (m,)."""
        if self.is_first is None:
            return rows
        return self._first_rows[np.searchsorted(self._first_rows, rows, "right") - 1]

    def vectors(self, rows: npt.NDArray[np.int64]) -> FloatArray:
        """Returns the stored vectors (m, d) of rows (m,)."""
        return gather(self.segments, self.starts, rows)

    def rerank_vectors(self, rows: npt.NDArray[np.int64]) -> RerankVectors:
        """Returns the stored vectors of a reranker of rows (m,), which are rising."""
        homes = np.searchsorted(self.starts, rows, "right") - 1
        parts = []
        for home in np.unique(homes).tolist():
            stored = self.segments[home].rerank
            if stored is not None:
                parts.append(stored.only(rows[homes == home] - self.starts[home]))
        return joined(parts) if parts else RerankVectors(np.zeros((0, 0), np.float32), np.zeros(1, np.int64))

    def find(self, ids: Sequence[Id]) -> npt.NDArray[np.int64]:
        """Returns the live first row (m,) of each id, -1 if there is none."""
        rows = np.full(len(ids), -1, np.int64)
        hashes = hash_ids(ids)
        for segment, start in zip(self.segments, self.starts.tolist(), strict=True):
            for place, row in segment.candidates(ids, hashes):
                if not self.deleted[start + row]:
                    rows[place] = start + row
        return rows

    def known(self, ids: Sequence[Id]) -> npt.NDArray[np.int64]:
        """Returns the live first row (m,) of each id; raises KeyError if there is none."""
        rows = self.find(ids)
        if (rows < 0).any():
            raise KeyError(f"no item has the id {ids[int((rows < 0).argmax())]!r}")
        return rows

    def check_new(self, ids: Sequence[Id]) -> None:
        """Raises ValueError, with its position, if an id belongs to a live row."""
        known = np.flatnonzero(self.find(ids) >= 0)
        if len(known):
            i = known[0]
            raise ValueError(
                f"ids[{i}] is {ids[i]!r}, which the index already contains: update() replaces it"
            )

    def with_segment(self, segment: Segment) -> "Snapshot":
        """Returns a snapshot with the rows of a segment at the end.

        Segments in memory are merged while the previous one has fewer than twice the rows. Their number and
        the number of times a row is copied thus grow with the logarithm of the rows.
        """
        segments = [*self.segments, segment]
        while (
            len(segments) > 1
            and segments[-2].name is None
            and segments[-2].quantizer.same_as(segments[-1].quantizer)
            and len(segments[-2]) < 2 * len(segments[-1])
        ):
            segments[-2:] = [merged(segments[-2:])]
        deleted = np.concatenate([self.deleted, np.zeros(len(segment), np.bool_)])
        moments = self.moments
        if moments is None and segment.words is not None:
            moments = self.measured_moments if self.segments else Moments.empty(segment.quantizer.dim)
        if moments is not None:
            moments = moments.plus(Moments.of(segment.vectors, len(segment), segment.quantizer.dim))
        return replace(self, segments=tuple(segments), deleted=deleted, moments=moments)

    def without(self, rows: npt.NDArray[np.int64]) -> "Snapshot":
        """Returns a snapshot in which these rows are deleted as well."""
        deleted = self.deleted.copy()
        moments = self.moments
        if moments is not None:
            new = rows[~deleted[rows]]
            own = Moments.of(lambda block: self.vectors(new[block]), len(new), self.segments[0].quantizer.dim)
            moments = moments.minus(own)
        deleted[rows] = True
        rest = replace(self, deleted=deleted, moments=moments)
        return rest if moments is None or moments.is_precise else rest.with_new_moments()

    def with_new_moments(self) -> "Snapshot":
        """Returns the snapshot with the moments of its live rows, without rounding errors of deleted ones."""
        if self.moments is None:
            return self
        live = np.flatnonzero(~self.deleted)
        # Without segments, only the moments have the number of dimensions.
        dim = len(self.moments.sums) - 1
        return replace(self, moments=Moments.of(lambda block: self.vectors(live[block]), len(live), dim))

    def recall_of(
        self, kind: str, store: str, sample: int = 200, seed: int = 1
    ) -> Callable[[int | None], float]:
        """Returns a function from the effort of the ANN index to its recall at 10, against exact search.

        The queries are the stored vectors of ``sample`` random rows. A query does not count its own row.
        """
        alive = np.flatnonzero(~self.deleted)
        if len(alive) < 2:
            return lambda effort: 1.0
        chosen = np.random.default_rng(seed).choice(alive, min(sample, len(alive)), replace=False)
        queries = self.vectors(chosen)
        k = min(11, len(alive))
        _, exact = scan(self.segments, self.deleted, queries, k)
        exact_rows = [
            set([row for row in rows if row != own][: k - 1])
            for own, rows in zip(chosen.tolist(), exact.tolist(), strict=True)
        ]

        def recall(effort: int | None) -> float:
            _, results = self.search(queries, k, kind, store, effort)
            shares = [
                len(expected & set(rows)) / len(expected)
                for expected, rows in zip(exact_rows, results.tolist(), strict=True)
            ]
            return float(np.mean(shares))

        return recall

    @cached_value
    def _first_rows(self) -> npt.NDArray[np.int64]:
        parts = zip(self.segments, self.starts.tolist(), strict=True)
        return np.concatenate(
            [np.zeros(0, np.int64), *(start + segment.first_rows for segment, start in parts)]
        )

    @property
    def _most_scanned(self) -> int:
        return max(_SCANNED_ROWS, self.n_live // _SCANNED_PART)

    @cached_value
    def _live_bits(self) -> npt.NDArray[np.uint8] | None:
        # The bit mask that FAISS expects, packed once and not for every query.
        is_deleted = self.deleted[: 0 if self.ann is None else self.ann.rows]
        return _bits(~is_deleted) if is_deleted.any() else None

    def _by_bits(self, kind: str, store: str) -> bool:
        first = self.segments[0].quantizer if self.segments else None
        return (
            first is not None
            and first.name == "binary"
            and search_kind(kind, store, self.n_live) == "hamming"
            and all(first.same_as(segment.quantizer) for segment in self.segments)
        )


def _bits(mask: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint8]:
    return np.packbits(mask, bitorder="little")


def _united(
    candidates: npt.NDArray[np.int64], others: Sequence[npt.NDArray[np.int64]]
) -> npt.NDArray[np.int64]:
    """Returns the candidates (q, m) of each query together with others, each row once, filled up with -1."""
    sets = [np.union1d(own[own >= 0], more) for own, more in zip(candidates, others, strict=True)]
    united = np.full((len(sets), max(map(len, sets))), -1, np.int64)
    for row, own in zip(united, sets, strict=True):
        row[: len(own)] = own
    return united
