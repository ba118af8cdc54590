"""A whole training run, from its file to the model's folder."""

import copy
import math
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sentenc.embedding_cache import EmbeddingCache
from sentenc.errors import MissingExtraError
from sentenc.io.atomic import replacing_file
from sentenc.io.progress import progress_bar
from sentenc.training.config.pretraining import LossConfig, RunConfig, TeacherConfig
from sentenc.training.config.toml_writer import toml_text
from sentenc.training.data.batching import Example, batches
from sentenc.training.engine.distributed import Processes, process_group
from sentenc.training.engine.loss_terms import LossTerm
from sentenc.training.engine.run_log import plot_curve, read_log
from sentenc.training.engine.trainer import Result, Trainer
from sentenc.training.initialization.build_cse import make_student
from sentenc.training.losses import LOSSES, StateLoss, aligned_axes, make_loss, principal_axes
from sentenc.training.losses.base import Loss
from sentenc.training.losses.transformer_distillation import token_map
from sentenc.training.recipes.dev_score import sts_score
from sentenc.training.recipes.model_card import model_card
from sentenc.training.students.base import EncoderStudent
from sentenc.training.students.bert import BertStudent
from sentenc.training.teachers.base import Teacher
from sentenc.training.teachers.batched import batch_on_gpu
from sentenc.training.teachers.ensemble import (
    TeacherEnsemble,
    first_transformer,
)
from sentenc.training.teachers.loading import load_teacher
from sentenc.training.teachers.sanity_check import check_teacher
from sentenc.training.teachers.teacher_cache import fill_teacher_cache, open_teacher_cache

# Texts in which tokens are counted, and whose vectors give principal axes: more would change little.
_COUNTED = 1_000_000
_AXES_TEXTS = 20_000
_ROTATION_TEXTS = 2_000
_CHUNK = 4096


def run(
    config: RunConfig,
    *,
    max_minutes: float | None = None,
    resume: bool = True,
    command: str | None = None,
    show_progress_bar: bool = True,
) -> Path:
    """Trains what a configuration describes, and writes the model's folder.

    Stopped at any time, the same call goes on from the state in the work folder.

    Args:
        config: The run.
        max_minutes: Instead of ``config.training.max_minutes``: of training, preparations not included.
        resume: False begins again; the caches in the work folder are kept.
        command: For the card; by default what Python was called with.
        show_progress_bar: Draw bars on standard error.

    Returns:
        The model's folder.

    Raises:
        ValueError, TypeError: Parts of the configuration do not fit together.
        SentencError: A file or model cannot be read.
        KeyboardInterrupt: Stopped; the message says where the state is.
        FloatingPointError: The training diverged; the message says where its texts are.
    """
    if max_minutes is not None:
        config = replace(config, training=replace(config.training, max_minutes=max_minutes))
    with process_group(config.training.device) as them:
        prepared = _Preparation(config, them, resume, show_progress_bar)
        trainer = prepared.trainer()
        result = trainer.run()
        if them.is_first:
            _finish(prepared, trainer, result, command or " ".join(sys.argv))
        # Nobody leaves while the first still writes.
        them.barrier()
    return Path(config.output)


