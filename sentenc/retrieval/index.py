"""The index: hybrid search over texts or vectors, in memory or in a folder."""

import os
import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.forking import after_fork
from sentenc.retrieval import persistence
from sentenc.retrieval.adding import (
    ChunkTokens,
    NewItems,
    new_segment,
    note_addition,
    read_chunking,
    read_items,
    stored_items,
)
from sentenc.retrieval.ann import KINDS
from sentenc.retrieval.arrow import Columns, read_table
from sentenc.retrieval.arrow_metadata import described_alpha, described_next_id
from sentenc.retrieval.from_arrow import items_of_table, table_encoder
from sentenc.retrieval.index_encoders import IndexEncoders, opened_encoders
from sentenc.retrieval.index_maintenance import IndexMaintenance
from sentenc.retrieval.index_reader import IndexState
from sentenc.retrieval.items import Id, Payload, check_ids
from sentenc.retrieval.manifest import MANIFEST, METRICS, Manifest
from sentenc.retrieval.quantization import STORES
from sentenc.retrieval.reranking import Rerankers
from sentenc.retrieval.snapshot import Snapshot
from sentenc.retrieval.validation import (
    check_choice,
    check_column,
    check_texts,
    described_encoder,
    folder_path,
    load_encoder,
    stored_dim,
)
from sentenc.retrieval.words import opened_analyzer, word_settings
from sentenc.threads import Threads, stated_threads
from sentenc.tokenization.analysis import Analyzer

Metric = Literal["cosine", "dot"]


