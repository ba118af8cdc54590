"""Unsupervised SimCSE: a sentence is its own paraphrase, under another dropout mask."""

import numpy as np
from torch import Tensor

from sentenc.training.losses.base import Encode, Example, Loss
from sentenc.training.losses.checks import checked_columns, checked_temperature
from sentenc.training.losses.in_batch_softmax import in_batch_softmax_loss


class UnsupervisedSimCSE(Loss):
    """Each sentence, encoded twice, is to find its second vector among those of the batch.

    Without dropout in the student the two are the same, and only the push from other sentences is left.
    A batch of one is refused. Source: Gao, Yao, Chen: "SimCSE", EMNLP 2021, equation 4.

    Args:
        temperature: Of the softmax.
    """

    columns = 1

    def __init__(self, *, temperature: float = 0.05) -> None:
        super().__init__()
        self.temperature = checked_temperature(temperature)

    def prepare(
        self, batches: list[list[Example]], encode: Encode, rng: np.random.Generator
    ) -> list[list[tuple[str, ...]]]:
        """Each example's one text twice."""
        return [[(text, text) for (text,) in batch] for batch in batches]

    def loss(self, vectors: list[Tensor], teacher: Tensor | None) -> Tensor:
        """See :func:`in_batch_softmax_loss`; vectors of the two columns, (B, d) each."""
        first, second = checked_columns("simcse", vectors, 2, minimum=2)
        return in_batch_softmax_loss(first, second, self.temperature)
