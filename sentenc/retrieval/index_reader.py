"""The methods of an index that change nothing: search, look-up, and its description."""

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.encoders.lazy import LazyEncoder
from sentenc.io.text_vectors import TextVectors
from sentenc.retrieval.arrow import arrow_table
from sentenc.retrieval.encoding import read_queries
from sentenc.retrieval.filters import compile_filter
from sentenc.retrieval.index_encoders import IndexEncoders, Speed
from sentenc.retrieval.info import index_info
from sentenc.retrieval.items import Id, Item, check_ids
from sentenc.retrieval.manifest import Manifest, verify
from sentenc.retrieval.modes import MODES, Mode, default_mode
from sentenc.retrieval.reranking import DEFAULT_CANDIDATES, Rerank, Rerankers
from sentenc.retrieval.searching import SearchOptions, describe_filter, search
from sentenc.retrieval.snapshot import Snapshot
from sentenc.retrieval.text_vectors import stored_text_vectors
from sentenc.retrieval.validation import check_choice
from sentenc.tokenization.analysis import Analyzer


class IndexState(NamedTuple):
    """The parts of an index that a search uses.

    They are replaced together, so that a search of another thread sees all of one state.
    """

    snapshot: Snapshot
    manifest: Manifest
    encoders: IndexEncoders
    analyzer: Analyzer | None


