"""Builds losses from the names and options of a run file."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sentenc.training.losses.adjacent_sentences import AdjacentSentences
from sentenc.training.losses.base import Loss, StateLoss, VectorLoss
from sentenc.training.losses.embedding_distillation import EmbeddingDistillation
from sentenc.training.losses.in_batch_softmax import InBatchSoftmax
from sentenc.training.losses.matryoshka import Matryoshka
from sentenc.training.losses.paraphrase_margin import ParaphraseMargin
from sentenc.training.losses.simcse import UnsupervisedSimCSE
from sentenc.training.losses.transformer_distillation import TransformerDistillation

LOSSES: dict[str, type[Loss]] = {
    "embedding_distillation": EmbeddingDistillation,
    "simcse": UnsupervisedSimCSE,
    "in_batch_softmax": InBatchSoftmax,
    "adjacent_sentences": AdjacentSentences,
    "paraphrase_margin": ParaphraseMargin,
    "transformer_distillation": TransformerDistillation,
}
# Constructor arguments that depend on student, corpus and teacher, and are therefore no options of a run file.
_CONTEXT_ARGUMENTS = ("dim", "columns", "teacher_dim", "axes", "generator", "student", "teacher", "tokens")
# Options of all losses of vectors.
_MATRYOSHKA_OPTIONS = ("matryoshka", "matryoshka_weights")


def make_loss(
    kind: str,
    options: Mapping[str, Any],
    *,
    dim: int,
    columns: int = 1,
    teacher_dim: int | None = None,
    axes: Tensor | None = None,
    generator: torch.Generator | None = None,
    student: nn.Module | None = None,
    teacher: nn.Module | None = None,
    tokens: Tensor | None = None,
) -> Loss:
    """Builds a loss from its name and its options.

    Args:
        kind: A key of ``LOSSES``.
        options: Keyword arguments of the class, as a run file has them. Every loss of vectors also has
            ``matryoshka`` (dimensions) and ``matryoshka_weights``, see :class:`Matryoshka`.
        dim: The student's dimension.
        columns: The number of texts in an example of the corpus, for losses that take any.
        teacher_dim: The teacher's dimension, for losses that compare with its vectors.
        axes: The teacher's principal or aligned axes (teacher_dim, dim), for losses that use them.
        generator: Source of random initial parameters.
        student: The student's transformer, for losses of layer states.
        teacher: The teacher's transformer, for losses of layer states.
        tokens: The teacher's ids of the student's tokens, or None if they are equal.

    Raises:
        ValueError: The kind or an option is unknown, a value is out of range, or an argument is missing.
        TypeError: A value has the wrong type.
    """
    if kind not in LOSSES:
        raise ValueError(f"unknown loss {kind!r}, expected one of {', '.join(sorted(LOSSES))}")
    parameters = inspect.signature(LOSSES[kind]).parameters
    known = [name for name in parameters if name not in _CONTEXT_ARGUMENTS]
    for option in options:
        if option not in known and option not in _MATRYOSHKA_OPTIONS:
            raise ValueError(
                f"unknown option {option!r} of loss {kind}, expected one of "
                f"{', '.join([*known, *_MATRYOSHKA_OPTIONS])}"
            )
    if "teacher_dim" in parameters and teacher_dim is None:
        raise ValueError(f"loss {kind} needs a teacher: set teacher.models or teacher.cache in the run file")
    if issubclass(LOSSES[kind], StateLoss) and (student is None or teacher is None):
        raise ValueError(f"loss {kind} needs a student and a teacher that are built like BERT")
    arguments = {
        "dim": dim,
        "columns": columns,
        "teacher_dim": teacher_dim,
        "axes": axes,
        "generator": generator,
        "student": student,
        "teacher": teacher,
        "tokens": tokens,
    }
    context = {name: arguments[name] for name in _CONTEXT_ARGUMENTS if name in parameters}
    loss = LOSSES[kind](**context, **{name: options[name] for name in options if name in known})
    return _with_matryoshka(kind, loss, options, dim)


def _with_matryoshka(kind: str, loss: Loss, options: Mapping[str, Any], dim: int) -> Loss:
    dims, weights = options.get("matryoshka"), options.get("matryoshka_weights")
    if not dims:
        if weights is not None:
            raise ValueError("matryoshka_weights requires matryoshka, the dimensions to weight")
        return loss
    if not isinstance(loss, VectorLoss):
        raise ValueError(f"loss {kind} has no option matryoshka: it compares layer states, not vectors")
    for name, value in (("matryoshka", dims), ("matryoshka_weights", weights)):
        if not isinstance(value, list | tuple | None):
            raise TypeError(f"{name} is {value!r}, expected a list of numbers")
    nested = Matryoshka(loss, dims, weights)
    if max(nested.dims) > dim:
        raise ValueError(f"matryoshka is {nested.dims}, expected dimensions of at most {dim}, the student's")
    return nested
