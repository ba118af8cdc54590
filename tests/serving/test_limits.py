"""Refusals and limits. Errors have OpenAI's format and never contain a traceback."""

import gzip
import json
import logging

import pytest

from tests.serving.conftest import SENTENCES, wait_until_ready
from tests.serving.test_embeddings import ROUTE, ask, refusal
from tests.support.doubles import Gated

JSON = {"content-type": "application/json"}
GOOD = json.dumps({"model": "tiny", "input": "a man"})


@pytest.mark.parametrize(
    "body",
    [
        "",
        "{",
        "null",
        "[]",
        '"text"',
        "3",
        '{"model": "tiny", "input": NaN}',
        '{"model": "tiny", "input": "a", "x": -Infinity}',
        '{"model": "tiny", "input": "a", "x": ' + "9" * 5000 + "}",
        "[" * 100_000,
        b'{"model": "tiny", "input": "\xff"}',
    ],
)
def test_body_that_is_not_a_json_object(client, body):
    error = refusal(client.post(ROUTE, content=body, headers=JSON), 400)
    assert error["code"] == "invalid_json"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "", "application/jsonx"])
def test_wrong_content_type(client, kind):
    error = refusal(client.post(ROUTE, content=GOOD, headers={"content-type": kind}), 415)
    assert "expected 'application/json'" in error["message"]


def test_content_type_with_charset(client):
    headers = {"content-type": "Application/JSON; charset=utf-8"}
    assert client.post(ROUTE, content=GOOD, headers=headers).status_code == 200


@pytest.mark.parametrize("coding", ["gzip", "GZIP", "br", "identity, gzip"])
def test_compressed_body_is_refused(client, coding):
    headers = {**JSON, "content-encoding": coding}
    answer = client.post(ROUTE, content=gzip.compress(GOOD.encode()), headers=headers)
    error = refusal(answer, 415)
    assert error["code"] == "unsupported_content_encoding"
    assert repr(coding) in error["message"]
    assert "without compression" in error["message"]
    assert answer.headers["accept-encoding"] == "identity"


def test_content_encoding_that_compresses_nothing(client):
    assert (
        client.post(ROUTE, content=GOOD, headers={**JSON, "content-encoding": "identity"}).status_code == 200
    )


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", ROUTE, "POST"),
        ("DELETE", "/search", "GET, HEAD, POST"),
        ("POST", "/health", "GET, HEAD"),
        ("POST", "/", "GET, HEAD"),
        ("PUT", "/v1/models/tiny", "GET, HEAD"),
    ],
)
def test_wrong_method(client, method, path, allow):
    answer = client.request(method, path)
    refusal(answer, 405)
    assert answer.headers["allow"] == allow


@pytest.mark.parametrize(
    "path", ["/nowhere", "/v1", "/v1/embeddings/", "/page/../app.py", "/page/%2e%2e/app.py"]
)
def test_unknown_route(client, path):
    assert refusal(client.get(path), 404)["code"] == "not_found"


def test_too_many_inputs(client_of, tiny):
    client = client_of({"tiny": tiny}, max_inputs=3)
    assert ask(client, input=["a"] * 3).status_code == 200
    error = refusal(ask(client, input=["a"] * 4), 422)
    assert error["code"] == "too_many_inputs"
    assert "4 texts, expected at most 3" in error["message"]


def test_large_body_with_and_without_a_length(client_of, tiny):
    client = client_of({"tiny": tiny}, max_body_bytes=1000)
    taken = []

    def chunks():
        for _ in range(200):
            taken.append(1)
            yield b" " * 1000

    for body in (b" " * 1001, chunks()):
        answer = client.post(ROUTE, content=body, headers=JSON)
        assert refusal(answer, 413)["code"] == "request_too_large"
    padded = GOOD.encode() + b" " * (1000 - len(GOOD))
    assert client.post(ROUTE, content=padded, headers=JSON).status_code == 200


