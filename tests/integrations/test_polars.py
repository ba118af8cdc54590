"""The expression of Polars."""

import pickle

import numpy as np
import pytest

pytest.importorskip("polars")

import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

import sentenc
from sentenc.integrations.polars import encode
from tests.integrations.engines import MODEL, assert_one_vector_a_row, make_texts, write_texts
from tests.support.models import make_bert
from tests.support.pairs import with_prompts


def vectors_of(series):
    return np.array([vector for vector in series.to_list() if vector is not None], np.float32)


@settings(deadline=None, max_examples=40)
@given(st.lists(st.none() | st.text(max_size=20), max_size=30), st.integers(1, 8))
def test_vectors_are_those_of_encode_for_any_texts_and_chunks(texts, size):
    chunks = [
        pl.DataFrame({"text": texts[i : i + size]}, {"text": pl.String}) for i in range(0, len(texts), size)
    ]
    frame = pl.concat(chunks, rechunk=False) if chunks else pl.DataFrame({"text": []}, {"text": pl.String})
    series = frame.select(encode("text", model=MODEL)).to_series()
    encoder = sentenc.load(MODEL)
    assert series.dtype == pl.Array(pl.Float32, encoder.dim)
    assert series.name == "text"
    assert series.is_null().to_list() == [text is None for text in texts]
    known = [text for text in texts if text is not None]
    np.testing.assert_allclose(vectors_of(series).reshape(-1, encoder.dim), encoder.encode(known), atol=1e-6)


def test_a_lazy_frame_is_streamed_to_a_file(tmp_path):
    texts = write_texts(tmp_path / "texts")
    options = {"truncate_dim": 32, "normalize_embeddings": True}
    frame = pl.scan_parquet(tmp_path / "texts" / "*.parquet")
    frame = frame.with_columns(embedding=encode(pl.col("text"), model=MODEL, **options))
    assert frame.collect_schema()["embedding"] == pl.Array(pl.Float32, 32)
    frame.sink_parquet(tmp_path / "vectors.parquet", row_group_size=1000)
    assert_one_vector_a_row(pl.read_parquet(tmp_path / "vectors.parquet").to_arrow(), texts, **options)


def test_a_filter_is_pushed_before_the_expression():
    texts = make_texts(300)
    frame = pl.LazyFrame({"id": range(300), "text": texts})
    frame = frame.with_columns(embedding=encode("text", model=MODEL)).filter(pl.col("id") % 3 == 1)
    kept = frame.collect()
    assert kept["id"].to_list() == list(range(1, 300, 3))
    known = [text for text in texts[1::3] if text is not None]
    np.testing.assert_allclose(vectors_of(kept["embedding"]), sentenc.load(MODEL).encode(known), atol=1e-6)


def test_roles_and_prompts_of_an_encoder():
    encoder = with_prompts(make_bert(), query="someone ", document="the ")
    frame = pl.DataFrame({"text": ["a man is playing the guitar", "the dog runs"]})
    texts = frame["text"].to_list()
    for options, expected in (
        ({"role": "query"}, encoder.encode_query(texts)),
        ({"role": "document", "threads": 1}, encoder.encode_document(texts)),
        ({"prompt_name": "query"}, encoder.encode(texts, prompt_name="query")),
    ):
        series = frame.select(encode(pl.col("text"), model=encoder, **options)).to_series()
        np.testing.assert_allclose(vectors_of(series), expected, atol=1e-5)


def test_an_expression_can_be_serialized():
    frame = pl.LazyFrame({"text": ["a man", None]}).with_columns(embedding=encode("text", model=MODEL))
    copy = pickle.loads(pickle.dumps(frame))
    assert copy.collect().equals(frame.collect())


def test_wrong_options_are_errors_before_the_frame_is_computed():
    for options, error in (
        ({"truncate_dim": 0}, ValueError),
        ({"on_overflow": "cut"}, ValueError),
        ({"role": "question"}, ValueError),
        ({"model": "no-such-model"}, sentenc.ModelNotFoundError),
    ):
        with pytest.raises(error):
            encode("text", **{"model": MODEL, **options})
    with pytest.raises(TypeError, match="int64"):
        pl.DataFrame({"text": [1, 2]}).select(encode("text", model=MODEL))
