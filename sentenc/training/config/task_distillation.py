"""The configuration of task distillation, read from a TOML run file with a section ``[task]``.

Importable without torch.
"""

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from sentenc.training.config.toml_schema import parse, parse_section, path_in, read_table, require_table
from sentenc.training.data.labeled import Metric
from sentenc.validation import check_integer, check_number

Kind = Literal["classification", "regression"]

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
        train: File of training examples, TSV or CSV according to its name.
        dev: File of dev examples, on which the metric is computed.
        text: Names of the column with the text, or of the two columns with the texts of a pair.
        label: Name of the column with the class or the score.
        columns: Names of the columns, for files without a header.
        metric: "accuracy", "f1" (of the last class) or "matthews" for classes; "spearman" for scores.
            All are multiplied by 100.
        max_tokens: Longer texts are cut to this number of tokens, special tokens included.
        limit: The largest number of training examples, sampled at random; 0 for all.
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
        if len(self.text) not in (1, 2) or len({*self.text, self.label}) <= len(self.text):
            raise ValueError(
                f"task.text is {list(self.text)} and task.label is {self.label!r}, expected one or two "
                "different columns of texts, and another column of labels"
            )
        if self.columns is not None:
            missing = [name for name in (*self.text, self.label) if name not in self.columns]
            if missing:
                raise ValueError(f"task.columns is {list(self.columns)}, expected {missing[0]!r} among them")
        metric = METRICS[self.kind][0] if self.metric is None else self.metric
        if metric not in METRICS[self.kind]:
            raise ValueError(
                f"task.metric is {metric!r}, expected one of {', '.join(METRICS[self.kind])} for {self.kind}"
            )
        object.__setattr__(self, "metric", metric)
        check_integer("task.max_tokens", self.max_tokens, at_least=5)
        check_integer("task.limit", self.limit, at_least=0)

    @property
    def is_regression(self) -> bool:
        """Whether labels are scores."""
        return self.kind == "regression"


@dataclass(frozen=True, kw_only=True)
class PhaseConfig:
    """Length and speed of the training in a phase.

    Attributes:
        epochs: The number of passes over the phase's examples.
        learning_rate: The peak of the learning rate, which rises over the first tenth of the steps and then
            falls linearly to zero.
        batch_size: The number of examples in a step.
        max_minutes: Time limit of the phase; the learning rate then falls to zero within this time.
        weight_decay: Weight decay of AdamW.
    """

    epochs: float = 3.0
    learning_rate: float = 3e-5
    batch_size: int = 32
    max_minutes: float | None = None
    weight_decay: float = 0.01

    def __post_init__(self) -> None:
        """Checks the values."""
        check_number("epochs", self.epochs, above=0)
        check_number("learning_rate", self.learning_rate, above=0)
        check_integer("batch_size", self.batch_size)
        check_number("weight_decay", self.weight_decay, at_least=0)
        if self.max_minutes is not None:
            check_number("max_minutes", self.max_minutes, above=0)


@dataclass(frozen=True, kw_only=True)
class IntermediateConfig(PhaseConfig):
    """The section ``[intermediate]``: distillation of attention, hidden states and embeddings.

    Attributes:
        attention: Weight of the attention losses.
        hidden: Weight of the hidden state losses.
        embeddings: Weight of the embedding loss.
        layer_map: "uniform", "top", "bottom", or a list with the teacher's layer, from 1, for each layer of
            the student.
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
        for name in ("attention", "hidden", "embeddings"):
            check_number(name, getattr(self, name), at_least=0)


@dataclass(frozen=True, kw_only=True)
class PredictionConfig(PhaseConfig):
    """The section ``[prediction]``: distillation of the output.

    Attributes:
        temperature: Temperature of the soft cross-entropy.
        targets: "teacher", or "gold" to learn the labels of the original examples instead.
        evaluations: The number of evaluations on dev in an epoch. The best weights are kept.
    """

    temperature: float = 1.0
    targets: Literal["teacher", "gold"] = "teacher"
    evaluations: int = 1

    def __post_init__(self) -> None:
        """Checks the values."""
        super().__post_init__()
        check_number("temperature", self.temperature, above=0)
        check_integer("evaluations", self.evaluations)


@dataclass(frozen=True, kw_only=True)
class TaskTeacherConfig:
    """The section ``[teacher]``.

    Attributes:
        model: Folder of a BERT that was fine-tuned on the task; or, with ``finetune``, of any BERT.
        finetune: The phase that fine-tunes the model. Its result is stored in the work folder.
    """

    model: str
    finetune: PhaseConfig | None = None


@dataclass(frozen=True, kw_only=True)
class TaskStudentConfig:
    """The section ``[student]``.

    Attributes:
        init: "teacher" for layers of the teacher, "random", or a folder with a BERT.
        layers: The teacher's layers, from 0, that initialize the student's.
        config: Fields of transformers' ``BertConfig`` that differ from the teacher's. With "teacher" these
            are ``intermediate_size``, ``hidden_size`` and the dropouts; with a folder, the dropouts.
    """

    init: str = "teacher"
    layers: tuple[int, ...] | None = None
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Checks that the other keys fit ``init``."""
        if self.init == "teacher" and self.layers is None:
            raise ValueError('student.layers is required with init = "teacher"')
        if self.init != "teacher" and self.layers is not None:
            raise ValueError(f'student.layers requires init = "teacher", but init is {self.init!r}')
        dropouts = {"hidden_dropout_prob", "attention_probs_dropout_prob"}
        known = dropouts | ({"intermediate_size", "hidden_size"} if self.init == "teacher" else set())
        unknown = sorted(set(self.config) - known)
        if unknown and self.init != "random":
            raise ValueError(
                f"unknown key student.config.{unknown[0]} with init {self.init!r}, expected one of "
                f"{', '.join(sorted(known))}"
            )


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """The section ``[augmentation]``; see :func:`sentenc.training.augmentation.augment.augment`.

    Attributes:
        copies: N_a, the number of copies of an example.
        p: p_t, the probability that a word is replaced.
        candidates: K, the number of candidates of a word.
        masked_lm: Folder of a masked language model.
        word_vectors: A file of word vectors, or an argument of :func:`sentenc.load`: a model that encodes the
            words of the training texts.
    """

    copies: int = 20
    p: float = 0.4
    candidates: int = 15
    masked_lm: str | None = None
    word_vectors: str | None = None

    def __post_init__(self) -> None:
        """Checks the values."""
        check_integer("augmentation.copies", self.copies)
        check_integer("augmentation.candidates", self.candidates)
        check_number("augmentation.p", self.p, above=0, at_most=1)
        if self.masked_lm is None and self.word_vectors is None:
            raise ValueError("[augmentation] requires masked_lm, word_vectors or both")


