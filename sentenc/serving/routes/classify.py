"""Routes of classification by fitted estimators."""

import json
from typing import Any

from sentenc.serving.api_errors import ApiError
from sentenc.serving.catalog import Catalog
from sentenc.serving.routes.openapi import fields_of
from sentenc.serving.validation import check_fields, integer, pairs, texts

MAX_TOP_K = 1000
# Maximum number of probabilities in one answer.
MAX_PROBABILITIES = 100_000
_DEFAULT_TOP_K = 5
_FIELDS = fields_of("post", "/classify")


class ClassifyRoutes:
    """``POST /classify`` and ``GET /classifiers``."""

    def __init__(self, catalog: Catalog, max_inputs: int) -> None:
        self._catalog, self._max_inputs = catalog, max_inputs

    async def classify(self, fields: dict[str, Any]) -> bytes:
        """Answers the labels or scores of ``texts`` or ``pairs``, and the ``top_k`` highest probabilities.

        Raises:
            ApiError: A field is wrong (400, 422), or the classifier is unknown (404).
        """
        check_fields(fields, _FIELDS)
        classifier = self._catalog.classifier(fields.get("model"))
        other = "pairs" if classifier.takes == "texts" else "texts"
        if fields.get(other) is not None:
            raise ApiError(400, f"{classifier.name} takes {classifier.takes}, got {other}", param=other)
        read = texts if classifier.takes == "texts" else pairs
        items: list[Any] = read(fields, classifier.takes, self._max_inputs)
        top_k = integer(fields, "top_k", 1, MAX_TOP_K)
        top_k = min(_DEFAULT_TOP_K if top_k is None else top_k, len(classifier.labels))
        if top_k * len(items) > MAX_PROBABILITIES:
            raise ApiError(
                422,
                f"{len(items)} {classifier.takes} with {top_k} labels each, "
                f"expected at most {MAX_PROBABILITIES} in all",
                param="top_k",
            )
        results = await classifier.results(items, top_k)
        return b'{"model":%b,"results":%b}' % (json.dumps(classifier.name).encode(), results)

    async def classifiers(self, fields: dict[str, Any]) -> bytes:
        """Lists all classifiers."""
        described = [classifier.describe() for classifier in self._catalog.classifiers.values()]
        return json.dumps({"classifiers": described}).encode()
