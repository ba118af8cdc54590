"""Structures that find candidates without looking at every row, by FAISS.

A structure covers the first ``rows`` rows of an index and gives candidates only; the index scores them
again from the stored vectors, so scores are exact whatever the structure. FAISS's traps end here: its
-1 and -3.4e38 are marked, deleted rows are never candidates, and nothing that is not finite comes in.
"""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.errors import IndexFormatError, MissingExtraError
from sentenc.retrieval.exact_search import Scored, gather
from sentenc.retrieval.quantization import FloatArray
from sentenc.retrieval.segments import Segment

KINDS = ("auto", "exact", "ivf", "ivfpq", "hnsw")
# Up to here looking at every row takes a few milliseconds, and is exact.
EXACT_ROWS = 100_000

# Candidates fetched for one asked for, by how coarse the codes of the structure are.
_REFINE = {"ivf": 4, "ivfpq": 20, "hnsw": 2, "hamming": 20}
# Rows in a file of inverted lists; the files are searched one after the other.
_SHARD = 1_000_000
_BLOCK = 65_536
# So much recall is not worth eight times the work.
_NEAR = 0.005
_EF = (32, 64, 128, 256, 512)
# FAISS wants 39 training vectors a centroid at least; more of them gain next to nothing here.
_TRAIN_PER_LIST = 40


def structure_kind(kind: str, store: str, rows: int) -> str:
    """What ``kind`` means for so many rows: ``"exact"``, ``"ivf"``, ``"ivfpq"``, ``"hnsw"`` or ``"hamming"``."""
    if kind == "auto":
        if rows <= EXACT_ROWS:
            return "exact"
        return "hamming" if store == "binary" else "ivf"
    return kind


class Structure:
    """Candidates by FAISS.

    Attributes:
        kind: ``"ivf"`` (inverted lists, 8 bits a dimension), ``"ivfpq"`` (product codes) or ``"hnsw"``.
        rows: It covers rows 0 to ``rows - 1``.
        effort: Lists visited (ivf), or candidates kept on the way (hnsw).
        recall: What recall at 10 each effort had when it was built: {effort: recall}.
        folder: Where its files are.
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

    def candidates(
        self, queries: FloatArray, k: int, live: npt.NDArray[np.uint8] | None, effort: int | None = None
    ) -> npt.NDArray[np.int64]:
        """Rows (q, m) that are likely among the k best, -1 where there are fewer; never a deleted one.

        ``live`` has a bit for each of the structure's rows, the lowest of a byte first; None if all live.
        """
        faiss = import_faiss()
        wanted = min(k * _REFINE[self.kind], self.rows)
        selector = None if live is None else faiss.IDSelectorBitmap(live)
        parameters = self._parameters(faiss, effort or self.effort, wanted, selector)
        queries = np.ascontiguousarray(queries)
        found = [shard.search(queries, wanted, params=parameters) for shard in self.shards]
        if len(found) == 1:
            return np.asarray(found[0][1], np.int64)
        scores, rows = (np.concatenate([part[side] for part in found], axis=1) for side in (0, 1))
        best = np.argpartition(-scores, wanted - 1, axis=1)[:, :wanted]
        return np.asarray(np.take_along_axis(rows, best, axis=1), np.int64)

    def describe(self) -> dict[str, Any]:
        """What the manifest keeps."""
        recall = {str(effort): round(value, 4) for effort, value in self.recall.items()}
        return {"kind": self.kind, "rows": self.rows, "effort": self.effort, "recall": recall}

    def _parameters(self, faiss: Any, effort: int, wanted: int, selector: Any) -> Any:
        if self.kind == "hnsw":
            return faiss.SearchParametersHNSW(efSearch=max(effort, wanted), sel=selector)
        if self.kind == "ivfpq":
            return faiss.IVFPQSearchParameters(nprobe=effort, sel=selector)
        return faiss.SearchParametersIVF(nprobe=effort, sel=selector)

    def efforts(self) -> list[int]:
        """Efforts worth trying, rising."""
        if self.kind == "hnsw":
            return list(_EF)
        return [1 << i for i in range(2, 11) if 1 << i <= max(4, self.shards[0].nlist)]

    @classmethod
    def read(cls, folder: Path, described: dict[str, Any]) -> "Structure":
        """The structure in a folder; inverted lists are memory-mapped, a graph is read."""
        faiss = import_faiss()
        files = sorted(folder.glob("shard-*.faiss"))
        if not files:
            raise IndexFormatError(f"{folder} holds no shard-*.faiss, expected one at least")
        flags = 0 if described["kind"] == "hnsw" else faiss.IO_FLAG_MMAP
        try:
            shards = [faiss.read_index(str(file), flags) for file in files]
        except RuntimeError as error:
            raise IndexFormatError(f"{folder} holds no structure that FAISS can read: {error}") from error
        recall = {int(effort): value for effort, value in described["recall"].items()}
        return cls(shards, folder, described["kind"], described["rows"], described["effort"], recall)


def build(
    kind: str, segments: Sequence[Segment], deleted: npt.NDArray[np.bool_], folder: Path, seed: int = 1
) -> Structure:
    """Builds a structure over all rows, with no more than a million of them in memory (a graph: all).

    Args:
        kind: ``"ivf"``, ``"ivfpq"`` or ``"hnsw"``.
        segments: The rows, in order.
        deleted: (n,) rows left out.
        folder: An empty folder for its files.
        seed: Of the training sample.
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
        faiss.write_index(index, str(folder / f"shard-{written:04d}.faiss"))
        written += 1
        index.reset()

    # FAISS numbers what a graph holds by itself, so deleted rows go in too; they are never answered.
    left_out = np.zeros_like(deleted) if kind == "hnsw" else deleted
    for numbers, vectors in _blocks(segments, left_out):
        if kind == "hnsw":
            index.add(vectors)
        else:
            index.add_with_ids(vectors, numbers)
            if index.ntotal >= _SHARD:
                write()
    if index.ntotal or not written:
        write()
    return Structure.read(folder, {"kind": kind, "rows": len(deleted), "effort": 1, "recall": {}})


