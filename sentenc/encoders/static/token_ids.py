"""Splits texts into the ids of tokens: natively, by the package ``tokenizers``, or at white space."""

import json
import string
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from sentenc.encoders.static.config import Splitting
from sentenc.errors import CheckpointError, MissingExtraError, NotStaticError
from sentenc.texts import replace_lone_surrogates
from sentenc.tokenization.tokenizer import Tokenizer

Ids = npt.NDArray[np.int64]
# The ids of all texts, where each text ends in them, and the number of tokens of each before a cut.
Encoded = tuple[Ids, npt.NDArray[np.int64], npt.NDArray[np.int64]]


class TokenIds(Protocol):
    """Splits texts into ids.

    Attributes:
        spec: The content of the file that defines the tokenizer.
        size: The highest id plus one.
        unknown_id: The id of unknown words, or None if they are left out.
    """

    spec: str
    size: int
    unknown_id: int | None

    def encode(self, texts: list[str], max_tokens: int) -> Encoded:
        """Splits n texts.

        Returns:
            The ids of all texts, one text after another; the end of each text in them, (n,); and the number of
            tokens of each text before the cut to ``max_tokens``, (n,).
        """


def make_token_ids(spec: str, splitting: Splitting) -> TokenIds:
    """Creates the tokenizer of a static model.

    Raises:
        NotStaticError: ``splitting`` is ``"native"``, and the tokenizer is of another kind.
        CheckpointError: The file is damaged.
        MissingExtraError: ``splitting`` is ``"tokenizers"``, and this package is not installed.
    """
    if splitting == "native":
        return NativeTokenIds(spec)
    return WhitespaceTokenIds(spec) if splitting == "whitespace" else PackageTokenIds(spec)


class NativeTokenIds:
    """WordPiece or whole words, by native code.

    The names of special tokens, such as "[SEP]", are these tokens also within a text, as in the package
    ``tokenizers``.

    Args:
        spec: The content of a ``tokenizer.json``.

    Raises:
        NotStaticError: The tokenizer is of another kind, or has added tokens that are matched in another way.
    """

    def __init__(self, spec: str) -> None:
        self.spec = spec
        try:
            tokenizer = Tokenizer(spec)
            if tokenizer.unknown_id is not None:
                tokenizer = Tokenizer(spec, skip_unknown=False)
        except CheckpointError as error:
            raise NotStaticError(str(error)) from error
        self.tokenizer = tokenizer
        self.unknown_id = tokenizer.unknown_id
        self.size = tokenizer.vocab_size
        self._added = _added_tokens(spec, tokenizer.vocabulary)
        self._around_added = tokenizer.with_special_tokens(self._added)

    def encode(self, texts: list[str], max_tokens: int) -> Encoded:
        """Splits texts, as every :class:`TokenIds`."""
        ids, ends, counts = self._around_added.encode(texts, max_tokens)
        return ids.astype(np.int64), ends, counts

    @property
    def has_added_tokens(self) -> bool:
        """Whether there are added tokens."""
        return bool(self._added)

    def vocabulary(self) -> dict[str, int]:
        """Returns the id of every token."""
        return self.tokenizer.vocabulary

    def may_have_added_tokens(self, data: bytes) -> bool:
        """Returns whether the joined UTF-8 bytes of texts contain the name of an added token."""
        return any(name.encode() in data for name in self._added)

    def with_added_tokens(self, texts: list[str]) -> list[int]:
        """Returns the positions of the texts that contain the name of an added token."""
        if not self._added:
            return []
        joined = "".join(texts)
        names = [name for name in self._added if name in joined]
        return [i for i, text in enumerate(texts) if any(name in text for name in names)] if names else []

    def __reduce__(self) -> tuple[Any, ...]:
        return NativeTokenIds, (self.spec,)


def _added_tokens(spec: str, vocabulary: dict[str, int]) -> list[str]:
    # The added tokens, which are matched in a text before it is normalized.
    added = []
    for token in json.loads(spec).get("added_tokens") or []:
        name = token.get("content") if isinstance(token, dict) else None
        if not isinstance(name, str) or not name:
            raise CheckpointError(f"tokenizer.json has the added token {token!r}, expected its content")
        if token.get("normalized") or token.get("single_word") or vocabulary.get(name) != token.get("id"):
            raise NotStaticError(
                f"tokenizer.json has the added token {name!r}, which is normalized, a single word or not in the "
                "vocabulary, expected one of the vocabulary that is matched as it is"
            )
        added.append(name)
    return added