class _Preparation:
    # Everything that a run needs, built once from its configuration.

    def __init__(self, config: RunConfig, them: Processes, resume: bool, bars: bool) -> None:
        self.config, self.them, self.bars = config, them, bars
        self.work = Path(config.work)
        self.corpora = {name: settings.open() for name, settings in config.corpora.items()}
        self.score = None
        if config.evaluation is not None:
            self.score = sts_score(Path(config.evaluation.sts), config.evaluation.metric)
        for settings in config.objectives:
            them.shard(settings.batch_size)
        if them.is_first:
            self.work.mkdir(parents=True, exist_ok=True)
            if not resume:
                (self.work / "state.pt").unlink(missing_ok=True)
        them.barrier()
        self.resumes = (self.work / "state.pt").exists()
        self.load_teacher = cache(self._load_teacher)
        if them.is_first:
            # The others find in the caches what this one leaves there.
            self.vectors = self._teacher_vectors(fill=True)
            self.student = self._student()
        them.barrier()
        if not them.is_first:
            self.vectors = self._teacher_vectors(fill=False)
            self.student = self._student()

    def trainer(self) -> Trainer:
        config = self.config
        training = config.training
        if config.epochs is not None:
            steps = self.them.broadcast(self._epoch_steps() if self.them.is_first else None)
            training = replace(training, steps=math.ceil(config.epochs * steps))
        return Trainer(
            self.student,
            [self._task(number, settings) for number, settings in enumerate(config.objectives)],
            training,
            self.work,
            self._evaluate(),
            processes=self.them,
            identity=self._settings(),
            show_progress_bar=self.bars,
        )

    def _evaluate(self) -> Callable[[torch.Tensor | None], float] | None:
        # What is evaluated is the model as it will be finished.
        score, rotation = self.score, self.rotation_texts()
        if score is None:
            return None
        return lambda output_map: score(self.student.encoder(output_map, rotation))

    def texts(self, corpus: str, column: int | None = None) -> Iterator[str]:
        """Texts of the first epoch of a corpus: of one column, or of all."""
        for example in self.corpora[corpus].epoch(self.config.seed, 0):
            yield from example if column is None else (example[column],)

    def rotation_texts(self) -> list[str] | None:
        """Texts whose principal axes the finished model gets; None where objectives shaped its axes."""
        shaped = any(
            settings.options.get("matryoshka") or settings.options.get("space") == "principal"
            for settings in self.config.objectives
        )
        if shaped or self.config.student.kind != "cse":
            self._refuse_norms()
            return None
        return list(islice(self.texts(self.config.objectives[0].corpus), _ROTATION_TEXTS))

    def _refuse_norms(self) -> None:
        # They are measured and set together with the axes.
        for name in ("sentence_norm", "average_norm", "ngram_norm"):
            if (value := getattr(self.config.student, name)) is not None:
                raise ValueError(
                    f"student.{name} is {value} with an objective that shapes the axes (matryoshka or space "
                    "'principal'), expected one without the other"
                )

    def _load_teacher(self) -> Teacher:
        settings = self.config.teacher or TeacherConfig()
        return load_teacher(settings.models, settings.weights, self.them.device)

    def _taught(self) -> list[str]:
        # Corpora of the objectives that need a teacher.
        return list(
            dict.fromkeys(
                settings.corpus
                for settings in self.config.objectives
                if settings.kind in LOSSES and LOSSES[settings.kind].needs_targets
            )
        )

    def _teacher_vectors(self, fill: bool) -> EmbeddingCache | None:
        settings, corpora = self.config.teacher, self._taught()
        if settings is None or not corpora:
            return None
        # A run that goes on must have the texts that it began with.
        fill = fill and not self.resumes and bool(settings.models) and settings.max_minutes != 0
        teacher = batch_on_gpu(self.load_teacher(), self.them.device) if fill else None
        found = open_teacher_cache(settings.cache, teacher)
        if teacher is not None:
            for corpus in corpora:
                fill_teacher_cache(found, teacher, _Texts(self, corpus), settings.max_minutes, self.bars)
        if not len(found):
            raise ValueError(f"{settings.cache} has no vectors of a teacher, expected some to train on")
        return found

    def _keep(self, settings: LossConfig) -> Callable[[list[Example]], npt.NDArray[np.bool_]] | None:
        # Only where the cache may lack texts: looking them up costs time.
        teacher, vectors = self.config.teacher, self.vectors
        if teacher is None or vectors is None or settings.corpus not in self._taught():
            return None
        if teacher.models and teacher.max_minutes is None:
            return None
        return lambda examples: vectors.has([example[0] for example in examples])

    def _student(self) -> EncoderStudent:
        corpus = self.config.objectives[0].corpus
        return make_student(
            self.config,
            lambda: islice(self.texts(corpus), _COUNTED),
            self.load_teacher,
            self.corpora[corpus].fingerprint(),
        )

    def _task(self, number: int, settings: LossConfig) -> LossTerm:
        corpus, seed = self.corpora[settings.corpus], self.config.seed + number
        objective = self._objective(settings, seed)
        if objective.columns != corpus.columns:
            raise ValueError(
                f"objective {settings.kind} wants examples of {objective.columns} texts, corpus {settings.corpus} "
                f"gives {corpus.columns}"
            )
        keep = self._keep(settings)

        def stream(epoch: int, start: int) -> Iterator[tuple[int, list[Example]]]:
            return batches(corpus, settings.batch_size, seed, start, keep=keep, epoch=epoch)

        kinds = [other.kind for other in self.config.objectives]
        name = settings.kind if kinds.count(settings.kind) == 1 else f"{settings.kind}-{number + 1}"
        lookup = None if self.vectors is None else self.vectors.lookup
        return LossTerm(name=name, loss=objective, batches=stream, weight=settings.weight, targets=lookup)

    def _objective(self, settings: LossConfig, seed: int) -> Loss:
        axes = None
        space = settings.options.get("space")
        if space in ("principal", "aligned") and self.vectors is not None:
            axes = self._axes(settings, self.vectors, space == "aligned")
        return make_loss(
            settings.kind,
            settings.options,
            dim=self.student.loss_dim,
            teacher_dim=None if self.vectors is None else self.vectors.dim,
            axes=axes,
            generator=torch.Generator().manual_seed(seed),
            **self._transformers(settings.kind),
        )

    def _transformers(self, kind: str) -> dict[str, Any]:
        # Student and teacher, for an objective of their layers' states.
        if kind not in LOSSES or not issubclass(LOSSES[kind], StateLoss):
            return {}
        if not isinstance(self.student, BertStudent):
            raise ValueError(f"objective {kind} is for student.kind 'bert', got {self.config.student.kind!r}")
        encoder = self.load_teacher()
        if isinstance(encoder, TeacherEnsemble):
            raise ValueError(
                f"objective {kind} learns from one transformer's layers, got several in teacher.models"
            )
        check_teacher(encoder)
        model, tokenizer = first_transformer(encoder).torch_model()
        return {
            "student": self.student.module.model,
            "teacher": copy.deepcopy(model).float(),
            "tokens": token_map(self.student.tokenizer, tokenizer),
        }

    def _axes(self, settings: LossConfig, vectors: EmbeddingCache, aligned: bool) -> torch.Tensor:
        texts: list[str] = []
        for examples in self._chunks(settings):
            texts += [example[0] for example in examples]
            if len(texts) >= _AXES_TEXTS:
                break
        if not texts:
            raise ValueError(f"no text of corpus {settings.corpus} has a teacher's vector")
        teacher = torch.from_numpy(vectors.lookup(texts))
        dim = self.student.loss_dim
        if not aligned:
            return principal_axes(teacher, dim)
        # The student still is what it starts from, in a run that goes on as well.
        student = self.student.encoder().encode(texts, on_overflow="ignore")[:, :dim]
        return aligned_axes(torch.from_numpy(np.ascontiguousarray(student)), teacher)

    def _chunks(self, settings: LossConfig) -> Iterator[list[Example]]:
        # The examples of the first epoch that are trained on, so many at a time.
        keep = self._keep(settings)
        stream = self.corpora[settings.corpus].epoch(self.config.seed, 0)
        while chunk := list(islice(stream, _CHUNK)):
            yield chunk if keep is None else [e for e, kept in zip(chunk, keep(chunk), strict=True) if kept]

    def _epoch_steps(self) -> float:
        first = self.config.objectives[0]
        count = 0
        with progress_bar(self.corpora[first.corpus].estimate(), "counting", self.bars) as bar:
            for chunk in self._chunks(first):
                count += len(chunk)
                bar.update(len(chunk))
        if count < first.batch_size:
            raise ValueError(
                f"an epoch of corpus {first.corpus} has {count} examples, fewer than a batch of {first.batch_size}"
            )
        return count // first.batch_size / self.config.training.accumulate

    def _settings(self) -> dict[str, Any]:
        table = self.config.table
        return {
            "student": table.get("student", {}),
            "losses": {str(number): entry for number, entry in enumerate(table["losses"])},
            "evaluation": table.get("evaluation", {}),
            "corpora": {name: corpus.fingerprint() for name, corpus in self.corpora.items()},
            "teacher_texts": None if self.vectors is None else len(self.vectors),
        }


