"""The description of the routes: ``/openapi.json`` for programs, and ``/docs`` for readers."""

import json
from html import escape
from typing import Any

from sentenc._version import __version__

_TEXTS = {"oneOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
_LIST = {"type": "array", "items": {"type": "string"}, "minItems": 1}
_PAIRS = {
    "type": "array",
    "items": {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 2},
}


def _text(description: str, *choices: str) -> dict[str, Any]:
    return {"type": "string", "description": description} | ({"enum": list(choices)} if choices else {})


def _number(description: str, kind: str = "integer") -> dict[str, Any]:
    return {"type": kind, "description": description}


_MODE = _text("The mode; by default the first that the index has.", "hybrid", "vector", "lexical")
_EMBEDDINGS = {
    "model": _text("Name of a served model."),
    "input": {**_TEXTS, "description": "One text, or a list of texts. Token ids are refused."},
    "encoding_format": _text("The form of the vectors.", "float", "base64"),
    "dimensions": _number("The leading components to return; by default those that a similarity compares."),
    "input_type": _text("The role of the texts.", "query", "document"),
    "user": _text("Accepted for clients that send it, and ignored."),
}
_SEARCH = {
    "query": _text("The query. Either this field or a list of queries is needed."),
    "queries": {
        "description": "A list of queries; or for one query the encoder of it, \"fast\" or \"exact\".", **_TEXTS,
    },
    "index": _text("Name of a served index; it may be left out if there is only one."),
    "k": _number("The number of results, 1 to 1000."),
    "mode": _MODE,
    "alpha": _number("The weight of the vectors in a hybrid search, 0 to 1.", "number"),
    "where": {"description": "A filter on payloads: an object, an expression like \"year>=2000\", or a list."},
    "rerank": _text("Name of a served model that reorders the best candidates."),
    "candidates": _number("The number of candidates to reorder."),
    "speed": _text("The encoder of a list of queries.", "fast", "exact"),
}  # fmt: skip
_SIMILARITY = {"texts": _LIST, "model": _text("Name of a served model; by default the first.")}
_CLASSIFY = {
    "model": _text("Name of a served classifier; it may be left out if there is only one."),
    "texts": _LIST,
    "pairs": {**_PAIRS, "description": "Instead of texts, for a classifier of pairs."},
    "top_k": _number("The number of probabilities to return."),
}
# Method, path, purpose, fields of a body or of a query string, and those that are needed.
_ROUTES: tuple[tuple[str, str, str, dict[str, Any], tuple[str, ...]], ...] = (
    ("post", "/v1/embeddings", "Vectors of texts, in OpenAI's format", _EMBEDDINGS, ("model", "input")),
    ("get", "/v1/models", "The served models", {}, ()),
    ("get", "/v1/models/{name}", "One served model", {}, ()),
    ("post", "/search", "The nearest items of an index", _SEARCH, ()),
    (
        "get", "/search", "The nearest items of an index, by a link",
        {"q": _text("The query.")} | {name: _SEARCH[name] for name in _SEARCH if name not in ("query",)}, ("q",),
    ),
    ("post", "/similarity", "The cosine of every text with every other", _SIMILARITY, ("texts",)),
    ("post", "/classify", "Labels or scores of texts or pairs", _CLASSIFY, ()),
    ("get", "/indexes", "The served indexes", {}, ()),
    ("get", "/classifiers", "The served classifiers", {}, ()),
    ("get", "/health", "Whether the process is alive", {}, ()),
    ("get", "/ready", "Whether the server is ready", {}, ()),
    ("get", "/metrics", "Metrics in the format of Prometheus", {}, ()),
)  # fmt: skip
_STATUSES = {
    "400": "A field is wrong or unknown, or a text is too long.",
    "401": "The API key is missing or wrong.",
    "404": "There is no such model, index or classifier.",
    "413": "The body is too large.",
    "415": "The body is not JSON, or it is compressed.",
    "422": "A field is out of range, there are too many texts, or a candidate of a reranker has no text.",
    "429": "The queue is full; Retry-After has the seconds to wait.",
    "503": "The server is starting or stopping, or (only /ready) something that it serves cannot be used.",
    "504": "The request took too long.",
}
_PUBLIC = ("/health", "/ready")


def fields_of(method: str, path: str) -> tuple[str, ...]:
    """Returns the names of the fields of a route.

    Args:
        method: ``"get"`` or ``"post"``.
        path: The path of the route.
    """
    return next(tuple(fields) for verb, route, _, fields, _ in _ROUTES if (verb, route) == (method, path))


class ApiDescription:
    """``GET /openapi.json`` and ``GET /docs``.

    Args:
        needs_key: Whether clients must send a key.
    """

    def __init__(self, needs_key: bool) -> None:
        self._content = json.dumps(api_description(needs_key)).encode()
        self._page = _page().encode()

    async def content(self, fields: dict[str, Any]) -> bytes:
        """Answers the description as JSON."""
        return self._content

    async def page(self, fields: dict[str, Any]) -> bytes:
        """Answers the description as a web page, which loads nothing from elsewhere."""
        return self._page


def api_description(needs_key: bool) -> dict[str, Any]:
    """Returns the routes as an OpenAPI 3.1 document.

    Args:
        needs_key: Whether clients must send a key.
    """
    paths: dict[str, dict[str, Any]] = {}
    for method, path, purpose, fields, needed in _ROUTES:
        operation: dict[str, Any] = {
            "summary": purpose,
            "operationId": f"{method}{path.replace('/', '_').replace('{', '').replace('}', '')}",
            "responses": _responses(method, path, needs_key),
        }
        if needs_key and path not in _PUBLIC:
            operation["security"] = [{"key": []}]
        if method == "post":
            schema = {"type": "object", "properties": fields, "required": list(needed)}
            operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
        else:
            places = {name: "query" for name in fields} | ({"name": "path"} if "{name}" in path else {})
            operation["parameters"] = [
                {
                    "name": name, "in": place, "required": place == "path" or name in needed,
                    "schema": fields.get(name, {"type": "string"}),
                }
                for name, place in places.items()
            ]  # fmt: skip
        paths.setdefault(path, {})[method] = operation
    components: dict[str, Any] = {"schemas": {"Error": _ERROR}}
    if needs_key:
        components["securitySchemes"] = {"key": {"type": "http", "scheme": "bearer"}}
    return {
        "openapi": "3.1.0",
        "info": {"title": "sentenc", "version": __version__, "description": _DESCRIPTION},
        "paths": paths,
        "components": components,
    }


_DESCRIPTION = (
    "Sentence vectors, search and classification. Every answer has the header x-request-id, which the server's log "
    "names if a request fails."
)
_ERROR = {
    "type": "object",
    "properties": {
        "error": {
            "type": "object",
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": ["string", "null"]},
            },
            "required": ["message", "type", "param", "code"],
        }
    },
    "required": ["error"],
}


