"""Web pages of other origins: preflight requests and the headers of answers."""

import pytest

from tests.serving.test_embeddings import ROUTE, ask, refusal

ORIGIN = "http://localhost:3000"


def preflight(client, origin=ORIGIN, method="POST", path=ROUTE):
    headers = {
        "origin": origin,
        "access-control-request-method": method,
        # The headers of OpenAI's client for JavaScript.
        "access-control-request-headers": "authorization,content-type,x-stainless-lang",
    }
    return client.options(path, headers=headers)


def ask_from(client, origin, **headers):
    fields = {"model": "tiny", "input": "a man"}
    return client.post(ROUTE, json=fields, headers={"origin": origin, **headers})


def test_no_origin_is_allowed_by_default(client):
    refusal(preflight(client), 405)
    answer = ask_from(client, ORIGIN)
    assert answer.status_code == 200
    assert [name for name in answer.headers if name.startswith("access-control")] == []


@pytest.mark.parametrize(("path", "method"), [(ROUTE, "POST"), ("/search", "GET"), ("/classify", "POST")])
def test_allowed_origin(client_of, tiny, path, method):
    client = client_of({"tiny": tiny}, cors_origins=["https://app.example.com", ORIGIN])
    answer = preflight(client, method=method, path=path)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert method in answer.headers["access-control-allow-methods"]
    assert "x-stainless-lang" in answer.headers["access-control-allow-headers"]
    assert "access-control-allow-credentials" not in answer.headers
    answer = ask_from(client, ORIGIN)
    assert answer.status_code == 200
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert "Origin" in answer.headers["vary"]
    # Requests that do not come from a page are answered as before.
    assert ask(client, input="a man").json() == answer.json()


@pytest.mark.parametrize("origin", ["http://localhost:3001", "https://localhost:3000", "null"])
def test_other_origin(client_of, tiny, origin):
    client = client_of({"tiny": tiny}, cors_origins=[ORIGIN])
    assert preflight(client, origin).status_code == 400
    for answer in (preflight(client, origin), ask_from(client, origin)):
        assert "access-control-allow-origin" not in answer.headers


def test_all_origins(client_of, tiny):
    client = client_of({"tiny": tiny}, cors_origins=["*"])
    for answer in (preflight(client), ask_from(client, "https://anywhere.example")):
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "*"


def test_preflight_needs_no_key_and_pages_can_read_refusals(client_of, tiny):
    client = client_of({"tiny": tiny}, api_key="sesame", cors_origins=[ORIGIN])
    assert preflight(client).status_code == 200
    answer = ask_from(client, ORIGIN)
    assert refusal(answer, 401)["code"] == "invalid_api_key"
    assert answer.headers["access-control-allow-origin"] == ORIGIN
    assert ask_from(client, ORIGIN, authorization="Bearer sesame").status_code == 200
