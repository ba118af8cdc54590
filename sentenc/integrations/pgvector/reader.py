"""The reading half of an index in PostgreSQL: search and look-up."""

import os
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.integrations.pgvector.filters import filter_sql
from sentenc.integrations.pgvector.search import FUSED_CANDIDATES, Query, Row, run
from sentenc.integrations.pgvector.settings import Settings, Statistics
from sentenc.integrations.pgvector.table import Table, read_payload
from sentenc.retrieval.arrow import arrow_table_of
from sentenc.retrieval.encoding import Queries, query_vectors, read_queries
from sentenc.retrieval.filters import compile_filter
from sentenc.retrieval.index_encoders import IndexEncoders, QueryEncoder
from sentenc.retrieval.items import Hit, Id, Item, QueryTerms, check_ids
from sentenc.retrieval.manifest import Manifest
from sentenc.retrieval.modes import MODES, default_mode
from sentenc.retrieval.validation import check_choice, check_positive, check_share
from sentenc.retrieval.words import stored_alpha
from sentenc.tokenization.analysis import Analyzer


class PgVectorReader:
    """The reading half of :class:`~sentenc.integrations.pgvector.PgVectorIndex`."""

    def __init__(self, table: Table, settings: Settings, encoders: IndexEncoders, owned: Any = None) -> None:
        self._table, self._settings, self._encoders = table, settings, encoders
        self._close = None if owned is None else weakref.finalize(self, _close, owned, os.getpid())
        self._analyzer = None if settings.words is None else Analyzer(settings.words["language"])
        self._manifest = Manifest(
            settings.dim, settings.metric, settings.kind, settings.store,
            encoder=settings.encoder, words=settings.words,
        )  # fmt: skip
        self._statistics: Statistics | None = None
        #: The effort of an HNSW index, ``hnsw.ef_search`` of pgvector: at most 1,000.
        self.ef_search = FUSED_CANDIDATES

    @property
    def name(self) -> str:
        """The name of the table."""
        return self._table.name

    @property
    def dim(self) -> int:
        """Number of dimensions of the stored vectors."""
        return self._settings.dim

    @property
    def encoder(self) -> Encoder | None:
        """The encoder of items; None for an index of vectors alone."""
        items = self._encoders.items
        return None if items is None else items.encoder

    def __len__(self) -> int:
        return self._table.count()

    def get(self, ids: Sequence[Id]) -> list[Item]:
        """Returns the items with the given ids; raises KeyError if the index does not contain one."""
        names = check_ids(ids)
        items = self._table.items(names, self._settings.id_type)
        for name in names:
            if name not in items:
                raise KeyError(f"no item has the id {name!r}")
        return [items[name] for name in names]

    def to_arrow(self) -> Any:
        """Returns the items with their vectors as a ``pyarrow.Table``, as :meth:`sentenc.Index.to_arrow` does.

        Raises:
            MissingExtraError: pyarrow is not installed.
        """
        next_id = self._table.next_id() if self._settings.id_type == "int" else 0
        return arrow_table_of(self._table.blocks(self._settings), replace(self._manifest, next_id=next_id))

    def search(
        self,
        query: Any,
        /,
        k: int = 10,
        *,
        mode: Literal["hybrid", "vector", "lexical"] | None = None,
        alpha: float | None = None,
        vectors: npt.ArrayLike | None = None,
        where: Mapping[str, Any] | str | None = None,
        parameters: Mapping[str, Any] | None = None,
    ) -> Any:
        """Returns the best items, or the best of those that meet a condition.

        >>> index.search("wine", where={"country": "France", "year": {"gte": 2000}})
        >>> index.search("wine", where="payload->>'country' = %(country)s", parameters={"country": "France"})

        Args:
            query: A str or a vector (dim,); or n str, or an array (n, dim).
            k: Maximum number of items per query.
            mode: As for :meth:`sentenc.Index.search`.
            alpha: As for :meth:`sentenc.Index.search`.
            vectors: The vectors of texts (n, dim), if they have been computed already.
            where: A filter on payloads as in :mod:`sentenc.retrieval.filters`; or a condition in SQL on the columns
                of the table, which must not contain text of users: pass it as ``parameters``.
            parameters: Values of the placeholders ``%(name)s`` of a condition in SQL.

        Returns:
            list[Hit], best first, for a single query; list[list[Hit]] for n of them. Equal scores are ranked by
            age, the older item first.

        Raises:
            ValueError: As for :meth:`sentenc.Index.search`.
            TypeError: A query is neither text nor a vector, or a part of the filter has the wrong type.
        """
        check_positive("k", k)
        condition, values = self._condition(where, parameters)
        encoder = self._encoders.for_queries(None)
        read = read_queries(query, vectors, encoder, self.dim)
        self._encoders.check_mode(mode, read)
        chosen = self._mode(read, mode, encoder)
        matrix = None if chosen == "lexical" else query_vectors(read, encoder, self._manifest)
        terms: list[list[str]] | None = None
        if chosen != "vector" and self._analyzer is not None:
            terms = [self._analyzer.terms(text) for text in read.texts or ()]
        weight = check_share("alpha", self._alpha(encoder) if alpha is None else alpha)
        # A search in one way alone has no weight.
        weight = weight if chosen == "hybrid" else 1.0
        hits = []
        with self._table.transaction() as cursor:
            statistics = self._statistics = self._table.statistics(cursor, self._statistics, self.dim)
            for i in range(len(read.texts or ()) if matrix is None else len(matrix)):
                own_terms = None if terms is None else terms[i]
                own = Query(
                    k,
                    None if matrix is None else matrix[i],
                    own_terms,
                    weight,
                    condition,
                    values,
                    self.ef_search,
                )
                rows = run(cursor, self._table, self._settings, statistics, own)
                hits.append([self._hit(row, own_terms) for row in rows])
        return hits[0] if read.single else hits

    def _condition(
        self, where: Mapping[str, Any] | str | None, parameters: Mapping[str, Any] | None
    ) -> tuple[str, dict[str, Any]]:
        if isinstance(where, str):
            return f"({where})", dict(parameters or {})
        if parameters is not None:
            raise ValueError("parameters were passed without a condition in SQL: pass it as where")
        if where is None:
            return "TRUE", {}
        condition, values = filter_sql(compile_filter(where), "payload", "filter")
        return condition, dict(values)

    def _mode(self, queries: Queries, mode: str | None, encoder: QueryEncoder | None) -> str:
        if mode is None:
            return default_mode(
                texts=queries.texts is not None,
                words=queries.texts is not None and self._has_words(),
                vectors=encoder is not None or queries.vectors is not None,
            )
        check_choice("mode", mode, MODES)
        if mode != "vector":
            if queries.texts is None:
                raise ValueError(f"mode is {mode!r}, which needs texts: pass str, or use mode 'vector'")
            if self._analyzer is None:
                raise ValueError(f"mode is {mode!r}, but the index was created with words=False")
        return mode

    def _has_words(self) -> bool:
        if self._analyzer is None:
            return False
        if self._statistics is None or not self._statistics.n_texts:
            with self._table.transaction() as cursor:
                self._statistics = self._table.statistics(cursor, self._statistics, self.dim)
        return self._statistics.n_texts > 0

    def _alpha(self, encoder: QueryEncoder | None) -> float:
        words = self._settings.words
        return stored_alpha(words) if encoder is None else encoder.alpha(words)

    def _hit(self, row: Row, terms: Sequence[str] | None) -> Hit:
        query_terms = None
        if terms is not None and self._analyzer is not None:
            query_terms = QueryTerms(self._analyzer, frozenset(terms))
        score = (row.semantic or 0.0) + (row.lexical or 0.0)
        return Hit(
            score,
            row.id,
            row.text,
            read_payload(row.payload),
            row.semantic,
            row.lexical,
            query_terms=query_terms,
        )


def _close(connection: Any, owner: int) -> None:
    # A forked child has a copy of the socket, and closing it would end the session of the parent.
    if os.getpid() == owner:
        connection.close()
