"""A hybrid encoder: the vectors of another encoder, followed by columns for the words of a text."""

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.checkpoint import CONFIG, HYBRID, Checkpoint, write_files
from sentenc.encoders.base import Encoder
from sentenc.encoders.bert.config import Compute
from sentenc.encoders.bert.encoder import BertEncoder
from sentenc.encoders.comparison import unit_rows
from sentenc.encoders.fingerprints import digest
from sentenc.encoders.golden import golden_vectors
from sentenc.encoders.hybrid.frequencies import TermFrequencies
from sentenc.encoders.hybrid.words import WordColumns
from sentenc.encoders.pair import PairEncoder
from sentenc.encoders.pair_folder import wrapping
from sentenc.errors import CheckpointError
from sentenc.io.atomic import replacing_folder
from sentenc.texts import describe
from sentenc.validation import check_integer, check_number

#: The folder of the encoder in that of a hybrid encoder.
ENCODER = "encoder"
DEFAULT_COLUMNS, DEFAULT_SHARE = 384, 0.25
_MOST_COLUMNS = 16_384
_KEYS = {"columns", "share", "language", "name", "backend"}


class HybridEncoder(Encoder):
    """An encoder whose vectors contain the words of a text, too, so that they find exact words, names and numbers.

    The cosine of two vectors is ``1 - share`` times the cosine of the encoder, plus ``share`` times that of the words.
    It is a dense form of hybrid search for databases that only compare vectors. An :class:`~sentenc.Index` searches by
    words itself, and needs no word columns.

    A vector has the ``similarity_dim`` components of the encoder, followed by ``columns`` for the words, and unit
    length. Words are stemmed, and weighted by their rarity. The words of the whole text count, also beyond
    ``max_tokens``. A text has the zero vector if the encoder knows no token of it, and it has no word either.

    >>> encoder = sentenc.hybrid("tinybert6-en")
    >>> encoder.encode_query("a question") @ encoder.encode_document(["an answer", "another"]).T

    Args:
        encoder: The encoder. :func:`sentenc.hybrid` also takes a name and a pair.
        columns: The number of columns for words, a multiple of 8. More of them are more exact.
        share: The share of the words in a similarity, above 0 and below 1.
        frequencies: The language of the words, and how rare they are. By default those of English.
        metadata: Name, sources and scores, stored in the model folder. By default the language, and the
            ``hybrid_alpha`` of the encoder if it states one.
        card: The model card, Markdown.

    Raises:
        TypeError: An argument is of the wrong type, or the encoder is a pair or a hybrid encoder.
        ValueError: ``columns`` or ``share`` is out of range.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        columns: int = DEFAULT_COLUMNS,
        share: float = DEFAULT_SHARE,
        frequencies: TermFrequencies | None = None,
        metadata: dict[str, Any] | None = None,
        card: str | None = None,
    ) -> None:
        if not isinstance(encoder, Encoder) or isinstance(encoder, PairEncoder | HybridEncoder):
            raise TypeError(
                f"encoder is {describe(encoder)}, expected an Encoder that is neither a pair nor a hybrid encoder"
            )
        columns = check_integer("columns", columns, at_least=8, at_most=_MOST_COLUMNS)
        if columns % 8:
            raise ValueError(f"columns is {columns}, expected a multiple of 8")
        self.encoder = encoder
        self.share = check_number("share", share, above=0, below=1)
        self.words = WordColumns(columns, frequencies or TermFrequencies.english())
        if metadata is None:
            stated = (
                {"hybrid_alpha": encoder.metadata["hybrid_alpha"]}
                if "hybrid_alpha" in encoder.metadata
                else {}
            )
            metadata = {"language": self.words.frequencies.language, **stated}
        self.metadata: dict[str, Any] = metadata
        self.card = card

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, encoder: Encoder) -> "HybridEncoder":
        """Creates the encoder from the content of its folder, and the encoder inside.

        Raises:
            CheckpointError: The configuration or the terms are damaged.
        """
        config = checkpoint.config
        try:
            frequencies = TermFrequencies.from_tensors(config["language"], checkpoint.tensors)
            return cls(
                encoder, columns=config["columns"], share=config["share"], frequencies=frequencies,
                metadata=checkpoint.metadata, card=checkpoint.card,
            )  # fmt: skip
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(f"config.json has a bad config: {error}") from error

    @property
    def dim(self) -> int:
        """The number of components of a vector: those of the encoder that are compared, and those of words."""
        return self.encoder.similarity_dim + self.words.columns

    @property
    def max_tokens(self) -> int:
        """The number of tokens of a text that the encoder uses. Words count in the whole text."""
        return self.encoder.max_tokens

    @property
    def prompts(self) -> Mapping[str, str]:
        """The prompts of the encoder, read-only. They have no part in the words."""
        return self.encoder.prompts

    def count_tokens(self, texts: Any) -> npt.NDArray[np.int64]:
        """Counts the tokens of each text: shape (n,), int64."""
        return self.encoder.count_tokens(texts)

    @property
    def space(self) -> str:
        """The identifier of the space: it changes with that of the encoder, and with columns, share and words."""
        return digest([self.encoder.space.encode(), self._settings()])

    def fingerprint(self) -> str:
        """Returns a short hash of the encoder's fingerprint, columns, share and words."""
        return digest([self.encoder.fingerprint().encode(), self._settings()])

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes a folder with the encoder, the terms and golden vectors. It is replaced completely or not at all.

        Raises:
            CheckpointError: ``folder`` exists and is not a model folder.
        """
        config = {
            "columns": self.words.columns, "share": self.share, "language": self.words.frequencies.language,
            **wrapping(self.encoder),
        }  # fmt: skip
        with replacing_folder(Path(folder), CONFIG, CheckpointError, "a model folder") as staging:
            if isinstance(self.encoder, BertEncoder) and self.encoder.is_compressed:
                self.encoder.save_compact(staging / ENCODER)
            else:
                self.encoder.save(staging / ENCODER)
            golden = golden_vectors(self.with_compute("float32"))
            write_files(
                staging,
                Checkpoint(
                    kind=HYBRID, config=config, tensors=self.words.frequencies.to_tensors(), tokenizer="",
                    golden=golden, metadata=dict(self.metadata), card=self.card,
                ),
            )  # fmt: skip

    def with_compute(self, compute: Compute) -> "HybridEncoder":
        """Returns the same encoder, in which a BERT multiplies matrices in float32 or int8. Others stay as they are."""
        inner = self.encoder.with_compute(compute) if isinstance(self.encoder, BertEncoder) else self.encoder
        return HybridEncoder(
            inner, columns=self.words.columns,
            share=self.share, frequencies=self.words.frequencies, metadata=self.metadata, card=self.card,
        )  # fmt: skip

    def _settings(self) -> bytes:
        frequencies = self.words.frequencies
        values = [self.words.columns, self.share, frequencies.language, frequencies.rare, frequencies.idf]
        return json.dumps(values, sort_keys=True).encode()

    def _unprompted_fingerprint(self) -> str:
        return digest([self.encoder._unprompted_fingerprint().encode(), self._settings()])

    def _encode_block(
        self, texts: list[str], batch_size: int, out: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        return self._write(texts, lambda into: self.encoder._encode_block(texts, batch_size, into), out)

    def _encode_prompted_block(
        self, texts: list[str], prompt: str, batch_size: int, out: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        def encode(into: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
            return self.encoder._encode_prompted_block(texts, prompt, batch_size, into)

        return self._write(texts, encode, out)

    def _write(
        self,
        texts: list[str],
        encode: Callable[[npt.NDArray[np.float32]], npt.NDArray[np.int64]],
        out: npt.NDArray[np.float32],
    ) -> npt.NDArray[np.int64]:
        vectors = np.empty((len(texts), self.encoder.dim), np.float32)
        counts = encode(vectors)
        dim = self.encoder.similarity_dim
        out[:, :dim] = unit_rows(vectors[:, :dim], "vectors") * np.float32(math.sqrt(1 - self.share))
        self.words.write(texts, out[:, dim:])
        out[:, dim:] *= np.float32(math.sqrt(self.share))
        # A text that has only one of both parts has unit length, too.
        out[...] = unit_rows(out, "vectors")
        return counts

    def _block_size(self, batch_size: int) -> int:
        return self.encoder._block_size(batch_size)
