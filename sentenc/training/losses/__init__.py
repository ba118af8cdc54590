"""Training objectives, one a module, and the regularisation that goes with them."""

from sentenc.training.losses.adjacent_sentences import Neighbour
from sentenc.training.losses.base import Encode, Example, Objective, unit
from sentenc.training.losses.embedding_distillation import (
    Distillation,
    aligned_axes,
    distillation_loss,
    principal_axes,
)
from sentenc.training.losses.in_batch_softmax import InBatchSoftmax, in_batch_softmax_loss
from sentenc.training.losses.l2_sp import TowardsStart
from sentenc.training.losses.matryoshka import Matryoshka
from sentenc.training.losses.paraphrase_margin import ParaphraseMargin, paraphrase_margin_loss
from sentenc.training.losses.registry import KINDS, make_objective
from sentenc.training.losses.simcse import DropoutTwice
from sentenc.training.losses.transformer_distillation import TransformerDistillation

__all__ = [
    "KINDS",
    "Distillation",
    "DropoutTwice",
    "Encode",
    "Example",
    "InBatchSoftmax",
    "Matryoshka",
    "Neighbour",
    "Objective",
    "ParaphraseMargin",
    "TowardsStart",
    "TransformerDistillation",
    "aligned_axes",
    "distillation_loss",
    "in_batch_softmax_loss",
    "make_objective",
    "paraphrase_margin_loss",
    "principal_axes",
    "unit",
]
