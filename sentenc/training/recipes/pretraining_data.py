"""The data of a pretraining run: corpora, a dev score, cached teacher embeddings and corpus statistics."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from time import monotonic
from typing import Literal
from urllib.parse import quote

import numpy as np
import numpy.typing as npt
import torch

from sentenc.embedding_cache import EmbeddingCache
from sentenc.encoders.base import Encoder
from sentenc.training.config.pretraining import LossConfig, RunConfig
from sentenc.training.config.teacher import TeacherConfig
from sentenc.training.data.corpus import Corpus, CorpusTexts
from sentenc.training.data.examples import Example, ExampleFilter, TextRole
from sentenc.training.data.statistics import (
    CorpusStatistics,
    StatisticsRequest,
    corpus_statistics,
)
from sentenc.training.engine.dev_score import DevScore
from sentenc.training.losses import LOSSES
from sentenc.training.recipes.dev_score import dev_score
from sentenc.training.recipes.joint_teacher import (
    JointPart,
    compute_axes,
    description_file,
    fill_joint_caches,
    joint_space,
    joint_vectors,
    open_joint_caches,
    read_axes,
    rotate_student,
    write_axes,
)
from sentenc.training.students.base import EncoderStudent
from sentenc.training.teachers.base import Teacher
from sentenc.training.teachers.ensemble import TeacherEnsemble
from sentenc.training.teachers.joint import JointSpace, JointVectors, TeacherVectors
from sentenc.training.teachers.lazy import LazyTeacher
from sentenc.training.teachers.loading import load_encoding_teacher, load_teacher
from sentenc.training.teachers.parquet_vectors import import_vectors
from sentenc.training.teachers.teacher_cache import fill_teacher_cache, open_teacher_cache

# More texts would hardly change the frequencies of tokens, or the principal axes.
_TEXTS_FOR_TOKEN_COUNTS = 1_000_000
_TEXTS_FOR_LOSS_AXES = 20_000
TEXTS_FOR_ROTATION = 2_000
# What a process adds to the cache of the teacher's embeddings: "imports" are those of ``teacher.vectors``.
Filling = Literal["everything", "imports", "nothing"]


@dataclass(frozen=True)
class RunData:
    """The corpora of a run, and the score that it is evaluated by.

    Attributes:
        corpora: The corpora by name.
        dev_score: Returns the scores of an encoder; None without an evaluation.
    """

    corpora: dict[str, Corpus]
    dev_score: Callable[[Encoder], DevScore] | None


def build_data(config: RunConfig) -> RunData:
    """Opens the corpora and reads the data of the evaluation.

    Raises:
        ValueError: The settings of a corpus do not fit together.
        SentencError: A file is missing or cannot be read.
    """
    score = None if config.evaluation is None else dev_score(config.evaluation)
    return RunData({name: corpus.open() for name, corpus in config.corpora.items()}, score)


@dataclass(frozen=True)
class RunTeacher:
    """The teacher of a run, and its cached embeddings.

    Attributes:
        load: Returns the teacher, which is loaded by the first call and kept until it is released.
        vectors: The teacher's unit vectors of texts, by corpus: those of corpora whose losses need them.
        filters: Selects the examples whose text has an embedding, by corpus. Corpora whose texts are not
            looked up, or all have an embedding, have no filter.
        n_texts: Number of texts with an embedding; None if no loss needs them.
        space: The space of a joint teacher, or None.
        shards: Names of the shards with the embeddings, by the name of their folder in the cache.
    """

    load: LazyTeacher
    vectors: Mapping[str, TeacherVectors]
    filters: Mapping[str, ExampleFilter]
    n_texts: int | None = None
    space: JointSpace | None = None
    shards: Mapping[str, list[str]] = field(default_factory=dict)


def build_teacher(
    config: RunConfig,
    data: RunData,
    device: torch.device,
    *,
    fill: Filling,
    show_progress_bar: bool,
    shards: Mapping[str, list[str]] | None = None,
) -> RunTeacher:
    """Opens the cache of the teacher's embeddings.

    Args:
        config: The run.
        data: Its corpora.
        device: The device that the teacher computes on.
        fill: First add the embeddings that the cache lacks: "everything" with the settings of the section
            ``[teacher]``, or only "imports" from files, or "nothing".
        show_progress_bar: Draw a bar on standard error.
        shards: The shards that a resumed run began with; None opens all.

    Raises:
        ValueError: The cache is empty.
        SentencError: The teacher or the cache cannot be read.
    """
    settings = config.teacher or TeacherConfig()
    load = LazyTeacher(lambda: _loaded(config, device))
    corpora = _corpora_with_embeddings(config)
    if config.teacher is None or not corpora:
        return RunTeacher(load, {}, {})
    if settings.vectors and fill != "nothing":
        fingerprint = (lambda: load().fingerprint()) if settings.models else None
        import_vectors(settings, fingerprint, show_progress_bar=show_progress_bar)
    computes = bool(settings.models) and settings.max_minutes != 0 and not settings.vectors
    computes = computes and fill == "everything"
    if settings.joint:
        built = _joint_teacher(config, data, device, load, shards, computes, show_progress_bar)
    else:
        teacher = None
        if computes:
            teacher = load_encoding_teacher(
                settings.names, settings.model_weights, device, settings.precision
            ).teacher
        embeddings = open_teacher_cache(
            settings.cache, teacher, None if shards is None else shards.get(".", ())
        )
        if teacher is not None:
            streams = [CorpusTexts(data.corpora[name], config.seed) for name in corpora]
            _fill(embeddings, teacher, streams, settings.max_minutes, show_progress_bar)
        if not len(embeddings):
            raise ValueError(
                f"teacher.cache is {settings.cache}, which contains no embeddings: "
                f"{_remedy(settings, is_filled=computes)}"
            )
        names = {".": embeddings.shard_names()}
        built = RunTeacher(load, dict.fromkeys(corpora, embeddings), {}, len(embeddings), shards=names)
    if settings.models and settings.max_minutes is None and not settings.vectors:
        # Every text has an embedding: looking all of them up would only take time.
        return built
    return replace(built, filters={name: _filter(built.vectors[name]) for name in corpora})


def _fill(
    embeddings: EmbeddingCache,
    teacher: Teacher,
    streams: "list[CorpusTexts]",
    max_minutes: float | None,
    show_progress_bar: bool,
) -> None:
    # Fills the cache within one time limit, of which each corpus gets an equal part. A corpus that needs less leaves
    # the rest to the later ones.
    started, minutes = monotonic(), None
    for number, texts in enumerate(streams):
        if max_minutes is not None:
            left = max_minutes - (monotonic() - started) / 60
            minutes = max(0.0, left) / (len(streams) - number)
        fill_teacher_cache(embeddings, teacher, texts, minutes, show_progress_bar)


def _loaded(config: RunConfig, device: torch.device) -> Teacher:
    # The teachers that a student may be initialized from. A BERT takes layers of the first one only.
    settings = config.teacher or TeacherConfig()
    models = settings.joint[:1] if config.student.kind == "bert" else settings.joint
    encoders = [load_teacher([model.model], device=device, pooling=model.pooling) for model in models]
    if len(encoders) > 1:
        return TeacherEnsemble(encoders, settings.model_weights)
    return encoders[0] if encoders else load_teacher(settings.names, settings.model_weights, device)


def _remedy(settings: TeacherConfig, *, is_filled: bool) -> str:
    if not settings.models and not settings.vectors:
        return "set teacher.models or teacher.vectors to fill it"
    if is_filled or settings.max_minutes == 0:
        return "set a teacher.max_minutes above 0 to fill it"
    return (
        "start again (--fresh, or resume=False), or copy the folder from the machine of the first process, if "
        "this is another one"
    )


def _filter(vectors: TeacherVectors) -> ExampleFilter:
    def has_embedding(examples: list[Example]) -> npt.NDArray[np.bool_]:
        texts = [text for example in examples for text in example]
        known: npt.NDArray[np.bool_] = np.all(vectors.has(texts).reshape(len(examples), -1), axis=1)
        return known

    return has_embedding


def _joint_teacher(
    config: RunConfig,
    data: RunData,
    device: torch.device,
    load: LazyTeacher,
    shards: Mapping[str, list[str]] | None,
    fill: bool,
    show_progress_bar: bool,
) -> RunTeacher:
    settings = config.teacher or TeacherConfig()
    roles = {name: _role(config, name) for name in _corpora_with_embeddings(config)}
    distinct = list(dict.fromkeys(roles.values()))
    parts: list[JointPart] = []
    if fill:
        for model in settings.joint:
            loaded = load_encoding_teacher(
                [model.model], device=device, precision=settings.precision, pooling=model.pooling
            )
            parts.append(JointPart(model, loaded.fingerprint, loaded.teacher, loaded.precision))
    caches = open_joint_caches(settings, distinct, parts, shards)
    if fill:
        streams = [CorpusTexts(data.corpora[name], config.seed) for name in roles]
        texts = [(role, own, own.estimate()) for role, own in zip(roles.values(), streams, strict=True)]
        fill_joint_caches(caches, parts, texts, settings.max_minutes, show_progress_bar)
    space = joint_space(settings, caches)
    by_role = {role: joint_vectors(space, caches, role) for role in distinct}
    different = {vectors.caches: len(vectors) for vectors in by_role.values()}
    vectors = {name: by_role[role] for name, role in roles.items()}
    names = {name: cache.shard_names() for name, cache in caches.items()}
    return RunTeacher(load, vectors, {}, sum(different.values()), space, names)


def reduce_teacher(
    config: RunConfig, teacher: RunTeacher, statistics: dict[str, CorpusStatistics], student: EncoderStudent
) -> RunTeacher:
    """Reduces a joint teacher to ``teacher.dim``, by the axes in its file, which is written if it is missing.

    Args:
        config: The run.
        teacher: Its teacher. One that has no reduction is returned unchanged.
        statistics: The samples of the corpora; see :func:`build_statistics`.
        student: The student with its initial weights, which the axes may be aligned with.

    Raises:
        ValueError: Dimensions do not fit, or there are no texts.
        CacheError: The file is damaged, or was written for other teachers, or without ``teacher.align_axes``.
    """
    settings, space = config.teacher, teacher.space
    if settings is None or settings.dim is None or space is None:
        return teacher
    vectors = _vectors_by_role(config, teacher)
    total = next(iter(vectors.values())).dim
    path = axes_files(config)[0]
    if not path.exists():
        texts = _sample(config, teacher, statistics)
        axes = compute_axes(vectors, texts, settings.dim, student if settings.align_axes else None)
        write_axes(replace(space, axes=axes), path, aligned=settings.align_axes)
    space = read_axes(space, path, (total, settings.dim), aligned=settings.align_axes)
    reduced = {role: JointVectors(space, v.caches) for role, v in vectors.items()}
    return replace(
        teacher, space=space, vectors={name: reduced[role] for name, role in _roles(config, teacher).items()}
    )


def axes_files(config: RunConfig) -> list[Path]:
    """Returns the file of a joint teacher's axes and their description; empty for a teacher without a reduction."""
    settings = config.teacher
    if settings is None or settings.dim is None:
        return []
    path = Path(settings.axes or Path(config.work) / "teacher-axes.npy")
    return [path, description_file(path)]