class IndexReader:
    """The reading half of :class:`~sentenc.Index`. Any number of threads may use it."""

    _state: IndexState
    _folder: Path | None
    _rerankers: Rerankers

    @property
    def encoder(self) -> Encoder | None:
        """The encoder of items, and of queries if there is no other; None for an index of vectors alone."""
        items = self._state.encoders.items
        return None if items is None else items.encoder

    @property
    def query_encoder(self) -> Encoder | None:
        """The encoder of fast queries: that of :meth:`set_query_encoder`, or of a pair; None if there is none."""
        encoders = self._state.encoders
        chosen = encoders.for_queries("fast") if "fast" in encoders.speeds() else None
        return None if chosen is None else chosen.encoder

    @property
    def query_speeds(self) -> list[Speed]:
        """The speeds of queries: ``"fast"``, ``"exact"``, both or neither; the default is the first."""
        return self._state.encoders.speeds()

    @property
    def modes(self) -> list[Mode]:
        """The modes of a search for texts that have vectors or an encoder; the default is the first."""
        state = self._state
        if state.analyzer is None:
            return ["vector"]
        default = default_mode(texts=True, words=state.snapshot.moments is not None, vectors=True)
        return list(dict.fromkeys([default, *MODES]))

    def query_source(self, speed: Speed) -> LazyEncoder:
        """Returns the encoder of fast or exact queries, which is loaded when it is first used.

        Raises:
            ValueError: There is none.
        """
        if speed not in self.query_speeds:
            raise ValueError(
                f"speed is {speed!r}, expected one of this index: {', '.join(self.query_speeds) or 'none'}"
            )
        return LazyEncoder(partial(self._state.encoders.encoder_of_queries, speed))

    @property
    def _snapshot(self) -> Snapshot:
        return self._state.snapshot

    @_snapshot.setter
    def _snapshot(self, snapshot: Snapshot) -> None:
        self._state = self._state._replace(snapshot=snapshot)

    @property
    def _manifest(self) -> Manifest:
        return self._state.manifest

    @_manifest.setter
    def _manifest(self, manifest: Manifest) -> None:
        self._state = self._state._replace(manifest=manifest)

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
        return self._snapshot.n_items

    def __contains__(self, name: Any) -> bool:
        try:
            return bool(self._snapshot.find(check_ids([name]))[0] >= 0)
        except (TypeError, ValueError):
            return False

    def __iter__(self) -> Iterator[Item]:
        """Yields all items in the order in which they were added."""
        snapshot = self._snapshot
        for segment, start in zip(snapshot.segments, snapshot.starts.tolist(), strict=True):
            firsts = segment.first_rows
            for row in firsts[~snapshot.deleted[start + firsts]].tolist():
                yield segment.item(row)

    def search(
        self,
        query: Any,
        /,
        k: int = 10,
        *,
        queries: Speed | None = None,
        mode: Mode | None = None,
        alpha: float | None = None,
        vectors: npt.ArrayLike | None = None,
        rerank: Rerank | None = None,
        candidates: int = DEFAULT_CANDIDATES,
        where: Mapping[str, Any] | None = None,
    ) -> Any:
        """Returns the best items, or the best of those whose payloads meet a filter.

        >>> index.search("wine", k=3, where={"country": "France", "year": {"gte": 2000}})

        Args:
            query: A str or a vector (dim,); or n str, or an array (n, dim).
            k: Maximum number of items per query.
            queries: ``"fast"`` encodes texts with the encoder of queries, that of :meth:`set_query_encoder` or of a
                pair, and ``"exact"`` with the encoder of the items. By default fast if possible.
            mode: ``"hybrid"`` ranks by the weighted sum of the z-scores of vectors and words, ``"vector"`` by the
                vectors alone, ``"lexical"`` by BM25 alone. By default hybrid for texts if the index has texts,
                lexical for them if it has no encoder, and vector otherwise. If the index was opened without its
                encoder, because that has no name, texts need a mode or ``vectors``.
            alpha: Weight of the vectors in hybrid search, 0 to 1; by default that of the encoder of the
                queries.
            vectors: The vectors of texts (n, dim), if they have been computed already.
            rerank: Reorders the candidates of the search. An encoder, or an argument of
                :func:`sentenc.load`, orders by the weighted sum of its similarities and BM25; a function
                ``(query, texts) -> scores``, such as a cross-encoder, by its scores.
            candidates: Number of items that are reordered; at least k.
            where: A filter on payloads; :mod:`sentenc.retrieval.filters` describes its fields and operators.
                If k items match, k are returned. The first filter on a field reads all payloads once.

        Returns:
            list[Hit], best first, for a single query; list[list[Hit]] for n of them. Equal scores are
            ranked by age, the older item first.

        Raises:
            ValueError: A vector is not finite or has another length, k is below 1, alpha is out of range, the
                mode needs texts or words that are missing, texts have no encoder, the encoder of the index has no
                name and was not passed, there is no such encoder of queries, or the filter has an unknown operator.
            TypeError: A query is neither text nor a vector, or a part of the filter has the wrong type.
        """
        condition = None if where is None else compile_filter(where)
        reranker = None if rerank is None else self._rerankers.get(rerank)
        options = SearchOptions(k, mode, alpha, condition, reranker, candidates)
        # One state for all steps of the search: another thread may write between them.
        snapshot, manifest, encoders, analyzer = self._state
        encoder = encoders.for_queries(queries)
        read = read_queries(query, vectors, encoder, manifest.dim)
        encoders.check_mode(mode, read)
        hits = search(snapshot, manifest, read, options, encoder, analyzer)
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

    def text_vectors(self) -> TextVectors:
        """Returns the texts with their stored vectors, memory-mapped if the index was opened from a folder.

        Deleted items and those without a text are left out. A text that is divided has one vector for each of
        its passages, and the text of the vector is that of the passage.

        Raises:
            TextFileError: No item has a text and a vector.
        """
        state = self._state
        return stored_text_vectors(state.snapshot, state.manifest, str(self._folder or "the index"))

    def to_arrow(self, *, payloads: Literal["json", "struct"] = "json") -> Any:
        """Returns the items with their stored vectors as a ``pyarrow.Table``, in the order in which they were added.

        The columns are ``id`` (int64 or string), ``text``, ``payload`` and ``embedding``, a ``fixed_size_list`` of
        float32. Ids of both types become strings of JSON. The metadata of the schema have the ``model``, the
        ``fingerprint`` and the ``space`` of the vectors, the ``metric``, and the ``next_id`` that is assigned.
        :meth:`from_arrow` reads the table.

        If a text is divided into passages, the table has one row for each passage, and more columns;
        :mod:`sentenc.retrieval.arrow` describes them. The vectors of a reranker and of an ANN index are left out.

        Args:
            payloads: ``"json"`` for strings of JSON; ``"struct"`` for a struct whose fields other programs can
                filter by. In a struct, every payload has all fields, and those that it lacks are null.

        Raises:
            MissingExtraError: pyarrow is not installed.
            ValueError: A text or an id has a lone surrogate, or the payloads are no struct.
        """
        check_choice("payloads", payloads, ("json", "struct"))
        state = self._state
        return arrow_table(state.snapshot, state.manifest, payloads == "struct")

    def info(self) -> dict[str, Any]:
        """Returns the number of items, the settings, the ANN index with its recall, and the size on disk."""
        return index_info(self._snapshot, self._manifest, self._folder)

    def verify(self) -> None:
        """Checks the size and SHA-256 of every file of the latest commit.

        Raises:
            IndexFormatError: A file has changed or cannot be read.
            ValueError: The index has no folder yet.
        """
        if self._folder is None:
            raise ValueError("the index has no folder yet: save it first")
        verify(self._folder)
