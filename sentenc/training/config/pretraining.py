"""The run file of pretraining as dataclasses: parsed and checked without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from sentenc.encoders.bert.config import Pooling
from sentenc.training.config.evaluation import EvaluationConfig, parse_evaluation
from sentenc.training.config.teacher import TeacherConfig, TeacherModel
from sentenc.training.config.toml_schema import (
    parse,
    parse_section,
    path_in,
    path_or_address_in,
    read_table,
    require_table,
)
from sentenc.training.config.trainer import TrainerConfig
from sentenc.training.data.corpus import Corpus, Source
from sentenc.training.data.examples import TextRole
from sentenc.training.data.sources import COLUMNS, is_data_set
from sentenc.validation import check_integer, check_number

T = TypeVar("T")
_TOP_KEYS = ("output", "work", "seed")
_SECTIONS = ("student", "teacher", "corpora", "losses", "training", "evaluation")


@dataclass(frozen=True, kw_only=True)
class StudentConfig:
    """The section ``[student]``.

    Attributes:
        kind: "cse" or "bert".
        init: Where the initial weights come from. "teacher": the teacher's vectors of single tokens, or
            layers of the teacher for a BERT (see :mod:`sentenc.training.initialization.bert_layers`).
            "random": random weights. Anything else is a file of word vectors, a model folder, the name of a
            shipped model, or a Hub id. Begin a folder with "./", so that a missing one is not taken for a Hub
            id. A folder called "teacher" is written as "./teacher".
        tokenizer: A ``tokenizer.json`` or a folder that contains one, for ``init`` "teacher" and "random".
            The default is the teacher's tokenizer.
        preset: "paper" for the CSE of the paper.
        config: Fields of :class:`~sentenc.CSEConfig`, or of transformers' ``BertConfig``. A CSE that is
            initialized from a model has the fields of that model, with these exceptions: ``combine`` may
            change from "residual" to "both", ``average_dim`` may change from 0, and ``average_dim``,
            ``embedding_dim`` and ``num_filters`` may decrease (see
            :mod:`sentenc.training.initialization.cse_pruning`). A BERT that is initialized from a model has the
            fields of that model, except ``hidden_dropout_prob`` and ``attention_probs_dropout_prob``.
        dropout: Fraction of embedding elements that are dropped during training. CSE only.
        word_dropout: Fraction of tokens that are dropped during training. CSE only.
        ngram_warmup: Fraction of the training that trains only the word path, without n-grams. CSE only, and
            not with ``combine = "concat"``.
        sentence_norm: Root mean square norm of the finished model's sentence vectors. None leaves them as
            they are trained. Classifiers with a fixed regularization depend on the norm; cosines do not. CSE
            only.
        average_norm: Root mean square norm of the plain average of word vectors, after its mean over texts is
            subtracted. None leaves it unchanged. CSE with an ``average_dim`` only.
        ngram_norm: Root mean square norm of the n-gram features, after their mean is subtracted. None leaves
            them unchanged. CSE with ``combine = "both"`` only.
        vocabulary: Size to which a WordPiece vocabulary is pruned, keeping the most frequent tokens. 0 keeps
            all tokens. For a file of word vectors: the number of words to read.
        layers: The teacher's layers that a BERT with ``init = "teacher"`` consists of, numbered from 0. Its
            ``config`` may decrease ``intermediate_size`` and ``hidden_size``, and set
            ``hidden_dropout_prob`` and ``attention_probs_dropout_prob``.
        max_tokens: Number of tokens after which a BERT truncates a text. The number that a folder in ``init``
            states is not used.
        normalize: Whether a BERT's vectors are scaled to unit length.
        query_prompt: Text before texts of the role "query", such as "query: ". BERT only.
        pooling: Pooling of a BERT: the mean of its hidden states, or the one of [CLS]. A folder in ``init``
            that states another one is refused.
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
    query_prompt: str = ""
    pooling: Pooling = "mean"


