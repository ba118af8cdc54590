"""Task distillation as a TOML file (its section is ``[task]``): what is in it, read and checked without torch."""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from sentenc.training.config.toml_schema import parse, path_in, read_table, require_table, resolve_paths

T = TypeVar("T")
Kind = Literal["classification", "regression"]
Metric = Literal["accuracy", "f1", "matthews", "spearman"]

METRICS: dict[Kind, tuple[Metric, ...]] = {
    "classification": ("accuracy", "f1", "matthews"),
    "regression": ("spearman",),
}
_SECTIONS = ("task", "teacher", "student", "augmentation", "intermediate", "prediction")


@dataclass(frozen=True, kw_only=True)
class TaskConfig:
    """The section ``[task]``.

    Attributes:
        kind: "classification", or "regression" for scores.
        train: TSV or CSV (as the name ends) of examples to train on.
        dev: The same, of examples that the metric is measured on.
        text: Names of the columns with the text, or with the two texts of a pair.
        label: Name of the column with the class or the score.
        columns: Names of the columns of files that have no header.
        metric: On dev, x 100: "accuracy", "f1" (of the class last in order), "matthews"; or "spearman".
        max_tokens: Where texts are cut, special tokens included.
        limit: Train on so many examples at most, chosen at random; 0 takes all.
    """

    kind: Kind
    train: str
    dev: str
    text: tuple[str, ...]
    label: str = "label"
    columns: tuple[str, ...] | None = None
    metric: Metric | None = None
    max_tokens: int = 128
    limit: int = 0

    def __post_init__(self) -> None:
        """Checks the values."""
        object.__setattr__(self, "text", tuple(self.text))
        if len(self.text) not in (1, 2) or len({*self.text, self.label}) <= len(self.text):
            raise ValueError(
                f"task.text is {list(self.text)} and task.label {self.label!r}, expected one or two columns of "
                "texts, and another one with the label"
            )
        if self.columns is not None:
            object.__setattr__(self, "columns", tuple(self.columns))
            missing = [name for name in (*self.text, self.label) if name not in (self.columns or ())]
            if missing:
                raise ValueError(f"task.columns lacks {missing[0]!r}, expected the columns that are used")
        metric = METRICS[self.kind][0] if self.metric is None else self.metric
        if metric not in METRICS[self.kind]:
            raise ValueError(
                f"task.metric is {metric!r}, expected one of {', '.join(METRICS[self.kind])} for {self.kind}"
            )
        object.__setattr__(self, "metric", metric)
        _at_least("task", self, max_tokens=5, limit=0)

    @property
    def is_regression(self) -> bool:
        """Whether labels are scores."""
        return self.kind == "regression"


@dataclass(frozen=True, kw_only=True)
class PhaseConfig:
    """How long and how fast to train in a phase.

    Attributes:
        epochs: Passes over the phase's examples.
        learning_rate: At its peak; it rises over the first tenth of the steps and falls linearly.
        batch_size: Examples a step.
        max_minutes: End the phase within this time, the schedule being squeezed.
        weight_decay: AdamW's.
    """

    epochs: float = 3.0
    learning_rate: float = 3e-5
    batch_size: int = 32
    max_minutes: float | None = None
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        """Checks the values."""
        _above_zero(self, "epochs", "learning_rate", "max_minutes")
        _at_least("", self, batch_size=1, weight_decay=0)


@dataclass(frozen=True, kw_only=True)
class IntermediateConfig(PhaseConfig):
    """The section ``[intermediate]``: distillation of attention, hidden states and embeddings.

    Attributes:
        attention: Weight of that loss.
        hidden: The same.
        embeddings: The same.
        layer_map: "uniform", "top" or "bottom"; or the teacher's layer for each of the student's.
    """

    epochs: float = 20.0
    learning_rate: float = 5e-5
    attention: float = 1.0
    hidden: float = 1.0
    embeddings: float = 1.0
    layer_map: str | tuple[int, ...] = "uniform"

    def __post_init__(self) -> None:
        """Checks the values."""
        super().__post_init__()
        _at_least("", self, attention=0, hidden=0, embeddings=0)
        if not isinstance(self.layer_map, str):
            object.__setattr__(self, "layer_map", tuple(self.layer_map))


