"""Task distillation, the second stage of TinyBERT, from its file to the model's folder.

Jiao et al. (Findings of EMNLP 2020): a teacher fine-tuned on the task, augmented examples, intermediate
layers first and the output after that. Scores are learned from the original examples, not the augmented.
"""

import json
import math
import os
import shutil
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tomli_w
import torch

from sentenc.embedding_cache import EmbeddingCache
from sentenc.training.config.task_distillation import IntermediateConfig, PhaseConfig, TaskRunConfig
from sentenc.training.data.batching import batches
from sentenc.training.data.labeled import baseline, joined, read_task_data, task_score
from sentenc.training.engine.checkpointing import differences
from sentenc.training.engine.distributed import single_process
from sentenc.training.engine.loss_terms import LossTerm
from sentenc.training.engine.run_log import draw_curves
from sentenc.training.engine.trainer import Trainer, TrainerConfig
from sentenc.training.initialization.build_classifier import (
    add_classifier,
    build_classifier_student,
    load_classifier,
    load_weights,
)
from sentenc.training.losses.base import Loss
from sentenc.training.losses.prediction import Prediction
from sentenc.training.losses.transformer_distillation import TransformerDistillation, token_map
from sentenc.training.recipes.task_caches import Targets, augmented, outputs
from sentenc.training.recipes.task_model_card import task_card
from sentenc.training.students.bert_classifier import MARKER, BertClassifierStudent

# Phases in their order, as folders in the work folder.
TEACHER, INTERMEDIATE, PREDICTION = "teacher", "intermediate", "prediction"
_MODEL = "model"
_LOG = "log.jsonl"


