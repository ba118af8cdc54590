"""An embedding function of LanceDB."""

from typing import Any

from sentenc.errors import MissingExtraError
from sentenc.integrations.embedder import Embedder
from sentenc.registry import absolute_model

try:
    from lancedb.embeddings import TextEmbeddingFunction, register
    from pydantic import PrivateAttr
except ImportError as error:
    raise MissingExtraError("lancedb", "lancedb", "an adapter of LanceDB") from error


@register("sentenc")  # type: ignore[misc, unused-ignore]
class SentencEmbeddings(TextEmbeddingFunction):  # type: ignore[misc, unused-ignore]
    """Embeds the texts and queries of a LanceDB table; ``get_registry().get("sentenc").create(name="cse-en")``.

    LanceDB stores its name and arguments with the table. Import this module before you open the table again.

    Attributes:
        name: An argument of :func:`sentenc.load`.
        truncate_dim: The number of leading components to keep. By default the encoder's ``similarity_dim``.
        normalize_embeddings: Scale every vector to unit length.
        batch_size: The number of texts that go through the model together.
    """

    name: str = "cse-en"
    truncate_dim: int | None = None
    normalize_embeddings: bool = False
    batch_size: int = 64

    # A model that cannot be loaded is an error at once.
    max_retries: int = 0

    _embedder: Embedder | None = PrivateAttr(default=None)

    @classmethod
    def create(cls, **options: Any) -> Any:
        """Returns a function with these attributes, which LanceDB stores. A model folder becomes an absolute path."""
        if "name" in options:
            options["name"] = absolute_model(options["name"])
        return super().create(**options)

    @property
    def embedder(self) -> Embedder:
        """The encoder with its options, which is loaded when it is first used."""
        if self._embedder is None:
            self._embedder = Embedder(
                self.name,
                truncate_dim=self.truncate_dim,
                normalize_embeddings=self.normalize_embeddings,
                batch_size=self.batch_size,
            )
        return self._embedder

    def generate_embeddings(self, texts: Any, *args: Any, **options: Any) -> list[Any]:
        """Returns the vectors of n documents: n arrays (dim,)."""
        return list(self.embedder.documents(list(texts)))

    def compute_query_embeddings(self, query: Any, *args: Any, **options: Any) -> list[Any]:
        """Returns the vectors of queries: arrays (dim,)."""
        return list(self.embedder.queries(list(self.sanitize_input(query))))

    def ndims(self) -> int:
        """Returns the number of components of a vector."""
        return self.embedder.dim
