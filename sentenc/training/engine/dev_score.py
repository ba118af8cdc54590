"""The result of an evaluation during training."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class DevScore:
    """Several scores of a student, and their weighted mean.

    Attributes:
        mean: The weighted mean, which selects the weights; higher is better.
        parts: Every score by its name.
    """

    mean: float
    parts: Mapping[str, float]

    def __str__(self) -> str:
        """Returns the mean, and the parts if there are several."""
        parts = ", ".join(f"{name} {score:.2f}" for name, score in self.parts.items())
        return f"{self.mean:.2f}" + (f" ({parts})" if len(self.parts) > 1 else "")