def run_task(
    config: TaskRunConfig,
    *,
    max_minutes: float | None = None,
    resume: bool = True,
    command: str | None = None,
    show_progress_bar: bool = True,
) -> Path:
    """Trains what a configuration describes, and writes the model's folder.

    Stopped at any time, the same call goes on where it was; phases that are done are not repeated.

    Args:
        config: The run.
        max_minutes: Of training, shared by the phases in proportion to the examples that they see.
        resume: False begins again; augmented texts and a teacher's outputs are kept.
        command: For the card; by default what Python was called with.
        show_progress_bar: Draw bars on standard error.

    Returns:
        The folder: a Hugging Face sequence classifier.

    Raises:
        ValueError, TypeError: Parts of the configuration do not fit together, a phase that is done had other
            settings, or the teacher has not learned the task.
        SentencError: A file or model cannot be read.
        KeyboardInterrupt: Stopped; the message says where the state is.
        FloatingPointError: The training diverged; the message says where its texts are.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ValueError("torchrun started several processes, expected one: tasks are trained by one process")
    run = _Run(config, max_minutes, resume, show_progress_bar)
    student = run.trained_student()
    run.finish(student, command or " ".join(sys.argv))
    return Path(config.output)


def intermediate_objective(
    student: BertClassifierStudent, teacher: BertClassifierStudent, settings: IntermediateConfig, seed: int
) -> Loss:
    """The loss of attention, hidden states and embeddings between the two transformers.

    Raises:
        ValueError: Their shapes or vocabularies do not fit together.
    """
    return TransformerDistillation(
        student.bert,
        teacher.bert,
        tokens=token_map(student.tokenizer, teacher.tokenizer),
        attention=settings.attention,
        hidden=settings.hidden,
        embeddings=settings.embeddings,
        layer_map=settings.layer_map,
        generator=torch.Generator().manual_seed(seed),
    )


class HeldExamples:
    """Texts in memory as a corpus: an order of its own every epoch."""

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def epoch(self, seed: int, epoch: int) -> Iterator[tuple[str, ...]]:
        """The texts of an epoch, one an example."""
        for place in np.random.default_rng([seed, epoch]).permutation(len(self.texts)):
            yield (self.texts[place],)


class _Run:
    # Data, models and phases of a run.

    def __init__(
        self, config: TaskRunConfig, max_minutes: float | None, resume: bool, show_progress_bar: bool
    ) -> None:
        self.config, self.max_minutes, self.bars = config, max_minutes, show_progress_bar
        self.processes = single_process(config.device)
        self.work = Path(config.work)
        task = config.task
        self.train = read_task_data(task.train, task).sample(task.limit, config.seed)
        self.dev = read_task_data(task.dev, task, self.train.labels or None)
        # What the card tells.
        self.scores: dict[str, float] = {}
        self.outcomes: dict[str, dict[str, Any]] = {}
        self.augmented: int | None = None
        self._check_augmentation()
        self.work.mkdir(parents=True, exist_ok=True)
        if not resume:
            for name in (TEACHER, INTERMEDIATE, PREDICTION):
                shutil.rmtree(self.work / name, ignore_errors=True)

    def score(self, student: BertClassifierStudent) -> float:
        """Returns the task's metric on dev, x 100."""
        logits = student.logits(self.dev.texts)
        return task_score(self.config.task.metric or "accuracy", logits, self.dev.targets)

    def trained_student(self) -> BertClassifierStudent:
        """The student after all phases."""
        config = self.config
        teacher = self.teacher()
        student = build_classifier_student(config, teacher, self.train)
        originals = texts = list(dict.fromkeys(self.train.texts))
        if config.augmentation is not None:
            examples = augmented(self.train, config.augmentation, config.seed, self.work, self.bars)
            texts = list(dict.fromkeys(map(joined, examples)))
            self.augmented = len(texts)
        if config.intermediate is not None:
            objective = intermediate_objective(student, teacher, config.intermediate, config.seed)
            self._phase(INTERMEDIATE, student, objective, texts, None, config.intermediate)
        chosen = originals if self._learns_originals() else texts
        targets = self._targets(teacher, chosen)
        self._phase(PREDICTION, student, self._prediction(), chosen, targets, config.prediction)
        return student

    def teacher(self) -> BertClassifierStudent:
        """The teacher, fine-tuned if that is asked for, and found to know the task.

        Raises:
            ValueError: It is no better than the commonest class, or a correlation of 20.
        """
        settings = self.config.teacher
        if settings.finetune is None:
            found = load_classifier(settings.model, self.train, self.config)
        else:
            found = add_classifier(settings.model, self.train, self.config)
            texts, rows = self.train.gold()
            objective = Prediction(self.config.task.kind, gold=True)
            self._phase(TEACHER, found, objective, texts, Targets(texts, rows), settings.finetune)
        found.to(self.processes.device).eval()
        metric = self.config.task.metric or "accuracy"
        score, least = self.score(found), baseline(metric, self.dev)
        if not score > least:
            raise ValueError(
                f"the teacher's {metric} on dev is {score:.2f}, expected more than {least:.2f}, "
                + (
                    "which shows that it knows the task"
                    if metric == "spearman"
                    else "that of the commonest class"
                )
            )
        self.scores["teacher"] = score
        return found

    def finish(self, student: BertClassifierStudent, command: str) -> None:
        """Writes the output folder."""
        config = self.config
        self.scores["student"] = self.score(student)
        logs = {
            f"{name}.jsonl": (self.work / name / _LOG).read_text(encoding="utf-8")
            for name in (TEACHER, INTERMEDIATE, PREDICTION)
            if name in self.outcomes and (self.work / name / _LOG).exists()
        }
        card = task_card(
            config, name=Path(config.output).name, command=command, scores=self.scores, outcomes=self.outcomes,
            sizes=(len(self.train), len(self.dev), self.augmented),
            parameters=sum(parameter.numel() for parameter in student.parameters()),
        )  # fmt: skip
        metadata = {"labels": list(self.train.labels), "metric": config.task.metric, "scores": self.scores}
        student.save(
            config.output, metadata=metadata, card=card,
            files={"run.toml": tomli_w.dumps(config.table), **logs},
        )  # fmt: skip
        draw_curves(self.work / PREDICTION / _LOG, Path(config.output))

    def _check_augmentation(self) -> None:
        config = self.config
        if config.augmentation is not None and config.intermediate is None and self._learns_originals():
            raise ValueError(
                "[augmentation] has nothing to be used by, expected [intermediate] with it, or the prediction of "
                "classes with a teacher's targets: scores and labels are learned from the original examples"
            )

    def _learns_originals(self) -> bool:
        # Nobody knows the labels of copies; of scores it is the paper's choice.
        return self.config.task.is_regression or self.config.prediction.targets == "gold"

    def _prediction(self) -> Prediction:
        settings = self.config.prediction
        is_gold = settings.targets == "gold"
        return Prediction(self.config.task.kind, gold=is_gold, temperature=settings.temperature)

    def _targets(self, teacher: BertClassifierStudent, texts: list[str]) -> Targets | EmbeddingCache:
        if self.config.prediction.targets == "gold":
            return Targets(*self.train.gold())
        return outputs(teacher, texts, self.work, self.bars)

    def _phase(
        self,
        name: str,
        student: BertClassifierStudent,
        objective: Loss,
        texts: list[str],
        targets: Targets | EmbeddingCache | None,
        settings: PhaseConfig,
    ) -> None:
        # Trains the student, or gives it the weights that it had after this phase.
        folder, identity = self.work / name, self._identity(name)
        kept = folder / _MODEL
        if (kept / MARKER).exists():
            told = json.loads((kept / MARKER).read_text(encoding="utf-8"))
            if changes := differences(told["run"], json.loads(json.dumps(identity))):
                raise ValueError(
                    f"{kept} was trained with other settings: {'; '.join(changes)}. Undo it, or choose another "
                    "work folder or a fresh start"
                )
            load_weights(student, kept)
            student.to(self.processes.device)
            self.outcomes[name] = told["outcome"]
            return
        size = min(settings.batch_size, len(texts))
        term = LossTerm(
            name=name,
            loss=objective,
            batches=lambda epoch, start: batches(
                HeldExamples(texts), size, self.config.seed, start, epoch=epoch
            ),
            targets=None if targets is None else targets.lookup,
        )
        evaluate = None if targets is None else lambda _output_map: self.score(student)
        training = self._training(
            name, settings, len(texts) // size, keep="last" if targets is None else "best"
        )
        trainer = Trainer(
            student, [term], training, folder, evaluate, processes=self.processes, identity=identity,
            show_progress_bar=self.bars,
        )  # fmt: skip
        result = trainer.run()
        outcome: dict[str, Any] = {
            "steps": result.steps,
            "minutes": result.minutes,
            "texts": len(texts),
            "step": result.steps,
        }
        if evaluate is not None:
            outcome |= {"step": result.best_step, "score": result.best_score}
        student.save(kept, metadata={"run": identity, "outcome": outcome})
        # It has the moments too, and is of no more use.
        trainer.state_file.unlink(missing_ok=True)
        self.outcomes[name] = outcome

    def _training(
        self,
        name: str,
        settings: PhaseConfig,
        steps_an_epoch: int,
        keep: Literal["best", "last"],
    ) -> TrainerConfig:
        steps = max(1, math.ceil(settings.epochs * steps_an_epoch))
        evaluations = getattr(settings, "evaluations", 1)
        limits = [limit for limit in (settings.max_minutes, self._share(name)) if limit is not None]
        return TrainerConfig(
            steps=steps,
            learning_rate=settings.learning_rate,
            weight_decay=settings.weight_decay,
            warmup=max(1, steps // 10),
            schedule="linear",
            max_minutes=min(limits, default=None),
            evaluate_every=max(1, steps_an_epoch // evaluations),
            log_every=max(1, min(50, steps // 20)),
            keep=keep,
            seed=self.config.seed,
            device=self.config.device,
        )

    def _share(self, name: str) -> float | None:
        # Of the minutes for all phases, by the examples that each is to see.
        if self.max_minutes is None:
            return None
        config, n = self.config, len(self.train)
        many = n if config.augmentation is None else n * (1 + config.augmentation.copies)
        seen = {PREDICTION: config.prediction.epochs * (n if self._learns_originals() else many)}
        if config.intermediate is not None:
            seen[INTERMEDIATE] = config.intermediate.epochs * many
        if config.teacher.finetune is not None:
            seen[TEACHER] = config.teacher.finetune.epochs * n
        return self.max_minutes * seen[name] / sum(seen.values())

    def _identity(self, name: str) -> dict[str, Any]:
        # What a phase depends on, files by their content or name: it may move, but not change.
        config = self.config
        task = {key: value for key, value in asdict(config.task).items() if key not in ("train", "dev")}
        found: dict[str, Any] = {
            "seed": config.seed, "task": task, "train": self.train.fingerprint(), "dev": self.dev.fingerprint(),
            "teacher": _settings(config.teacher),
        }  # fmt: skip
        if name == TEACHER:
            return found
        found |= {"student": _settings(config.student), "augmentation": _settings(config.augmentation)}
        found[INTERMEDIATE] = _settings(config.intermediate)
        return found if name == INTERMEDIATE else found | {PREDICTION: _settings(config.prediction)}


def _settings(section: Any) -> Any:
    # Without what may change, and without the folders that files are in.
    if section is None:
        return None
    found = {}
    for key, value in asdict(section).items():
        if isinstance(value, dict):
            value = {name: item for name, item in value.items() if name != "max_minutes"}
        elif key in ("model", "init", "masked_lm", "word_vectors") and value is not None:
            value = Path(value).name
        if key != "max_minutes":
            found[key] = value
    return found
