"""A classifier of single texts."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from sentenc.downstream.estimator import Floats, Matrix, SentenceEstimator
from sentenc.downstream.labels import Labels, ParsedLabels, parse_labels
from sentenc.downstream.settings import is_number
from sentenc.downstream.shared_encoder import ClassifierMixin
from sentenc.solvers.losses import OutputKind


class LabeledEstimator(ClassifierMixin, SentenceEstimator):  # type: ignore[misc, unused-ignore]
    """Base class of the classifiers of texts and of pairs."""

    classes_: npt.NDArray[Any]
    multi_label_: bool

    def fit(self, texts: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fits the classifier.

        Args:
            texts: n texts (for a classifier of pairs, n pairs of texts).
            y: n labels, all str, all int or all bool. For several labels per text: n collections of labels,
                or a matrix (n, K) of 0 and 1.
            sample_weight: n weights.

        Raises:
            TypeError: A text or a label has the wrong type; the message contains its index.
            ValueError: There is no example, or only one class.
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
        """Predicts the label of every text: an array (n,).

        A classifier that was fitted with several labels per text predicts the labels with a probability above
        0.5: a list of n tuples, or a matrix (n, K) of 0 and 1 if it was fitted with a matrix.
        """
        predictions = self.predict_proba(texts)
        return self._labels.decoded(predictions)

    def decision_function(self, texts: Any) -> Floats:
        """Returns scores (n, K) before the softmax or sigmoid; for two classes their differences (n,)."""
        # Checks that the estimator is fitted before it uses the head.
        columns = self._columns(texts)
        scores = self.head_.scores(self._features(columns))
        return scores[:, 1] - scores[:, 0] if scores.shape[1] == 2 and not self.multi_label_ else scores

    def score(self, texts: Any, y: Any, sample_weight: Any = None) -> float:
        """Returns the accuracy: the share of texts whose labels are all predicted right."""
        predictions = self.predict_proba(texts)
        is_right = self._labels.matches(predictions, y)
        if len(is_right) == 0:
            raise ValueError("got 0 texts, expected at least one to score")
        return float(np.average(is_right, weights=sample_weight))

    def __sklearn_tags__(self) -> Any:
        """Returns scikit-learn's tags."""
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
    """Classifies texts, with one class or several labels each, on top of a pretrained encoder.

        >>> classifier = SentenceClassifier("cse-en").fit(texts, labels)
        >>> classifier.predict(["where is my card?"])

    Args:
        encoder: The name of a shipped model, a folder, a Hub id, or an encoder. An encoder object is not
            modified.
        fine_tune: "head" fits a logistic regression on the vectors of the frozen encoder; it is convex and
            needs no torch. "all" continues from there and trains the encoder too (extra ``train``): a CSE, or
            a BERT with mean or cls pooling.
        init: "pretrained", or "random" for random encoder weights, as a control.
        C: Inverse strength of the head's penalty, for features with a mean square norm of 1. "auto" chooses
            it on validation examples.
        class_weight: "balanced" for n / (K * count of the class), a dict of weights by class, or None.
        validation_fraction: Share of the examples that choose C or the best epoch. With 0, C is 16 and all
            epochs are run.
        epochs: Maximum number of epochs. This and the following five settings are for fine_tune="all".
        patience: Number of epochs without a lower validation loss after which training stops.
        batch_size: Examples per update.
        learning_rate: Learning rate of the encoder. The default is for a CSE; 2e-5 to 5e-5 is usual for a
            BERT.
        regularization: Strength s of the penalty s / 2 ||theta - theta_0||^2, which keeps the encoder near
            the pretrained one (Jiao, Wang, Feng, COLING 2018).
        max_minutes: Training time limit in minutes; the best epoch until then is kept.
        random_state: A seed or a generator.
        show_progress_bar: Whether to draw a progress bar on standard error.

    Attributes:
        classes_: (K,) the sorted labels.
        multi_label_: Whether a text has several labels.
        encoder_: The encoder in use; with fine_tune="all", the trained one, in its fast form.
        head_: The :class:`~sentenc.downstream.head.LinearHead`.
        C_: The value of C that was used.
        metrics_: On the validation examples: ``log_loss``, ``accuracy`` and their number ``n``. Also
            ``n_train``, ``n_classes`` and ``seconds``.
        history_: Losses of every epoch, with fine_tune="all".
    """


def _check_classes(parsed: ParsedLabels) -> None:
    n, k = parsed.targets.shape
    if n == 0:
        raise ValueError("got 0 examples, expected at least one of each of two classes")
    if parsed.multi_label:
        if k == 0:
            raise ValueError("no text has a label, expected at least one that has")
    elif k < 2:
        raise ValueError(
            f"all {n} labels are {parsed.classes.tolist()[0]!r}: got one class, expected at least two"
        )


def _class_weights(class_weight: Any, parsed: ParsedLabels) -> Matrix | None:
    # The weight of every example.
    if class_weight is None:
        return None
    counts = parsed.targets.sum(axis=0)
    if class_weight == "balanced":
        weights = len(parsed.targets) / (len(counts) * np.maximum(counts, 1))
    elif isinstance(class_weight, dict):
        classes = parsed.classes.tolist()
        if unknown := [label for label in class_weight if label not in classes]:
            raise ValueError(f"class_weight has {unknown[0]!r}, which is none of the {len(classes)} classes")
        values = [class_weight.get(label, 1.0) for label in classes]
        if not (all(is_number(value) and 0 <= value < np.inf for value in values) and any(values)):
            raise ValueError(
                f"class_weight is {class_weight}, expected finite numbers >= 0, at least one above 0"
            )
        weights = np.array(values, np.float64)
    else:
        raise ValueError(f"class_weight is {class_weight!r}, expected 'balanced', a dict or None")
    # A text with several labels has their mean weight; a text without labels has the weight 1.
    n_labels = parsed.targets.sum(axis=1)
    mean = parsed.targets @ weights / np.maximum(n_labels, 1)
    return np.asarray(np.where(n_labels > 0, mean, 1.0), np.float32)
