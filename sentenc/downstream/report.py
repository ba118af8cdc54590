"""Evaluation report of a fitted estimator on held-out examples: measures, scores by label, and mistakes."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from sentenc.errors import MissingExtraError
from sentenc.metrics import pearson, spearman

Floats = npt.NDArray[np.float64]
Kind = Literal["single", "multi", "score"]

# Lower bound of the probabilities in a log loss, so that a single certain error does not make it infinite.
_LEAST_PROBABILITY = 1e-15


class LabelScores(NamedTuple):
    """Precision, recall and F1 of a label.

    Attributes:
        label: The label.
        precision: Share of right predictions among the examples for which the label was predicted.
        recall: Share of the label's examples for which it was predicted.
        f1: Harmonic mean of precision and recall; 0 where neither is defined.
        support: Number of examples that have the label.
    """

    label: Any
    precision: float
    recall: float
    f1: float
    support: int


class Mistake(NamedTuple):
    """An example whose label and prediction differ.

    Attributes:
        text: The text, or the two texts of a pair.
        label: The true label; a tuple of labels if there may be several.
        predicted: The prediction, in the same form.
        confidence: Probability of the prediction. With several labels, that of the most confident wrong
            decision. For a score, the distance from the true score.
        place: File and line of the example, if known.
    """

    text: Any
    label: Any
    predicted: Any
    confidence: float
    place: str | None


@dataclass(frozen=True)
class Report:
    """Measures of predictions, and the mistakes.

    Attributes:
        kind: ``"single"`` (one label per example), ``"multi"`` (several labels) or ``"score"``.
        n_examples: Number of examples.
        scores: Overall measures by name, the main one first; fractions, not percentages.
        averages: (precision, recall, F1) over the labels: ``"macro"`` (all labels weigh the same),
            ``"weighted"`` (by support) and, for several labels, ``"micro"`` (over all decisions).
        labels: Scores of every label, in the order of the classes.
        confusion: Counts of examples by true label (row) and prediction (column), in the order of ``labels``;
            only for one label per example.
        mistakes: The most confident first. For scores, all examples, the largest distance first.
        true_scores: True scores (n,) and predictions (n,); only for scores.
        unknown: Labels that no training example had.
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
        """Returns (label, predicted, count) of each kind of confusion, the most frequent first."""
        if self.confusion is None:
            return []
        wrong = self.confusion.copy()
        np.fill_diagonal(wrong, 0)
        rows, columns = np.nonzero(wrong)
        order = np.argsort(-wrong[rows, columns], kind="stable")
        names = [scores.label for scores in self.labels]
        return [
            (names[i], names[j], int(wrong[i, j])) for i, j in zip(rows[order], columns[order], strict=True)
        ]

    def to_dict(self) -> dict[str, Any]:
        """Returns the report as JSON values. Undefined measures are None.

        ``confusion`` is a list of [label, predicted, count], without counts of 0.
        """
        return {
            "kind": self.kind,
            "n_examples": self.n_examples,
            "scores": {name: value if math.isfinite(value) else None for name, value in self.scores.items()},
            "averages": {
                name: dict(zip(("precision", "recall", "f1"), values, strict=True))
                for name, values in self.averages.items()
            },
            "labels": [scores._asdict() for scores in self.labels],
            "confusion": self._cells(),
            "mistakes": [
                {
                    name: list(value) if isinstance(value, tuple) else value
                    for name, value in mistake._asdict().items()
                }
                for mistake in self.mistakes
            ],
            "unknown_labels": list(self.unknown),
        }

    def _cells(self) -> list[list[Any]] | None:
        if self.confusion is None:
            return None
        names = [scores.label for scores in self.labels]
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
    """Builds the report of predictions with one label per example.

    Args:
        y_true: The labels of n examples.
        y_pred: The n predictions.
        proba: Shape (n, K), the probability of each class.
        classes: The K classes, in the order of the columns of ``proba``.
        texts: The n texts, or pairs of texts.
        places: File and line of each example.

    Returns:
        A report with the scores ``accuracy``, ``majority accuracy`` (of always predicting the most frequent
        label) and ``log loss`` (natural logarithm, over examples whose label is one of the classes).

    Raises:
        ValueError: There are no examples, or lengths differ.
        MissingExtraError: scikit-learn is not installed.
    """
    metrics = _metrics()
    gold, predicted = _listed(y_true), _listed(y_pred)
    names, unknown = _with_unknown(_listed(classes), gold)
    _check(len(gold), y_pred=predicted, proba=np.asarray(proba), texts=texts, places=places)
    probabilities = _widened(proba, len(names))
    position = {name: i for i, name in enumerate(names)}
    true = np.array([position[label] for label in gold])
    guesses = np.array([position[label] for label in predicted])
    known = true < len(names) - len(unknown)
    p_gold = probabilities[np.arange(len(true)), true][known]
    labels, averages = _label_scores(metrics, true, guesses, names, ("macro", "weighted"))
    confidence = probabilities[np.arange(len(guesses)), guesses]
    wrong = np.nonzero(true != guesses)[0]
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]
    return Report(
        "single",
        len(gold),
        {
            "accuracy": float(metrics.accuracy_score(true, guesses)),
            "majority accuracy": float(np.bincount(true).max() / len(true)),
            "log loss": _mean(-np.log(np.maximum(p_gold, _LEAST_PROBABILITY))),
        },
        averages,
        labels,
        metrics.confusion_matrix(true, guesses, labels=range(len(names))),
        [_mistake(i, texts, gold[i], predicted[i], float(confidence[i]), places) for i in wrong.tolist()],
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
    """Builds the report of predictions with several labels per example.

    Args:
        y_true: A collection of labels for each of n examples.
        y_pred: The n predictions, in the same form.
        proba: Shape (n, K), the probability of each label.
        classes: The K labels, in the order of the columns of ``proba``.
        texts: The n texts, or pairs of texts.
        places: File and line of each example.

    Returns:
        A report with the scores ``subset accuracy`` (share of examples with exactly the right labels),
        ``hamming loss`` (share of wrong decisions) and ``log loss`` (natural logarithm, mean over all
        decisions).

    Raises:
        ValueError: There are no examples, or lengths differ.
        MissingExtraError: scikit-learn is not installed.
    """
    metrics = _metrics()
    gold = [tuple(_listed(labels)) for labels in y_true]
    predicted = [tuple(_listed(labels)) for labels in y_pred]
    names, unknown = _with_unknown(_listed(classes), [label for labels in gold for label in labels])
    _check(len(gold), y_pred=predicted, proba=np.asarray(proba), texts=texts, places=places)
    probabilities = _widened(proba, len(names))
    true, guesses = _indicators(gold, names), _indicators(predicted, names)
    known = slice(0, len(names) - len(unknown))
    p_right = np.where(true, probabilities, 1 - probabilities)[:, known]
    labels, averages = _label_scores(metrics, true, guesses, names, ("micro", "macro", "weighted"))
    # The confidence of a decision is the probability of its outcome.
    confidence = np.where(true != guesses, np.where(guesses, probabilities, 1 - probabilities), 0.0).max(
        axis=1
    )
    wrong = np.nonzero((true != guesses).any(axis=1))[0]
    wrong = wrong[np.argsort(-confidence[wrong], kind="stable")]
    return Report(
        "multi",
        len(gold),
        {
            "subset accuracy": float(metrics.accuracy_score(true, guesses)),
            "hamming loss": float(metrics.hamming_loss(true, guesses)),
            "log loss": _mean(-np.log(np.maximum(p_right, _LEAST_PROBABILITY))),
        },
        averages,
        labels,
        None,
        [_mistake(i, texts, gold[i], predicted[i], float(confidence[i]), places) for i in wrong.tolist()],
        unknown=unknown,
    )


def regression_report(
    y_true: npt.ArrayLike,
    y_pred: npt.ArrayLike,
    texts: Sequence[Any],
    places: Sequence[str] | None = None,
) -> Report:
    """Builds the report of predicted scores.

    Args:
        y_true: True scores, shape (n,).
        y_pred: Predicted scores, shape (n,).
        texts: The n texts, or pairs of texts.
        places: File and line of each example.

    Returns:
        A report with the scores ``pearson`` and ``spearman`` (correlations; NaN if one side is constant),
        ``mean squared error``, ``mean absolute error`` and ``r2`` (NaN for fewer than two examples).

    Raises:
        ValueError: There are no examples, or lengths differ.
        MissingExtraError: scikit-learn is not installed.
    """
    metrics = _metrics()
    true, predicted = np.asarray(y_true, np.float64), np.asarray(y_pred, np.float64)
    _check(len(true), y_pred=predicted, texts=texts, places=places)
    varied = len(true) > 1 and np.ptp(true) > 0 and np.ptp(predicted) > 0
    distance = np.abs(true - predicted)
    return Report(
        "score",
        len(true),
        {
            "pearson": pearson(predicted, true) if varied else math.nan,
            "spearman": spearman(predicted, true) if varied else math.nan,
            "mean squared error": float(metrics.mean_squared_error(true, predicted)),
            "mean absolute error": float(metrics.mean_absolute_error(true, predicted)),
            "r2": float(metrics.r2_score(true, predicted)) if len(true) > 1 else math.nan,
        },
        mistakes=[
            _mistake(i, texts, float(true[i]), float(predicted[i]), float(distance[i]), places)
            for i in np.argsort(-distance, kind="stable").tolist()
        ],
        true_scores=(true, predicted),
    )


def _metrics() -> Any:
    try:
        import sklearn.metrics
    except ImportError as error:
        raise MissingExtraError("downstream", "scikit-learn", "a classification report") from error
    return sklearn.metrics


def _listed(values: Any) -> list[Any]:
    # Python's own values, because NumPy's cannot be written as JSON.
    return [value.item() if isinstance(value, np.generic) else value for value in values]


def _with_unknown(classes: list[Any], gold: Iterable[Any]) -> tuple[list[Any], list[Any]]:
    known = set(classes)
    unknown = sorted({label for label in gold if label not in known}, key=str)
    return classes + unknown, unknown


def _check(n: int, **columns: Any) -> None:
    if n == 0:
        raise ValueError("got 0 examples, expected at least one to report on")
    for name, column in columns.items():
        if column is not None and len(column) != n:
            raise ValueError(f"{name} has {len(column)} rows, expected {n}, the length of y_true")


def _widened(proba: npt.ArrayLike, width: int) -> Floats:
    # A label that no training example had has probability 0.
    matrix = np.asarray(proba, np.float64)
    return np.pad(matrix, ((0, 0), (0, width - matrix.shape[1])))


def _indicators(rows: Sequence[Iterable[Any]], names: Sequence[Any]) -> npt.NDArray[np.bool_]:
    position = {name: i for i, name in enumerate(names)}
    matrix = np.zeros((len(rows), len(names)), bool)
    for i, labels in enumerate(rows):
        for label in labels:
            matrix[i, position[label]] = True
    return matrix


def _label_scores(
    metrics: Any,
    true: npt.NDArray[Any],
    guesses: npt.NDArray[Any],
    names: Sequence[Any],
    kinds: Iterable[str],
) -> tuple[list[LabelScores], dict[str, tuple[float, float, float]]]:
    score = metrics.precision_recall_fscore_support
    columns = score(true, guesses, labels=range(len(names)), average=None, zero_division=0.0)
    labels = [
        LabelScores(name, float(p), float(r), float(f), int(n))
        for name, p, r, f, n in zip(names, *columns, strict=True)
    ]
    # Like scikit-learn's reports, averages leave out labels that neither occur nor were predicted.
    present = np.union1d(true, guesses) if true.ndim == 1 else np.nonzero((true | guesses).any(axis=0))[0]
    averages = {}
    for kind in kinds if present.size else ():
        p, r, f, _ = score(true, guesses, labels=present, average=kind, zero_division=0.0)
        averages[kind] = (float(p), float(r), float(f))
    return labels, averages


def _mean(losses: Floats) -> float:
    return float(losses.mean()) if losses.size else math.nan


def _mistake(
    i: int, texts: Sequence[Any], label: Any, predicted: Any, confidence: float, places: Sequence[str] | None
) -> Mistake:
    text = texts[i] if isinstance(texts[i], str) else tuple(map(str, texts[i]))
    return Mistake(text, label, predicted, confidence, None if places is None else places[i])
