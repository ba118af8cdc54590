"""Tokenizes texts with native code: cased or lower-case WordPiece, or whole words.

The token ids are those of the ``tokenizers`` library, whose rules :mod:`sentenc.tokenization.unicode_rules` has.
:mod:`sentenc.kernels` does the work, about ten times as fast and without the GIL.
"""

import copy
import json
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.errors import CheckpointError
from sentenc.kernels.vocabulary import Vocabulary
from sentenc.texts import Texts, offsets_of
from sentenc.tokenization.specification import read_specification
from sentenc.tokenization.unicode_fold import FoldTable
from sentenc.tokenization.unicode_rules import UnicodeRules

# A higher id would be a mistake, and the memory for all ids below it could be missing.
_MOST_TOKENS = 2**24


class Tokenizer:
    """A tokenizer that runs in native code, built from a ``tokenizer.json``.

    No token is added around a text. Padding and truncation are ignored. Special tokens of the file are ordinary
    entries, so that "[SEP]" in a text is split into a word and punctuation, unless they are ``special_tokens``.

    Args:
        spec: The content of a ``tokenizer.json``: model ``WordPiece`` or ``WordLevel``, normalizer
            ``BertNormalizer``, ``Lowercase`` or none, pre-tokenizer ``BertPreTokenizer`` or
            ``WhitespaceSplit``.
        skip_unknown: Whether unknown words are left out. Otherwise they have the id of the unknown token.
        special_tokens: Tokens that are matched in a text as they are written, before it is split into words, as
            ``tokenizers`` matches special tokens. Those that are not in the vocabulary have no effect.

    Attributes:
        special_tokens: Those of them that are in the vocabulary, or None if none were passed.

    Raises:
        CheckpointError: The file is damaged, or has an unsupported part; the message contains it.
    """

    def __init__(
        self, spec: str, *, skip_unknown: bool = True, special_tokens: Iterable[str] | None = None
    ) -> None:
        self._config = read_specification(spec)
        self.skip_unknown = skip_unknown
        model = self._config["model"]
        self._vocabulary: dict[str, int] = model["vocab"]
        self._continues = model["type"] == "WordPiece"
        self._prefix = model["continuing_subword_prefix"] if self._continues else ""
        unicode_rules = UnicodeRules(self._config.get("normalizer"), self._config["pre_tokenizer"])
        tokens = _tokens_by_id(self._vocabulary)
        self._vocab_size = len(tokens)
        self.unknown_id: int | None = self._vocabulary.get(model["unk_token"])
        if not skip_unknown and self.unknown_id is None:
            raise CheckpointError(
                "tokenizer.json has no unknown token in its vocabulary, expected one to keep unknown words"
            )
        self._max_chars = model["max_input_chars_per_word"] if self._continues else 2**31
        self.native = self._native_vocabulary(tokens, unicode_rules)
        self._fold = FoldTable(unicode_rules.normalize, unicode_rules.classify, unicode_rules.moves)
        self._set_special_tokens(special_tokens)

    def with_special_tokens(self, tokens: Iterable[str]) -> "Tokenizer":
        """Returns a tokenizer with other ``special_tokens``, which shares the native vocabulary."""
        other = copy.copy(self)
        other._set_special_tokens(tokens)
        return other

    @property
    def special_ids(self) -> npt.NDArray[np.int64]:
        """The ids of the special tokens and of unknown words, shape (k,)."""
        ids = {self._vocabulary[token] for token in self.special_tokens or ()}
        if self.unknown_id is not None:
            ids.add(self.unknown_id)
        return np.array(sorted(ids), np.int64)

    @property
    def spec(self) -> str:
        """The ``tokenizer.json`` without the parts that are ignored. It makes an equal tokenizer."""
        return json.dumps(self._config, ensure_ascii=False, separators=(",", ":"))

    @property
    def vocab_size(self) -> int:
        """The number of rows of an embedding matrix for this vocabulary: the highest id plus one."""
        return self._vocab_size

    @property
    def vocabulary(self) -> dict[str, int]:
        """The id of every token."""
        return dict(self._vocabulary)

    def bytes_and_offsets(self, texts: Texts) -> tuple[bytes, npt.NDArray[np.int64]]:
        """Returns the folded bytes of all texts, and where each text begins and ends in them, (n + 1,)."""
        if not isinstance(texts, list):
            data, offsets = texts.utf8()
            return (data, offsets) if data.isascii() else self._fold.fold_utf8(data, offsets)
        joined = "".join(texts)
        if joined.isascii():
            # The offsets of one text take half the time this way.
            offsets = np.array((0, len(joined)), np.int64) if len(texts) == 1 else offsets_of(texts)
            return joined.encode("ascii"), offsets
        return self._fold(texts)

    def encode(
        self, texts: Texts, max_tokens: int = 2**31 - 1
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Tokenizes n texts.

        Returns:
            The ids of all texts, one text after another; the end of each text in them, (n,); and the number
            of tokens of each text before the cut to ``max_tokens``, (n,).
        """
        if self._special is not None and self._special.search("".join(texts)):
            return self._encode_around_special_tokens(self._special, list(texts), max_tokens)
        return self.native.tokenize(*self.bytes_and_offsets(texts), max_tokens)

    def _encode_around_special_tokens(
        self, special: re.Pattern[str], texts: list[str], max_tokens: int
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        # Every second piece of a text is a special token.
        pieces = [special.split(text) for text in texts]
        plain = [piece for of_text in pieces for piece in of_text[::2]]
        ids, ends, _ = self.native.tokenize(*self.bytes_and_offsets(plain), 2**31 - 1)
        parts = iter(np.split(ids, ends[:-1]))
        rows: list[npt.NDArray[np.int32]] = []
        for of_text in pieces:
            row = [next(parts)]
            for token in of_text[1::2]:
                row += [np.array([self._vocabulary[token]], np.int32), next(parts)]
            rows.append(np.concatenate(row))
        counts = np.array([len(row) for row in rows], np.int64)
        cut = [row[:max_tokens] for row in rows]
        return np.concatenate(cut), np.cumsum([len(row) for row in cut], dtype=np.int64), counts

    def _set_special_tokens(self, tokens: Iterable[str] | None) -> None:
        self.special_tokens = (
            None if tokens is None else tuple(token for token in tokens if token in self._vocabulary)
        )
        # Of several tokens that begin at one place, the longest matches.
        longest_first = sorted(filter(None, self.special_tokens or ()), key=len, reverse=True)
        pattern = "|".join(map(re.escape, longest_first))
        self._special = re.compile(f"({pattern})") if pattern else None

    def _native_vocabulary(self, tokens: list[bytes], unicode_rules: UnicodeRules) -> Vocabulary:
        pool, offsets, continues = _without_prefix(tokens, self._prefix.encode())
        unknown = -1 if self.skip_unknown or self.unknown_id is None else self.unknown_id
        classes, lower = unicode_rules.ascii_rules()
        return Vocabulary(pool, offsets, continues, classes, lower, self._max_chars, self._continues, unknown)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.spec, self.skip_unknown, self.special_tokens)


def _tokens_by_id(vocabulary: Any) -> list[bytes]:
    # Checks a vocabulary and returns the token of every id, empty for an id without one.
    if not isinstance(vocabulary, dict):
        raise CheckpointError(
            f"tokenizer.json has a vocabulary of type {type(vocabulary).__name__}, expected an object"
        )
    if not set(map(type, vocabulary.values())) <= {int} or not (
        min(vocabulary.values()) >= 0 and max(vocabulary.values()) < _MOST_TOKENS
    ):
        bad = next(t for t, i in vocabulary.items() if type(i) is not int or not 0 <= i < _MOST_TOKENS)
        raise CheckpointError(
            f"tokenizer.json has id {vocabulary[bad]!r} for {bad!r}, expected an integer from 0 to {_MOST_TOKENS - 1}"
        )
    names = [""] * (max(vocabulary.values()) + 1)
    for token, index in vocabulary.items():
        names[index] = token
    try:
        return list(map(str.encode, names))
    except UnicodeEncodeError as error:
        raise CheckpointError(f"tokenizer.json has a token that is no Unicode text: {error}") from error


def _without_prefix(
    tokens: list[bytes], prefix: bytes
) -> tuple[bytes, npt.NDArray[np.int64], npt.NDArray[np.bool_]]:
    # Joins the tokens without the prefix of those that continue a word. Returns their bytes, where each begins
    # and ends, (V + 1,), and which of them had the prefix, (V,). The prefix alone is an ordinary token.
    pool, offsets = np.frombuffer(b"".join(tokens), np.uint8), offsets_of(tokens)
    lengths = np.diff(offsets)
    continuing = np.flatnonzero(lengths > len(prefix)) if prefix else np.zeros(0, np.int64)
    for i, byte in enumerate(prefix):
        continuing = continuing[pool[offsets[continuing] + i] == byte]
    is_kept = np.ones(len(pool), np.bool_)
    is_kept[offsets[continuing, None] + np.arange(len(prefix))] = False
    lengths[continuing] -= len(prefix)
    continues = np.zeros(len(tokens), np.bool_)
    continues[continuing] = True
    return pool[is_kept].tobytes(), np.concatenate([[0], np.cumsum(lengths)]), continues


def _rebuild(spec: str, skip_unknown: bool, special_tokens: tuple[str, ...] | None = None) -> Tokenizer:
    return Tokenizer(spec, skip_unknown=skip_unknown, special_tokens=special_tokens)
