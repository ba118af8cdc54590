"""Vectors that stay good when cut: any objective, on the leading components as well."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from sentenc.training.losses.base import Encode, Example, Loss
from sentenc.training.losses.checks import checked_count, checked_number


class Matryoshka(Loss):
    """The weighted mean of an objective's losses on the first k components, for several k.

    The full width counts only if it is one of ``dims``. Source: Kusupati et al.: "Matryoshka
    Representation Learning", NeurIPS 2022, equation 1.

    Args:
        inner: The objective.
        dims: The k, each once.
        weights: One a k; None weighs them alike. Only their ratios matter.
    """

    def __init__(
        self, inner: Loss, dims: Sequence[int] = (64, 128, 256), weights: Sequence[float] | None = None
    ) -> None:
        super().__init__()
        if inner.needs_states:
            raise ValueError("matryoshka shortens sentence vectors, expected an objective of those")
        self.inner = inner
        self.dims = [checked_count("matryoshka dimension", k) for k in dims]
        if not self.dims or len(set(self.dims)) != len(self.dims):
            raise ValueError(f"matryoshka dimensions must be one or more, each once; got {self.dims}")
        weights = [1.0] * len(self.dims) if weights is None else weights
        self.weights = [checked_number("matryoshka weight", weight, 0) for weight in weights]
        if len(self.weights) != len(self.dims) or sum(self.weights) == 0:
            raise ValueError(
                f"matryoshka weights must be {len(self.dims)}, not all 0, as dimensions are; got {self.weights}"
            )
        self.columns = inner.columns
        self.needs_teacher = inner.needs_teacher
        self.lookahead = inner.lookahead

    def prepare(
        self, batches: list[list[Example]], encode: Encode, rng: np.random.Generator
    ) -> list[list[tuple[str, ...]]]:
        """As the inner objective does, on full vectors."""
        return self.inner.prepare(batches, encode, rng)

    def loss(self, vectors: list[Tensor], teacher: Tensor | None) -> Tensor:
        """The weighted mean of the inner losses; shapes as there.

        Raises:
            ValueError: Vectors have fewer components than the largest k.
        """
        width = min(column.shape[1] for column in vectors)
        if width < max(self.dims):
            raise ValueError(f"matryoshka dimensions go to {max(self.dims)}, vectors have {width} components")
        losses = [
            weight * self.inner.loss([column[:, :k] for column in vectors], teacher)
            for k, weight in zip(self.dims, self.weights, strict=True)
        ]
        total = losses[0]
        for loss in losses[1:]:
            total = total + loss
        return total / sum(self.weights)

    def output_map(self) -> Tensor | None:
        """The inner objective's."""
        return self.inner.output_map()
