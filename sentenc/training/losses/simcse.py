"""Unsupervised SimCSE: each sentence is its own paraphrase, encoded with another dropout mask."""

import numpy as np
from torch import Tensor

from sentenc.training.data.examples import Example
from sentenc.training.losses.base import Encode, VectorLoss
from sentenc.training.losses.checks import check_columns, check_temperature
from sentenc.training.losses.in_batch_softmax import in_batch_softmax_loss


class UnsupervisedSimCSE(VectorLoss):
    """In-batch softmax in which the candidates are second encodings of the same sentences.

    The student needs dropout. Without it both vectors of a sentence are equal, and the loss only pushes
    different sentences apart. A batch needs at least two sentences.
    Source: Gao, Yao, Chen: "SimCSE", EMNLP 2021, equation 4.

    Args:
        temperature: The temperature of the softmax.
    """

    columns = 1

    def __init__(self, *, temperature: float = 0.05) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)

    def prepare(
        self, batches: list[list[Example]], encode: Encode, rng: np.random.Generator
    ) -> list[list[Example]]:
        """Repeats the text of each example."""
        return [[(text, text) for (text,) in batch] for batch in batches]

    def loss(self, vectors: list[Tensor], targets: Tensor | None) -> Tensor:
        """Computes :func:`in_batch_softmax_loss` of the two columns, (B, d) each."""
        first, second = check_columns("simcse", vectors, 2, min_batch=2)
        return in_batch_softmax_loss(first, second, self.temperature)
