"""Solves logistic regressions on several subsets of the rows (folds) at the same time, to convergence.

The problems differ only in their training rows. The features are therefore stored once, a problem is a mask
over the rows, and one pass over the features evaluates all problems by two matrix products whose width is the
number of problems. L-BFGS solves them with the Hessian of the problem on all rows as its preconditioner. That
Hessian is close to the one of each fold, so that a few passes are enough.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sentenc.solvers.lbfgs import minimize
from sentenc.solvers.preconditioner import HessianPreconditioner

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Masks = npt.NDArray[np.bool_]

# Scores that a thread computes at a time: few enough for a core's cache. The number is fixed because sums
# must not depend on the number of threads.
_SCORES_PER_BLOCK = 1 << 17
# Steps with the Hessian of the previous strength before a new one is computed. For a single problem, many
# steps are cheaper than a new Hessian; for a batch of folds they are not.
_STALE_STEPS, _STALE_STEPS_SINGLE = 8, 100


@dataclass(frozen=True, eq=False)
class Design:
    """The features and labels that all problems share.

    Attributes:
        features: Shape (n, d + 1), float64; the last column is 1 and belongs to the intercepts.
        labels: Shape (n,), int64 in 0..n_classes-1.
        n_classes: Number of classes, at least 2. Two classes share one set of weights.
    """

    features: Floats
    labels: Labels
    n_classes: int

    @property
    def n_outputs(self) -> int:
        """Number of weight vectors of a problem."""
        return 1 if self.n_classes == 2 else self.n_classes

    @classmethod
    def of(cls, features: npt.ArrayLike, labels: Labels, n_classes: int) -> "Design":
        """Builds a design from features of shape (n, d), by adding the column of ones."""
        rows = np.asarray(features)
        out = np.ones((len(rows), rows.shape[1] + 1))
        out[:, :-1] = rows
        return cls(out, labels, n_classes)


def solve_path(
    design: Design, masks: Masks, strengths: Sequence[float], pool: ThreadPoolExecutor
) -> Iterator[tuple[float, Floats]]:
    """Solves P problems for each of several regularization strengths.

    Minimizes ``C * sum_i loss_i + 0.5 * ||W||^2`` over the rows of each mask, without a penalty on the
    intercepts. This is the objective of scikit-learn's ``LogisticRegression(C=C)``.

    Args:
        design: Features and labels.
        masks: Shape (P, n), True for the training rows of each problem.
        strengths: Ascending values of C; each problem starts from its solution for the previous value.
        pool: From :func:`~sentenc.threads.worker_threads`.

    Yields:
        Each C, together with the weights of all problems, shape (P, n_outputs, d + 1).
    """
    everything: Masks = np.any(masks, axis=0)
    is_single = len(masks) == 1
    shape = (design.n_outputs, design.features.shape[1])
    reference, weights = np.zeros((1, *shape)), np.zeros((len(masks), *shape))

    def hessian(strength: float, coupled: bool = True) -> HessianPreconditioner:
        return HessianPreconditioner(design.features, everything, reference[0], strength, pool, coupled)

    # At equal probabilities the classes hardly interact, so that the cheap form is good enough for the start.
    preconditioner = hessian(strengths[0], coupled=False)
    for at, strength in enumerate(strengths):
        whole = _Objective(design, everything[None], strength, pool)
        before = reference
        stale = _STALE_STEPS_SINGLE if is_single and at > 0 else _STALE_STEPS
        reference, converged = minimize(whole, preconditioner, before, max_steps=stale)
        if not (is_single and converged):
            preconditioner = hessian(strength)
            reference, _ = minimize(whole, preconditioner, reference)
        if is_single:
            weights = reference
        else:
            # The best guess for a fold: it differs from the problem on all rows as it did at the previous C.
            folds = _Objective(design, masks, strength, pool)
            weights, _ = minimize(folds, preconditioner, weights + (reference - before))
        yield strength, weights


def predict(design: Design, weights: Floats, rows: npt.NDArray[np.int64]) -> Labels:
    """Predicts the classes of some rows by the weights (n_outputs, d + 1) of one problem: shape (len(rows),).

    Among classes with equal scores, the first one is predicted.
    """
    scores = design.features[rows] @ weights.T
    if design.n_classes == 2:
        return (scores[:, 0] > 0).astype(np.int64)
    return np.asarray(scores.argmax(axis=1), np.int64)


class _Objective:
    """The values and gradients of P masked problems."""

    def __init__(self, design: Design, masks: Masks, strength: float, pool: ThreadPoolExecutor) -> None:
        self._design = design
        self._masks = masks
        self._strength = strength
        self._pool = pool
        n = len(design.labels)
        step = max(64, _SCORES_PER_BLOCK // (len(masks) * design.n_outputs))
        self._blocks = [slice(start, min(start + step, n)) for start in range(0, n, step)]

    def __call__(self, weights: Floats, problems: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Returns values (p,) and gradients (p, n_outputs, d + 1) of the listed problems."""
        block = self._binary if self._design.n_classes == 2 else self._multinomial
        penalized = weights.copy()
        penalized[:, :, -1] = 0.0
        value = 0.5 * np.einsum("pkd,pkd->p", penalized, penalized)
        gradient = penalized
        # Executor.map keeps the order, so that the sum does not depend on the number of threads.
        for losses, slopes in self._pool.map(lambda rows: block(weights, problems, rows), self._blocks):
            value += self._strength * losses
            gradient += self._strength * slopes
        return value, gradient

    def _binary(self, weights: Floats, problems: npt.NDArray[np.int64], rows: slice) -> tuple[Floats, Floats]:
        features, positive = self._design.features[rows], self._design.labels[rows] == 1
        mask = self._masks[problems, rows]
        scores = weights[:, 0] @ features.T
        decay = np.exp(-np.abs(scores))
        losses = np.log1p(decay) + np.maximum(scores, 0.0) - scores * positive
        residual = np.where(scores >= 0, 1.0, decay) / (1.0 + decay) - positive
        residual *= mask
        return np.einsum("pn,pn->p", losses, mask), (residual @ features)[:, None]

    def _multinomial(
        self, weights: Floats, problems: npt.NDArray[np.int64], rows: slice
    ) -> tuple[Floats, Floats]:
        features, labels = self._design.features[rows], self._design.labels[rows]
        mask = self._masks[problems, rows]
        p, k, d = weights.shape
        scores = (weights.reshape(p * k, d) @ features.T).reshape(p, k, -1)
        scores -= scores.max(axis=1, keepdims=True)
        each = np.arange(len(labels))
        label_scores = scores[:, labels, each]
        np.exp(scores, out=scores)
        total = scores.sum(axis=1)
        losses = np.log(total) - label_scores
        scores /= total[:, None]
        scores[:, labels, each] -= 1.0
        scores *= mask[:, None]
        slopes = (scores.reshape(p * k, -1) @ features).reshape(p, k, d)
        return np.einsum("pn,pn->p", losses, mask), slopes
