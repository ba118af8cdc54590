"""Search over the indexes, and similarities of texts."""

import asyncio
import json
import time
from typing import TYPE_CHECKING, Any

import numpy as np

from sentenc.serving.errors import ApiError, shown
from sentenc.serving.routes.embeddings import number_rows
from sentenc.serving.services import Catalog
from sentenc.serving.validation import integer, texts

if TYPE_CHECKING:
    from sentenc.retrieval import Hit

MAX_K = 1000
# Hits of one request, over all its queries.
MAX_HITS = 100_000
# Texts that are compared with each other in one request: the answer grows with their square.
MAX_COMPARED = 256
# Writing more hits than this takes long enough to be done beside the event loop.
_MANY_HITS = 500


class Retrieval:
    """``/search``, ``/indexes`` and ``/similarity``."""

    def __init__(self, catalog: Catalog, max_inputs: int) -> None:
        self._catalog, self._max_inputs = catalog, max_inputs

    async def search(self, fields: dict[str, Any]) -> bytes:
        """The nearest items to ``query``, or to each of ``queries``."""
        if (fields.get("query") is None) == (fields.get("queries") is None):
            got = "neither" if fields.get("query") is None else "both"
            raise ApiError(400, f"got {got} of query and queries, expected one of them", param="query")
        name = "query" if fields.get("query") is not None else "queries"
        expected, article = (str, "a str") if name == "query" else (list, "a list of str")
        if not isinstance(fields[name], expected):
            raise ApiError(400, f"{name} is {shown(fields[name])}, expected {article}", param=name)
        return await self._search(fields, name)

    async def search_by_url(self, fields: dict[str, Any]) -> bytes:
        """The same for one query, ``q``, in a query string."""
        if "q" not in fields:
            raise ApiError(400, "q is missing, expected /search?q=TEXT", param="q")
        wanted: dict[str, Any] = {"q": fields["q"], "index": fields.get("index")}
        if "k" in fields:
            # The same message as for a JSON string, if these are no digits.
            digits = fields["k"].isascii() and fields["k"].isdigit() and len(fields["k"]) < 10
            wanted["k"] = int(fields["k"]) if digits else fields["k"]
        return await self._search(wanted, "q")

    async def indexes(self, fields: dict[str, Any]) -> bytes:
        """What can be searched."""
        return json.dumps({"indexes": [one.describe() for one in self._catalog.indexes.values()]}).encode()

    async def similarity(self, fields: dict[str, Any]) -> bytes:
        """Cosine similarities of ``texts``, each with each: (n, n)."""
        model = self._catalog.model(fields.get("model"), default=True)
        if isinstance(fields.get("texts"), str):
            raise ApiError(400, "texts is a str, expected a list of str", param="texts")
        items = texts(fields, "texts", min(self._max_inputs, MAX_COMPARED))
        vectors, _ = await model.encode(items, "texts", dimensions=model.encoder.similarity_dim)
        cosines = model.encoder.similarity(vectors, vectors)
        rows = await asyncio.to_thread(number_rows, cosines) if len(items) > 100 else number_rows(cosines)
        return b'{"model":%b,"similarities":[%b]}' % (json.dumps(model.name).encode(), b",".join(rows))

    async def _search(self, fields: dict[str, Any], name: str) -> bytes:
        served = self._catalog.index(fields.get("index"))
        k = integer(fields, "k", 1, MAX_K)
        k = 10 if k is None else k
        queries = texts(fields, name, self._max_inputs)
        if k * len(queries) > MAX_HITS:
            raise ApiError(
                422,
                f"{len(queries)} queries for {k} items each, expected at most {MAX_HITS} items in all",
                param="k",
            )
        started = time.perf_counter()
        vectors, _ = await served.model.encode(queries, name, dimensions=served.index.dim)
        encoded = time.perf_counter()
        hits = await served.search(np.asarray(vectors, np.float32), k)
        searched = time.perf_counter()
        took = {"encode": (encoded - started) * 1e3, "search": (searched - encoded) * 1e3}
        head = {"index": served.name, "model": served.model.name, "took_ms": took}
        single = name != "queries"
        if sum(map(len, hits)) <= _MANY_HITS:
            return _answer(head, hits, single)
        return await asyncio.to_thread(_answer, head, hits, single)


def _answer(head: dict[str, Any], hits: "list[list[Hit]]", single: bool) -> bytes:
    # One call for each list of hits: a single one for all would hold the interpreter for too long.
    lists = [json.dumps([hit.to_dict() for hit in some]) for some in hits]
    results = lists[0] if single else f"[{','.join(lists)}]"
    return f'{json.dumps(head)[:-1]}, "results": {results}}}'.encode()
