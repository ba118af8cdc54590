"""A classifier of single sentences."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from sentenc.downstream.estimator import ClassifierMixin, Floats, Matrix, SentenceEstimator, is_number
from sentenc.downstream.labels import Labels, ParsedLabels, parse_labels
from sentenc.solvers.losses import OutputKind


class LabeledEstimator(ClassifierMixin, SentenceEstimator):  # type: ignore[misc, unused-ignore]
    """What classifiers of texts and of pairs have in common."""

    classes_: npt.NDArray[Any]
    multi_label_: bool

    def fit(self, texts: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fits the classifier.

        Args:
            texts: n texts (or pairs of texts, for a classifier of pairs).
            y: n labels, all str, all int or all bool; or, for any number of labels each, n collections of labels, or a
                matrix (n, K) of 0 and 1.
            sample_weight: n weights.

        Raises:
            TypeError: A text or label is none; with its index.
            ValueError: There is nothing to learn: no example, or one class only.
        """
        parsed = parse_labels(y)
        _check_classes(parsed)
        weights = _class_weights(self.class_weight, parsed)
        kind: OutputKind = "sigmoid" if parsed.multi_label else "softmax"
        self._fit(texts, parsed.targets, kind, sample_weight, weights)
        self._set_labels(Labels(parsed.classes, parsed.multi_label, parsed.indicator))
        self.metrics_["n_classes"] = len(self.classes_)
        return self

    def predict(self, texts: Any) -> Any:
        """The label of every text: an array (n,).

        With any number of labels each, those with a probability above a half: a list of n tuples, or a matrix
        (n, K) of 0 and 1 if that is what the classifier was fitted to.
        """
        found = self.predict_proba(texts)
        return self._labels.decoded(found)

    def decision_function(self, texts: Any) -> Floats:
        """Scores (n, K) before they become probabilities; for two classes (n,), those of the second less the first."""
        # What is not fitted says so first.
        columns = self._columns(texts)
        scores = self.head_.scores(self._features(columns))
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 and not self.multi_label_ else scores

    def score(self, texts: Any, y: Any, sample_weight: Any = None) -> float:
        """The share of texts whose label, or whole set of labels, is predicted right."""
        found = self.predict_proba(texts)
        right = self._labels.right(found, y)
        if len(right) == 0:
            raise ValueError("there are 0 texts, expected at least one to score")
        return float(np.average(right, weights=sample_weight))

    def __sklearn_tags__(self) -> Any:
        """For scikit-learn."""
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _set_labels(self, labels: Labels) -> None:
        self._labels = labels
        self.classes_, self.multi_label_ = labels.classes, labels.multi_label

    def _labels_to_json(self) -> dict[str, Any]:
        return self._labels.to_json()

    def _set_labels_from_json(self, value: dict[str, Any]) -> tuple[int, OutputKind]:
        self._set_labels(Labels.from_json(value))
        return len(self.classes_), "sigmoid" if self.multi_label_ else "softmax"


class SentenceClassifier(LabeledEstimator):
    """Classifies texts, by one class each or any number of labels, starting from a pretrained encoder.

        >>> classifier = SentenceClassifier("cse-en").fit(texts, labels)
        >>> classifier.predict(["where is my card?"])

    Args:
        encoder: A shipped name, a folder, a Hub id, or an encoder, which is never changed.
        tune: "head" fits a logistic regression on the encoder's vectors: convex, and needs no torch. "all" goes on
            from there and trains the encoder too (extra ``train``): a CSE, or a BERT with mean pooling.
        init: "pretrained", or "random": the encoder begins with random weights, as a control.
        C: Inverse strength of the head's penalty, for features of unit mean square length; "auto" chooses by examples
            held out.
        class_weight: "balanced" (n / (K * count of the class)), weights by class, or None.
        validation_fraction: Share of the examples that chooses C, or the epoch to keep. 0: C is 16, and all epochs
            are run.
        epochs: At most so many, with tune="all", like all that follow.
        patience: Epochs without a lower loss on the held-out part, after which the tuning ends.
        batch_size: Examples of a step.
        learning_rate: Of the encoder. The default is for a CSE; for a BERT 2e-5 to 5e-5 is usual.
        regularization: Strength s of the pull s / 2 ||theta - theta_0||^2 towards the pretrained encoder (Jiao, Wang,
            Feng, COLING 2018).
        max_minutes: The tuning ends within this time and keeps the best until then.
        random_state: Seed, or a generator.
        show_progress_bar: On standard error.

    Attributes:
        classes_: (K,) the labels, sorted.
        multi_label_: Whether a text has any number of them.
        encoder_: The encoder in use; with tune="all", the tuned one, in its fast form.
        head_: Its :class:`~sentenc.downstream.head.LinearHead`.
        C_: The strength that was used.
        metrics_: Of the held-out part: log_loss, accuracy and its size n; and n_train, n_classes, seconds.
        history_: Losses of every epoch, with tune="all".
    """


def _check_classes(parsed: ParsedLabels) -> None:
    n, k = parsed.targets.shape
    if n == 0:
        raise ValueError("there are 0 examples, expected at least one of each of two classes")
    if parsed.multi_label:
        if k == 0:
            raise ValueError("no text has a label, expected some that have")
    elif k < 2:
        raise ValueError(
            f"all {n} labels are {parsed.classes.tolist()[0]!r}: one class, expected two or more"
        )


def _class_weights(wanted: Any, parsed: ParsedLabels) -> Matrix | None:
    # A weight for every example.
    if wanted is None:
        return None
    counts = parsed.targets.sum(axis=0)
    if wanted == "balanced":
        weights = len(parsed.targets) / (len(counts) * np.maximum(counts, 1))
    elif isinstance(wanted, dict):
        classes = parsed.classes.tolist()
        if unknown := [label for label in wanted if label not in classes]:
            raise ValueError(f"class_weight has {unknown[0]!r}, which is none of the {len(classes)} classes")
        values = [wanted.get(label, 1.0) for label in classes]
        if not (all(is_number(value) and 0 <= value < np.inf for value in values) and any(values)):
            raise ValueError(f"class_weight is {wanted}, expected numbers of 0 or more, one of them above")
        weights = np.array(values, np.float64)
    else:
        raise ValueError(f"class_weight is {wanted!r}, expected 'balanced', a dict or None")
    # A text of several labels counts as much as the mean of them; one of none as much as any.
    labels = parsed.targets.sum(axis=1)
    mean = parsed.targets @ weights / np.maximum(labels, 1)
    return np.asarray(np.where(labels > 0, mean, 1.0), np.float32)
