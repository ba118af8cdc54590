"""The SQL of searches: vectors, BM25 over the tsvector, and the fusion of both as in ``Index``.

BM25 needs the number of times that a term occurs in a text. ``ts_rank_cd`` with weights of 1 is this number if the
query is a single term, because every occurrence is then a cover of length 1. ``setweight`` and ``OFFSET 0`` make the
server decompress a tsvector once, and not for every term. The number of texts and their mean length are those of the
last analysis; the number of texts with a term is counted by each query.

The names of the parameters begin with ``sentenc_``, so that a condition in SQL can have parameters of its own.

The hybrid score of a row is ``alpha * z(similarity) + (1 - alpha) * z(BM25)``, as in :mod:`sentenc.retrieval.fusion`.
A row without a term of the query can only be among the k best if it is among the k best by its vector. So the k best
rows are those of the rows with a term together with the k nearest ones.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from psycopg import sql

from sentenc.integrations.pgvector.rows import VECTOR_TYPES, lexeme, tsquery, vector_text
from sentenc.integrations.pgvector.settings import Settings, Statistics
from sentenc.integrations.pgvector.table import Table
from sentenc.retrieval.lexical.bm25 import K1, B
from sentenc.retrieval.quantization import FloatArray

#: The least number of candidates of an HNSW index in a hybrid search.
FUSED_CANDIDATES = 100
# The time of a search by words is in proportion to the number of different terms.
_MAX_TERMS = 64
# pgvector accepts at most this hnsw.ef_search.
_MAX_EF_SEARCH = 1000

_NEAREST = """
nearest AS (
    SELECT id, added, embedding <#> %(sentenc_query)s::{vector} AS distance FROM {table} WHERE {allowed}
    ORDER BY {order} LIMIT {depth}
)"""
_SCORED = """
matched AS MATERIALIZED (
    SELECT id, added, allowed, distance, norm, {frequencies} FROM (
        SELECT id, added, ({allowed}) IS TRUE AS allowed, {distance} AS distance,
            %(sentenc_k1)s * (1 - %(sentenc_b)s + %(sentenc_b)s * n_words / %(sentenc_mean_words)s) AS norm, setweight(words, 'D') AS words
        FROM {table} WHERE words @@ %(sentenc_any_term)s::tsquery OFFSET 0
    ) AS decompressed
),
weights AS (SELECT {weights} FROM (SELECT {counts} FROM matched) AS counted),
scored AS MATERIALIZED (SELECT id, added, allowed, distance, {bm25} AS bm25 FROM matched, weights)"""
_FUSED = """
spread AS (
    SELECT sum(bm25) / n AS mean, sqrt(greatest(sum(bm25 * bm25) / n - (sum(bm25) / n) ^ 2, 0)) AS std
    FROM scored, (SELECT greatest(count(*), %(sentenc_n)s)::float8 AS n FROM scored) AS counted GROUP BY n
),
factors AS (
    SELECT coalesce(max(CASE WHEN std > 0 THEN %(sentenc_words_weight)s / std ELSE 0 END), 0)::float8 AS factor,
        coalesce(max(mean), 0) AS mean
    FROM spread
),
candidates AS (
    SELECT id, added, distance, bm25 FROM scored WHERE allowed
    UNION ALL
    SELECT id, added, distance, 0 FROM nearest
    WHERE %(sentenc_has_vector)s AND NOT EXISTS (SELECT FROM scored WHERE scored.id = nearest.id)
),
ranked AS (
    SELECT id, added, -distance * %(sentenc_vector_factor)s AS semantic, bm25 * factor AS lexical, factor * mean AS mean
    FROM candidates, factors
    ORDER BY -distance * %(sentenc_vector_factor)s + bm25 * factor DESC, added LIMIT {k}
)"""
_ITEMS = "t.id, t.text, t.payload::text"


@dataclass
class Query:
    """One query of a search.

    Attributes:
        k: Maximum number of hits.
        vector: Its vector (d,) float32; None for a lexical search.
        terms: Its terms; None for a search by vectors alone.
        alpha: The weight of the vector in a hybrid search.
        condition: A condition on rows, as SQL.
        parameters: The parameters of the condition.
        ef_search: The effort of an HNSW index.
    """

    k: int
    vector: FloatArray | None
    terms: Sequence[str] | None
    alpha: float
    condition: str = "TRUE"
    parameters: dict[str, Any] = field(default_factory=dict)
    ef_search: int = FUSED_CANDIDATES


@dataclass(frozen=True)
class Row:
    """A row of a result, with the parts of its score as in :class:`~sentenc.Hit`."""

    id: Any
    text: str | None
    payload: str | None
    semantic: float | None
    lexical: float | None


def run(cursor: Any, table: Table, settings: Settings, statistics: Statistics, query: Query) -> list[Row]:
    """Returns the rows of a query, best first. The cursor is in a transaction."""
    cursor.execute("SELECT set_config('jit', 'off', true)")
    uses_hnsw = settings.kind == "hnsw" and query.vector is not None
    if uses_hnsw:
        effort = min(max(query.ef_search, query.k), _MAX_EF_SEARCH)
        cursor.execute(
            "SELECT set_config('hnsw.ef_search', %s, true), set_config('hnsw.iterative_scan', 'strict_order', true)",
            [str(effort)],
        )
    rows = _rows(cursor, table, settings, statistics, query)
    if uses_hnsw and len(rows) < query.k:
        # A filter can exclude all rows that the graph visits. Then all rows are compared.
        cursor.execute("SELECT set_config('enable_indexscan', 'off', true)")
        rows = _rows(cursor, table, settings, statistics, query)
        cursor.execute("SELECT set_config('enable_indexscan', 'on', true)")
    return rows


def _rows(cursor: Any, table: Table, settings: Settings, statistics: Statistics, query: Query) -> list[Row]:
    if query.terms is None:
        return _by_vector(cursor, table, settings, query)
    distinct = set(islice(dict.fromkeys(query.terms), _MAX_TERMS))
    terms = Counter(lexeme(term) for term in query.terms if term in distinct)
    if query.vector is None:
        return _by_words(cursor, table, settings, statistics, query, terms) if terms else []
    if not terms:
        return _by_vector(cursor, table, settings, query, statistics) if query.vector.any() else []
    return _by_both(cursor, table, settings, statistics, query, terms)


def _by_vector(
    cursor: Any, table: Table, settings: Settings, query: Query, statistics: Statistics | None = None
) -> list[Row]:
    # With statistics, as the part of the score of a hybrid search in which no row has a term.
    parts, parameters = _nearest(settings, query, query.k)
    by_distance = "distance, " if query.alpha > 0 else ""
    text = (
        f"WITH {_NEAREST} SELECT {_ITEMS}, -distance FROM nearest JOIN {{table}} AS t USING (id) "
        f"ORDER BY {by_distance}nearest.added"
    )
    cursor.execute(table.sql(text, **parts), query.parameters | parameters)
    factor, mean = (1.0, 0.0) if statistics is None else _vector_factor(statistics, query)
    lexical = None if statistics is None else 0.0
    return [Row(row[0], row[1], row[2], factor * (row[3] - mean), lexical) for row in cursor.fetchall()]


def _by_words(
    cursor: Any, table: Table, settings: Settings, statistics: Statistics, query: Query, terms: Counter[str]
) -> list[Row]:
    parts, parameters = _scored(settings, statistics, query, terms)
    text = (
        f"WITH {_SCORED}, ranked AS (SELECT id, added, bm25 FROM scored WHERE allowed ORDER BY bm25 DESC, added "
        f"LIMIT {{k}}) SELECT {_ITEMS}, bm25 FROM ranked JOIN {{table}} AS t USING (id) "
        "ORDER BY bm25 DESC, ranked.added"
    )
    cursor.execute(table.sql(text, **parts), query.parameters | parameters)
    return [Row(row[0], row[1], row[2], None, row[3]) for row in cursor.fetchall()]


def _by_both(
    cursor: Any, table: Table, settings: Settings, statistics: Statistics, query: Query, terms: Counter[str]
) -> list[Row]:
    depth = max(query.k, FUSED_CANDIDATES) if settings.kind == "hnsw" else query.k
    parts, parameters = _nearest(settings, query, depth)
    more_parts, more = _scored(settings, statistics, query, terms)
    factor, mean = _vector_factor(statistics, query)
    more |= {
        "sentenc_n": statistics.n, "sentenc_words_weight": 1.0 - query.alpha, "sentenc_vector_factor": factor,
        "sentenc_has_vector": bool(query.vector is not None and query.vector.any()),
    }  # fmt: skip
    text = (
        f"WITH {_NEAREST}, {_SCORED}, {_FUSED} SELECT {_ITEMS}, semantic, lexical - mean "
        "FROM ranked JOIN {table} AS t USING (id) ORDER BY semantic + lexical DESC, ranked.added"
    )
    cursor.execute(table.sql(text, **parts | more_parts), query.parameters | parameters | more)
    return [Row(row[0], row[1], row[2], row[3] - factor * mean, row[4]) for row in cursor.fetchall()]


def _nearest(settings: Settings, query: Query, depth: int) -> tuple[dict[str, Any], dict[str, Any]]:
    assert query.vector is not None
    vector = f"{VECTOR_TYPES[settings.store][0]}({settings.dim})"
    # An HNSW index returns rows in the order of their distances alone. Without a weight, the age decides.
    order = f"embedding <#> %(sentenc_query)s::{vector}" + ("" if settings.kind == "hnsw" else ", added")
    parts = {
        "vector": sql.SQL(vector), "allowed": sql.SQL(query.condition),
        "order": sql.SQL(order if query.alpha > 0 else "added"),
        # The planner must know the number of rows, also of a statement that is prepared.
        "depth": sql.Literal(depth),
    }  # fmt: skip
    return parts, {"sentenc_query": vector_text(query.vector)}


def _scored(
    settings: Settings, statistics: Statistics, query: Query, terms: Counter[str]
) -> tuple[dict[str, Any], dict[str, Any]]:
    frequencies, counts, weights, scores = [], [], [], []
    parameters: dict[str, Any] = {
        "sentenc_k1": K1, "sentenc_b": B, "sentenc_mean_words": statistics.mean_words or 1.0,
        "sentenc_n_texts": float(statistics.n_texts), "sentenc_any_term": tsquery(list(terms)),
    }  # fmt: skip
    for i, (term, repeats) in enumerate(terms.items()):
        parameters |= {f"sentenc_term{i}": tsquery([term]), f"sentenc_repeats{i}": float(repeats)}
        frequencies.append(
            f"ts_rank_cd('{{1, 1, 1, 1}}', words, %(sentenc_term{i})s::tsquery)::float8 AS tf{i}"
        )
        counts.append(f"count(*) FILTER (WHERE tf{i} > 0)::float8 AS df{i}")
        weights.append(
            f"%(sentenc_repeats{i})s * ln(1 + (greatest(%(sentenc_n_texts)s - df{i}, 0) + 0.5) / (df{i} + 0.5)) AS weight{i}"
        )
        scores.append(f"weight{i} * tf{i} / (tf{i} + norm)")
    distance = "0"
    if query.vector is not None:
        distance = f"embedding <#> %(sentenc_query)s::{VECTOR_TYPES[settings.store][0]}({settings.dim})"
    parts = {
        "frequencies": ", ".join(frequencies), "counts": ", ".join(counts), "weights": ", ".join(weights),
        "bm25": " + ".join(scores), "distance": distance, "allowed": query.condition,
    }  # fmt: skip
    return {name: sql.SQL(text) for name, text in parts.items()} | {"k": sql.Literal(query.k)}, parameters


def _vector_factor(statistics: Statistics, query: Query) -> tuple[float, float]:
    # The factor of a dot product in the hybrid score, and the mean of the dot products.
    assert query.vector is not None
    mean, std = statistics.moments.mean_and_std(query.vector[None])
    return (float(query.alpha / std[0]) if std[0] > 0 else 0.0), float(mean[0])
