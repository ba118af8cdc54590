"""Training losses, one in each module, and L2-SP regularization."""

from sentenc.training.losses.adjacent_sentences import AdjacentSentences
from sentenc.training.losses.base import Encode, Loss, StateLoss, VectorLoss, unit
from sentenc.training.losses.embedding_distillation import (
    EmbeddingDistillation,
    aligned_axes,
    embedding_distillation_loss,
    principal_axes,
)
from sentenc.training.losses.in_batch_softmax import InBatchSoftmax, in_batch_softmax_loss
from sentenc.training.losses.l2_sp import L2SP
from sentenc.training.losses.matryoshka import Matryoshka
from sentenc.training.losses.paraphrase_margin import ParaphraseMargin, paraphrase_margin_loss
from sentenc.training.losses.registry import LOSSES, make_loss
from sentenc.training.losses.simcse import UnsupervisedSimCSE
from sentenc.training.losses.transformer_distillation import TransformerDistillation

__all__ = [
    "L2SP",
    "LOSSES",
    "AdjacentSentences",
    "EmbeddingDistillation",
    "Encode",
    "InBatchSoftmax",
    "Loss",
    "Matryoshka",
    "ParaphraseMargin",
    "StateLoss",
    "TransformerDistillation",
    "UnsupervisedSimCSE",
    "VectorLoss",
    "aligned_axes",
    "embedding_distillation_loss",
    "in_batch_softmax_loss",
    "make_loss",
    "paraphrase_margin_loss",
    "principal_axes",
    "unit",
]
