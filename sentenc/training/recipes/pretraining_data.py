"""The data of a pretraining run: corpora, a dev score, cached teacher embeddings and corpus statistics."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import torch

from sentenc.embedding_cache import EmbeddingCache
from sentenc.encoders.base import Encoder
from sentenc.training.config.pretraining import LossConfig, RunConfig, TeacherConfig
from sentenc.training.data.corpus import Corpus
from sentenc.training.data.examples import Example, ExampleFilter
from sentenc.training.data.statistics import (
    CorpusStatistics,
    StatisticsRequest,
    corpus_statistics,
)
from sentenc.training.losses import LOSSES
from sentenc.training.recipes.dev_score import sts_score
from sentenc.training.teachers.base import Teacher
from sentenc.training.teachers.batched import batch_on_gpu
from sentenc.training.teachers.loading import load_teacher
from sentenc.training.teachers.teacher_cache import fill_teacher_cache, open_teacher_cache

# More texts would hardly change the frequencies of tokens, or the principal axes.
_TEXTS_FOR_TOKEN_COUNTS = 1_000_000
_TEXTS_FOR_LOSS_AXES = 20_000
TEXTS_FOR_ROTATION = 2_000


@dataclass(frozen=True)
class RunData:
    """The corpora of a run, and the score that it is evaluated by.

    Attributes:
        corpora: The corpora by name.
        dev_score: Returns the score of an encoder; None without an evaluation.
    """

    corpora: dict[str, Corpus]
    dev_score: Callable[[Encoder], float] | None


def build_data(config: RunConfig) -> RunData:
    """Opens the corpora and reads the pairs of the evaluation.

    Raises:
        ValueError: The settings of a corpus do not fit together.
        SentencError: A file is missing or cannot be read.
    """
    evaluation = config.evaluation
    score = None if evaluation is None else sts_score(Path(evaluation.sts), evaluation.metric)
    return RunData({name: corpus.open() for name, corpus in config.corpora.items()}, score)


@dataclass(frozen=True)
class RunTeacher:
    """The teacher of a run, and its cached embeddings.

    Attributes:
        load: Returns the teacher, which is loaded by the first call.
        embeddings: The teacher's unit vectors of texts; None if no loss needs them.
        filters: Selects the examples whose text has an embedding, by corpus. Corpora whose texts are not
            looked up, or all have an embedding, have no filter.
    """

    load: Callable[[], Teacher]
    embeddings: EmbeddingCache | None
    filters: dict[str, ExampleFilter]


def build_teacher(
    config: RunConfig, data: RunData, device: torch.device, *, fill: bool, show_progress_bar: bool
) -> RunTeacher:
    """Opens the cache of the teacher's embeddings.

    Args:
        config: The run.
        data: Its corpora.
        device: The device that the teacher computes on.
        fill: First compute the embeddings that the cache lacks, as the section ``[teacher]`` says.
        show_progress_bar: Draw a bar on standard error.

    Raises:
        ValueError: The cache is empty.
        SentencError: The teacher or the cache cannot be read.
    """
    settings = config.teacher or TeacherConfig()
    load = cache(lambda: load_teacher(settings.models, settings.weights, device))
    corpora = list(dict.fromkeys(loss.corpus for loss in config.losses if _needs_embeddings(loss)))
    if config.teacher is None or not corpora:
        return RunTeacher(load, None, {})
    teacher = None
    if fill and settings.models and settings.max_minutes != 0:
        teacher = batch_on_gpu(load(), device)
    embeddings = open_teacher_cache(settings.cache, teacher)
    if teacher is not None:
        for name in corpora:
            texts = _FirstColumn(data.corpora[name], config.seed)
            fill_teacher_cache(embeddings, teacher, texts, settings.max_minutes, show_progress_bar)
    if not len(embeddings):
        remedy = "set teacher.models to fill it"
        if settings.models:
            remedy = (
                "set a teacher.max_minutes above 0 to fill it"
                if fill
                else "start again (--fresh, or resume=False)"
            )
        raise ValueError(f"teacher.cache is {settings.cache}, which contains no embeddings: {remedy}")
    if settings.models and settings.max_minutes is None:
        # Every text has an embedding: looking all of them up would only take time.
        return RunTeacher(load, embeddings, {})

    def has_embedding(examples: list[Example]) -> npt.NDArray[np.bool_]:
        return embeddings.has([example[0] for example in examples])

    return RunTeacher(load, embeddings, dict.fromkeys(corpora, has_embedding))


class _FirstColumn:
    # The texts of column 0 of a corpus's first epoch. The length, which sizes a progress bar, is an estimate.

    def __init__(self, corpus: Corpus, seed: int) -> None:
        self._corpus, self._seed = corpus, seed

    def __len__(self) -> int:
        return self._corpus.estimate()

    def __iter__(self) -> Iterator[str]:
        return (example[0] for example in self._corpus.epoch(self._seed, 0))


def build_statistics(
    config: RunConfig, data: RunData, teacher: RunTeacher, *, show_progress_bar: bool
) -> dict[str, CorpusStatistics]:
    """Computes the statistics of corpora that a run needs, or reads them from the work folder.

    They are computed in one pass over each corpus.

    The pass is not the one that fills the teacher's cache: if that is limited in time, only the finished
    cache shows which examples are used.

    Returns:
        Statistics by corpus: of the first loss's corpus, and of those that a loss takes its axes from.
    """
    student = config.student
    counts_tokens = student.init == "teacher" or student.vocabulary > 0
    requests = {
        loss.corpus: StatisticsRequest(n_texts=0, n_used_texts=_TEXTS_FOR_LOSS_AXES)
        for loss in config.losses
        if needs_axes(loss)
    }
    first = config.losses[0].corpus
    requests[first] = StatisticsRequest(
        n_texts=_TEXTS_FOR_TOKEN_COUNTS if counts_tokens else TEXTS_FOR_ROTATION,
        n_used_texts=_TEXTS_FOR_LOSS_AXES if first in requests else 0,
        count=config.epochs is not None,
    )
    n_embeddings = 0 if teacher.embeddings is None else len(teacher.embeddings)
    return {
        name: corpus_statistics(
            data.corpora[name],
            config.seed,
            Path(config.work) / f"statistics-{quote(name, safe='')}",
            request,
            example_filter=teacher.filters.get(name),
            filter_identity=f"{n_embeddings} embeddings" if name in teacher.filters else "",
            show_progress_bar=show_progress_bar,
        )
        for name, request in requests.items()
    }


def needs_axes(loss: LossConfig) -> bool:
    """Whether a loss depends on axes that are computed from a sample of its corpus."""
    return _needs_embeddings(loss) and loss.options.get("space") in ("principal", "aligned")


def _needs_embeddings(loss: LossConfig) -> bool:
    return loss.kind in LOSSES and LOSSES[loss.kind].needs_targets
