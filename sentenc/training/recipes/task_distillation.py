"""Distills a BERT for one task: the second stage of TinyBERT.

Jiao et al. (Findings of EMNLP 2020): a teacher is fine-tuned on the task, the training examples are
augmented, and the student learns first the teacher's intermediate layers, then its output. For regression the
output is learned on the original examples only.
"""

import os
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt
import tomli_w
import torch

from sentenc.errors import CorpusError
from sentenc.training.config.task_distillation import AugmentationConfig, IntermediateConfig, TaskRunConfig
from sentenc.training.data.labeled import TaskData, baseline, joined, read_task_data
from sentenc.training.engine.distributed import single_process
from sentenc.training.engine.run_log import draw_curves
from sentenc.training.initialization.build_classifier import (
    add_classifier,
    build_classifier_student,
    load_classifier,
)
from sentenc.training.losses.prediction import Prediction
from sentenc.training.losses.transformer_distillation import TransformerDistillation, token_map
from sentenc.training.recipes.folders import check_output, open_work_folder
from sentenc.training.recipes.task_caches import augmented_examples, teacher_outputs
from sentenc.training.recipes.task_model_card import task_card
from sentenc.training.recipes.task_phases import (
    INTERMEDIATE,
    PREDICTION,
    TEACHER,
    Outcome,
    TargetLookup,
    TaskRun,
    train_phase,
)
from sentenc.training.students.bert_classifier import MARKER, BertClassifierStudent


def distill_for_task(
    config: TaskRunConfig,
    *,
    max_minutes: float | None = None,
    resume: bool = True,
    command: str | None = None,
    show_progress_bar: bool = True,
) -> Path:
    """Trains the student that a run describes on one task, and writes the finished model.

    After any interruption, the same call resumes where the run was stopped. Complete phases are not repeated.

    Args:
        config: The run.
        max_minutes: Time limit of the training, divided among the phases in proportion to the examples that
            they see.
        resume: False starts again from the beginning, with the augmented texts and the teacher's outputs of
            the work folder.
        command: The command in the model card; by default the arguments of Python.
        show_progress_bar: Draw bars on standard error.

    Returns:
        The model's folder, ``config.output``: a Hugging Face sequence classifier.

    Raises:
        ValueError, TypeError: Parts of the configuration do not fit together, a complete phase was trained
            with other settings, the teacher has not learned the task, or another run uses the work folder.
        SentencError: A file or model cannot be read, or ``config.output`` contains other files.
        KeyboardInterrupt: The run was stopped; the message names the folder of its state.
        FloatingPointError: The training diverged; the message names the file with the batch's texts.
    """
    run = build_run(config, max_minutes, show_progress_bar, resume=resume)
    with open_work_folder(run.work, run.processes):
        return _distill(run, command or " ".join(sys.argv))


def _distill(run: TaskRun, command: str) -> Path:
    config = run.config
    outcomes: dict[str, Outcome] = {}
    teacher = build_teacher(run, outcomes)
    scores = {"teacher": check_teacher_score(run, teacher)}
    student = build_classifier_student(config, teacher, run.train)
    original = list(dict.fromkeys(run.train.texts))
    augmented = original if config.augmentation is None else augment_texts(run, config.augmentation)

    if config.intermediate is not None:
        loss = build_intermediate_loss(student, teacher, config.intermediate, config.seed)
        outcomes[INTERMEDIATE] = train_phase(run, INTERMEDIATE, student, loss, augmented, config.intermediate)
    texts = original if config.predicts_originals else augmented
    outcomes[PREDICTION] = train_phase(
        run,
        PREDICTION,
        student,
        build_prediction_loss(config),
        texts,
        config.prediction,
        build_targets(run, teacher, texts),
    )
    scores["student"] = run.score(student)
    augmented_count = None if config.augmentation is None else len(augmented)
    write_model(run, student, scores, outcomes, augmented_count, command)
    return Path(config.output)