class _Texts:
    # The texts of a corpus for a teacher, with about their number, for a bar.

    def __init__(self, prepared: _Preparation, corpus: str) -> None:
        self._prepared, self._corpus = prepared, corpus

    def __len__(self) -> int:
        return self._prepared.corpora[self._corpus].estimate()

    def __iter__(self) -> Iterator[str]:
        return self._prepared.texts(self._corpus, 0)


def _finish(prepared: _Preparation, trainer: Trainer, result: Result, command: str) -> None:
    config, student = prepared.config, prepared.student
    output_map, rotation = trainer.output_map(), prepared.rotation_texts()
    encoder = student.finished(output_map, rotation)
    output = Path(config.output)
    goes_back = config.training.keep == "best" and result.best_step is not None
    outcome = {
        "steps": result.steps,
        "minutes": result.minutes,
        "step": result.best_step if goes_back else result.steps,
        "score": None if prepared.score is None else prepared.score(encoder),
    }
    card = model_card(
        config,
        name=output.name,
        command=command,
        dim=encoder.dim,
        outcome=outcome,
        corpora=prepared.corpora,
        teacher_texts=None if prepared.vectors is None else len(prepared.vectors),
    )
    metadata = {"name": output.name, "trained_by": command, "outcome": outcome}
    student.save(output, output_map=output_map, rotate_on=rotation, metadata=metadata, card=card)
    with replacing_file(output / "run.toml") as temporary:
        temporary.write_text(toml_text(config.table), encoding="utf-8")
    log = prepared.work / "log.jsonl"
    if log.exists():
        shutil.copyfile(log, output / "log.jsonl")
        draw_curves(log, output)


def draw_curves(log: Path, folder: Path) -> None:
    """Draws a log's curve as ``curve.png`` and ``curve.svg``, if matplotlib is there and it has losses."""
    rows = read_log(log)
    if not any(row.get("losses") for row in rows):
        return
    try:
        for suffix in ("png", "svg"):
            plot_curve(rows, folder / f"curve.{suffix}")
    except MissingExtraError as error:
        print(f"no curve: {error}", file=sys.stderr)
