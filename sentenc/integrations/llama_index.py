"""An embedding and a vector store of LlamaIndex."""

import asyncio
import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from sentenc.encoders.base import Encoder
from sentenc.errors import MissingExtraError
from sentenc.integrations.embedder import Embedder, Model
from sentenc.integrations.index_items import all_or_none, items_with, stored_ids, upsert
from sentenc.retrieval.index import Index
from sentenc.retrieval.items import Hit

try:
    from llama_index.core.base.embeddings.base import BaseEmbedding
    from llama_index.core.bridge.pydantic import PrivateAttr
    from llama_index.core.schema import BaseNode, MetadataMode, TextNode
    from llama_index.core.vector_stores.types import (
        BasePydanticVectorStore,
        FilterCondition,
        FilterOperator,
        MetadataFilters,
        VectorStoreQuery,
        VectorStoreQueryMode,
        VectorStoreQueryResult,
    )
    from llama_index.core.vector_stores.utils import metadata_dict_to_node, node_to_metadata_dict
except ImportError as error:
    raise MissingExtraError("llama-index", "llama-index-core", "an adapter of LlamaIndex") from error

_OPERATORS = {
    FilterOperator.EQ: "eq", FilterOperator.NE: "ne", FilterOperator.GT: "gt", FilterOperator.GTE: "gte",
    FilterOperator.LT: "lt", FilterOperator.LTE: "lte", FilterOperator.IN: "in", FilterOperator.NIN: "nin",
    FilterOperator.ANY: "in", FilterOperator.CONTAINS: "eq",
}  # fmt: skip
_MODES = {
    VectorStoreQueryMode.DEFAULT: "vector",
    VectorStoreQueryMode.HYBRID: "hybrid",
    VectorStoreQueryMode.TEXT_SEARCH: "lexical",
    VectorStoreQueryMode.SPARSE: "lexical",
}
# Fields of the payload.
_NODE_ID, _DOCUMENT_ID, _NODE_CONTENT = "_node_id", "ref_doc_id", "_node_content"