@dataclass(frozen=True, kw_only=True)
class TaskRunConfig:
    """A complete run of task distillation.

    Attributes:
        output: Folder of the finished model.
        work: Folder of caches, logs and the states of the phases.
        seed: Seed of all random choices.
        device: A device of torch, or "auto" for a GPU if there is one.
        task: Data and metric.
        teacher: The teacher.
        student: The student's architecture and initialization.
        augmentation: The augmentation of training texts; None for no augmentation.
        intermediate: The distillation of intermediate layers; None to skip this phase.
        prediction: The distillation of the output, the last phase.
        table: The content of the file with all overrides, with paths as they were written.
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

    def __post_init__(self) -> None:
        """Checks that augmented texts are used."""
        if self.augmentation is not None and self.intermediate is None and self.predicts_originals:
            raise ValueError(
                "[augmentation] has no effect: it is only used by [intermediate], and by [prediction] for "
                'classes with targets = "teacher"'
            )

    @property
    def predicts_originals(self) -> bool:
        """Whether the last phase trains on the original examples only.

        Augmented texts have no gold labels. For scores, the paper does not use them in this phase.
        """
        return self.task.is_regression or self.prediction.targets == "gold"


@dataclass(frozen=True, kw_only=True)
class _TopLevel:
    output: str
    work: str = "work"
    seed: int = 1
    device: str = "auto"

    def __post_init__(self) -> None:
        check_integer("seed", self.seed, at_least=0)


def is_task_run(path: Path) -> bool:
    """Returns whether a file is TOML with a section ``[task]``."""
    try:
        return "task" in tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError):
        return False


def load_task_run(path: Path, overrides: Sequence[str] = ()) -> TaskRunConfig:
    """Reads a run file of task distillation.

    Args:
        path: A TOML file. Paths in it are relative to its folder.
        overrides: Values that replace those of the file, each as "section.key=value" with the value in TOML
            syntax.

    Raises:
        ValueError: The file is not TOML, or a value is invalid; the message names file and key.
        TypeError: A value has the wrong type; the message names file and key.
        OSError: The file cannot be read.
    """
    return read_table(path, overrides, parse_task_run)


def parse_task_run(table: dict[str, Any], folder: Path) -> TaskRunConfig:
    """Returns the configuration in a parsed run file.

    Args:
        table: The content of the file.
        folder: The folder to which paths are relative.

    Raises:
        ValueError: A value is invalid; the message names the key.
        TypeError: A value has the wrong type; the message names the key.
    """
    rest = dict(table)
    top: dict[str, Any] = {
        name: rest.pop(name) for name in ("output", "work", "seed", "device") if name in rest
    }
    sections = {name: rest.pop(name, None) for name in _SECTIONS}
    if rest:
        raise ValueError(
            f"unknown key {sorted(rest)[0]!r}, expected one of output, work, seed, device, "
            f"{', '.join(_SECTIONS)}"
        )
    values = parse(_TopLevel, top, "")
    augmentation, intermediate = sections["augmentation"], sections["intermediate"]
    return TaskRunConfig(
        output=path_in(folder, values.output),
        work=path_in(folder, values.work),
        seed=values.seed,
        device=values.device,
        task=parse_section(TaskConfig, sections["task"], "task", folder, path_keys=("train", "dev")),
        teacher=_teacher(sections["teacher"], folder),
        student=parse_section(
            TaskStudentConfig, sections["student"] or {}, "student", folder, name_keys=("init",)
        ),
        augmentation=None
        if augmentation is None
        else parse_section(
            AugmentationConfig,
            augmentation,
            "augmentation",
            folder,
            name_keys=("masked_lm", "word_vectors"),
        ),
        intermediate=None
        if intermediate is None
        else parse_section(IntermediateConfig, intermediate, "intermediate", folder),
        prediction=parse_section(PredictionConfig, sections["prediction"] or {}, "prediction", folder),
        table=table,
    )


def _teacher(section: Any, folder: Path) -> TaskTeacherConfig:
    table = require_table(section, "teacher")
    if "finetune" in table:
        table["finetune"] = parse_section(PhaseConfig, table["finetune"], "teacher.finetune", folder)
    return parse_section(TaskTeacherConfig, table, "teacher", folder, name_keys=("model",))
