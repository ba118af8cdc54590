"""How good a classifier is on examples that it was not fitted on, and where it is wrong."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from sentenc.errors import MissingExtraError

Floats = npt.NDArray[np.float64]
Kind = Literal["single", "multi", "score"]

# Probabilities below this count as this in a log loss: one certain error must not make it infinite.
_LEAST_PROBABILITY = 1e-15


class LabelScores(NamedTuple):
    """How well one label is told.

    Attributes:
        label: The label.
        precision: Share of right ones among the examples that were given the label.
        recall: Share of the label's examples that were given it.
        f1: Harmonic mean of the two; 0 where neither is defined.
        support: Examples that have the label.
    """

    label: Any
    precision: float
    recall: float
    f1: float
    support: int


class Mistake(NamedTuple):
    """An example on which label and prediction differ.

    Attributes:
        text: The text, or the two texts of a pair.
        label: What the example is labeled; a tuple of labels where there may be several.
        predicted: What was predicted.
        confidence: Probability of the prediction; of the surest wrong decision where there may be several
            labels; of a score the distance from the label.
        place: Where the example comes from (file and line), if that is known.
    """

    text: Any
    label: Any
    predicted: Any
    confidence: float
    place: str | None


@dataclass(frozen=True)
class Report:
    """Numbers about predictions, and the mistakes.

    Attributes:
        kind: ``"single"`` (one label each), ``"multi"`` (any number of labels) or ``"score"``.
        n_examples: Examples that were predicted.
        scores: Measures of all of it by name, the main one first; shares, not per cent.
        averages: Over the labels: ``"macro"`` (each counts alike), ``"weighted"`` (by support) and, for
            several labels, ``"micro"`` (all decisions together), each (precision, recall, F1).
        labels: Scores of every label, in the order of the classes.
        confusion: Examples of each label (row) that were given each (column), in the order of ``labels``;
            for one label each only.
        mistakes: The surest first; of scores all examples, the farthest first.
        true_scores: Labels (n,) and predictions (n,), for scores only.
        unknown: Labels of examples that no training example had.
    """

    kind: Kind
    n_examples: int
    scores: dict[str, float]
    averages: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    labels: list[LabelScores] = field(default_factory=list)
    confusion: npt.NDArray[np.int64] | None = None
    mistakes: list[Mistake] = field(default_factory=list)
    true_scores: tuple[Floats, Floats] | None = None
    unknown: list[Any] = field(default_factory=list)

    def confusions(self) -> list[tuple[Any, Any, int]]:
        """(label, predicted, count) of the mix-ups, the most frequent first."""
        if self.confusion is None:
            return []
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        rows, columns = np.nonzero(wrong)
        order = np.argsort(-wrong[rows, columns], kind="stable")
        names = [one.label for one in self.labels]
        return [
            (names[i], names[j], int(wrong[i, j])) for i, j in zip(rows[order], columns[order], strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON values; a measure that is not defined is None.

        ``confusion`` is a list of [label, predicted, count], without the counts of 0.
        """
        return {
            "kind": self.kind,
            "n_examples": self.n_examples,
            "scores": {name: value if math.isfinite(value) else None for name, value in self.scores.items()},
            "averages": {
                name: dict(zip(("precision", "recall", "f1"), values, strict=True))
                for name, values in self.averages.items()
            },
            "labels": [one._asdict() for one in self.labels],
            "confusion": self._cells(),
            "mistakes": [
                {name: list(value) if isinstance(value, tuple) else value for name, value in one._asdict().items()}
                for one in self.mistakes
            ],
            "unknown_labels": list(self.unknown),
        }  # fmt: skip

    def _cells(self) -> list[list[Any]] | None:
        if self.confusion is None:
            return None
        names = [one.label for one in self.labels]
        cells = np.argwhere(self.confusion).tolist()
        return [[names[i], names[j], int(self.confusion[i, j])] for i, j in cells]


