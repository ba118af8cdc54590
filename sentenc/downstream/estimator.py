"""Base class of the sentence estimators: settings, fitting, saving and loading."""

import os
import time
from pathlib import Path
from typing import Any, Literal, Self, TypeVar

import numpy as np
import numpy.typing as npt

from sentenc.downstream.features import pair_features
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
from sentenc.downstream.settings import check_settings, fine_tuning_config, head_strength, random_generator
from sentenc.downstream.shared_encoder import NotFittedError, SharedEncoder, encoder_of
from sentenc.encoders.base import Encoder
from sentenc.errors import CheckpointError
from sentenc.solvers.losses import OutputKind, log_losses, probabilities
from sentenc.splits import Rows, strata, validation_rows

Floats = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]
# The validation rows (m,) and their probabilities (m, K); None without a validation split.
ValidationPredictions = tuple[Rows, Floats] | None

# The attributes set by fit() that are saved as JSON.
_FITTED = ("metrics_", "history_", "C_", "n_iter_")
# Settings that are not JSON values, or that concern only the process that fits.
_NOT_SAVED = ("encoder", "random_state", "show_progress_bar")


class SentenceEstimator(SharedEncoder):
    """Base class of the estimators; see :class:`~sentenc.downstream.SentenceClassifier` for the settings."""

    def __init__(
        self,
        encoder: str | os.PathLike[str] | Encoder = "cse-en",
        *,
        fine_tune: Literal["head", "all"] = "head",
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
        self.fine_tune = fine_tune
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
        weights = params.pop("class_weight", None)
        if weights is not None:
            # The keys of a JSON object are strings, but classes may be numbers.
            params["class_weight"] = list(weights.items()) if isinstance(weights, dict) else weights
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
        """Returns probabilities (n, K), in the order of ``classes_`` (for a regressor, of ``steps_``)."""
        columns = self._columns(texts)
        return self.head_.probabilities(self._features(columns))

    def __sklearn_is_fitted__(self) -> bool:
        """Returns whether the estimator is fitted, for scikit-learn."""
        return hasattr(self, "head_")

    def __sklearn_tags__(self) -> Any:
        """Returns scikit-learn's tags: the input is texts instead of a matrix, and a target is required."""
        tags = super().__sklearn_tags__()
        tags.input_tags.string = True
        tags.input_tags.two_d_array = False
        tags.target_tags.required = True
        tags.no_validation = True
        return tags

    # Provided by subclasses ---------------------------------------------------------------------

    # Number of texts in an example.
    _n_columns = 1

    def _parsed_columns(self, texts: Any) -> list[list[str]]:
        return [parse_texts(texts)]

    def _labels_to_json(self) -> dict[str, Any]:
        raise NotImplementedError

    def _set_labels_from_json(self, value: dict[str, Any]) -> tuple[int, OutputKind]:
        # Returns the number of outputs and the kind of the head that belong to these labels.
        raise NotImplementedError

    # Fitting ------------------------------------------------------------------------------------

    def _fit(
        self, texts: Any, targets: Matrix, kind: OutputKind, sample_weight: Any, class_weights: Matrix | None
    ) -> ValidationPredictions:
        started = time.perf_counter()
        check_settings(self)
        rng = random_generator(self.random_state)
        columns = self._parsed_columns(texts)
        if len(columns[0]) != len(targets):
            what = "texts" if len(columns) == 1 else "pairs"
            raise ValueError(f"got {len(columns[0])} {what} but {len(targets)} labels")
        weights = self._weights(sample_weight, class_weights, len(targets))
        encoder = encoder_of(self.encoder)
        fit = self._fit_head if self.fine_tune == "head" else self._fit_all
        predictions = fit(encoder, columns, targets, kind, weights, rng)
        self.metrics_["n_train"] = len(targets)
        self.metrics_["seconds"] = round(time.perf_counter() - started, 3)
        return predictions

    def _fit_head(
        self,
        encoder: Encoder,
        columns: list[list[str]],
        targets: Matrix,
        kind: OutputKind,
        weights: Matrix,
        rng: np.random.Generator,
    ) -> ValidationPredictions:
        if self.init == "random":
            from sentenc.downstream.trainable_encoder import random_encoder

            encoder = random_encoder(encoder, rng)
        fitted = fit_head(
            features_of(encoder, columns, self.show_progress_bar),
            targets,
            kind,
            C=head_strength(self.C),
            sample_weight=weights,
            validation_fraction=self.validation_fraction,
            rng=rng,
        )
        self.encoder_, self.head_, self.C_ = encoder, fitted.head, fitted.C
        self.metrics_, self.history_, self.n_iter_ = dict(fitted.validation), [], 1
        return fitted.validation_predictions

    def _fit_all(
        self,
        encoder: Encoder,
        columns: list[list[str]],
        targets: Matrix,
        kind: OutputKind,
        weights: Matrix,
        rng: np.random.Generator,
    ) -> ValidationPredictions:
        from sentenc.downstream.fine_tuning import fine_tune

        validation = validation_rows(strata(targets), self.validation_fraction, rng)
        train = np.setdiff1d(np.arange(len(targets)), validation)
        fitted = None
        if self.init == "pretrained":
            # Fine-tuning starts from the best head on the frozen encoder, and must beat it on the validation
            # split.
            fitted = fit_head(
                features_of(encoder, _take(columns, train), self.show_progress_bar),
                targets[train],
                kind,
                C=head_strength(self.C),
                sample_weight=weights[train],
                validation_fraction=self.validation_fraction,
                rng=rng,
            )
        tuned = fine_tune(
            encoder,
            columns,
            targets,
            kind,
            config=fine_tuning_config(self),
            init=self.init,
            sample_weight=weights,
            train_rows=train,
            validation_rows=validation,
            rng=rng,
            initial_head=None if fitted is None else fitted.head,
            show_progress_bar=self.show_progress_bar,
        )
        self.encoder_, self.head_ = tuned.encoder, tuned.head
        self.C_ = None if fitted is None else fitted.C
        self.history_, self.n_iter_ = tuned.history, max(1, len(tuned.history) - 1)
        self.metrics_ = {"best_epoch": tuned.best_epoch, "stopped_by": tuned.stopped_by}
        if not len(validation):
            return None
        # The metrics are those of the encoder that will be used, whose weights are rounded, not of the
        # trained module.
        scores = self.head_.scores(self._features(_take(columns, validation)))
        self.metrics_ |= {
            "log_loss": float(log_losses(scores, targets[validation], kind).mean()),
            "accuracy": float(hits(scores, targets[validation], kind).mean()),
            "n": len(validation),
        }
        return validation, probabilities(scores, kind)

    def _weights(self, sample_weight: Any, class_weights: Matrix | None, n: int) -> Matrix:
        weights = np.ones(n, np.float32)
        if sample_weight is not None:
            weights = np.asarray(sample_weight, np.float32)
            if weights.shape != (n,):
                raise ValueError(f"sample_weight has shape {weights.shape}, expected ({n},)")
            if wrong := np.flatnonzero(~((weights >= 0) & np.isfinite(weights))).tolist():
                raise ValueError(
                    f"sample_weight[{wrong[0]}] is {weights[wrong[0]]}, expected a finite number >= 0"
                )
        weights = weights if class_weights is None else weights * class_weights
        if not weights.any():
            raise ValueError("the weights of all examples are zero, expected at least one above 0")
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
        params = dict(config["params"])
        if isinstance(weights := params.get("class_weight"), list):
            params["class_weight"] = dict(weights)
        estimator = cls(**params)
        for name in _FITTED:
            setattr(estimator, name, config["fitted"][name])
        n_outputs, head_kind = estimator._set_labels_from_json(config["labels"])
        if config["head"] != head_kind:
            raise ValueError(
                f"the head is of kind {config['head']!r}, expected {head_kind!r} for these labels"
            )
        check_settings(estimator)
    except (LookupError, TypeError, ValueError, OverflowError) as error:
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


def features_of(encoder: Encoder, columns: list[list[str]], show_progress_bar: bool) -> Matrix:
    """Returns vectors (n, d) of a column of texts, or pair features (n, 2 d) of two columns."""
    vectors = [
        encoder.encode(column, on_overflow="ignore", show_progress_bar=show_progress_bar)
        for column in columns
    ]
    return np.asarray(vectors[0] if len(vectors) == 1 else pair_features(*vectors), np.float32)


def _take(columns: list[list[str]], rows: Rows) -> list[list[str]]:
    return [[column[row] for row in rows] for column in columns]