@dataclass(frozen=True, kw_only=True)
class CorpusConfig:
    """A section ``[corpora.NAME]``: arguments of :class:`~sentenc.training.data.corpus.Corpus`, and roles.

    Attributes:
        sources: The sources.
        min_words: Smallest number of words of a text, as separated by white space.
        max_words: Largest number of words of a text.
        deduplicate: Leave out examples whose texts equal those of an earlier example of any source.
        shuffle_buffer: Number of examples from which one is taken at random. 1 keeps the order of the draws.
        max_malformed: Largest fraction of a source's lines that may be malformed. They are skipped.
        role: The role of all texts: "query" and "document" for search, "similarity" for texts that are
            compared with each other. Teachers and students put the prompt of the role before a text.
        roles: A role for each text of an example, instead of one ``role``: ``["query", "document"]``.
    """

    sources: tuple[Source, ...]
    min_words: int = 1
    max_words: int = 256
    deduplicate: bool = True
    shuffle_buffer: int = 65_536
    max_malformed: float = 0.01
    role: TextRole = "similarity"
    roles: tuple[TextRole, ...] = ()

    def __post_init__(self) -> None:
        """Checks the roles."""
        if self.roles and self.role != "similarity":
            raise ValueError(f"role is {self.role!r} and roles is {list(self.roles)}: set only one of them")
        columns = COLUMNS[self.sources[0].form]
        if self.roles and len(self.roles) != columns:
            raise ValueError(
                f"roles is {list(self.roles)}, expected {columns} roles, one for each text of an example"
            )

    @property
    def column_roles(self) -> tuple[TextRole, ...]:
        """The role of each text of an example."""
        return self.roles or (self.role,) * COLUMNS[self.sources[0].form]

    def open(self) -> Corpus:
        """Opens the corpus; raises the errors of :class:`~sentenc.training.data.corpus.Corpus`."""
        names = [item.name for item in fields(self) if item.name not in ("role", "roles")]
        return Corpus(**{name: getattr(self, name) for name in names})


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """An entry of ``[[losses]]``.

    Attributes:
        kind: A name in :data:`sentenc.training.losses.LOSSES`.
        corpus: Name of the corpus that it is computed on.
        batch_size: Number of examples in a batch, all processes together.
        weight: Factor of the loss in the sum that is minimized.
        options: All other keys of the entry: the options of this kind of loss.
    """

    kind: str
    corpus: str
    batch_size: int
    weight: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """A run file.

    Attributes:
        output: Folder of the finished model.
        work: Folder of the state, the log and the caches.
        seed: Seed of everything random.
        student: The section ``[student]``.
        teacher: The section ``[teacher]``, or None.
        corpora: The sections ``[corpora.NAME]`` by name.
        losses: The entries of ``[[losses]]``, one or more.
        training: The section ``[training]``. Its ``steps`` are 1 if the file sets ``epochs`` instead.
        epochs: Duration of the training in epochs of the first loss's corpus, or None.
        evaluation: The section ``[evaluation]``, or None.
        table: The content of the file, with the overrides of ``--set``, and paths as they are written.
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


def load_run(path: Path, overrides: Sequence[str] = ()) -> RunConfig:
    """Reads a run file.

    Args:
        path: A TOML file. Paths in it are relative to its folder.
        overrides: Values that replace those of the file, each as "section.key=value" with the value in TOML
            syntax.

    Raises:
        ValueError: The file is not TOML, or its content is refused; the message names the file and the key.
        TypeError: A value has the wrong type; the message names the file and the key.
        OSError: The file cannot be read.
    """
    return read_table(path, overrides, parse_run)


def parse_run(table: dict[str, Any], folder: Path) -> RunConfig:
    """Parses the content of a run file.

    Args:
        table: The content.
        folder: The folder that relative paths start at.

    Raises:
        ValueError, TypeError: See :func:`load_run`.
    """
    rest = dict(table)
    top = {name: rest.pop(name) for name in _TOP_KEYS if name in rest}
    sections = {name: rest.pop(name, None) for name in _SECTIONS}
    if rest:
        raise ValueError(
            f"unknown key {sorted(rest)[0]!r}; known keys are {', '.join([*_TOP_KEYS, *_SECTIONS])}"
        )
    if "output" not in top:
        raise ValueError("output is missing, expected the folder of the finished model")
    values = parse(_TopConfig, top, "")
    corpora = {
        name: _corpus(require_table(value, f"corpora.{name}"), f"corpora.{name}", folder)
        for name, value in require_table(sections["corpora"], "corpora").items()
    }
    evaluation = None
    if sections["evaluation"] is not None:
        evaluation = parse_evaluation(sections["evaluation"], folder)
    training, epochs = _training(sections["training"], values.seed, evaluation)
    teacher = None
    if sections["teacher"] is not None:
        # The default folder of the cache is relative to the run file, as one that is written in it.
        table_with_cache = {"cache": TeacherConfig.cache} | require_table(sections["teacher"], "teacher")
        table_with_cache["models"] = _teacher_models(table_with_cache.get("models", []), folder)
        vectors = table_with_cache.get("vectors", [])
        if isinstance(vectors, list) and all(isinstance(name, str) for name in vectors):
            table_with_cache["vectors"] = [path_or_address_in(folder, name) for name in vectors]
        teacher = parse_section(
            TeacherConfig,
            table_with_cache,
            "teacher",
            folder,
            path_keys=("cache", "axes"),
            name_keys=("models",),
        )
    return RunConfig(
        output=path_in(folder, values.output),
        work=path_in(folder, values.work),
        seed=values.seed,
        student=parse_section(
            StudentConfig, sections["student"] or {}, "student", folder, name_keys=("init", "tokenizer")
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
class _TopConfig:
    output: str
    work: str = "work"
    seed: int = 1

    def __post_init__(self) -> None:
        check_integer("seed", self.seed, at_least=0)


def _corpus(table: dict[str, Any], name: str, folder: Path) -> CorpusConfig:
    entries = table.get("sources")
    if not isinstance(entries, list) or not entries:
        raise ValueError(f"{name}.sources is {entries!r}, expected a list of tables with files and form")
    sources = []
    for number, entry in enumerate(entries):
        place = f"{name}.sources.{number}"
        source = require_table(entry, place)
        files = source.get("files")
        if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
            raise TypeError(f"{place}.files is {files!r}, expected a list of paths")
        paths = [file if is_data_set(file) else path_or_address_in(folder, file) for file in files]
        sources.append(parse(Source, source | {"files": paths}, place))
    return parse(CorpusConfig, table | {"sources": tuple(sources)}, name)


def _teacher_models(entries: Any, folder: Path) -> Any:
    # Tables become TeacherModels; everything else is checked with the section.
    if not isinstance(entries, list):
        return entries
    return [
        parse_section(TeacherModel, entry, f"teacher.models.{number}", folder, name_keys=("model",))
        if isinstance(entry, dict)
        else entry
        for number, entry in enumerate(entries)
    ]


def _losses(entries: Any, corpora: Mapping[str, CorpusConfig]) -> tuple[LossConfig, ...]:
    if not isinstance(entries, list) or not entries:
        raise ValueError("losses are missing, expected at least one entry [[losses]]")
    common_keys = {item.name for item in fields(LossConfig)} - {"options"}
    losses = []
    for number, entry in enumerate(entries):
        name = f"losses.{number}"
        table = require_table(entry, name)
        options = {key: value for key, value in table.items() if key not in common_keys}
        common = {key: value for key, value in table.items() if key in common_keys}
        loss = parse(LossConfig, common | {"options": options}, name)
        if loss.corpus not in corpora:
            raise ValueError(
                f"{name}.corpus is {loss.corpus!r}, expected one of {', '.join(corpora) or 'none'}"
            )
        check_integer(f"{name}.batch_size", loss.batch_size)
        check_number(f"{name}.weight", loss.weight, at_least=0)
        losses.append(loss)
    return tuple(losses)


def _training(
    section: Any, seed: int, evaluation: EvaluationConfig | None
) -> tuple[TrainerConfig, float | None]:
    table = require_table(section, "training")
    for key, other_key in (("seed", "seed"), ("evaluate_every", "evaluation.every")):
        if key in table:
            raise ValueError(f"training.{key} is not a key of a run file: set {other_key} instead")
    epochs = table.pop("epochs", None)
    if epochs is None and "steps" not in table:
        raise ValueError("training.steps and training.epochs are missing: set one of them")
    if epochs is not None and "steps" in table:
        raise ValueError(
            f"training.steps is {table['steps']!r} and training.epochs is {epochs!r}: set only one of them"
        )
    if epochs is not None:
        epochs = check_number("training.epochs", epochs, above=0)
    table = {"steps": 1} | table | {"seed": seed}
    if evaluation is not None:
        table["evaluate_every"] = evaluation.every
    return parse(TrainerConfig, table, "training"), epochs