def _responses(method: str, path: str, needs_key: bool) -> dict[str, Any]:
    kind = "text/plain" if path == "/metrics" else "application/json"
    schema = {"type": "string"} if path == "/metrics" else {"type": "object"}
    responses: dict[str, Any] = {"200": {"description": "The answer", "content": {kind: {"schema": schema}}}}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}}
    for status, meaning in _STATUSES.items():
        if (status != "401" or (needs_key and path not in _PUBLIC)) and (
            method == "post" or status not in ("413", "415")
        ):
            responses[status] = {"description": meaning, "content": error}
    return responses


def _page() -> str:
    parts = []
    for method, path, purpose, fields, needed in _ROUTES:
        parts.append(f"<h2><code>{method.upper()} {escape(path)}</code></h2><p>{escape(purpose)}.</p>")
        rows = [
            f"<tr><td><code>{name}</code>{' (required)' if name in needed else ''}</td>"
            f"<td>{escape(str(field.get('description', '')))}</td></tr>"
            for name, field in fields.items()
        ]
        parts += [f"<table><tbody>{''.join(rows)}</tbody></table>"] * bool(rows)
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>sentenc: routes</title>'
        '<meta name="viewport" content="width=device-width"></head><body><main><h1>Routes of this server</h1>'
        f'<p>{escape(_DESCRIPTION)} <a href="openapi.json">OpenAPI document</a></p>{"".join(parts)}'
        "</main></body></html>"
    )
