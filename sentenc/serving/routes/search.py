"""Routes of search over indexes, and of similarities between texts."""

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from sentenc.serving.api_errors import ApiError, shown
from sentenc.serving.catalog import Catalog
from sentenc.serving.responses import json_rows
from sentenc.serving.routes.openapi import fields_of
from sentenc.serving.services import SearchSettings, ServedIndex
from sentenc.serving.validation import check_fields, choice, integer, number, payload_filter, texts

if TYPE_CHECKING:
    from sentenc.retrieval import Hit
    from sentenc.retrieval.index_encoders import Speed
    from sentenc.retrieval.modes import Mode

MAX_K = 1000
# Maximum number of hits in one answer, over all its queries.
MAX_HITS = 100_000
# Maximum number of texts whose similarities are computed in one request: the answer grows with their square.
MAX_COMPARED = 256
_SEARCH, _SEARCH_BY_URL = fields_of("post", "/search"), fields_of("get", "/search")
_SIMILARITY = fields_of("post", "/similarity")
_DEFAULT_K, DEFAULT_CANDIDATES = 10, 100
# Above this number of hits or texts, formatting the answer would hold up the event loop.
_HITS_IN_LOOP = 500
_COMPARED_IN_LOOP = 100


class SearchRoutes:
    """``/search``, ``/indexes`` and ``/similarity``."""

    def __init__(self, catalog: Catalog, max_inputs: int) -> None:
        self._catalog, self._max_inputs = catalog, max_inputs

    async def search(self, fields: dict[str, Any]) -> bytes:
        """Answers ``POST /search``: the ``k`` nearest items to ``query``, or to each of ``queries``.

        ``mode`` is ``"hybrid"``, ``"vector"`` or ``"lexical"``, and ``alpha`` the weight of the vectors in a hybrid
        search; see :meth:`sentenc.Index.search`. With ``rerank``, the name of a served model, this model orders the
        best ``candidates`` again. ``queries`` is ``"fast"`` or ``"exact"``; with a list of queries, this field is
        ``speed``. With ``where``, only items whose payloads meet this filter are results. If no item of the index
        does, ``note`` has the likely reason.

        Raises:
            ApiError: A field is wrong (400, 422), or the index is unknown (404).
        """
        check_fields(fields, _SEARCH)
        has_speed = fields.get("query") is not None and isinstance(fields.get("queries"), str)
        if not has_speed and (fields.get("query") is None) == (fields.get("queries") is None):
            got = "neither" if fields.get("query") is None else "both"
            raise ApiError(400, f"got {got} of query and queries, expected one of the two", param="query")
        name = "query" if fields.get("query") is not None else "queries"
        expected, article = (str, "a str") if name == "query" else (list, "a list of str")
        if not isinstance(fields[name], expected):
            raise ApiError(400, f"{name} is {shown(fields[name])}, expected {article}", param=name)
        return await self._search(fields, name)

    async def search_by_url(self, fields: dict[str, Any]) -> bytes:
        """Answers ``GET /search``: the ``k`` nearest items to the query ``q`` of a query string.

        Raises:
            ApiError: A field is wrong (400, 422), or the index is unknown (404).
        """
        check_fields(fields, _SEARCH_BY_URL)
        if "q" not in fields:
            raise ApiError(400, "q is missing, expected /search?q=TEXT", param="q")
        converted: dict[str, Any] = {
            name: fields.get(name) for name in ("q", "index", "mode", "where", "rerank")
        }
        converted |= {name: fields[name] for name in ("queries", "speed") if name in fields}
        if "alpha" in fields:
            converted["alpha"] = _as_number(fields["alpha"])
        for name in ("k", "candidates"):
            if name in fields:
                converted[name] = _as_integer(fields[name])
        return await self._search(converted, "q")

    async def indexes(self, fields: dict[str, Any]) -> bytes:
        """Lists all indexes."""
        return json.dumps(
            {"indexes": [index.describe() for index in self._catalog.indexes.values()]}
        ).encode()

    async def similarity(self, fields: dict[str, Any]) -> bytes:
        """Answers the cosine similarities (n, n) of n ``texts`` with each other.

        Raises:
            ApiError: A field is wrong (400, 422), or the model is unknown (404).
        """
        check_fields(fields, _SIMILARITY)
        model = self._catalog.model(fields.get("model"), default=True)
        if isinstance(fields.get("texts"), str):
            raise ApiError(400, "texts is a str, expected a list of str", param="texts")
        items = texts(fields, "texts", min(self._max_inputs, MAX_COMPARED))
        vectors, _ = await model.encode(items, "texts", dimensions=model.encoder.similarity_dim)
        cosines = model.encoder.similarity(vectors, vectors)
        in_loop = len(items) <= _COMPARED_IN_LOOP
        rows = json_rows(cosines) if in_loop else await asyncio.to_thread(json_rows, cosines)
        return b'{"model":%b,"similarities":[%b]}' % (json.dumps(model.name).encode(), b",".join(rows))

    async def _search(self, fields: dict[str, Any], name: str) -> bytes:
        index = self._catalog.index(fields.get("index"))
        k = integer(fields, "k", 1, MAX_K)
        k = _DEFAULT_K if k is None else k
        queries = texts(fields, name, self._max_inputs)
        if k * len(queries) > MAX_HITS:
            raise ApiError(
                422,
                f"{len(queries)} queries for {k} items each, expected at most {MAX_HITS} items in all",
                param="k",
            )
        where, mode = payload_filter(fields, "where"), _mode(fields, index)
        alpha = number(fields, "alpha", 0, 1)
        reranker = None
        if fields.get("rerank") is not None:
            reranker = self._catalog.model(fields["rerank"], param="rerank")
        candidates = integer(fields, "candidates", 1, MAX_K) or DEFAULT_CANDIDATES
        where_json = None if where is None else json.dumps(where, sort_keys=True)
        speed = _speed(fields, index)
        how = SearchSettings(k, mode, alpha, where_json, reranker, candidates, speed)
        model = index.models[speed]
        started = time.perf_counter()
        vectors = None
        if mode != "lexical":
            encoded_texts, _ = await model.encode(queries, name, dimensions=index.index.dim, role="query")
            vectors = np.asarray(encoded_texts, np.float32)
        encoded = time.perf_counter()
        hits = await index.search(queries, vectors, how)
        searched = time.perf_counter()
        took = {"encode": (encoded - started) * 1e3, "search": (searched - encoded) * 1e3}
        head: dict[str, Any] = {
            "index": index.name, "model": model.name, "mode": mode, "queries": speed, "took_ms": took,
        }  # fmt: skip
        if where is not None and not any(hits):
            head["note"] = await asyncio.to_thread(_why_nothing_matches, index, where)
        single = name != "queries"
        if sum(map(len, hits)) <= _HITS_IN_LOOP:
            return _answer(head, hits, single)
        return await asyncio.to_thread(_answer, head, hits, single)


