"""The encoder of static models of other libraries."""

from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.arrow_texts import ArrowTexts
from sentenc.checkpoint import Checkpoint
from sentenc.encoders.cse.config import CSEConfig
from sentenc.encoders.cse.tables import fold_tables
from sentenc.encoders.static.config import StaticConfig
from sentenc.encoders.static.pooling import pool_counts, pool_rows, scale_to_unit, without
from sentenc.encoders.static.token_ids import NativeTokenIds, TokenIds, make_token_ids
from sentenc.encoders.table_encoder import TableEncoder
from sentenc.encoders.weights import Weights, check_weights
from sentenc.errors import CheckpointError
from sentenc.kernels.encode import CSEKernel
from sentenc.texts import Texts
from sentenc.threads import Threads

KIND = "static"


class StaticEncoder(TableEncoder):
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
        threads: The number of threads that encode. By default (``"auto"``) all cores that the process may use. The package
            ``tokenizers`` has its own number.
        metadata: As for :class:`~sentenc.CSE`.
        card: As for :class:`~sentenc.CSE`.

    Raises:
        CheckpointError: A weight is missing, unexpected, misshapen or not finite.
        TypeError: ``threads`` is neither an integer nor ``"auto"``.
        ValueError: ``threads`` is out of range.
    """

    kind = KIND
    config: StaticConfig
    tokenizer: TokenIds

    def __init__(
        self,
        config: StaticConfig,
        weights: Weights,
        tokenizer: TokenIds,
        *,
        threads: Threads | None = None,
        metadata: dict[str, Any] | None = None,
        card: str | None = None,
    ) -> None:
        check_weights(weights, config.shapes(), {"embeddings"} if config.has_rows else set())
        if tokenizer.size > config.vocab_size:
            raise CheckpointError(
                f"tokenizer.json has ids up to {tokenizer.size - 1}, expected ids below the number of rows, "
                f"{config.vocab_size}"
            )
        super().__init__(weights, tokenizer, threads, metadata, card)
        self.config = config
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

    def _count_slice(self, texts: Texts) -> npt.NDArray[np.int64]:
        items = list(texts)
        cut = self._cut(items)
        counts = self.tokenizer.encode(cut, self.max_tokens)[2]
        return counts if cut is items else self._with_cut(counts, items, cut)

    def _encode_slice(
        self, texts: Texts, out: npt.NDArray[np.float32], counts: npt.NDArray[np.int64]
    ) -> None:
        if isinstance(texts, ArrowTexts) and self._needs_strings(texts):
            texts = texts.to_list()
        cut = self._cut(texts) if isinstance(texts, list) else texts
        if self._kernel is None or self._native is None:
            self._encode_by_ids(list(cut), out, counts)
        else:
            data, offsets = self._native.tokenizer.bytes_and_offsets(cut)
            self._kernel.encode(data, offsets, self.max_tokens, out, counts)
            if isinstance(cut, list):
                for i in self._native.with_added_tokens(cut):
                    self._encode_by_ids(cut[i : i + 1], out[i : i + 1], counts[i : i + 1])
            self._clear_unknown(cut, out, counts)
        if self.config.normalize:
            scale_to_unit(out)
        if isinstance(texts, list) and isinstance(cut, list) and cut is not texts:
            counts[:] = self._with_cut(counts, texts, cut)

    def _needs_strings(self, texts: ArrowTexts) -> bool:
        # Whether the bytes of the texts are not enough, because a text is cut or contains an added token.
        if self._kernel is None or self._native is None:
            return True
        data, offsets = texts.utf8()
        most = self.config.max_characters
        # A character has one byte or more.
        if most is not None and int(np.diff(offsets).max(initial=0)) > most:
            return True
        return self._native.may_have_added_tokens(data)

    def _encode_by_ids(
        self, texts: list[str], out: npt.NDArray[np.float32], counts: npt.NDArray[np.int64]
    ) -> None:
        ids, ends, counts[:] = self.tokenizer.encode(texts, self.max_tokens)
        unknown = self.tokenizer.unknown_id
        if unknown is not None and (ids == unknown).any():
            known_ids, known_ends = without(ids, ends, unknown)
            if self.config.unknown == "row":
                # A text has its unknown tokens only together with known ones.
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
        self, texts: Texts, out: npt.NDArray[np.float32], counts: npt.NDArray[np.int64]
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
            ids = self.tokenizer.encode(list(texts[i : i + 1]), self.max_tokens)[0]
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
