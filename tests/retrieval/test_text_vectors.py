"""The texts and stored vectors of an index."""

import numpy as np
import pytest

from sentenc import Index, TextFileError
from sentenc.retrieval.vector_sources import read_text_vectors
from tests.support.models import make_cse

TEXTS = [
    "a man plays the guitar",
    "the stock market fell",
    "dog and cat",
    "people in the park",
    "hello world",
]


@pytest.fixture(scope="module")
def encoder():
    return make_cse()


@pytest.fixture
def index(encoder):
    index = Index(encoder)
    index.add(TEXTS[:3])
    index.add(TEXTS[3:])
    return index


def test_all_kinds_of_sources_are_equal(index, encoder, tmp_path):
    index.save(tmp_path / "index")
    expected = encoder.encode(TEXTS, normalize_embeddings=True, truncate_dim=encoder.similarity_dim)
    for source in (index, tmp_path / "index", str(tmp_path / "index"), Index.open(tmp_path / "index", False)):
        read = read_text_vectors(source)
        assert read.texts == TEXTS
        np.testing.assert_allclose(read.vectors(np.arange(5)), expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(read.vectors([4, 1]), expected[[4, 1]], rtol=0, atol=1e-6)
        assert read.described["fingerprint"] == encoder.fingerprint()
        assert read.left_out == {}


def test_deleted_items_and_those_without_text_or_vector_are_left_out(index, encoder, tmp_path):
    index.delete([1])
    index.add(vectors=np.ones((1, index.dim)))
    index.add(["zero", ""], vectors=np.zeros((2, index.dim)))
    index.update([2], ["dog and dog"])
    index.save(tmp_path / "index")
    for source in (index, tmp_path / "index"):
        read = read_text_vectors(source)
        assert read.texts == [TEXTS[0], TEXTS[3], TEXTS[4], "dog and dog"]
        assert read.left_out == {"no text": 2, "zero vector": 1}
        expected = encoder.encode(read.texts, normalize_embeddings=True)[:, : read.dim]
        np.testing.assert_allclose(read.vectors(np.arange(4)), expected, rtol=0, atol=1e-6)


def test_later_changes_do_not_matter(index):
    read = index.text_vectors()
    before = read.vectors([0, 4])
    index.delete([0])
    index.update([4], ["other"])
    np.testing.assert_array_equal(read.vectors([0, 4]), before)


def test_divided_texts_have_one_vector_for_each_passage(encoder, tmp_path):
    index = Index(encoder, chunk_tokens=16, overlap=0)
    index.add(
        [
            "The dog runs in the park all day. The stock market fell at the time of the year. Hello new world!",
            "hello",
        ]
    )
    index.delete([1])
    index.add(["new york"])
    index.save(tmp_path / "index")
    read = read_text_vectors(tmp_path / "index")
    assert len(read) > 2
    assert read.texts[-1] == "new york"
    assert read.texts[0].startswith("The dog runs")
    expected = encoder.encode(read.texts, normalize_embeddings=True)[:, : read.dim]
    np.testing.assert_allclose(read.vectors(np.arange(len(read))), expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("store", ["float16", "int8", "binary"])
def test_vectors_of_every_store_are_decoded(encoder, tmp_path, store):
    index = Index(encoder, store=store)
    texts = [f"{a} {b}" for a in TEXTS for b in TEXTS] * 41
    index.add(texts)
    index.save(tmp_path / "index")
    read = read_text_vectors(tmp_path / "index")
    stored = index.text_vectors().vectors(np.arange(25))
    np.testing.assert_array_equal(read.vectors(np.arange(25)), stored)
    cosines = (stored * encoder.encode(texts[:25], normalize_embeddings=True)[:, : read.dim]).sum(axis=1)
    assert cosines.min() > (0.5 if store == "binary" else 0.99)


def test_an_index_without_texts_and_names_for_an_index_are_errors(index, tmp_path):
    empty = Index(dim=3)
    with pytest.raises(TextFileError, match="has no item with a text and a vector"):
        empty.text_vectors()
    empty.add(vectors=np.ones((2, 3)))
    with pytest.raises(TextFileError, match="has no item with a text and a vector"):
        read_text_vectors(empty)
    index.save(tmp_path / "index")
    with pytest.raises(ValueError, match=r"text_field and vector_field are names of columns of a file"):
        read_text_vectors(tmp_path / "index", text_field="text")
