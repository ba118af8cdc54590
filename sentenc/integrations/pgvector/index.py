"""An index in PostgreSQL: storage and search by the server, encoding and analysis of texts by the client."""

import os
from collections.abc import Sequence
from typing import Any, Literal, Self

import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.errors import IndexMismatchError
from sentenc.integrations.pgvector.opening import check_stemmer, connected, opened_encoders
from sentenc.integrations.pgvector.reader import PgVectorReader
from sentenc.integrations.pgvector.rows import HNSW_DIMENSIONS, VECTOR_TYPES, Rows
from sentenc.integrations.pgvector.settings import Settings
from sentenc.integrations.pgvector.table import Table
from sentenc.retrieval.arrow import Columns, TableItems, read_table
from sentenc.retrieval.arrow_metadata import described_encoder_of, described_next_id
from sentenc.retrieval.encoding import item_vectors
from sentenc.retrieval.index_encoders import IndexEncoders
from sentenc.retrieval.items import Id, Payload, check_ids
from sentenc.retrieval.manifest import Manifest
from sentenc.retrieval.quantization import FloatArray
from sentenc.retrieval.validation import (
    check_choice,
    check_column,
    check_positive,
    check_query_encoder,
    check_texts,
    described_encoder,
    is_part_of,
    load_encoder,
    stored_dim,
)
from sentenc.retrieval.words import word_settings
from sentenc.texts import describe

Model = Encoder | str | os.PathLike[str]
# The part of the rows that is written before the statistics are computed again.
_ANALYZED_PART = 0.1


