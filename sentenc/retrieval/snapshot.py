"""The rows of an index at one moment: what a search sees, whatever is written meanwhile."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from sentenc.retrieval.ann import Structure, hamming_candidates, rescored, structure_kind
from sentenc.retrieval.exact_search import Scored, best_first, gather, scan
from sentenc.retrieval.items import Hit, Id, Item, hash_ids
from sentenc.retrieval.quantization import FloatArray
from sentenc.retrieval.segments import Segment, merged


@dataclass(frozen=True, eq=False)
class Rows:
    """Segments one after another, which of their rows are deleted, and the structure over the first of them.

    None of it ever changes, arrays included: what is computed from it is kept.

    Attributes:
        segments: None of them empty.
        deleted: (n,) bool.
        structure: Or None: every row is looked at.
    """

    segments: tuple[Segment, ...] = ()
    deleted: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    structure: Structure | None = None

    @cached_property
    def starts(self) -> npt.NDArray[np.int64]:
        """First row of every segment, (s,)."""
        return np.cumsum([0, *map(len, self.segments)])[:-1].astype(np.int64)

    @cached_property
    def n_live(self) -> int:
        """Rows that are not deleted."""
        return len(self.deleted) - int(self.deleted.sum())

    def search(self, queries: FloatArray, k: int, kind: str, store: str, effort: int | None = None) -> Scored:
        """The k best live rows: scores (q, k) and rows (q, k), best first; fewer columns if there are fewer."""
        k = min(k, self.n_live)
        if k == 0 or len(queries) == 0:
            return np.zeros((len(queries), k), np.float32), np.zeros((len(queries), k), np.int64)
        if self._by_bits(kind, store):
            candidates = hamming_candidates(self.segments, self.deleted, queries, k)
        elif self.structure is not None:
            candidates = self.structure.candidates(queries, k, self._live_bits, effort)
        else:
            return scan(self.segments, self.deleted, queries, k)
        scores, rows = rescored(queries, candidates, self.vectors)
        if self.structure is not None and self.structure.rows < len(self.deleted):
            newer = scan(self.segments, self.deleted, queries, k, self.structure.rows)
            scores, rows = np.concatenate([scores, newer[0]], 1), np.concatenate([rows, newer[1]], 1)
        # Where what was looked at holds fewer than k live rows, all are looked at.
        short = (rows >= 0).sum(axis=1) < k
        if short.all():
            return scan(self.segments, self.deleted, queries, k)
        scores, rows = best_first(scores, rows, k)
        if short.any():
            scores[short], rows[short] = scan(self.segments, self.deleted, queries[short], k)
        return scores, rows

    def searched_by(self, kind: str, store: str) -> str:
        """How :meth:`search` goes about it: ``"exact"``, ``"hamming"`` or the structure's kind."""
        if self._by_bits(kind, store):
            return "hamming"
        return "exact" if self.structure is None else self.structure.kind

    def items(self, rows: npt.NDArray[np.int64]) -> list[Item]:
        """The items of rows (m,)."""
        homes = np.searchsorted(self.starts, rows, "right") - 1
        return [
            self.segments[home].item(row)
            for home, row in zip(homes.tolist(), (rows - self.starts[homes]).tolist(), strict=True)
        ]

    def vectors(self, rows: npt.NDArray[np.int64]) -> FloatArray:
        """The stored vectors of rows (m,): (m, d)."""
        return gather(self.segments, self.starts, rows)

    def find(self, ids: Sequence[Id]) -> npt.NDArray[np.int64]:
        """The live row of each id (m,), -1 where there is none."""
        rows = np.full(len(ids), -1, np.int64)
        hashes = hash_ids(ids)
        for segment, start in zip(self.segments, self.starts.tolist(), strict=True):
            for place, row in segment.candidates(ids, hashes):
                if not self.deleted[start + row]:
                    rows[place] = start + row
        return rows

    def known(self, ids: Sequence[Id]) -> npt.NDArray[np.int64]:
        """The live row of each id (m,); raises KeyError if one is not there."""
        rows = self.find(ids)
        if (rows < 0).any():
            raise KeyError(f"no item has the id {ids[int((rows < 0).argmax())]!r}")
        return rows

    def with_segment(self, segment: Segment) -> "Rows":
        """With new rows at the end.

        Segments in memory are merged while the one before has fewer than twice the rows: there are few
        of them however often one adds, and no row is copied often.
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
        return replace(self, segments=tuple(segments), deleted=deleted)

    def without(self, rows: npt.NDArray[np.int64]) -> "Rows":
        """With some more rows deleted."""
        deleted = self.deleted.copy()
        deleted[rows] = True
        return replace(self, deleted=deleted)

    def hits(self, scores: FloatArray, rows: npt.NDArray[np.int64]) -> list[list[Hit]]:
        """What :meth:`search` found (q, k), with the items."""
        found = rows >= 0
        pairs = zip(scores[found].tolist(), self.items(rows[found]), strict=True)
        hits = [Hit(score, item.id, item.text, item.payload) for score, item in pairs]
        ends = np.cumsum(found.sum(axis=1)).tolist()
        return [hits[start:end] for start, end in pairwise([0, *ends])]

    def recall_of(
        self, kind: str, store: str, sample: int = 200, seed: int = 1
    ) -> Callable[[int | None], float]:
        """Recall at 10 against exact search, as a function of the structure's effort.

        Queries are stored vectors of so many rows at random; each one's own row does not count.
        """
        alive = np.flatnonzero(~self.deleted)
        if len(alive) < 2:
            return lambda effort: 1.0
        chosen = np.random.default_rng(seed).choice(alive, min(sample, len(alive)), replace=False)
        queries = self.vectors(chosen)
        k = min(11, len(alive))
        _, exact = scan(self.segments, self.deleted, queries, k)
        wanted = [
            set([row for row in rows if row != own][: k - 1])
            for own, rows in zip(chosen.tolist(), exact.tolist(), strict=True)
        ]

        def recall(effort: int | None) -> float:
            _, found = self.search(queries, k, kind, store, effort)
            shares = [
                len(right & set(rows)) / len(right)
                for right, rows in zip(wanted, found.tolist(), strict=True)
            ]
            return float(np.mean(shares))

        return recall

    @cached_property
    def _live_bits(self) -> npt.NDArray[np.uint8] | None:
        # As FAISS takes it: all of an index's rows are packed once, not with every query.
        gone = self.deleted[: 0 if self.structure is None else self.structure.rows]
        return np.packbits(~gone, bitorder="little") if gone.any() else None

    def _by_bits(self, kind: str, store: str) -> bool:
        first = self.segments[0].quantizer if self.segments else None
        return (
            first is not None
            and first.name == "binary"
            and structure_kind(kind, store, self.n_live) == "hamming"
            and all(first.same_as(segment.quantizer) for segment in self.segments)
        )
