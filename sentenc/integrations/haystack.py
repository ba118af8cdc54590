"""Embedders, an index writer and a retriever of Haystack."""

from dataclasses import fields, replace
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

from sentenc.errors import MissingExtraError
from sentenc.integrations.embedder import EmbeddingAdapter, Model
from sentenc.integrations.index_items import all_or_none, upsert
from sentenc.retrieval.index import Index
from sentenc.retrieval.manifest import read_manifest

try:
    from haystack import Document, component, default_to_dict
except ImportError as error:
    raise MissingExtraError("haystack", "haystack-ai", "an adapter of Haystack") from error

_OPERATORS = {
    "==": "eq", "!=": "ne", ">": "gt", ">=": "gte", "<": "lt", "<=": "lte", "in": "in", "not in": "nin",
}  # fmt: skip
# Names that a filter of Haystack reads from the document itself, and not from its metadata.
_DOCUMENT_FIELDS = {each.name for each in fields(Document)}
# The indexes that components have opened by their folders.
_indexes: "WeakValueDictionary[Path, Index]" = WeakValueDictionary()


@component  # type: ignore[untyped-decorator, unused-ignore]
class SentencTextEmbedder(EmbeddingAdapter):
    """Embeds a query for a retriever of Haystack, with the arguments of :class:`EmbeddingAdapter`."""

    @component.output_types(embedding=list[float])  # type: ignore[untyped-decorator, unused-ignore]
    def run(self, text: str) -> dict[str, Any]:
        """Returns ``{"embedding": numbers}`` of a query."""
        return {"embedding": self.embedder.query_numbers(text)}

    def to_dict(self) -> dict[str, Any]:
        """Returns the component as JSON values.

        Raises:
            ValueError: The encoder was passed as an object.
        """
        values: dict[str, Any] = default_to_dict(self, **self.embedder.config())
        return values


