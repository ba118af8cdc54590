"""Fitted classifiers over HTTP: their texts are encoded together with everybody else's."""

import asyncio
import json
from typing import TYPE_CHECKING, Any

import numpy as np

from sentenc.encoders.base import Vectors
from sentenc.serving.errors import ApiError, shown
from sentenc.serving.fields import integer, pairs, texts

if TYPE_CHECKING:
    from sentenc.serving.catalog import Catalog, ServedModel

MAX_TOP_K = 1000
# Probabilities that one answer may have.
MAX_PROBABILITIES = 100_000
_TOP_K = 5
# Finding more probabilities than this takes long enough to be done beside the event loop.
_MANY = 20_000


class ServedClassifier:
    """A fitted estimator of :mod:`sentenc.downstream`, and the model that encodes for it.

    Args:
        name: What clients call it.
        estimator: Fitted.
        model: Serves the estimator's encoder.
    """

    def __init__(self, name: str, estimator: Any, model: "ServedModel") -> None:
        from sentenc.downstream import SentenceClassifier

        self.name, self.estimator, self.model = name, estimator, model
        self.takes = "texts" if isinstance(estimator, SentenceClassifier) else "pairs"
        if hasattr(estimator, "steps_"):
            self.kind, classes = "score", estimator.steps_
        else:
            self.kind, classes = "multi-label" if estimator.multi_label_ else "label", estimator.classes_
        self.labels: list[Any] = classes.tolist()

    async def results(self, items: list[Any], top_k: int) -> bytes:
        """The results of n texts or pairs, as a JSON array.

        Raises:
            ApiError: As :meth:`sentenc.serving.catalog.ServedModel.encode` does.
        """
        if self.takes == "texts":
            vectors, _ = await self.model.encode(items, self.takes)
        else:
            from sentenc.downstream.features import pair_features

            first, _ = await self.model.encode([one for one, _ in items], self.takes)
            second, _ = await self.model.encode([other for _, other in items], self.takes)
            vectors = pair_features(first, second)
        if len(items) * len(self.labels) > _MANY:
            return await asyncio.to_thread(self._results, vectors, top_k)
        return self._results(vectors, top_k)

    def describe(self) -> dict[str, Any]:
        """The entry of ``GET /classifiers``."""
        return {
            "name": self.name, "model": self.model.name, "takes": self.takes, "predicts": self.kind,
            "labels": self.labels,
        }  # fmt: skip

    def _results(self, features: Vectors, top_k: int) -> bytes:
        probabilities = self.estimator.head_.probabilities(features)
        return b"[" + b",".join(self._result(row, top_k) for row in probabilities) + b"]"

    def _result(self, row: Any, top_k: int) -> bytes:
        if self.kind == "score":
            return json.dumps({"score": float(row @ np.asarray(self.labels, np.float64))}).encode()
        best = np.argsort(-row, kind="stable")[:top_k].tolist()
        # JSON's names are strings, whatever the labels are.
        probabilities = {_name(self.labels[i]): float(row[i]) for i in best}
        if self.kind == "multi-label":
            labels = [self.labels[i] for i in np.nonzero(row > 0.5)[0].tolist()]
            return json.dumps({"labels": labels, "probabilities": probabilities}).encode()
        first = {"label": self.labels[best[0]], "probability": float(row[best[0]])}
        return json.dumps({**first, "probabilities": probabilities}).encode()


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


def _name(label: Any) -> str:
    return json.dumps(label) if isinstance(label, bool) else str(label)


def refuse_unknown(name: Any, known: str) -> ApiError:
    """The error about a classifier that is not served."""
    if not known:
        return ApiError(404, "no classifier is served here", param="model", code="model_not_found")
    if not isinstance(name, str):
        return ApiError(400, f"model is {shown(name)}, expected a str", param="model")
    return ApiError(
        404, f"there is no classifier {shown(name)} here, expected one of {known}",
        param="model", code="model_not_found",
    )  # fmt: skip
