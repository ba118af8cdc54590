"""Trainer configuration. Importable without torch."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from sentenc.validation import check_choice, check_integer, check_number

Schedule = Literal["cosine", "linear", "constant"]
Precision = Literal["float32", "bf16"]
Keep = Literal["best", "last"]


@dataclass(frozen=True, kw_only=True)
class TrainerConfig:
    """Configuration of a :class:`~sentenc.training.engine.trainer.Trainer`.

    Attributes:
        steps: Number of updates of the weights.
        learning_rate: Peak learning rate of Adam.
        learning_rates: Peak learning rates of single groups of parameters: the groups of the student, and
            "losses".
        weight_decay: Decoupled weight decay (AdamW: Loshchilov and Hutter, 2019) per unit of learning rate.
            It does not apply to sparse embeddings.
        betas: Decay rates of Adam's two moments.
        warmup: Number of steps over which the learning rate rises linearly.
        schedule: Shape in which the learning rate falls with the progress: half a "cosine" or "linear", both
            from 1 to 0; or "constant".
        clip: Largest norm of the gradient over all parameters. None does not clip.
        accumulate: Number of batches of every loss whose gradients are averaged for one step. In-batch losses
            compare a sentence only with those of its own batch.
        precision: Precision of the student's forward pass, and of a BERT in evaluations. Losses, weights and
            moments are always float32, and so is the saved model when it is scored.
            "bf16" is for GPUs, and for CPUs with AMX or AVX-512 BF16. Other CPUs emulate it and are many
            times slower.
        sparse_embeddings: Update only the embeddings that a batch uses (SparseAdam).
        regularization: Strength of :class:`~sentenc.training.losses.L2SP` for groups of parameters.
        max_minutes: Time limit of the training, earlier sessions included. The schedule is compressed to end
            within it. None sets no limit.
        save_minutes: Minutes between two saved states.
        evaluate_every: Steps between two evaluations. The first and the last step are always evaluated.
        log_every: Steps between two rows of the log.
        keep: "best" restores the weights of the best evaluation at the end; "last" keeps the last weights.
        seed: Seed of dropout and of the choice of negatives.
        device: Name of a torch device, or "auto": a GPU if there is one, else the CPU.

    Raises:
        TypeError: A value has the wrong type.
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
        for name in ("steps", "accumulate", "evaluate_every", "log_every"):
            self._set(name, check_integer(name, getattr(self, name), at_least=1))
        for name in ("warmup", "seed"):
            self._set(name, check_integer(name, getattr(self, name), at_least=0))
        for name in ("learning_rate", "weight_decay", "save_minutes"):
            self._set(name, check_number(name, getattr(self, name), at_least=0))
        for name in ("learning_rates", "regularization"):
            values = getattr(self, name).items()
            self._set(name, {key: check_number(f"{name}.{key}", value, at_least=0) for key, value in values})
        for name in ("clip", "max_minutes"):
            if (value := getattr(self, name)) is not None:
                self._set(name, check_number(name, value, above=0))
        self._set("betas", tuple(check_number("betas", beta, at_least=0, below=1) for beta in self.betas))
        if len(self.betas) != 2:
            raise ValueError(f"betas is {self.betas}, expected two numbers")
        for name, choices in (("schedule", Schedule), ("precision", Precision), ("keep", Keep)):
            check_choice(name, getattr(self, name), get_args(choices))

    def _set(self, name: str, value: Any) -> None:
        # The dataclass is frozen.
        object.__setattr__(self, name, value)

    def rate(self, step: int, progress: float) -> float:
        """Returns the learning rate of a step as a fraction of its peak.

        Args:
            step: Number of the step, from 0.
            progress: Fraction of the training that is over, 0 to 1.
        """
        rise = min(1.0, (step + 1) / self.warmup) if self.warmup else 1.0
        if self.schedule == "cosine":
            return rise * 0.5 * (1 + math.cos(math.pi * progress))
        return rise * (1 - progress) if self.schedule == "linear" else rise
