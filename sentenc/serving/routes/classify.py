"""Fitted classifiers over HTTP: their texts are encoded together with everybody else's."""

import json
from typing import TYPE_CHECKING, Any

from sentenc.serving.errors import ApiError
from sentenc.serving.validation import integer, pairs, texts

if TYPE_CHECKING:
    from sentenc.serving.services import Catalog

MAX_TOP_K = 1000
# Probabilities that one answer may have.
MAX_PROBABILITIES = 100_000
_TOP_K = 5


class Classification:
    """``POST /classify`` and ``GET /classifiers``."""

    def __init__(self, catalog: "Catalog", max_inputs: int) -> None:
        self._catalog, self._max_inputs = catalog, max_inputs

    async def classify(self, fields: dict[str, Any]) -> bytes:
        """Labels, or scores, of ``texts`` or ``pairs``; the ``top_k`` likeliest with their probabilities."""
        served = self._catalog.classifier(fields.get("model"))
        other = "pairs" if served.takes == "texts" else "texts"
        if fields.get(other) is not None:
            raise ApiError(400, f"{served.name} takes {served.takes}, got {other}", param=other)
        read = texts if served.takes == "texts" else pairs
        items: list[Any] = read(fields, served.takes, self._max_inputs)
        top_k = integer(fields, "top_k", 1, MAX_TOP_K)
        top_k = min(_TOP_K if top_k is None else top_k, len(served.labels))
        if top_k * len(items) > MAX_PROBABILITIES:
            raise ApiError(
                422,
                f"{len(items)} {served.takes} with {top_k} labels each, expected at most {MAX_PROBABILITIES} in all",
                param="top_k",
            )
        results = await served.results(items, top_k)
        return b'{"model":%b,"results":%b}' % (json.dumps(served.name).encode(), results)

    async def classifiers(self, fields: dict[str, Any]) -> bytes:
        """What can be asked."""
        described = [one.describe() for one in self._catalog.classifiers.values()]
        return json.dumps({"classifiers": described}).encode()
