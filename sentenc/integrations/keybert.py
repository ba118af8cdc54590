"""A backend of KeyBERT."""

from typing import Any

from sentenc.encoders.encode_options import Vectors
from sentenc.errors import MissingExtraError
from sentenc.integrations.embedder import Embedder, Model

try:
    from keybert.backend import BaseEmbedder
except ImportError as error:
    raise MissingExtraError("keybert", "keybert", "an adapter of KeyBERT") from error


class SentencBackend(BaseEmbedder):  # type: ignore[misc, unused-ignore]
    """Embeds documents and words for KeyBERT, all without a role.

    Args:
        model: An encoder, or an argument of :func:`sentenc.load`.
        truncate_dim: The number of components of a vector. By default those that a similarity compares.
        batch_size: The number of texts that go through the model together.
    """

    def __init__(
        self, model: Model = "cse-en", *, truncate_dim: int | None = None, batch_size: int = 64
    ) -> None:
        self.embedder = Embedder(model, truncate_dim=truncate_dim, batch_size=batch_size)
        super().__init__(self.embedder.encoder)

    def embed(self, documents: Any, verbose: bool = False) -> Vectors:
        """Returns the vectors of n texts: shape (n, dim). If ``verbose``, it draws a progress bar."""
        return self.embedder.texts(documents, show_progress_bar=verbose)
