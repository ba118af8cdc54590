"""An embedding function of Chroma."""

from typing import Any, Self

from sentenc.errors import MissingExtraError
from sentenc.integrations.embedder import Embedder, Model

try:
    from chromadb.api.types import EmbeddingFunction
    from chromadb.utils.embedding_functions import register_embedding_function
except ImportError as error:
    raise MissingExtraError("chroma", "chromadb", "an adapter of Chroma") from error


@register_embedding_function  # type: ignore[misc, unused-ignore]
class SentencEmbeddingFunction(EmbeddingFunction):  # type: ignore[misc, unused-ignore]
    """Embeds the documents and queries of a Chroma collection.

    Chroma stores its name and arguments with the collection. Import this module before you open the collection
    again, so that Chroma finds the function.

    Args:
        model: An encoder, or an argument of :func:`sentenc.load`. Chroma can store only the latter.
        truncate_dim: The number of components of a vector. By default those that a similarity compares.
        normalize_embeddings: Scale every vector to unit length.
        batch_size: The number of texts that go through the model together.
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

    def __call__(self, input: Any) -> Any:
        """Returns the vectors of n documents: n arrays (dim,)."""
        return list(self.embedder.documents(input))

    def embed_query(self, input: Any) -> Any:
        """Returns the vectors of n queries: n arrays (dim,)."""
        return list(self.embedder.queries(input))

    @staticmethod
    def name() -> str:
        """Returns the name by which Chroma stores the function."""
        return "sentenc"

    def default_space(self) -> Any:
        """Returns the metric of a new collection."""
        return "cosine"

    def get_config(self) -> dict[str, Any]:
        """Returns the arguments, which Chroma stores.

        Raises:
            ValueError: The encoder was passed as an object.
        """
        return dict(self.embedder.config())

    @classmethod
    def build_from_config(cls, config: dict[str, Any]) -> Self:
        """Returns the function of stored arguments."""
        return cls(**config)
