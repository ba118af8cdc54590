"""Training objectives, one a module, and the regularisation that goes with them."""

from sentenc.training.objectives.base import Encode, Example, Objective, unit
from sentenc.training.objectives.distillation import (
    Distillation,
    aligned_axes,
    distillation_loss,
    principal_axes,
)
from sentenc.training.objectives.dropout_twice import DropoutTwice
from sentenc.training.objectives.in_batch_softmax import InBatchSoftmax, in_batch_softmax_loss
from sentenc.training.objectives.matryoshka import Matryoshka
from sentenc.training.objectives.neighbour import Neighbour
from sentenc.training.objectives.paraphrase_margin import ParaphraseMargin, paraphrase_margin_loss
from sentenc.training.objectives.registry import KINDS, make_objective
from sentenc.training.objectives.regularization import TowardsStart
from sentenc.training.objectives.transformer_distillation import TransformerDistillation

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
