"""The section ``[evaluation]`` of a run file: the scores that evaluate a run and select its weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from sentenc.metrics.ranking import RANKING_METRICS
from sentenc.training.config.toml_schema import parse_section, require_table
from sentenc.validation import check_choice, check_integer, check_number

# The metrics of each kind of score, the default first.
METRICS = {
    "sts": ("spearman", "pearson"),
    "search": tuple(sorted(RANKING_METRICS, key=lambda name: name != "nDCG@10")),
    "classification": ("accuracy",),
}
# The options that not every kind of score has.
_OPTIONS = {
    "split": ("search",),
    "max_queries": ("search",),
    "max_documents": ("search",),
    "max_examples": ("sts", "classification"),
    "folds": ("classification",),
}


@dataclass(frozen=True, kw_only=True)
class ScoreConfig:
    """An entry ``[[evaluation.scores]]``.

    Attributes:
        kind: "sts": correlation of the cosines of text pairs with their scores. "search": ranking of all
            documents for each query by the cosines of ``encode_query`` and ``encode_document``.
            "classification": cross-validated accuracy of a logistic regression on the vectors. Every score is
            multiplied by 100.
        path: "sts": TSV file with a score and two texts on each line. "search": folder in BEIR's layout.
            "classification": CSV, TSV or JSONL file with the columns ``text,label`` or ``text1,text2,label``.
        name: The name in the log and the bar; by default that of the file or folder.
        weight: Weight of the score in the weighted mean that selects the weights. 0 only logs the score.
        metric: "spearman" or "pearson"; "nDCG@10", "recall@100", "MRR@10" or "MAP"; "accuracy". The default
            is the first of its kind.
        split: The judgments of a search; by default ``test``, ``dev`` if there is no ``test``, or else the
            only ones.
        max_queries: Number of queries of a search, which are drawn at random, always the same.
        max_documents: Number of documents of a search: those that are relevant for its queries, and others
            drawn at random, always the same. Fewer documents are an easier search.
        max_examples: Number of pairs or labeled texts, drawn at random, always the same.
        folds: Number of folds of the cross-validation, 5 by default.
    """

    kind: Literal["sts", "search", "classification"]
    path: str
    name: str | None = None
    weight: float = 1.0
    metric: str | None = None
    split: str | None = None
    max_queries: int | None = None
    max_documents: int | None = None
    max_examples: int | None = None
    folds: int | None = None

    def __post_init__(self) -> None:
        """Checks the values."""
        check_number("weight", self.weight, at_least=0)
        if self.metric is not None:
            check_choice("metric", self.metric, METRICS[self.kind])
        for option, kinds in _OPTIONS.items():
            value = getattr(self, option)
            if value is None:
                continue
            if self.kind not in kinds:
                owners = " and ".join(map(repr, kinds))
                raise ValueError(f"{option} is {value!r}, but kind is {self.kind!r}: it belongs to {owners}")
            if option != "split":
                check_integer(option, value, at_least=2 if option in ("folds", "max_examples") else 1)

    @property
    def label(self) -> str:
        """The name in the log and the bar."""
        path = Path(self.path)
        return self.name or (path.name if self.kind == "search" else path.stem)

    @property
    def chosen_metric(self) -> str:
        """The metric, or the default one of this kind."""
        return self.metric or METRICS[self.kind][0]


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """The section ``[evaluation]``.

    Attributes:
        sts: TSV file with a score and two texts on each line: the only score of the run. Several scores are
            entries ``[[evaluation.scores]]`` instead.
        scores: The scores, whose weighted mean selects the weights.
        every: Steps between two evaluations.
        metric: Correlation of the cosines with the scores in the file ``sts``, which is multiplied by 100:
            "spearman", the default, or "pearson". Entries of ``scores`` have a metric of their own.
    """

    sts: str | None = None
    scores: tuple[ScoreConfig, ...] = ()
    every: int = 1000
    metric: Literal["spearman", "pearson"] | None = None

    def __post_init__(self) -> None:
        """Checks the values."""
        check_integer("evaluation.every", self.every)
        if self.sts is None and not self.scores:
            raise ValueError("evaluation has neither sts nor scores: set one of them, or remove the section")
        if self.sts is not None and self.scores:
            raise ValueError(
                f"evaluation.sts is {self.sts!r}, and evaluation.scores has {len(self.scores)} entries: set only "
                "one of them"
            )
        if self.metric is not None and self.scores:
            raise ValueError(
                f"evaluation.metric is {self.metric!r}, but applies to evaluation.sts only: set the metric of an "
                "entry of evaluation.scores"
            )
        names = [entry.label for entry in self.scores]
        for number, name in enumerate(names):
            if name in names[:number]:
                raise ValueError(
                    f"evaluation.scores.{number} has the name {name!r} of another score, expected distinct names"
                )
        if self.scores and not any(entry.weight for entry in self.scores):
            raise ValueError("the weights of all evaluation.scores are 0, expected one above 0")

    @property
    def entries(self) -> tuple[ScoreConfig, ...]:
        """The scores; the file ``sts`` is one of its kind."""
        if self.sts is None:
            return self.scores
        return (ScoreConfig(kind="sts", path=self.sts, metric=self.metric),)


def parse_evaluation(section: Any, folder: Path) -> EvaluationConfig:
    """Parses the section ``[evaluation]``.

    Args:
        section: Its content.
        folder: The folder that relative paths start at.

    Raises:
        ValueError, TypeError: A key or value is refused; the message contains its name.
    """
    table = require_table(section, "evaluation")
    if isinstance(table.get("scores"), list):
        table["scores"] = [
            parse_section(ScoreConfig, entry, f"evaluation.scores.{number}", folder, path_keys=("path",))
            for number, entry in enumerate(table["scores"])
        ]
    return parse_section(EvaluationConfig, table, "evaluation", folder, path_keys=("sts",))
