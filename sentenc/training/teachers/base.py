"""The interface of a teacher."""

from typing import Any, Literal, Protocol

import numpy.typing as npt


class Teacher(Protocol):
    """A source of vectors that a student learns from.

    Every :class:`~sentenc.encoders.base.Encoder` is a teacher. Ensembles and batched transformers implement
    only this interface: they are not models that a user saves or serves.
    """

    @property
    def dim(self) -> int:
        """Length of the vectors."""

    def encode(
        self, texts: list[str], *, normalize_embeddings: bool = False, on_overflow: Literal["ignore"]
    ) -> npt.NDArray[Any]:
        """Encodes texts.

        Args:
            texts: n texts.
            normalize_embeddings: Scale every vector to unit length. Zero vectors stay zero.
            on_overflow: Always "ignore": a teacher cuts long texts without a warning.

        Returns:
            Shape (n, dim), float32.
        """

    def fingerprint(self) -> str:
        """Returns a short hash of everything that the vectors depend on."""
