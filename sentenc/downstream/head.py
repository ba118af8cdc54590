"""The linear layer that turns features into scores and probabilities."""

from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from sentenc.errors import CheckpointError
from sentenc.solvers.losses import Floats, OutputKind, probabilities


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A linear layer f W^T + b, followed by softmax or sigmoid.

    Attributes:
        kind: "softmax" for one of K classes, "sigmoid" for K independent labels.
        weights: (K, d) float32.
        bias: (K,) float32.

    Raises:
        ValueError: The kind is unknown, shapes do not match, or a value is not finite.
    """

    kind: OutputKind
    weights: npt.NDArray[np.float32]
    bias: npt.NDArray[np.float32]

    def __post_init__(self) -> None:
        if self.kind not in get_args(OutputKind):
            raise ValueError(f"kind is {self.kind!r}, expected 'softmax' or 'sigmoid'")
        if self.weights.ndim != 2 or self.bias.shape != self.weights.shape[:1]:
            raise ValueError(
                f"weights and bias have shapes {self.weights.shape} and {self.bias.shape}, "
                "expected (K, d) and (K,)"
            )
        if not (np.isfinite(self.weights).all() and np.isfinite(self.bias).all()):
            raise ValueError("weights or bias have values that are not finite")

    def scores(self, features: npt.ArrayLike) -> Floats:
        """Returns scores (n, K) of features (n, d)."""
        matrix = np.asarray(features, np.float32)
        return np.asarray(matrix @ self.weights.T, np.float64) + self.bias

    def probabilities(self, features: npt.ArrayLike) -> Floats:
        """Returns probabilities (n, K) of features (n, d); rows add up to 1 for "softmax"."""
        return probabilities(self.scores(features), self.kind)

    def tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Returns the tensors to save: ``weights`` and ``bias``."""
        return {"weights": self.weights, "bias": self.bias}

    @classmethod
    def from_tensors(cls, kind: Any, tensors: dict[str, npt.NDArray[Any]]) -> "LinearHead":
        """Builds a head from the tensors that :meth:`tensors` returned.

        Raises:
            CheckpointError: A tensor is missing or unexpected, or a shape or value is invalid.
        """
        if set(tensors) != {"weights", "bias"}:
            raise CheckpointError(f"the head has tensors {sorted(tensors)}, expected bias and weights")
        try:
            return cls(kind, *(tensors[name].astype(np.float32) for name in ("weights", "bias")))
        except ValueError as error:
            raise CheckpointError(f"the head cannot be used: {error}") from error
