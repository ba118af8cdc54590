"""Fine-tuning configuration. Importable without torch."""

from dataclasses import dataclass

from sentenc.validation import check_integer, check_number


@dataclass(frozen=True, kw_only=True)
class FineTuningConfig:
    """Settings of :func:`~sentenc.downstream.fine_tuning.fine_tune`.

    Attributes:
        epochs: Maximum number of epochs.
        patience: Number of epochs without a lower validation loss after which training stops.
        batch_size: Examples per update.
        learning_rate: Peak learning rate of the encoder (Adam).
        head_learning_rate: Peak learning rate of the head.
        regularization: Strength s of the penalty s / 2 ||theta - theta_0||^2 on the encoder's parameters,
            where theta_0 are the pretrained ones (L2-SP).
        dropout: Share of the elements of token embeddings that are dropped in training. CSE only.
        word_dropout: Share of the tokens that are dropped in training. CSE only.
        max_minutes: Training time limit in minutes; None for no limit.

    Raises:
        TypeError: A value has the wrong type.
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
        """Checks every value, and replaces NumPy's scalars by Python's."""
        values: dict[str, float] = {}
        for name in ("epochs", "patience", "batch_size"):
            values[name] = check_integer(name, getattr(self, name))
        for name in ("learning_rate", "head_learning_rate", "regularization"):
            values[name] = check_number(name, getattr(self, name), at_least=0)
        for name in ("dropout", "word_dropout"):
            values[name] = check_number(name, getattr(self, name), at_least=0, below=1)
        if self.max_minutes is not None:
            values["max_minutes"] = check_number("max_minutes", self.max_minutes, above=0)
        for name, value in values.items():
            object.__setattr__(self, name, value)
