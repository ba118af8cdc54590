"""A hybrid encoder: the vectors of another encoder, followed by columns for the words of a text."""

import copy
import json
import math
import os
import warnings
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
from sentenc.encoders.hybrid.idf import InverseDocumentFrequencies
from sentenc.encoders.hybrid.words import VERSION, WordColumns
from sentenc.encoders.pair import PairEncoder
from sentenc.encoders.pair_folder import wrapping
from sentenc.encoders.roles import Role
from sentenc.errors import CheckpointError
from sentenc.io.atomic import replacing_folder
from sentenc.texts import describe
from sentenc.tokenization.analysis import stemmer_version
from sentenc.validation import check_integer, check_number

#: The folder of the encoder in that of a hybrid encoder.
ENCODER = "encoder"
DEFAULT_COLUMNS, DEFAULT_WEIGHT = 384, 0.25
_MOST_COLUMNS = 16_384
_KEYS = {"columns", "word_weight", "language", "stemmer", "name", "backend"}
# Folders of older versions do not state the fingerprint of the encoder.
_OPTIONAL_KEYS = {"fingerprint"}
# What a model with word columns takes over from the model without.
_KEPT = ("license", "base_model", "hybrid_alpha")


class HybridEncoder(Encoder):
    """An encoder that appends a random projection of the words of a text to the vector of another encoder.

    The cosine of two vectors is ``1 - word_weight`` times the cosine of the encoder, plus ``word_weight`` times that of
    the weighted words. It is a dense form of hybrid search for databases that only compare vectors, where
    ``1 - word_weight`` has the role of ``alpha``. An :class:`~sentenc.Index` searches by words itself, and needs no word
    columns.

    A vector has the ``similarity_dim`` components of the encoder, followed by ``columns`` for the words, and unit
    length. Words are stemmed, and weighted by their rarity. The words of the whole text count, also beyond
    ``max_tokens``. All texts without words have the same word columns. If the encoder knows no token of a text, words
    alone count; without words either, the vector is zero.

    >>> encoder = sentenc.hybrid("tinybert6-en")
    >>> encoder.encode_query("a question") @ encoder.encode_document(["an answer", "another"]).T

    Args:
        encoder: The encoder. :func:`sentenc.hybrid` also takes a name and a pair.
        columns: The number of columns for words, a multiple of 8. More of them are more exact.
        word_weight: The weight of the words in a similarity, above 0 and below 1.
        idf: The language of the words, and how rare they are. By default those of English.
        metadata: Name, sources and scores, stored in the model folder. By default the language, and license, base model
            and ``hybrid_alpha`` of the encoder if it states them.
        card: The model card, Markdown.

    Raises:
        TypeError: An argument is of the wrong type, or the encoder is a pair or a hybrid encoder.
        ValueError: ``columns`` or ``word_weight`` is out of range.
    """

    def __init__(
        self,
        encoder: Encoder,
        *,
        columns: int = DEFAULT_COLUMNS,
        word_weight: float = DEFAULT_WEIGHT,
        idf: InverseDocumentFrequencies | None = None,
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
        if idf is not None and not isinstance(idf, InverseDocumentFrequencies):
            raise TypeError(f"idf is {describe(idf)}, expected InverseDocumentFrequencies")
        self.encoder = encoder
        self.word_weight = check_number("word_weight", word_weight, above=0, below=1)
        self.words = WordColumns(columns, InverseDocumentFrequencies.english() if idf is None else idf)
        if metadata is None:
            kept = {name: encoder.metadata[name] for name in _KEPT if name in encoder.metadata}
            metadata = {"language": self.words.idf.language, **kept}
        self.metadata: dict[str, Any] = metadata
        self.card = card

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, encoder: Encoder) -> "HybridEncoder":
        """Creates the encoder from the content of its folder, and the encoder inside.

        Raises:
            CheckpointError: The configuration or the terms are damaged.
        """
        config = checked_config(checkpoint)
        if config["stemmer"] != stemmer_version():
            warnings.warn(
                f"{checkpoint.folder} was saved with PyStemmer {config['stemmer']}, but {stemmer_version()} is installed: "
                "a few words may have other columns than in vectors of then",
                stacklevel=4,
            )
        try:
            idf = InverseDocumentFrequencies.from_tensors(config["language"], checkpoint.tensors)
            return cls(
                encoder, columns=config["columns"], word_weight=config["word_weight"], idf=idf,
                metadata=checkpoint.metadata, card=checkpoint.card,
            )  # fmt: skip
        except (TypeError, ValueError) as error:
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
        """The identifier of the space: it changes with that of the encoder, and with all settings of the words."""
        return digest([self.encoder.space.encode(), self._settings()])

    def fingerprint(self) -> str:
        """Returns a short hash of the encoder's fingerprint and all settings of the words."""
        return digest([self.encoder.fingerprint().encode(), self._settings()])

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes a folder with the encoder, the terms and golden vectors. It is replaced completely or not at all.

        Raises:
            CheckpointError: ``folder`` exists and is not a model folder.
        """
        config = {
            "columns": self.words.columns, "word_weight": self.word_weight,
            "language": self.words.idf.language, "stemmer": stemmer_version(), **wrapping(self.encoder),
            "fingerprint": self.encoder.fingerprint(),
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
                    kind=HYBRID, config=config, tensors=self.words.idf.to_tensors(), tokenizer="",
                    golden=golden, metadata=dict(self.metadata), card=self.card,
                ),
            )  # fmt: skip

    def with_compute(self, compute: Compute) -> "HybridEncoder":
        """Returns the same encoder, in which a BERT multiplies matrices in float32 or int8. Others stay as they are."""
        if not isinstance(self.encoder, BertEncoder):
            return self
        changed = self._around(self.encoder.with_compute(compute))
        changed.loaded_as = self.loaded_as and (self.loaded_as[0], {**self.loaded_as[1], "compute": compute})
        return changed

    def for_role(self, role: Role) -> tuple[Encoder, str | None]:
        """Returns the encoder of the texts of a role, and the name of its prompt for them."""
        encoder, prompt_name = self.encoder.for_role(role)
        return (self if encoder is self.encoder else self._around(encoder)), prompt_name

    def _around(self, encoder: Encoder) -> "HybridEncoder":
        # The same word columns, with the hashes that were computed, for another form of the encoder.
        changed = copy.copy(self)
        changed.encoder = encoder
        changed.loaded_as = None
        return changed

    def _settings(self) -> bytes:
        values = [VERSION, self.words.columns, self.word_weight, self.words.idf.digest]
        return json.dumps(values).encode()

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
        meaning, words = out[:, :dim], out[:, dim:]
        meaning[...] = unit_rows(vectors[:, :dim], "vectors")
        self.words.write(texts, words)
        # Without this vector, a text without words would be nearer to all others than its meaning is.
        words[meaning.any(axis=1) & ~words.any(axis=1)] = self.words.without_terms()
        meaning *= np.float32(math.sqrt(1 - self.word_weight))
        words *= np.float32(math.sqrt(self.word_weight))
        # A text that the encoder does not know has unit length, too.
        out[...] = unit_rows(out, "vectors")
        return counts

    def _block_size(self, batch_size: int) -> int:
        return self.encoder._block_size(batch_size)


def checked_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """Returns the configuration in the folder of a hybrid encoder.

    Raises:
        CheckpointError: A key is missing or unexpected.
    """
    keys = set(checkpoint.config)
    if not _KEYS <= keys <= _KEYS | _OPTIONAL_KEYS:
        raise CheckpointError(
            f"config.json has a bad config: keys {sorted(keys)}, expected {sorted(_KEYS)} and optionally "
            f"{', '.join(sorted(_OPTIONAL_KEYS))}"
        )
    return checkpoint.config
