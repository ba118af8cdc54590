"""The methods of an index that keep its items and change how they are stored or searched."""

import os
import threading
from dataclasses import replace

from sentenc.encoders.base import Encoder
from sentenc.retrieval.adding import with_reranker
from sentenc.retrieval.compaction import DEFAULT_RECALL, optimized, with_due_ann
from sentenc.retrieval.index_encoders import IndexEncoders
from sentenc.retrieval.index_reader import IndexReader, IndexState
from sentenc.retrieval.manifest import WriteLock
from sentenc.retrieval.reencoding import reencoded, reencoded_settings
from sentenc.retrieval.validation import check_query_encoder, described_encoder, load_encoder
from sentenc.retrieval.words import with_words, word_settings
from sentenc.tokenization.analysis import Analyzer


class IndexMaintenance(IndexReader):
    """The part of :class:`~sentenc.Index` that compacts it and recomputes its ANN index, words and vectors."""

    _lock: threading.RLock
    _write_lock: WriteLock | None

    def optimize(self, target_recall: float = DEFAULT_RECALL) -> None:
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
        """Indexes the texts by their words: of an index without them, in another language or with other stemmers.

        All stored texts are read, and the next :meth:`save` writes all items. Their postings are in memory until
        then: some 400 bytes for a text of 100 words.

        Args:
            language: As for the class; by default that of the index, if it has words. Its weight of the vectors in
                hybrid search does not change either.
        """
        with self._lock:
            stored = self._manifest.words
            if stored is None:
                settings = word_settings(language, self.encoder)
            else:
                settings = word_settings(language or stored["language"], None) | {"alpha": stored["alpha"]}
            analyzer = Analyzer(settings["language"])
            self._begin_write()
            snapshot = with_words(self._snapshot, analyzer)
            manifest = replace(self._manifest, words=settings)
            self._state = IndexState(snapshot, manifest, self._state.encoders, analyzer)

    def add_reranker(self, encoder: Encoder | str | os.PathLike[str] | None) -> None:
        """Stores the vectors of a reranker for all items, also for those that are added later.

        A search with this ``rerank`` then compares them, instead of encoding its candidates. An index stores
        the vectors of one reranker, in float16. The next :meth:`save` writes all items.

        Args:
            encoder: An encoder or an argument of :func:`sentenc.load`; None removes the stored vectors.

        Raises:
            ValueError: An item has no text.
        """
        reranker = None if encoder is None else self._rerankers.of_encoder(encoder)
        with self._lock:
            snapshot = with_reranker(self._snapshot, None if reranker is None else reranker.encoder)
            self._begin_write()
            self._snapshot = snapshot
            self._rerankers.store(reranker)
            self._manifest.reranker = None if reranker is None else reranker.described

    def reencode(
        self,
        encoder: Encoder | str | os.PathLike[str],
        *,
        dim: int | None = None,
        show_progress_bar: bool = False,
    ) -> None:
        """Replaces all vectors by those of another encoder, which becomes that of the index.

        The vectors are computed from the stored texts. Ids, payloads, passages, words, and the vectors of a
        reranker do not change; an ANN index is rebuilt. An encoder of queries is removed if it is of another
        space. Nothing in the folder changes before the next :meth:`save`, which writes all items: until then,
        every reader has the old vectors.

        The new vectors are written to the folder as they are computed, float32, so that memory is bounded. If the
        process is killed, the next call with the same encoder and the same items resumes.

        Args:
            encoder: An encoder or an argument of :func:`sentenc.load`.
            dim: Number of leading components that are stored; by default the encoder's ``similarity_dim``.
            show_progress_bar: Draw a progress bar on standard error.

        Raises:
            ValueError: An item has no text.
        """
        model, loaded = load_encoder(encoder)
        if loaded is None:
            raise TypeError("encoder is None, expected an Encoder, a name or a folder")
        with self._lock:
            was_locked, before = self._write_lock is not None, self._state
            manifest = reencoded_settings(before.manifest, loaded, model, dim)
            self._begin_write()
            try:
                snapshot = reencoded(before.snapshot, loaded, manifest, self._folder, show_progress_bar)
                if before.snapshot.ann is not None:
                    snapshot = with_due_ann(snapshot, manifest, self._folder, DEFAULT_RECALL)
                encoders = IndexEncoders.of(loaded)
                if manifest.query_encoder is not None:
                    encoders = replace(encoders, queries=before.encoders.queries)
                self._state = before._replace(snapshot=snapshot, manifest=manifest, encoders=encoders)
            finally:
                if not was_locked and self._state is before:
                    self.close()

    def set_query_encoder(self, encoder: Encoder | str | os.PathLike[str] | None) -> None:
        """Sets a faster encoder for queries, of the space of the index. The next :meth:`save` stores its name.

        Searches then use it, unless they ask for ``queries="exact"``. An index that is opened from its folder loads
        this encoder alone, and that of its items when it is needed.

        Args:
            encoder: An encoder or an argument of :func:`sentenc.load`; None removes it. An encoder without a name
                must be set again after the index was opened.

        Raises:
            ValueError: It has another space than the encoder of the items, or fewer dimensions than the index.
        """
        model, loaded = load_encoder(encoder)
        with self._lock:
            described = None
            if loaded is not None:
                check_query_encoder(loaded, self._manifest, self.encoder)
                described = described_encoder(model, loaded) | {"items": len(self)}
            self._begin_write()
            encoders = replace(self._state.encoders, queries=IndexEncoders.of(loaded).items)
            manifest = replace(self._manifest, query_encoder=described)
            self._state = self._state._replace(encoders=encoders, manifest=manifest)

    def close(self) -> None:
        """Releases the folder to other writers; changes since the last save remain in memory."""
        with self._lock:
            if self._write_lock is not None:
                self._write_lock.release()
                self._write_lock = None

    def _forget_locks(self) -> None:
        # In a forked child: the lock may be that of a thread of the parent, and the folder is the parent's.
        self._lock = threading.RLock()
        self._write_lock = None

    def _begin_write(self) -> None:
        # From the first change until the save, no other writer may write to the folder.
        if self._folder is None or self._write_lock is not None:
            return
        self._write_lock = WriteLock(self._folder, self._manifest)
