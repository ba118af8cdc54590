"""The same two texts have the same similarity in the library, the command line, an index and the server."""

import json

import numpy as np
import pandas as pd
import pytest
from click.testing import CliRunner

import sentenc
from sentenc.cli import cli
from tests.support.models import make_bert, make_cse

TEXTS = ["A man is playing a guitar.", "Someone plays an instrument.", "The stock market fell sharply."]


@pytest.fixture(scope="module")
def encoder():
    encoder = make_cse(combine="both", average_dim=6)
    assert encoder.similarity_dim < encoder.dim
    return encoder


def cosines(vectors):
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return unit @ unit.T


@pytest.mark.parametrize("make", [lambda _: "cse-en", lambda path: path], ids=["shipped", "folder"])
def test_all_ways_give_the_same_number(make, encoder, tmp_path):
    encoder.save(tmp_path / "model")
    model = make(str(tmp_path / "model"))
    encoder = sentenc.load(model)
    expected = cosines(encoder.encode(TEXTS)[:, : encoder.similarity_dim])

    np.testing.assert_allclose(encoder.similarity(TEXTS, TEXTS), expected, atol=1e-6)

    output = CliRunner().invoke(cli, ["similarity", *TEXTS, "-m", model, "--json"])
    np.testing.assert_allclose(json.loads(output.stdout)["similarity"], expected, atol=2e-6)
    output = CliRunner().invoke(cli, ["similarity", *TEXTS[:2], "-m", model])
    assert float(output.stdout) == pytest.approx(expected[0, 1], abs=6e-5)

    index = sentenc.Index(encoder)
    index.add(TEXTS)
    for row, hits in zip(expected, index.search(TEXTS, k=len(TEXTS), mode="vector"), strict=True):
        assert [hit.score for hit in hits] == pytest.approx([row[hit.id] for hit in hits], abs=1e-6)


@pytest.mark.parametrize("name", ["cse-en", "tiny"])
def test_the_server_gives_the_same_number(name, encoder):
    pytest.importorskip("starlette")
    pytest.importorskip("httpx")
    from starlette.testclient import TestClient

    from sentenc.serving import ServerConfig, create_app

    encoder = sentenc.load(name) if name == "cse-en" else encoder
    index = sentenc.Index(encoder)
    index.add(TEXTS)
    expected = encoder.similarity(TEXTS, TEXTS)
    with TestClient(create_app({name: encoder}, {"main": index}, ServerConfig())) as client:
        answer = client.post("/similarity", json={"texts": TEXTS}).json()
        np.testing.assert_allclose(answer["similarities"], expected, atol=1e-6)
        answer = client.post("/v1/embeddings", json={"input": TEXTS, "model": name}).json()
        vectors = np.array([item["embedding"] for item in answer["data"]])
        assert vectors.shape == (3, encoder.similarity_dim)
        np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-6)
        hits = client.post("/search", json={"query": TEXTS[0], "k": 3, "mode": "vector"}).json()["results"]
        assert [hit["score"] for hit in hits] == pytest.approx(
            [expected[0, hit["id"]] for hit in hits], abs=1e-6
        )


def test_texts_and_vectors_can_be_mixed(encoder):
    vectors = encoder.encode(TEXTS)
    short = encoder.encode(TEXTS, truncate_dim=encoder.similarity_dim)
    expected = encoder.similarity(TEXTS, TEXTS)
    texts = (TEXTS, tuple(TEXTS), np.array(TEXTS), pd.Series(TEXTS, index=[7, 8, 9]))
    for left in (*texts, vectors, short, vectors.tolist(), pd.DataFrame(vectors)):
        for right in (TEXTS, vectors, short):
            np.testing.assert_allclose(encoder.similarity(left, right), expected, atol=1e-6)
    np.testing.assert_allclose(encoder.similarity(TEXTS[0], vectors[1])[0, 0], expected[0, 1], atol=1e-6)
    assert encoder.similarity([], TEXTS).shape == (0, 3)
    # An encoder without features for classifiers compares whole vectors.
    plain = make_bert()
    np.testing.assert_allclose(plain.similarity(TEXTS, TEXTS), cosines(plain.encode(TEXTS)), atol=1e-5)


def test_vectors_shorter_than_the_sentence_vector_are_compared_whole(encoder):
    few = encoder.encode(TEXTS, truncate_dim=4)
    np.testing.assert_allclose(encoder.similarity(few, few), cosines(few), atol=1e-6)


def test_other_inputs_than_texts_and_vectors_of_the_encoder_are_refused(encoder):
    vectors = encoder.encode(TEXTS)
    with pytest.raises(TypeError, match=r"texts\[1\] is NoneType"):
        encoder.similarity(["a dog", None], TEXTS)
    for other in (None, [TEXTS], np.array("a dog"), pd.DataFrame({"text": TEXTS}), iter(TEXTS)):
        with pytest.raises(TypeError, match="a is "):
            encoder.similarity(other, TEXTS)
    with pytest.raises(ValueError, match=f"b has {2 * encoder.dim} columns"):
        encoder.similarity(vectors, np.hstack([vectors, vectors]))
    with pytest.raises(ValueError, match="dimensions"):
        encoder.similarity(vectors[:, :4], vectors)


@pytest.mark.parametrize("scale", [1e-45, 1e-30, 1e30, 3e38])
def test_large_and_small_numbers_have_a_cosine(encoder, scale):
    large = np.full((1, encoder.similarity_dim), scale, np.float32)
    np.testing.assert_allclose(encoder.similarity(large, large), [[1]], atol=1e-6)
    np.testing.assert_allclose(encoder.similarity(large, -np.ones_like(large)), [[-1]], atol=1e-6)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
def test_numbers_that_are_not_finite_are_refused(encoder, value):
    vectors = np.ones((3, encoder.similarity_dim))
    wrong = vectors.copy()
    wrong[1, 2] = value
    with pytest.raises(ValueError, match="b has a value in row 1 that is not finite"):
        encoder.similarity(vectors, wrong)
