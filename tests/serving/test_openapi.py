"""The description of the routes: it has all of them, and its fields are those that the server reads."""

import json
from html.parser import HTMLParser

import pytest

from sentenc import Index
from sentenc.serving import create_app
from tests.serving.conftest import SENTENCES

VALUES = {
    "model": "tiny", "input": ["a man"], "encoding_format": "base64", "dimensions": 3, "input_type": "query",
    "user": "me", "query": "a man", "q": "a man", "queries": "exact", "index": "one", "k": 2, "mode": "hybrid",
    "alpha": 0.5, "where": {}, "rerank": "tiny", "candidates": 5, "speed": "exact", "texts": ["a man"],
}  # fmt: skip


@pytest.fixture
def client(client_of, tiny):
    index = Index(tiny)
    index.add(SENTENCES)
    return client_of({"tiny": tiny}, {"one": index})


def test_all_routes_are_described(client, tiny):
    paths = client.get("/openapi.json").json()["paths"]
    routes = {route.path.replace(":path", "") for route in create_app({"tiny": tiny}).routes}
    assert set(paths) == routes - {"/", "/page/{name}", "/openapi.json", "/docs"}
    for path, operations in paths.items():
        if "{" not in path:
            allowed = client.request("DELETE", path).headers["allow"].lower().split(", ")
            assert set(operations) == set(allowed) - {"head"}


@pytest.mark.parametrize("path", ["/v1/embeddings", "/search", "/similarity"])
def test_every_field_is_read(client, path):
    operation = client.get("/openapi.json").json()["paths"][path]["post"]
    schema = operation["requestBody"]["content"]["application/json"]["schema"]
    needed = {name: VALUES[name] for name in schema["required"] or ["query"]}
    assert client.post(path, json=needed).status_code == 200
    for name, field in schema["properties"].items():
        assert field.get("description") or path == "/similarity"
        if name == "speed":
            continue
        answer = client.post(path, json={**needed, name: VALUES[name]})
        assert answer.status_code == 200, answer.text
        for choice in field.get("enum", []):
            assert "expected" not in client.post(path, json={**needed, name: choice}).text or name == "speed"
        unknown = client.post(path, json={**needed, "other": 1})
        assert unknown.status_code == (200 if path == "/v1/embeddings" else 400)
        wrong = client.post(path, json={**needed, name: {"a": {"b": 1}}})
        assert (wrong.status_code == 200) == (name == "user"), name
    for name in schema["required"]:
        refused = client.post(path, json={key: value for key, value in needed.items() if key != name})
        assert refused.status_code in (400, 404)


def test_references_and_the_key(client_of, tiny):
    client = client_of({"tiny": tiny}, api_key="secret")
    content = client.get("/openapi.json")
    described = content.json()
    assert content.headers["content-type"] == "application/json"
    assert (described["openapi"], described["info"]["title"]) == ("3.1.0", "sentenc")
    assert '"#/components/schemas/Error"' in json.dumps(described)
    assert described["components"]["schemas"]["Error"]["required"] == ["error"]
    assert described["components"]["securitySchemes"] == {"key": {"type": "http", "scheme": "bearer"}}
    for path, operations in described["paths"].items():
        for operation in operations.values():
            assert ("security" in operation) == (path not in ("/health", "/ready"))
            assert ("401" in operation["responses"]) == ("security" in operation)
    names = [o["operationId"] for operations in described["paths"].values() for o in operations.values()]
    assert len(set(names)) == len(names)


def test_the_page_loads_nothing_from_elsewhere(client):
    answer = client.get("/docs")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    links = []

    class Links(HTMLParser):
        def handle_starttag(self, tag, attributes):
            links.extend(value for name, value in attributes if name in ("href", "src"))

    Links().feed(answer.text)
    assert links == ["openapi.json"]
    for path in ("/v1/embeddings", "/search", "/v1/models/{name}"):
        assert path in answer.text
