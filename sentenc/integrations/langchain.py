"""Embeddings and a vector store of LangChain."""

import os
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Self

import numpy as np

from sentenc.errors import MissingExtraError
from sentenc.integrations.embedder import EmbeddingAdapter, Model
from sentenc.integrations.index_items import stored_ids, upsert
from sentenc.retrieval.index import Index
from sentenc.retrieval.items import Hit, Item, Payload

try:
    from langchain_core.documents import Document
    from langchain_core.embeddings import Embeddings
    from langchain_core.vectorstores import VectorStore
    from langchain_core.vectorstores.utils import maximal_marginal_relevance
except ImportError as error:
    raise MissingExtraError("langchain", "langchain-core", "an adapter of LangChain") from error


class SentencEmbeddings(EmbeddingAdapter, Embeddings):  # type: ignore[misc, unused-ignore]
    """Embeds texts for LangChain, queries and documents each with the prompts of their role.

    It has the arguments of :class:`EmbeddingAdapter`.
    """

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Returns the vectors of n documents, each with ``dim`` numbers."""
        return self.embedder.document_numbers(texts)

    def embed_query(self, text: str) -> list[float]:
        """Returns the vector of a query, with ``dim`` numbers."""
        return self.embedder.query_numbers(text)


class SentencVectorStore(VectorStore):  # type: ignore[misc, unused-ignore]
    """A vector store of LangChain over an :class:`~sentenc.Index`.

    Searches use vectors and words, as :meth:`sentenc.Index.search` does by default, and take its options ``mode``,
    ``alpha``, ``rerank`` and ``candidates``. ``filter`` is a filter on metadata; see
    :mod:`sentenc.retrieval.filters`. Relevance scores are cosines.

    Args:
        index: The index, or an argument of :class:`~sentenc.Index` for an empty one.
        embedding: Embeds the texts of an index without an encoder.
    """

    def __init__(self, index: Index | Model = "cse-en", embedding: Embeddings | None = None) -> None:
        self.index = index if isinstance(index, Index) else Index(index)
        if self.index.encoder is None and embedding is None:
            raise ValueError("the index has no encoder: pass embedding")
        self._embedding = None if self.index.encoder is not None else embedding

    @property
    def embeddings(self) -> Embeddings:
        """The embeddings of the store."""
        encoder = self.index.encoder
        return self._embedding if encoder is None else SentencEmbeddings(encoder, truncate_dim=self.index.dim)

    def add_texts(
        self,
        texts: Iterable[str],
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: Sequence[str | None] | None = None,
        **options: Any,
    ) -> list[str]:
        """Adds n texts, and replaces those whose id the store contains.

        Args:
            texts: n texts.
            metadatas: n JSON objects.
            ids: n ids; new ones by default, and where an id is None.
            **options: Ignored.

        Returns:
            The n ids.
        """
        rows = list(texts)
        names = [name or str(uuid.uuid4()) for name in (ids or [None] * len(rows))]
        for name, values in (("metadatas", metadatas), ("ids", ids)):
            if values is not None and len(values) != len(rows):
                raise ValueError(f"got {len(values)} {name} for {len(rows)} texts, expected as many")
        if len(set(names)) != len(names):
            raise ValueError("ids has an id twice, expected distinct ids")
        vectors = None if self._embedding is None else self._embedding.embed_documents(rows)
        payloads: list[Payload] = [None] * len(rows) if metadatas is None else list(metadatas)
        upsert(self.index, names, rows, payloads, vectors)
        return names

    def delete(self, ids: list[str] | None = None, **options: Any) -> bool:
        """Deletes texts by their ids, or all if ``ids`` is None. Returns whether any was deleted."""
        names = [item.id for item in self.index] if ids is None else stored_ids(self.index, ids)
        return self.index.delete(names) > 0

    def get_by_ids(self, ids: Sequence[str], /) -> list[Document]:
        """Returns the documents of the ids that the store contains."""
        return [_document(item) for item in self.index.get(stored_ids(self.index, ids))]

    def similarity_search(self, query: str, k: int = 4, **options: Any) -> list[Document]:
        """Returns the k best documents."""
        return [_document(hit) for hit in self._search(query, k, **options)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        """Returns the k best documents with the scores of :class:`~sentenc.Hit`; higher is better."""
        return [(_document(hit), hit.score) for hit in self._search(query, k, **options)]

    def similarity_search_by_vector(
        self, embedding: list[float], k: int = 4, **options: Any
    ) -> list[Document]:
        """Returns the k documents with the nearest vectors."""
        return [_document(hit) for hit in self._search(np.asarray(embedding, np.float32), k, **options)]

    def max_marginal_relevance_search(
        self, query: str, k: int = 4, fetch_k: int = 20, lambda_mult: float = 0.5, **options: Any
    ) -> list[Document]:
        """Returns k of the ``fetch_k`` best documents that are relevant and differ from each other.

        Args:
            query: The query.
            k: The number of documents.
            fetch_k: The number of documents to choose from.
            lambda_mult: The weight of relevance, 0 to 1; the rest is that of the difference.
            **options: Those of a search.
        """
        embeddings = self.embeddings
        hits = self._search(query, fetch_k, **options)
        vectors = embeddings.embed_documents([hit.passage or "" for hit in hits])
        chosen = maximal_marginal_relevance(
            np.asarray(embeddings.embed_query(query)), vectors, lambda_mult=lambda_mult, k=k
        )
        return [_document(hits[i]) for i in chosen]

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        *,
        ids: list[str] | None = None,
        **options: Any,
    ) -> Self:
        """Makes a store of n texts.

        Args:
            texts: n texts.
            embedding: :class:`SentencEmbeddings`, whose encoder becomes that of the index, or other embeddings.
            metadatas: n JSON objects.
            ids: n ids.
            **options: Those of :class:`~sentenc.Index`.
        """
        if isinstance(embedding, SentencEmbeddings):
            embedder = embedding.embedder
            store = cls(Index(embedder.encoder, **{"dim": embedder.dim} | options))
        else:
            dim = len(embedding.embed_query("a"))
            store = cls(Index(dim=dim, **options), embedding)
        store.add_texts(texts, metadatas, ids=ids)
        return store

    def save(self, folder: str | os.PathLike[str] | None = None) -> None:
        """Writes the index; ``SentencVectorStore(sentenc.Index.open(folder))`` opens it."""
        self.index.save(folder)

    def _search(
        self, query: Any, k: int, filter: Mapping[str, Any] | None = None, **options: Any
    ) -> list[Hit]:
        if k < 1 or not len(self.index):
            return []
        if isinstance(query, str) and self._embedding is not None:
            vectors = [self._embedding.embed_query(query)]
            hits: list[Hit] = self.index.search([query], k, vectors=vectors, where=filter, **options)[0]
            return hits
        hits = self.index.search(query, k, where=filter, **options)
        return hits

    def _similarity_search_with_relevance_scores(
        self, query: str, k: int = 4, **options: Any
    ) -> list[tuple[Document, float]]:
        # Scores of words and dot products have no upper limit, so only cosines are relevance scores.
        mode = options.pop("mode", None) or "vector"
        if mode != "vector":
            raise ValueError(f"mode is {mode!r}, expected 'vector': relevance scores are cosines")
        if self.index.metric != "cosine":
            raise ValueError(
                f"the index has the metric {self.index.metric!r}, expected 'cosine': relevance scores are cosines"
            )
        hits = self._search(query, k, mode=mode, **options)
        relevance = self._select_relevance_score_fn()
        return [(_document(hit), relevance(hit.score)) for hit in hits]

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        return lambda cosine: min(max(cosine, 0.0), 1.0)


def _document(item: Item | Hit) -> Document:
    return Document(id=str(item.id), page_content=item.text or "", metadata=item.payload or {})