def choose_effort(structure: Structure, recall_at: Callable[[int | None], float], target: float) -> None:
    """Sets the least effort whose measured recall at 10 is ``target``.

    Where none has it, because the codes are too coarse or items too alike, it is the least effort that
    comes within ``_NEAR`` of the best that was seen.
    """
    for effort in structure.efforts():
        structure.recall[effort] = recall_at(effort)
        best = max(structure.recall.values())
        structure.effort = next(
            e for e, recall in structure.recall.items() if recall >= min(target, best - _NEAR)
        )
        if best >= target:
            structure.effort = effort
            return
        if effort >= 8 * structure.effort:
            return


def hamming_candidates(
    segments: Sequence[Segment], deleted: npt.NDArray[np.bool_], queries: FloatArray, k: int
) -> npt.NDArray[np.int64]:
    """Rows (q, m) whose bits differ least from the queries'; of binary segments of one quantizer.

    One row at least is not deleted.
    """
    faiss = import_faiss()
    quantizer = segments[0].quantizer
    bits = quantizer.transform(queries)
    wanted = min(k * _REFINE["hamming"], len(deleted))
    distances, rows, start = [], [], 0
    for segment in segments:
        gone = deleted[start : start + len(segment)]
        alive = np.flatnonzero(~gone)
        codes = segment.codes if not gone.any() else segment.codes[alive]
        if len(alive):
            d, found = faiss.knn_hamming(bits, np.ascontiguousarray(codes), min(wanted, len(alive)))
            distances.append(d)
            rows.append(alive[found] + start)
        start += len(segment)
    distance, row = np.concatenate(distances, axis=1), np.concatenate(rows, axis=1)
    order = np.argsort(distance, axis=1, kind="stable")[:, :wanted]
    return np.take_along_axis(row, order, axis=1)


def rescored(
    queries: FloatArray, rows: npt.NDArray[np.int64], gather: Callable[[npt.NDArray[np.int64]], FloatArray]
) -> Scored:
    """Exact scores (q, m) of candidates (q, m); -inf for those that are -1."""
    scores = np.full(rows.shape, -np.inf, np.float32)
    step = max(1, (1 << 16) // max(1, rows.shape[1]))
    for first in range(0, len(rows), step):
        part = rows[first : first + step]
        found = part >= 0
        vectors = gather(part[found])
        owner = np.nonzero(found)[0]
        scores[first : first + step][found] = np.einsum("ij,ij->i", queries[first + owner], vectors)
    return scores, rows


def import_faiss(feature: str | None = None) -> Any:
    """FAISS, or an error that names the extra and what needs it, by default a large index."""
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
    # Eight dimensions a byte, or the nearest that divides them; 16 levels where there is little to learn from.
    parts = next(m for m in range(max(1, dim // 8), 0, -1) if dim % m == 0)
    return f"{coarse},PQ{parts}" if rows >= 10_000 else f"{coarse},PQ{parts}x4"


def _training_rows(index: Any) -> int:
    return int(getattr(index, "nlist", 0)) * _TRAIN_PER_LIST or _BLOCK


def _blocks(
    segments: Sequence[Segment], left_out: npt.NDArray[np.bool_]
) -> Iterator[tuple[npt.NDArray[np.int64], FloatArray]]:
    start = 0
    for segment in segments:
        for low in range(0, len(segment), _BLOCK):
            high = min(low + _BLOCK, len(segment))
            kept = np.flatnonzero(~left_out[start + low : start + high])
            if len(kept):
                yield start + low + kept, np.ascontiguousarray(segment.vectors(slice(low, high))[kept])
        start += len(segment)
