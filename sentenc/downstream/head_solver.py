"""Fitting a linear head on features that stay as they are: a convex problem, solved without torch."""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from sentenc.downstream.head import HeadKind, LinearHead, log_losses, probabilities
from sentenc.errors import MissingExtraError
from sentenc.splits import Rows, strata, validation_folds, validation_rows
from sentenc.threads import worker_threads

Matrix = npt.NDArray[np.float32]
Vector = npt.NDArray[np.float64]

# Strengths to try where none is given, and the one for examples of which none can be held out.
_STRENGTHS = tuple(4.0**power for power in range(-1, 7))
_DEFAULT_STRENGTH = 16.0
# Examples up to which several folds choose the strength, if the problem is small enough to solve so often; of more,
# one part held out will do.
_FEW, _FOLDS, _SMALL = 2000, 5, 1e7
# Of few examples more are held out: a tenth of them would have too little to say.
_LEAST_FRACTION_OF_FEW = 0.2
# Share by which a larger strength must lower the held-out loss: among equals, the smaller is less sure of itself.
_WORTH_MORE = 0.01
# The search ends when it has not so many times: larger strengths cost most.
_MOST_RISES_FEW, _MOST_RISES = 2, 1
# Rows that a thread takes at a time, fixed because sums must not depend on the number of threads; fewer for many
# classes, as their scores are in memory for each.
_BLOCK_ROWS, _BLOCK_SCORES = 1024, 1 << 18
# Of L-BFGS: the relative decrease at which it stops, and the steps at which it does in any case.
_TOLERANCE, _MOST_STEPS, _MEMORY = 2e-5, 400, 10
_SEARCH_TOLERANCE = 1e-4
# A penalty on intercepts, which need none: only so that a label that all examples have keeps a finite one.
_INTERCEPT_PENALTY = 1e-3
# Share of the length of the features' mean below which their distance from it is rounding.
_LEAST_LENGTH = 1e-6


@dataclass(frozen=True, eq=False)
class FittedHead:
    """A head and how it was found.

    Attributes:
        head: Fitted on all examples.
        C: The strength.
        validation: ``log_loss`` (mean) and ``accuracy`` on examples held out, at that strength, and how many they were
            (``n``); empty where none could be.
        path: The mean held-out log loss of every strength that was tried, each example counted by its weight: what
            chose the strength.
        held_out: The rows that were held out, (m,), and their probabilities (m, K) at that strength.
    """

    head: LinearHead
    C: float
    validation: dict[str, float] = field(default_factory=dict)
    path: dict[float, float] = field(default_factory=dict)
    held_out: tuple[Rows, Vector] | None = None


def fit_head(
    features: npt.ArrayLike,
    targets: npt.ArrayLike,
    kind: HeadKind,
    *,
    C: float | Literal["auto"] = "auto",
    sample_weight: npt.ArrayLike | None = None,
    validation_fraction: float = 0.1,
    rng: np.random.Generator,
) -> FittedHead:
    """Multinomial ("softmax") or binary ("sigmoid") logistic regression with an L2 penalty.

    Minimizes C * sum_i w_i loss_i + ||W||^2 / 2 over features that are centered and divided by one number, the root
    mean square of their length: so that a C means the same for every encoder.

    Args:
        features: (n, d), finite.
        targets: (n, K): rows of shares that add up to 1 for "softmax", 0 or 1 each for "sigmoid".
        kind: Which.
        C: Inverse of the penalty's weight. "auto" takes the one of 4^-1 .. 4^6 with the least log loss on
            examples held out: five folds of up to 2,000 examples, else one part.
        sample_weight: (n,) weights; their mean is made 1.
        validation_fraction: Size of that part.
        rng: Of what is held out.

    Raises:
        ValueError: Shapes do not fit, there are no examples, or a value is not finite.
    """
    x, t = np.asarray(features, np.float32), np.asarray(targets, np.float32)
    weights = np.ones(len(x), np.float32) if sample_weight is None else np.asarray(sample_weight, np.float32)
    _check_examples(x, t, weights, kind)
    weights = weights / weights.mean()
    mean = (weights @ x / weights.sum()).astype(np.float32)
    x = x - mean
    length = float(np.sqrt(np.average((x * x).sum(1), weights=weights)))
    # Of features that are all the same, rounding is what is left: nothing is to be learned from that.
    same = length <= max(_LEAST_LENGTH * float(np.linalg.norm(mean)), 1e-30)
    scale = np.float32(0 if same else 1 / length)
    x *= scale
    # Weights are sums of the examples: with fewer of them than dimensions, their own span is all there is to search.
    basis = np.linalg.qr(x.T)[0] if len(x) < x.shape[1] else None
    x = x if basis is None else x @ basis
    with worker_threads(extra="downstream", feature="fitting a classifier") as pool:
        problem = _Problem(x, t, weights, kind, pool)
        found = _chosen_strength(problem, validation_fraction, rng) if C == "auto" else _Choice(C)
        solution = _solved(problem, found.strength, found.start)
    w = (solution.weights if basis is None else solution.weights @ basis.T) * scale
    head = LinearHead(kind, w, (solution.bias - w @ mean).astype(np.float32))
    return FittedHead(head, found.strength, found.validation, found.path, found.held_out)