def classification_report(
    y_true: Iterable[Any],
    y_pred: Iterable[Any],
    proba: npt.ArrayLike,
    classes: Iterable[Any],
    texts: Sequence[Any],
    places: Sequence[str] | None = None,
) -> Report:
    """Reports on predictions of one label each.

    Args:
        y_true: The labels of n examples.
        y_pred: The n predictions.
        proba: Shape (n, K), the probability of each class.
        classes: The K classes, in the order of the columns.
        texts: The n texts, or pairs of texts.
        places: Where each example comes from.

    Returns:
        ``scores`` are ``accuracy``, ``majority accuracy`` (of the most frequent label, given to all) and
        ``log loss`` (natural logarithm; of examples whose label is one of the classes).

    Raises:
        ValueError: There are no examples, or lengths differ.
    """
    metrics = _metrics()
    gold, predicted = _listed(y_true), _listed(y_pred)
    names, unknown = _with_unknown(_listed(classes), gold)
    _check(len(gold), y_pred=predicted, proba=np.asarray(proba), texts=texts, places=places)
    probabilities = _widened(proba, len(names))
    position = {name: i for i, name in enumerate(names)}
    true = np.array([position[label] for label in gold])
    given = np.array([position[label] for label in predicted])
    known = true < len(names) - len(unknown)
    of_gold = probabilities[np.arange(len(true)), true][known]
    labels, averages = _label_scores(metrics, true, given, names, ("macro", "weighted"))
    sure = probabilities[np.arange(len(given)), given]
    wrong = np.nonzero(true != given)[0]
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")]
    return Report(
        "single",
        len(gold),
        {
            "accuracy": float(metrics.accuracy_score(true, given)),
            "majority accuracy": float(np.bincount(true).max() / len(true)),
            "log loss": _mean(-np.log(np.maximum(of_gold, _LEAST_PROBABILITY))),
        },
        averages,
        labels,
        metrics.confusion_matrix(true, given, labels=range(len(names))),
        [_mistake(i, texts, gold[i], predicted[i], float(sure[i]), places) for i in wrong.tolist()],
        unknown=unknown,
    )


def multi_label_report(
    y_true: Iterable[Iterable[Any]],
    y_pred: Iterable[Iterable[Any]],
    proba: npt.ArrayLike,
    classes: Iterable[Any],
    texts: Sequence[Any],
    places: Sequence[str] | None = None,
) -> Report:
    """Reports on predictions of any number of labels each.

    Args:
        y_true: A collection of labels for each of n examples.
        y_pred: The n predictions, likewise.
        proba: Shape (n, K), the probability that an example has each label.
        classes: The K labels, in the order of the columns.
        texts: The n texts, or pairs of texts.
        places: Where each example comes from.

    Returns:
        ``scores`` are ``subset accuracy`` (examples with exactly the right labels), ``hamming loss`` (share
        of wrong decisions) and ``log loss`` (natural logarithm, mean over all decisions).

    Raises:
        ValueError: There are no examples, or lengths differ.
    """
    metrics = _metrics()
    gold = [tuple(_listed(labels)) for labels in y_true]
    predicted = [tuple(_listed(labels)) for labels in y_pred]
    names, unknown = _with_unknown(_listed(classes), [label for labels in gold for label in labels])
    _check(len(gold), y_pred=predicted, proba=np.asarray(proba), texts=texts, places=places)
    probabilities = _widened(proba, len(names))
    true, given = _indicators(gold, names), _indicators(predicted, names)
    known = slice(0, len(names) - len(unknown))
    right = np.where(true, probabilities, 1 - probabilities)[:, known]
    labels, averages = _label_scores(metrics, true, given, names, ("micro", "macro", "weighted"))
    # How sure a decision was: the probability of what was decided.
    sure = np.where(true != given, np.where(given, probabilities, 1 - probabilities), 0.0).max(axis=1)
    wrong = np.nonzero((true != given).any(axis=1))[0]
    wrong = wrong[np.argsort(-sure[wrong], kind="stable")]
    return Report(
        "multi",
        len(gold),
        {
            "subset accuracy": float(metrics.accuracy_score(true, given)),
            "hamming loss": float(metrics.hamming_loss(true, given)),
            "log loss": _mean(-np.log(np.maximum(right, _LEAST_PROBABILITY))),
        },
        averages,
        labels,
        None,
        [_mistake(i, texts, gold[i], predicted[i], float(sure[i]), places) for i in wrong.tolist()],
        unknown=unknown,
    )