def rotate_to_teacher(
    config: RunConfig, teacher: RunTeacher, statistics: dict[str, CorpusStatistics], student: EncoderStudent
) -> None:
    """Rotates an untrained student to the vectors of a joint teacher that it is compared with as it is.

    The same rotation of the student's output would take long to learn. A BERT, whose last layer is normalized
    by components, is not rotated: its teacher is instead (``teacher.align_axes``).
    """
    if teacher.space is not None and in_joint_space(config) and config.student.kind == "cse":
        rotate_student(student, _vectors_by_role(config, teacher), _sample(config, teacher, statistics))


def _roles(config: RunConfig, teacher: RunTeacher) -> dict[str, TextRole]:
    return {name: _role(config, name) for name in teacher.vectors}


def _role(config: RunConfig, corpus: str) -> TextRole:
    roles = config.corpora[corpus].column_roles
    if len(set(roles)) > 1:
        raise ValueError(
            f"roles of corpus {corpus} are {list(roles)}, expected one role for embedding_distillation"
        )
    return roles[0]


def _vectors_by_role(config: RunConfig, teacher: RunTeacher) -> dict[TextRole, JointVectors]:
    roles = _roles(config, teacher)
    return {roles[name]: v for name, v in teacher.vectors.items() if isinstance(v, JointVectors)}