class PackageTokenIds:
    """Any ``tokenizer.json``, by the package ``tokenizers``, without special tokens around a text.

    Args:
        spec: The content of the file.

    Raises:
        CheckpointError: The file is damaged.
        MissingExtraError: The package is not installed.
    """

    def __init__(self, spec: str) -> None:
        try:
            import tokenizers
        except ImportError as error:
            raise MissingExtraError("tokenizers", "tokenizers", "a tokenizer of this kind") from error
        self.spec = spec
        try:
            self._tokenizer: Any = tokenizers.Tokenizer.from_str(spec)
            model = json.loads(spec)["model"]
        except Exception as error:  # the package raises Exception itself
            raise CheckpointError(f"tokenizer.json is not a tokenizer: {error}") from error
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        vocabulary = self._tokenizer.get_vocab()
        self.size = max(vocabulary.values(), default=-1) + 1
        unknown = (
            model.get("unk_id") if model.get("unk_token") is None else vocabulary.get(model["unk_token"])
        )
        self.unknown_id: int | None = unknown

    def vocabulary(self) -> dict[str, int]:
        """Returns the id of every token, added ones included."""
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        return vocabulary

    def encode(self, texts: list[str], max_tokens: int) -> Encoded:
        """Splits texts, as every :class:`TokenIds`."""
        clean = [replace_lone_surrogates(text) for text in texts]
        encoded = self._tokenizer.encode_batch_fast(clean, add_special_tokens=False)
        return _joined([np.array(one.ids, np.int64) for one in encoded], max_tokens)

    def __reduce__(self) -> tuple[Any, ...]:
        return PackageTokenIds, (self.spec,)


class WhitespaceTokenIds:
    """The ``WhitespaceTokenizer`` of sentence-transformers: words of the vocabulary between white space.

    A word that is not in the vocabulary is looked up again without punctuation at its ends, and then in lower case.
    Stop words and unknown words are left out.

    Args:
        spec: The content of its ``whitespacetokenizer_config.json``.

    Raises:
        CheckpointError: The file is damaged.
    """

    unknown_id: int | None = None

    def __init__(self, spec: str) -> None:
        self.spec = spec
        try:
            content = json.loads(spec)
            words, stop_words = content["vocab"], content["stop_words"]
            self._lowercase = bool(content["do_lower_case"])
            # The last of equal words counts.
            self._index = {word: index for index, word in enumerate(words)}
            self._stop_words = frozenset(stop_words)
        except (ValueError, KeyError, TypeError) as error:
            raise CheckpointError(
                f"the tokenizer is no WhitespaceTokenizer, expected vocab, stop_words and do_lower_case: {error!r}"
            ) from error
        self.size = len(words)

    def encode(self, texts: list[str], max_tokens: int) -> Encoded:
        """Splits texts, as every :class:`TokenIds`."""
        return _joined([np.array(self._ids(text), np.int64) for text in texts], max_tokens)

    def _ids(self, text: str) -> list[int]:
        ids = map(self._id, (text.lower() if self._lowercase else text).split())
        return [index for index in ids if index is not None]

    def _id(self, word: str) -> int | None:
        for change in (str, _without_punctuation, str.lower):
            word = change(word)
            if word in self._stop_words:
                return None
            # Nothing but punctuation is looked up in lower case only, as in sentence-transformers.
            if (word or change is str.lower) and (index := self._index.get(word)) is not None:
                return index
        return None

    def __reduce__(self) -> tuple[Any, ...]:
        return WhitespaceTokenIds, (self.spec,)


def _without_punctuation(word: str) -> str:
    return word.strip(string.punctuation)


def _joined(parts: list[Ids], max_tokens: int) -> Encoded:
    counts = np.array([len(part) for part in parts], np.int64)
    ends = np.cumsum(np.minimum(counts, max_tokens))
    ids = np.concatenate([part[:max_tokens] for part in parts]) if parts else np.zeros(0, np.int64)
    return ids, ends, counts
