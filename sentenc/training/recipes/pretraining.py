"""Trains a sentence encoder as a run file describes: by distillation, contrastive losses, or both."""

import math
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w
from torch import Tensor

from sentenc.checkpoint import CONFIG
from sentenc.encoders.base import Encoder
from sentenc.io.atomic import write_text
from sentenc.training.config.pretraining import RunConfig
from sentenc.training.data.corpus import Corpus, SourceReport
from sentenc.training.data.statistics import CorpusStatistics
from sentenc.training.engine.dev_score import DevScore
from sentenc.training.engine.distributed import Processes, process_group
from sentenc.training.engine.run_log import draw_curves
from sentenc.training.engine.trainer import LOG_FILE, STATE_FILE, Result, Trainer
from sentenc.training.initialization.student import initialize_student
from sentenc.training.recipes.folders import check_output, open_work_folder
from sentenc.training.recipes.model_card import model_card
from sentenc.training.recipes.pretraining_data import (
    TEXTS_FOR_ROTATION,
    Filling,
    RunData,
    RunTeacher,
    axes_files,
    build_data,
    build_statistics,
    build_teacher,
    in_joint_space,
    reduce_teacher,
    rotate_to_teacher,
    selected_examples,
)
from sentenc.training.recipes.pretraining_losses import build_loss_terms
from sentenc.training.recipes.teacher_shards import read_shards, write_shards
from sentenc.training.students.base import EncoderStudent


def pretrain(
    config: RunConfig,
    *,
    max_minutes: float | None = None,
    resume: bool = True,
    command: str | None = None,
    show_progress_bar: bool = True,
) -> Path:
    """Trains the student that a run describes, and writes the finished model.

    After any interruption, the same call resumes from the state in the work folder.

    Args:
        config: The run.
        max_minutes: Replaces ``config.training.max_minutes``, the time limit of the training without its
            preparations.
        resume: False starts again from the beginning, with the caches of the work folder.
        command: The command in the model card; by default the arguments of Python.
        show_progress_bar: Draw bars on standard error.

    Returns:
        The model's folder, ``config.output``.

    Raises:
        ValueError, TypeError: Parts of the configuration do not fit together.
            Another run uses the work folder.
        SentencError: A file or model cannot be read, or ``config.output`` contains other files.
        KeyboardInterrupt: The run was stopped; the message names the folder of its state.
        FloatingPointError: The training diverged; the message names the file with the batch's texts.
    """
    if max_minutes is not None:
        config = replace(config, training=replace(config.training, max_minutes=max_minutes))
    check_norms(config)
    bars = show_progress_bar
    with process_group(config.training.device) as processes, open_work_folder(Path(config.work), processes):
        check_start(config, processes)
        # The machines of other processes may not have the state.
        is_resumed = processes.from_first(lambda: resume and (Path(config.work) / STATE_FILE).exists())
        data = build_data(config)
        teacher, statistics, student = prepare(config, data, processes, is_resumed=is_resumed, bars=bars)
        trainer = build_trainer(config, data, teacher, statistics, student, processes, bars)
        teacher.load.release()
        if not is_resumed:
            begin_afresh(config, teacher, processes)
        result = trainer.run()
        if processes.is_first:
            command = command or " ".join(sys.argv)
            save_model(config, data, teacher, statistics, student, trainer, result, command)
        # No process ends while the first one still writes the model.
        processes.barrier()
    return Path(config.output)


def _report_axes(config: RunConfig) -> None:
    # Axes in a file replace those that the run would compute, so that its settings of them have no effect.
    for path in axes_files(config)[:1]:
        if path.exists():
            print(f"using the axes in {path}", file=sys.stderr)


def shapes_axes(config: RunConfig) -> bool:
    """Whether a loss determines the axes of the student's output, so that they must not be rotated."""
    return in_joint_space(config) or any(
        loss.options.get("matryoshka") or loss.options.get("space") == "principal" for loss in config.losses
    )


def check_norms(config: RunConfig) -> None:
    """Checks that norms are set only for a student whose output is rotated: both are one step.

    Raises:
        ValueError: A loss shapes the axes, and a norm is set.
    """
    for name in ("sentence_norm", "average_norm", "ngram_norm"):
        if shapes_axes(config) and (norm := getattr(config.student, name)) is not None:
            raise ValueError(
                f'student.{name} is {norm}, but a loss shapes the axes (matryoshka, space = "principal", or '
                'space = "same" with a joint teacher): use only one of them'
            )


