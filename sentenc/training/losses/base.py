"""What every training objective is, and the cosine all of them use."""

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from sentenc.nn.bert_states import BertStates

Example = tuple[str, ...]
Encode = Callable[[list[str]], Tensor]


def unit(vectors: Tensor) -> Tensor:
    """Vectors scaled to length one; half precision becomes float32.

    A zero vector stays zero and gets no gradient: its direction is not defined, and dividing by a small
    constant instead would make its gradient swamp those of the whole batch.

    Args:
        vectors: (B, d) float.

    Returns:
        (B, d) float32, or float64 if the vectors are.
    """
    if vectors.dtype in (torch.float16, torch.bfloat16):
        vectors = vectors.float()
    squared = (vectors * vectors).sum(1, keepdim=True)
    # The clamp keeps 1 / length finite; the product with (squared > 0) takes the gradient of zero vectors away.
    return vectors * (squared.clamp(min=1e-20).rsqrt() * (squared > 0))


class Loss(nn.Module, ABC):
    """A loss of a batch of sentence vectors, and what must happen to the batch before.

    Parameters of its own (a map to a teacher's space, say) are trained beside the student's; they are
    no part of the finished encoder, except through :meth:`output_map`.

    Attributes:
        columns: Texts of an example: 1, 2 or 3.
        needs_teacher: Whether :meth:`loss` wants a teacher's vectors of column 0.
        needs_states: Whether the loss is :meth:`state_loss`, of what a transformer computes on the way.
        lookahead: Batches that :meth:`prepare` is to see together (a mega-batch).
        parts: What the last loss was made up of, by name, for the log; empty if it is not made up of parts.
    """

    columns: int = 1
    needs_teacher: bool = False
    needs_states: bool = False
    lookahead: int = 1
    parts: dict[str, float] = {}  # noqa: RUF012 (never changed in place)

    def prepare(
        self, batches: list[list[Example]], encode: Encode, rng: np.random.Generator
    ) -> list[list[tuple[str, ...]]]:
        """Batches as the student is to see them; here unchanged.

        Args:
            batches: Up to ``lookahead`` batches, global ones where several processes train.
            encode: Texts to vectors (n, dim): without dropout, without gradient.
            rng: Source of any random choice. Every process must bring it in the same state.

        Returns:
            As many batches of as many examples; an example may have more texts than before.
        """
        return batches

    @abstractmethod
    def loss(self, vectors: list[Tensor], teacher: Tensor | None) -> Tensor:
        """The mean loss of a batch.

        Args:
            vectors: For each text of a prepared example the vectors (B, d) of all of them; d may be less
                than the student's (see :class:`~sentenc.training.losses.Matryoshka`).
            teacher: (B, t) unit vectors of column 0, if ``needs_teacher``.

        Returns:
            A scalar, finite for finite vectors, zero vectors included.

        Raises:
            ValueError: Shapes or the size of the batch do not fit.
        """

    def state_loss(self, states: BertStates) -> Tensor:
        """The mean loss of a batch from its states, if ``needs_states``.

        Args:
            states: Of this process's share of the batch, every text of an example a row.

        Returns:
            A scalar; the mean over texts, so that the shares of processes average to it.
        """
        raise TypeError(f"{type(self).__name__} has no loss of states")

    def forward(self, vectors: list[Tensor], teacher: Tensor | None = None) -> Tensor:
        """:meth:`loss` in full precision, under any autocast.

        bfloat16 similarities, divided by a temperature, would be off by some hundredths.
        """
        kept = (torch.float32, torch.float64)
        with torch.autocast(vectors[0].device.type, enabled=False):
            return self.loss([v if v.dtype in kept else v.float() for v in vectors], teacher)

    def output_map(self) -> Tensor | None:
        """The map M (dim, t), if the vectors to use are student vectors times M; None if they are not mapped.

        Only dot products matter, so that (M M^T)^(1/2), which keeps the student's dimension, does as well.
        """
        return None
