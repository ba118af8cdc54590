"""What is served: encoders and indexes by name, each with the thread that works for it."""

import asyncio
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder, Vectors
from sentenc.errors import ItemTooHeavyError, QueueFullError, StoppedError
from sentenc.serving.batcher import Job, MicroBatcher, Observe
from sentenc.serving.errors import ApiError, overloaded, shown, stopping
from sentenc.serving.metrics import Metrics
from sentenc.serving.settings import ServerConfig

if TYPE_CHECKING:
    from sentenc.retrieval import Hit, Index

# Queries that look through an index together: enough for one matrix product to serve many.
_QUERIES_PER_ROUND = 128
# Finding more probabilities than this takes long enough to be done beside the event loop.
_MANY = 20_000


class ServedModel:
    """An encoder, and the thread that encodes for all requests."""

    def __init__(self, name: str, encoder: Encoder, settings: ServerConfig, metrics: Metrics) -> None:
        self.name, self.encoder = name, encoder
        self._truncate = settings.truncate
        self._batcher = MicroBatcher(
            f"encode {name}", self._run,
            weigh=self._count,
            budget=settings.max_batch_tokens, max_queue=settings.max_queue,
            heaviest=None if settings.truncate else encoder.max_tokens,
            observe=_observer(metrics, "encode", name),
        )  # fmt: skip
        metrics.queue.watch(("encode", name), lambda: self._batcher.waiting)

    async def encode(
        self, texts: list[str], param: str, *, normalize: bool = False, dimensions: int | None = None
    ) -> tuple[Vectors, int]:
        """The vectors (n, dim) of a request's texts, and how many tokens they took.

        Raises:
            ApiError: The queue is full (429), the server stops (503), or a text is too long (400).
        """
        job = Job(texts, (normalize, dimensions))
        try:
            await _process(self._batcher, job)
        except ItemTooHeavyError as error:
            where = f"{param}[{error.index}]" if len(texts) > 1 else param
            raise ApiError(
                400,
                f"{where} has {error.weight} tokens, but {self.name} takes at most {self.encoder.max_tokens}: "
                "split the text, or start the server with --truncate to have such texts cut",
                param=param, code="context_length_exceeded",
            ) from None  # fmt: skip
        vectors = job.parts[0] if len(job.parts) == 1 else np.concatenate(job.parts)
        return np.asarray(vectors), sum(job.weights)

    def start(self) -> None:
        """Starts the thread."""
        self._batcher.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._batcher.stop()

    def _count(self, texts: list[str]) -> list[int]:
        counts = self.encoder.count_tokens(texts)
        used: list[int] = (np.minimum(counts, self.encoder.max_tokens) if self._truncate else counts).tolist()
        return used

    def _run(self, key: tuple[bool, int | None], texts: list[str]) -> Vectors:
        normalize, dimensions = key
        return self.encoder.encode(
            texts, normalize_embeddings=normalize, truncate_dim=dimensions, on_overflow="ignore"
        )


class ServedIndex:
    """An index, the model that encodes its queries, and the thread that searches for all requests."""

    def __init__(
        self, name: str, index: "Index", model: ServedModel, settings: ServerConfig, metrics: Metrics
    ) -> None:
        self.name, self.index, self.model = name, index, model
        self._batcher = MicroBatcher(
            f"search {name}", self._run, budget=_QUERIES_PER_ROUND, max_queue=settings.max_queue,
            observe=_observer(metrics, "search", name),
        )  # fmt: skip
        metrics.queue.watch(("search", name), lambda: self._batcher.waiting)
        metrics.index_items.watch((name,), lambda: len(index))

    async def search(self, vectors: npt.NDArray[np.float32], k: int) -> "list[list[Hit]]":
        """The hits of each of n vectors (n, dim).

        Raises:
            ApiError: The queue is full (429), or the server stops (503).
        """
        job = Job(list(vectors), k)
        await _process(self._batcher, job)
        return [hits for part in job.parts for hits in part]

    def describe(self) -> dict[str, Any]:
        """The entry of ``GET /indexes``."""
        info = self.index.info()
        kind = info.get("searched by") or info["kind"]
        return {
            "name": self.name, "model": self.model.name, "items": info["items"], "dim": info["dim"],
            "metric": info["metric"], "kind": kind,
        }  # fmt: skip

    def start(self) -> None:
        """Starts the thread."""
        self._batcher.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._batcher.stop()

    def _run(self, k: int, vectors: list[npt.NDArray[np.float32]]) -> "list[list[Hit]]":
        hits: list[list[Hit]] = self.index.search(np.stack(vectors), k)
        return hits


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
            ApiError: As :meth:`sentenc.serving.services.ServedModel.encode` does.
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


