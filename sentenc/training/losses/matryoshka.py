"""Matryoshka representation learning: a loss on the leading components of vectors as well."""

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from sentenc.training.data.examples import Example
from sentenc.training.losses.base import Encode, VectorLoss
from sentenc.validation import check_integer, check_number


class Matryoshka(VectorLoss):
    """The weighted mean of a loss on the first k components, for several k.

    The full width counts only if it is one of ``dims``. Source: Kusupati et al.: "Matryoshka
    Representation Learning", NeurIPS 2022, equation 1.

    Args:
        inner: The loss.
        dims: The numbers of components k, all different.
        weights: A weight for each k, of which only the ratios matter. None weights all k equally.

    Raises:
        TypeError: A dimension or weight is not a number.
        ValueError: Dimensions repeat or are missing, or the weights do not fit.
    """

    def __init__(
        self,
        inner: VectorLoss,
        dims: Sequence[int] = (64, 128, 256),
        weights: Sequence[float] | None = None,
    ) -> None:
        super().__init__()
        self.inner = inner
        self.dims = [check_integer("matryoshka dimension", k) for k in dims]
        if not self.dims or len(set(self.dims)) != len(self.dims):
            raise ValueError(f"matryoshka is {self.dims}, expected one or more different dimensions")
        weights = [1.0] * len(self.dims) if weights is None else weights
        self.weights = [check_number("matryoshka weight", weight, at_least=0) for weight in weights]
        if len(self.weights) != len(self.dims) or sum(self.weights) == 0:
            raise ValueError(
                f"matryoshka_weights is {self.weights}, expected {len(self.dims)} weights with a positive sum"
            )
        self.columns = inner.columns
        self.needs_targets = inner.needs_targets
        self.lookahead = inner.lookahead

    def prepare(
        self, batches: list[list[Example]], encode: Encode, rng: np.random.Generator
    ) -> list[list[Example]]:
        """Prepares the batches as the inner loss does, with full vectors."""
        return self.inner.prepare(batches, encode, rng)

    def loss(self, vectors: list[Tensor], targets: Tensor | None) -> Tensor:
        """Computes the weighted mean of the inner losses; see :meth:`VectorLoss.loss` for the shapes.

        Raises:
            ValueError: The vectors have fewer components than the largest k.
        """
        width = min(column.shape[1] for column in vectors)
        if width < max(self.dims):
            raise ValueError(
                f"the largest matryoshka dimension is {max(self.dims)}, expected at most {width}, the "
                "vectors' dimension"
            )
        losses = [
            weight * self.inner.loss([column[:, :k] for column in vectors], targets)
            for k, weight in zip(self.dims, self.weights, strict=True)
        ]
        total = losses[0]
        for loss in losses[1:]:
            total = total + loss
        return total / sum(self.weights)

    def output_map(self) -> Tensor | None:
        """Returns the inner loss's map, see :meth:`Loss.output_map`."""
        return self.inner.output_map()
