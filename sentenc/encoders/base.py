"""The base class of all encoders: their interface, and what does not depend on the model."""

import hashlib
import os
import warnings
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from sentenc.errors import TextTooLongError, TruncationWarning
from sentenc.io.progress import progress_bar
from sentenc.texts import as_text_list, check_text, describe, iterate_texts
from sentenc.validation import check_choice, check_integer

Vectors = npt.NDArray[Any]
OnOverflow = Literal["warn", "error", "ignore"]

_OVERFLOW_MODES = get_args(OnOverflow)
_DTYPES = {"e": "float16", "f": "float32", "d": "float64"}  # by the codes of numpy
_FLOAT32 = np.dtype(np.float32)
_BATCH_SIZE = 64
# The batches in one block: enough to sort texts by length within it, and small enough for memory.
_BATCHES_PER_BLOCK = 32


class Encoder(ABC):
    """Turns texts into vectors. Subclasses compute them; this class keeps the contract.

    A text always has the same vector, for any batch size, order, neighbors and number of threads (to 1e-5
    in float32). An empty text, or one without known tokens, has the zero vector. Encoders can be shared
    between threads and pickled, and they change no global state.
    """

    # Subclasses implement these -----------------------------------------------------------------

    @property
    @abstractmethod
    def dim(self) -> int:
        """The number of components of a vector."""

    @property
    def similarity_dim(self) -> int:
        """The number of leading components that a similarity compares. The rest is for classifiers."""
        return self.dim

    @property
    @abstractmethod
    def max_tokens(self) -> int:
        """The number of tokens of a text that are used, special tokens included; the rest is cut off."""

    @abstractmethod
    def count_tokens(self, texts: Any) -> npt.NDArray[np.int64]:
        """Counts the tokens of each text before any cut.

        Args:
            texts: One text or an ordered collection of n texts.

        Returns:
            Shape (n,), int64. A text is cut if its count is above ``max_tokens``.
        """

    @abstractmethod
    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the model to a folder, which is replaced completely or not at all.

        Raises:
            CheckpointError: ``folder`` exists and is not a model folder.
        """

    @abstractmethod
    def fingerprint(self) -> str:
        """Returns a short hash of everything that the vectors depend on: weights, tokenizer and settings."""

    @abstractmethod
    def _encode_block(
        self, texts: list[str], batch_size: int, out: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        """Writes the raw vectors of ``texts`` into ``out`` (n, dim) and returns the token counts (n,)."""

    def _block_size(self, batch_size: int) -> int:
        """Returns the number of texts to pass to ``_encode_block`` at a time."""
        return batch_size * _BATCHES_PER_BLOCK

    # Users call these ---------------------------------------------------------------------------

    def encode(
        self,
        texts: Any,
        *,
        batch_size: int = _BATCH_SIZE,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        dtype: npt.DTypeLike = "float32",
        on_overflow: OnOverflow = "warn",
        out: Vectors | None = None,
        show_progress_bar: bool = False,
    ) -> Vectors:
        """Encodes texts. The order of operations is fixed: pool, truncate, normalize, cast.

        The first ``similarity_dim`` columns are the sentence vector, which ``similarity`` and an ``Index``
        compare. The last columns, if there are more, are features for classifiers: plain averages of words
        and pooled n-grams. They improve a classifier's accuracy, and a cosine should leave them out. Pass
        ``truncate_dim=encoder.similarity_dim`` to get the sentence vectors alone.

        Args:
            texts: A str, or any ordered collection or iterable of n str.
            batch_size: The number of texts that go through the model together. It changes the speed, never
                the vectors.
            normalize_embeddings: Scale every vector to unit length (zero vectors stay zero).
            truncate_dim: Keep the first ``truncate_dim`` components.
            dtype: ``"float32"``, ``"float16"`` or ``"float64"``.
            on_overflow: What happens if texts have more than ``max_tokens`` tokens: ``"warn"`` once a call,
                ``"error"`` before any text is encoded, or ``"ignore"``.
            out: The array to write into, of shape (n, dim) and of type ``dtype``. It may be a ``np.memmap``.
            show_progress_bar: Draw a progress bar on standard error.

        Returns:
            Shape (dim,) for a str, (n, dim) otherwise; ``out`` itself if it was passed.

        Raises:
            TypeError: ``texts`` or one of its items is not text (the message has the index), or an option
                is of the wrong type.
            ValueError: An option is out of range, or ``out`` has another shape or dtype.
            TextTooLongError: A text is too long and ``on_overflow="error"``.
        """
        finish = _Finish(self.dim, batch_size, normalize_embeddings, truncate_dim, dtype, on_overflow)
        single = isinstance(texts, str)
        items = [texts] if single else as_text_list(texts)
        # One text has a vector of shape (dim,), and a list of one text has vectors of shape (1, dim).
        shape = (finish.dim,) if single else (len(items), finish.dim)
        out = _output(out, shape, finish.dtype)
        vectors = out[None] if single else out
        overflow = _Overflow(self.max_tokens, on_overflow)
        if on_overflow == "error":
            overflow.add(self.count_tokens(items))
            overflow.report()
        overflow.add(self._encode_all(items, batch_size, finish, vectors, show_progress_bar))
        overflow.report()
        return out

    def encode_with_token_counts(
        self, texts: Any, *, normalize_embeddings: bool = False, truncate_dim: int | None = None
    ) -> tuple[Vectors, npt.NDArray[np.int64]]:
        """Encodes texts and counts their tokens, tokenizing each text once.

        Texts beyond ``max_tokens`` are cut without a warning.

        Args:
            texts: An ordered collection of n str.
            normalize_embeddings: Scale every vector to unit length (zero vectors stay zero).
            truncate_dim: Keep the first ``truncate_dim`` dimensions.

        Returns:
            The vectors, shape (n, dim), float32, equal to those of :meth:`encode`; and the number of tokens
            of each text before any cut, shape (n,), equal to :meth:`count_tokens`.

        Raises:
            TypeError: ``texts`` or one of its items is not text; the message has the index.
            ValueError: ``truncate_dim`` is out of range.
        """
        finish = _Finish(self.dim, _BATCH_SIZE, normalize_embeddings, truncate_dim, "float32", "ignore")
        items = as_text_list(texts)
        vectors = np.empty((len(items), finish.dim), np.float32)
        return vectors, self._encode_all(items, _BATCH_SIZE, finish, vectors)

    def encode_iter(
        self,
        texts: Iterable[str],
        *,
        batch_size: int = _BATCH_SIZE,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        dtype: npt.DTypeLike = "float32",
        on_overflow: OnOverflow = "warn",
    ) -> Iterator[Vectors]:
        """Encodes a stream of any length in bounded memory.

        The options are those of :meth:`encode`. With ``on_overflow="error"``, the blocks before the one with
        the long text are still yielded.

        Yields:
            Arrays of shape (m, dim), in the order of the texts. All but the last have the same m.

        Raises:
            TypeError: ``texts`` is no iterable of str, or an option is of the wrong type.
            ValueError: An option is out of range.
            TextTooLongError: A text is too long and ``on_overflow="error"``.
        """
        if isinstance(texts, str):
            raise TypeError("texts is str, expected an iterable of str: use encode() for one text")
        # Checks the options now, not at the first next().
        finish = _Finish(self.dim, batch_size, normalize_embeddings, truncate_dim, dtype, on_overflow)
        return self._blocks(iterate_texts(texts), batch_size, finish, on_overflow)

    def similarity(self, a: Any, b: Any) -> npt.NDArray[np.float32]:
        """Computes the cosine similarity of every text or vector in ``a`` with every one in ``b``.

        Only the first ``similarity_dim`` components are compared, as an ``Index``, ``sentenc similarity``
        and the server do. Later components are features for classifiers and do not count.

        Args:
            a: A str, an ordered collection of n str, or vectors of this encoder, of shape (n, d) or (d,).
                Vectors have at most ``dim`` columns; those after the first ``similarity_dim`` are cut off.
            b: m texts or vectors, in any of these forms.

        Returns:
            Shape (n, m), float32, within [-1, 1]; 0 if either vector is zero.

        Raises:
            TypeError: An argument is neither texts nor vectors, or one of its texts is not a str.
            ValueError: Vectors have more than ``dim`` columns, or ``a`` and ``b`` differ in the number of
                columns that are left to compare.
        """
        left, right = self._similarity_part(a, "a"), self._similarity_part(b, "b")
        if left.shape[1] != right.shape[1]:
            raise ValueError(
                f"a has {left.shape[1]} dimensions to compare and b has {right.shape[1]}, expected the same"
            )
        cosines: npt.NDArray[np.float32] = np.clip(left @ right.T, -1.0, 1.0)
        return cosines

    # Implementation -----------------------------------------------------------------------------

    def _similarity_part(self, texts_or_vectors: Any, name: str) -> npt.NDArray[np.float32]:
        """Returns the sentence vectors (n, similarity_dim) of texts or vectors, at unit length."""
        if _are_texts(texts_or_vectors):
            texts = [texts_or_vectors] if isinstance(texts_or_vectors, str) else texts_or_vectors
            return unit_rows(self.encode(texts, truncate_dim=self.similarity_dim), name)
        if np.ndim(texts_or_vectors) == 0:
            raise TypeError(f"{name} is {describe(texts_or_vectors)}, expected texts or vectors")
        try:
            vectors = np.asarray(texts_or_vectors, np.float32)
        except ValueError as error:
            raise TypeError(f"{name} is {describe(texts_or_vectors)}, expected texts or vectors") from error
        if vectors.shape[-1] > self.dim:
            raise ValueError(
                f"{name} has {vectors.shape[-1]} columns, expected at most {self.dim} (the encoder's dim)"
            )
        return unit_rows(vectors[..., : self.similarity_dim], name)

    def _encode_all(
        self,
        items: list[str],
        batch_size: int,
        finish: "_Finish",
        out: Vectors,
        show_progress_bar: bool = False,
    ) -> npt.NDArray[np.int64]:
        # Writes the vectors into ``out`` (n, dim) and returns the token counts (n,).
        size = self._block_size(batch_size)
        if 0 < len(items) <= size and not show_progress_bar:
            return self._encode_part(items, batch_size, finish, out)
        counts = np.zeros(len(items), np.int64)
        with progress_bar(len(items), "encoding", show_progress_bar) as bar:
            for start in range(0, len(items), size):
                part = slice(start, min(start + size, len(items)))
                counts[part] = self._encode_part(items[part], batch_size, finish, out[part])
                bar.update(part.stop - start)
        return counts

    def _encode_part(
        self, items: list[str], batch_size: int, finish: "_Finish", out: Vectors
    ) -> npt.NDArray[np.int64]:
        # Does the same for texts of one block.
        if finish.is_raw and out.flags.c_contiguous:
            return self._encode_block(items, batch_size, np.asarray(out))
        raw = np.empty((len(items), self.dim), np.float32)
        counts = self._encode_block(items, batch_size, raw)
        finish(raw, out)
        return counts

    def _blocks(
        self, items: Iterator[Any], batch_size: int, finish: "_Finish", on_overflow: OnOverflow
    ) -> Iterator[Vectors]:
        size = self._block_size(batch_size)
        overflow = _Overflow(self.max_tokens, on_overflow)
        start = 0
        while block := list(islice(items, size)):
            for index, item in enumerate(block, start):
                check_text(item, index)
            out = np.empty((len(block), finish.dim), finish.dtype)
            overflow.add(self._encode_part([str(item) for item in block], batch_size, finish, out))
            if on_overflow == "error":
                overflow.report()
            yield out
            start += len(block)
        overflow.report()


class _Finish:
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
        vectors = raw[:, : self.dim]
        if self.normalize:
            norms = np.sqrt(np.einsum("ij,ij->i", vectors, vectors))
            norms[norms == 0] = 1.0
            np.divide(vectors, norms[:, None], out=out, casting="same_kind")
        else:
            out[...] = vectors


class _Overflow:
    """Counts the texts that are too long, in order to report them once."""

    def __init__(self, max_tokens: int, mode: str) -> None:
        self._limit = max_tokens
        self._mode = mode
        self._cut = 0
        self._longest = 0

    def add(self, counts: npt.NDArray[np.int64]) -> None:
        # The maximum of an array takes longer than a short text in a CSE.
        longest = counts.item() if len(counts) == 1 else int(counts.max(initial=0))
        if longest > self._limit:
            self._cut += int((counts > self._limit).sum())
            self._longest = max(self._longest, longest)

    def report(self) -> None:
        if not self._cut or self._mode == "ignore":
            return
        texts = "1 text is" if self._cut == 1 else f"{self._cut} texts are"
        fact = f"{texts} longer than max_tokens={self._limit} (the longest has {self._longest})"
        if self._mode == "error":
            raise TextTooLongError(f"{fact}: split them, or pass on_overflow='warn' or 'ignore' to cut them")
        # The warning names the caller's line: report() is called by encode(), and encode() by the caller.
        warnings.warn(f"{fact}; the rest of each was cut off", TruncationWarning, stacklevel=3)


def _output(out: Vectors | None, shape: tuple[int, ...], dtype: np.dtype[Any]) -> Vectors:
    if out is None:
        return np.empty(shape, dtype)
    if not isinstance(out, np.ndarray):
        raise ValueError(f"out is {type(out).__name__}, expected a numpy array")
    if out.shape != shape or out.dtype != dtype:
        raise ValueError(f"out has shape {out.shape} and dtype {out.dtype}, expected {shape} and {dtype}")
    if not out.flags.writeable:
        raise ValueError("out is read-only, expected a writeable array")
    return out


def unit_rows(vectors: npt.ArrayLike, name: str) -> npt.NDArray[np.float32]:
    """Scales vectors (n, dim), or one (dim,), to unit length: (n, dim) float32. Zero vectors stay zero.

    Raises:
        ValueError: The vectors have another number of axes; the message begins with ``name``.
    """
    rows = np.atleast_2d(np.asarray(vectors, np.float32))
    if rows.ndim != 2:
        raise ValueError(f"{name} has {rows.ndim} axes, expected shape (n, dim) or (dim,)")
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    return (rows / np.where(norms == 0, np.float32(1), norms)).astype(np.float32)


def _are_texts(value: Any) -> bool:
    # One str among the items is enough: encode() reports the index of an item that is not text.
    if isinstance(value, str):
        return True
    # Items of a matrix are rows, and those of a DataFrame are the names of its columns.
    if getattr(value, "ndim", 1) != 1 or not isinstance(value, Collection):
        return False
    if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
        return False
    return len(value) == 0 or any(isinstance(item, str) for item in value)


def digest(parts: Sequence[bytes]) -> str:
    """Returns 16 hexadecimal digits that change if any of the parts changes."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(len(part).to_bytes(8, "little"))
        sha.update(part)
    return sha.hexdigest()[:16]
