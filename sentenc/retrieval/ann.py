"""Approximate nearest neighbor (ANN) indexes, by FAISS: candidates without comparing every row.

An ANN index covers the first ``rows`` rows of an index and returns candidates. The index computes their
scores from the stored vectors, so that scores are exact. This module hides FAISS's special values: its -1 and
-3.4e38 are masked, deleted rows are never candidates, and only finite numbers are passed to it.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.errors import IndexFormatError, MissingExtraError
from sentenc.forking import outside_forked_thread
from sentenc.io.disk_full import naming_full_disk
from sentenc.retrieval.exact_search import Scored, gather
from sentenc.retrieval.lexical.bm25 import RowScores
from sentenc.retrieval.quantization import FloatArray
from sentenc.retrieval.segments import Segment

KINDS = ("auto", "exact", "ivf", "ivfpq", "hnsw")
# With at most this many rows, comparing every row takes a few milliseconds, and is exact.
EXACT_ROWS = 100_000

# Candidates per requested item: more for coarser codes.
_REFINE = {"ivf": 4, "ivfpq": 20, "hnsw": 2, "hamming": 20}
# Rows per file of inverted lists. The files are searched one after another.
_ROWS_PER_SHARD = 1_000_000
_ROWS_PER_BLOCK = 65_536
# A gain in recall that is not worth eight times the work.
_NEGLIGIBLE_RECALL = 0.005
_EF = (32, 64, 128, 256, 512)
# FAISS requires at least 39 training vectors per centroid. More improve the lists hardly at all.
_TRAIN_PER_LIST = 40


def search_kind(kind: str, store: str, rows: int) -> str:
    """Returns how rows are searched: ``"exact"``, ``"ivf"``, ``"ivfpq"``, ``"hnsw"`` or ``"hamming"``."""
    if kind == "auto":
        if rows <= EXACT_ROWS:
            return "exact"
        return "hamming" if store == "binary" else "ivf"
    return kind


class AnnIndex:
    """An ANN index of FAISS in a folder.

    Attributes:
        kind: ``"ivf"`` (inverted lists, 8 bits a dimension), ``"ivfpq"`` (product codes) or ``"hnsw"``.
        rows: Number of rows of the index that it covers: 0 to ``rows - 1``.
        effort: Number of lists that are visited (ivf), or of candidates during a search (hnsw).
        recall: Recall at 10 by effort, measured when it was built.
        folder: Folder of its files.
    """

    def __init__(
        self, shards: Sequence[Any], folder: Path, kind: str, rows: int, effort: int, recall: dict[int, float]
    ) -> None:
        self.shards = shards
        self.folder = folder
        self.kind = kind
        self.rows = rows
        self.effort = effort
        self.recall = recall

    @outside_forked_thread
    def candidates(
        self, queries: FloatArray, k: int, live: npt.NDArray[np.uint8] | None, effort: int | None = None
    ) -> npt.NDArray[np.int64]:
        """Returns live rows (q, m) that are likely among the k best, -1 if there are fewer.

        Args:
            queries: (q, d) float32.
            k: Number of items that the search returns.
            live: One bit per covered row, the lowest bit of a byte first; None if all rows are live.
            effort: Effort of this search; by default that of the index.
        """
        faiss = import_faiss()
        wanted = min(k * _REFINE[self.kind], self.rows)
        selector = None if live is None else faiss.IDSelectorBitmap(live)
        parameters = self._parameters(faiss, effort or self.effort, wanted, selector)
        queries = np.ascontiguousarray(queries)
        results = [shard.search(queries, wanted, params=parameters) for shard in self.shards]
        if len(results) == 1:
            return np.asarray(results[0][1], np.int64)
        scores, rows = (np.concatenate([part[side] for part in results], axis=1) for side in (0, 1))
        best = np.argpartition(-scores, wanted - 1, axis=1)[:, :wanted]
        return np.asarray(np.take_along_axis(rows, best, axis=1), np.int64)

    def describe(self) -> dict[str, Any]:
        """Returns the description that the manifest contains."""
        recall = {str(effort): round(value, 4) for effort, value in self.recall.items()}
        return {"kind": self.kind, "rows": self.rows, "effort": self.effort, "recall": recall}

    def _parameters(self, faiss: Any, effort: int, wanted: int, selector: Any) -> Any:
        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=max(effort, wanted), sel=selector)
        if self.kind == "ivfpq":
            return faiss.IVFPQSearchParameters(nprobe=effort, sel=selector)
        return faiss.SearchParametersIVF(nprobe=effort, sel=selector)

    def efforts(self) -> list[int]:
        """Returns the efforts to try, in rising order."""
        if self.kind == "hnsw":
            return list(_EF)
        return [1 << i for i in range(2, 11) if 1 << i <= max(4, self.shards[0].nlist)]

    @classmethod
    def read(cls, folder: Path, described: dict[str, Any]) -> "AnnIndex":
        """Reads the ANN index in a folder; inverted lists are memory-mapped, a graph is loaded."""
        faiss = import_faiss()
        files = sorted(folder.glob("shard-*.faiss"))
        if not files:
            raise IndexFormatError(f"{folder} contains no shard-*.faiss, expected at least one")
        flags = 0 if described["kind"] == "hnsw" else faiss.IO_FLAG_MMAP
        try:
            shards = [_without_prefetching(faiss, faiss.read_index(str(file), flags)) for file in files]
        except RuntimeError as error:
            raise IndexFormatError(f"{folder} contains no index that FAISS can read: {error}") from error
        recall = {int(effort): value for effort, value in described["recall"].items()}
        return cls(shards, folder, described["kind"], described["rows"], described["effort"], recall)


@outside_forked_thread
def build(
    kind: str, segments: Sequence[Segment], deleted: npt.NDArray[np.bool_], folder: Path, seed: int = 1
) -> AnnIndex:
    """Builds an ANN index over all rows, with at most a million of them in memory (a graph: all of them).

    Args:
        kind: ``"ivf"``, ``"ivfpq"`` or ``"hnsw"``.
        segments: The rows, in order.
        deleted: Whether each row is deleted, (n,) bool; deleted rows are left out.
        folder: An empty folder for its files.
        seed: Seed of the training sample.
    """
    faiss = import_faiss()
    alive = np.flatnonzero(~deleted)
    dim = segments[0].quantizer.dim
    index = faiss.index_factory(dim, _recipe(kind, len(alive), dim), faiss.METRIC_INNER_PRODUCT)
    rows = np.random.default_rng(seed).choice(alive, min(len(alive), _training_rows(index)), replace=False)
    starts = np.cumsum([0, *map(len, segments)])[:-1]
    index.train(gather(segments, starts, np.sort(rows)))
    written = 0

    def write() -> None:
        nonlocal written
        path = folder / f"shard-{written:04d}.faiss"
        with naming_full_disk(path):
            faiss.write_index(index, str(path))
        written += 1
        index.reset()

    # FAISS numbers the rows of a graph consecutively, so deleted rows are added too. They are never returned.
    left_out = np.zeros_like(deleted) if kind == "hnsw" else deleted
    for numbers, vectors in _blocks(segments, left_out):
        if kind == "hnsw":
            index.add(vectors)
        else:
            index.add_with_ids(vectors, numbers)
            if index.ntotal >= _ROWS_PER_SHARD:
                write()
    if index.ntotal or not written:
        write()
    return AnnIndex.read(folder, {"kind": kind, "rows": len(deleted), "effort": 1, "recall": {}})


def choose_effort(ann: AnnIndex, recall_at: Callable[[int | None], float], target: float) -> None:
    """Sets the least effort whose measured recall at 10 reaches ``target``.

    If none does, because the codes are too coarse or the items too similar, the effort is the least one
    within ``_NEGLIGIBLE_RECALL`` of the best recall that was measured.
    """
    for effort in ann.efforts():
        ann.recall[effort] = recall_at(effort)
        best = max(ann.recall.values())
        ann.effort = next(
            e for e, recall in ann.recall.items() if recall >= min(target, best - _NEGLIGIBLE_RECALL)
        )
        if best >= target:
            ann.effort = effort
            return
        if effort >= 8 * ann.effort:
            return


@outside_forked_thread
def hamming_candidates(
    segments: Sequence[Segment], deleted: npt.NDArray[np.bool_], queries: FloatArray, k: int
) -> npt.NDArray[np.int64]:
    """Returns the rows (q, m) of binary segments whose bits differ least from those of the queries.

    All segments have the same quantizer, and at least one row is not deleted.
    """
    faiss = import_faiss()
    quantizer = segments[0].quantizer
    bits = quantizer.transform(queries)
    wanted = min(k * _REFINE["hamming"], len(deleted))
    distances, rows, start = [], [], 0
    for segment in segments:
        is_deleted = deleted[start : start + len(segment)]
        alive = np.flatnonzero(~is_deleted)
        codes = segment.codes if not is_deleted.any() else segment.codes[alive]
        if len(alive):
            nearest, places = faiss.knn_hamming(bits, np.ascontiguousarray(codes), min(wanted, len(alive)))
            distances.append(nearest)
            rows.append(alive[places] + start)
        start += len(segment)
    distance, row = np.concatenate(distances, axis=1), np.concatenate(rows, axis=1)
    order = np.argsort(distance, axis=1, kind="stable")[:, :wanted]
    return np.take_along_axis(row, order, axis=1)


def rescored(
    queries: FloatArray,
    rows: npt.NDArray[np.int64],
    gather: Callable[[npt.NDArray[np.int64]], FloatArray],
    added: Sequence[RowScores] | None = None,
) -> Scored:
    """Returns the exact scores (q, m) of candidate rows (q, m), -inf where a row is -1, and the rows.

    ``added`` are scores of each query that are added to the dot products.
    """
    scores = np.full(rows.shape, -np.inf, np.float32)
    step = max(1, (1 << 16) // max(1, rows.shape[1]))
    for first in range(0, len(rows), step):
        part = rows[first : first + step]
        is_row = part >= 0
        vectors = gather(part[is_row])
        owner = np.nonzero(is_row)[0]
        scores[first : first + step][is_row] = np.einsum("ij,ij->i", queries[first + owner], vectors)
    for own_scores, own_rows, own in zip(scores, rows, added or (), strict=added is not None):
        own_scores += own.at(own_rows)
    return scores, rows


def _without_prefetching(faiss: Any, shard: Any) -> Any:
    # A forked child crashes when it joins the threads that prefetched lists of a mapped file in its parent.
    lists = faiss.downcast_InvertedLists(shard.invlists) if hasattr(shard, "invlists") else None
    if lists is not None and hasattr(lists, "prefetch_nthread"):
        lists.prefetch_nthread = 0
    return shard


def import_faiss(feature: str | None = None) -> Any:
    """Imports FAISS; the error names the extra and the feature that needs it, by default a large index."""
    try:
        import faiss
    except ImportError as error:
        feature = feature or f"an index beyond {EXACT_ROWS:,} items"
        raise MissingExtraError("retrieval", "faiss-cpu", feature) from error
    return faiss


def _recipe(kind: str, rows: int, dim: int) -> str:
    if kind == "hnsw":
        return "HNSW32_SQ8"
    # About 4 sqrt(n) lists; beyond 8,192 finding the nearest of them would cost more than it saves.
    lists = int(min(max(1, 4 * rows**0.5), 8192, max(1, rows / 39)))
    coarse = f"IVF{lists}" if lists < 4096 else f"IVF{lists}_HNSW32"
    if kind == "ivf":
        return f"{coarse},SQ8"
    # Eight dimensions per byte, or the nearest divisor of them; 16 levels if there are few training vectors.
    parts = next(m for m in range(max(1, dim // 8), 0, -1) if dim % m == 0)
    return f"{coarse},PQ{parts}" if rows >= 10_000 else f"{coarse},PQ{parts}x4"


def _training_rows(index: Any) -> int:
    return int(getattr(index, "nlist", 0)) * _TRAIN_PER_LIST or _ROWS_PER_BLOCK


def _blocks(
    segments: Sequence[Segment], left_out: npt.NDArray[np.bool_]
) -> Iterator[tuple[npt.NDArray[np.int64], FloatArray]]:
    start = 0
    for segment in segments:
        for low in range(0, len(segment), _ROWS_PER_BLOCK):
            high = min(low + _ROWS_PER_BLOCK, len(segment))
            kept = np.flatnonzero(~left_out[start + low : start + high])
            if len(kept):
                yield start + low + kept, np.ascontiguousarray(segment.vectors(slice(low, high))[kept])
        start += len(segment)
