"""Arrow tables of an index, and indexes of Arrow tables."""

import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sentenc
from sentenc import Index, IndexMismatchError, ModelNotFoundError
from sentenc.retrieval import arrow
from tests.support.models import make_bert, make_cse

pa = pytest.importorskip("pyarrow")

TEXTS = ["a man plays the guitar", "the stock market fell", "", "dog and cat", "people in the park"]
PAYLOADS = [{"year": 2001, "tag": ["a", "b"]}, None, {}, {"year": 1.5, "name": "Zoë \ud83d"}, {"year": None}]
QUERIES = ["the guitar", "a dog", "new york"]


@pytest.fixture(scope="module")
def encoder():
    return make_cse()


@pytest.fixture
def index(encoder):
    index = Index(encoder, language="en")
    index.add(TEXTS[:2], payloads=PAYLOADS[:2])
    index.add(TEXTS[2:], payloads=PAYLOADS[2:])
    return index


def results(index, mode, score=float):
    hits = index.search(QUERIES, k=5, mode=mode)
    return [[(hit.id, hit.text, hit.payload, hit.span, score(hit.score)) for hit in own] for own in hits]


def nearly(score):
    # The parts of a score are sums in another order.
    return pytest.approx(score, abs=1e-6)


def assert_equal(new, old):
    assert list(new) == list(old)
    for mode in ("hybrid", "vector", "lexical"):
        assert results(new, mode) == results(old, mode, nearly)


def test_a_table_has_the_columns_and_describes_the_encoder(index, encoder):
    table = index.to_arrow()
    assert table.schema.names == ["id", "text", "payload", "embedding"]
    assert table.schema.field("id").type == pa.int64()
    assert table.schema.field("text").type == pa.string()
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), index.dim)
    assert table["id"].to_pylist() == [0, 1, 2, 3, 4]
    assert table["text"].to_pylist() == TEXTS
    assert [
        None if value is None else json.loads(value) for value in table["payload"].to_pylist()
    ] == PAYLOADS
    described = {key.decode(): value.decode() for key, value in table.schema.metadata.items()}
    assert described["fingerprint"] == encoder.fingerprint()
    assert described["space"] == encoder.space
    assert described["metric"] == "cosine"
    assert "model" not in described
    assert Index("cse-en-tiny").to_arrow().schema.metadata[b"model"] == b"cse-en-tiny"


@pytest.mark.parametrize("rows", [2, 100])
def test_a_round_trip_keeps_everything(index, encoder, rows, monkeypatch, tmp_path):
    monkeypatch.setattr(arrow, "_ROWS_PER_CHUNK", rows)
    index.delete([1])
    index.update([3], ["dog and dog"])
    table = index.to_arrow()
    new = Index.from_arrow(table, encoder)
    assert_equal(new, index)
    assert (new.to_arrow()["embedding"].to_pylist()) == table["embedding"].to_pylist()
    assert new.to_arrow().equals(table, check_metadata=True)
    # Ids that are assigned later are new ones.
    assert new.add(["hello"]) == [5]
    index.save(tmp_path)
    assert Index.open(tmp_path, encoder).to_arrow().equals(table, check_metadata=True)


@pytest.mark.parametrize("ids", [["a", "b", "c"], [7, -1, 2**62], [17, "17", "x"]])
def test_ids_keep_their_types(ids):
    index = Index(dim=2)
    index.add(vectors=np.eye(3)[:, :2] + 1, ids=ids)
    table = index.to_arrow()
    new = Index.from_arrow(table)
    assert [item.id for item in new] == ids
    assert len(set(table["id"].to_pylist())) == 3
    assert new.to_arrow()["embedding"].to_pylist() == table["embedding"].to_pylist()
    assert [item.text for item in new] == [None] * 3


