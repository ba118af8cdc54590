"""Adjacent sentences of running text: in-batch softmax over next sentences.

The idea is that of quick thoughts: Logeswaran, Lee: "An efficient framework for learning sentence
representations", ICLR 2018, where a classifier picks the true neighbor of a sentence from a batch.
"""

import torch
from torch import Tensor, nn

from sentenc.training.losses.base import VectorLoss
from sentenc.training.losses.checks import check_columns, check_temperature
from sentenc.training.losses.in_batch_softmax import in_batch_softmax_loss
from sentenc.validation import check_switch


class AdjacentSentences(VectorLoss):
    """In-batch softmax over pairs (sentence, next sentence), in both directions.

    A batch needs at least two pairs. Adjacent sentences are related but no paraphrases. With ``maps``, each
    of the two roles has a linear map that the finished encoder drops, so that the encoder's own vectors of
    adjacent sentences need not be similar.

    Args:
        dim: The student's dimension.
        temperature: The temperature of the softmax.
        maps: Learn a (dim, dim) map for current sentences and one for next sentences. Both are initialized as
            the identity.
    """

    columns = 2

    def __init__(self, dim: int, *, temperature: float = 0.05, maps: bool = False) -> None:
        super().__init__()
        self.temperature = check_temperature(temperature)
        self.maps = nn.ParameterList()
        if check_switch("maps", maps):
            self.maps.extend([nn.Parameter(torch.eye(dim)), nn.Parameter(torch.eye(dim))])

    def loss(self, vectors: list[Tensor], targets: Tensor | None) -> Tensor:
        """Computes :func:`in_batch_softmax_loss` of current and next sentences, (B, d) each."""
        current, following = check_columns("adjacent_sentences", vectors, 2, min_batch=2)
        if len(self.maps):
            # Truncated vectors use the rows of the map that belong to their components.
            width = current.shape[1]
            current, following = current @ self.maps[0][:width], following @ self.maps[1][:width]
        return in_batch_softmax_loss(current, following, self.temperature, symmetric=True)
