"""How an encoder is tuned together with its head. Importable without torch."""

import math
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class FineTuningConfig:
    """Settings of :func:`~sentenc.downstream.fine_tuning.tune_end_to_end`.

    Attributes:
        epochs: At most so many.
        patience: Epochs without a lower held-out loss after which the tuning ends.
        batch_size: Examples of a step.
        learning_rate: Of the encoder, at its peak (Adam).
        head_learning_rate: Of the head, at its peak.
        regularization: Strength s of s / 2 ||theta - theta_0||^2 on the encoder, theta_0 being the pretrained one.
        dropout: Share of the elements of token embeddings dropped while training.
        word_dropout: Share of whole tokens dropped while training.
        max_minutes: The tuning ends within this time; None for no limit.

    Raises:
        TypeError: A value is of the wrong type.
        ValueError: A value is out of its range.
    """

    epochs: int = 20
    patience: int = 3
    batch_size: int = 32
    learning_rate: float = 1e-3
    head_learning_rate: float = 1e-2
    regularization: float = 1e-4
    dropout: float = 0.1
    word_dropout: float = 0.0
    max_minutes: float | None = None

    def __post_init__(self) -> None:
        """Checks every value."""
        for name in ("epochs", "patience", "batch_size"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} is {value!r}, expected a whole number")
            if value < 1:
                raise ValueError(f"{name} is {value}, expected 1 or more")
        for name in ("learning_rate", "head_learning_rate", "regularization"):
            _check_number(name, getattr(self, name))
        for name in ("dropout", "word_dropout"):
            value = getattr(self, name)
            _check_number(name, value)
            if value >= 1:
                raise ValueError(f"{name} is {value}, expected a share in [0, 1)")
        if self.max_minutes is not None:
            _check_number("max_minutes", self.max_minutes)
            if self.max_minutes == 0:
                raise ValueError("max_minutes is 0, expected a positive number or None")


def _check_number(name: str, value: Any) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}, expected a number")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} is {value}, expected a finite number, not negative")