def regression_report(
    y_true: npt.ArrayLike,
    y_pred: npt.ArrayLike,
    texts: Sequence[Any],
    places: Sequence[str] | None = None,
) -> Report:
    """Reports on predicted scores.

    Args:
        y_true: Shape (n,).
        y_pred: Shape (n,).
        texts: The n texts, or pairs of texts.
        places: Where each example comes from.

    Returns:
        ``scores`` are ``pearson`` and ``spearman`` (correlations; NaN where one side is constant),
        ``mean squared error``, ``mean absolute error`` and ``r2`` (NaN for fewer than two examples).

    Raises:
        ValueError: There are no examples, or lengths differ.
    """
    metrics = _metrics()
    from sentenc.metrics import pearson, spearman

    true, given = np.asarray(y_true, np.float64), np.asarray(y_pred, np.float64)
    _check(len(true), y_pred=given, texts=texts, places=places)
    varied = len(true) > 1 and np.ptp(true) > 0 and np.ptp(given) > 0
    off = np.abs(true - given)
    return Report(
        "score",
        len(true),
        {
            "pearson": pearson(given, true) if varied else math.nan,
            "spearman": spearman(given, true) if varied else math.nan,
            "mean squared error": float(metrics.mean_squared_error(true, given)),
            "mean absolute error": float(metrics.mean_absolute_error(true, given)),
            "r2": float(metrics.r2_score(true, given)) if len(true) > 1 else math.nan,
        },
        mistakes=[
            _mistake(i, texts, float(true[i]), float(given[i]), float(off[i]), places)
            for i in np.argsort(-off, kind="stable").tolist()
        ],
        true_scores=(true, given),
    )


def _metrics() -> Any:
    try:
        import sklearn.metrics
    except ImportError as error:
        raise MissingExtraError("downstream", "scikit-learn", "a report on predictions") from error
    return sklearn.metrics


def _listed(values: Any) -> list[Any]:
    # As Python's own values: numpy's would not go into JSON.
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def _with_unknown(classes: list[Any], gold: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    known = set(classes)
    unknown = sorted({label for label in gold if label not in known}, key=str)
    return classes + unknown, unknown


def _check(n: int, **columns: Any) -> None:
    if n == 0:
        raise ValueError("got no examples to report on, expected at least one")
    for name, column in columns.items():
        if column is not None and len(column) != n:
            raise ValueError(f"{name} has {len(column)} rows, expected {n}, one for each of y_true")


def _widened(proba: npt.ArrayLike, width: int) -> Floats:
    # A label that training had not has probability 0.
    given = np.asarray(proba, np.float64)
    return np.pad(given, ((0, 0), (0, width - given.shape[1])))


def _indicators(rows: Sequence[Iterable[Any]], names: Sequence[Any]) -> npt.NDArray[np.bool_]:
    position = {name: i for i, name in enumerate(names)}
    matrix = np.zeros((len(rows), len(names)), bool)
    for i, labels in enumerate(rows):
        for label in labels:
            matrix[i, position[label]] = True
    return matrix


def _label_scores(
    metrics: Any, true: npt.NDArray[Any], given: npt.NDArray[Any], names: Sequence[Any], kinds: Iterable[str]
) -> tuple[list[LabelScores], dict[str, tuple[float, float, float]]]:
    score = metrics.precision_recall_fscore_support
    columns = score(true, given, labels=range(len(names)), average=None, zero_division=0.0)
    labels = [
        LabelScores(name, float(p), float(r), float(f), int(n))
        for name, p, r, f, n in zip(names, *columns, strict=True)
    ]
    # As scikit-learn's own reports do: a label that no example has or was given is nobody's failure.
    seen = np.union1d(true, given) if true.ndim == 1 else np.nonzero((true | given).any(axis=0))[0]
    averages = {}
    for kind in kinds if seen.size else ():
        p, r, f, _ = score(true, given, labels=seen, average=kind, zero_division=0.0)
        averages[kind] = (float(p), float(r), float(f))
    return labels, averages


def _mean(losses: Floats) -> float:
    return float(losses.mean()) if losses.size else math.nan


def _mistake(
    i: int, texts: Sequence[Any], label: Any, predicted: Any, confidence: float, places: Sequence[str] | None
) -> Mistake:
    text = texts[i] if isinstance(texts[i], str) else tuple(map(str, texts[i]))
    return Mistake(text, label, predicted, confidence, None if places is None else places[i])
