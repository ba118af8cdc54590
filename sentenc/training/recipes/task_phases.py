"""Trains one phase of task distillation, or loads its result if the phase is complete."""

import json
import math
import shutil
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sentenc.training.config.task_distillation import PhaseConfig, TaskRunConfig
from sentenc.training.data.batching import batches
from sentenc.training.data.examples import Example
from sentenc.training.data.labeled import TaskData, task_score
from sentenc.training.engine.checkpointing import differences
from sentenc.training.engine.distributed import Processes
from sentenc.training.engine.loss_terms import LossTerm
from sentenc.training.engine.trainer import LOG_FILE, Trainer, TrainerConfig
from sentenc.training.initialization.build_classifier import load_weights
from sentenc.training.losses.base import Loss
from sentenc.training.students.bert_classifier import MARKER, BertClassifierStudent

# The phases in their order. Each has a folder of its name in the work folder.
TEACHER, INTERMEDIATE, PREDICTION = PHASES = ("teacher", "intermediate", "prediction")
# The model that a complete phase leaves in its folder.
_MODEL_FOLDER = "model"

# Steps, minutes and texts of a phase, and the step and dev score of the weights that were kept.
Outcome = dict[str, Any]
# A function from n texts to their targets (n, C).
TargetLookup = Callable[[list[str]], npt.NDArray[np.float32]]


@dataclass(frozen=True, kw_only=True)
class TaskRun:
    """The parts of a run that all phases share.

    Attributes:
        config: The run's configuration.
        train: Training examples.
        dev: Dev examples.
        processes: This process and its device.
        max_minutes: Time limit of all phases together; None for no limit.
        show_progress_bar: Draw bars on standard error.
        resume: Whether phases of an earlier run are kept. False deletes them when the first phase begins.
    """

    config: TaskRunConfig
    train: TaskData
    dev: TaskData
    processes: Processes
    max_minutes: float | None = None
    show_progress_bar: bool = True
    resume: bool = True

    @property
    def first_phase(self) -> str:
        """The name of the phase that is trained first."""
        if self.config.teacher.finetune is not None:
            return TEACHER
        return PREDICTION if self.config.intermediate is None else INTERMEDIATE

    @property
    def work(self) -> Path:
        """The work folder."""
        return Path(self.config.work)

    @property
    def metric(self) -> Literal["accuracy", "f1", "matthews", "spearman"]:
        """The task's metric."""
        return self.config.task.metric or "accuracy"

    def score(self, model: BertClassifierStudent) -> float:
        """Returns the task's metric on dev, x 100."""
        return task_score(self.metric, model.logits(self.dev.texts), self.dev.targets)

    def log_file(self, phase: str) -> Path:
        """Returns the log of a phase."""
        return self.work / phase / LOG_FILE


def train_phase(
    run: TaskRun,
    name: str,
    model: BertClassifierStudent,
    loss: Loss,
    texts: list[str],
    config: PhaseConfig,
    targets: TargetLookup | None = None,
) -> Outcome:
    """Trains a model in one phase, or loads the weights that it had after this phase.

    A phase that was stopped is resumed. With targets, dev is scored during the training, and the best weights
    are kept; without, the last weights are.

    Args:
        run: The run.
        name: One of ``PHASES``.
        model: The model, changed in place.
        loss: The loss.
        texts: Distinct texts to train on.
        config: Length and speed of the phase.
        targets: Returns the targets of texts, if the loss needs them.

    Returns:
        The outcome: of this training, or of the one that completed the phase.

    Raises:
        ValueError: The phase is complete and was trained with other settings.
        KeyboardInterrupt: The run was stopped; the message names the folder of its state.
        FloatingPointError: The training diverged.
    """
    if not run.resume and name == run.first_phase:
        # Not earlier: a mistake in the run file must not cost the phases of the last run.
        for phase in PHASES:
            shutil.rmtree(run.work / phase, ignore_errors=True)
    identity = phase_identity(run, name)
    finished = run.work / name / _MODEL_FOLDER
    if (finished / MARKER).exists():
        outcome = _load_phase(model, finished, identity)
        model.to(run.processes.device)
        return outcome
    batch_size = min(config.batch_size, len(texts))
    stream = _batches(texts, batch_size, run.config.seed)
    trainer = Trainer(
        model,
        [LossTerm(name=name, loss=loss, batches=stream, targets=targets)],
        trainer_config(
            run, name, config, len(texts) // batch_size, keep="last" if targets is None else "best"
        ),
        run.work / name,
        None if targets is None else lambda _output_map: run.score(model),
        processes=run.processes,
        identity=identity,
        show_progress_bar=run.show_progress_bar,
    )
    result = trainer.run()
    outcome = {"steps": result.steps, "minutes": result.minutes, "texts": len(texts), "step": result.steps}
    if targets is not None:
        outcome |= {"step": result.best_step, "score": result.best_score}
    model.save(finished, metadata={"run": identity, "outcome": outcome})
    # The state also contains the optimizer's moments, and is no longer needed.
    trainer.state_file.unlink(missing_ok=True)
    return outcome