@dataclass(frozen=True, kw_only=True)
class PredictionConfig(PhaseConfig):
    """The section ``[prediction]``: distillation of the output.

    Attributes:
        temperature: t of the soft cross-entropy.
        targets: "teacher", or "gold" to learn the labels instead, from the original examples.
        evaluations: How often an epoch dev is measured; the best weights are kept.
    """

    temperature: float = 1.0
    targets: Literal["teacher", "gold"] = "teacher"
    evaluations: int = 1

    def __post_init__(self) -> None:
        """Checks the values."""
        super().__post_init__()
        _above_zero(self, "temperature")
        _at_least("", self, evaluations=1)


@dataclass(frozen=True, kw_only=True)
class TaskTeacherConfig:
    """The section ``[teacher]``.

    Attributes:
        model: A folder: a BERT fine-tuned on the task, or any BERT with ``finetune``.
        finetune: How to fine-tune it first; it is then kept in the work folder.
    """

    model: str
    finetune: PhaseConfig | None = None


@dataclass(frozen=True, kw_only=True)
class TaskStudentConfig:
    """The section ``[student]``.

    Attributes:
        start: A folder with a BERT; "teacher" (layers of the teacher), or "random".
        layers: The teacher's layers to begin with, from 0.
        config: Fields of transformers' ``BertConfig`` that differ from the teacher's. From "teacher":
            ``intermediate_size``, ``hidden_size`` and the dropouts; from a folder: the dropouts.
    """

    init: str = "teacher"
    layers: tuple[int, ...] | None = None
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks that the keys suit the start."""
        if (self.layers is None) == (self.init == "teacher"):
            raise ValueError(
                f"student.layers is {self.layers} with start {self.init!r}, expected layers with start "
                '"teacher", and with no other'
            )
        dropouts = {"hidden_dropout_prob", "attention_probs_dropout_prob"}
        known = dropouts | ({"intermediate_size", "hidden_size"} if self.init == "teacher" else set())
        unknown = sorted(set(self.config) - known)
        if unknown and self.init != "random":
            raise ValueError(
                f"student.config has {unknown[0]!r} with start {self.init!r}, expected one of "
                f"{', '.join(sorted(known))}"
            )
        if self.layers is not None:
            object.__setattr__(self, "layers", tuple(self.layers))


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """The section ``[augmentation]``; see :func:`sentenc.training.augmentation.augment.augment`.

    Attributes:
        copies: N_a.
        p: p_t.
        candidates: K.
        masked_lm: Folder of a masked language model.
        word_vectors: A file of word vectors, or a model that :func:`sentenc.load` takes, whose vectors of the
            training texts' words are compared.
    """

    copies: int = 20
    p: float = 0.4
    candidates: int = 15
    masked_lm: str | None = None
    word_vectors: str | None = None

    def __post_init__(self) -> None:
        """Checks the values."""
        _at_least("augmentation", self, copies=1, candidates=1)
        if not 0 < self.p <= 1:
            raise ValueError(f"augmentation.p is {self.p}, expected a probability above 0")
        if self.masked_lm is None and self.word_vectors is None:
            raise ValueError("augmentation has neither masked_lm nor word_vectors, expected at least one")


@dataclass(frozen=True, kw_only=True)
class TaskRunConfig:
    """A whole run.

    Attributes:
        output: Folder of the finished model.
        work: Folder of everything on the way.
        seed: Of everything random.
        device: "auto", or torch's name of one.
        task: Data and metric.
        teacher: Who teaches.
        student: Who learns.
        augmentation: None for none.
        intermediate: None to leave that phase out.
        prediction: The last phase.
        table: The file's content, ``--set`` included, paths as they were written.
    """

    output: str
    work: str
    seed: int
    device: str
    task: TaskConfig
    teacher: TaskTeacherConfig
    student: TaskStudentConfig
    augmentation: AugmentationConfig | None
    intermediate: IntermediateConfig | None
    prediction: PredictionConfig
    table: dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Top:
    output: str
    work: str = "work"
    seed: int = 1
    device: str = "auto"

    def __post_init__(self) -> None:
        _at_least("", self, seed=0)


def is_task_run(path: Path) -> bool:
    """Whether a TOML file has a section ``[task]``; what is no TOML has none."""
    try:
        return "task" in tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return False


def load_task_run(path: Path, changes: Sequence[str] = ()) -> TaskRunConfig:
    """Reads the file of a task's run.

    Args:
        path: TOML; paths in it are relative to its folder.
        changes: "section.key=value" each, the value in TOML's syntax: they win over the file.

    Raises:
        ValueError: The file is no TOML, or its content is refused; the message names file and key.
        TypeError: A value is of the wrong type.
        OSError: The file cannot be read.
    """
    return read_table(path, changes, parse_task_run)


def parse_task_run(table: dict[str, Any], folder: Path) -> TaskRunConfig:
    """Checks a run's content; ``folder`` is what paths are relative to. Errors as in :func:`load_task_run`."""
    rest = dict(table)
    top: dict[str, Any] = {
        name: rest.pop(name) for name in ("output", "work", "seed", "device") if name in rest
    }
    given = {name: rest.pop(name, None) for name in _SECTIONS}
    if rest:
        raise ValueError(
            f"unknown key {sorted(rest)[0]!r}; known are output, work, seed, device, {', '.join(_SECTIONS)}"
        )
    values = parse(_Top, top, "")
    found = {
        name: None if section is None else require_table(section, name) for name, section in given.items()
    }
    task = _section(TaskConfig, found["task"], "task", folder, ("train", "dev"))
    augmentation = None
    if found["augmentation"] is not None:
        augmentation = _section(
            AugmentationConfig,
            found["augmentation"],
            "augmentation",
            folder,
            (),
            ("masked_lm", "word_vectors"),
        )
    intermediate = None
    if found["intermediate"] is not None:
        intermediate = _section(IntermediateConfig, found["intermediate"], "intermediate", folder)
    return TaskRunConfig(
        output=path_in(folder, values.output),
        work=path_in(folder, values.work),
        seed=values.seed,
        device=values.device,
        task=task,
        teacher=_teacher(found["teacher"], folder),
        student=_section(TaskStudentConfig, found["student"] or {}, "student", folder, (), ("init",)),
        augmentation=augmentation,
        intermediate=intermediate,
        prediction=_section(PredictionConfig, found["prediction"] or {}, "prediction", folder),
        table=table,
    )


def _teacher(section: Any, folder: Path) -> TaskTeacherConfig:
    table = require_table(section, "teacher")
    if "finetune" in table:
        table["finetune"] = _section(PhaseConfig, table["finetune"], "teacher.finetune", folder)
    return _section(TaskTeacherConfig, table, "teacher", folder, (), ("model",))


def _section(
    kind: type[T],
    section: Any,
    where: str,
    folder: Path,
    paths: Sequence[str] = (),
    names: Sequence[str] = (),
) -> T:
    table = resolve_paths(require_table(section, where), folder, paths, names)
    try:
        return parse(kind, table, where)
    except ValueError as error:
        # A class says which of its values it refuses, not where it stands.
        if where in str(error):
            raise
        raise ValueError(f"{where}: {error}") from error


def _at_least(where: str, settings: Any, **least: float) -> None:
    for name, value in least.items():
        if getattr(settings, name) < value:
            place = f"{where}.{name}" if where else name
            raise ValueError(f"{place} is {getattr(settings, name)}, expected at least {value}")


def _above_zero(settings: Any, *names: str) -> None:
    for name in names:
        value = getattr(settings, name)
        if value is not None and not 0 < value < float("inf"):
            raise ValueError(f"{name} is {value}, expected a finite number above 0")
