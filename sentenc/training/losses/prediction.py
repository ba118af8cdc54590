"""Distillation of a task's output: a student's logits learn a teacher's logits, or gold labels.

The last loss of TinyBERT (Jiao et al., Findings of EMNLP 2020, equation 10), in the form of Hinton, Vinyals
and Dean (2015), "Distilling the Knowledge in a Neural Network": the factor t^2 keeps the size of the gradient
independent of the temperature. The loss is averaged over examples, not over classes.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from sentenc.training.losses.base import VectorLoss
from sentenc.training.losses.checks import check_columns, check_temperature
from sentenc.validation import check_choice


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """Computes t^2 KL(softmax(teacher / t) || softmax(student / t)), mean over the batch.

    It differs from the cross-entropy by the entropy of the teacher, which has no gradient. It is zero if
    student and teacher agree.

    Args:
        student: Logits (B, C).
        teacher: Logits (B, C).
        temperature: t.

    Returns:
        A scalar.
    """
    divergence = nn.functional.kl_div(
        torch.log_softmax(student / temperature, dim=1),
        torch.log_softmax(teacher / temperature, dim=1),
        reduction="batchmean",
        log_target=True,
    )
    return divergence * temperature**2


class Prediction(VectorLoss):
    """The loss of a task's output: soft or hard cross-entropy for classes, squared error for scores.

    Args:
        kind: "classification" or "regression".
        gold: Whether the targets are gold labels instead of a teacher's outputs: a distribution over the
            classes (one-hot if a text has one label), or a score.
        temperature: t of the soft cross-entropy with a teacher's logits.

    Raises:
        ValueError: ``kind`` is unknown, or ``temperature`` has no effect on this loss.
    """

    columns = 1
    needs_targets = True

    def __init__(
        self,
        kind: Literal["classification", "regression"],
        *,
        gold: bool = False,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.kind = check_choice("kind", kind, ("classification", "regression"))
        self.gold = gold
        self.temperature = check_temperature(temperature)
        if temperature != 1.0 and (gold or kind == "regression"):
            raise ValueError(
                f"temperature is {temperature} for {kind} with {'gold labels' if gold else 'outputs'} as "
                "targets, expected 1: only a teacher's logits have a temperature"
            )

    def loss(self, vectors: list[Tensor], targets: Tensor | None) -> Tensor:
        """Computes the mean loss of a batch.

        Args:
            vectors: One column, the student's logits (B, C). C is 1 for regression.
            targets: (B, C).

        Returns:
            A scalar.

        Raises:
            ValueError: The shapes differ, or there are no targets.
        """
        (student,) = check_columns("prediction", vectors, 1)
        if targets is None or targets.shape != student.shape:
            shape = None if targets is None else tuple(targets.shape)
            raise ValueError(f"the targets of prediction have shape {shape}, expected {tuple(student.shape)}")
        targets = targets.to(student.dtype)
        if self.kind == "regression":
            return nn.functional.mse_loss(student, targets)
        if self.gold:
            return -(targets * torch.log_softmax(student, dim=1)).sum(1).mean()
        return soft_cross_entropy(student, targets, self.temperature)
