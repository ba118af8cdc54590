"""Adapts encoders, sentence-transformers models and functions to the evaluation harness, with a cache."""

import copy
import hashlib
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sentenc.embedding_cache import EmbeddingCache
from sentenc.encoders.base import Encoder
from sentenc.encoders.roles import Role
from sentenc.io.progress import Bar
from sentenc.retrieval.words import word_settings

Vectors = npt.NDArray[np.float32]


class Embedder(Protocol):
    """The interface that the harness needs of an encoder.

    Attributes:
        name: The name in tables and file names.
        fingerprint: A string that changes whenever the vectors may change; None if there is no such string.
        settings: Everything besides the fingerprint that the vectors depend on.
        similarity_dim: Number of leading columns that similarity compares; None for all columns.
        words: The settings of lexical and hybrid search, as an index of the encoder has them.
    """

    name: str
    fingerprint: str | None
    settings: dict[str, Any]
    similarity_dim: int | None
    words: dict[str, Any]

    def encode(self, texts: list[str]) -> Vectors:
        """Returns shape (n, dim), float32."""

    def for_role(self, role: Role | None) -> "Embedder":
        """Returns the embedder of the texts of a role; itself if it treats them like all others."""


class _EncoderEmbedder:
    def __init__(
        self,
        encoder: Encoder,
        name: str | None,
        batch_size: int,
        normalize: bool,
        truncate: int | None,
        language: str | None,
    ) -> None:
        self.name = name or str(getattr(encoder, "name", None) or type(encoder).__name__)
        self.fingerprint: str | None = encoder.fingerprint()
        self._options: dict[str, Any] = {"normalize_embeddings": normalize, "truncate_dim": truncate}
        self.settings: dict[str, Any] = dict(self._options)
        columns = encoder.dim if truncate is None else truncate
        self.similarity_dim = encoder.similarity_dim if encoder.similarity_dim < columns else None
        self.words = word_settings(language, encoder)
        self._encoder = encoder
        self._encode: Callable[..., Vectors] = encoder.encode
        self._batch_size = batch_size

    def for_role(self, role: Role | None) -> "Embedder":
        if role is None:
            return self
        if self._encoder.for_role(role) == (self._encoder, None):
            return self
        embedder = copy.copy(self)
        embedder.settings = {**self.settings, "role": role}
        embedder._encode = self._encoder.encode_query if role == "query" else self._encoder.encode_document
        return embedder

    def encode(self, texts: list[str]) -> Vectors:
        # Cut texts are a limit of the encoder, not a mistake of the user: no warning.
        vectors: Vectors = self._encode(
            texts, batch_size=self._batch_size, on_overflow="ignore", **self._options
        )
        return vectors


class _FunctionEmbedder:
    def __init__(self, function: Callable[[list[str]], Any], name: str | None, language: str | None) -> None:
        self.name = name or str(getattr(function, "__name__", None) or type(function).__name__)
        self.fingerprint: str | None = None
        self.settings: dict[str, Any] = {}
        self.similarity_dim: int | None = None
        self.words = word_settings(language, None)
        self._function = function

    def for_role(self, role: Role | None) -> "Embedder":
        return self

    def encode(self, texts: list[str]) -> Vectors:
        return np.asarray(self._function(texts), np.float32)


def as_embedder(
    encoder: Any,
    *,
    name: str | None = None,
    batch_size: int = 64,
    normalize_embeddings: bool = False,
    truncate_dim: int | None = None,
    language: str | None = None,
) -> Embedder:
    """Adapts an :class:`~sentenc.Encoder`, a sentence-transformers model or a plain function.

    Raises:
        TypeError: ``encoder`` is none of these.
        ValueError: ``normalize_embeddings`` or ``truncate_dim`` is set for a plain function, or ``language`` is
            not a code of ISO 639.
    """
    # The class is compared by name, so that other encoders do not import torch.
    if any(kind.__name__ == "SentenceTransformer" for kind in type(encoder).__mro__):
        from sentenc.encoders.sentence_transformer import SentenceTransformerEncoder

        encoder = SentenceTransformerEncoder(encoder, name)
    if isinstance(encoder, Encoder):
        return _EncoderEmbedder(encoder, name, batch_size, normalize_embeddings, truncate_dim, language)
    if not callable(encoder):
        kind = type(encoder).__name__
        raise TypeError(
            f"encoder is {kind}, expected an Encoder, a SentenceTransformer or a function from a list of str"
        )
    if normalize_embeddings or truncate_dim is not None:
        raise ValueError(
            "normalize_embeddings and truncate_dim are not available for a function: apply them in the "
            "function"
        )
    return _FunctionEmbedder(encoder, name, language)


class CachedEmbedder:
    """An embedder that encodes each distinct text once, in this run or, with a folder, in all runs.

    Each combination of fingerprint and settings has its own :class:`~sentenc.embedding_cache.EmbeddingCache`
    in a subfolder. A damaged file there is reported by a warning, and its texts are encoded again.

    Args:
        embedder: The embedder.
        folder: The parent folder of all caches. None keeps the vectors in memory only. The vectors of a plain
            function are never written: without a fingerprint, nothing shows whether they are still valid.
    """

    def __init__(self, embedder: Embedder, folder: str | os.PathLike[str] | None = None) -> None:
        self._embedder = embedder
        if folder is None or embedder.fingerprint is None:
            self._cache = EmbeddingCache(None)
        else:
            identity = json.dumps([embedder.fingerprint, embedder.settings], sort_keys=True)
            name = hashlib.sha256(identity.encode()).hexdigest()[:32]
            self._cache = EmbeddingCache(Path(folder, name), identity, on_damage="skip")

    def count_missing(self, texts: Sequence[str]) -> int:
        """Returns the number of distinct texts that have not been encoded yet."""
        return len(self._missing(texts))

    def encode(self, texts: Sequence[str], bar: Bar | None = None) -> Vectors:
        """Returns the vectors of ``texts``, shape (n, dim), float32.

        Args:
            texts: One or more texts.
            bar: Advanced by one for each text that is encoded now.

        Raises:
            ValueError: The embedder returned an array of another shape, or NaN or infinity; the message
                quotes the first text.
        """
        self._cache.fill(self._missing(texts), self._embedder.encode, bar=bar, source=self._embedder.name)
        return self._cache.lookup(texts)

    def _missing(self, texts: Sequence[str]) -> list[str]:
        has_vector = self._cache.has(texts)
        return list(dict.fromkeys(text for text, known in zip(texts, has_vector, strict=True) if not known))
