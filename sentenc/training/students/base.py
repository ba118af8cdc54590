"""Interfaces of students: PyTorch modules that are trained together with their tokenizer."""

import os
from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt
from torch import Tensor, nn

from sentenc.encoders.base import Encoder
from sentenc.nn.bert_states import BertStates
from sentenc.training.data.examples import TextRole


class Student(nn.Module, ABC):
    """A module to train, with its tokenizer: from texts to padded token ids, and from these to vectors."""

    @property
    @abstractmethod
    def dim(self) -> int:
        """Number of components of an output vector."""

    @property
    def loss_dim(self) -> int:
        """Number of leading components that the losses see; all of them by default."""
        return self.dim

    @abstractmethod
    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Returns padded token ids (B, L) int64, L at least 1, and token counts (B,) int64, on the CPU."""

    @abstractmethod
    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Returns output vectors (B, dim) for the output of :meth:`tokenize`."""

    @abstractmethod
    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Returns every trained parameter once, by the name of the group that shares a learning rate."""

    def set_progress(self, progress: float) -> None:
        """Sets the training progress, from 0 to 1."""

    def sparse_parameters(self) -> list[nn.Parameter]:
        """Returns the parameters whose gradients are sparse tensors; none by default."""
        return []


class EncoderStudent(Student):
    """A student that maps texts to sentence vectors, and can be turned into an :class:`~sentenc.Encoder`."""

    @property
    def space(self) -> str | None:
        """The space that a trained model states, if the student starts from one; else None."""
        return None

    def rotate(self, matrix: npt.NDArray[np.floating]) -> bool:
        """Multiplies the vectors (B, loss_dim) that the losses see by a rotation, in place.

        Args:
            matrix: An orthogonal matrix (loss_dim, loss_dim).

        Returns:
            Whether the student can be rotated. False leaves it unchanged.
        """
        return False

    def prompt(self, role: TextRole) -> str:
        """Returns the text that is put before texts of a role; none by default."""
        return ""

    @abstractmethod
    def encoder(self, output_map: Tensor | None = None, rotate_on: list[str] | None = None) -> Encoder:
        """Returns an encoder with the current weights, in float32.

        Args:
            output_map: A learned linear map M (dim, t) behind the student. The encoder's dot products are
                those of the mapped vectors.
            rotate_on: Texts whose principal axes become the axes of the output. A rotation changes no dot
                product, and makes the leading components the most informative for ``truncate_dim``.
        """

    def finished(self, output_map: Tensor | None = None, rotate_on: list[str] | None = None) -> Encoder:
        """Returns the encoder as :meth:`save` writes it; the arguments are those of :meth:`encoder`."""
        return self.encoder(output_map, rotate_on)

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
        """Writes the finished encoder to a folder, atomically.

        Args:
            folder: The model folder.
            output_map: See :meth:`encoder`.
            rotate_on: See :meth:`encoder`.
            encoder: The result of :meth:`finished`, if the caller has it already.
            metadata: JSON values, stored with the model.
            card: Content of ``README.md``.
        """


class TransformerStudent(Student):
    """A student that is a transformer, whose layers can be compared with a teacher's."""

    @abstractmethod
    def states(self, ids: Tensor, lengths: Tensor) -> BertStates:
        """Returns embeddings, hidden states and attention scores for the output of :meth:`tokenize`."""
