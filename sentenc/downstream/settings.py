"""Checks and converts the settings of an estimator."""

import os
from typing import Any, Literal, TypeGuard

import numpy as np

from sentenc.downstream.fine_tuning_config import FineTuningConfig
from sentenc.encoders.base import Encoder
from sentenc.validation import check_choice, check_number


def check_settings(estimator: Any) -> None:
    """Checks every setting; by scikit-learn's convention in ``fit`` instead of in the constructor.

    Args:
        estimator: An object with the settings of :class:`~sentenc.downstream.SentenceClassifier` as
            attributes.

    Raises:
        TypeError: A setting has the wrong type.
        ValueError: A setting is out of its range.
    """
    check_choice("fine_tune", estimator.fine_tune, ("head", "all"))
    check_choice("init", estimator.init, ("pretrained", "random"))
    if not isinstance(estimator.encoder, str | os.PathLike | Encoder):
        raise TypeError(
            f"encoder is {type(estimator.encoder).__name__}, "
            "expected the name of a model, a folder or an Encoder"
        )
    strength = estimator.C
    if not (isinstance(strength, str) and strength == "auto") and not (
        is_number(strength) and 0 < strength < np.inf
    ):
        raise ValueError(f"C is {strength!r}, expected 'auto' or a finite number > 0")
    check_number("validation_fraction", estimator.validation_fraction, at_least=0, below=1)
    fine_tuning_config(estimator)


def fine_tuning_config(estimator: Any) -> FineTuningConfig:
    """Returns the settings of ``fine_tune="all"``, checked."""
    names = ("epochs", "patience", "batch_size", "learning_rate", "regularization", "max_minutes")
    return FineTuningConfig(**{name: getattr(estimator, name) for name in names})


def is_number(value: Any) -> TypeGuard[float]:
    """Returns whether a setting is a number. A ``bool`` is none."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def random_generator(random_state: Any) -> np.random.Generator:
    """Returns a generator for a seed, a generator or None.

    Raises:
        ValueError: ``random_state`` is something else.
    """
    try:
        return np.random.default_rng(random_state)
    except (TypeError, ValueError) as error:
        raise ValueError(
            f"random_state is {random_state!r}, expected an integer >= 0, a generator or None"
        ) from error


def head_strength(value: Any) -> float | Literal["auto"]:
    """Returns a checked setting C; a float32 becomes the same number in double precision."""
    return "auto" if value == "auto" else float(value)