@pytest.mark.parametrize(
    "header", [None, "Bearer wrong", "Bearer", "Basic sesame", "sesame", "Bearer sesame2", "Bearer \xff"]
)
def test_wrong_key(client_of, tiny, header):
    client = client_of({"tiny": tiny}, api_key="sesame")
    headers = JSON if header is None else {**JSON, "authorization": header.encode("latin-1")}
    for method, path in [
        ("POST", ROUTE),
        ("GET", "/metrics"),
        ("GET", "/v1/models"),
        ("GET", "/indexes"),
        ("GET", "/no"),
    ]:
        answer = client.request(method, path, headers=headers)
        assert refusal(answer, 401)["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"
        assert "sesame" not in answer.text


def test_right_key_and_public_routes(client_of, tiny):
    client = client_of({"tiny": tiny}, api_key="sésame")
    headers = {"authorization": "bearer sésame".encode()}
    assert client.post(ROUTE, json=json.loads(GOOD), headers=headers).status_code == 200
    for path in ("/health", "/ready", "/", "/page/style.css"):
        assert client.get(path).status_code in (200, 503)


def test_repr_hides_the_key():
    from sentenc.serving import ServerConfig

    assert "sesame" not in repr(ServerConfig(api_key="sesame"))


@pytest.mark.parametrize(
    "option",
    [
        {"max_queue": 0},
        {"max_inputs": True},
        {"port": 70_000},
        {"timeout": 0},
        {"timeout": float("nan")},
        {"grace": -1},
        {"api_key": " "},
        {"host": ""},
        {"max_body_bytes": 1.5},
        {"cors_origins": "http://a.example"},
        {"cors_origins": ["http://a.example/"]},
        {"cors_origins": ["a.example"]},
        {"cors_origins": [None]},
        {"cors_origins": ["http://A.example"]},
    ],
)
def test_config_out_of_range(option):
    from sentenc.serving import ServerConfig

    with pytest.raises(ValueError, match=next(iter(option))):
        ServerConfig(**option)


@pytest.mark.parametrize(
    ("option", "error", "words"),
    [
        ({"timeout": "x"}, TypeError, "timeout is 'x', expected a number"),
        ({"grace": True}, TypeError, "grace is True, expected a number"),
        ({"port": True}, ValueError, "port is True, expected an integer"),
        ({"api_key": 5}, TypeError, "api_key is int, expected a str"),
        ({"host": None}, TypeError, "host is None, expected a str"),
    ],
)
def test_config_of_other_types(option, error, words):
    from sentenc.serving import ServerConfig

    with pytest.raises(error, match=words):
        ServerConfig(**option)


def test_white_space_around_a_key_is_no_part_of_it(client_of, tiny):
    client = client_of({"tiny": tiny}, api_key=" secret\n")
    for key, status in (("secret", 200), ("secret ", 200), ("secre", 401), ("", 401)):
        assert client.get("/v1/models", headers={"authorization": f"Bearer {key}"}).status_code == status


def test_failure_of_the_encoder_is_only_logged(client_of, tiny, caplog):
    client = client_of({"tiny": Gated(tiny)})
    with caplog.at_level(logging.ERROR, "sentenc.serving"):
        answer = ask(client, input="poison")
    error = refusal(answer, 500)
    assert error["type"] == "server_error"
    assert "secret" not in answer.text
    assert "Traceback" not in answer.text
    assert "secret of the inside" in caplog.text
    assert answer.headers["x-request-id"] in caplog.text
    assert answer.headers["x-request-id"] in error["message"]
    assert ask(client, input=SENTENCES).status_code == 200


def test_timeout(client_of, tiny):
    encoder = Gated(tiny)
    client = client_of({"tiny": encoder}, timeout=0.2)
    wait_until_ready(client)
    encoder.open.clear()
    error = refusal(ask(client, input="a man"), 504)
    assert error["type"] == "timeout_error"
    assert "0.2 s" in error["message"]
    encoder.open.set()
    assert ask(client, input="a man").status_code == 200
