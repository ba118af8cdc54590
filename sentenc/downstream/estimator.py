"""What the estimators have in common: settings, the fit in its two forms, and features of new texts."""

import copy
import os
import time
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, Self, TypeGuard, TypeVar

import numpy as np
import numpy.typing as npt

from sentenc.downstream.features import pair_features
from sentenc.downstream.fine_tuning_config import FineTuningConfig
from sentenc.downstream.head import LinearHead
from sentenc.downstream.head_solver import fit_head, hits
from sentenc.downstream.labels import parse_texts
from sentenc.downstream.persistence import (
    CONFIG,
    HEAD,
    EstimatorState,
    read_config,
    read_encoder,
    read_head,
    write_estimator,
)
from sentenc.encoders.base import Encoder
from sentenc.errors import CheckpointError, MissingExtraError
from sentenc.registry import available_models
from sentenc.registry import load as load_encoder
from sentenc.solvers.losses import OutputKind, log_losses, probabilities
from sentenc.splits import Rows, strata, validation_rows

try:
    from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
    from sklearn.exceptions import NotFittedError
except ImportError as error:
    raise MissingExtraError("downstream", "scikit-learn", "a classifier") from error

# With the mixins for the classes that build on this one: scikit-learn is imported here, where its lack is told.
__all__ = ["ClassifierMixin", "RegressorMixin", "SentenceEstimator"]

Floats = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]
HeldOut = tuple[Rows, Floats] | None

# The attributes set by fit() that are saved as JSON.
_FITTED = ("metrics_", "history_", "C_", "n_iter_")
# Settings that are not JSON values, or that concern only the process that fits.
_NOT_SAVED = ("encoder", "random_state", "class_weight", "show_progress_bar")


