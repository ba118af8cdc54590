"""A classifier and a regressor of pairs of sentences."""

from typing import Any, Self

import numpy as np
import numpy.typing as npt

from sentenc.downstream.classifier import LabeledEstimator
from sentenc.downstream.estimator import Matrix, SentenceEstimator
from sentenc.downstream.labels import parse_pairs, parse_scores
from sentenc.downstream.settings import is_number
from sentenc.downstream.shared_encoder import RegressorMixin
from sentenc.metrics import pearson, spearman
from sentenc.solvers.losses import OutputKind

# Maximum number of steps of a scale. A finer scale should be divided by something.
_MAX_STEPS = 101


class SentencePairClassifier(LabeledEstimator):
    """Classifies pairs of texts by the features [|u - v|; u * v] of their vectors.

    Pairs are a sequence of pairs of texts, an array (n, 2), or a data frame with two columns. The settings
    and attributes are those of :class:`~sentenc.downstream.SentenceClassifier`.
    """

    _n_columns = 2

    def _parsed_columns(self, texts: Any) -> list[list[str]]:
        return list(parse_pairs(texts))


class SentencePairRegressor(RegressorMixin, SentenceEstimator):  # type: ignore[misc, unused-ignore]
    """Predicts scores of pairs of texts, through a distribution over the whole numbers of a scale.

    A score of 3.6 is learned as 0.4 of 3 and 0.6 of 4, and the prediction is the mean of the distribution
    (Tai, Socher and Manning, 2015). The settings are those of
    :class:`~sentenc.downstream.SentenceClassifier`, and:

    Args:
        score_range: The lowest and the highest score; by default the whole numbers around the scores in
            ``fit``.

    Attributes:
        steps_: (K,) the whole numbers of the scale.
        metrics_: On the validation examples: ``log_loss``, ``pearson``, ``spearman`` and their number ``n``.
            Also ``n_train`` and ``seconds``.
    """

    steps_: npt.NDArray[np.int64]

    def __init__(
        self,
        encoder: Any = "cse-en",
        *,
        score_range: tuple[int, int] | None = None,
        fine_tune: Any = "head",
        init: Any = "pretrained",
        C: Any = "auto",
        validation_fraction: float = 0.1,
        epochs: int = 20,
        patience: int = 3,
        batch_size: int = 32,
        learning_rate: float = 1e-3,
        regularization: float = 1e-4,
        max_minutes: float | None = None,
        random_state: Any = None,
        show_progress_bar: bool = False,
    ) -> None:
        super().__init__(
            encoder,
            fine_tune=fine_tune,
            init=init,
            C=C,
            validation_fraction=validation_fraction,
            epochs=epochs,
            patience=patience,
            batch_size=batch_size,
            learning_rate=learning_rate,
            regularization=regularization,
            max_minutes=max_minutes,
            random_state=random_state,
            show_progress_bar=show_progress_bar,
        )
        # Scores have no classes that could be weighted.
        del self.class_weight
        self.score_range = score_range

    def fit(self, pairs: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fits the regressor.

        Args:
            pairs: n pairs of texts.
            y: n scores.
            sample_weight: n weights.

        Raises:
            TypeError: A text or a score has the wrong type; the message contains its index.
            ValueError: A score is out of the range, or the range has too few or too many steps.
        """
        scores = parse_scores(y)
        if len(scores) == 0:
            raise ValueError("got 0 examples, expected at least two with different scores")
        steps = _steps(scores, self.score_range)
        validation = self._fit(pairs, step_distributions(scores, steps), "softmax", sample_weight, None)
        self.steps_ = steps
        self.metrics_.pop("accuracy", None)
        if validation is not None:
            self.metrics_ |= _correlations(validation[1] @ steps, scores[validation[0]])
        return self

    def predict(self, pairs: Any) -> npt.NDArray[np.float64]:
        """Predicts the score of every pair, (n,)."""
        return self.predict_proba(pairs) @ self.steps_.astype(np.float64)

    _n_columns = 2

    def _parsed_columns(self, texts: Any) -> list[list[str]]:
        return list(parse_pairs(texts))

    def _labels_to_json(self) -> dict[str, Any]:
        return {"steps": self.steps_.tolist()}

    def _set_labels_from_json(self, value: dict[str, Any]) -> tuple[int, OutputKind]:
        steps = value["steps"]
        if any(type(step) is not int for step in steps) or steps != list(range(steps[0], steps[-1] + 1)):
            raise ValueError(f"steps are {steps}, expected consecutive whole numbers")
        self.steps_ = np.array(steps, np.int64)
        if self.score_range is not None:
            # JSON has no tuples.
            low, high = self.score_range
            self.score_range = (low, high)
        return len(steps), "softmax"


def step_distributions(scores: npt.NDArray[np.float64], steps: npt.NDArray[np.int64]) -> Matrix:
    """Returns distributions (n, K) over the steps (K,) whose means are the scores (n,).

    For example, 3.6 becomes 0.4 of 3 and 0.6 of 4.

    Source: Tai, Socher and Manning 2015.
    """
    return np.maximum(0.0, 1.0 - np.abs(scores[:, None] - steps)).astype(np.float32)


def _steps(scores: npt.NDArray[np.float64], score_range: tuple[int, int] | None) -> npt.NDArray[np.int64]:
    if score_range is None:
        low, high = int(np.floor(scores.min())), int(np.ceil(scores.max()))
    else:
        ends = list(score_range) if isinstance(score_range, tuple | list) else []
        if len(ends) != 2 or not all(map(_is_whole, ends)) or ends[0] >= ends[1]:
            raise ValueError(f"score_range is {score_range!r}, expected two whole numbers in ascending order")
        low, high = int(ends[0]), int(ends[1])
    if outside := [index for index, score in enumerate(scores) if not low <= score <= high]:
        raise ValueError(f"y[{outside[0]}] is {scores[outside[0]]}, expected a score from {low} to {high}")
    if high <= low:
        raise ValueError(f"all scores are {scores[0]}, expected different scores, or a score_range")
    if high - low + 1 > _MAX_STEPS:
        raise ValueError(
            f"scores from {low:g} to {high:g} have {high - low + 1:g} whole numbers, "
            f"expected at most {_MAX_STEPS}: divide the scores"
        )
    return np.arange(low, high + 1)


def _is_whole(value: Any) -> bool:
    return is_number(value) and np.isfinite(value) and value == int(value)


def _correlations(predicted: npt.NDArray[np.float64], scores: npt.NDArray[np.float64]) -> dict[str, float]:
    # Correlations with a constant are not defined.
    if len(scores) < 2 or np.ptp(scores) == 0 or np.ptp(predicted) == 0:
        return {}
    return {"pearson": pearson(predicted, scores), "spearman": spearman(predicted, scores)}