def _batches(
    texts: list[str], batch_size: int, seed: int
) -> Callable[[int, int], Iterator[tuple[int, list[Example]]]]:
    corpus = ShuffledTexts(texts)
    return lambda epoch, skip: batches(corpus, batch_size, seed, skip, epoch=epoch)


def _load_phase(model: BertClassifierStudent, folder: Path, identity: dict[str, Any]) -> Outcome:
    metadata = json.loads((folder / MARKER).read_text(encoding="utf-8"))
    if changes := differences(metadata["run"], json.loads(json.dumps(identity))):
        raise ValueError(
            f"{folder} was trained with other settings: {'; '.join(changes)}. Undo the change, choose "
            "another work folder, or start again (--fresh, or resume=False)"
        )
    load_weights(model, folder)
    outcome: Outcome = metadata["outcome"]
    return outcome


def trainer_config(
    run: TaskRun, name: str, config: PhaseConfig, steps_per_epoch: int, keep: Literal["best", "last"]
) -> TrainerConfig:
    """Returns the trainer's configuration for a phase."""
    steps = max(1, math.ceil(config.epochs * steps_per_epoch))
    evaluations_per_epoch = getattr(config, "evaluations", 1)
    limits = [limit for limit in (config.max_minutes, phase_minutes(run, name)) if limit is not None]
    return TrainerConfig(
        steps=steps,
        learning_rate=config.learning_rate,
        weight_decay=config.weight_decay,
        warmup=max(1, steps // 10),
        schedule="linear",
        max_minutes=min(limits, default=None),
        evaluate_every=max(1, steps_per_epoch // evaluations_per_epoch),
        log_every=max(1, min(50, steps // 20)),
        keep=keep,
        seed=run.config.seed,
        device=run.config.device,
    )


def phase_minutes(run: TaskRun, name: str) -> float | None:
    """Returns a phase's part of the time limit, in proportion to the examples that each phase sees."""
    if run.max_minutes is None:
        return None
    config, originals = run.config, len(run.train)
    augmented = originals * (1 if config.augmentation is None else 1 + config.augmentation.copies)
    in_prediction = originals if config.predicts_originals else augmented
    examples_seen = {PREDICTION: config.prediction.epochs * in_prediction}
    if config.intermediate is not None:
        examples_seen[INTERMEDIATE] = config.intermediate.epochs * augmented
    if config.teacher.finetune is not None:
        examples_seen[TEACHER] = config.teacher.finetune.epochs * originals
    return run.max_minutes * examples_seen[name] / sum(examples_seen.values())


def phase_identity(run: TaskRun, name: str) -> dict[str, Any]:
    """Returns everything that the result of a phase depends on, for the comparison with a complete phase.

    Data files are identified by their content, models by the names of their folders: both may be moved. Time
    limits may change.
    """
    config = run.config
    task = {key: value for key, value in asdict(config.task).items() if key not in ("train", "dev")}
    identity: dict[str, Any] = {
        "seed": config.seed,
        "task": task,
        "train": run.train.fingerprint(),
        "dev": run.dev.fingerprint(),
        TEACHER: _section_identity(config.teacher),
    }
    if name == TEACHER:
        return identity
    identity |= {
        "student": _section_identity(config.student),
        "augmentation": _section_identity(config.augmentation),
        INTERMEDIATE: _section_identity(config.intermediate),
    }
    return identity if name == INTERMEDIATE else identity | {PREDICTION: _section_identity(config.prediction)}


def _section_identity(section: Any) -> dict[str, Any] | None:
    if section is None:
        return None
    identity = {}
    for key, value in asdict(section).items():
        if isinstance(value, dict):
            value = {name: item for name, item in value.items() if name != "max_minutes"}
        elif key in ("model", "init", "masked_lm", "word_vectors") and value is not None:
            value = Path(value).name
        if key != "max_minutes":
            identity[key] = value
    return identity


class ShuffledTexts:
    """Texts in memory as a corpus that is shuffled in every epoch.

    Args:
        texts: The texts.
    """

    def __init__(self, texts: list[str]) -> None:
        self.texts = texts

    def epoch(self, seed: int, epoch: int) -> Iterator[Example]:
        """Yields the texts of an epoch, one in each example."""
        for index in np.random.default_rng([seed, epoch]).permutation(len(self.texts)):
            yield (self.texts[index],)