class SentenceEstimator(BaseEstimator):  # type: ignore[misc, unused-ignore]
    """Base class of the estimators; see :class:`~sentenc.downstream.SentenceClassifier` for the settings."""

    def __init__(
        self,
        encoder: str | os.PathLike[str] | Encoder = "cse-en",
        *,
        tune: Literal["head", "all"] = "head",
        init: Literal["pretrained", "random"] = "pretrained",
        C: float | Literal["auto"] = "auto",
        class_weight: Literal["balanced"] | dict[Any, float] | None = None,
        validation_fraction: float = 0.1,
        epochs: int = 20,
        patience: int = 3,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        regularization: float = 1e-4,
        max_minutes: float | None = None,
        random_state: int | np.random.Generator | None = None,
        show_progress_bar: bool = False,
    ) -> None:
        self.encoder = encoder
        self.tune = tune
        self.init = init
        self.C = C
        self.class_weight = class_weight
        self.validation_fraction = validation_fraction
        self.epochs = epochs
        self.patience = patience
        self.batch_size = batch_size
        self.learning_rate = learning_rate
        self.regularization = regularization
        self.max_minutes = max_minutes
        self.random_state = random_state
        self.show_progress_bar = show_progress_bar

    def __sklearn_clone__(self) -> Self:
        """Returns an unfitted estimator with the same parameters and the same encoder object."""
        # scikit-learn would deep-copy the encoder, which is large and never changes.
        without = copy.copy(self)
        without.encoder = ""
        twin: Self = super(SentenceEstimator, without).__sklearn_clone__()
        twin.encoder = self.encoder
        return twin

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes encoder, head, labels, settings and metrics to a folder, atomically and without pickle.

        Args:
            folder: The folder to write; a folder with another fitted estimator is replaced.

        Raises:
            sklearn.exceptions.NotFittedError: The estimator is not fitted.
            CheckpointError: ``folder`` exists and contains something else.
        """
        self._check_fitted()
        params = {k: v for k, v in self.get_params(deep=False).items() if k not in _NOT_SAVED}
        state = EstimatorState(
            kind=type(self).__name__,
            params=params,
            labels=self._labels_to_json(),
            fitted={name: getattr(self, name) for name in _FITTED},
            head=self.head_,
            encoder=self.encoder_,
        )
        write_estimator(Path(folder), state)

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> Self:
        """Loads a fitted estimator of this class from a folder.

        Args:
            folder: A folder written by :meth:`save`.

        Raises:
            CheckpointError: The folder contains no estimator, one of another class, or a damaged one.
            MissingExtraError: The extra that the encoder needs is not installed.
        """
        folder = Path(folder)
        config = read_config(folder)
        if config["kind"] != cls.__name__:
            raise CheckpointError(f"{folder} contains a {config['kind']}, expected a {cls.__name__}")
        return read_estimator(cls, folder, config)

    def predict_proba(self, texts: Any) -> Floats:
        """Probabilities (n, K), in the order of ``classes_`` (of a regressor: ``steps_``)."""
        columns = self._columns(texts)
        return self.head_.probabilities(self._features(columns))

    def __sklearn_is_fitted__(self) -> bool:
        """For scikit-learn."""
        return hasattr(self, "head_")

    def __sklearn_tags__(self) -> Any:
        """For scikit-learn: texts, not matrices, and a target is needed."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.target_tags.required = True
        tags.no_validation = True
        return tags

    # What a subclass provides -------------------------------------------------------------------

    # Texts of an example.
    _n_columns = 1

    def _parsed_columns(self, texts: Any) -> list[list[str]]:
        return [parse_texts(texts)]

    def _labels_to_json(self) -> dict[str, Any]:
        raise NotImplementedError

    def _set_labels_from_json(self, value: dict[str, Any]) -> tuple[int, OutputKind]:
        # Returns the number of outputs and the kind of the head that belong to these labels.
        raise NotImplementedError

    # The fit ------------------------------------------------------------------------------------

    def _fit(
        self, texts: Any, targets: Matrix, kind: OutputKind, sample_weight: Any, class_weights: Matrix | None
    ) -> HeldOut:
        # The rows that were held out, and their probabilities.
        started = time.perf_counter()
        check_settings(self)
        rng = _generator(self.random_state)
        columns = self._parsed_columns(texts)
        if len(columns[0]) != len(targets):
            what = "texts" if len(columns) == 1 else "pairs"
            raise ValueError(
                f"there are {len(columns[0])} {what}, and y has {len(targets)}: expected as many of both"
            )
        weights = self._weights(sample_weight, class_weights, len(targets))
        encoder = self.encoder if isinstance(self.encoder, Encoder) else _loaded(self.encoder)
        fit = self._fit_head if self.tune == "head" else self._fit_all
        held = fit(encoder, columns, targets, kind, weights, rng)
        self.metrics_["n_train"] = len(targets)
        self.metrics_["seconds"] = round(time.perf_counter() - started, 3)
        return held

    def _fit_head(
        self,
        encoder: Encoder,
        columns: list[list[str]],
        targets: Matrix,
        kind: OutputKind,
        weights: Matrix,
        rng: np.random.Generator,
    ) -> HeldOut:
        if self.init == "random":
            from sentenc.downstream.trainable_encoder import random_encoder

            encoder = random_encoder(encoder, rng)
        features = features_of(encoder, columns, self.show_progress_bar)
        found = fit_head(
            features, targets, kind, C=_strength(self.C), sample_weight=weights,
            validation_fraction=self.validation_fraction, rng=rng,
        )  # fmt: skip
        self.encoder_, self.head_, self.C_ = encoder, found.head, found.C
        self.metrics_, self.history_, self.n_iter_ = dict(found.validation), [], 1
        return found.validation_predictions

    def _fit_all(
        self,
        encoder: Encoder,
        columns: list[list[str]],
        targets: Matrix,
        kind: OutputKind,
        weights: Matrix,
        rng: np.random.Generator,
    ) -> HeldOut:
        from sentenc.downstream.fine_tuning import tune_end_to_end

        held = validation_rows(strata(targets), self.validation_fraction, rng)
        kept = np.setdiff1d(np.arange(len(targets)), held)
        start = None
        if self.init == "pretrained":
            # The head alone, which the whole begins with and must beat on the rows held out.
            some = [[column[row] for row in kept] for column in columns]
            start = fit_head(
                features_of(encoder, some, self.show_progress_bar), targets[kept], kind, C=_strength(self.C),
                sample_weight=weights[kept], validation_fraction=self.validation_fraction, rng=rng,
            )  # fmt: skip
        found = tune_end_to_end(
            encoder, columns, targets, kind,
            config=tuning_config(self), init=self.init, sample_weight=weights, train_rows=kept, validation_rows=held, rng=rng,
            head_start=None if start is None else start.head, show_progress_bar=self.show_progress_bar,
        )  # fmt: skip
        self.encoder_, self.head_ = found.encoder, found.head
        self.C_ = None if start is None else start.C
        self.history_, self.n_iter_ = found.history, max(1, len(found.history) - 1)
        self.metrics_ = {"best_epoch": found.best_epoch, "stopped_by": found.stopped_by}
        if not len(held):
            return None
        # Of what will be used: the encoder in the form that encodes, not the one that was trained.
        scores = self.head_.scores(self._features([[column[row] for row in held] for column in columns]))
        self.metrics_ |= {
            "log_loss": float(log_losses(scores, targets[held], kind).mean()),
            "accuracy": float(hits(scores, targets[held], kind).mean()), "n": len(held),
        }  # fmt: skip
        return held, probabilities(scores, kind)

    def _weights(self, sample_weight: Any, class_weights: Matrix | None, n: int) -> Matrix:
        weights = np.ones(n, np.float32)
        if sample_weight is not None:
            weights = np.asarray(sample_weight, np.float32)
            if weights.shape != (n,):
                raise ValueError(f"sample_weight has shape {weights.shape}, expected ({n},)")
            if wrong := np.flatnonzero(~((weights >= 0) & np.isfinite(weights))).tolist():
                raise ValueError(f"sample_weight[{wrong[0]}] is {weights[wrong[0]]}, expected 0 or more")
        weights = weights if class_weights is None else weights * class_weights
        if not weights.any():
            raise ValueError("the weights of all examples are zero, expected some that count")
        return weights

    def _columns(self, texts: Any) -> list[list[str]]:
        self._check_fitted()
        return self._parsed_columns(texts)

    def _features(self, columns: list[list[str]]) -> Matrix:
        return features_of(self.encoder_, columns, False)

    def _check_fitted(self) -> None:
        if not hasattr(self, "head_"):
            raise NotFittedError(f"this {type(self).__name__} is not fitted yet: call fit first")

    head_: LinearHead
    encoder_: Encoder
    metrics_: dict[str, Any]
    history_: list[dict[str, Any]]
    C_: float | None
    n_iter_: int