def test_divided_texts_have_a_row_for_each_passage(encoder, monkeypatch):
    monkeypatch.setattr(arrow, "_ROWS_PER_CHUNK", 2)
    index = Index(encoder, language="en", chunk_tokens=16, overlap=2)
    long = "The dog runs in the park all day. The stock market fell at the time of the year. " * 3
    index.add(
        ["hello world", long, "new york", long[10:]],
        payloads=[None, {"n": 1}, {"n": 2}, None],
        ids=[5, 6, 7, 8],
    )
    index.add(vectors=np.ones((1, index.dim)))
    index.delete([7])
    table = index.to_arrow()
    rows = table.to_pylist()
    assert len(rows) > 8
    documents = {row["id"]: row["document"] for row in rows if row["passage"] == 0}
    assert documents == {5: "hello world", 6: long, 8: long[10:], 9: None}
    for row in rows:
        assert (row["document"] is None) == (row["passage"] > 0 or row["id"] == 9)
        if row["id"] != 9:
            assert row["text"] == documents[row["id"]][row["start"] : row["end"]]
    passage = next(row for row in rows if row["id"] == 6 and row["passage"] == 1)
    expected = encoder.encode_document(passage["text"], truncate_dim=index.dim, normalize_embeddings=True)
    np.testing.assert_allclose(passage["embedding"], expected, atol=1e-6)
    new = Index.from_arrow(table, encoder)
    assert_equal(new, index)
    assert new.to_arrow().equals(table, check_metadata=True)
    # Texts that are added later are divided as before.
    for each in (index, new):
        each.add([long], ids=["later"])
    assert_equal(new, index)
    # A store may return the rows in another order.
    order = np.random.default_rng(0).permutation(len(table))
    order = [int(row) for row in order if rows[row]["id"] == 6] + [
        int(row) for row in order if rows[row]["id"] != 6
    ]
    shuffled = Index.from_arrow(table.take(order), encoder)
    assert next(iter(shuffled)).id == 6
    assert [hit.id for hit in shuffled.search("dog", mode="vector")] == [
        hit.id for hit in new.search("dog", mode="vector") if hit.id != "later"
    ]


@pytest.mark.parametrize("column", ["passage", "document"])
def test_incomplete_passages_are_refused_with_their_item(encoder, column):
    index = Index(encoder, chunk_tokens=16, overlap=0)
    index.add(["The dog runs in the park all day. " * 3], ids=["long"])
    table = index.to_arrow()
    if column == "passage":
        table = table.slice(1)
    else:
        place = table.schema.get_field_index("document")
        table = table.set_column(place, "document", pa.nulls(len(table), pa.string()))
    with pytest.raises(ValueError, match="'long'"):
        Index.from_arrow(table, encoder)


def test_payloads_as_structs_and_as_other_columns(encoder):
    index = Index(encoder)
    index.add(["a", "b"], payloads=[{"year": 2001, "author": {"name": "Anne"}}, {"year": 1999}])
    table = index.to_arrow(payloads="struct")
    assert table.schema.field("payload").type.field("year").type == pa.int64()
    new = Index.from_arrow(table, encoder)
    assert [item.payload for item in new] == [
        {"year": 2001, "author": {"name": "Anne"}}, {"year": 1999, "author": None},
    ]  # fmt: skip
    assert [hit.id for hit in new.search("a", where={"author.name": "Anne"})] == [0]
    flat = table.drop_columns("payload").append_column("year", pa.array([1, 2]))
    assert [item.payload for item in Index.from_arrow(flat, encoder)] == [{"year": 1}, {"year": 2}]
    index.add(["c"], payloads=[{"year": "unknown"}])
    with pytest.raises(ValueError, match="payloads='json'"):
        index.to_arrow(payloads="struct")


def test_the_encoder_of_another_space_is_refused_by_the_names_of_both_spaces(index, encoder):
    table = index.to_arrow()
    other = make_bert()
    with pytest.raises(IndexMismatchError) as info:
        Index.from_arrow(table, other)
    assert encoder.space in str(info.value)
    assert other.space in str(info.value)
    without = Index.from_arrow(table, False)
    assert without.encoder is None
    assert [hit.id for hit in without.search("guitar")] == [0]


def test_the_model_of_the_schema_is_loaded():
    index = Index("cse-en-tiny")
    index.add(["A man is playing a guitar.", "The stock market fell."])
    table = index.to_arrow()
    new = Index.from_arrow(table)
    assert_equal(new, index)
    assert new.info()["encoder"] == index.info()["encoder"]
    # A table may have all components of the encoder, or only the first.
    encoder = index.encoder
    vectors = encoder.encode(["A man is playing a guitar.", "The stock market fell."])
    for width in (encoder.dim, encoder.similarity_dim, 8):
        flat = pa.FixedSizeListArray.from_arrays(pa.array(vectors[:, :width].reshape(-1)), width)
        part = pa.table({"text": index.to_arrow()["text"], "embedding": flat})
        part = part.replace_schema_metadata({"model": "cse-en-tiny", "fingerprint": encoder.fingerprint()})
        expected = Index(encoder, dim=min(width, encoder.similarity_dim))
        expected.add(part["text"].to_pylist())
        assert_equal(Index.from_arrow(part), expected)
    assert Index.from_arrow(table, dim=16).dim == 16


