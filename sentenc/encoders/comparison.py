"""The arguments of a similarity, texts or vectors, and vectors of unit length."""

from collections.abc import Collection
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.arrow_texts import is_arrow, is_text_type
from sentenc.texts import describe


def are_texts(value: Any) -> bool:
    """Returns whether a value is a text or a collection of texts, not vectors."""
    # One str among the items is enough: encode() reports the index of an item that is not text.
    if isinstance(value, str) or (is_arrow(value) and is_text_type(value.type)):
        return True
    # Items of a matrix are rows, and those of a DataFrame are the names of its columns.
    if getattr(value, "ndim", 1) != 1 or not isinstance(value, Collection):
        return False
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return False
    return len(value) == 0 or any(isinstance(item, str) for item in value)


def as_vectors(value: Any, name: str, dim: int) -> npt.NDArray[np.float32]:
    """Returns vectors of at most ``dim`` columns as an array, (n, d) or (d,), float32.

    Raises:
        TypeError: They are no numbers; the message begins with ``name``.
        ValueError: They have more columns.
    """
    if np.ndim(value) == 0:
        raise TypeError(f"{name} is {describe(value)}, expected texts or vectors")
    try:
        # Numbers beyond the range of float32 become infinite, which is an error of unit_rows.
        with np.errstate(over="ignore"):
            vectors = np.asarray(value, np.float32)
    except ValueError as error:
        raise TypeError(f"{name} is {describe(value)}, expected texts or vectors") from error
    if vectors.shape[-1] > dim:
        raise ValueError(
            f"{name} has {vectors.shape[-1]} columns, expected at most {dim} (the encoder's dim)"
        )
    return vectors


def unit_rows(vectors: npt.ArrayLike, name: str) -> npt.NDArray[np.float32]:
    """Scales vectors (n, dim), or one (dim,), to unit length: (n, dim) float32. Zero vectors stay zero.

    Raises:
        ValueError: The vectors have another number of axes, or a value is not finite in float32; the message begins
            with ``name``.
    """
    rows = np.atleast_2d(np.asarray(vectors, np.float32))
    if rows.ndim != 2:
        raise ValueError(f"{name} has {rows.ndim} axes, expected shape (n, dim) or (dim,)")
    # Squares of large and of small numbers are beyond the range of float32.
    norms = np.sqrt(np.einsum("ij,ij->i", rows, rows, dtype=np.float64))
    if not np.isfinite(norms).all():
        row = int(np.argmin(np.isfinite(norms)))
        raise ValueError(f"{name} has a value in row {row} that is not finite, expected numbers of float32")
    norms[norms == 0] = 1
    unit = np.empty_like(rows)
    np.divide(rows, norms[:, None], out=unit, casting="same_kind")
    return unit


def sentence_vectors(encoder: Any, texts_or_vectors: Any, name: str) -> npt.NDArray[np.float32]:
    """Returns the sentence vectors, (n, similarity_dim), of texts or vectors at unit length.

    Raises:
        TypeError: They are neither texts nor vectors of numbers.
        ValueError: The vectors have another shape; the message begins with ``name``.
    """
    if not are_texts(texts_or_vectors):
        vectors = as_vectors(texts_or_vectors, name, encoder.dim)
        return unit_rows(vectors[..., : encoder.similarity_dim], name)
    texts = [texts_or_vectors] if isinstance(texts_or_vectors, str) else texts_or_vectors
    return unit_rows(encoder.encode(texts, truncate_dim=encoder.similarity_dim), name)
