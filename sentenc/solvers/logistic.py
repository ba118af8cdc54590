"""Solves one logistic regression with example weights and soft targets, in single precision."""

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sentenc.errors import MissingExtraError
from sentenc.solvers.losses import Floats, Matrix, OutputKind, losses_and_slopes, probabilities

# Relative decrease of the objective at which L-BFGS stops.
TOLERANCE = 2e-5
_MAX_STEPS, _MEMORY = 400, 10
# Rows that a thread processes at a time. The size is fixed because sums must not depend on the number of
# threads, and smaller for many classes because each thread holds the scores of its rows in memory.
_ROWS_PER_BLOCK, _SCORES_PER_BLOCK = 1024, 1 << 18
# The penalty on intercepts. It only keeps the intercept of a label that all examples have finite.
_INTERCEPT_PENALTY = 1e-3


@dataclass(frozen=True, eq=False)
class LogisticProblem:
    """The examples of a logistic regression.

    Attributes:
        features: (n, d); centered, or the intercepts converge slowly.
        targets: (n, K); rows that add up to 1 for "softmax", 0 or 1 in each place for "sigmoid".
        weights: (n,) the weight of each example.
        kind: "softmax" for one of K classes, "sigmoid" for K independent labels.
        pool: Threads, from :func:`~sentenc.threads.worker_threads`.
    """

    features: Matrix
    targets: Matrix
    weights: Matrix
    kind: OutputKind
    pool: ThreadPoolExecutor

    @property
    def size(self) -> int:
        """Number of multiplications needed to compute the scores of all rows."""
        return int(self.features.size * self.targets.shape[1])

    def subset(self, rows: npt.NDArray[np.int64]) -> "LogisticProblem":
        """Returns the problem of some rows."""
        return LogisticProblem(
            self.features[rows], self.targets[rows], self.weights[rows], self.kind, self.pool
        )


@dataclass(frozen=True, eq=False)
class LogisticSolution:
    """The weights (K, d) and the intercepts (K,) that solve a problem."""

    weights: Matrix
    bias: Matrix

    def scores(self, features: Matrix) -> Floats:
        """Returns the scores (n, K) of features (n, d)."""
        return np.asarray(features @ self.weights.T + self.bias, np.float64)


def solve(
    problem: LogisticProblem,
    strength: float,
    start: LogisticSolution | None = None,
    tolerance: float = TOLERANCE,
) -> LogisticSolution:
    """Minimizes ``strength * sum_i w_i loss_i + ||W||^2 / 2`` by L-BFGS.

    The search runs in coordinates in which the curvature is about the same in all directions: U = W L, where
    L L^T = I + C r sum_i w_i x_i x_i^T, and r is the mean curvature of a class's loss. Intercepts are scaled
    likewise; their feature is 1, which centered features hardly interact with.

    Args:
        problem: The examples.
        strength: C, the inverse strength of the penalty.
        start: A solution to start from; zero by default.
        tolerance: Relative decrease of the objective at which the search stops.

    Raises:
        MissingExtraError: SciPy is not installed.
    """
    try:
        from scipy.linalg import solve_triangular
        from scipy.optimize import minimize
    except ImportError as error:
        raise MissingExtraError("downstream", "scipy", "fitting a classifier") from error
    x, n_outputs = problem.features, problem.targets.shape[1]
    d = x.shape[1]
    if start is None:
        start = LogisticSolution(np.zeros((n_outputs, d), np.float32), np.zeros(n_outputs, np.float32))
    gram = (x * problem.weights[:, None]).T @ x
    p = probabilities(start.scores(x), problem.kind)
    curvature = strength * float((p * (1 - p)).mean())
    lower = np.linalg.cholesky(np.eye(d) + curvature * gram.astype(np.float64))
    inverse = solve_triangular(lower, np.eye(d), lower=True, check_finite=False)
    bias_scale = 1 / np.sqrt(_INTERCEPT_PENALTY + curvature * float(problem.weights.sum()))
    objective = _Objective(problem, strength, inverse.astype(np.float32), bias_scale)
    first = np.concatenate([(start.weights @ lower).ravel(), start.bias / bias_scale])
    flat = minimize(
        objective,
        first,
        jac=True,
        method="L-BFGS-B",
        options={"maxiter": _MAX_STEPS, "maxcor": _MEMORY, "ftol": tolerance, "gtol": 0.0},
    ).x
    u, bias = flat[: n_outputs * d].reshape(n_outputs, d), flat[n_outputs * d :] * bias_scale
    return LogisticSolution((u @ inverse).astype(np.float32), bias.astype(np.float32))


class _Objective:
    # Value and gradient in the coordinates of solve(): sums are in double precision, all else in single.

    def __init__(self, problem: LogisticProblem, strength: float, inverse: Matrix, bias_scale: float) -> None:
        self.problem, self.strength, self.bias_scale = problem, np.float32(strength), bias_scale
        self.features = problem.features @ inverse.T
        # ||W||^2 = ||U L^-1||^2.
        self.penalty = inverse @ inverse.T

    def __call__(self, flat: Floats) -> tuple[float, Floats]:
        k, d = self.problem.targets.shape[1], self.features.shape[1]
        u = flat[: k * d].reshape(k, d).astype(np.float32)
        bias = (flat[k * d :] * self.bias_scale).astype(np.float32)
        pull = u @ self.penalty
        value = 0.5 * float((pull * u).sum(dtype=np.float64))
        value += 0.5 * _INTERCEPT_PENALTY * float((bias * bias).sum(dtype=np.float64))
        gradient, bias_gradient = pull, np.float32(_INTERCEPT_PENALTY) * bias
        step = max(64, min(_ROWS_PER_BLOCK, _SCORES_PER_BLOCK // k))
        blocks = [slice(start, start + step) for start in range(0, len(self.features), step)]
        # The pool's map keeps the order. A single block is not worth a thread.
        run = map if len(blocks) == 1 else self.problem.pool.map
        for loss, slope, total in run(lambda rows: self._block(rows, u, bias), blocks):
            value += loss
            gradient += slope
            bias_gradient += total
        return value, np.concatenate([gradient.ravel(), bias_gradient * self.bias_scale]).astype(np.float64)

    def _block(self, rows: slice, u: Matrix, bias: Matrix) -> tuple[float, Matrix, Matrix]:
        # What some rows add to the value, and to the gradients of the weights (K, d) and of the intercepts
        # (K,).
        problem, features = self.problem, self.features[rows]
        scores = features @ u.T
        scores += bias
        losses, slopes = losses_and_slopes(
            np.asarray(scores, np.float32), problem.targets[rows], problem.kind
        )
        weights = problem.weights[rows]
        slopes *= (self.strength * weights)[:, None]
        loss = float(self.strength) * float(np.dot(weights.astype(np.float64), losses))
        return loss, slopes.T @ features, slopes.sum(axis=0)
