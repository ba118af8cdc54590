"""The index: hybrid search over texts or vectors, in memory or in a folder."""

import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.forking import after_fork
from sentenc.retrieval import persistence
from sentenc.retrieval.ann import KINDS
from sentenc.retrieval.compaction import optimized
from sentenc.retrieval.encoding import item_vectors, read_queries
from sentenc.retrieval.filters import compile_filter
from sentenc.retrieval.info import index_info
from sentenc.retrieval.items import Id, Item, Payload, check_ids
from sentenc.retrieval.lexical.analysis import Analyzer
from sentenc.retrieval.manifest import MANIFEST, Manifest, WriteLock, check_hashes, read_manifest
from sentenc.retrieval.quantization import STORES, FloatArray, plain
from sentenc.retrieval.searching import SearchOptions, describe_filter, search
from sentenc.retrieval.segments import Segment
from sentenc.retrieval.snapshot import Snapshot
from sentenc.retrieval.validation import (
    check_choice,
    check_column,
    check_texts,
    load_encoder,
    matching_encoder,
    stored_dim,
)
from sentenc.retrieval.words import opened_analyzer, with_words, word_settings

Metric = Literal["cosine", "dot"]
Mode = Literal["hybrid", "vector", "lexical"]


class Index:
    """Searches texts by vectors and words, or vectors alone, with ids and payloads.

    >>> index = Index("cse-en")
    >>> index.add(["A man is playing a guitar.", "The stock market fell."])
    [0, 1]
    >>> index.search("Someone plays an instrument.", k=1)[0].id
    0

    Texts are found by their vectors and, with BM25, by their words. Scores are exact with any kind of index, because the candidates of an ANN index are compared by their
    stored vectors. Any number of threads may search, also while one of them writes.

    Args:
        encoder: Encodes texts: an :class:`~sentenc.Encoder` or an argument of :func:`sentenc.load`.
            None for an index of vectors alone.
        dim: Number of leading components that are stored; required without an encoder. By default the
            encoder's ``similarity_dim``, so that a score equals ``encoder.similarity``.
        metric: ``"cosine"`` (vectors are copied and scaled to unit length) or ``"dot"``.
        kind: ``"exact"`` compares every item; ``"ivf"``, ``"ivfpq"`` and ``"hnsw"`` are ANN indexes of FAISS
            (extra ``retrieval``), built by :meth:`optimize`; ``"auto"`` is exact up to 100,000 items and
            ``"ivf"`` beyond.
        store: Type of the vectors on disk: ``"float32"``, ``"float16"``, ``"int8"`` or ``"binary"``. The
            last two are calibrated on the vectors of the first :meth:`save`.
        words: Whether texts are indexed by their words as well. Otherwise only their vectors are searched.
        language: Code of ISO 639 of the texts, which chooses the stemmer; by default that of the encoder's
            metadata. ``"und"`` for none.

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
        words: bool = True,
        language: str | None = None,
    ) -> None:
        check_choice("metric", metric, ("cosine", "dot"))
        check_choice("kind", kind, KINDS)
        check_choice("store", store, STORES)
        model, encoder = load_encoder(encoder)
        described = None if encoder is None else {"model": model, "fingerprint": encoder.fingerprint()}
        self.encoder = encoder
        dim = stored_dim(encoder, dim)
        self._manifest = Manifest(dim=dim, metric=metric, kind=kind, store=store, encoder=described)
        self._analyzer: Analyzer | None = None
        if words:
            self._manifest.words = word_settings(language, encoder)
            self._analyzer = Analyzer(self._manifest.words["language"])
        self._snapshot = Snapshot()
        self._folder: Path | None = None
        self._lock = threading.RLock()
        self._write_lock: WriteLock | None = None
        after_fork(self, Index._forget_locks)
        self._plain = plain(self.dim)

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        encoder: Encoder | str | os.PathLike[str] | Literal[False] | None = None,
        *,
        force: bool = False,
    ) -> "Index":
        """Opens the index in a folder, memory-mapped; later commits of other writers do not change it.

        Args:
            folder: A folder written by :meth:`save`.
            encoder: As for the class; by default the encoder that built the index, if it can be loaded by a
                name. False for none, if no text will be encoded.
            force: Accept an encoder whose fingerprint differs from that of the encoder that built the index.

        Raises:
            IndexFormatError: The folder is not an index, or is damaged.
            IndexMismatchError: Another encoder built the index.
        """
        path = Path(folder).expanduser().resolve()
        manifest, snapshot = persistence.read(path)
        settings: dict[str, Any] = {"metric": manifest.metric, "kind": manifest.kind, "store": manifest.store}
        index = cls(dim=manifest.dim, **settings)
        index._manifest, index._snapshot, index._folder = manifest, snapshot, path
        index._analyzer = opened_analyzer(path, manifest.words)
        index.encoder = None if encoder is False else matching_encoder(path, manifest, encoder, force)
        return index

    @property
    def dim(self) -> int:
        """Number of dimensions of the stored vectors."""
        return self._manifest.dim

    @property
    def metric(self) -> str:
        """``"cosine"`` or ``"dot"``."""
        return self._manifest.metric

    @property
    def folder(self) -> Path | None:
        """The folder from which the index was opened or to which it was last saved; None before."""
        return self._folder

    @property
    def notes(self) -> dict[str, Any]:
        """JSON values for the use of the index's owner; :meth:`save` writes them with the index."""
        return self._manifest.notes

    def __len__(self) -> int:
        return self._snapshot.n_live

    def __contains__(self, name: Any) -> bool:
        try:
            return bool(self._snapshot.find(check_ids([name]))[0] >= 0)
        except (TypeError, ValueError):
            return False

    def __iter__(self) -> Iterator[Item]:
        """Yields all items in the order in which they were added."""
        snapshot = self._snapshot
        for segment, start in zip(snapshot.segments, snapshot.starts.tolist(), strict=True):
            for row in np.flatnonzero(~snapshot.deleted[start : start + len(segment)]):
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
            texts: n str; they are encoded unless ``vectors`` are passed as well.
            vectors: (n, dim) numbers.
            ids: n distinct int or str that the index does not contain; consecutive int by default.
            payloads: n JSON objects (dict) or None.

        Returns:
            The n ids.

        Raises:
            TypeError: An item is not text, or an id or payload has the wrong type; the message has its index.
            ValueError: A vector is not finite or has another length, or the index already contains an id.
        """
        with self._lock:
            items = check_texts(texts)
            matrix = item_vectors(items, vectors, self.encoder, self._manifest)
            n = len(matrix)
            names = None if ids is None else check_ids(ids, n)
            if names is not None:
                self._snapshot.check_new(names)
            self._append(matrix, names, items or [None] * n, check_column("payloads", payloads, n))
            first = self._manifest.next_id - n
            return names or list(range(first, first + n))

    def update(
        self,
        ids: Sequence[Id],
        texts: Any = None,
        *,
        vectors: npt.ArrayLike | None = None,
        payloads: Sequence[Payload] | None = None,
    ) -> None:
        """Replaces items; texts, vectors or payloads that are not passed do not change.

        Raises:
            KeyError: The index does not contain an id.
        """
        with self._lock:
            names = check_ids(ids)
            rows = self._snapshot.known(names)
            new_texts = check_texts(texts)
            if not names:
                return
            old = self._snapshot.items(rows)
            if new_texts is None and vectors is None:
                matrix = self._snapshot.vectors(rows)
            else:
                matrix = item_vectors(new_texts, vectors, self.encoder, self._manifest)
            if len(matrix) != len(names):
                raise ValueError(f"{len(matrix)} items for {len(names)} ids, expected one each")
            payloads = [item.payload for item in old] if payloads is None else payloads
            payloads = check_column("payloads", payloads, len(names))
            self._append(matrix, names, new_texts or [item.text for item in old], payloads, replaced=rows)

    def delete(self, ids: Sequence[Id]) -> int:
        """Deletes items and ignores unknown ids; returns the number of deleted items."""
        with self._lock:
            rows = self._snapshot.find(check_ids(ids))
            rows = rows[rows >= 0]
            if len(rows):
                self._begin_write()
                self._snapshot = self._snapshot.without(rows)
            return len(rows)

    def optimize(self, target_recall: float = 0.95) -> None:
        """Removes deleted items, and builds the ANN index of the index's ``kind``.

        Deleted items are removed if they are more than a tenth of all items. An ANN index that covers nine
        tenths of the items is not rebuilt.

        Args:
            target_recall: Recall at 10, measured when an ANN index is built. Searches then use the least
                effort that reaches it; see :meth:`info`.
        """
        if not 0 < target_recall <= 1:
            raise ValueError(f"target_recall is {target_recall!r}, expected a number above 0 and at most 1")
        with self._lock:
            was_locked, before = self._write_lock is not None, self._snapshot
            self._begin_write()
            try:
                self._snapshot = optimized(before, self._manifest, self._folder, target_recall)
            finally:
                if not was_locked and self._snapshot is before:
                    self.close()

    def index_words(self, language: str | None = None) -> None:
        """Indexes the texts by their words, for an index without them or with those of another language.

        All stored texts are read, and the next :meth:`save` writes all items. Their postings are in memory until
        then: some 400 bytes for a text of 100 words.

        Args:
            language: As for the class.
        """
        with self._lock:
            settings = word_settings(language, self.encoder)
            analyzer = Analyzer(settings["language"])
            self._begin_write()
            self._snapshot = with_words(self._snapshot, analyzer)
            self._manifest.words, self._analyzer = settings, analyzer

    def save(self, folder: str | os.PathLike[str] | None = None) -> None:
        """Writes the index atomically: all changes, or none.

        In the index's own folder only the changes are written. If a save is killed, the previous one remains.

        Args:
            folder: The folder, by default that of :attr:`folder`. An existing index is replaced.

        Raises:
            ValueError: The index has no folder yet, and none is passed.
            IndexLockedError: Another writer is writing to the index.
        """
        with self._lock:
            path = self._folder if folder is None else Path(folder).expanduser().resolve()
            if path is None:
                raise ValueError("the index has no folder yet: call save(folder)")
            if path == self._folder and (path / MANIFEST).exists():
                self._begin_write()
                self._manifest, self._snapshot = persistence.commit(path, self._manifest, self._snapshot)
            else:
                self._manifest, self._snapshot = persistence.create(path, self._manifest, self._snapshot)
                self._folder = path
            self.close()

    def close(self) -> None:
        """Releases the folder to other writers; changes since the last save remain in memory."""
        with self._lock:
            if self._write_lock is not None:
                self._write_lock.release()
                self._write_lock = None

    def search(
        self,
        queries: Any,
        k: int = 10,
        *,
        mode: Mode | None = None,
        alpha: float | None = None,
        vectors: npt.ArrayLike | None = None,
        where: Mapping[str, Any] | None = None,
    ) -> Any:
        """Returns the best items, or the best of those whose payloads meet a filter.

        >>> index.search("wine", k=3, where={"country": "France", "year": {"gte": 2000}})

        Args:
            queries: A str or a vector (dim,); or n str, or an array (n, dim).
            k: Maximum number of items per query.
            mode: ``"hybrid"`` ranks by the weighted sum of the z-scores of vectors and words, ``"vector"`` by the
                vectors alone, ``"lexical"`` by BM25 alone. By default hybrid for texts if the index has texts,
                lexical for them if it has no encoder, and vector otherwise.
            alpha: Weight of the vectors in hybrid search, 0 to 1; by default that of the model.
            vectors: The vectors of texts (n, dim), if they have been computed already.
            where: A filter on payloads; :mod:`sentenc.retrieval.filters` describes its fields and operators.
                If k items match, k are returned. The first filter on a field reads all payloads once.

        Returns:
            list[Hit], best first, for a single query; list[list[Hit]] for n of them. Equal scores are
            ranked by age, the older item first.

        Raises:
            ValueError: A vector is not finite or has another length, k is below 1, alpha is out of range, the
                mode needs texts or words that are missing, texts have no encoder, or the filter has an unknown
                operator.
            TypeError: A query is neither text nor a vector, or a part of the filter has the wrong type.
        """
        options = SearchOptions(k, mode, alpha, None if where is None else compile_filter(where))
        read = read_queries(queries, vectors, self.encoder, self.dim)
        # One snapshot for all steps of the search: another thread may write between them.
        hits = search(self._snapshot, self._manifest, read, options, self.encoder, self._analyzer)
        return hits[0] if read.single else hits

    def describe_filter(self, where: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the number of items that meet a filter, and the kinds of values in its fields.

        Returns:
            ``{"items": number, "fields": {field: {kind: number}}}``: of each field, the number of items with a
            null, bool, number, string or object. An item whose list has several kinds counts for each.
        """
        return describe_filter(self._snapshot, compile_filter(where))

    def get(self, ids: Sequence[Id]) -> list[Item]:
        """Returns the items with the given ids; raises KeyError if the index does not contain one."""
        snapshot = self._snapshot
        return snapshot.items(snapshot.known(check_ids(ids)))

    def info(self) -> dict[str, Any]:
        """Returns the number of items, the settings, the ANN index with its recall, and the size on disk."""
        return index_info(self._snapshot, self._manifest, self._folder)

    def verify(self) -> None:
        """Checks the size and SHA-256 of every file; raises IndexFormatError if a file has changed."""
        if self._folder is None:
            raise ValueError("the index has no folder yet: save it first")
        check_hashes(self._folder, read_manifest(self._folder))

    def _append(
        self,
        vectors: FloatArray,
        ids: list[Id] | None,
        texts: Sequence[str | None],
        payloads: Sequence[Payload],
        replaced: npt.NDArray[np.int64] | None = None,
    ) -> None:
        if len(vectors) == 0:
            return
        first = self._manifest.next_id
        names = list(range(first, first + len(vectors))) if ids is None else ids
        first_id = first if ids is None else None
        segment = Segment.create(vectors, self._plain, names, texts, payloads, first_id, self._analyzer)
        self._begin_write()
        snapshot = self._snapshot if replaced is None else self._snapshot.without(replaced)
        self._snapshot = snapshot.with_segment(segment)
        # Ids that are assigned later never equal one that was passed.
        highest = max((name for name in names if not isinstance(name, str)), default=-1)
        self._manifest.next_id = max(first, highest + 1)

    def _forget_locks(self) -> None:
        # In a forked child: the lock may be that of a thread of the parent, and the folder is the parent's.
        self._lock = threading.RLock()
        self._write_lock = None

    def _begin_write(self) -> None:
        # From the first change until the save, no other writer may write to the folder.
        if self._folder is None or self._write_lock is not None:
            return
        self._write_lock = WriteLock(self._folder, self._manifest)