def _check_examples(x: Matrix, t: Matrix, weights: Matrix, kind: HeadKind) -> None:
    if x.ndim != 2 or t.ndim != 2 or weights.ndim != 1 or not 0 < len(x) == len(t) == len(weights):
        raise ValueError(
            f"features, targets and weights have shapes {x.shape}, {t.shape}, {weights.shape}, expected (n, d), (n, K), (n,)"
        )
    if kind not in get_args(HeadKind):
        raise ValueError(f"kind is {kind!r}, expected 'softmax' or 'sigmoid'")
    for name, values in (("features", x), ("targets", t), ("weights", weights)):
        if not np.isfinite(values).all():
            raise ValueError(f"{name} have values that are not finite")
    if weights.min() < 0 or not weights.any():
        raise ValueError("weights are all 0, or one is below: expected 0 or more, and one above")


@dataclass(frozen=True, eq=False)
class _Problem:
    features: Matrix
    targets: Matrix
    weights: Matrix
    kind: HeadKind
    pool: ThreadPoolExecutor

    @property
    def size(self) -> int:
        """Multiplications for the scores of all rows."""
        return int(self.features.size * self.targets.shape[1])

    def rows(self, rows: Rows) -> "_Problem":
        return _Problem(self.features[rows], self.targets[rows], self.weights[rows], self.kind, self.pool)


@dataclass(frozen=True, eq=False)
class _Solution:
    weights: Matrix
    bias: Matrix

    def scores(self, features: Matrix) -> Vector:
        return np.asarray(features @ self.weights.T + self.bias, np.float64)


@dataclass(frozen=True, eq=False)
class _Choice:
    # A strength, a solution to start from, and what the examples held out had to say.
    strength: float
    start: _Solution | None = None
    validation: dict[str, float] = field(default_factory=dict)
    path: dict[float, float] = field(default_factory=dict)
    held_out: tuple[Rows, Vector] | None = None


def _chosen_strength(problem: _Problem, fraction: float, rng: np.random.Generator) -> _Choice:
    n, groups = len(problem.features), strata(problem.targets)
    few = n <= _FEW
    if few and problem.size <= _SMALL:
        parts = validation_folds(groups, _FOLDS, rng) if fraction else []
    else:
        share = max(fraction, _LEAST_FRACTION_OF_FEW) if few and fraction else fraction
        held = validation_rows(groups, share, rng)
        parts = [held] if len(held) else []
    held = np.concatenate([np.zeros(0, np.int64), *parts])
    weights, targets = problem.weights[held], problem.targets[held]
    if not weights.any():
        return _Choice(_DEFAULT_STRENGTH)
    paths = [_path(problem, part, _STRENGTHS[0 if few else 1 :]) for part in parts]
    path: dict[float, float] = {}
    choice, best_scores = _Choice(_DEFAULT_STRENGTH), np.zeros(targets.shape)
    least, rises = np.inf, 0
    for found in zip(*paths, strict=True):
        strength, solution, _ = found[0]
        scores = np.concatenate([scores for _, _, scores in found])
        loss = float(np.average(log_losses(scores, targets, problem.kind), weights=weights))
        path[strength] = loss
        if len(path) == 1 or loss < (1 - _WORTH_MORE) * least:
            least, choice, best_scores = loss, _Choice(strength, solution), scores
        elif (rises := rises + 1) >= (_MOST_RISES_FEW if few else _MOST_RISES):
            break
    validation = {
        "log_loss": float(log_losses(best_scores, targets, problem.kind).mean()),
        "accuracy": float(hits(best_scores, targets, problem.kind).mean()),
        "n": len(held),
    }
    held_out = (held, probabilities(best_scores, problem.kind))
    return replace(choice, validation=validation, path=path, held_out=held_out)


def _path(
    problem: _Problem, held: Rows, strengths: Sequence[float]
) -> Iterator[tuple[float, _Solution, Vector]]:
    # For each strength the solution without the rows held out, and the scores of those.
    kept = np.setdiff1d(np.arange(len(problem.features)), held)
    train, test = problem.rows(kept), problem.features[held]
    solution = None
    for strength in strengths:
        solution = _solved(train, strength, solution, _SEARCH_TOLERANCE)
        yield strength, solution, solution.scores(test)


def hits(scores: Vector, targets: npt.NDArray[Any], kind: HeadKind) -> npt.NDArray[np.bool_]:
    """Whether the class is the right one, or all labels are: (n,)."""
    if kind == "sigmoid":
        return np.asarray(((scores > 0) == (targets > 0.5)).all(axis=1))
    return np.asarray(scores.argmax(axis=1) == targets.argmax(axis=1))