def build_run(
    config: TaskRunConfig, max_minutes: float | None, show_progress_bar: bool, *, resume: bool = True
) -> TaskRun:
    """Reads the examples and checks the output folder.

    Raises:
        ValueError: torchrun started several processes, or there is no such device.
        SentencError: A data file cannot be read, or ``config.output`` contains other files than a task's model.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ValueError("torchrun started several processes: start task distillation as one process")
    train = read_task_data(config.task.train, config.task).sample(config.task.limit, config.seed)
    processes = single_process(config.device)
    check_output(Path(config.output), MARKER, "a folder of a task's model", processes)
    return TaskRun(
        config=config,
        train=train,
        dev=read_task_data(config.task.dev, config.task, train.labels or None),
        processes=processes,
        max_minutes=max_minutes,
        show_progress_bar=show_progress_bar,
        resume=resume,
    )


def build_teacher(run: TaskRun, outcomes: dict[str, Outcome]) -> BertClassifierStudent:
    """Loads the teacher, and fine-tunes it if the run has ``[teacher.finetune]``; adds that phase's outcome.

    Raises:
        ModelNotFoundError, CheckpointError: The model is missing or cannot be read.
        ValueError: It is not a BERT, or has other classes than the data.
    """
    config = run.config.teacher
    if config.finetune is None:
        teacher = load_classifier(config.model, run.train, run.config)
    else:
        teacher = add_classifier(config.model, run.train, run.config)
        gold = GoldTargets(run.train)
        loss = Prediction(run.config.task.kind, gold=True)
        outcomes[TEACHER] = train_phase(run, TEACHER, teacher, loss, gold.texts, config.finetune, gold.lookup)
    return teacher.to(run.processes.device).eval()


def check_teacher_score(run: TaskRun, teacher: BertClassifierStudent) -> float:
    """Returns the teacher's score on dev, x 100.

    Raises:
        ValueError: The score is not above that of the most frequent class, or a correlation of 20.
    """
    score, minimum = run.score(teacher), baseline(run.metric, run.dev)
    if not score > minimum:
        reason = "a weak correlation" if run.metric == "spearman" else "the score of the most frequent class"
        raise ValueError(
            f"the teacher's {run.metric} on dev is {score:.2f}, expected more than {minimum:.2f}, {reason}"
        )
    return score


def augment_texts(run: TaskRun, config: AugmentationConfig) -> list[str]:
    """Returns the distinct texts of the examples and their augmented copies; two texts of a pair are joined.

    Raises:
        SentencError: The masked language model or the word vectors cannot be read.
    """
    examples = augmented_examples(run.train, config, run.config.seed, run.work, run.show_progress_bar)
    return list(dict.fromkeys(map(joined, examples)))


def build_intermediate_loss(
    student: BertClassifierStudent, teacher: BertClassifierStudent, config: IntermediateConfig, seed: int
) -> TransformerDistillation:
    """Returns the loss of attention, hidden states and embeddings between student and teacher.

    Raises:
        ValueError: Their shapes or vocabularies do not fit together.
    """
    return TransformerDistillation(
        student.bert,
        teacher.bert,
        tokens=token_map(student.tokenizer, teacher.tokenizer),
        attention=config.attention,
        hidden=config.hidden,
        embeddings=config.embeddings,
        layer_map=config.layer_map,
        generator=torch.Generator().manual_seed(seed),
    )


def build_prediction_loss(config: TaskRunConfig) -> Prediction:
    """Returns the loss of the output, of a teacher's outputs or gold labels."""
    gold = config.prediction.targets == "gold"
    return Prediction(config.task.kind, gold=gold, temperature=config.prediction.temperature)


def build_targets(run: TaskRun, teacher: BertClassifierStudent, texts: list[str]) -> TargetLookup:
    """Returns a function from texts to their targets: gold labels, or the teacher's cached outputs."""
    if run.config.prediction.targets == "gold":
        return GoldTargets(run.train).lookup
    return teacher_outputs(teacher, texts, run.work, run.show_progress_bar).lookup


class GoldTargets:
    """The gold targets of training texts: distributions over the classes, or scores.

    Args:
        data: The training examples.

    Attributes:
        texts: The distinct texts.
    """

    def __init__(self, data: TaskData) -> None:
        self.texts, self._targets = data.gold()
        self._index = {text: index for index, text in enumerate(self.texts)}

    def lookup(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Returns the targets (n, C) of n texts.

        Raises:
            CorpusError: A text is not among the training texts.
        """
        try:
            indices = [self._index[text] for text in texts]
        except KeyError as error:
            raise CorpusError(
                f"the text {error.args[0][:60]!r} has no label, expected a training text"
            ) from None
        return self._targets[indices]


def write_model(
    run: TaskRun,
    student: BertClassifierStudent,
    scores: Mapping[str, float],
    outcomes: Mapping[str, Outcome],
    augmented_count: int | None,
    command: str,
) -> None:
    """Writes the output folder: model, model card, run file, logs and learning curve."""
    config = run.config
    output = Path(config.output)
    logs = {
        f"{name}.jsonl": run.log_file(name).read_text(encoding="utf-8")
        for name in outcomes
        if run.log_file(name).exists()
    }
    card = task_card(
        config,
        name=output.name,
        command=command,
        scores=scores,
        outcomes=outcomes,
        sizes=(len(run.train), len(run.dev), augmented_count),
        parameters=sum(parameter.numel() for parameter in student.parameters()),
    )
    student.save(
        output,
        metadata={"labels": list(run.train.labels), "metric": config.task.metric, "scores": dict(scores)},
        card=card,
        files={"run.toml": tomli_w.dumps(config.table), **logs},
    )
    draw_curves(run.log_file(PREDICTION), output)
