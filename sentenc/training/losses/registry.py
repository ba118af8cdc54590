"""Objectives by name, for run configurations."""

import inspect
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sentenc.training.losses.adjacent_sentences import AdjacentSentences
from sentenc.training.losses.base import Loss
from sentenc.training.losses.embedding_distillation import EmbeddingDistillation
from sentenc.training.losses.in_batch_softmax import InBatchSoftmax
from sentenc.training.losses.matryoshka import Matryoshka
from sentenc.training.losses.paraphrase_margin import ParaphraseMargin
from sentenc.training.losses.simcse import UnsupervisedSimCSE
from sentenc.training.losses.transformer_distillation import TransformerDistillation

KINDS: dict[str, type[Loss]] = {
    "embedding_distillation": EmbeddingDistillation,
    "simcse": UnsupervisedSimCSE,
    "in_batch_softmax": InBatchSoftmax,
    "adjacent_sentences": AdjacentSentences,
    "paraphrase_margin": ParaphraseMargin,
    "transformer_distillation": TransformerDistillation,
}
# What the caller knows, not the person who writes the options.
CONTEXT = ("dim", "teacher_dim", "axes", "generator", "student", "teacher", "tokens")
WRAPPING = ("matryoshka", "matryoshka_weights")


def make_loss(
    kind: str,
    options: Mapping[str, Any],
    *,
    dim: int,
    teacher_dim: int | None = None,
    axes: Tensor | None = None,
    generator: torch.Generator | None = None,
    student: nn.Module | None = None,
    teacher: nn.Module | None = None,
    tokens: Tensor | None = None,
) -> Loss:
    """An objective from its name and its options.

    Args:
        kind: One of ``KINDS``.
        options: Keyword arguments of the class, as a configuration file may hold them; and for any kind
            ``matryoshka`` (dimensions) with ``matryoshka_weights``, see :class:`Matryoshka`.
        dim: The student's.
        teacher_dim: The teacher's, for objectives that need one.
        axes: The teacher's principal axes (teacher_dim, dim), for those that use them.
        generator: Source of any random start.
        student: The student's transformer, for objectives of its states.
        teacher: The teacher's.
        tokens: The teacher's ids of the student's tokens, or None if they are the same.

    Raises:
        ValueError: The kind or an option is unknown, a value is out of range, or something is missing.
        TypeError: A value is of the wrong type.
    """
    if kind not in KINDS:
        raise ValueError(f"unknown objective {kind!r}; known are {', '.join(sorted(KINDS))}")
    parameters = inspect.signature(KINDS[kind]).parameters
    known = [name for name in parameters if name not in CONTEXT]
    for option in options:
        if option not in known and option not in WRAPPING:
            raise ValueError(
                f"unknown option {option!r} of objective {kind}; known are {', '.join([*known, *WRAPPING])}"
            )
    if "teacher_dim" in parameters and teacher_dim is None:
        raise ValueError(f"objective {kind} needs a teacher, and there is none")
    if KINDS[kind].needs_states and (student is None or teacher is None):
        raise ValueError(f"objective {kind} needs a student and a teacher built like BERT")
    given = {
        "dim": dim, "teacher_dim": teacher_dim, "axes": axes, "generator": generator,
        "student": student, "teacher": teacher, "tokens": tokens,
    }  # fmt: skip
    context = {name: given[name] for name in CONTEXT if name in parameters}
    inner = KINDS[kind](**context, **{name: options[name] for name in options if name in known})
    return _nested(inner, options, dim)


def _nested(inner: Loss, options: Mapping[str, Any], dim: int) -> Loss:
    dims, weights = options.get("matryoshka"), options.get("matryoshka_weights")
    if not dims:
        if weights is not None:
            raise ValueError("matryoshka_weights are given without matryoshka, the dimensions they are for")
        return inner
    if not isinstance(dims, list | tuple) or not isinstance(weights, list | tuple | None):
        raise TypeError(
            f"matryoshka and matryoshka_weights must be lists of numbers, got {dims!r}, {weights!r}"
        )
    nested = Matryoshka(inner, dims, weights)
    if max(nested.dims) > dim:
        raise ValueError(f"matryoshka dimensions must be at most the student's {dim}, got {nested.dims}")
    return nested