def check_start(config: RunConfig, processes: Processes) -> None:
    """Checks before the preparations that the run can be trained by the processes, and its model be written.

    Raises:
        ValueError: A batch cannot be divided among the processes.
        CheckpointError: ``config.output`` contains other files than a model.
    """
    for loss in config.losses:
        processes.check_batch_size(loss.batch_size)
    marker = CONFIG if config.student.kind == "cse" else "modules.json"
    check_output(Path(config.output), marker, "a model folder", processes)


def prepare(
    config: RunConfig, data: RunData, processes: Processes, *, is_resumed: bool, bars: bool
) -> tuple[RunTeacher, dict[str, CorpusStatistics], EncoderStudent]:
    """Returns the teacher, the statistics of the corpora, and the student with its initial weights.

    The first process fills the caches of embeddings, statistics and initial weights. The others read them.
    """
    with processes.first_process_first():
        shards = None
        if is_resumed and config.teacher is not None:
            shards = read_shards(Path(config.work), Path(config.teacher.cache))
        filling = _filling(processes, is_resumed)
        teacher = build_teacher(
            config, data, processes.device, fill=filling, show_progress_bar=bars, shards=shards
        )
        statistics = build_statistics(config, data, teacher, show_progress_bar=bars)
        if processes.is_first and bars:
            for name, (n_selected, n_read) in selected_examples(teacher, statistics).items():
                print(
                    f"corpus {name}: {n_selected:,} of {n_read:,} examples have a teacher vector",
                    file=sys.stderr,
                )
        student = build_student(config, data, teacher, statistics)
        if processes.is_first:
            if bars:
                _report_axes(config)
            reduce_teacher(config, teacher, statistics, student)
    for path in axes_files(config):
        processes.share_file(path)
    teacher = reduce_teacher(config, teacher, statistics, student)
    rotate_to_teacher(config, teacher, statistics, student)
    return teacher, statistics, student


def begin_afresh(config: RunConfig, teacher: RunTeacher, processes: Processes) -> None:
    """Deletes the state of an earlier run, and writes the names of the teacher's shards for :func:`read_shards`.

    Called directly before the training: a mistake in the run file must not cost the state of the earlier run.
    """
    work = Path(config.work)
    if processes.is_first:
        (work / STATE_FILE).unlink(missing_ok=True)
    # Other runs may share the cache and add embeddings to it before this run is resumed.
    if teacher.shards and processes.is_first_on_machine:
        write_shards(work, teacher.shards)


def _filling(processes: Processes, is_resumed: bool) -> Filling:
    # A resumed run must train on the texts that it began with: it adds no embeddings.
    if is_resumed or not processes.is_first_on_machine:
        return "nothing"
    # Computing vectors is expensive, so that only one process does it. Every machine imports its own.
    return "everything" if processes.is_first else "imports"


def build_student(
    config: RunConfig, data: RunData, teacher: RunTeacher, statistics: dict[str, CorpusStatistics]
) -> EncoderStudent:
    """Builds the student with its initial weights; see :func:`initialize_student`.

    Raises:
        ValueError: The settings of the student do not fit together.
        SentencError: A model or tokenizer cannot be read.
    """
    corpus = config.losses[0].corpus
    return initialize_student(
        config, statistics[corpus].texts, teacher.load, data.corpora[corpus].fingerprint()
    )


def build_trainer(
    config: RunConfig,
    data: RunData,
    teacher: RunTeacher,
    statistics: dict[str, CorpusStatistics],
    student: EncoderStudent,
    processes: Processes,
    show_progress_bar: bool,
) -> Trainer:
    """Builds the trainer of the student.

    Raises:
        ValueError, TypeError: Losses, corpora, student and teacher do not fit together.
    """
    training = config.training
    if config.epochs is not None:
        training = replace(training, steps=math.ceil(config.epochs * steps_per_epoch(config, statistics)))
    evaluate = None
    if data.dev_score is not None:
        evaluate = _evaluation(data.dev_score, student, rotation_texts(config, statistics))
    return Trainer(
        student,
        build_loss_terms(config, data, teacher, statistics, student),
        training,
        Path(config.work),
        evaluate,
        processes=processes,
        identity={
            "student": config.table.get("student", {}),
            "losses": {str(number): loss for number, loss in enumerate(config.table["losses"])},
            "evaluation": config.table.get("evaluation", {}),
            "corpora": {name: corpus.fingerprint() for name, corpus in data.corpora.items()},
            "teacher_texts": teacher.n_texts,
        }
        | _joint_identity(config, teacher),
        show_progress_bar=show_progress_bar,
    )