def _mode(fields: dict[str, Any], index: ServedIndex) -> "Mode":
    modes = index.modes
    reason = "" if len(modes) > 1 else f": {index.name} has no words, which index_words() adds"
    chosen = choice(fields, "mode", modes, reason)
    return next((mode for mode in modes if mode == chosen), modes[0])


def _speed(fields: dict[str, Any], index: ServedIndex) -> "Speed":
    # A single query has its speed in the field "queries".
    name = "queries" if isinstance(fields.get("queries"), str) else "speed"
    chosen = choice(fields, name, index.speeds)
    return next((speed for speed in index.speeds if speed == chosen), index.speeds[0])


def _as_integer(text: str) -> int | str:
    # Anything but digits stays a str, and gets the message of a str in JSON.
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else text


def _as_number(text: str) -> float | str:
    try:
        return float(text)
    except ValueError:
        return text


def _why_nothing_matches(served: ServedIndex, where: dict[str, Any]) -> str | None:
    from sentenc.retrieval.filter_expressions import why_nothing_matches

    described = served.index.describe_filter(where)
    if described["items"]:
        return None
    return f"no item meets the filter: {'; '.join(why_nothing_matches(described['fields']))}"


def _answer(head: dict[str, Any], hits: "list[list[Hit]]", single: bool) -> bytes:
    # One call for each list of hits: a single call for all would hold the interpreter for too long.
    lists = [json.dumps([hit.to_dict() for hit in hits_of_query]) for hits_of_query in hits]
    results = lists[0] if single else f"[{','.join(lists)}]"
    return f'{json.dumps(head)[:-1]}, "results": {results}}}'.encode()