class PgVectorIndex(PgVectorReader):
    """Searches texts in a table of PostgreSQL by vectors and words, as :class:`~sentenc.Index` does in a folder.

    >>> index = PgVectorIndex.create("postgresql://localhost/test", "documents", "cse-en")
    >>> index.add(["A man is playing a guitar.", "The stock market fell."])
    [0, 1]
    >>> index.search("Someone plays an instrument.", k=1)[0].id
    0

    The server needs the extension pgvector, version 0.8 or later. :meth:`create` makes a table, and :meth:`open` opens
    it. The table has the columns ``id``, ``text``, ``payload`` (jsonb) and ``embedding`` (vectors of unit length, unless
    the metric is ``"dot"``), for texts that are searched by words also ``words`` (tsvector) and ``n_words``, and
    ``added``, which counts rows in the order of their addition. Other programs may read it, and delete rows. The table
    ``sentenc_indexes`` of the same schema describes all indexes: the encoder with its fingerprint and space, the
    settings and the statistics.

    Scores and hybrid scores are those of ``Index``: BM25 is computed in SQL over the terms of the same analyzer. Its
    number of texts, their mean length, and the mean and spread of similarities are those of the last :meth:`analyze`.

    Items are written in one transaction, or in that of the connection if it is in one. Threads may share an index; with
    a connection they wait for one another, and with a pool they do not.
    """

    def __init__(self, table: Table, settings: Settings, encoders: IndexEncoders, owned: Any = None) -> None:
        super().__init__(table, settings, encoders, owned)
        self._written = 0

    @classmethod
    def create(
        cls,
        connection: Any,
        name: str,
        encoder: Model | None = None,
        *,
        dim: int | None = None,
        metric: Literal["cosine", "dot"] = "cosine",
        kind: Literal["exact", "hnsw"] = "exact",
        store: Literal["float32", "float16"] = "float32",
        words: bool = True,
        language: str | None = None,
        id_type: Literal["int", "str"] = "int",
        query_encoder: Model | None = None,
    ) -> Self:
        """Creates a table, and the extension and the table of descriptions if they are missing.

        Args:
            connection: A connection string, a ``psycopg.Connection``, or a ``psycopg_pool.ConnectionPool``.
            name: Name of the table: ``"documents"``, or ``"schema.documents"``.
            encoder: An encoder or an argument of :func:`sentenc.load`; None for an index of vectors alone.
            dim: As for ``Index``.
            metric: As for ``Index``. Both are inner products in the database (the operator ``<#>``).
            kind: ``"exact"`` compares every row; ``"hnsw"`` searches the graph that :meth:`optimize` builds.
            store: Type of the vectors: ``"float32"`` (``vector``) or ``"float16"`` (``halfvec``).
            words: Whether texts are searched by their words as well.
            language: As for ``Index``.
            id_type: Type of the ids: ``"int"`` (bigint) or ``"str"`` (text).
            query_encoder: A faster encoder of queries in the same space; a pair has one already.

        Raises:
            ValueError: The table exists, or an argument is out of range.
        """
        check_choice("metric", metric, ("cosine", "dot"))
        check_choice("kind", kind, ("exact", "hnsw"))
        check_choice("store", store, tuple(VECTOR_TYPES))
        check_choice("id_type", id_type, ("int", "str"))
        model, loaded = load_encoder(encoder)
        encoders = IndexEncoders.of(loaded)
        manifest = Manifest(stored_dim(loaded, dim), metric, kind, store)
        if kind == "hnsw" and manifest.dim > HNSW_DIMENSIONS[store]:
            raise ValueError(
                f"dim is {manifest.dim}, expected at most {HNSW_DIMENSIONS[store]} for an HNSW index of {store}"
            )
        manifest.encoder = None if loaded is None else described_encoder(model, loaded)
        if query_encoder is not None:
            query_model, queries = load_encoder(query_encoder)
            if queries is not None:
                check_query_encoder(queries, manifest, loaded)
                manifest.query_encoder = described_encoder(query_model, queries)
                encoders = IndexEncoders(encoders.items, IndexEncoders.of(queries).items)
        settings = Settings(
            manifest.dim, metric, kind, store, id_type, manifest.encoder, manifest.query_encoder,
            word_settings(language, loaded) if words else None,
        )  # fmt: skip
        with connected(connection) as (source, owned):
            table = Table(source, name)
            table.create(settings)
        return cls(table, settings, encoders, owned)

    @classmethod
    def open(
        cls, connection: Any, name: str, encoder: Model | Literal[False] | None = None, *, force: bool = False
    ) -> Self:
        """Opens an index that :meth:`create` made.

        Args:
            connection: As for :meth:`create`.
            name: Name of the table.
            encoder: An encoder or an argument of :func:`sentenc.load`, which encodes queries and items; by default
                those that the database states, loaded when they are first used. False for none.
            force: Accept an encoder of another space.

        Raises:
            IndexFormatError: There is no such index.
            IndexMismatchError: The encoder has another space than that of the index.
        """
        with connected(connection) as (source, owned):
            table = Table(source, name)
            settings = table.settings()
            check_stemmer(settings, name)
            encoders = opened_encoders(settings, name, encoder, force)
        return cls(table, settings, encoders, owned)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *details: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes the connection if it was opened from a connection string, as the end of the object does."""
        if self._close is not None:
            self._close()

    def add(
        self,
        texts: Any = None,
        *,
        vectors: npt.ArrayLike | None = None,
        ids: Sequence[Id] | None = None,
        payloads: Sequence[Payload] | None = None,
    ) -> list[Id]:
        """Adds items by ``COPY``: all of them, or none if anything is wrong.

        Args:
            texts: n str; they are encoded unless ``vectors`` are passed as well.
            vectors: (n, dim) numbers.
            ids: n distinct ids that the table does not contain; consecutive int by default.
            payloads: n JSON objects (dict) or None.

        Returns:
            The n ids.

        Raises:
            TypeError: An item is not text, or an id or payload has the wrong type; the message has its index.
            ValueError: A vector is not finite or has another length, the table already contains an id, or
                PostgreSQL cannot store a character.
        """
        checked = check_texts(texts)
        matrix = item_vectors(checked, vectors, self._encoders.items, self._manifest)
        return self._write(ids, checked, payloads, matrix, replace=False)

    def upsert(
        self,
        ids: Sequence[Id],
        texts: Any = None,
        *,
        vectors: npt.ArrayLike | None = None,
        payloads: Sequence[Payload] | None = None,
    ) -> None:
        """Adds items, and replaces those whose ids the table contains, with all of their columns.

        The arguments are those of :meth:`add`.
        """
        checked = check_texts(texts)
        matrix = item_vectors(checked, vectors, self._encoders.items, self._manifest)
        self._write(ids, checked, payloads, matrix, replace=True)

    def add_table(
        self,
        table: Any,
        *,
        replace: bool = False,
        id: str = "id",
        text: str = "text",
        embedding: str = "embedding",
        payload: str = "payload",
        force: bool = False,
    ) -> list[Id]:
        """Adds the rows of an Arrow table with vectors, of :meth:`sentenc.Index.to_arrow` or ``encode_table``.

        Args:
            table: A ``pyarrow.Table`` or ``RecordBatch``.
            replace: Replace the items whose ids the index contains.
            id: Name of the column of ids. A table without it has consecutive ids.
            text: Name of the column of texts. A table without it has vectors alone.
            embedding: Name of the column of vectors.
            payload: Name of the column of payloads, strings of JSON or structs. In a table without it, all other
                columns are fields of the payload.
            force: Accept vectors of another space.

        Returns:
            The ids.

        Raises:
            IndexMismatchError: The schema states another space than that of the index.
            ValueError: A column is missing, or the table has passages of divided texts.
        """
        items = read_table(table, Columns(id, text, embedding, payload))
        if items.spans is not None and len(items.spans) != len(items.vectors):
            raise ValueError(
                "the table has several passages of an item, and every row of the index needs its own id: "
                'the page "Vector stores" of the documentation shows how to make them'
            )
        if not force:
            self._check_space(items)
        matrix = item_vectors(None, items.vectors, self._encoders.items, self._manifest)
        next_id = described_next_id(items.described)
        names = self._write(items.ids, items.texts, items.payloads, matrix, replace)
        if items.ids is not None and next_id and self._settings.id_type == "int":
            # The ids of items that were deleted from the index of the table are not assigned again.
            self._table.reserve(next_id - 1)
        return names

    def delete(self, ids: Sequence[Id]) -> int:
        """Deletes items and ignores unknown ids; returns the number of deleted items."""
        deleted = self._table.delete(check_ids(ids), self._settings.id_type)
        self._wrote(deleted)
        return deleted

    def optimize(self, *, m: int = 16, ef_construction: int = 64, memory: str | None = None) -> None:
        """Builds the indexes that are missing, and computes the statistics.

        They are the GIN indexes of words and payloads, and the HNSW index of the vectors if the kind is ``"hnsw"``.
        The server keeps them up to date. Bulk data are copied sooner before the first call.

        Args:
            m: Number of neighbors of a vector in the graph of HNSW.
            ef_construction: Number of candidates for them.
            memory: ``maintenance_work_mem`` of the server for this call, such as ``"1GB"``. A graph that does not
                fit is built several times as slowly.
        """
        self._table.build(
            self._settings, check_positive("m", m), check_positive("ef_construction", ef_construction), memory
        )
        self.analyze()

    def analyze(self) -> None:
        """Computes the statistics of BM25 and of hybrid scores: a pass over the table.

        :meth:`optimize` calls it, and a writer that has written a tenth of the rows. Call it if many clients have
        written a little each.
        """
        self._statistics = self._table.analyze(self._settings)
        self._written = 0

    def drop(self) -> None:
        """Drops the table with its items."""
        self._table.drop()

    def _write(
        self,
        ids: Sequence[Id] | None,
        texts: Sequence[str | None] | None,
        payloads: Sequence[Payload] | None,
        vectors: FloatArray,
        replace: bool,
    ) -> list[Id]:
        n, id_type = len(vectors), self._settings.id_type
        if ids is None and (id_type == "str" or replace):
            raise ValueError("ids is None, expected one for each item")
        names = None if ids is None else check_ids(ids, n, ordered=True)
        for i, name in enumerate(names or ()):
            if isinstance(name, str) != (id_type == "str"):
                raise TypeError(
                    f"ids[{i}] is {describe(name)}, expected {id_type} as in the table {self.name}"
                )
        if texts is not None and len(texts) != n:
            raise ValueError(f"{len(texts)} texts for {n} vectors, expected one each")
        checked = check_column("payloads", payloads, n)
        if n == 0:
            return []
        names = list(self._table.new_ids(n)) if names is None else names
        rows = Rows(names, [None] * n if texts is None else texts, checked, vectors)
        self._table.write(rows, self._settings.store, self._analyzer, replace)
        self._wrote(n, texts is not None)
        return names

    def _wrote(self, n: int, has_texts: bool = False) -> None:
        # The statistics of a table change slowly once it is large.
        self._written += n
        with self._table.transaction() as cursor:
            known = self._statistics = self._table.statistics(cursor, self._statistics, self.dim)
        # The first texts change the default mode of a search.
        is_first = has_texts and self._settings.words is not None and not known.n_texts
        if is_first or self._written > _ANALYZED_PART * known.n:
            self.analyze()

    def _check_space(self, items: TableItems) -> None:
        built, described = self._settings.encoder, described_encoder_of(items.described)
        if built is None or described is None:
            return
        # Which of both is the leading part of the other is not known.
        own, other = (str(each.get("space", each["fingerprint"])) for each in (built, described))
        if not (is_part_of(other, own, self.dim) or is_part_of(own, other, self.dim)):
            raise IndexMismatchError(
                f"{self.name} has vectors of {built['model'] or 'an encoder'} of space {own}, but the table has those "
                f"of {described['model'] or 'an encoder'} of space {other}: they are not comparable "
                "(force=True overrides)"
            )