@pytest.mark.parametrize("store", ["float16", "int8", "binary"])
def test_decoded_vectors_are_those_that_a_search_compares(store, encoder, tmp_path):
    index = Index(encoder, store=store)
    index.add(TEXTS * 3)
    index.save(tmp_path)
    index = Index.open(tmp_path, encoder)
    new = Index.from_arrow(index.to_arrow(), encoder)
    scores = [hit.score for hit in index.search("the guitar", mode="vector", k=3)]
    assert [hit.score for hit in new.search("the guitar", mode="vector", k=3)] == pytest.approx(
        scores, abs=1e-6
    )


def vector_table(values, kind=None, **columns):
    kind = pa.list_(pa.float32()) if kind is None else kind
    return pa.table({"embedding": pa.array(values, kind), **columns})


@pytest.mark.parametrize(
    ("table", "error", "facts"),
    [
        (vector_table([[1, 2], None]), ValueError, ["embedding[1]", "null"]),
        (vector_table([[1, 2], [1, 2], [1]]), ValueError, ["embedding[2]", "1 numbers", "2"]),
        (vector_table([[1, 2], [1, float("nan")]]), ValueError, ["vectors[1]"]),
        (vector_table([["a"]], pa.list_(pa.string())), TypeError, ["embedding", "string"]),
        (vector_table([[1, 2]], id=[1.5]), TypeError, ["ids[0]", "float"]),
        (vector_table([[1, 2]] * 2, id=[1, 1]), ValueError, ["1", "twice"]),
        (vector_table([[1, 2]], text=[7]), TypeError, ["texts[0]", "int"]),
        (vector_table([[1, 2]], payload=["{"]), ValueError, ["payload", "JSON"]),
        (vector_table([[1, 2]], payload=[3]), TypeError, ["payload", "int64"]),
        (pa.table({"vector": [[1.0]]}), ValueError, ["embedding", "'vector'"]),
        ([[1.0]], TypeError, ["list"]),
    ],
)  # fmt: skip
def test_wrong_tables_are_refused_with_the_place(table, error, facts):
    with pytest.raises(error) as info:
        Index.from_arrow(table)
    for fact in facts:
        assert fact in str(info.value)


def test_columns_of_other_names_are_chosen():
    table = pa.table({"key": ["x"], "body": ["a text"], "vector": [[3.0, 4.0]], "extra": ['{"a": 1}']})
    index = Index.from_arrow(table, id="key", text="body", embedding="vector", payload="extra")
    assert [item.to_dict() for item in index] == [{"id": "x", "text": "a text", "payload": {"a": 1}}]
    assert index.to_arrow()["embedding"].to_pylist()[0] == pytest.approx([0.6, 0.8])
    with pytest.raises(ValueError, match="'key'"):
        Index.from_arrow(table.drop_columns("key"), id="key", embedding="vector")


def test_int8_vectors_have_their_scales():
    kind = pa.list_(pa.int8(), 2)
    table = vector_table(
        [[3, 4], [-1, 0]], kind, embedding_scale=pa.array([2.0, 0.5], pa.float32()), n=[1, 2]
    )
    index = Index.from_arrow(table, metric="dot")
    assert index.to_arrow()["embedding"].to_pylist() == [[6, 8], [-0.5, 0]]
    assert [item.payload for item in index] == [{"n": 1}, {"n": 2}]


def test_vectors_that_replaced_those_of_an_index_are_normalized(index, encoder):
    # The metadata of the schema remain.
    texts = index.to_arrow().select(["id", "text"])
    encoded = encoder.encode_table(texts, truncate_dim=index.dim, role="document")
    assert encoded.schema.metadata[b"metric"] == b"cosine"
    new = Index.from_arrow(encoded, encoder)
    assert results(new, "vector") == [
        [(name, text, None, None, nearly(score)) for name, text, _, _, score in own]
        for own in results(index, "vector")
    ]


def test_a_model_that_cannot_be_found_is_named():
    table = vector_table([[1, 2]]).replace_schema_metadata({"model": "CSE", "fingerprint": "f", "space": "s"})
    with pytest.raises(ModelNotFoundError, match=r"CSE.*encoder=False"):
        Index.from_arrow(table)
    assert len(Index.from_arrow(table, False)) == 1


