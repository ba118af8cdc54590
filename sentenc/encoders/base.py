"""The base class of all encoders: their interface, and what does not depend on the model."""

import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.arrow_tables import ArrowTables
from sentenc.encoders.comparison import sentence_vectors
from sentenc.encoders.encode_options import Finish, OnOverflow, Overflow, Vectors, output_array
from sentenc.encoders.endpoint_positions import positions_from
from sentenc.encoders.roles import ROLES, Role, prompt_of, stated_prompts, stated_space
from sentenc.encoders.sharing import Sharing
from sentenc.io.progress import progress_bar
from sentenc.texts import Texts, as_texts, check_text, iterate_texts
from sentenc.validation import check_choice

_BATCH_SIZE = 64
# The batches in one block: enough to sort texts by length within it, and small enough for memory.
_BATCHES_PER_BLOCK = 32


class Encoder(ArrowTables, Sharing, ABC):
    """Turns texts into vectors. Subclasses compute them; this class keeps the contract.

    A text always has the same vector, for any batch size, order, neighbors and number of threads (to 1e-5
    in float32). An empty text, or one without known tokens, has the zero vector. Encoders can be shared
    between threads and pickled, and they change no global state.

    Models of search may have a prompt for the texts of a role: :meth:`encode_query` puts the prompt "query"
    before every text, and :meth:`encode_document` the prompt "document". Other models encode all texts alike.

    Attributes:
        metadata: Name, sources and scores of the model, and its ``prompts`` and ``space`` if it states them.
        loaded_as: The name, Hub id or absolute path, and the options that change vectors, by which
            :func:`sentenc.load` loads this encoder; None if it was made in another way.
    """

    metadata: Mapping[str, Any] = MappingProxyType({})
    loaded_as: tuple[str, Mapping[str, Any]] | None = None
    # Whether ``_encode_block`` takes ArrowTexts, too.
    _reads_utf8: bool = False

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

    def _encode_prompted_block(
        self, texts: list[str], prompt: str, batch_size: int, out: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        """Does the same with a prompt before each text. A text without known tokens has the zero vector all the same."""
        counts = self._encode_block([prompt + text for text in texts], batch_size, out)
        out[~self._have_known_tokens(texts)] = 0.0
        return counts

    def _have_known_tokens(self, texts: list[str]) -> npt.NDArray[np.bool_]:
        """Returns whether each text has a known token and so a vector: shape (n,)."""
        vectors = np.empty((len(texts), self.dim), np.float32)
        self._encode_block(texts, _BATCH_SIZE, vectors)
        return np.asarray(vectors.any(axis=1))

    def _unprompted_fingerprint(self) -> str:
        """Returns the fingerprint without prompts, of what the vectors of texts without one depend on."""
        return self.fingerprint()

    def _block_size(self, batch_size: int) -> int:
        """Returns the number of texts to pass to ``_encode_block`` at a time."""
        return batch_size * _BATCHES_PER_BLOCK

    # Users call these ---------------------------------------------------------------------------

    @property
    def prompts(self) -> Mapping[str, str]:
        """The prompts by name, read-only. Those of roles are "query" and "document"; often there are none."""
        return stated_prompts(self.metadata)

    @property
    def space(self) -> str:
        """The identifier of the space of the vectors: vectors of two encoders may be compared if it is equal.

        A model that was fitted into the space of another one has its space. Every other model has its own, with
        a hash of weights, tokenizer and settings, but not of ``compute`` and ``max_tokens``, as its identifier.
        """
        return stated_space(self.metadata) or self._unprompted_fingerprint()

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
        prompt_name: str | None = None,
    ) -> Vectors:
        """Encodes texts. The order of operations is fixed: pool, truncate, normalize, cast.

        The first ``similarity_dim`` columns are the sentence vector, which ``similarity`` and an ``Index``
        compare. The last columns, if there are more, are features for classifiers: plain averages of words
        and pooled n-grams. They improve a classifier's accuracy, and a cosine should leave them out. Pass
        ``truncate_dim=encoder.similarity_dim`` to get the sentence vectors alone.

        Args:
            texts: A str, or any ordered collection or iterable of n str, such as an Arrow array.
            batch_size: The number of texts that go through the model together. It changes the speed, never
                the vectors.
            normalize_embeddings: Scale every vector to unit length (zero vectors stay zero).
            truncate_dim: Keep the first ``truncate_dim`` components.
            dtype: ``"float32"``, ``"float16"`` or ``"float64"``.
            on_overflow: What happens if texts have more than ``max_tokens`` tokens: ``"warn"`` once per call,
                ``"error"`` before any text is encoded, or ``"ignore"``.
            out: The array to write into, of shape (n, dim) and of type ``dtype``. It may be a ``np.memmap``.
            show_progress_bar: Draw a progress bar on standard error.
            prompt_name: The name of a prompt of :attr:`prompts` to put before every text. Its tokens count
                as tokens of the text.

        Returns:
            Shape (dim,) for a str, (n, dim) otherwise; ``out`` itself if it was passed.

        Raises:
            TypeError: ``texts`` or one of its items is not text (the message has the index), or an option
                is of the wrong type.
            ValueError: An option is out of range, the model has no prompt of this name, or ``out`` has another
                shape or dtype.
            TextTooLongError: A text is too long and ``on_overflow="error"``.
        """
        finish = Finish(self.dim, batch_size, normalize_embeddings, truncate_dim, dtype, on_overflow)
        single = isinstance(texts, str)
        items = [texts] if single else as_texts(texts)
        # One text has a vector of shape (dim,), and a list of one text has vectors of shape (1, dim).
        shape = (finish.dim,) if single else (len(items), finish.dim)
        out = output_array(out, shape, finish.dtype)
        vectors = out[None] if single else out
        prompt = None if prompt_name is None else prompt_of(self.prompts, prompt_name)
        overflow = Overflow(self.max_tokens, on_overflow)
        if on_overflow == "error":
            overflow.add(self.count_tokens([prompt + text for text in items] if prompt else items))
            overflow.report()
        overflow.add(self._encode_all(items, batch_size, finish, vectors, prompt, show_progress_bar))
        overflow.report()
        return out

    def encode_query(
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
        """Encodes queries like :meth:`encode`, with the prompt "query" if the model has one."""
        encoder, prompt_name = self.for_role("query")
        return encoder.encode(
            texts, batch_size=batch_size, normalize_embeddings=normalize_embeddings, dtype=dtype, out=out,
            truncate_dim=self._columns_of(encoder, truncate_dim), on_overflow=on_overflow,
            show_progress_bar=show_progress_bar, prompt_name=prompt_name,
        )  # fmt: skip

    def encode_document(
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
        """Encodes documents like :meth:`encode`, with the prompt "document" if the model has one."""
        encoder, prompt_name = self.for_role("document")
        return encoder.encode(
            texts, batch_size=batch_size, normalize_embeddings=normalize_embeddings,
            truncate_dim=self._columns_of(encoder, truncate_dim), dtype=dtype, on_overflow=on_overflow, out=out,
            show_progress_bar=show_progress_bar, prompt_name=prompt_name,
        )  # fmt: skip

    def for_role(self, role: Role) -> "tuple[Encoder, str | None]":
        """Returns the encoder of the texts of a role, and the name of its prompt for them.

        Args:
            role: ``"query"`` or ``"document"``.

        Returns:
            The encoder itself, unless it consists of one for each role; and the ``prompt_name`` for its methods.
        """
        check_choice("role", role, ROLES)
        return self, (role if role in self.prompts else None)

    def encode_with_token_counts(
        self,
        texts: Any,
        *,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        prompt_name: str | None = None,
    ) -> tuple[Vectors, npt.NDArray[np.int64]]:
        """Encodes texts and counts their tokens, tokenizing each text once.

        Texts beyond ``max_tokens`` are cut without a warning.

        Args:
            texts: An ordered collection of n str.
            normalize_embeddings: Scale every vector to unit length (zero vectors stay zero).
            truncate_dim: Keep the first ``truncate_dim`` dimensions.
            prompt_name: The name of a prompt to put before every text.

        Returns:
            The vectors, shape (n, dim), float32, equal to those of :meth:`encode`; and the number of tokens
            of each text before any cut, shape (n,), equal to :meth:`count_tokens` of the text with its prompt.

        Raises:
            TypeError: ``texts`` or one of its items is not text; the message has the index.
            ValueError: ``truncate_dim`` is out of range, or the model has no prompt of this name.
        """
        prompt = None if prompt_name is None else prompt_of(self.prompts, prompt_name)
        finish = Finish(self.dim, _BATCH_SIZE, normalize_embeddings, truncate_dim, "float32", "ignore")
        items = as_texts(texts)
        vectors = np.empty((len(items), finish.dim), np.float32)
        return vectors, self._encode_all(items, _BATCH_SIZE, finish, vectors, prompt)

    def encode_iter(
        self,
        texts: Iterable[str],
        *,
        batch_size: int = _BATCH_SIZE,
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        dtype: npt.DTypeLike = "float32",
        on_overflow: OnOverflow = "warn",
        prompt_name: str | None = None,
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
        prompt = None if prompt_name is None else prompt_of(self.prompts, prompt_name)
        finish = Finish(self.dim, batch_size, normalize_embeddings, truncate_dim, dtype, on_overflow)
        return self._blocks(iterate_texts(texts), batch_size, finish, on_overflow, prompt)

    def similarity(self, a: Any, b: Any) -> npt.NDArray[np.float32]:
        """Computes the cosine similarity of every text or vector in ``a`` with every one in ``b``.

        Only the first ``similarity_dim`` components are compared, as an ``Index``, ``sentenc similarity``
        and the server do. Later components are features for classifiers and do not count.

        Args:
            a: A str, an ordered collection of n str, or vectors of shape (n, d) or (d,), of this encoder
                or another one of its space. They have at most ``dim`` columns; those after the first
                ``similarity_dim`` are cut off.
            b: m texts or vectors, in any of these forms.

        Returns:
            Shape (n, m), float32, within [-1, 1]; 0 if either vector is zero.

        Raises:
            TypeError: An argument is neither texts nor vectors, or one of its texts is not a str.
            ValueError: Vectors have more than ``dim`` columns, or ``a`` and ``b`` differ in the number of
                columns that are left to compare.
        """
        left, right = sentence_vectors(self, a, "a"), sentence_vectors(self, b, "b")
        if left.shape[1] != right.shape[1]:
            raise ValueError(
                f"a has {left.shape[1]} dimensions to compare and b has {right.shape[1]}, expected the same"
            )
        return np.asarray(np.clip(left @ right.T, -1.0, 1.0), np.float32)

    # Implementation -----------------------------------------------------------------------------

    def _columns_of(self, encoder: "Encoder", truncate_dim: int | None) -> int | None:
        # The encoder of a role may have features for classifiers, which the whole leaves out.
        return self.dim if truncate_dim is None and encoder is not self else truncate_dim

    def _encode_all(
        self,
        items: Texts,
        batch_size: int,
        finish: Finish,
        out: Vectors,
        prompt: str | None = None,
        show_progress_bar: bool = False,
    ) -> npt.NDArray[np.int64]:
        # Writes the vectors into ``out`` (n, dim) and returns the token counts (n,).
        size = self._block_size(batch_size)
        if 0 < len(items) <= size and not show_progress_bar:
            return self._encode_part(items, batch_size, finish, out, prompt)
        counts = np.zeros(len(items), np.int64)
        with progress_bar(len(items), "encoding", show_progress_bar) as bar:
            for start in range(0, len(items), size):
                part = slice(start, min(start + size, len(items)))
                with positions_from(start):
                    counts[part] = self._encode_part(items[part], batch_size, finish, out[part], prompt)
                bar.update(part.stop - start)
        return counts

    def _encode_part(
        self, items: Texts, batch_size: int, finish: Finish, out: Vectors, prompt: str | None
    ) -> npt.NDArray[np.int64]:
        # Does the same for texts of one block.
        reads_items = isinstance(items, list) or (self._reads_utf8 and prompt is None)
        texts: Any = items if reads_items else list(items)
        is_raw = finish.is_raw and out.flags.c_contiguous
        raw = np.asarray(out) if is_raw else np.empty((len(items), self.dim), np.float32)
        if prompt is None:
            counts = self._encode_block(texts, batch_size, raw)
        else:
            counts = self._encode_prompted_block(texts, prompt, batch_size, raw)
        if not is_raw:
            finish(raw, out)
        return counts

    def _blocks(
        self, items: Iterator[Any], batch_size: int, finish: Finish, on_overflow: OnOverflow,
        prompt: str | None,
    ) -> Iterator[Vectors]:  # fmt: skip
        size = self._block_size(batch_size)
        overflow = Overflow(self.max_tokens, on_overflow)
        start = 0
        while block := list(islice(items, size)):
            for index, item in enumerate(block, start):
                check_text(item, index)
            out = np.empty((len(block), finish.dim), finish.dtype)
            texts = [str.__str__(item) for item in block]
            with positions_from(start):
                overflow.add(self._encode_part(texts, batch_size, finish, out, prompt))
            if on_overflow == "error":
                overflow.report()
            yield out
            start += len(block)
        overflow.report()
