"""The models, indexes and classifiers of a server, looked up by the names that clients use."""

import logging
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sentenc.encoders.base import Encoder
from sentenc.encoders.lazy import LazyEncoder, Loaded
from sentenc.encoders.pair import PairEncoder
from sentenc.serving.api_errors import ApiError, shown
from sentenc.serving.config import ServerConfig
from sentenc.serving.metrics import Metrics
from sentenc.serving.services import ServedClassifier, ServedIndex, ServedModel
from sentenc.texts import describe

if TYPE_CHECKING:
    from sentenc.retrieval import Index
    from sentenc.retrieval.index_encoders import Speed

_logger = logging.getLogger("sentenc.serving")

_Service = TypeVar("_Service", ServedModel, ServedIndex, ServedClassifier)


class Catalog:
    """The models, indexes and classifiers of a server.

    Args:
        encoders: By the names that clients use.
        indexes: By name. The encoder with the fingerprint of an index's encoder of queries encodes them; if
            ``encoders`` does not contain it, the index's own is served too. The encoder of exact queries, if it is
            another one, is loaded when it is first used.
        config: The limits of the server.
        metrics: Counts the work.
        classifiers: By name. The encoder of each is served too, under the classifier's name, unless an
            encoder with the same fingerprint is already served.

    Raises:
        TypeError: A name is no str, or what it names is no encoder, index or fitted estimator.
        ValueError: There is nothing to serve, an index has no encoder, or names collide.
    """

    def __init__(
        self,
        encoders: Mapping[str, Encoder],
        indexes: "Mapping[str, Index]",
        config: ServerConfig,
        metrics: Metrics,
        classifiers: Mapping[str, Any] | None = None,
    ) -> None:
        classifiers = classifiers or {}
        _check_services(encoders, indexes, classifiers)
        named = dict(encoders)
        index_models = {name: _model_of_index(name, index, named) for name, index in indexes.items()}
        classifier_models = {
            name: _model_of_classifier(name, estimator.encoder_, named)
            for name, estimator in classifiers.items()
        }
        if not named:
            raise ValueError("nothing to serve: pass at least one encoder, index or classifier")
        self.models = {
            name: ServedModel(name, LazyEncoder(Loaded(encoder)), config, metrics)
            for name, encoder in named.items()
        }
        self._exact_models: list[ServedModel] = []
        self.indexes = {}
        for name, index in indexes.items():
            # The queries of an index without an encoder are encoded by a served model.
            default, *others = index.query_speeds or ["exact"]
            models: dict[Speed, ServedModel] = {default: self.models[index_models[name]]}
            for speed in others:
                models[speed] = self._exact_model(name, index, config, metrics)
            self.indexes[name] = ServedIndex(name, index, models, config, metrics)
        self.classifiers = {
            name: ServedClassifier(name, estimator, self.models[classifier_models[name]])
            for name, estimator in classifiers.items()
        }

    def model(self, name: Any, *, default: bool = False, param: str = "model") -> ServedModel:
        """Returns the model of a request; the first one if ``default`` and the name is None.

        Raises:
            ApiError: No model of that name is served (404), or the name is missing or not a str (400).
        """
        return _look_up(self.models, name, "model", param, default=default)

    def index(self, name: Any) -> ServedIndex:
        """Returns the index of a request; the only one if the name is None.

        Raises:
            ApiError: No index of that name is served (404), the name is not a str, or it is None and there are
                several indexes (400).
        """
        return _look_up(self.indexes, name, "index", "index", default=len(self.indexes) < 2)

    def classifier(self, name: Any) -> ServedClassifier:
        """Returns the classifier of a request; the only one if the name is None.

        Raises:
            ApiError: No classifier of that name is served (404), the name is not a str, or it is None and there
                are several classifiers (400).
        """
        return _look_up(self.classifiers, name, "classifier", "model", default=len(self.classifiers) < 2)

    def load(self) -> None:
        """Loads all encoders, those for exact queries too. The processes that are forked later share their memory."""
        for model in (*self.models.values(), *self._exact_models):
            try:
                model.load()
            except Exception:
                # The requests that use it will report the error to their clients.
                _logger.exception("the encoder of %s cannot be loaded", model.name)

    def start(self) -> None:
        """Starts all threads."""
        for service in self._threads():
            service.start()

    def stop(self) -> None:
        """Ends all threads."""
        for service in self._threads():
            service.stop()

    def _exact_model(self, name: str, index: "Index", config: ServerConfig, metrics: Metrics) -> ServedModel:
        """Returns the model of exact queries, which is a served one if its fingerprint is that of the index."""
        built_by = index.info()["fingerprint"]
        for model in self.models.values():
            # The queries of a pair are fast.
            if not isinstance(model.encoder, PairEncoder) and model.encoder.fingerprint() == built_by:
                return model
        model = ServedModel(f"{name} (exact)", index.query_source("exact"), config, metrics)
        self._exact_models.append(model)
        return model

    def _threads(self) -> Iterator[ServedModel | ServedIndex]:
        yield from self.models.values()
        yield from self._exact_models
        yield from self.indexes.values()


