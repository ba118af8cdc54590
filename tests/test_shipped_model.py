"""The models that ship: sensible, pinned, small."""

from pathlib import Path

import numpy as np
import pytest

import sentenc
from sentenc.registry import resolve_model

SIZES = {
    "cse-en": (480, 256, 12e6),
    "cse-en-tiny": (272, 160, 3e6),
    "pair-en": (384, 384, 6e6),
    "tinybert4-en": (384, 384, 20e6),
    "tinybert6-en": (384, 384, 12e6),
}


@pytest.fixture(scope="module", params=SIZES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def encoder(name):
    return sentenc.load(name)


def test_expected_models_ship():
    assert sentenc.available_models() == sorted(SIZES)


def test_similar_sentences_have_higher_cosines(encoder):
    pairs = [
        ("A man is playing a guitar.", "Someone plays an instrument.", "The stock market fell."),
        ("How do I reset my password?", "I forgot my login credentials", "The recipe needs two eggs"),
        ("The cat sleeps on the sofa", "A kitten is napping on the couch", "Parliament passed the budget"),
    ]
    for text, near, far in pairs:
        similar = encoder.similarity(encoder.encode(text), encoder.encode([near, far]))[0]
        assert similar[0] > similar[1] + 0.2, text


@pytest.mark.parametrize("name", ["cse-en", "cse-en-tiny"], scope="module")
def test_ngrams_count(encoder):
    a, b = encoder.encode(["the dog bit the man in the park", "the man bit the dog in the park"])
    words = encoder.word_path().encode(["the dog bit the man in the park", "the man bit the dog in the park"])
    np.testing.assert_allclose(words[0], words[1], atol=1e-5)
    assert np.abs(a - b).max() > 1e-3


def size(name):
    return sum(path.stat().st_size for path in resolve_model(name).rglob("*") if path.is_file())


def test_all_models_are_small():
    assert sum(map(size, SIZES)) < 48e6


@pytest.mark.parametrize(("name", "factor"), [("tinybert4-en", 7.5), ("tinybert6-en", 5)], scope="module")
def test_tinybert_is_much_smaller_than_bert_base(name, factor):
    student = sentenc.load(name)
    # all-mpnet-base-v2 has 109,486,464.
    sizes = [np.prod(shape) for shape in student.config.shapes().values()]
    assert sum(sizes) * factor < 109_486_464


def test_the_pair_is_tinybert_with_faster_queries():
    pair, documents = sentenc.load("pair-en"), sentenc.load("tinybert4-en")
    assert pair.space == documents.space != sentenc.load("cse-en").space
    assert pair.halves["documents"].shipped == "tinybert4-en"
    texts = ["what do pandas eat", "how to reset a password", "side effects of aspirin", "history of rome"]
    np.testing.assert_allclose(pair.encode_document(texts), documents.encode_document(texts), atol=1e-5)
    fast, exact = pair.encode_query(texts), documents.encode_query(texts)
    assert np.diag(pair.similarity(fast, exact)).min() > 0.75
    assert isinstance(pair.queries, sentenc.CSE)


@pytest.mark.parametrize("name", ["tinybert4-en", "tinybert6-en"], scope="module")
def test_tinybert_has_a_prompt_for_queries(name):
    encoder = sentenc.load(name)
    assert dict(encoder.prompts) == {"query": "query: "}
    assert encoder.max_tokens == 512


@pytest.mark.parametrize("name", ["tinybert4-en", "tinybert6-en"], scope="module")
def test_tinybert_in_int8_is_about_the_same(name):
    texts = ["A man is playing a guitar.", "The stock market fell.", "How do I reset my password?"]
    exact, fast = (sentenc.load(name, compute=compute) for compute in ("float32", "int8"))
    assert (exact.encode(texts) * fast.encode(texts)).sum(1).min() > 0.98


def test_folder_is_small_and_described(name, encoder):
    folder = resolve_model(name)
    assert size(name) < SIZES[name][2]
    assert "STS-B" in (folder / "README.md").read_text(encoding="utf-8")
    assert {"summary", "sources", "scores", "command"} <= set(encoder.metadata)
    assert encoder.metadata["name"] == name


def test_files_stay_in_the_package(name, encoder):
    assert Path(sentenc.__file__).parent in resolve_model(name).parents
    assert (encoder.dim, encoder.similarity_dim) == SIZES[name][:2]
