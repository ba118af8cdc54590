"""Distillation of a task's output: a student's logits learn a teacher's, or the labels themselves.

The last loss of TinyBERT (Jiao et al., Findings of EMNLP 2020, equation 10), in the form of Hinton, Vinyals
and Dean (2015), "Distilling the Knowledge in a Neural Network": t^2 keeps the gradient's size whatever the
temperature, and the batch is averaged over examples, not over classes.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from sentenc.training.losses.base import Loss
from sentenc.training.losses.checks import checked_choice, checked_columns, checked_temperature


def soft_cross_entropy(student: Tensor, teacher: Tensor, temperature: float = 1.0) -> Tensor:
    """t^2 KL(softmax(teacher / t) || softmax(student / t)), mean over the batch.

    It differs from the cross-entropy by the entropy of the teacher, which has no gradient, and is zero where
    both agree.

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


class Prediction(Loss):
    """The loss of a task's output.

    Args:
        kind: "classification" or "regression".
        gold: The targets are labels, not a teacher's output: a distribution over the classes each (one-hot
            where a text has one label), or a score.
        temperature: t of the soft cross-entropy to a teacher's logits.

    Raises:
        ValueError: ``kind`` is unknown, or a temperature is given where none is used.
    """

    columns = 1
    needs_teacher = True

    def __init__(
        self,
        kind: Literal["classification", "regression"],
        *,
        gold: bool = False,
        temperature: float = 1.0,
    ) -> None:
        super().__init__()
        self.kind = checked_choice("kind", kind, ("classification", "regression"))
        self.gold = gold
        self.temperature = checked_temperature(temperature)
        if temperature != 1.0 and (gold or kind == "regression"):
            raise ValueError(
                f"temperature is {temperature} for {kind} on {'labels' if gold else 'outputs'}, expected 1: it "
                "softens a teacher's logits alone"
            )

    def loss(self, vectors: list[Tensor], teacher: Tensor | None) -> Tensor:
        """The mean loss of a batch.

        Args:
            vectors: One column, the student's logits (B, C); C is 1 for regression.
            teacher: Targets (B, C).

        Returns:
            A scalar.

        Raises:
            ValueError: Shapes do not fit, or there are no targets.
        """
        (student,) = checked_columns("prediction", vectors, 1)
        if teacher is None or teacher.shape != student.shape:
            shape = None if teacher is None else tuple(teacher.shape)
            raise ValueError(f"prediction got targets of shape {shape}, expected {tuple(student.shape)}")
        targets = teacher.to(student.dtype)
        if self.kind == "regression":
            return nn.functional.mse_loss(student, targets)
        if self.gold:
            return -(targets * torch.log_softmax(student, dim=1)).sum(1).mean()
        return soft_cross_entropy(student, targets, self.temperature)