def _solved(
    problem: _Problem, strength: float, start: _Solution | None, tolerance: float = _TOLERANCE
) -> _Solution:
    # L-BFGS in coordinates in which the curvature is about the same in all directions: U = W L, where
    # L L^T = I + C r sum_i w_i x_i x_i^T and r is the mean curvature of a class's loss. The same for intercepts,
    # whose feature is 1 and, the others being centered, has next to nothing to do with them.
    try:
        from scipy.linalg import solve_triangular
        from scipy.optimize import minimize
    except ImportError as error:
        raise MissingExtraError("downstream", "scipy", "fitting a classifier") from error
    x, n_outputs = problem.features, problem.targets.shape[1]
    d = x.shape[1]
    if start is None:
        start = _Solution(np.zeros((n_outputs, d), np.float32), np.zeros(n_outputs, np.float32))
    gram = (x * problem.weights[:, None]).T @ x
    shares = probabilities(start.scores(x), problem.kind)
    curvature = strength * float((shares * (1 - shares)).mean())
    lower = np.linalg.cholesky(np.eye(d) + curvature * gram.astype(np.float64))
    inverse = solve_triangular(lower, np.eye(d), lower=True, check_finite=False)
    unit = 1 / np.sqrt(_INTERCEPT_PENALTY + curvature * float(problem.weights.sum()))
    objective = _Objective(problem, strength, inverse.astype(np.float32), unit)
    first = np.concatenate([(start.weights @ lower).ravel(), start.bias / unit])
    found = minimize(
        objective, first, jac=True, method="L-BFGS-B",
        options={"maxiter": _MOST_STEPS, "maxcor": _MEMORY, "ftol": tolerance, "gtol": 0.0},
    ).x  # fmt: skip
    u, bias = found[: n_outputs * d].reshape(n_outputs, d), found[n_outputs * d :] * unit
    return _Solution((u @ inverse).astype(np.float32), bias.astype(np.float32))


class _Objective:
    # Value and gradient in the coordinates of _solved, in single precision but for the sums.

    def __init__(self, problem: _Problem, strength: float, inverse: Matrix, unit: float) -> None:
        self.problem, self.strength, self.unit = problem, np.float32(strength), unit
        self.features = problem.features @ inverse.T
        # ||W||^2 = ||U L^-1||^2.
        self.penalty = inverse @ inverse.T

    def __call__(self, flat: Vector) -> tuple[float, Vector]:
        k, d = self.problem.targets.shape[1], self.features.shape[1]
        u = flat[: k * d].reshape(k, d).astype(np.float32)
        bias = (flat[k * d :] * self.unit).astype(np.float32)
        pull = u @ self.penalty
        value = 0.5 * float((pull * u).sum(dtype=np.float64))
        value += 0.5 * _INTERCEPT_PENALTY * float((bias * bias).sum(dtype=np.float64))
        gradient, shift = pull, np.float32(_INTERCEPT_PENALTY) * bias
        step = max(64, min(_BLOCK_ROWS, _BLOCK_SCORES // k))
        blocks = [slice(start, start + step) for start in range(0, len(self.features), step)]
        # The pool's map keeps the order; of one block there is nothing to share.
        run = map if len(blocks) == 1 else self.problem.pool.map
        for loss, slope, total in run(lambda rows: self._part(rows, u, bias), blocks):
            value += loss
            gradient += slope
            shift += total
        return value, np.concatenate([gradient.ravel(), shift * self.unit]).astype(np.float64)

    def _part(self, rows: slice, u: Matrix, bias: Matrix) -> tuple[float, Matrix, Matrix]:
        # What some rows add to the value, and to the gradient in weights (K, d) and intercepts (K,).
        problem, features = self.problem, self.features[rows]
        scores = features @ u.T
        scores += bias
        losses, slopes = _losses_and_slopes(
            np.asarray(scores, np.float32), problem.targets[rows], problem.kind
        )
        weights = problem.weights[rows]
        slopes *= (self.strength * weights)[:, None]
        loss = float(self.strength) * float(np.dot(weights.astype(np.float64), losses))
        return loss, slopes.T @ features, slopes.sum(axis=0)


def _losses_and_slopes(scores: Matrix, targets: Matrix, kind: HeadKind) -> tuple[Matrix, Matrix]:
    # Losses (n,) and their slopes in the scores (n, K), for which the scores' memory is used.
    right = (scores * targets).sum(axis=1)
    if kind == "sigmoid":
        decay = np.exp(-np.abs(scores))
        losses = (np.maximum(scores, 0) + np.log1p(decay)).sum(axis=1) - right
        np.divide(np.where(scores >= 0, np.float32(1), decay), 1 + decay, out=scores)
    else:
        peak = scores.max(axis=1, keepdims=True)
        scores -= peak
        np.exp(scores, out=scores)
        total = scores.sum(axis=1)
        losses = np.log(total) + peak[:, 0] - right
        scores /= total[:, None]
    scores -= targets
    return losses, scores
