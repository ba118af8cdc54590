"""The encoder of static models of other libraries."""

import json
import os
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.checkpoint import Checkpoint, write_checkpoint
from sentenc.encoders.base import Encoder
from sentenc.encoders.cse.config import CSEConfig
from sentenc.encoders.cse.tables import fold_tables
from sentenc.encoders.fingerprints import digest, prompted_fingerprint
from sentenc.encoders.golden import golden_vectors
from sentenc.encoders.roles import stated_space
from sentenc.encoders.slices import TEXTS_PER_BLOCK, encode_in_slices
from sentenc.encoders.static.config import StaticConfig
from sentenc.encoders.static.pooling import pool_counts, pool_rows, scale_to_unit, without
from sentenc.encoders.static.token_ids import NativeTokenIds, TokenIds, make_token_ids
from sentenc.encoders.weights import Weights, check_weights
from sentenc.errors import CheckpointError
from sentenc.kernels.encode import CSEKernel
from sentenc.texts import as_text_list
from sentenc.threads import usable_cores
from sentenc.validation import check_integer

KIND = "static"
# The largest block of vectors, 256 MB of float32, which only bags of words reach.
_NUMBERS_PER_BLOCK = 1 << 26


class StaticEncoder(Encoder):
    """A static model of model2vec, sentence-transformers, wordllama, gensim or a file of word vectors.

    The vector of a text is the mean of the rows of its tokens (or another pooling), as in the library of the
    model. Models whose tokenizer is WordPiece, or splits a text into whole words, are computed by the same native
    code as a :class:`~sentenc.CSE`.

    A text that is cut by its number of characters counts as more than ``max_tokens`` tokens.

    Args:
        config: The model's shape.
        weights: ``embeddings``, (V, d) float32, or int8 with the factor of each row, ``embeddings.scale``, (V,)
            float32; of a bag of words, ``weights``, (V,) float32.
        tokenizer: The tokenizer of ``config.splitting``, whose ids are below ``config.vocab_size``.
        threads: The number of threads that encode. By default all cores that the process may use. The package
            ``tokenizers`` has its own number.
        metadata: As for :class:`~sentenc.CSE`.
        card: As for :class:`~sentenc.CSE`.

    Raises:
        CheckpointError: A weight is missing, unexpected, misshapen or not finite.
        TypeError: ``threads`` is no integer.
        ValueError: ``threads`` is out of range.
    """

    def __init__(
        self,
        config: StaticConfig,
        weights: Weights,
        tokenizer: TokenIds,
        *,
        threads: int | None = None,
        metadata: dict[str, Any] | None = None,
        card: str | None = None,
    ) -> None:
        check_weights(weights, config.shapes(), {"embeddings"} if config.has_rows else set())
        if tokenizer.size > config.vocab_size:
            raise CheckpointError(
                f"tokenizer.json has ids up to {tokenizer.size - 1}, expected ids below the number of rows, "
                f"{config.vocab_size}"
            )
        self.config = config
        self.tokenizer = tokenizer
        self.threads = usable_cores() if threads is None else check_integer("threads", threads)
        self.metadata: dict[str, Any] = metadata or {}
        self.card = card
        self._weights = dict(weights)
        self._kernel: CSEKernel | None = None
        self._native = tokenizer if isinstance(tokenizer, NativeTokenIds) else None
        if self._native is not None and config.pooling == "mean":
            self._kernel = self._make_kernel(self._native)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, *, threads: int | None = None) -> "StaticEncoder":
        """Creates the encoder from the content of a model folder.

        Raises:
            CheckpointError: The configuration or a weight is missing or damaged.
            MissingExtraError: The tokenizer needs the package ``tokenizers``, which is not installed.
        """
        try:
            config = StaticConfig.from_dict(checkpoint.config)
        except (ValueError, TypeError) as error:
            raise CheckpointError(f"config.json has a bad config: {error}") from error
        tokenizer = make_token_ids(checkpoint.tokenizer, config.splitting)
        return cls(
            config, checkpoint.tensors, tokenizer, threads=threads, metadata=checkpoint.metadata,
            card=checkpoint.card,
        )  # fmt: skip

    @property
    def dim(self) -> int:
        """The number of components of a vector."""
        return self.config.embedding_dim

    @property
    def max_tokens(self) -> int:
        """The number of tokens of a text that are used. No special tokens are added."""
        return self.config.max_tokens

    @property
    def weights(self) -> Weights:
        """The weights by name, as they are stored."""
        return dict(self._weights)

    @property
    def has_added_tokens(self) -> bool:
        """Whether the name of an added token of a native tokenizer is this token within a text."""
        return self._native is not None and self._native.has_added_tokens

    def count_tokens(self, texts: Any) -> npt.NDArray[np.int64]:
        """Counts the tokens of each text, unknown ones included: shape (n,), int64."""
        items = [texts] if isinstance(texts, str) else as_text_list(texts)
        counts = np.zeros(len(items), np.int64)
        for begin in range(0, len(items), TEXTS_PER_BLOCK):
            block = items[begin : begin + TEXTS_PER_BLOCK]
            cut = self._cut(block)
            found = self.tokenizer.encode(cut, self.max_tokens)[2]
            counts[begin : begin + len(block)] = (
                self._with_cut(found, block, cut) if cut is not block else found
            )
        return counts

    def fingerprint(self) -> str:
        """Returns a short hash of configuration, tokenizer, weights and prompts."""
        return prompted_fingerprint(self._unprompted_fingerprint(), self.prompts)

    def _unprompted_fingerprint(self) -> str:
        return self._digest(self.config.to_dict())

    @property
    def space(self) -> str:
        """The identifier of the space of the vectors; see :attr:`Encoder.space`."""
        return stated_space(self.metadata) or self._digest(self.config.to_dict() | {"max_tokens": None})

    def _digest(self, settings: dict[str, Any]) -> str:
        parts = [json.dumps(settings, sort_keys=True).encode(), self.tokenizer.spec.encode()]
        for name in sorted(self._weights):
            value = self._weights[name]
            parts += [f"{name} {value.dtype} {value.shape}".encode(), np.ascontiguousarray(value).tobytes()]
        return digest(parts)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes a model folder with golden vectors. It is replaced completely or not at all.

        Raises:
            CheckpointError: ``folder`` exists and is not a model folder.
        """
        write_checkpoint(
            folder,
            Checkpoint(
                kind=KIND, config=self.config.to_dict(), tensors=self._weights, tokenizer=self.tokenizer.spec,
                golden=golden_vectors(self), metadata=self.metadata, card=self.card,
            ),
        )  # fmt: skip

    def _make_kernel(self, tokenizer: NativeTokenIds) -> CSEKernel:
        config = CSEConfig(vocab_size=self.config.vocab_size, embedding_dim=self.dim, widths=())
        tables = str(self._weights["embeddings"].dtype)
        zeros = np.zeros(config.vocab_size, np.float32)
        words, ngrams = fold_tables(config, {**self._weights, "token_weights": zeros}, tables)
        if self.config.unknown == "skip" and tokenizer.unknown_id is not None:
            # An unknown word counts as a token, and its row has no weight in the mean.
            words.scales[tokenizer.unknown_id] = words.weights[tokenizer.unknown_id] = 0.0
        # The table is the only copy of the rows.
        self._weights["embeddings"] = words.rows
        return CSEKernel(tokenizer.tokenizer.native, words, ngrams, self.dim)

    def _block_size(self, batch_size: int) -> int:
        # Texts do not depend on their neighbors, so small batches would only cost time.
        return max(batch_size, min(TEXTS_PER_BLOCK, max(1, _NUMBERS_PER_BLOCK // self.dim)))

    def _encode_block(
        self, texts: list[str], batch_size: int, out: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        counts = np.empty(len(texts), np.int64)
        encode_in_slices(texts, out, counts, self._encode_slice, self.threads)
        return counts

    def _encode_slice(
        self, texts: list[str], out: npt.NDArray[np.float32], counts: npt.NDArray[np.int64]
    ) -> None:
        cut = self._cut(texts)
        if self._kernel is None or self._native is None:
            self._encode_by_ids(cut, out, counts)
        else:
            data, offsets = self._native.tokenizer.bytes_and_offsets(cut)
            self._kernel.encode(data, offsets, self.max_tokens, out, counts)
            for i in self._native.with_added_tokens(cut):
                self._encode_by_ids(cut[i : i + 1], out[i : i + 1], counts[i : i + 1])
            self._clear_unknown(cut, out, counts)
        if self.config.normalize:
            scale_to_unit(out)
        if cut is not texts:
            counts[:] = self._with_cut(counts, texts, cut)

    def _encode_by_ids(
        self, texts: list[str], out: npt.NDArray[np.float32], counts: npt.NDArray[np.int64]
    ) -> None:
        ids, ends, counts[:] = self.tokenizer.encode(texts, self.max_tokens)
        unknown = self.tokenizer.unknown_id
        if unknown is not None and (ids == unknown).any():
            known_ids, known_ends = without(ids, ends, unknown)
            if self.config.unknown == "row":
                # A text has its unknown tokens only beside known ones.
                has_known = np.diff(known_ends, prepend=0) > 0
                ids = ids[np.repeat(has_known, np.diff(ends, prepend=0))]
                ends = np.cumsum(np.where(has_known, np.diff(ends, prepend=0), 0))
            else:
                ids, ends = known_ids, known_ends
        if self.config.has_rows:
            pool_rows(self._weights, ids, ends, self.config.pooling, out)
        else:
            pool_counts(self._weights["weights"], ids, ends, self.config.pooling == "count", out)

    def _clear_unknown(
        self, texts: list[str], out: npt.NDArray[np.float32], counts: npt.NDArray[np.int64]
    ) -> None:
        # A text of unknown words alone has the zero vector. The kernel has given it the row of the unknown token.
        unknown = self.tokenizer.unknown_id
        if unknown is None or self.config.unknown == "skip":
            return
        row = self._weights["embeddings"][unknown].astype(np.float32)
        if "embeddings.scale" in self._weights:
            row *= self._weights["embeddings.scale"][unknown]
        place = int(np.abs(row).argmax())
        # Rounding grows with the number of summands. The few texts that come close are looked at again.
        close = np.abs(out[:, place] - row[place]) <= (1e-5 + 1e-7 * counts) * np.abs(row[place])
        for i in np.flatnonzero(close & (counts > 0)).tolist():
            ids = self.tokenizer.encode(texts[i : i + 1], self.max_tokens)[0]
            if (ids == unknown).all():
                out[i] = 0.0

    def _cut(self, texts: list[str]) -> list[str]:
        # Returns the texts themselves if none is cut.
        most = self.config.max_characters
        if most is None or max(map(len, texts), default=0) <= most:
            return texts
        return [text if len(text) <= most else text[:most] for text in texts]

    def _with_cut(
        self, counts: npt.NDArray[np.int64], texts: list[str], cut: list[str]
    ) -> npt.NDArray[np.int64]:
        # The counts of texts that were cut by their characters show that they were cut.
        was_cut = np.fromiter((a is not b for a, b in zip(texts, cut, strict=True)), np.bool_, len(texts))
        return np.where(was_cut, np.maximum(counts, self.max_tokens + 1), counts)

    def __reduce__(self) -> tuple[Any, ...]:
        options: dict[str, Any] = {"threads": self.threads, "metadata": self.metadata, "card": self.card}
        make = partial(StaticEncoder, **options)
        return make, (self.config, self._weights, self.tokenizer), {"loaded_as": self.loaded_as}
