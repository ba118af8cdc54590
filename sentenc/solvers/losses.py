"""Probabilities and cross-entropy losses of scores, for softmax and for sigmoid outputs."""

from typing import Any, Literal

import numpy as np
import numpy.typing as npt

OutputKind = Literal["softmax", "sigmoid"]
Floats = npt.NDArray[np.float64]
Matrix = npt.NDArray[np.float32]


def probabilities(scores: npt.NDArray[Any], kind: OutputKind, axis: int = 1) -> Floats:
    """Returns the softmax of scores over the classes, or the sigmoid of each score, without overflow.

    Args:
        scores: Any shape.
        kind: "softmax" for one of K classes, "sigmoid" for K independent labels.
        axis: The axis of the classes.
    """
    if kind == "sigmoid":
        decay = np.exp(-np.abs(scores))
        return np.asarray(np.where(scores >= 0, 1.0, decay) / (1.0 + decay))
    exponentials = np.exp(scores - scores.max(axis=axis, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=axis, keepdims=True))


def log_losses(scores: Floats, targets: npt.NDArray[Any], kind: OutputKind) -> Floats:
    """Returns the cross-entropy (n,) of every example; for "sigmoid" the sum over the labels.

    Args:
        scores: (n, K).
        targets: (n, K); rows that add up to 1 for "softmax", 0 or 1 in each place for "sigmoid".
        kind: "softmax" or "sigmoid".
    """
    if kind == "sigmoid":
        losses = np.maximum(scores, 0.0) - scores * targets + np.log1p(np.exp(-np.abs(scores)))
        return np.asarray(losses.sum(axis=1))
    peak = scores.max(axis=1, keepdims=True)
    total = np.log(np.exp(scores - peak).sum(axis=1)) + peak[:, 0]
    return np.asarray(total - (scores * targets).sum(axis=1))


def losses_and_slopes(scores: Matrix, targets: Matrix, kind: OutputKind) -> tuple[Matrix, Matrix]:
    """Returns cross-entropies (n,) in single precision, and their gradients by the scores (n, K).

    Args:
        scores: (n, K); overwritten with the gradients.
        targets: (n, K), as in :func:`log_losses`.
        kind: "softmax" or "sigmoid".
    """
    target_scores = (scores * targets).sum(axis=1)
    if kind == "sigmoid":
        decay = np.exp(-np.abs(scores))
        losses = (np.maximum(scores, 0) + np.log1p(decay)).sum(axis=1) - target_scores
        np.divide(np.where(scores >= 0, np.float32(1), decay), 1 + decay, out=scores)
    else:
        peak = scores.max(axis=1, keepdims=True)
        scores -= peak
        np.exp(scores, out=scores)
        total = scores.sum(axis=1)
        losses = np.log(total) + peak[:, 0] - target_scores
        scores /= total[:, None]
    scores -= targets
    return losses, scores
