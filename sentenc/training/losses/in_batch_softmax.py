"""InfoNCE, also known as MultipleNegativesRankingLoss: a softmax over the other sentences of the batch.

InfoNCE is the name of van den Oord et al. (2018); multiple negatives ranking that of Henderson et al. (2017)
and sentence-transformers. The form here, cosines over a temperature with optional hard negatives, is that of
SimCSE (Gao et al., 2021).
"""

import torch
from torch import Tensor, nn

from sentenc.training.losses.base import VectorLoss, unit
from sentenc.training.losses.checks import check_columns, check_temperature
from sentenc.validation import check_switch

# Two float32 unit vectors that differ only by rounding have a cosine above this value.
_IDENTICAL_COSINE = 1 - 1e-6


def in_batch_softmax_loss(
    anchors: Tensor,
    candidates: Tensor,
    temperature: float,
    *,
    symmetric: bool = False,
    mask_identical: bool = True,
) -> Tensor:
    """Computes the mean over i of -log(exp(cos(a_i, c_i) / t) / sum_j exp(cos(a_i, c_j) / t)).

    Source: Gao, Yao, Chen: "SimCSE", EMNLP 2021, equations 1 and 5.

    Args:
        anchors: (B, d).
        candidates: (C, d), C >= B. Row i < B is the positive of anchor i; the other rows are hard negatives.
        temperature: t.
        symmetric: Average with the opposite direction, in which the anchors are the candidates of c_1 to c_B.
        mask_identical: Exclude candidates from anchor i's sum if they have the direction of the anchor or of
            its positive. They are almost always copies of the same text, and therefore no negatives.

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
    reverse_cosines = cosines[:, :size].T
    logits = reverse_cosines / temperature
    if mask_identical:
        logits = logits.masked_fill(_identical(reverse_cosines, anchors, anchors), -torch.inf)
    return (loss + nn.functional.cross_entropy(logits, targets)) / 2


@torch.no_grad()
def _identical(cosines: Tensor, candidates: Tensor, positives: Tensor) -> Tensor:
    # (B, C): whether candidate j equals anchor i or its positive. False for the positive itself.
    same = (cosines > _IDENTICAL_COSINE) | (positives @ candidates.T > _IDENTICAL_COSINE)
    return same.fill_diagonal_(False)


class InBatchSoftmax(VectorLoss):
    """InfoNCE over pairs (sentence, paraphrase or answer), or over triplets with a hard negative.

    A batch needs at least two pairs, or one triplet.

    Args:
        temperature: The temperature of the softmax.
        symmetric: Average with the opposite direction, from the second sentences to the first.
        hard_negatives: Examples are triplets. Their third texts are candidates for every sentence.
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
        self.temperature = check_temperature(temperature)
        self.symmetric = check_switch("symmetric", symmetric)
        self.mask_identical = check_switch("mask_identical", mask_identical)
        self.columns = 3 if check_switch("hard_negatives", hard_negatives) else 2

    def loss(self, vectors: list[Tensor], targets: Tensor | None) -> Tensor:
        """Computes :func:`in_batch_softmax_loss` of the two or three columns, (B, d) each."""
        min_batch = 2 if self.columns == 2 else 1
        anchors, *candidates = check_columns("in_batch_softmax", vectors, self.columns, min_batch)
        return in_batch_softmax_loss(
            anchors,
            torch.cat(candidates),
            self.temperature,
            symmetric=self.symmetric,
            mask_identical=self.mask_identical,
        )