def _joint_identity(config: RunConfig, teacher: RunTeacher) -> dict[str, Any]:
    # Apart from the other values: a run without a joint teacher and roles keeps its identity.
    roles = {name: list(corpus.column_roles) for name, corpus in config.corpora.items()}
    identity: dict[str, Any] = {}
    if any(role != "similarity" for columns in roles.values() for role in columns):
        identity["roles"] = roles
    if teacher.space is not None:
        identity["space"] = teacher.space.identifier()
    return identity


def _evaluation(
    score: Callable[[Encoder], DevScore], student: EncoderStudent, rotate_on: list[str] | None
) -> Callable[[Tensor | None], DevScore]:
    # Scores the student as the model that would be saved now.
    return lambda output_map: score(student.encoder(output_map, rotate_on))


def rotation_texts(config: RunConfig, statistics: dict[str, CorpusStatistics]) -> list[str] | None:
    """Returns the texts whose principal axes become those of the finished model; None for no rotation."""
    if shapes_axes(config) or config.student.kind != "cse":
        return None
    return list(statistics[config.losses[0].corpus].texts(TEXTS_FOR_ROTATION))


def steps_per_epoch(config: RunConfig, statistics: dict[str, CorpusStatistics]) -> float:
    """Returns the number of steps in an epoch of the first loss's corpus.

    Raises:
        ValueError: The epoch is smaller than a batch.
    """
    loss = config.losses[0]
    n_examples = statistics[loss.corpus].n_used or 0
    if n_examples < loss.batch_size:
        raise ValueError(
            f"an epoch of corpus {loss.corpus} has {n_examples} examples, expected at least batch_size, "
            f"{loss.batch_size}"
        )
    return n_examples // loss.batch_size / config.training.accumulate


def save_model(
    config: RunConfig,
    data: RunData,
    teacher: RunTeacher,
    statistics: dict[str, CorpusStatistics],
    student: EncoderStudent,
    trainer: Trainer,
    result: Result,
    command: str,
) -> None:
    """Writes the finished model with its card, run file, log and learning curves."""
    output = Path(config.output)
    encoder = student.finished(trainer.output_map(), rotation_texts(config, statistics))
    keeps_best = config.training.keep == "best" and result.best_step is not None
    dev = None if data.dev_score is None else data.dev_score(encoder)
    outcome: dict[str, Any] = {
        "steps": result.steps,
        "minutes": result.minutes,
        "step": result.best_step if keeps_best else result.steps,
        "score": None if dev is None else dev.mean,
    }
    if dev is not None and len(dev.parts) > 1:
        outcome["scores"] = dict(dev.parts)
    card = model_card(
        config,
        name=output.name,
        command=command,
        dim=encoder.dim,
        outcome=outcome,
        corpora=data.corpora,
        reports={name: _reports(corpus, statistics.get(name)) for name, corpus in data.corpora.items()},
        teacher_texts=teacher.n_texts,
        with_embedding=selected_examples(teacher, statistics),
    )
    metadata: dict[str, Any] = {"name": output.name, "trained_by": command, "outcome": outcome}
    if teacher.space is not None and in_joint_space(config):
        metadata["space"] = teacher.space.identifier()
    student.save(output, encoder=encoder, metadata=metadata, card=card)
    write_text(output / "run.toml", tomli_w.dumps(config.table))
    log = Path(config.work) / LOG_FILE
    if log.exists():
        shutil.copyfile(log, output / LOG_FILE)
        draw_curves(log, output)


def _reports(corpus: Corpus, statistics: CorpusStatistics | None) -> tuple[SourceReport, ...]:
    # The counts of a whole epoch, if there are any; else those of the last epoch that was read.
    reports = corpus.report()
    was_read = any(report.lines for report in reports)
    if statistics is not None and (statistics.n_used is not None or not was_read):
        return statistics.reports
    return reports