class SentencEmbedding(BaseEmbedding):  # type: ignore[misc, unused-ignore]
    """Embeds texts for LlamaIndex, queries and texts each with the prompts of their role.

    ``to_dict`` has the name and options of the model and its fingerprint, so that the caches of LlamaIndex return no
    vectors of another model. ``from_dict`` loads the model by this name.

    Args:
        model: An encoder, or an argument of :func:`sentenc.load`.
        model_name: The same as ``model``. Together with an encoder, its name for display.
        truncate_dim: The number of leading components to keep. By default the encoder's ``similarity_dim``.
        normalize_embeddings: Scale every vector to unit length.
        embed_batch_size: The number of texts that LlamaIndex passes at a time.
        fingerprint: The fingerprint that the model must have. By default any.
        **options: Those of ``BaseEmbedding``.

    Raises:
        ModelNotFoundError: There is no model of this name.
        ValueError: An option is out of range, the model has another fingerprint, or ``model`` and ``model_name`` are
            the names of two models.
    """

    truncate_dim: int | None = None
    normalize_embeddings: bool = False
    fingerprint: str | None = None

    _embedder: Embedder = PrivateAttr()

    def __init__(
        self,
        model: Model | None = None,
        *,
        model_name: str | None = None,
        truncate_dim: int | None = None,
        normalize_embeddings: bool = False,
        embed_batch_size: int = 1024,
        fingerprint: str | None = None,
        **options: Any,
    ) -> None:
        if model is None:
            model = "cse-en" if model_name is None else model_name
        elif not isinstance(model, Encoder) and model_name not in (None, os.fspath(model)):
            raise ValueError(
                f"model is {os.fspath(model)!r} and model_name is {model_name!r}, expected one of them"
            )
        embedder = Embedder(model, truncate_dim=truncate_dim, normalize_embeddings=normalize_embeddings)
        own = embedder.encoder.fingerprint()
        if fingerprint not in (None, own):
            raise ValueError(
                f"the model {model_name or embedder.name!r} has the fingerprint {own}, expected {fingerprint}: "
                "pass the encoder itself"
            )
        super().__init__(
            model_name=model_name or embedder.name, truncate_dim=truncate_dim, fingerprint=own,
            normalize_embeddings=normalize_embeddings, embed_batch_size=embed_batch_size, **options,
        )  # fmt: skip
        self._embedder = embedder

    @classmethod
    def class_name(cls) -> str:
        """Returns the name of the class for LlamaIndex."""
        return "SentencEmbedding"

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embedder.query_numbers(query)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return await asyncio.to_thread(self._get_query_embedding, query)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._get_text_embeddings([text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embedder.document_numbers(texts)


class SentencVectorStore(BasePydanticVectorStore):  # type: ignore[misc, unused-ignore]
    """A vector store of LlamaIndex over an :class:`~sentenc.Index`, with the modes default, hybrid and text search.

    The vectors are those that LlamaIndex computed. If a node has none, the encoder of the index computes it.

    Args:
        index: The index. It may have an encoder or not; then its ``dim`` is that of the embedding.
    """

    stores_text: bool = True

    _index: Index = PrivateAttr()

    def __init__(self, index: Index) -> None:
        super().__init__()
        self._index = index

    @property
    def client(self) -> Index:
        """The index."""
        return self._index

    @classmethod
    def class_name(cls) -> str:
        """Returns the name of the class for LlamaIndex."""
        return "SentencVectorStore"

    def add(self, nodes: Sequence[BaseNode], **options: Any) -> list[str]:
        """Adds nodes, and replaces those whose id the index contains. Returns their ids."""
        if not nodes:
            return []
        ids = [node.node_id for node in nodes]
        payloads = [
            {**node_to_metadata_dict(node, remove_text=True), _NODE_ID: node.node_id} for node in nodes
        ]
        texts = [node.get_content(metadata_mode=MetadataMode.NONE) for node in nodes]
        vectors = all_or_none([node.embedding for node in nodes])
        upsert(self._index, ids, texts, payloads, vectors)
        return ids

    def delete(self, ref_doc_id: str, **options: Any) -> None:
        """Deletes the nodes of a document."""
        self._index.delete([item.id for item in items_with(self._index, _DOCUMENT_ID, ref_doc_id)])

    def delete_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None, **options: Any
    ) -> None:
        """Deletes nodes by their ids.

        Raises:
            ValueError: There are filters, which are not supported here.
        """
        if filters is not None:
            raise ValueError("got filters, expected node_ids: nodes are not deleted by filters")
        self._index.delete(stored_ids(self._index, node_ids or []))

    def get_nodes(
        self, node_ids: list[str] | None = None, filters: MetadataFilters | None = None
    ) -> list[BaseNode]:
        """Returns the nodes of the ids that the index contains, or all.

        Raises:
            ValueError: There are filters, which are not supported here.
        """
        if filters is not None:
            raise ValueError("got filters, expected node_ids: nodes are not listed by filters")
        if node_ids is None:
            return [_node(item) for item in self._index]
        return [_node(item) for item in self._index.get(stored_ids(self._index, node_ids))]

    def clear(self) -> None:
        """Deletes all nodes."""
        self._index.delete([item.id for item in self._index])

    def query(self, query: VectorStoreQuery, **options: Any) -> VectorStoreQueryResult:
        """Returns the best nodes, with their scores, of which higher is better.

        Raises:
            ValueError: The mode or an operator of a filter is not supported.
        """
        mode = _MODES.get(query.mode)
        if mode is None:
            expected = ", ".join(known.value for known in _MODES)
            raise ValueError(f"mode is {query.mode.value!r}, expected {expected}")
        hits = self._hits(query, mode, _where_of(query)) if len(self._index) else []
        return VectorStoreQueryResult(
            nodes=[_node(hit) for hit in hits],
            similarities=[hit.score for hit in hits],
            ids=[str(hit.id) for hit in hits],
        )

    def persist(self, persist_path: str, fs: Any = None) -> None:
        """Writes the index to a folder; ``SentencVectorStore(sentenc.Index.open(folder))`` opens it."""
        self._index.save(persist_path)

    def _hits(self, query: VectorStoreQuery, mode: str, where: dict[str, Any] | None) -> list[Hit]:
        options: dict[str, Any] = {"k": query.similarity_top_k, "mode": mode, "where": where}
        if mode == "vector" and query.query_embedding is not None:
            hits: list[Hit] = self._index.search(np.asarray(query.query_embedding, np.float32), **options)
            return hits
        if query.query_str is None:
            raise ValueError(f"query_str is None, expected a text for the mode {query.mode.value!r}")
        if mode == "hybrid":
            options["alpha"] = query.alpha
            options["k"] = query.hybrid_top_k or query.similarity_top_k
        if mode == "lexical":
            options["k"] = query.sparse_top_k or query.similarity_top_k
        if query.query_embedding is not None and mode == "hybrid":
            options["vectors"] = [query.query_embedding]
        hits = self._index.search([query.query_str], **options)[0]
        return hits


def _node(item: Any) -> BaseNode:
    payload = item.payload or {}
    if _NODE_CONTENT in payload:
        return metadata_dict_to_node(payload, text=item.text)
    # An item that LlamaIndex has not added.
    return TextNode(id_=str(item.id), text=item.text or "", metadata=payload)


def _where_of(query: VectorStoreQuery) -> dict[str, Any] | None:
    # The filter of an index for the filters, documents and nodes of a query.
    parts = [] if query.filters is None else [where_of(query.filters)]
    for field, values in ((_DOCUMENT_ID, query.doc_ids), (_NODE_ID, query.node_ids)):
        # The retrievers of LlamaIndex pass an empty list if the search is not restricted.
        if values:
            parts.append({field: {"in": list(values)}})
    return {"and": parts} if parts else None


def where_of(filters: MetadataFilters) -> dict[str, Any]:
    """Returns the filter of an index for filters of LlamaIndex.

    Raises:
        ValueError: An operator is not supported.
    """
    parts = [
        where_of(part) if isinstance(part, MetadataFilters) else _condition(part) for part in filters.filters
    ]
    if filters.condition == FilterCondition.NOT:
        return {"not": {"or": parts}}
    return {"or" if filters.condition == FilterCondition.OR else "and": parts}


def _condition(part: Any) -> dict[str, Any]:
    if part.operator == FilterOperator.ALL:
        return {"and": [{part.key: value} for value in part.value]}
    if part.operator == FilterOperator.IS_EMPTY:
        # Neither true nor false, nor a text, nor a number: missing, null, or an empty list.
        values = ({"in": [True, False]}, {"gt": ""}, {"gte": -sys.float_info.max})
        return {"not": {"or": [{part.key: value} for value in values]}}
    if part.operator not in _OPERATORS:
        expected = ", ".join(known.value for known in (*_OPERATORS, FilterOperator.ALL))
        raise ValueError(f"operator is {part.operator.value!r}, expected {expected}")
    return {part.key: {_OPERATORS[part.operator]: part.value}}
