"""The routes ``/v1/embeddings`` and ``/v1/models``, in OpenAI's format."""

import base64
import json

import numpy as np
import pytest

from tests.serving.conftest import SENTENCES
from tests.support.models import make_bert, make_cse
from tests.support.pairs import make_pair, with_prompts

ROUTE = "/v1/embeddings"


def ask(client, **fields):
    return client.post(ROUTE, json={"model": "tiny", **fields})


def vectors(answer):
    assert answer.status_code == 200, answer.text
    rows = []
    for i, entry in enumerate(answer.json()["data"]):
        assert entry["object"] == "embedding"
        assert entry["index"] == i
        value = entry["embedding"]
        rows.append(np.frombuffer(base64.b64decode(value), "<f4") if isinstance(value, str) else value)
    return np.array(rows, np.float32)


def refusal(answer, status):
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize("layout", [None, "float", "base64"])
@pytest.mark.parametrize("dimensions", [None, 7])
def test_list_returns_unit_vectors_of_the_encoder(client, tiny, layout, dimensions):
    answer = ask(client, input=SENTENCES, encoding_format=layout, dimensions=dimensions)
    expected = tiny.encode(SENTENCES, normalize_embeddings=True, truncate_dim=dimensions)
    assert np.array_equal(vectors(answer), expected)
    np.testing.assert_allclose(np.linalg.norm(vectors(answer), axis=1), 1, atol=1e-6)
    content = answer.json()
    assert content["object"] == "list"
    assert content["model"] == "tiny"
    tokens = int(tiny.count_tokens(SENTENCES).sum())
    assert content["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}


@pytest.mark.parametrize("role", [None, "query", "document"])
def test_the_type_of_an_input_is_its_role(role):
    from starlette.testclient import TestClient

    from sentenc.serving import ServerConfig, create_app

    prompted = with_prompts(make_bert(), query="the word ", document="good ")
    encoders = {"prompted": prompted, "pair": make_pair(widths=(2,), combine="both"), "cse": make_cse()}
    with TestClient(create_app(encoders, {}, ServerConfig())) as client:
        for name, encoder in encoders.items():
            method = {
                None: encoder.encode,
                "query": encoder.encode_query,
                "document": encoder.encode_document,
            }
            expected = method[role](SENTENCES, normalize_embeddings=True)
            answer = client.post(ROUTE, json={"model": name, "input": SENTENCES, "input_type": role})
            np.testing.assert_allclose(vectors(answer), expected, rtol=0, atol=1e-5)
        answer = client.post(ROUTE, json={"model": "cse", "input": "a", "input_type": "passage"})
        error = refusal(answer, 400)
        assert error["param"] == "input_type"
        assert "expected query or document" in error["message"]


def test_one_text(client, tiny):
    answer = ask(client, input=SENTENCES[0])
    assert np.array_equal(vectors(answer), tiny.encode(SENTENCES[:1], normalize_embeddings=True))


def test_text_of_unknown_words_has_the_zero_vector(client):
    assert not vectors(ask(client, input="☃ ☃")).any()


def test_lone_surrogate_becomes_a_replacement_character(client, tiny):
    answer = client.post(
        ROUTE,
        content=json.dumps({"model": "tiny", "input": "a man \ud800"}),
        headers={"content-type": "application/json"},
    )
    assert np.array_equal(vectors(answer), tiny.encode(["a man \ufffd"], normalize_embeddings=True))


def test_user_and_unknown_fields_are_ignored(client):
    assert ask(client, input="a man", user="someone", mystery=[1, {"a": None}]).status_code == 200


def test_large_answer_is_complete(client_of, tiny):
    texts = [f"{SENTENCES[i % 6]} {i}" for i in range(2000)]
    client = client_of({"tiny": tiny}, max_batch_tokens=1000)
    assert np.array_equal(vectors(ask(client, input=texts)), tiny.encode(texts, normalize_embeddings=True))


@pytest.mark.parametrize(
    ("fields", "param", "words"),
    [
        ({}, "input", "input is missing"),
        ({"input": None}, "input", "input is missing"),
        ({"input": ""}, "input", "input is an empty text"),
        ({"input": []}, "input", "empty list"),
        ({"input": ["a", ""]}, "input", "input[1] is an empty text"),
        ({"input": ["a", None]}, "input", "input[1] is NoneType (None)"),
        ({"input": 5}, "input", "input is int (5)"),
        ({"input": {"a": 1}}, "input", "input is dict"),
        ({"input": [1, 2]}, "input", "token ids"),
        ({"input": [[1, 2]]}, "input", "token ids"),
        ({"input": "a", "encoding_format": "hex"}, "encoding_format", "'hex', expected 'float' or 'base64'"),
        ({"input": "a", "dimensions": 0}, "dimensions", "expected 1 to 24"),
        ({"input": "a", "dimensions": 25}, "dimensions", "expected 1 to 24"),
        ({"input": "a", "dimensions": True}, "dimensions", "expected an integer"),
        ({"input": "a", "dimensions": 2.0}, "dimensions", "expected an integer"),
        ({"input": "a", "model": 3}, "model", "model is int (3)"),
        ({"input": "a", "model": None}, "model", "model is missing"),
    ],
)
def test_wrong_fields_are_refused(client, fields, param, words):
    error = refusal(ask(client, **fields), 400)
    assert error["param"] == param
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"


@pytest.mark.parametrize("ids", [[15339, 1917], [[15339, 1917]]])
def test_refusal_of_token_ids_names_the_option_of_langchain(client, ids):
    error = refusal(ask(client, input=ids, encoding_format="base64"), 400)
    assert "15339" in error["message"]
    assert "check_embedding_ctx_length=False" in error["message"]


def test_unknown_model(client):
    error = refusal(ask(client, input="a", model="gpt-5"), 404)
    assert error["code"] == "model_not_found"
    assert "'gpt-5'" in error["message"]
    assert "tiny" in error["message"]


def test_too_long_text_is_refused_with_its_count(client):
    error = refusal(ask(client, input=["a man", "man " * 70]), 400)
    assert error["code"] == "context_length_exceeded"
    assert "input[1] has 70 tokens" in error["message"]
    assert "at most 64" in error["message"]


def test_too_long_text_is_cut_with_truncate(client_of, tiny):
    answer = ask(client_of({"tiny": tiny}, truncate=True), input="man " * 70)
    expected = tiny.encode(["man " * 70], normalize_embeddings=True, on_overflow="ignore")
    assert np.array_equal(vectors(answer), expected)
    assert answer.json()["usage"]["prompt_tokens"] == 64


def test_models(client_of, tiny):
    client = client_of({"tiny": tiny, "owner/words": tiny.word_path()})
    content = client.get("/v1/models").json()
    assert content["object"] == "list"
    assert [model["id"] for model in content["data"]] == ["tiny", "owner/words"]
    for model in content["data"]:
        assert model["object"] == "model"
        assert isinstance(model["created"], int)
        assert client.get(f"/v1/models/{model['id']}").json() == model
    assert refusal(client.get("/v1/models/nobody"), 404)["code"] == "model_not_found"
