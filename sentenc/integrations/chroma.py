"""An embedding function of Chroma."""

from typing import Any, Self

from sentenc.errors import MissingExtraError
from sentenc.integrations.embedder import EmbeddingAdapter

try:
    from chromadb.api.types import EmbeddingFunction
    from chromadb.utils.embedding_functions import register_embedding_function
except ImportError as error:
    raise MissingExtraError("chroma", "chromadb", "an adapter of Chroma") from error


@register_embedding_function  # type: ignore[misc, unused-ignore]
class SentencEmbeddingFunction(EmbeddingAdapter, EmbeddingFunction):  # type: ignore[misc, unused-ignore]
    """Embeds the documents and queries of a Chroma collection, with the arguments of :class:`EmbeddingAdapter`.

    Chroma stores its name and arguments with the collection. Import this module before you open the collection
    again, so that Chroma finds the function.
    """

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
        """Returns the arguments, which Chroma stores. A model folder is stored by its absolute path.

        Raises:
            ValueError: The encoder was passed as an object.
        """
        config, loaded_as = self.embedder.config(), self.embedder.encoder.loaded_as
        return config if loaded_as is None else config | {"model": loaded_as[0]}

    @classmethod
    def build_from_config(cls, config: dict[str, Any]) -> Self:
        """Returns the function of stored arguments."""
        return cls(**config)
