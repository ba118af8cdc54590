"""A linear layer with probabilities on top: what every classifier here ends in."""

from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from sentenc.errors import CheckpointError

HeadKind = Literal["softmax", "sigmoid"]
Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LinearHead:
    """Scores f W^T + b of features f, and probabilities from them.

    Attributes:
        kind: "softmax", one of K classes; or "sigmoid", any of K labels.
        weights: (K, d) float32.
        bias: (K,) float32.

    Raises:
        ValueError: Kind or shapes are not those, or a value is not finite.
    """

    kind: HeadKind
    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.kind not in get_args(HeadKind):
            raise ValueError(f"kind is {self.kind!r}, expected 'softmax' or 'sigmoid'")
        if self.weights.ndim != 2 or self.bias.shape != self.weights.shape[:1]:
            raise ValueError(
                f"weights and bias have shapes {self.weights.shape} and {self.bias.shape}, expected (K, d) and (K,)"
            )
        if not (np.isfinite(self.weights).all() and np.isfinite(self.bias).all()):
            raise ValueError("weights or bias have values that are not finite")

    def scores(self, features: npt.ArrayLike) -> Floats:
        """Scores (n, K) of features (n, d)."""
        rows = np.asarray(features, np.float32)
        return np.asarray(rows @ self.weights.T, np.float64) + self.bias

    def probabilities(self, features: npt.ArrayLike) -> Floats:
        """Probabilities (n, K) of features (n, d); rows add up to 1 for "softmax"."""
        return probabilities(self.scores(features), self.kind)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """What a file keeps: ``weights`` and ``bias``."""
        return {"weights": self.weights, "bias": self.bias}

    @classmethod
    def from_tensors(cls, kind: Any, tensors: dict[str, npt.NDArray[Any]]) -> "LinearHead":
        """The head that :meth:`tensors` came from.

        Raises:
            CheckpointError: Tensors are missing, unexpected or misshapen.
        """
        if set(tensors) != {"weights", "bias"}:
            raise CheckpointError(f"the head has tensors {sorted(tensors)}, expected bias and weights")
        try:
            return cls(kind, *(tensors[name].astype(np.float32) for name in ("weights", "bias")))
        except ValueError as error:
            raise CheckpointError(f"the head cannot be used: {error}") from error


def probabilities(scores: Floats, kind: HeadKind) -> Floats:
    """Softmax of scores (n, K) over K, or the sigmoid of each; no score is too large for it."""
    if kind == "sigmoid":
        decay = np.exp(-np.abs(scores))
        return np.asarray(np.where(scores >= 0, 1.0, decay) / (1.0 + decay))
    shares = np.exp(scores - scores.max(axis=1, keepdims=True))
    return np.asarray(shares / shares.sum(axis=1, keepdims=True))


def log_losses(scores: Floats, targets: npt.NDArray[Any], kind: HeadKind) -> Floats:
    """Cross-entropy (n,) of every row: with the shares of K classes, or of K yes-or-no labels, summed.

    Args:
        scores: (n, K).
        targets: (n, K); rows of shares that add up to 1 for "softmax", 0 or 1 each for "sigmoid".
        kind: Which.
    """
    if kind == "sigmoid":
        losses = np.maximum(scores, 0.0) - scores * targets + np.log1p(np.exp(-np.abs(scores)))
        return np.asarray(losses.sum(axis=1))
    peak = scores.max(axis=1, keepdims=True)
    total = np.log(np.exp(scores - peak).sum(axis=1)) + peak[:, 0]
    return np.asarray(total - (scores * targets).sum(axis=1))
