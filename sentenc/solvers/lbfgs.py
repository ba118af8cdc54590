"""L-BFGS for several convex problems at a time, with a preconditioner that they share."""

import warnings
from collections import deque
from typing import Protocol

import numpy as np
import numpy.typing as npt

from sentenc.errors import NotConvergedWarning

Floats = npt.NDArray[np.float64]
Indices = npt.NDArray[np.int64]

_MEMORY = 12
_MAX_STEPS = 500
# Bound on sqrt(g' H^-1 g), which is about the largest error of a score. Two runs whose scores agree to 1e-8
# predict the same class for every text whose two best scores differ by more than that.
_TOLERANCE = 1e-8


class Preconditioner(Protocol):
    """An approximate inverse Hessian that all problems share."""

    def solve(self, vectors: Floats) -> Floats:
        """Multiplies vectors of shape (p, k, d) by the inverse Hessian."""


class Objective(Protocol):
    """The objective functions of P problems."""

    def __call__(self, weights: Floats, problems: Indices) -> tuple[Floats, Floats]:
        """Returns values (p,) and gradients (p, k, d) of the listed problems at weights (p, k, d)."""


def minimize(
    objective: Objective, preconditioner: Preconditioner, start: Floats, max_steps: int | None = None
) -> tuple[Floats, bool]:
    """Minimizes P problems; converged ones leave the batch.

    Args:
        objective: The problems.
        preconditioner: An inverse Hessian that is close to that of each problem.
        start: Weights to start from, shape (P, k, d).
        max_steps: Number of steps after which to stop without a warning; by default 500, with a warning.

    Returns:
        The solutions, shape (P, k, d), and whether all problems have converged.

    Warns:
        NotConvergedWarning: Some problems did not converge within 500 steps.
    """
    solution = start.copy()
    active = np.arange(len(start))
    weights = start.copy()
    value, gradient = objective(weights, active)
    memory: deque[tuple[Floats, Floats, Floats]] = deque(maxlen=_MEMORY)
    for _ in range(max_steps or _MAX_STEPS):
        done = _dot(gradient, preconditioner.solve(gradient)) <= _TOLERANCE**2
        direction = _direction(gradient, preconditioner, memory)
        slope = _dot(gradient, direction)
        step, new_value, new_gradient, moved = _search(
            objective, active, weights, value, direction, slope, ~done
        )
        # A problem whose value no step decreases has reached the limits of double precision.
        done |= ~moved
        solution[active[done]] = weights[done]
        keep = ~done
        if not keep.any():
            return solution, True
        displacement = step[:, None, None] * direction
        change = new_gradient - gradient
        curvature = _dot(displacement, change)
        # A weight of 0 makes the recursion skip the pair; 1/0 would make all that follows NaN.
        weight = np.where(curvature > 1e-300, 1.0 / np.maximum(curvature, 1e-300), 0.0)
        memory.append((displacement, change, weight))
        weights, value, gradient = weights + displacement, new_value, new_gradient
        if not keep.all():
            active, weights, value, gradient = active[keep], weights[keep], value[keep], gradient[keep]
            memory = deque(((s[keep], y[keep], r[keep]) for s, y, r in memory), maxlen=_MEMORY)
    solution[active] = weights
    if max_steps is None:
        text = f"{len(active)} problems did not converge in {_MAX_STEPS} steps"
        warnings.warn(text, NotConvergedWarning, stacklevel=2)
    return solution, False


def _search(
    objective: Objective,
    active: Indices,
    weights: Floats,
    value: Floats,
    direction: Floats,
    slope: Floats,
    searched: npt.NDArray[np.bool_],
) -> tuple[Floats, Floats, Floats, npt.NDArray[np.bool_]]:
    """Halves each problem's step until its value decreases enough; nearly always the full step does."""
    step = np.where(searched, 1.0, 0.0)
    new_value, new_gradient = value.copy(), np.zeros_like(weights)
    open_, moved = np.flatnonzero(searched), np.zeros(len(active), bool)
    for _ in range(30):
        if not open_.size:
            break
        trial = weights[open_] + step[open_, None, None] * direction[open_]
        new_value[open_], new_gradient[open_] = objective(trial, active[open_])
        # The last steps decrease the value by less than its rounding error.
        slack = 1e-13 * np.abs(value[open_])
        enough = new_value[open_] <= value[open_] + 1e-4 * step[open_] * slope[open_] + slack
        moved[open_[enough]] = True
        open_ = open_[~enough]
        step[open_] /= 2
    return step, new_value, new_gradient, moved


def _direction(
    gradient: Floats, preconditioner: Preconditioner, memory: deque[tuple[Floats, Floats, Floats]]
) -> Floats:
    """Returns the search directions of all problems, by the two-loop recursion."""
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