def _check_services(encoders: Any, indexes: Any, classifiers: Any) -> None:
    for kind, services in (("encoders", encoders), ("indexes", indexes), ("classifiers", classifiers)):
        if not isinstance(services, Mapping):
            raise TypeError(f"{kind} is {describe(services)}, expected a mapping from names")
        for name in services:
            if not isinstance(name, str):
                raise TypeError(f"{kind} has the name {name!r}, expected a str")
    for name, encoder in encoders.items():
        if not isinstance(encoder, Encoder):
            raise TypeError(f"encoders[{name!r}] is {describe(encoder)}, expected an Encoder")
    for name, estimator in classifiers.items():
        if not isinstance(getattr(estimator, "encoder_", None), Encoder):
            raise TypeError(f"classifiers[{name!r}] is {describe(estimator)}, expected a fitted estimator")
    if indexes:
        from sentenc.retrieval import Index

        for name, index in indexes.items():
            if not isinstance(index, Index):
                raise TypeError(f"indexes[{name!r}] is {describe(index)}, expected an Index")


def _look_up(services: dict[str, _Service], name: Any, kind: str, param: str, *, default: bool) -> _Service:
    code = f"{param}_not_found"
    if not services:
        raise ApiError(404, f"no {kind} is served here", param=param, code=code)
    if name is None:
        if not default:
            raise ApiError(400, f"{param} is missing, expected one of {', '.join(services)}", param=param)
        return next(iter(services.values()))
    if not isinstance(name, str):
        raise ApiError(400, f"{param} is {shown(name)}, expected a str", param=param)
    if name not in services:
        raise ApiError(
            404,
            f"there is no {kind} {shown(name)} here, expected one of {', '.join(services)}",
            param=param,
            code=code,
        )
    return services[name]


def _model_of_index(name: str, index: "Index", encoders: dict[str, Encoder]) -> str:
    """Returns the name of the encoder of an index's queries, which is added to ``encoders`` if it is missing."""
    info = index.info()
    described = {"model": info["encoder"], "fingerprint": info["fingerprint"]}
    has_own = info["query encoder"] is not None and "fast" in index.query_speeds
    if has_own:
        described = info["query encoder"]
    own = index.query_encoder if has_own else index.encoder
    # The fingerprint of a large encoder takes longer than a look at the object.
    for model, encoder in encoders.items():
        if encoder is own:
            return model
    for model, encoder in encoders.items():
        if described["fingerprint"] is not None and encoder.fingerprint() == described["fingerprint"]:
            return model
    if own is None:
        raise ValueError(f"index {name!r} has no encoder, expected one to encode queries with")
    # A folder is named by its last part: clients need not know where it is.
    built_by = described["model"] or name
    model = Path(built_by).name if Path(built_by).is_absolute() else str(built_by)
    if model in encoders:
        raise ValueError(
            f"index {name!r} was built by a model named {model!r} that differs from the served one: "
            "rename one of them"
        )
    encoders[model] = own
    return model


def _model_of_classifier(name: str, encoder: Encoder, encoders: dict[str, Encoder]) -> str:
    """Returns the name of a classifier's encoder, which is added to ``encoders`` if it is missing."""
    for model, other in encoders.items():
        if other is encoder or other.fingerprint() == encoder.fingerprint():
            return model
    if name in encoders:
        raise ValueError(
            f"classifier {name!r} has the name of a model with other weights: rename one of them"
        )
    encoders[name] = encoder
    return name
