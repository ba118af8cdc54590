"""Converts the texts and vectors that callers pass to stored vectors and to vectors of queries."""

import math
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt

from sentenc.encoders.lazy import EncoderSource
from sentenc.retrieval.manifest import Manifest
from sentenc.retrieval.quantization import FloatArray
from sentenc.retrieval.validation import are_numbers, as_array, check_vectors, stored_part
from sentenc.texts import as_text_list

MAX_FLOAT16 = 65504.0
_NO_ENCODER = "the index has no encoder: pass vectors, or open it with encoder=..."


@dataclass(frozen=True)
class Queries:
    """The q queries of a search.

    Attributes:
        vectors: Their q vectors as the caller passed them, not yet checked; None if there are only texts.
        texts: Their q texts; None if the caller passed vectors.
        single: Whether the caller passed one query, and not a list of them.
    """

    vectors: Any
    texts: list[str] | None
    single: bool


def read_queries(
    queries: Any, vectors: npt.ArrayLike | None, source: EncoderSource | None, dim: int
) -> Queries:
    """Returns the queries that a caller passed: a str, n str, a vector (dim,), or vectors (n, dim).

    Vectors that the caller did not pass are computed later, by :func:`query_vectors`.

    Args:
        queries: The queries.
        vectors: The vectors of texts, if the caller has them: (dim,) for one text, (n, dim) for n.
        source: The encoder of queries, or None.
        dim: The number of dimensions of the stored vectors.

    Raises:
        TypeError: A query is neither text nor a vector.
        ValueError: The queries are vectors, and ``vectors`` were passed as well, or their number is wrong.
    """
    if are_numbers(queries):
        if vectors is not None:
            raise ValueError("queries are vectors: pass texts together with vectors")
        matrix = stored_part(as_array("queries", queries, dim), source, dim)
        single = matrix.ndim == 1
        return Queries(matrix[None] if single else matrix, None, single)
    single = isinstance(queries, str)
    texts = [queries] if single else as_text_list(queries)
    if vectors is None:
        return Queries(None, texts, single)
    matrix = stored_part(as_array("vectors", vectors, dim), source, dim)
    matrix = matrix[None] if single and matrix.ndim == 1 else matrix
    if len(matrix) != len(texts):
        raise ValueError(f"{len(matrix)} vectors for {len(texts)} queries, expected one each")
    return Queries(matrix, texts, single)


def query_vectors(queries: Queries, source: EncoderSource | None, manifest: Manifest) -> FloatArray:
    """Returns the vectors (q, d) of queries, encoding their texts if they have none.

    Raises:
        ValueError: A vector is not finite or has another length, or texts have no encoder.
    """
    vectors: Any = queries.vectors
    if vectors is None:
        if source is None:
            raise ValueError(_NO_ENCODER)
        vectors = source.encoder.encode_query(queries.texts or [], truncate_dim=manifest.dim)
    return check_vectors("queries", vectors, manifest.dim, _has_unit_vectors(manifest))


def item_vectors(
    texts: list[str] | None, vectors: npt.ArrayLike | None, source: EncoderSource | None, manifest: Manifest
) -> FloatArray:
    """Returns the vectors (n, d) float32 to store for n items, from ``vectors`` or else from their texts.

    Raises:
        ValueError: Neither was passed, their numbers differ, a vector is not finite, has another length or
            exceeds the range of the store, or texts have no encoder.
    """
    if vectors is None:
        if texts is None:
            raise ValueError("pass texts, vectors or both")
        if source is None:
            raise ValueError(_NO_ENCODER)
        vectors = source.encoder.encode_document(texts, truncate_dim=manifest.dim)
    else:
        vectors = stored_part(as_array("vectors", vectors, manifest.dim), source, manifest.dim)
    limit = MAX_FLOAT16 if manifest.store == "float16" else math.inf
    matrix = check_vectors("vectors", vectors, manifest.dim, _has_unit_vectors(manifest), limit)
    if texts is not None and len(texts) != len(matrix):
        raise ValueError(f"{len(texts)} texts for {len(matrix)} vectors, expected one each")
    return matrix


def _has_unit_vectors(manifest: Manifest) -> bool:
    return manifest.metric == "cosine"