def test_a_lone_surrogate_is_refused_with_its_item(encoder):
    index = Index(encoder)
    index.add(["good", "bad \ud800"])
    with pytest.raises(ValueError, match="1"):
        index.to_arrow()


def test_an_empty_index(encoder):
    table = Index(encoder).to_arrow()
    assert len(table) == 0
    assert table.schema.field("embedding").type == pa.list_(pa.float32(), encoder.similarity_dim)
    assert len(Index.from_arrow(table, encoder)) == 0


@given(
    st.lists(
        st.tuples(
            st.one_of(st.none(), st.text(st.characters(exclude_categories=["Cs"]), max_size=20)),
            st.one_of(st.none(), st.dictionaries(st.text(max_size=3), st.one_of(st.none(), st.integers(), st.text()))),
            st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=3),
        ),
        min_size=1,
        max_size=8,
    ),
    st.integers(0, 3),
)  # fmt: skip
@settings(max_examples=60, deadline=None)
def test_any_items_survive_a_round_trip(rows, offset):
    index = Index(dim=3, metric="dot")
    for text, payload, vector in rows:
        index.add(None if text is None else [text], vectors=[vector], payloads=[payload])
    table = index.to_arrow()
    new = Index.from_arrow(table)
    assert list(new) == list(index)
    assert new.to_arrow().equals(table, check_metadata=True)
    # A slice begins within the buffers of its table.
    part = Index.from_arrow(table.slice(offset))
    assert list(part) == list(index)[offset:]


def test_a_round_trip_keeps_the_next_id():
    index = Index(dim=2)
    index.add(vectors=np.eye(2))
    index.delete([1])
    again = Index.from_arrow(index.to_arrow())
    assert again.add(vectors=np.eye(1, 2)) == index.add(vectors=np.eye(1, 2)) == [2]
    # Rows without ids are numbered from 0.
    without = Index.from_arrow(index.to_arrow().drop_columns(["id"]))
    assert [item.id for item in without] == [0, 1]


def test_surrogates_are_named_by_the_place(encoder):
    for name in ("\ud800", "a\udfff"):
        index = Index(dim=2)
        index.add(vectors=np.eye(2), ids=["é", name])
        with pytest.raises(ValueError, match=r"the id '.*ud.*surrogate"):
            index.to_arrow()
    index = Index(dim=2)
    index.add(vectors=np.eye(2), ids=["\ud800", 1], payloads=[{"a": "é"}, {"a": "\ud800"}])
    again = Index.from_arrow(index.to_arrow())
    assert [item.to_dict() for item in again] == [item.to_dict() for item in index]
    with pytest.raises(ValueError, match=r"payload .*'a'.*surrogate.*payloads='json'"):
        index.to_arrow(payloads="struct")


def test_columns_have_different_names():
    table = pa.table([pa.array([0]), pa.array(["a"]), pa.array(["b"])], names=["id", "text", "text"])
    table = table.append_column("embedding", pa.array([[1.0, 2.0]]))
    with pytest.raises(ValueError, match="2 columns 'text'"):
        Index.from_arrow(table)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("options", "{"),
        ("options", "[]"),
        ("chunking", "5"),
        ("chunking", '{"tokens": 5}'),
        ("chunking", '{"tokens": "5", "overlap": 1}'),
        ("hybrid_alpha", "much"),
        ("hybrid_alpha", "nan"),
        ("next_id", "-1"),
        ("metric", "l2"),
        ("language", "English"),
    ],
)
def test_damaged_metadata_of_a_schema_are_named(index, key, value):
    table = index.to_arrow()
    table = table.replace_schema_metadata({**table.schema.metadata, key.encode(): value.encode()})
    with pytest.raises(ValueError, match=rf"{key}.* {re.escape(repr(value))}, expected"):
        Index.from_arrow(table)


def test_a_table_of_an_encoder_states_how_it_was_loaded(tmp_path):
    make_bert().save(tmp_path / "bert")
    encoder = sentenc.load(tmp_path / "bert", compute="int8")
    table = encoder.encode_table(pa.table({"text": TEXTS}))
    again = Index.from_arrow(table)
    assert again.encoder.compute == "int8"
    assert again.info()["encoder"] == str(tmp_path / "bert")
    assert again.info()["encoder options"] == {"compute": "int8"}
