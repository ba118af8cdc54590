"""Encodes queries and documents with fixed options, for the adapters."""

import os
from collections.abc import Mapping
from typing import Any

from sentenc.encoders.base import Encoder
from sentenc.encoders.encode_options import Vectors
from sentenc.registry import load

Model = str | os.PathLike[str] | Encoder


class Embedder:
    """An encoder with fixed options.

    Args:
        model: An encoder, or an argument of :func:`sentenc.load`.
        truncate_dim: The number of components of a vector. By default those that a similarity compares.
        normalize_embeddings: Scale every vector to unit length.
        batch_size: The number of texts that go through the model together.

    Raises:
        ValueError: An option is out of range.
    """

    def __init__(
        self,
        model: Model = "cse-en",
        *,
        truncate_dim: int | None = None,
        normalize_embeddings: bool = False,
        batch_size: int = 64,
    ) -> None:
        self.encoder = model if isinstance(model, Encoder) else load(model)
        self._model = None if isinstance(model, Encoder) else os.fspath(model)
        self._given: dict[str, Any] = {
            "truncate_dim": truncate_dim, "normalize_embeddings": normalize_embeddings, "batch_size": batch_size,
        }  # fmt: skip
        dim = self.encoder.similarity_dim if truncate_dim is None else truncate_dim
        self._options = self._given | {"truncate_dim": dim}
        # Checks the options.
        self.dim = int(self.documents([]).shape[1])

    def queries(self, texts: list[str]) -> Vectors:
        """Returns the vectors of n queries: shape (n, dim)."""
        return self.encoder.encode_query(texts, **self._options)

    def documents(self, texts: list[str], *, show_progress_bar: bool = False) -> Vectors:
        """Returns the vectors of n documents: shape (n, dim)."""
        return self.encoder.encode_document(texts, show_progress_bar=show_progress_bar, **self._options)

    def texts(
        self, texts: list[str], *, prompt_name: str | None = None, show_progress_bar: bool = False
    ) -> Vectors:
        """Returns the vectors of n texts without a role: shape (n, dim)."""
        return self.encoder.encode(
            texts, prompt_name=prompt_name, show_progress_bar=show_progress_bar, **self._options
        )

    @property
    def name(self) -> str:
        """The model's name, for display."""
        return self._model or str(self.encoder.metadata.get("name") or type(self.encoder).__name__)

    def config(self) -> Mapping[str, Any]:
        """Returns the arguments as JSON values, from which the same object can be made.

        Raises:
            ValueError: The encoder was passed as an object.
        """
        if self._model is None:
            raise ValueError(
                "the encoder was passed as an object, which cannot be written to a configuration: "
                "pass its name or folder instead"
            )
        return {"model": self._model, **self._given}
