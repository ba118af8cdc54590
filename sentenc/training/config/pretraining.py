"""A training run as a TOML file: what is in it, read and checked without torch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from sentenc.training.config.toml_schema import parse, path_in, read_table, require_table, resolve_paths
from sentenc.training.config.trainer import TrainerConfig
from sentenc.training.data.corpus import Corpus, Source

T = TypeVar("T")
_DATASET = "hf:"


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """The section ``[student]``.

    Attributes:
        kind: "cse", or "bert".
        init: "teacher" (the teacher's vectors of single tokens), "random", a file of word vectors, or a
            model: a folder or the name of a shipped one ("./teacher" for a folder of that name). For a BERT "teacher"
            takes layers of a BERT teacher, see :mod:`sentenc.training.initialization.bert_layers`.
        tokenizer: A ``tokenizer.json`` or a folder with one, for "teacher" and "random" starts; by default
            the teacher's.
        preset: "paper" for the CSE of the paper.
        config: Fields of :class:`~sentenc.CSEConfig`, or of transformers' ``BertConfig``. A CSE model as the
            start brings its own; ``combine`` may go from "residual" to "both", ``average_dim`` from none, and it,
            ``embedding_dim`` and ``num_filters`` may be less, see :mod:`sentenc.training.initialization.cse_pruning`.
        dropout: See :class:`~sentenc.training.students.cse.CSEStudent`; so are the next five.
        word_dropout: The same.
        ngram_warmup: The same.
        sentence_norm: The same.
        average_norm: The same.
        ngram_norm: The same.
        vocabulary: Prune a WordPiece vocabulary to so many tokens, the most frequent ones; 0 keeps all.
        layers: For a BERT from its teacher: the teacher's layers to take, from 0. ``config`` may then make
            ``intermediate_size`` and ``hidden_size`` less.
        max_tokens: Where a BERT's texts are cut.
        normalize: A BERT's vectors have unit length.
    """

    kind: Literal["cse", "bert"] = "cse"
    init: str = "teacher"
    tokenizer: str | None = None
    preset: Literal["paper"] | None = None
    config: dict[str, Any] = field(default_factory=dict)
    dropout: float = 0.0
    word_dropout: float = 0.0
    ngram_warmup: float = 0.0
    sentence_norm: float | None = None
    average_norm: float | None = None
    ngram_norm: float | None = None
    vocabulary: int = 0
    layers: tuple[int, ...] = ()
    max_tokens: int = 128
    normalize: bool = False


def normalized_weights(teachers: int, weights: Sequence[float] = ()) -> tuple[float, ...]:
    """The weights of several teachers, scaled to sum to 1; equal weights if none are given.

    Raises:
        ValueError: There is not one positive, finite weight for each teacher.
    """
    weights = tuple(weights) or (1.0,) * teachers
    if len(weights) != teachers or not all(0 < weight < math.inf for weight in weights):
        raise ValueError(
            f"teacher.weights is {list(weights)}, expected {teachers} positive numbers, one for each model"
        )
    return tuple(weight / sum(weights) for weight in weights)


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """The section ``[teacher]``.

    Attributes:
        models: Arguments of :func:`sentenc.load`. Several models form a
            :class:`~sentenc.training.teachers.ensemble.TeacherEnsemble`; a student that is initialized from its
            teacher takes the vocabulary of the first. May be empty if the cache has the embeddings of all texts.
        weights: The weight of each model in the ensemble's cosine; equal by default.
        cache: Folder of the cached embeddings.
        max_minutes: Stop filling the cache after this time and train on the texts that it then has. 0 takes the
            cache as it is, whichever teacher filled it. None fills it with all texts.
    """

    models: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    cache: str = "teacher-embeddings"
    max_minutes: float | None = None

    def __post_init__(self) -> None:
        """Checks the weights."""
        if self.weights and not self.models:
            raise ValueError("teacher.weights requires teacher.models")
        if self.models:
            normalized_weights(len(self.models), self.weights)


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """A section ``[corpora.NAME]``: the arguments of :class:`~sentenc.training.data.corpus.Corpus`."""

    sources: tuple[Source, ...]
    min_words: int = 1
    max_words: int = 256
    deduplicate: bool = True
    shuffle_buffer: int = 65_536
    max_malformed: float = 0.01

    def open(self) -> Corpus:
        """The corpus; errors as there."""
        return Corpus(**{item.name: getattr(self, item.name) for item in fields(self)})


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """An entry of ``[[losses]]``.

    Attributes:
        kind: One of :data:`sentenc.training.losses.LOSSES`.
        corpus: Name of a corpus.
        batch_size: Examples a batch, of all processes together.
        weight: Factor of its loss.
        options: What else stands there: the objective's own options.
    """

    kind: str
    corpus: str
    batch_size: int
    weight: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """The section ``[evaluation]``.

    Attributes:
        sts: TSV of score, text, text.
        every: Steps between evaluations.
        metric: Of the cosines and the scores, x 100.
    """

    sts: str
    every: int = 1000
    metric: Literal["spearman", "pearson"] = "spearman"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A whole run.

    Attributes:
        output: Folder of the finished model.
        work: Folder of state, log and curve.
        seed: Of everything random.
        student: What is trained.
        teacher: Who teaches, if somebody does.
        corpora: By name.
        losses: One or more losses.
        training: How; ``steps`` is 1 where ``epochs`` stand for it.
        epochs: Length of the training in epochs of the first objective's corpus, or None.
        evaluation: What is measured on the way, if anything is.
        table: The file's content, ``--set`` included, paths as they were written.
    """

    output: str
    work: str
    seed: int
    student: StudentConfig
    teacher: TeacherConfig | None
    corpora: dict[str, CorpusConfig]
    losses: tuple[LossConfig, ...]
    training: TrainerConfig
    epochs: float | None
    evaluation: EvaluationConfig | None
    table: dict[str, Any]


def load_run(path: Path, changes: Sequence[str] = ()) -> RunConfig:
    """Reads a run's file.

    Args:
        path: TOML; paths in it are relative to its folder.
        changes: "section.key=value" each, the value in TOML's syntax: they win over the file.

    Raises:
        ValueError: The file is no TOML, or its content is refused; the message names file and key.
        TypeError: A value is of the wrong type.
        OSError: The file cannot be read.
    """
    return read_table(path, changes, parse_run)


def parse_run(table: dict[str, Any], folder: Path) -> RunConfig:
    """Checks a run's content; ``folder`` is what paths are relative to. Errors as in :func:`load_run`."""
    rest = dict(table)
    top: dict[str, Any] = {name: rest.pop(name) for name in ("output", "work", "seed") if name in rest}
    sections = {
        name: rest.pop(name, None)
        for name in ("student", "teacher", "corpora", "losses", "training", "evaluation")
    }
    if rest:
        raise ValueError(
            f"unknown key {sorted(rest)[0]!r}; known are output, work, seed, {', '.join(sections)}"
        )
    if "output" not in top:
        raise ValueError("output is missing, expected the folder of the finished model")
    values = parse(_Top, top, "")
    corpora = {
        name: _corpus(require_table(value, f"corpora.{name}"), f"corpora.{name}", folder)
        for name, value in require_table(sections["corpora"], "corpora").items()
    }
    evaluation = None
    if sections["evaluation"] is not None:
        evaluation = _build(EvaluationConfig, sections["evaluation"], "evaluation", folder, ("sts",))
    training, epochs = _training(sections["training"], values.seed, evaluation)
    teacher = None
    if sections["teacher"] is not None:
        given = {"cache": TeacherConfig.cache} | require_table(sections["teacher"], "teacher")
        teacher = _build(TeacherConfig, given, "teacher", folder, ("cache",), ("models",))
    return RunConfig(
        output=path_in(folder, values.output),
        work=path_in(folder, values.work),
        seed=values.seed,
        student=_build(
            StudentConfig, sections["student"] or {}, "student", folder, (), ("init", "tokenizer")
        ),
        teacher=teacher,
        corpora=corpora,
        losses=_losses(sections["losses"], corpora),
        training=training,
        epochs=epochs,
        evaluation=evaluation,
        table=table,
    )


@dataclass(frozen=True, kw_only=True)
class _Top:
    output: str
    work: str = "work"
    seed: int = 1


def _corpus(table: dict[str, Any], where: str, folder: Path) -> CorpusConfig:
    sources = table.get("sources")
    if not isinstance(sources, list) or not sources:
        raise ValueError(f"{where}.sources is {sources!r}, expected a list of tables with files and form")
    found = []
    for number, source in enumerate(sources):
        place = f"{where}.sources.{number}"
        built = require_table(source, place) | {"files": [
            name if name.startswith(_DATASET) else path_in(folder, name) for name in _files(source, place)
        ]}  # fmt: skip
        found.append(parse(Source, built, place))
    return parse(CorpusConfig, table | {"sources": tuple(found)}, where)


def _files(source: dict[str, Any], where: str) -> list[str]:
    files = source.get("files")
    if not isinstance(files, list) or not all(isinstance(name, str) for name in files):
        raise TypeError(f"{where}.files is {files!r}, expected a list of paths")
    return files


def _losses(entries: Any, corpora: Mapping[str, CorpusConfig]) -> tuple[LossConfig, ...]:
    if not isinstance(entries, list) or not entries:
        raise ValueError("losses are missing, expected at least one [[losses]]")
    own = [item.name for item in fields(LossConfig) if item.name != "options"]
    found = []
    for number, entry in enumerate(entries):
        where = f"losses.{number}"
        table = require_table(entry, where)
        options = {name: value for name, value in table.items() if name not in own}
        settings = parse(
            LossConfig,
            {name: value for name, value in table.items() if name in own} | {"options": options},
            where,
        )
        if settings.corpus not in corpora:
            raise ValueError(
                f"{where}.corpus is {settings.corpus!r}, expected one of {', '.join(corpora) or 'none'}"
            )
        if settings.batch_size < 1 or settings.weight < 0:
            raise ValueError(
                f"{where} has batch_size {settings.batch_size} and weight {settings.weight}, expected at least 1 "
                "and not negative"
            )
        found.append(settings)
    return tuple(found)


def _training(
    section: Any, seed: int, evaluation: EvaluationConfig | None
) -> tuple[TrainerConfig, float | None]:
    table = require_table(section, "training")
    for name, home in (("seed", "seed"), ("evaluate_every", "evaluation.every")):
        if name in table:
            raise ValueError(f"training.{name} stands elsewhere: {home}")
    epochs = table.pop("epochs", None)
    if (epochs is None) == ("steps" not in table):
        raise ValueError("training has both or neither of steps and epochs, expected one of them")
    if epochs is not None and (
        isinstance(epochs, bool) or not isinstance(epochs, int | float) or epochs <= 0
    ):
        raise ValueError(f"training.epochs is {epochs!r}, expected a positive number")
    table = {"steps": 1} | table | {"seed": seed}
    if evaluation is not None:
        table["evaluate_every"] = evaluation.every
    return parse(TrainerConfig, table, "training"), epochs


def _build(
    kind: type[T], section: Any, where: str, folder: Path, paths: Sequence[str], names: Sequence[str] = ()
) -> T:
    return parse(kind, resolve_paths(require_table(section, where), folder, paths, names), where)
