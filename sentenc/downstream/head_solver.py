"""Fits a linear head on frozen features by logistic regression, and chooses its regularization."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from sentenc.downstream.head import LinearHead
from sentenc.solvers.logistic import LogisticProblem, LogisticSolution, solve
from sentenc.solvers.losses import Floats, Matrix, OutputKind, log_losses, probabilities
from sentenc.splits import Rows, strata, validation_folds, validation_rows
from sentenc.threads import worker_threads

# The strengths that "auto" tries, and the one that it takes if there are no validation examples.
_STRENGTHS = tuple(4.0**power for power in range(-1, 7))
_DEFAULT_STRENGTH = 16.0
# With at most this many examples, and if the problem is small, several folds choose the strength. With more
# examples, a single validation split is reliable enough.
_FEW_EXAMPLES, _FOLDS, _SMALL_PROBLEM = 2000, 5, 1e7
# The least validation fraction for few examples, of which a tenth would be too noisy.
_LEAST_FRACTION_OF_FEW = 0.2
# Relative decrease of the validation loss that justifies a larger strength. Among equals, the smaller
# strength is less overconfident.
_LEAST_GAIN = 0.01
# The search ends after this many strengths without a gain, because larger strengths cost the most time.
_MAX_FAILURES_FEW, _MAX_FAILURES = 2, 1
# Solver tolerance while the strength is chosen.
_SEARCH_TOLERANCE = 1e-4
# If the features' spread is below this share of their mean's norm, the spread is rounding error.
_LEAST_SPREAD = 1e-6


@dataclass(frozen=True, eq=False)
class FittedHead:
    """A fitted head, and how its strength was chosen.

    Attributes:
        head: The head, fitted on all examples.
        C: The strength.
        validation: ``log_loss`` (mean) and ``accuracy`` on the validation examples at that strength, and
            their number ``n``. Empty if there are none.
        path: The mean validation loss of every strength that was tried, weighted by example; the strength was
            chosen by it.
        validation_predictions: The validation rows (m,) and their probabilities (m, K) at that strength.
    """

    head: LinearHead
    C: float
    validation: dict[str, float] = field(default_factory=dict)
    path: dict[float, float] = field(default_factory=dict)
    validation_predictions: tuple[Rows, Floats] | None = None


def fit_head(
    features: npt.ArrayLike,
    targets: npt.ArrayLike,
    kind: OutputKind,
    *,
    C: float | Literal["auto"] = "auto",
    sample_weight: npt.ArrayLike | None = None,
    validation_fraction: float = 0.1,
    rng: np.random.Generator,
) -> FittedHead:
    """Fits a multinomial ("softmax") or binary ("sigmoid") logistic regression with an L2 penalty.

    Minimizes C * sum_i w_i loss_i + ||W||^2 / 2 on features that are centered and divided by the root mean
    square of their norms. The scaling makes a value of C mean the same for every encoder.

    Args:
        features: (n, d), finite.
        targets: (n, K); rows that add up to 1 for "softmax", 0 or 1 in each place for "sigmoid".
        kind: "softmax" or "sigmoid".
        C: Inverse strength of the penalty. "auto" tries 4^-1 to 4^6 and takes the one with the lowest
            validation loss: on five folds for up to 2,000 examples, otherwise on one validation split.
        sample_weight: (n,) weights; they are scaled to a mean of 1.
        validation_fraction: Size of the validation split; 0 for none.
        rng: Source of the validation rows.

    Raises:
        ValueError: Shapes do not match, there are no examples, or a value is not finite.
        MissingExtraError: scikit-learn or SciPy is not installed.
    """
    x, t = np.asarray(features, np.float32), np.asarray(targets, np.float32)
    weights = np.ones(len(x), np.float32) if sample_weight is None else np.asarray(sample_weight, np.float32)
    _check_examples(x, t, weights, kind)
    weights = weights / weights.mean()
    mean = (weights @ x / weights.sum()).astype(np.float32)
    x = x - mean
    spread = float(np.sqrt(np.average((x * x).sum(1), weights=weights)))
    # If all features are the same, only rounding errors are left, and nothing can be learned from them.
    is_constant = spread <= max(_LEAST_SPREAD * float(np.linalg.norm(mean)), 1e-30)
    scale = np.float32(0 if is_constant else 1 / spread)
    x *= scale
    # The weights are linear combinations of the examples. With fewer examples than dimensions, it is enough
    # to search their span.
    basis = np.linalg.qr(x.T)[0] if len(x) < x.shape[1] else None
    x = x if basis is None else x @ basis
    with worker_threads(extra="downstream", feature="fitting a classifier") as pool:
        problem = LogisticProblem(x, t, weights, kind, pool)
        choice = _choose_strength(problem, validation_fraction, rng) if C == "auto" else _Choice(C)
        solution = solve(problem, choice.strength, choice.start)
    w = (solution.weights if basis is None else solution.weights @ basis.T) * scale
    head = LinearHead(kind, w, (solution.bias - w @ mean).astype(np.float32))
    return FittedHead(head, choice.strength, choice.validation, choice.path, choice.predictions)


def hits(scores: Floats, targets: npt.NDArray[Any], kind: OutputKind) -> npt.NDArray[np.bool_]:
    """Returns for each example whether its class, or its whole set of labels, is predicted right: (n,)."""
    if kind == "sigmoid":
        return np.asarray(((scores > 0) == (targets > 0.5)).all(axis=1))
    return np.asarray(scores.argmax(axis=1) == targets.argmax(axis=1))


def _check_examples(x: Matrix, t: Matrix, weights: Matrix, kind: OutputKind) -> None:
    if x.ndim != 2 or t.ndim != 2 or weights.ndim != 1 or not 0 < len(x) == len(t) == len(weights):
        raise ValueError(
            f"features, targets and weights have shapes {x.shape}, {t.shape}, {weights.shape}, "
            "expected (n, d), (n, K), (n,) with n above 0"
        )
    if kind not in get_args(OutputKind):
        raise ValueError(f"kind is {kind!r}, expected 'softmax' or 'sigmoid'")
    for name, values in (("features", x), ("targets", t), ("weights", weights)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} have values that are not finite")
    if weights.min() < 0 or not weights.any():
        raise ValueError("weights must be 0 or more, and at least one above 0")


@dataclass(frozen=True, eq=False)
class _Choice:
    # A strength, a solution to start from, and the results on the validation examples.
    strength: float
    start: LogisticSolution | None = None
    validation: dict[str, float] = field(default_factory=dict)
    path: dict[float, float] = field(default_factory=dict)
    predictions: tuple[Rows, Floats] | None = None


def _choose_strength(problem: LogisticProblem, fraction: float, rng: np.random.Generator) -> _Choice:
    few = len(problem.features) <= _FEW_EXAMPLES
    folds = _validation_folds(problem, fraction, few, rng)
    rows = np.concatenate([np.zeros(0, np.int64), *folds])
    weights, targets = problem.weights[rows], problem.targets[rows]
    choice = _Choice(_DEFAULT_STRENGTH)
    if not weights.any():
        return choice
    paths = [_path(problem, fold, _STRENGTHS[0 if few else 1 :]) for fold in folds]
    path: dict[float, float] = {}
    best_scores, least, failures = np.zeros(targets.shape), np.inf, 0
    for fitted in zip(*paths, strict=True):
        strength, solution, _ = fitted[0]
        scores = np.concatenate([fold_scores for _, _, fold_scores in fitted])
        loss = float(np.average(log_losses(scores, targets, problem.kind), weights=weights))
        path[strength] = loss
        if len(path) == 1 or loss < (1 - _LEAST_GAIN) * least:
            least, choice, best_scores = loss, _Choice(strength, solution), scores
        elif (failures := failures + 1) >= (_MAX_FAILURES_FEW if few else _MAX_FAILURES):
            break
    validation = {
        "log_loss": float(log_losses(best_scores, targets, problem.kind).mean()),
        "accuracy": float(hits(best_scores, targets, problem.kind).mean()),
        "n": len(rows),
    }
    predictions = (rows, probabilities(best_scores, problem.kind))
    return replace(choice, validation=validation, path=path, predictions=predictions)


def _validation_folds(
    problem: LogisticProblem, fraction: float, few: bool, rng: np.random.Generator
) -> list[Rows]:
    groups = strata(problem.targets)
    if few and problem.size <= _SMALL_PROBLEM:
        return validation_folds(groups, _FOLDS, rng) if fraction else []
    fraction = max(fraction, _LEAST_FRACTION_OF_FEW) if few and fraction else fraction
    rows = validation_rows(groups, fraction, rng)
    return [rows] if len(rows) else []


def _path(
    problem: LogisticProblem, fold: Rows, strengths: Sequence[float]
) -> Iterator[tuple[float, LogisticSolution, Floats]]:
    # For each strength: the solution on the rows outside of the fold, and the scores of the fold.
    train = problem.subset(np.setdiff1d(np.arange(len(problem.features)), fold))
    fold_features = problem.features[fold]
    solution = None
    for strength in strengths:
        solution = solve(train, strength, solution, _SEARCH_TOLERANCE)
        yield strength, solution, solution.scores(fold_features)