class Index(IndexMaintenance):
    """Searches texts by vectors and words, or vectors alone, with ids and payloads.

    >>> index = Index("cse-en")
    >>> index.add(["A man is playing a guitar.", "The stock market fell."])
    [0, 1]
    >>> index.search("Someone plays an instrument.", k=1)[0].id
    0

    A search compares texts with the query by their vectors and, with BM25, by their words. Scores are exact with
    any kind of index, because the candidates of an ANN index are compared by their stored vectors. Any number of
    threads may search, also while one of them writes.

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
        chunk_tokens: As for :meth:`add`.
        overlap: As for :meth:`add`.
        rerank_store: An encoder or an argument of :func:`sentenc.load`. Its vectors of all texts are stored as
            well, so that a search with ``rerank`` need not compute them.

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
        chunk_tokens: ChunkTokens = None,
        overlap: int | None = None,
        rerank_store: Encoder | str | os.PathLike[str] | None = None,
    ) -> None:
        check_choice("metric", metric, METRICS)
        check_choice("kind", kind, KINDS)
        check_choice("store", store, STORES)
        model, encoder = load_encoder(encoder)
        described = None if encoder is None else described_encoder(model, encoder)
        dim = stored_dim(encoder, dim)
        manifest = Manifest(dim=dim, metric=metric, kind=kind, store=store, encoder=described)
        analyzer = None
        if words:
            manifest.words = word_settings(language, encoder)
            analyzer = Analyzer(manifest.words["language"])
        chunking = read_chunking(chunk_tokens, overlap, encoder, None)
        manifest.chunking = None if chunking is None else chunking.to_dict()
        self._state = IndexState(Snapshot(), manifest, IndexEncoders.of(encoder), analyzer)
        self._folder = None
        self._lock = threading.RLock()
        self._write_lock = None
        after_fork(self, Index._forget_locks)
        self._rerankers = Rerankers()
        if rerank_store is not None:
            self.add_reranker(rerank_store)

    @classmethod
    def open(
        cls,
        folder: str | os.PathLike[str],
        encoder: Encoder | str | os.PathLike[str] | Literal[False] | None = None,
        *,
        force: bool = False,
        threads: Threads | None = None,
    ) -> "Index":
        """Opens the index in a folder, memory-mapped; later commits of other writers do not change it.

        Args:
            folder: A folder written by :meth:`save`.
            encoder: As for the class; by default the encoder that built the index, if it can be loaded by a
                name. If the index has an encoder of queries, both are loaded when they are first used. An encoder
                that is passed encodes the queries too. False for none, if no text will be encoded.
            force: Accept an encoder whose space differs from that of the encoder that built the index.
            threads: The number of threads of encoders that are loaded by a name; by default (``"auto"``) all cores.

        Raises:
            IndexFormatError: The folder is not an index, or is damaged.
            IndexMismatchError: An encoder of another space built the index.
        """
        path = folder_path(folder)
        manifest, snapshot = persistence.read(path)
        settings: dict[str, Any] = {"metric": manifest.metric, "kind": manifest.kind, "store": manifest.store}
        index = cls(dim=manifest.dim, **settings)
        encoders = opened_encoders(path, manifest, encoder, force, stated_threads(threads))
        index._state = IndexState(snapshot, manifest, encoders, opened_analyzer(path, manifest.words))
        index._folder = path
        return index

    @classmethod
    def from_arrow(
        cls,
        table: Any,
        encoder: Encoder | str | os.PathLike[str] | Literal[False] | None = None,
        *,
        dim: int | None = None,
        metric: Metric | None = None,
        kind: str = "auto",
        store: str = "float32",
        words: bool = True,
        language: str | None = None,
        id: str = "id",
        text: str = "text",
        embedding: str = "embedding",
        payload: str = "payload",
        force: bool = False,
    ) -> "Index":
        """Creates an index of the rows of an Arrow table with vectors, which are not computed again.

        The table is that of :meth:`to_arrow`, of ``Encoder.encode_table``, or any other with a column of vectors.

        Args:
            table: A ``pyarrow.Table`` or ``RecordBatch``.
            encoder: Encodes queries and later items; by default the model that the schema states. False for none.
            dim: Number of leading components that are stored; by default all, or the encoder's
                ``similarity_dim`` if the table has all of its components.
            metric: As for the class; by default that of the schema, or else ``"cosine"``.
            kind: As for the class.
            store: As for the class.
            words: As for the class.
            language: As for the class; by default that of the schema.
            id: Name of the column of ids. A table without it has consecutive ids.
            text: Name of the column of texts. A table without it has vectors alone.
            embedding: Name of the column of vectors: lists of numbers.
            payload: Name of the column of payloads, strings of JSON or structs. In a table without it, all other
                columns are fields of the payload.
            force: Accept an encoder of another space than that of the schema.

        Raises:
            IndexMismatchError: The encoder has another space than the vectors of the table.
            TypeError: A column has the wrong type.
            ValueError: A column is missing or occurs twice, a vector is null, not finite or of another length, or
                the metadata of the schema are damaged.
        """
        items = read_table(table, Columns(id, text, embedding, payload))
        loaded, described = table_encoder(items, encoder, force)
        width = items.vectors.shape[1]
        if dim is None:
            dim = loaded.similarity_dim if loaded is not None and width == loaded.dim else width
        stated = items.described.get("metric", "cosine")
        settings: dict[str, Any] = {"metric": stated if metric is None else metric, "kind": kind}
        language = items.described.get("language") if language is None else language
        index = cls(loaded, dim=dim, store=store, words=words, language=language, **settings)
        if loaded is None and encoder is None and described is not None:
            index._state = index._state._replace(encoders=IndexEncoders(unnamed=True))
        manifest = index._manifest
        manifest.encoder = manifest.encoder if described is None else described
        alpha = described_alpha(items.described)
        if manifest.words is not None and alpha is not None:
            manifest.words["alpha"] = alpha
        new = items_of_table(items, manifest)
        ids = None if items.ids is None else check_ids(items.ids, len(new))
        index._append(new, ids, items.payloads)
        # The ids of deleted items are not assigned again.
        manifest.next_id = max(manifest.next_id, described_next_id(items.described))
        return index

    def add(
        self,
        texts: Any = None,
        *,
        vectors: npt.ArrayLike | None = None,
        ids: Sequence[Id] | None = None,
        payloads: Sequence[Payload] | None = None,
        chunk_tokens: ChunkTokens = None,
        overlap: int | None = None,
    ) -> list[Id]:
        """Adds items: all of them, or none if anything is wrong.

        Args:
            texts: n str; they are encoded unless ``vectors`` are passed as well.
            vectors: (n, dim) numbers.
            ids: n distinct int or str that the index does not contain; consecutive int by default.
            payloads: n JSON objects (dict) or None.
            chunk_tokens: Maximum number of tokens of a passage. Longer texts are divided into passages, and a
                search returns an item once, with its best passage. ``"auto"`` is 256, or the encoder's
                ``max_tokens`` if that is less; 0 divides no text. By default as in the last call that passed
                it, also for :meth:`update`; in a new index no text is divided. Texts with ``vectors`` are not
                divided either.
            overlap: Maximum number of tokens that consecutive passages share; by default an eighth.

        Returns:
            The n ids.

        Raises:
            TypeError: An item is not text, or an id or payload has the wrong type; the message has its index.
            ValueError: A vector is not finite or has another length, the index already contains an id, or there
                are no consecutive ids of 64 bits left.
        """
        with self._lock:
            new = read_items(
                check_texts(texts), vectors, self._state.encoders.items, self._manifest, chunk_tokens, overlap
            )
            n = len(new)
            names = None if ids is None else check_ids(ids, n, ordered=True)
            if names is not None:
                self._snapshot.check_new(names)
            self._append(new, names, check_column("payloads", payloads, n))
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
            names = check_ids(ids, ordered=True)
            rows = self._snapshot.known(names)
            new_texts = check_texts(texts)
            if not names:
                return
            old = self._snapshot.items(rows)
            if new_texts is None and vectors is None:
                new = stored_items(self._snapshot, rows, self._manifest)
            else:
                new = read_items(new_texts, vectors, self._state.encoders.items, self._manifest)
            if len(new) != len(names):
                raise ValueError(f"{len(new)} items for {len(names)} ids, expected one each")
            if new.texts is None:
                new = replace(new, texts=[item.text for item in old])
            payloads = [item.payload for item in old] if payloads is None else payloads
            self._append(new, names, check_column("payloads", payloads, len(names)), rows)

    def delete(self, ids: Sequence[Id]) -> int:
        """Deletes items and ignores unknown ids; returns the number of deleted items."""
        with self._lock:
            rows = self._snapshot.find(check_ids(ids))
            rows = rows[rows >= 0]
            if len(rows):
                self._begin_write()
                self._snapshot = self._snapshot.without(np.concatenate(self._snapshot.item_rows(rows)))
            return len(rows)

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
            path = self._folder if folder is None else folder_path(folder)
            if path is None:
                raise ValueError("the index has no folder yet: call save(folder)")
            if path == self._folder and (path / MANIFEST).exists():
                self._begin_write()
                self._manifest, self._snapshot = persistence.commit(path, self._manifest, self._snapshot)
            else:
                self._manifest, self._snapshot = persistence.create(path, self._manifest, self._snapshot)
                self._folder = path
            self.close()

    def _append(
        self,
        new: NewItems,
        ids: list[Id] | None,
        payloads: Sequence[Payload],
        replaced: npt.NDArray[np.int64] | None = None,
    ) -> None:
        if len(new) == 0:
            return
        reranker = self._rerankers.stored(self._manifest.reranker)
        segment = new_segment(new, ids, payloads, self._manifest, self._state.analyzer, reranker)
        self._begin_write()
        note_addition(self._manifest, new, ids)
        snapshot = self._snapshot
        if replaced is not None:
            snapshot = snapshot.without(np.concatenate(snapshot.item_rows(replaced)))
        self._snapshot = snapshot.with_segment(segment)
