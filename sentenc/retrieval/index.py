"""The index: texts or vectors in, the nearest of them out, in memory or in a folder."""

import math
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.retrieval import persistence
from sentenc.retrieval.ann import KINDS, structure_kind
from sentenc.retrieval.compaction import optimized
from sentenc.retrieval.items import Id, Item, Payload, check_ids
from sentenc.retrieval.manifest import MANIFEST, Manifest, WriteLock, check_hashes, read_manifest
from sentenc.retrieval.quantization import STORES, FloatArray, plain
from sentenc.retrieval.segments import Segment
from sentenc.retrieval.snapshot import Rows
from sentenc.retrieval.validation import (
    are_numbers,
    check_choice,
    check_column,
    check_positive,
    check_texts,
    check_vectors,
    kept_dim,
    kept_part,
    load_encoder,
    matching_encoder,
)
from sentenc.texts import as_text_list

Metric = Literal["cosine", "dot"]


class Index:
    """Nearest neighbors of texts or vectors, with ids and payloads.

    >>> index = Index("cse-en")
    >>> index.add(["A man is playing a guitar.", "The stock market fell."])
    [0, 1]
    >>> index.search("Someone plays an instrument.", k=1)[0].id
    0

    Scores are exact whatever the structure: structures propose, stored vectors decide. Searching is safe
    from any number of threads, also while one of them writes.

    Args:
        encoder: Makes vectors of texts: an :class:`~sentenc.Encoder` or what :func:`sentenc.load` takes.
            None for an index of vectors alone.
        dim: Components kept; needed without an encoder. By default its first ``similarity_dim`` ones.
        metric: ``"cosine"`` (vectors are copied and scaled to unit length) or ``"dot"``.
        kind: ``"exact"`` looks at every item; ``"ivf"``, ``"ivfpq"`` and ``"hnsw"`` are FAISS structures
            (extra ``retrieval``), built by :meth:`optimize`; ``"auto"`` is exact up to 100,000 items and
            ``"ivf"`` beyond.
        store: How vectors are kept on disk: ``"float32"``, ``"float16"``, ``"int8"`` or ``"binary"``, the
            last two calibrated on what the first :meth:`save` saves.

    Raises:
        ValueError: An argument is out of range.
    """

    def __init__(
        self,
        encoder: Encoder | str | os.PathLike[str] | None = None,
        *,
        dim: int | None = None,
        metric: Metric = "cosine",
        kind: str = "auto",
        store: str = "float32",
    ) -> None:
        check_choice("metric", metric, ("cosine", "dot"))
        check_choice("kind", kind, KINDS)
        check_choice("store", store, STORES)
        model, encoder = load_encoder(encoder)
        described = None if encoder is None else {"model": model, "fingerprint": encoder.fingerprint()}
        self.encoder = encoder
        self._manifest = Manifest(
            dim=kept_dim(encoder, dim), metric=metric, kind=kind, store=store, encoder=described
        )  # fmt: skip
        self._rows = Rows()
        self._folder: Path | None = None
        self._lock = threading.RLock()
        self._write_lock: WriteLock | None = None
        self._plain = plain(self.dim)

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        encoder: Encoder | str | os.PathLike[str] | Literal[False] | None = None,
        *,
        force: bool = False,
    ) -> "Index":
        """The index in a folder, memory-mapped: a snapshot that later commits of others do not change.

        Args:
            folder: Where :meth:`save` put it.
            encoder: As for the class; by default the one that built it, if it has a name to load it by.
                False for none, where no text is to be encoded.
            force: Take an encoder whose fingerprint is another than the one that built the index.

        Raises:
            IndexFormatError: It is no index, or damaged.
            IndexMismatchError: The encoder is another one.
        """
        path = Path(folder).expanduser().resolve()
        manifest, rows = persistence.read(path)
        index = cls(dim=manifest.dim, metric=manifest.metric, kind=manifest.kind, store=manifest.store)  # type: ignore[arg-type]
        index._manifest, index._rows, index._folder = manifest, rows, path
        index.encoder = None if encoder is False else matching_encoder(path, manifest, encoder, force)
        return index

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self._manifest.dim

    @property
    def metric(self) -> str:
        """``"cosine"`` or ``"dot"``."""
        return self._manifest.metric

    @property
    def folder(self) -> Path | None:
        """Where the index was opened from or last saved to."""
        return self._folder

    @property
    def notes(self) -> dict[str, Any]:
        """JSON that is kept with the index, for its owner's use; written by :meth:`save`."""
        return self._manifest.notes

    def __len__(self) -> int:
        return self._rows.n_live

    def __contains__(self, name: Any) -> bool:
        try:
            return bool(self._rows.find(check_ids([name]))[0] >= 0)
        except (TypeError, ValueError):
            return False

    def __iter__(self) -> Iterator[Item]:
        """All items, in the order they were added."""
        rows = self._rows
        for segment, start in zip(rows.segments, rows.starts.tolist(), strict=True):
            for row in np.flatnonzero(~rows.deleted[start : start + len(segment)]):
                yield segment.item(int(row))

    def add(
        self,
        texts: Any = None,
        *,
        vectors: npt.ArrayLike | None = None,
        ids: Sequence[Id] | None = None,
        payloads: Sequence[Payload] | None = None,
    ) -> list[Id]:
        """Adds items: all of them, or none if anything is wrong.

        Args:
            texts: n str, to be encoded unless ``vectors`` are given too.
            vectors: (n, dim) numbers.
            ids: n distinct int or str that the index does not have; consecutive int by default.
            payloads: n JSON objects (dict) or None.

        Returns:
            The n ids.

        Raises:
            TypeError: An item is not text, an id or payload is of the wrong type; named by its index.
            ValueError: A vector is not finite or of another length; an id is there already.
        """
        with self._lock:
            items = check_texts(texts)
            made = self._vectors(items, vectors)
            n = len(made)
            names = None if ids is None else check_ids(ids, n)
            if names is not None:
                self._refuse_known(names)
            self._append(made, names, items or [None] * n, check_column("payloads", payloads, n))
            first = self._manifest.next_id - n
            return names if names is not None else list(range(first, first + n))

    def update(
        self,
        ids: Sequence[Id],
        texts: Any = None,
        *,
        vectors: npt.ArrayLike | None = None,
        payloads: Sequence[Payload] | None = None,
    ) -> None:
        """Replaces items; what is not given stays as it is.

        Raises:
            KeyError: There is no such id.
        """
        with self._lock:
            names = check_ids(ids)
            rows = self._rows.known(names)
            items = check_texts(texts)
            if not names:
                return
            old = self._rows.items(rows)
            if items is None and vectors is None:
                made = self._rows.vectors(rows)
            else:
                made = self._vectors(items, vectors)
            if len(made) != len(names):
                raise ValueError(f"{len(made)} items for {len(names)} ids, expected one each")
            if payloads is None:
                payloads = [item.payload for item in old]
            self._append(
                made, names, items or [item.text for item in old],
                check_column("payloads", payloads, len(names)), instead_of=rows,
            )  # fmt: skip

    def delete(self, ids: Sequence[Id]) -> int:
        """Deletes items; ids that are not there are passed over. Returns how many were."""
        with self._lock:
            rows = self._rows.find(check_ids(ids))
            rows = rows[rows >= 0]
            if len(rows):
                self._begin_write()
                self._rows = self._rows.without(rows)
            return len(rows)

    def optimize(self, target_recall: float = 0.95) -> None:
        """Throws out deleted items if they are many, and builds the structure that ``kind`` asks for.

        What is there is left alone while the structure covers nine tenths of the items.

        Args:
            target_recall: With a structure, recall at 10 against exact search is measured for rising
                effort, and the least that reaches this is used from then on; see :meth:`info`.
        """
        if not 0 < target_recall <= 1:
            raise ValueError(f"target_recall is {target_recall!r}, expected a number above 0, 1 at most")
        with self._lock:
            held, before = self._write_lock, self._rows
            self._begin_write()
            try:
                self._rows = optimized(before, self._manifest, self._folder, target_recall)
            finally:
                if held is None and self._rows is before:
                    self.close()

    def save(self, folder: str | os.PathLike[str] | None = None) -> None:
        """Writes the index: all that has changed, or nothing.

        In the index's own folder only what is new is written. A killed save leaves the last one.

        Args:
            folder: Where to; by default where it was opened from or saved to. An index there is replaced.

        Raises:
            ValueError: There is no folder to default to.
            IndexLockedError: Another writer is at it.
        """
        with self._lock:
            path = self._folder if folder is None else Path(folder).expanduser().resolve()
            if path is None:
                raise ValueError("the index has no folder yet, expected save(folder)")
            if path == self._folder and (path / MANIFEST).exists():
                self._begin_write()
                self._manifest, self._rows = persistence.commit(path, self._manifest, self._rows)
            else:
                self._manifest, self._rows = persistence.create(path, self._manifest, self._rows)
                self._folder = path
            self.close()

    def close(self) -> None:
        """Lets others write to the folder; changes since the last save stay in memory only."""
        with self._lock:
            if self._write_lock is not None:
                self._write_lock.release()
                self._write_lock = None

    def search(self, queries: Any, k: int = 10) -> Any:
        """The nearest items.

        Args:
            queries: A str or a vector (dim,); or n str, or an array (n, dim).
            k: At most so many; never more than there are.

        Returns:
            list[Hit], best first, for a single query; list[list[Hit]] for n of them. Equal scores are
            ranked by age, the older item first.

        Raises:
            ValueError: A vector is not finite or of another length; k is not 1 or more; text is asked
                of an index without an encoder.
            TypeError: A query is neither text nor a vector.
        """
        k = check_positive("k", k)
        single, vectors = self._queries(queries)
        rows = self._rows
        scores, found = rows.search(vectors, k, self._manifest.kind, self._manifest.store)
        hits = rows.hits(scores, found)
        return hits[0] if single else hits

    def get(self, ids: Sequence[Id]) -> list[Item]:
        """The items of some ids.

        Raises:
            KeyError: There is no such id.
        """
        snapshot = self._rows
        return snapshot.items(snapshot.known(check_ids(ids)))

    def info(self) -> dict[str, Any]:
        """What the index is: items, settings, structure and its measured recall, size on disk."""
        rows, manifest = self._rows, self._manifest
        structure = None if rows.structure is None else rows.structure.describe()
        return {
            "items": rows.n_live,
            "deleted": int(rows.deleted.sum()),
            "dim": manifest.dim,
            "metric": manifest.metric,
            "kind": manifest.kind,
            "store": manifest.store,
            "encoder": (manifest.encoder or {}).get("model"),
            "fingerprint": (manifest.encoder or {}).get("fingerprint"),
            "searched by": rows.searched_by(manifest.kind, manifest.store),
            "to be searched by": structure_kind(manifest.kind, manifest.store, rows.n_live),
            "structure": structure,
            "segments": len(rows.segments),
            "bytes": sum(entry["bytes"] for entry in manifest.files.values()),
            "folder": None if self._folder is None else str(self._folder),
        }  # fmt: skip

    def verify(self) -> None:
        """Checks the size and SHA-256 of every file; raises IndexFormatError if one is not what was saved."""
        if self._folder is None:
            raise ValueError("the index has no folder yet, expected a saved one")
        check_hashes(self._folder, read_manifest(self._folder))

    def _vectors(self, texts: list[str] | None, vectors: npt.ArrayLike | None) -> FloatArray:
        if vectors is None:
            if texts is None:
                raise ValueError("got neither texts nor vectors, expected one or both")
            vectors = self._encode(texts)
        vectors = kept_part(vectors, self.encoder, self.dim)
        limit = 65504.0 if self._manifest.store == "float16" else math.inf
        made = check_vectors("vectors", vectors, self.dim, self.metric == "cosine", limit)
        if texts is not None and len(texts) != len(made):
            raise ValueError(f"{len(texts)} texts for {len(made)} vectors, expected one each")
        return made

    def _queries(self, queries: Any) -> tuple[bool, FloatArray]:
        if isinstance(queries, str):
            single, vectors = True, self._encode([queries])
        elif are_numbers(queries):
            vectors = kept_part(np.asarray(queries), self.encoder, self.dim)
            single = vectors.ndim == 1
            vectors = vectors[None] if single else vectors
        else:
            single, vectors = False, self._encode(as_text_list(queries))
        return single, check_vectors("queries", vectors, self.dim, self.metric == "cosine")

    def _encode(self, texts: list[str]) -> FloatArray:
        if self.encoder is None:
            raise ValueError("the index has no encoder, expected vectors, or Index.open(folder, encoder=...)")
        vectors: FloatArray = self.encoder.encode(texts, truncate_dim=self.dim)
        return vectors

    def _refuse_known(self, names: list[Id]) -> None:
        known = np.flatnonzero(self._rows.find(names) >= 0)
        if len(known):
            raise ValueError(
                f"ids[{known[0]}] is {names[known[0]]!r}, which the index has already: update() replaces"
            )

    def _append(
        self,
        vectors: FloatArray,
        ids: list[Id] | None,
        texts: Sequence[str | None],
        payloads: Sequence[Payload],
        instead_of: npt.NDArray[np.int64] | None = None,
    ) -> None:
        if len(vectors) == 0:
            return
        first = self._manifest.next_id
        names = list(range(first, first + len(vectors))) if ids is None else ids
        segment = Segment.create(vectors, self._plain, names, texts, payloads, first if ids is None else None)
        self._begin_write()
        rows = self._rows if instead_of is None else self._rows.without(instead_of)
        self._rows = rows.with_segment(segment)
        # Ids that count up never meet one that was given.
        highest = max((name for name in names if not isinstance(name, str)), default=-1)
        self._manifest.next_id = max(first, highest + 1)

    def _begin_write(self) -> None:
        # From the first change until it is saved, nobody else writes to the folder.
        if self._folder is None or self._write_lock is not None:
            return
        self._write_lock = WriteLock(self._folder, self._manifest)
