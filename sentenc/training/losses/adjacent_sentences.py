"""Adjacent sentences of running text: find the next sentence among those of the batch.

The idea is that of quick thoughts: Logeswaran, Lee: "An efficient framework for learning sentence
representations", ICLR 2018, where a classifier picks a sentence's true neighbors out of a batch.
"""

import torch
from torch import Tensor, nn

from sentenc.training.losses.base import Loss
from sentenc.training.losses.checks import checked_columns, checked_flag, checked_temperature
from sentenc.training.losses.in_batch_softmax import in_batch_softmax_loss


class AdjacentSentences(Loss):
    """Pairs (sentence, next sentence) by in-batch softmax, in both directions.

    A batch of one is refused. Neighbors are related, not paraphrases: with ``maps`` the two roles get a
    linear map each, which the finished encoder drops, so that its own vectors need not be alike.

    Args:
        dim: The student's.
        temperature: Of the softmax.
        maps: Learn a (dim, dim) map for current and one for next sentences; both start as the identity.
    """

    columns = 2

    def __init__(self, dim: int, *, temperature: float = 0.05, maps: bool = False) -> None:
        super().__init__()
        self.temperature = checked_temperature(temperature)
        self.maps = nn.ParameterList()
        if checked_flag("maps", maps):
            self.maps.extend([nn.Parameter(torch.eye(dim)), nn.Parameter(torch.eye(dim))])

    def loss(self, vectors: list[Tensor], teacher: Tensor | None) -> Tensor:
        """See :func:`in_batch_softmax_loss`; vectors of current and next sentences, (B, d) each."""
        current, following = checked_columns("adjacent_sentences", vectors, 2, minimum=2)
        if len(self.maps):
            # Truncated vectors use the rows of the map that belong to what is left of them.
            width = current.shape[1]
            current, following = current @ self.maps[0][:width], following @ self.maps[1][:width]
        return in_batch_softmax_loss(current, following, self.temperature, symmetric=True)
