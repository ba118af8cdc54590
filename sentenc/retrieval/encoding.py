"""Converts the texts and vectors that callers pass to stored vectors and to vectors of queries."""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.retrieval.manifest import Manifest
from sentenc.retrieval.quantization import FloatArray
from sentenc.retrieval.validation import are_numbers, check_vectors, stored_part
from sentenc.texts import as_text_list

_MAX_FLOAT16 = 65504.0


@dataclass(frozen=True)
class Queries:
    """The q queries of a search.

    Attributes:
        vectors: (q, d) float32, unit vectors if the metric is the cosine.
        texts: Their q texts; None if the caller passed vectors.
        single: Whether the caller passed one query, and not a list of them.
    """

    vectors: FloatArray
    texts: list[str] | None
    single: bool


def read_queries(queries: Any, encoder: Encoder | None, manifest: Manifest) -> Queries:
    """Returns the queries that a caller passed: a str, n str, a vector (dim,), or vectors (n, dim).

    Raises:
        TypeError: A query is neither text nor a vector.
        ValueError: A vector is not finite or has another length, or texts have no encoder.
    """
    texts: list[str] | None = None
    if are_numbers(queries):
        vectors = stored_part(np.asarray(queries), encoder, manifest.dim)
        single = vectors.ndim == 1
        vectors = vectors[None] if single else vectors
    else:
        single = isinstance(queries, str)
        texts = [queries] if single else as_text_list(queries)
        vectors = _encode(texts, encoder, manifest.dim)
    return Queries(
        check_vectors("queries", vectors, manifest.dim, _has_unit_vectors(manifest)), texts, single
    )


def item_vectors(
    texts: list[str] | None, vectors: npt.ArrayLike | None, encoder: Encoder | None, manifest: Manifest
) -> FloatArray:
    """Returns the vectors (n, d) float32 to store for n items, from ``vectors`` or else from their texts.

    Raises:
        ValueError: Neither was passed, their numbers differ, a vector is not finite, has another length or
            exceeds the range of the store, or texts have no encoder.
    """
    if vectors is None:
        if texts is None:
            raise ValueError("pass texts, vectors or both")
        vectors = _encode(texts, encoder, manifest.dim)
    else:
        vectors = stored_part(vectors, encoder, manifest.dim)
    limit = _MAX_FLOAT16 if manifest.store == "float16" else math.inf
    matrix = check_vectors("vectors", vectors, manifest.dim, _has_unit_vectors(manifest), limit)
    if texts is not None and len(texts) != len(matrix):
        raise ValueError(f"{len(texts)} texts for {len(matrix)} vectors, expected one each")
    return matrix


def _encode(texts: list[str], encoder: Encoder | None, dim: int) -> FloatArray:
    if encoder is None:
        raise ValueError(
            "the index has no encoder: pass vectors, or open it with Index.open(folder, encoder=...)"
        )
    vectors: FloatArray = encoder.encode(texts, truncate_dim=dim)
    return vectors


def _has_unit_vectors(manifest: Manifest) -> bool:
    return manifest.metric == "cosine"
