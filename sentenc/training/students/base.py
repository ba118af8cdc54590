"""Interface of students: torch modules that are trained and become encoders."""

import os
from abc import ABC, abstractmethod
from typing import Any

from torch import Tensor, nn

from sentenc.encoders.base import Encoder
from sentenc.nn.bert_states import BertStates


class Student(nn.Module, ABC):
    """A differentiable encoder of sentences with the tokenizer that belongs to it."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Length of the vectors."""

    @property
    def loss_dim(self) -> int:
        """Components, from the first, that objectives see: all, unless others are by-products."""
        return self.dim

    @abstractmethod
    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Padded token ids (B, L) int64 and the tokens of each text (B,) int64, on the CPU; L is 1 or more."""

    @abstractmethod
    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Sentence vectors (B, dim) of what :meth:`tokenize` gives."""

    def states(self, ids: Tensor, lengths: Tensor) -> BertStates:
        """What a transformer computes on the way to the vectors of what :meth:`tokenize` gives.

        Raises:
            TypeError: The student is no transformer.
        """
        raise TypeError(f"{type(self).__name__} has no states of layers, expected a BERT student")

    @abstractmethod
    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Every parameter once, under the name of the group that shares a learning rate."""

    def set_progress(self, progress: float) -> None:
        """Tells the share of the training that is over, 0 to 1."""

    def sparse_parameters(self) -> list[nn.Parameter]:
        """Parameters whose gradients are sparse tensors; none unless sparse gradients were asked for."""
        return []

    @abstractmethod
    def encoder(self, output_map: Tensor | None = None, rotate_on: list[str] | None = None) -> Encoder:
        """The student as it is now, in the form that encodes.

        Args:
            output_map: A learned linear map M (dim, t) after the student; the encoder's dot products
                are then those of the mapped vectors.
            rotate_on: Texts on whose principal axes the output is turned, which changes no dot
                product and lets ``truncate_dim`` keep the most of them.
        """

    @abstractmethod
    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        output_map: Tensor | None = None,
        rotate_on: list[str] | None = None,
        encoder: Encoder | None = None,
        metadata: dict[str, Any] | None = None,
        card: str | None = None,
    ) -> None:
        """Writes the finished model to a folder, atomically; arguments as in :meth:`encoder`.

        ``encoder`` is what :meth:`encoder` gave before, for a caller that has it already.
        """
