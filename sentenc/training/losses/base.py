"""Base classes of training losses, and the normalization that all of them use."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from sentenc.nn.bert_states import BertStates
from sentenc.training.data.examples import Example

# A function from n texts to their vectors (n, dim).
Encode = Callable[[list[str]], Tensor]


def unit(vectors: Tensor) -> Tensor:
    """Scales vectors to unit length, in at least float32.

    A zero vector stays zero and gets no gradient. Its direction is not defined, and dividing by a small
    constant instead would make its gradient dominate those of the whole batch.

    Args:
        vectors: (B, d) float.

    Returns:
        (B, d) float32, or float64 if the vectors are.
    """
    if vectors.dtype in (torch.float16, torch.bfloat16):
        vectors = vectors.float()
    squared = (vectors * vectors).sum(1, keepdim=True)
    # The clamp keeps 1 / norm finite; the factor (squared > 0) removes the gradient of zero vectors.
    return vectors * (squared.clamp(min=1e-20).rsqrt() * (squared > 0))


class Loss(nn.Module, ABC):
    """A loss of a batch of examples; see its two kinds, :class:`VectorLoss` and :class:`StateLoss`.

    A loss may have parameters, such as a map to the teacher's space. They are trained together with the
    student's, and are not part of the finished encoder, except through :meth:`output_map`.

    Attributes:
        columns: The number of texts in an example: 1, 2 or 3.
        needs_targets: Whether the loss compares vectors with targets, such as a teacher's vectors or labels.
        lookahead: The number of batches (a mega-batch) that :meth:`prepare` processes together.
        parts: The summands of the last loss by name, for the log. Empty for a loss without summands.
    """

    columns: int = 1
    needs_targets: bool = False
    lookahead: int = 1
    parts: dict[str, float] = {}  # noqa: RUF012 (never changed in place)

    def prepare(
        self, batches: list[list[Example]], encode: Encode, rng: np.random.Generator
    ) -> list[list[Example]]:
        """Returns the batches as the student encodes them; by default unchanged.

        Args:
            batches: At most ``lookahead`` batches, with the examples of all processes.
            encode: Encodes n texts as vectors (n, dim), without dropout and gradient.
            rng: Source of all random choices, in the same state in every process.

        Returns:
            The same number of batches with the same numbers of examples. An example may have more texts than
            before.
        """
        return batches

    def output_map(self) -> Tensor | None:
        """Returns the map M (dim, t) by which the finished encoder multiplies its vectors, or None.

        Only dot products matter: (M M^T)^(1/2), which keeps the student's dimension, is equivalent.
        """
        return None


class VectorLoss(Loss):
    """A loss of sentence vectors, or of a classifier's logits."""

    @abstractmethod
    def loss(self, vectors: list[Tensor], targets: Tensor | None) -> Tensor:
        """Computes the mean loss of a batch.

        Args:
            vectors: The student's vectors (B, d) for each of the columns. d may be less than the student's
                dimension (see :class:`~sentenc.training.losses.Matryoshka`).
            targets: (c * B, t) targets of c columns, one column after another, if ``needs_targets``.

        Returns:
            A scalar, finite for finite vectors, zero vectors included.

        Raises:
            ValueError: The shapes do not fit, or the batch is too small.
        """

    def forward(self, vectors: list[Tensor], targets: Tensor | None = None) -> Tensor:
        """Computes :meth:`loss` in full precision, even under autocast.

        Cosines in bfloat16, divided by a temperature, would be wrong by several hundredths.
        """
        full = (torch.float32, torch.float64)
        with torch.autocast(vectors[0].device.type, enabled=False):
            return self.loss([v if v.dtype in full else v.float() for v in vectors], targets)


class StateLoss(Loss):
    """A loss of the layer states of a student that is a BERT."""

    @abstractmethod
    def forward(self, states: BertStates) -> Tensor:
        """Computes the mean loss of a batch.

        Args:
            states: The states of this process's part of the batch, one row for each text.

        Returns:
            A scalar. It is a mean over texts, so that the mean over processes is the mean over the batch.
        """
