"""How to train, apart from what: steps, rates, precision, limits. Importable without torch."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

Schedule = Literal["cosine", "linear", "constant"]
Precision = Literal["float32", "bf16"]
Keep = Literal["best", "last"]


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """Settings of a :class:`~sentenc.training.engine.trainer.Trainer`.

    Attributes:
        steps: Updates of the weights.
        learning_rate: Adam's, at its peak.
        learning_rates: Other peaks for groups of parameters: the student's groups, and "losses".
        weight_decay: Decoupled (AdamW: Loshchilov and Hutter, 2019), per unit of learning rate; not for
            sparse embeddings.
        betas: Adam's decay rates of the two moments.
        warmup: Steps over which the rate rises linearly.
        schedule: How the rate falls with progress from 1: half a "cosine" or "linear", to zero; or "constant".
        clip: Largest norm of the gradient over all parameters; None leaves it.
        accumulate: Batches of every task whose gradients are averaged for a step. For in-batch losses
            they are separate batches: a sentence meets only those of its own.
        precision: Of the student's forward pass; losses, weights and moments are float32 always. "bf16" is
            for GPUs and for CPUs with AMX or AVX-512 BF16: others emulate it, many times slower.
        sparse_embeddings: Update only the embeddings that a batch uses (SparseAdam).
        regularization: Strengths of :class:`~sentenc.training.losses.L2SP` by group.
        max_minutes: Training ends within this time, earlier sessions of it included, the schedule being
            squeezed; None for no limit.
        save_minutes: A resumable state is saved this often.
        evaluate_every: Steps between evaluations (besides those at the start and at the end).
        log_every: Steps between rows of the log.
        keep: "best" goes back to the weights of the best evaluation at the end, "last" does not.
        seed: Of dropout and negatives.
        device: "auto" (a GPU if there is one), or torch's name of one.

    Raises:
        TypeError: A value is of the wrong type.
        ValueError: A value is out of its range.
    """

    steps: int
    learning_rate: float = 3e-3
    learning_rates: dict[str, float] = field(default_factory=dict)
    weight_decay: float = 0.0
    betas: tuple[float, float] = (0.9, 0.999)
    warmup: int = 100
    schedule: Schedule = "cosine"
    clip: float | None = 1.0
    accumulate: int = 1
    precision: Precision = "float32"
    sparse_embeddings: bool = False
    regularization: dict[str, float] = field(default_factory=dict)
    max_minutes: float | None = None
    save_minutes: float = 3.0
    evaluate_every: int = 1000
    log_every: int = 50
    keep: Keep = "best"
    seed: int = 1
    device: str = "auto"

    def __post_init__(self) -> None:
        """Checks every value."""
        for name, least in (("steps", 1), ("warmup", 0), ("accumulate", 1), ("evaluate_every", 1),
                            ("log_every", 1), ("seed", 0)):  # fmt: skip
            _check_count(name, getattr(self, name), least)
        _check_number("learning_rate", self.learning_rate)
        for group, rate in self.learning_rates.items():
            _check_number(f"learning_rates.{group}", rate)
        for group, strength in self.regularization.items():
            _check_number(f"regularization.{group}", strength)
        _check_number("weight_decay", self.weight_decay)
        _check_number("save_minutes", self.save_minutes)
        for name in ("clip", "max_minutes"):
            value = getattr(self, name)
            if value is not None:
                _check_number(name, value)
                if value == 0:
                    raise ValueError(f"{name} is 0, expected a positive number, or none at all")
        object.__setattr__(self, "betas", tuple(self.betas))
        if len(self.betas) != 2 or not all(0 <= beta < 1 for beta in self.betas):
            raise ValueError(f"betas is {self.betas}, expected two numbers in [0, 1)")
        for name, kind in (("schedule", Schedule), ("precision", Precision), ("keep", Keep)):
            choices = get_args(kind)
            if getattr(self, name) not in choices:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}, expected one of {', '.join(map(repr, choices))}"
                )

    def rate(self, step: int, progress: float) -> float:
        """The learning rate of a step as a share of its peak.

        Args:
            step: From 0.
            progress: Share of the training that is over, 0 to 1.
        """
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.schedule == "cosine":
            return rise * 0.5 * (1 + math.cos(math.pi * progress))
        return rise * (1 - progress) if self.schedule == "linear" else rise


def _check_count(name: str, value: Any, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}, expected a whole number")
    if value < least:
        raise ValueError(f"{name} is {value}, expected at least {least}")


def _check_number(name: str, value: Any) -> None:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise TypeError(f"{name} is {value!r}, expected a number")
    if not 0 <= value < math.inf:
        raise ValueError(f"{name} is {value}, expected a finite number, not negative")
