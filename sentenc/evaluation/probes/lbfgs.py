"""L-BFGS on many convex problems side by side, with one preconditioner for all."""

import warnings
from collections import deque
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sentenc.errors import NotConvergedWarning

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_MEMORY = 12
_MOST_STEPS = 500
# Bound on sqrt(g' H^-1 g), roughly the largest error of a score: two runs whose scores agree to 1e-8
# give the same class to every text that is not on the fence by less than that.
_TOLERANCE = 1e-8


class Preconditioner(Protocol):
    """An approximate inverse Hessian that all problems share."""

    def solve(self, vectors: Floats) -> Floats:
        """Multiplies vectors of shape (p, k, d) by it."""


class Objective(Protocol):
    """P problems: value (p,) and gradient (p, k, d) of those listed, at their weights (p, k, d)."""

    def __call__(self, weights: Floats, problems: Indices) -> tuple[Floats, Floats]:
        """Evaluates the listed problems."""


def minimize(
    objective: Objective, preconditioner: Preconditioner, start: Floats, most_steps: int | None = None
) -> tuple[Floats, bool]:
    """Minimizes P problems; those that have converged drop out of the batch.

    Args:
        objective: The problems.
        preconditioner: The inverse Hessian that they nearly share.
        start: Weights to start from, shape (P, k, d).
        most_steps: Where to stop, converged or not, without a warning.

    Returns:
        The solutions, shape (P, k, d), and whether all have converged.

    Warns:
        NotConvergedWarning: Some were not solved within 500 steps.
    """
    solution = start.copy()
    active = np.arange(len(start))
    weights = start.copy()
    value, gradient = objective(weights, active)
    memory: deque[tuple[Floats, Floats, Floats]] = deque(maxlen=_MEMORY)
    for _ in range(most_steps or _MOST_STEPS):
        done = _dot(gradient, preconditioner.solve(gradient)) <= _TOLERANCE**2
        direction = _direction(gradient, preconditioner, memory)
        slope = _dot(gradient, direction)
        step, new_value, new_gradient, moved = _search(
            objective, active, weights, value, direction, slope, ~done
        )
        # A problem that no longer goes down by any step is at the floor of double precision.
        done |= ~moved
        solution[active[done]] = weights[done]
        keep = ~done
        if not keep.any():
            return solution, True
        displacement = step[:, None, None] * direction
        change = new_gradient - gradient
        curvature = _dot(displacement, change)
        # 1/0 would poison the recursion; a weight of 0 makes it skip the pair.
        weight = np.where(curvature > 1e-300, 1.0 / np.maximum(curvature, 1e-300), 0.0)
        memory.append((displacement, change, weight))
        weights, value, gradient = weights + displacement, new_value, new_gradient
        if not keep.all():
            active, weights, value, gradient = active[keep], weights[keep], value[keep], gradient[keep]
            memory = deque(((s[keep], y[keep], r[keep]) for s, y, r in memory), maxlen=_MEMORY)
    solution[active] = weights
    if most_steps is None:
        text = f"{len(active)} problems did not converge in {_MOST_STEPS} steps"
        warnings.warn(text, NotConvergedWarning, stacklevel=2)
    return solution, False


def _search(
    objective: Objective,
    active: Indices,
    weights: Floats,
    value: Floats,
    direction: Floats,
    slope: Floats,
    wanted: npt.NDArray[np.bool_],
) -> tuple[Floats, Floats, Floats, npt.NDArray[np.bool_]]:
    """Halves each problem's step until its value goes down enough; nearly always the first will do."""
    step = np.where(wanted, 1.0, 0.0)
    new_value, new_gradient = value.copy(), np.zeros_like(weights)
    open_, moved = np.flatnonzero(wanted), np.zeros(len(active), bool)
    for _ in range(30):
        if not open_.size:
            break
        trial = weights[open_] + step[open_, None, None] * direction[open_]
        new_value[open_], new_gradient[open_] = objective(trial, active[open_])
        # The last steps lower the value by less than its rounding error.
        slack = 1e-13 * np.abs(value[open_])
        enough = new_value[open_] <= value[open_] + 1e-4 * step[open_] * slope[open_] + slack
        moved[open_[enough]] = True
        open_ = open_[~enough]
        step[open_] /= 2
    return step, new_value, new_gradient, moved


def _direction(
    gradient: Floats, preconditioner: Preconditioner, memory: deque[tuple[Floats, Floats, Floats]]
) -> Floats:
    """The two-loop recursion, for every problem at once."""
    q = gradient.copy()
    shares = []
    for displacement, change, weight in reversed(memory):
        share = weight * _dot(displacement, q)
        q -= share[:, None, None] * change
        shares.append(share)
    q = preconditioner.solve(q)
    if memory:
        displacement, change, weight = memory[-1]
        scale = _dot(change, preconditioner.solve(change)) * weight
        q /= np.where(scale > 0, scale, 1.0)[:, None, None]
    for (displacement, change, weight), share in zip(memory, reversed(shares), strict=True):
        q += (share - weight * _dot(change, q))[:, None, None] * displacement
    return -q


def _dot(a: Floats, b: Floats) -> Floats:
    return np.asarray(np.einsum("pkd,pkd->p", a, b))
