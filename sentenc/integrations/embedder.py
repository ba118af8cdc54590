"""Encodes queries and documents with fixed options, and the base classes of the adapters that embed texts."""

import os
from typing import Any

from sentenc.encoders.base import Encoder
from sentenc.encoders.encode_options import Vectors
from sentenc.registry import load

Model = str | os.PathLike[str] | Encoder


class Embedder:
    """An encoder with fixed options, which are those of :class:`EmbeddingAdapter`.

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

    def query_numbers(self, text: str) -> list[float]:
        """Returns the vector of a query as a list of ``dim`` numbers."""
        vector: list[float] = self.queries([text])[0].tolist()
        return vector

    def document_numbers(self, texts: list[str], *, show_progress_bar: bool = False) -> list[list[float]]:
        """Returns the vectors of n documents as n lists of ``dim`` numbers."""
        vectors: list[list[float]] = self.documents(texts, show_progress_bar=show_progress_bar).tolist()
        return vectors

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

    def config(self) -> dict[str, Any]:
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


class EmbeddingAdapter:
    """The base class of adapters that embed texts.

    Args:
        model: An encoder, or an argument of :func:`sentenc.load`. What another library writes to a file needs the
            latter.
        truncate_dim: The number of leading components to keep. By default the encoder's ``similarity_dim``.
        normalize_embeddings: Scale every vector to unit length.
        batch_size: The number of texts that go through the model together.

    Attributes:
        embedder: The encoder with these options.

    Raises:
        ValueError: An option is out of range.
    """

    def __init__(
        self,
        model: Model = "cse-en",
        truncate_dim: int | None = None,
        normalize_embeddings: bool = False,
        batch_size: int = 64,
    ) -> None:
        self.embedder = Embedder(
            model, truncate_dim=truncate_dim, normalize_embeddings=normalize_embeddings, batch_size=batch_size
        )


class TopicAdapter(EmbeddingAdapter):
    """The base class of the backends of BERTopic and KeyBERT, which embed documents and words without a role.

    Args:
        model: An encoder, or an argument of :func:`sentenc.load`.
        truncate_dim: The number of leading components to keep. By default the encoder's ``similarity_dim``.
        batch_size: The number of texts that go through the model together.
    """

    def __init__(
        self, model: Model = "cse-en", *, truncate_dim: int | None = None, batch_size: int = 64
    ) -> None:
        super().__init__(model, truncate_dim=truncate_dim, batch_size=batch_size)
        # The base class of both libraries has these attributes.
        self.embedding_model = self.embedder.encoder
        self.word_embedding_model = None

    def embed(self, documents: Any, verbose: bool = False) -> Vectors:
        """Returns the vectors of n texts: shape (n, dim). If ``verbose``, it draws a progress bar."""
        return self.embedder.texts(documents, show_progress_bar=verbose)
