"""In-batch softmax: each sentence is to find its partner among those of the whole batch.

Known as InfoNCE (van den Oord et al. 2018) and multiple negatives ranking (Henderson et al. 2017); the
form here, cosine over a temperature with optional hard negatives, is that of SimCSE (Gao et al. 2021).
"""

import torch
from torch import Tensor, nn

from sentenc.training.losses.base import Loss, unit
from sentenc.training.losses.checks import checked_columns, checked_flag, checked_temperature

# Two unit vectors of float32 that differ by rounding only stay above this cosine.
IDENTICAL = 1 - 1e-6


def in_batch_softmax_loss(
    anchors: Tensor,
    candidates: Tensor,
    temperature: float,
    *,
    symmetric: bool = False,
    mask_identical: bool = True,
) -> Tensor:
    """The mean over i of -log(exp(cos(a_i, c_i) / t) / sum_j exp(cos(a_i, c_j) / t)).

    Source: Gao, Yao, Chen: "SimCSE", EMNLP 2021, equations 1 and 5.

    Args:
        anchors: (B, d).
        candidates: (C, d), C >= B; row i < B belongs to anchor i, the rest (hard negatives) to nobody.
        temperature: t.
        symmetric: Average with the opposite direction, in which candidate i < B looks for its anchor
            among all anchors.
        mask_identical: Leave out of anchor i's sum what has the same direction as the anchor or as its
            candidate. Those are almost always the same text once more, so no negatives.

    Returns:
        A scalar.
    """
    anchors, candidates = unit(anchors), unit(candidates)
    size = len(anchors)
    cosines = anchors @ candidates.T
    targets = torch.arange(size, device=anchors.device)
    logits = cosines / temperature
    if mask_identical:
        logits = logits.masked_fill(_identical(cosines, candidates, candidates[:size]), -torch.inf)
    loss = nn.functional.cross_entropy(logits, targets)
    if not symmetric:
        return loss
    back = cosines[:, :size].T
    logits = back / temperature
    if mask_identical:
        logits = logits.masked_fill(_identical(back, anchors, anchors), -torch.inf)
    return (loss + nn.functional.cross_entropy(logits, targets)) / 2


@torch.no_grad()
def _identical(cosines: Tensor, candidates: Tensor, own: Tensor) -> Tensor:
    # (B, C): candidate j is as good as i's own candidate, or is i itself; never i's own candidate.
    same = (cosines > IDENTICAL) | (own @ candidates.T > IDENTICAL)
    return same.fill_diagonal_(False)


class InBatchSoftmax(Loss):
    """Pairs (sentence, its paraphrase or answer), or triplets with a hard negative, by in-batch softmax.

    A batch of one pair is refused, having nothing to choose from; of one triplet it is fine.

    Args:
        temperature: Of the softmax.
        symmetric: Also let each partner find its sentence.
        hard_negatives: Examples are triplets; the third texts are candidates for every sentence.
        mask_identical: See :func:`in_batch_softmax_loss`.
    """

    def __init__(
        self,
        *,
        temperature: float = 0.05,
        symmetric: bool = False,
        hard_negatives: bool = False,
        mask_identical: bool = True,
    ) -> None:
        super().__init__()
        self.temperature = checked_temperature(temperature)
        self.symmetric = checked_flag("symmetric", symmetric)
        self.mask_identical = checked_flag("mask_identical", mask_identical)
        self.columns = 3 if checked_flag("hard_negatives", hard_negatives) else 2

    def loss(self, vectors: list[Tensor], teacher: Tensor | None) -> Tensor:
        """See :func:`in_batch_softmax_loss`; vectors of the two or three columns, (B, d) each."""
        minimum = 2 if self.columns == 2 else 1
        anchors, *candidates = checked_columns("in_batch_softmax", vectors, self.columns, minimum)
        return in_batch_softmax_loss(
            anchors,
            torch.cat(candidates),
            self.temperature,
            symmetric=self.symmetric,
            mask_identical=self.mask_identical,
        )
