"""The loss terms of a pretraining run: each loss of the run file with its batches and its teacher."""

import copy
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch

from sentenc.training.config.pretraining import LossConfig, RunConfig
from sentenc.training.data.batching import batches
from sentenc.training.data.corpus import Corpus
from sentenc.training.data.examples import Example, ExampleFilter
from sentenc.training.data.statistics import CorpusStatistics
from sentenc.training.engine.loss_terms import LossTerm
from sentenc.training.losses import LOSSES, StateLoss, aligned_axes, make_loss, principal_axes
from sentenc.training.losses.transformer_distillation import token_map
from sentenc.training.recipes.pretraining_data import RunData, RunTeacher, needs_axes
from sentenc.training.students.base import EncoderStudent
from sentenc.training.students.bert import BertStudent
from sentenc.training.teachers.ensemble import TeacherEnsemble, first_transformer
from sentenc.training.teachers.joint import TeacherVectors
from sentenc.training.teachers.sanity_check import check_teacher


def build_loss_terms(
    config: RunConfig,
    data: RunData,
    teacher: RunTeacher,
    statistics: dict[str, CorpusStatistics],
    student: EncoderStudent,
) -> list[LossTerm]:
    """Builds the loss terms of a run, in the order of the run file.

    Raises:
        ValueError, TypeError: A loss, its corpus, the student and the teacher do not fit together.
    """
    kinds = [loss.kind for loss in config.losses]
    terms = []
    for number, settings in enumerate(config.losses):
        seed = config.seed + number
        corpus = data.corpora[settings.corpus]
        embeddings = teacher.vectors.get(settings.corpus)
        prompts = tuple(student.prompt(role) for role in config.corpora[settings.corpus].column_roles)
        axes = None
        if embeddings is not None and needs_axes(settings):
            texts = statistics[settings.corpus].used_texts
            if not texts:
                folder = config.teacher and config.teacher.cache
                raise ValueError(
                    f"corpus {settings.corpus} has no text with an embedding in teacher.cache, {folder} "
                    f"({len(embeddings):,} texts): set a teacher.max_minutes above 0 to fill it, or choose the cache "
                    "of this corpus"
                )
            axes = _axes(settings, texts, embeddings, student, prompts[0])
        loss = make_loss(
            settings.kind,
            settings.options,
            dim=student.loss_dim,
            columns=corpus.columns,
            teacher_dim=None if embeddings is None else embeddings.dim,
            axes=axes,
            generator=torch.Generator().manual_seed(seed),
            **_transformers(settings.kind, student, teacher),
        )
        if loss.columns != corpus.columns:
            raise ValueError(
                f"loss {settings.kind} takes examples of {loss.columns} texts, but the examples of corpus "
                f"{settings.corpus} have {corpus.columns}"
            )

        terms.append(
            LossTerm(
                name=settings.kind if kinds.count(settings.kind) == 1 else f"{settings.kind}-{number + 1}",
                loss=loss,
                batches=_batches(corpus, settings.batch_size, seed, teacher.filters.get(settings.corpus)),
                weight=settings.weight,
                targets=None if embeddings is None else embeddings.lookup,
                prompts=prompts,
            )
        )
    return terms


def _batches(
    corpus: Corpus, batch_size: int, seed: int, example_filter: ExampleFilter | None
) -> Callable[[int, int], Iterator[tuple[int, list[Example]]]]:
    return lambda epoch, skip: batches(corpus, batch_size, seed, skip, keep=example_filter, epoch=epoch)


def _axes(
    settings: LossConfig,
    texts: list[str],
    embeddings: TeacherVectors,
    student: EncoderStudent,
    prompt: str,
) -> torch.Tensor:
    # The teacher's axes (t, dim) that the student's components are compared with.
    targets = torch.from_numpy(embeddings.lookup(texts))
    if settings.options["space"] == "principal":
        return principal_axes(targets, student.loss_dim)
    # Also in a resumed run, the student still has its initial weights here.
    prompted = [prompt + text for text in texts]
    vectors = student.encoder().encode(prompted, on_overflow="ignore")[:, : student.loss_dim]
    return aligned_axes(torch.from_numpy(np.ascontiguousarray(vectors)), targets)


def _transformers(kind: str, student: EncoderStudent, teacher: RunTeacher) -> dict[str, Any]:
    # The arguments of a loss that compares the layers of two transformers.
    if kind not in LOSSES or not issubclass(LOSSES[kind], StateLoss):
        return {}
    if not isinstance(student, BertStudent):
        raise ValueError(f'loss {kind} requires student.kind = "bert", got a {type(student).__name__}')
    encoder = teacher.load()
    models = 1 if teacher.space is None else len(teacher.space.teachers)
    if isinstance(encoder, TeacherEnsemble):
        models = len(encoder.encoders)
    if models > 1:
        raise ValueError(f"teacher.models has {models} models, expected 1 for the loss {kind} of layers")
    check_teacher(encoder)
    model, tokenizer = first_transformer(encoder).torch_model()
    return {
        "student": student.module.model,
        "teacher": copy.deepcopy(model).float(),
        "tokens": token_map(student.tokenizer, tokenizer),
    }