class Catalog:
    """The models, indexes and classifiers of a server.

    Args:
        encoders: By the names that clients use.
        indexes: By name; each is searched by the encoder of its own fingerprint, which is served too if
            ``encoders`` has it not.
        classifiers: By name; the encoder of each is served too, under the classifier's name unless one of
            the same fingerprint is there.

    Raises:
        ValueError: There is nothing to serve, an index has no encoder, or names collide.
    """

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        indexes: "Mapping[str, Index]",
        settings: ServerConfig,
        metrics: Metrics,
        classifiers: Mapping[str, Any] | None = None,
    ) -> None:
        named = dict(encoders)
        owners = {name: _owner(name, index, named) for name, index in indexes.items()}
        bases = {name: _base(name, one.encoder_, named) for name, one in (classifiers or {}).items()}
        if not named:
            raise ValueError(
                "got neither encoders nor indexes nor classifiers, expected at least one to serve"
            )
        self.models = {name: ServedModel(name, encoder, settings, metrics) for name, encoder in named.items()}
        self.indexes = {
            name: ServedIndex(name, index, self.models[owners[name]], settings, metrics)
            for name, index in indexes.items()
        }
        self.classifiers = {
            name: ServedClassifier(name, estimator, self.models[bases[name]])
            for name, estimator in (classifiers or {}).items()
        }

    def model(self, name: Any, *, default: bool = False) -> ServedModel:
        """The model of a request.

        Raises:
            ApiError: None of that name is served.
        """
        served = ", ".join(self.models)
        if name is None and default:
            return next(iter(self.models.values()))
        if name is None:
            raise ApiError(400, f"model is missing, expected one of {served}", param="model")
        if not isinstance(name, str):
            raise ApiError(400, f"model is {shown(name)}, expected a str", param="model")
        if name not in self.models:
            raise ApiError(
                404, f"there is no model {shown(name)} here, expected one of {served}",
                param="model", code="model_not_found",
            )  # fmt: skip
        return self.models[name]

    def index(self, name: Any) -> ServedIndex:
        """The index of a request; the first one by default.

        Raises:
            ApiError: None of that name is served.
        """
        if not self.indexes:
            raise ApiError(404, "no index is served here", param="index", code="index_not_found")
        if name is None:
            return next(iter(self.indexes.values()))
        if not isinstance(name, str):
            raise ApiError(400, f"index is {shown(name)}, expected a str", param="index")
        if name not in self.indexes:
            raise ApiError(
                404, f"there is no index {shown(name)} here, expected one of {', '.join(self.indexes)}",
                param="index", code="index_not_found",
            )  # fmt: skip
        return self.indexes[name]

    def classifier(self, name: Any) -> ServedClassifier:
        """The classifier of a request; the first one by default.

        Raises:
            ApiError: None of that name is served.
        """
        if name is None and self.classifiers:
            return next(iter(self.classifiers.values()))
        if not isinstance(name, str) or name not in self.classifiers:
            raise refuse_unknown(name, ", ".join(self.classifiers))
        return self.classifiers[name]

    def start(self) -> None:
        """Starts all threads."""
        for served in self._all():
            served.start()

    def stop(self) -> None:
        """Ends all threads."""
        for served in self._all():
            served.stop()

    def _all(self) -> Iterator[ServedModel | ServedIndex]:
        yield from self.models.values()
        yield from self.indexes.values()


async def _process(batcher: MicroBatcher, job: Job) -> None:
    try:
        await batcher.process(job)
    except QueueFullError as error:
        raise overloaded(error.seconds) from None
    except StoppedError:
        raise stopping() from None


def _owner(name: str, index: "Index", encoders: dict[str, Encoder]) -> str:
    """The name of the encoder that an index is searched by; added to ``encoders`` if it is not there."""
    for known, encoder in encoders.items():
        if encoder is index.encoder:
            return known
    info = index.info()
    for known, encoder in encoders.items():
        if info["fingerprint"] is not None and encoder.fingerprint() == info["fingerprint"]:
            return known
    if index.encoder is None:
        raise ValueError(f"index {name!r} has no encoder, expected one to encode queries with")
    # A folder is called by its last part: clients need not know where it is.
    built_by = info["encoder"] or name
    model = Path(built_by).name if Path(built_by).is_absolute() else built_by
    if model in encoders:
        raise ValueError(
            f"index {name!r} was built by another {model!r} than the one that is served: give one of them another name"
        )
    encoders[model] = index.encoder
    return str(model)


def _base(name: str, encoder: Encoder, encoders: dict[str, Encoder]) -> str:
    """The name of a classifier's encoder; added to ``encoders`` if it is not there."""
    for known, other in encoders.items():
        if other is encoder or other.fingerprint() == encoder.fingerprint():
            return known
    if name in encoders:
        raise ValueError(
            f"classifier {name!r} is called as a model with other weights is: give one of them another name"
        )
    encoders[name] = encoder
    return name


def _observer(metrics: Metrics, queue: str, name: str) -> Observe:
    labels = (queue, name)

    def observe(jobs: int, items: int, weight: int) -> None:
        metrics.batch_requests.observe(labels, jobs)
        metrics.batch_items.observe(labels, items)
        if queue == "encode":
            metrics.texts.add((name,), items)
            metrics.tokens.add((name,), weight)

    return observe