def _sample(
    config: RunConfig, teacher: RunTeacher, statistics: dict[str, CorpusStatistics]
) -> list[tuple[TextRole, list[str]]]:
    # The role and some texts of each corpus with embeddings.
    roles = _roles(config, teacher)
    return [(role, statistics[name].used_texts[:_TEXTS_FOR_LOSS_AXES]) for name, role in roles.items()]


def in_joint_space(config: RunConfig) -> bool:
    """Whether the student's vectors are compared with those of a joint teacher as they are."""
    used = [loss for loss in config.losses if _needs_embeddings(loss)]
    is_joint = config.teacher is not None and bool(config.teacher.joint) and bool(used)
    return is_joint and all(loss.options.get("space") == "same" for loss in used)


def build_statistics(
    config: RunConfig, data: RunData, teacher: RunTeacher, *, show_progress_bar: bool
) -> dict[str, CorpusStatistics]:
    """Computes the statistics of corpora that a run needs, or reads them from the work folder.

    They are computed in one pass over each corpus.

    The pass is not the one that fills the teacher's cache: if that is limited in time, only the finished
    cache shows which examples are used.

    Returns:
        Statistics by corpus: of the first loss's corpus, and of those that a loss or a joint teacher takes
        its axes from.
    """
    student = config.student
    counts_tokens = student.init == "teacher" or student.vocabulary > 0
    is_joint = config.teacher is not None and bool(config.teacher.joint)
    requests = {
        loss.corpus: StatisticsRequest(n_texts=0, n_used_texts=_TEXTS_FOR_LOSS_AXES)
        for loss in config.losses
        if needs_axes(loss) or (is_joint and _needs_embeddings(loss))
    }
    first = config.losses[0].corpus
    requests[first] = StatisticsRequest(
        n_texts=_TEXTS_FOR_TOKEN_COUNTS if counts_tokens else TEXTS_FOR_ROTATION,
        n_used_texts=_TEXTS_FOR_LOSS_AXES if first in requests else 0,
        count=config.epochs is not None,
    )
    return {
        name: corpus_statistics(
            data.corpora[name],
            config.seed,
            Path(config.work) / f"statistics-{quote(name, safe='')}",
            request,
            example_filter=teacher.filters.get(name),
            filter_identity=f"{teacher.n_texts or 0} embeddings" if name in teacher.filters else "",
            show_progress_bar=show_progress_bar,
        )
        for name, request in requests.items()
    }


def selected_examples(
    teacher: RunTeacher, statistics: Mapping[str, CorpusStatistics]
) -> dict[str, tuple[int, int]]:
    """Returns how many examples have an embedding, and how many were read, by corpus whose examples may lack one."""
    chosen = {name: statistics[name] for name in teacher.filters if name in statistics}
    return {name: (counts.n_selected, counts.n_read) for name, counts in chosen.items() if counts.n_read}


def needs_axes(loss: LossConfig) -> bool:
    """Whether a loss depends on axes that are computed from a sample of its corpus."""
    return _needs_embeddings(loss) and loss.options.get("space") in ("principal", "aligned")


def _corpora_with_embeddings(config: RunConfig) -> list[str]:
    return list(dict.fromkeys(loss.corpus for loss in config.losses if _needs_embeddings(loss)))


def _needs_embeddings(loss: LossConfig) -> bool:
    return loss.kind in LOSSES and LOSSES[loss.kind].needs_targets
