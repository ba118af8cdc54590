"""The options of ``encode``: truncation, normalization and dtype, the array to fill, and texts that are too long."""

import sys
import warnings
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from sentenc.errors import TextTooLongError, TruncationWarning
from sentenc.validation import check_choice, check_integer

Vectors = npt.NDArray[Any]
OnOverflow = Literal["warn", "error", "ignore"]
# Returns a new array of a shape and a type.
Empty = Callable[[tuple[int, ...], np.dtype[Any]], Vectors]

_OVERFLOW_MODES = get_args(OnOverflow)
_DTYPES = {"e": "float16", "f": "float32", "d": "float64"}  # by the codes of numpy
_FLOAT32 = np.dtype(np.float32)


class Finish:
    """The steps after pooling, in their fixed order: truncate, normalize, cast."""

    def __init__(
        self,
        dim: int,
        batch_size: int,
        normalize: bool,
        truncate_dim: int | None,
        dtype: npt.DTypeLike,
        on_overflow: str,
    ) -> None:
        check_integer("batch_size", batch_size)
        if truncate_dim is not None:
            check_integer("truncate_dim", truncate_dim, at_most=dim)
        check_choice("on_overflow", on_overflow, _OVERFLOW_MODES)
        try:
            self.dtype = np.dtype(dtype)
        except TypeError:
            self.dtype = np.dtype(object)
        if self.dtype.char not in _DTYPES:
            raise ValueError(f"dtype is {dtype!r}, expected one of {', '.join(_DTYPES.values())}")
        self.dim = dim if truncate_dim is None else truncate_dim
        self.normalize = normalize
        self.is_raw = not normalize and self.dim == dim and self.dtype == _FLOAT32

    def __call__(self, raw: npt.NDArray[np.float32], out: Vectors) -> None:
        """Writes the finished vectors of ``raw`` (n, model dim) into ``out`` (n, dim)."""
        vectors = raw[:, : self.dim]
        if self.normalize:
            norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
            norms[norms == 0] = 1.0
            np.divide(vectors, norms[:, None], out=out, casting="same_kind")
        else:
            out[...] = vectors

    def new_vectors(self, n: int, empty: Empty = np.empty) -> Any:
        """Returns an array for the finished vectors of n texts, (n, dim), which ``empty`` allocates."""
        return empty((n, self.dim), self.dtype)


class Int8Vectors:
    """Vectors in int8 with a scale for each: a vector is ``embeddings[i] * scales[i]``.

    Attributes:
        embeddings: (n, dim) int8.
        scales: (n,) float32.
    """

    def __init__(self, embeddings: npt.NDArray[np.int8], scales: npt.NDArray[np.float32]) -> None:
        self.embeddings = embeddings
        self.scales = scales

    def __getitem__(self, rows: Any) -> "Int8Vectors":
        return Int8Vectors(self.embeddings[rows], self.scales[rows])


class Int8Finish(Finish):
    """The steps after pooling for :class:`Int8Vectors`: truncate, normalize, quantize."""

    def __init__(
        self,
        dim: int,
        batch_size: int,
        normalize: bool,
        truncate_dim: int | None,
        dtype: npt.DTypeLike,
        on_overflow: str,
    ) -> None:
        super().__init__(dim, batch_size, normalize, truncate_dim, dtype, on_overflow)
        self.is_raw = False

    def __call__(self, raw: npt.NDArray[np.float32], out: Any) -> None:
        """Writes the finished vectors of ``raw`` (n, model dim) into ``out``, and overwrites ``raw``."""
        vectors = raw[:, : self.dim]
        if self.normalize:
            super().__call__(raw, vectors)
        peaks = np.maximum(vectors.max(axis=1, initial=0), -vectors.min(axis=1, initial=0))
        np.divide(peaks, 127, out=out.scales)
        steps = np.where(out.scales > 0, out.scales, 1)
        np.divide(vectors, steps[:, None], out=vectors)
        np.rint(vectors, out=vectors)
        # The smallest scales are rounded, so a quotient may be beyond 127.
        np.clip(vectors, -127, 127, out=vectors)
        out.embeddings[...] = vectors

    def new_vectors(self, n: int, empty: Empty = np.empty) -> Any:
        """Returns arrays for the finished vectors of n texts, which ``empty`` allocates."""
        return Int8Vectors(empty((n, self.dim), np.dtype(np.int8)), empty((n,), _FLOAT32))


class Overflow:
    """Counts the texts that are too long, in order to report them once."""

    def __init__(self, max_tokens: int, mode: str) -> None:
        self._limit = max_tokens
        self._mode = mode
        self._cut = 0
        self._longest = 0

    def add(self, counts: npt.NDArray[np.int64]) -> None:
        """Adds the token counts (n,) of texts."""
        # The maximum of an array takes longer than a short text in a CSE.
        longest = counts.item() if len(counts) == 1 else int(counts.max(initial=0))
        if longest > self._limit:
            self._cut += int((counts > self._limit).sum())
            self._longest = max(self._longest, longest)

    def report(self) -> None:
        """Warns of the long texts, or raises ``TextTooLongError``."""
        if not self._cut or self._mode == "ignore":
            return
        texts = "1 text is" if self._cut == 1 else f"{self._cut} texts are"
        fact = f"{texts} longer than max_tokens={self._limit} (the longest has {self._longest})"
        if self._mode == "error":
            raise TextTooLongError(f"{fact}: split them, or pass on_overflow='warn' or 'ignore' to cut them")
        message = f"{fact}; the rest of each was cut off"
        warnings.warn(message, TruncationWarning, stacklevel=_caller_level())


def output_array(out: Vectors | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Vectors:
    """Returns ``out`` itself, or a new array if it is None.

    Raises:
        ValueError: ``out`` is no writeable array of this shape and dtype.
    """
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray):
        raise ValueError(f"out is {type(out).__name__}, expected a numpy array")
    if out.shape != shape or out.dtype != dtype:
        raise ValueError(f"out has shape {out.shape} and dtype {out.dtype}, expected {shape} and {dtype}")
    if not out.flags.writeable:
        raise ValueError("out is read-only, expected a writeable array")
    return out


def _caller_level() -> int:
    # The warning names the line of the caller, whichever methods of encoders the call went through.
    level, frame = 1, sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").startswith("sentenc.encoders."):
        level, frame = level + 1, frame.f_back
    return level