_Estimator = TypeVar("_Estimator", bound=SentenceEstimator)


def read_estimator(cls: type[_Estimator], folder: Path, config: dict[str, Any]) -> _Estimator:
    """Builds a fitted estimator from its folder.

    Args:
        cls: The class to build.
        folder: The folder.
        config: Its configuration, from :func:`~sentenc.downstream.persistence.read_config`.

    Raises:
        CheckpointError: The configuration, the head or the encoder does not belong to such an estimator.
    """
    try:
        estimator = cls(**config["params"])
        for name in _FITTED:
            setattr(estimator, name, config["fitted"][name])
        n_outputs, head_kind = estimator._set_labels_from_json(config["labels"])
        if config["head"] != head_kind:
            raise ValueError(
                f"the head is of kind {config['head']!r}, expected {head_kind!r} for these labels"
            )
        check_settings(estimator)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"{folder / CONFIG} cannot be used: {error!r}") from error
    estimator.encoder_ = read_encoder(folder)
    # A clone is fitted from this encoder.
    estimator.encoder = estimator.encoder_
    estimator.head_ = read_head(folder, config["head"])
    expected = (n_outputs, estimator._n_columns * estimator.encoder_.dim)
    if estimator.head_.weights.shape != expected:
        raise CheckpointError(
            f"{folder / HEAD} has weights of shape {estimator.head_.weights.shape}, expected {expected}"
        )
    return estimator


def _strength(value: Any) -> float | Literal["auto"]:
    # Of a float32, the same number in double precision.
    return "auto" if value == "auto" else float(value)


def _generator(random_state: Any) -> np.random.Generator:
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"random_state is {random_state!r}, expected a whole number of 0 or more, a generator or None"
        ) from error


def _loaded(model: str | os.PathLike[str]) -> Encoder:
    return _shipped(model) if model in available_models() else load_encoder(model)


@lru_cache(maxsize=1)
def _shipped(name: str) -> Encoder:
    # A grid search fits hundreds of times from the same files, which do not change.
    return load_encoder(name)


def features_of(encoder: Encoder, columns: list[list[str]], show_progress_bar: bool) -> Matrix:
    """Vectors (n, d) of one column of texts; of two, the features (n, 2 d) of pairs."""
    vectors = [
        encoder.encode(column, on_overflow="ignore", show_progress_bar=show_progress_bar)
        for column in columns
    ]
    return np.asarray(vectors[0] if len(vectors) == 1 else pair_features(*vectors), np.float32)


def check_settings(estimator: SentenceEstimator) -> None:
    """Checks every setting, as scikit-learn has it: when fitting.

    Raises:
        TypeError, ValueError: A setting is of another type or out of its range.
    """
    for name, choices in (("tune", ("head", "all")), ("init", ("pretrained", "random"))):
        if getattr(estimator, name) not in choices:
            raise ValueError(f"{name} is {getattr(estimator, name)!r}, expected one of {choices}")
    if not isinstance(estimator.encoder, str | os.PathLike | Encoder):
        raise TypeError(
            f"encoder is {type(estimator.encoder).__name__}, expected the name of a model, a folder or an Encoder"
        )
    strength = estimator.C
    if not (isinstance(strength, str) and strength == "auto") and not (
        is_number(strength) and 0 < strength < np.inf
    ):
        raise ValueError(f"C is {strength!r}, expected 'auto' or a number above 0")
    fraction = estimator.validation_fraction
    if not (is_number(fraction) and 0 <= fraction < 1):
        raise ValueError(f"validation_fraction is {fraction!r}, expected a share in [0, 1)")
    tuning_config(estimator)


def is_number(value: Any) -> TypeGuard[float]:
    """Whether a setting is a number, which a bool is not."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def tuning_config(estimator: SentenceEstimator) -> FineTuningConfig:
    """The settings of tune="all", checked."""
    names = ("epochs", "patience", "batch_size", "learning_rate", "regularization", "max_minutes")
    values = {name: getattr(estimator, name) for name in names}
    # A grid of settings may be an array of them.
    return FineTuningConfig(**{k: v.item() if isinstance(v, np.generic) else v for k, v in values.items()})