@component  # type: ignore[untyped-decorator, unused-ignore]
class SentencDocumentEmbedder(EmbeddingAdapter):
    """Embeds documents for a document store of Haystack.

    It has the arguments of :class:`EmbeddingAdapter` and the following.

    Args:
        meta_fields_to_embed: Names of metadata that are put before the text.
        embedding_separator: The text between metadata and text.
        progress_bar: Draw a progress bar on standard error.
    """

    def __init__(
        self,
        model: Model = "cse-en",
        truncate_dim: int | None = None,
        normalize_embeddings: bool = False,
        batch_size: int = 64,
        meta_fields_to_embed: list[str] | None = None,
        embedding_separator: str = "\n",
        progress_bar: bool = False,
    ) -> None:
        # The decorator makes another class of this one, so that super() does not know it.
        EmbeddingAdapter.__init__(self, model, truncate_dim, normalize_embeddings, batch_size)
        self.meta_fields_to_embed = meta_fields_to_embed or []
        self.embedding_separator = embedding_separator
        self.progress_bar = progress_bar

    @component.output_types(documents=list[Document])  # type: ignore[untyped-decorator, unused-ignore]
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Returns ``{"documents": documents}``, copies with their embeddings."""
        texts = [self._text(document) for document in documents]
        vectors = self.embedder.document_numbers(texts, show_progress_bar=self.progress_bar)
        pairs = zip(documents, vectors, strict=True)
        return {"documents": [replace(document, embedding=vector) for document, vector in pairs]}

    def to_dict(self) -> dict[str, Any]:
        """Returns the component as JSON values.

        Raises:
            ValueError: The encoder was passed as an object.
        """
        values: dict[str, Any] = default_to_dict(
            self,
            **self.embedder.config(),
            meta_fields_to_embed=self.meta_fields_to_embed,
            embedding_separator=self.embedding_separator,
            progress_bar=self.progress_bar,
        )
        return values

    def _text(self, document: Document) -> str:
        fields = [document.meta.get(name) for name in self.meta_fields_to_embed]
        return self.embedding_separator.join(
            [*(str(field) for field in fields if field is not None), document.content or ""]
        )


@component  # type: ignore[untyped-decorator, unused-ignore]
class SentencIndexWriter:
    """Adds documents to an :class:`~sentenc.Index`, and replaces those whose id it contains.

    Args:
        index: The index, or the folder of one. A pipeline can be saved only with a folder. The writers and retrievers
            of a process that have the same folder share its index, so that a retriever finds new documents.
        save: Save the index after every run. By default if it has a folder.
    """

    def __init__(self, index: Index | str, save: bool | None = None) -> None:
        self.index = _opened(index)
        self.save = save

    @component.output_types(documents_written=int)  # type: ignore[untyped-decorator, unused-ignore]
    def run(self, documents: list[Document]) -> dict[str, Any]:
        """Adds documents with their embeddings; the index encodes documents without one.

        Returns:
            ``{"documents_written": number}``.

        Raises:
            ValueError: Some documents have an embedding and others none, or an id occurs twice.
        """
        upsert(
            self.index,
            [document.id for document in documents],
            [document.content or "" for document in documents],
            [document.meta for document in documents],
            all_or_none([document.embedding for document in documents]),
        )
        if self.index.folder is not None if self.save is None else self.save:
            self.index.save()
        return {"documents_written": len(documents)}

    def to_dict(self) -> dict[str, Any]:
        """Returns the component as JSON values.

        Raises:
            ValueError: The index has no folder.
        """
        values: dict[str, Any] = default_to_dict(self, index=_folder_of(self.index), save=self.save)
        return values


@component  # type: ignore[untyped-decorator, unused-ignore]
class SentencRetriever:
    """Finds documents in an :class:`~sentenc.Index` by vectors and words.

    Args:
        index: The index, with an encoder, or the folder of one. A pipeline can be saved only with a folder.
        filters: Filters of Haystack, used if a run has none.
        top_k: The number of documents.
        mode: As for :meth:`sentenc.Index.search`.
    """

    def __init__(
        self,
        index: Index | str,
        filters: dict[str, Any] | None = None,
        top_k: int = 10,
        mode: Any = None,
    ) -> None:
        self.index = _opened(index)
        self.filters = filters
        self.top_k = top_k
        self.mode = mode

    @component.output_types(documents=list[Document])  # type: ignore[untyped-decorator, unused-ignore]
    def run(
        self, query: str, filters: dict[str, Any] | None = None, top_k: int | None = None
    ) -> dict[str, Any]:
        """Returns ``{"documents": documents}``, the best first, with the scores of :class:`~sentenc.Hit`."""
        filters = self.filters if filters is None else filters
        where = where_of(filters) if filters else None
        hits = []
        if len(self.index):
            k = self.top_k if top_k is None else top_k
            hits = self.index.search(query, k, mode=self.mode, where=where)
        documents = [
            Document(id=str(hit.id), content=hit.text, meta=hit.payload or {}, score=hit.score)
            for hit in hits
        ]
        return {"documents": documents}

    def to_dict(self) -> dict[str, Any]:
        """Returns the component as JSON values.

        Raises:
            ValueError: The index has no folder.
        """
        values: dict[str, Any] = default_to_dict(
            self, index=_folder_of(self.index), filters=self.filters, top_k=self.top_k, mode=self.mode
        )
        return values


def where_of(filters: dict[str, Any]) -> dict[str, Any]:
    """Returns the filter of an index for filters of Haystack.

    Raises:
        ValueError: An operator is unknown, a field or a list of conditions is missing, or a field is not one of the
            metadata.
    """
    operator = filters.get("operator")
    if operator in ("AND", "OR", "NOT"):
        if not isinstance(filters.get("conditions"), list):
            raise ValueError(f"filter {filters} has no list of conditions")
        parts = [where_of(part) for part in filters["conditions"]]
        return {"not": {"and": parts}} if operator == "NOT" else {operator.lower(): parts}
    if operator not in _OPERATORS:
        expected = ", ".join((*_OPERATORS, "AND", "OR", "NOT"))
        raise ValueError(f"operator is {operator!r}, expected {expected}")
    if not isinstance(filters.get("field"), str) or "value" not in filters:
        raise ValueError(f"filter {filters} has no field or no value")
    name = filters["field"]
    if name in _DOCUMENT_FIELDS:
        raise ValueError(f"field is {name!r}, expected one of the metadata, such as 'meta.{name}'")
    return {name.removeprefix("meta."): {_OPERATORS[operator]: filters["value"]}}


def _opened(index: Index | str) -> Index:
    if isinstance(index, Index):
        return index
    folder = Path(index).expanduser().resolve()
    # An index does not change if another one writes to its folder, so a writer and a retriever share it.
    known = _indexes.get(folder)
    if known is None or not _is_latest(known, folder):
        known = _indexes[folder] = Index.open(index)
    return known


def _is_latest(index: Index, folder: Path) -> bool:
    # Whether no other index has written to the folder since.
    own, current = index._manifest, read_manifest(folder)
    return (own.generation, own.files) == (current.generation, current.files)


def _folder_of(index: Index) -> str:
    if index.folder is None:
        raise ValueError("the index has no folder, which a saved pipeline needs: save the index first")
    return str(index.folder)
