"""Logistic regression to convergence, for all folds of a task at once.

The problems of a task differ only in which rows they train on. So the features are held once, a problem
is a mask over the rows, and one pass over the features evaluates every problem: two matrix products
whose width is the number of problems. All problems are solved by L-BFGS, preconditioned with the Hessian
of the problem on all rows, which is close to every fold's own: a handful of passes each.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from sentenc.evaluation.probes.lbfgs import minimize
from sentenc.evaluation.probes.preconditioner import Curvature

Floats = npt.NDArray[np.float64]
Labels = npt.NDArray[np.int64]
Masks = npt.NDArray[np.bool_]

# Elements of a block of scores: small enough for a core's cache. Results must not depend on the
# number of threads, so the blocks that are summed must not either.
_BLOCK_ELEMENTS = 1 << 17
# Steps towards a new strength's solution with the curvature of the last one, before it is computed anew:
# for a single problem many steps are cheaper than that, for a batch of folds they are not.
_STALE_STEPS, _STALE_STEPS_ALONE = 8, 100


@dataclass(frozen=True, eq=False)
class Design:
    """The features and labels that all problems share.

    Attributes:
        features: Shape (n, d + 1), float64; the last column is 1, for the intercepts.
        labels: Shape (n,), int64 in 0..n_classes-1.
        n_classes: 2 or more; with 2, one set of weights suffices and is used.
    """

    features: Floats
    labels: Labels
    n_classes: int

    @property
    def n_outputs(self) -> int:
        """Sets of weights of a problem."""
        return 1 if self.n_classes == 2 else self.n_classes

    @classmethod
    def of(cls, features: npt.ArrayLike, labels: Labels, n_classes: int) -> "Design":
        """Adds the column of ones to features of shape (n, d)."""
        rows = np.asarray(features)
        out = np.ones((len(rows), rows.shape[1] + 1))
        out[:, :-1] = rows
        return cls(out, labels, n_classes)


def solve_path(
    design: Design, masks: Masks, strengths: Sequence[float], pool: ThreadPoolExecutor
) -> Iterator[tuple[float, Floats]]:
    """Solves P problems for each of several regularization strengths.

    Minimizes ``C * sum_i loss_i + 0.5 * ||W||^2`` over the rows of each mask, the intercepts being
    free: the objective of scikit-learn's ``LogisticRegression(C=C)``.

    Args:
        design: Features and labels.
        masks: Shape (P, n), True where a problem trains.
        strengths: Values of C, rising: each starts from the solution of the one before.
        pool: From :func:`~sentenc.threads.worker_threads`.

    Yields:
        C and the weights of all problems, shape (P, n_outputs, d + 1).
    """
    everything: Masks = np.any(masks, axis=0)
    alone = len(masks) == 1
    shape = (design.n_outputs, design.features.shape[1])
    reference, weights = np.zeros((1, *shape)), np.zeros((len(masks), *shape))

    def curvature(strength: float, coupled: bool = True) -> Curvature:
        return Curvature(design.features, everything, reference[0], strength, pool, coupled)

    # At equal probabilities the classes hardly interact, so the cheap form will do to begin with.
    preconditioner = curvature(strengths[0], coupled=False)
    for at, strength in enumerate(strengths):
        whole = _Objective(design, everything[None], strength, pool)
        before = reference
        stale = _STALE_STEPS_ALONE if alone and at > 0 else _STALE_STEPS
        reference, converged = minimize(whole, preconditioner, before, most_steps=stale)
        if not (alone and converged):
            preconditioner = curvature(strength)
            reference, _ = minimize(whole, preconditioner, reference)
        if alone:
            weights = reference
        else:
            # What a fold differed by from the whole at the last C is the best guess for this one.
            folds = _Objective(design, masks, strength, pool)
            weights, _ = minimize(folds, preconditioner, weights + (reference - before))
        yield strength, weights


def predict(design: Design, weights: Floats, rows: npt.NDArray[np.int64]) -> Labels:
    """Classes of some rows under one problem's weights (n_outputs, d + 1): shape (len(rows),).

    Of classes that score the same, the first wins.
    """
    scores = design.features[rows] @ weights.T
    if design.n_classes == 2:
        return (scores[:, 0] > 0).astype(np.int64)
    return np.asarray(scores.argmax(axis=1), np.int64)


class _Objective:
    """Value and gradient of P masked problems."""

    def __init__(self, design: Design, masks: Masks, strength: float, pool: ThreadPoolExecutor) -> None:
        self._design = design
        self._masks = masks
        self._strength = strength
        self._pool = pool
        n = len(design.labels)
        step = max(64, _BLOCK_ELEMENTS // (len(masks) * design.n_outputs))
        self._blocks = [slice(start, min(start + step, n)) for start in range(0, n, step)]

    def __call__(self, weights: Floats, problems: npt.NDArray[np.int64]) -> tuple[Floats, Floats]:
        """Value (p,) and gradient (p, n_outputs, d + 1) of some of the problems at ``weights``."""
        one = self._binary if self._design.n_classes == 2 else self._multinomial
        penalised = weights.copy()
        penalised[:, :, -1] = 0.0
        value = 0.5 * np.einsum("pkd,pkd->p", penalised, penalised)
        gradient = penalised
        # Executor.map keeps the order, so that the sum below is the same for any number of threads.
        for losses, slopes in self._pool.map(lambda rows: one(weights, problems, rows), self._blocks):
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
        right = scores[:, labels, each]
        np.exp(scores, out=scores)
        total = scores.sum(axis=1)
        losses = np.log(total) - right
        scores /= total[:, None]
        scores[:, labels, each] -= 1.0
        scores *= mask[:, None]
        slopes = (scores.reshape(p * k, -1) @ features).reshape(p, k, d)
        return np.einsum("pn,pn->p", losses, mask), slopes
