"""Tokenizes texts with native code: cased or lower-case WordPiece, or whole words.

The token ids are those of the ``tokenizers`` library, which also reads the file and supplies the Unicode
rules. :mod:`sentenc.kernels` does the work, about ten times as fast and without the GIL.
"""

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from sentenc.errors import CheckpointError
from sentenc.tokenization.unicode_fold import FoldTable, offsets_of

if TYPE_CHECKING:
    from sentenc.kernels.vocabulary import Vocabulary


class Tokenizer:
    """A tokenizer that runs in native code, built from a ``tokenizer.json``.

    Special tokens of the file are ordinary entries: "[SEP]" in a text is split into a word and punctuation,
    and no token is added around a text. Padding and truncation are ignored.

    Args:
        spec: The content of a ``tokenizer.json``: model ``WordPiece`` or ``WordLevel``, normalizer
            ``BertNormalizer``, ``Lowercase`` or none, pre-tokenizer ``BertPreTokenizer`` or
            ``WhitespaceSplit``.
        skip_unknown: Whether unknown words are left out. Otherwise they have the id of the unknown token.

    Raises:
        CheckpointError: The file is damaged, or has an unsupported part; the message contains it.
    """

    def __init__(self, spec: str, *, skip_unknown: bool = True) -> None:
        self.spec = _without_additions(spec)
        self.skip_unknown = skip_unknown
        config = json.loads(self.spec)
        model = config["model"]
        self._vocabulary: dict[str, int] = model["vocab"]
        self._continues = model["type"] == "WordPiece"
        self._prefix = model.get("continuing_subword_prefix", "##") if self._continues else ""
        self.unknown_id: int | None = self._vocabulary.get(model.get("unk_token"))
        if not skip_unknown and self.unknown_id is None:
            raise CheckpointError(
                "tokenizer.json has no unknown token in its vocabulary, expected one to keep unknown words"
            )
        self._max_chars = int(model.get("max_input_chars_per_word", 100)) if self._continues else 2**31
        unicode_rules = _UnicodeRules(config)
        self.native = self._native_vocabulary(unicode_rules)
        self._fold = FoldTable(unicode_rules.normalize, unicode_rules.classify, unicode_rules.decomposes)

    @property
    def vocab_size(self) -> int:
        """The number of rows of an embedding matrix for this vocabulary: the highest id plus one."""
        return max(self._vocabulary.values()) + 1

    @property
    def vocabulary(self) -> dict[str, int]:
        """The id of every token."""
        return dict(self._vocabulary)

    def bytes_and_offsets(self, texts: list[str]) -> tuple[bytes, npt.NDArray[np.int64]]:
        """Returns the folded bytes of all texts, and where each text begins and ends in them, (n + 1,)."""
        joined = "".join(texts)
        if joined.isascii():
            return joined.encode("ascii"), offsets_of(texts)
        return self._fold(texts)

    def encode(
        self, texts: list[str], max_tokens: int = 2**31 - 1
    ) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Tokenizes n texts.

        Returns:
            The ids of all texts, one text after another; the end of each text in them, (n,); and the number
            of tokens of each text before the cut to ``max_tokens``, (n,).
        """
        return self.native.tokenize(*self.bytes_and_offsets(texts), max_tokens)

    def _native_vocabulary(self, unicode_rules: "_UnicodeRules") -> "Vocabulary":
        from sentenc.kernels.vocabulary import Vocabulary

        tokens = [(b"", False)] * self.vocab_size
        for token, index in self._vocabulary.items():
            if self._continues and token.startswith(self._prefix) and token != self._prefix:
                tokens[index] = (token[len(self._prefix) :].encode("utf-8", "surrogatepass"), True)
            else:
                tokens[index] = (token.encode("utf-8", "surrogatepass"), False)
        unknown = -1 if self.skip_unknown or self.unknown_id is None else self.unknown_id
        classes, lower = unicode_rules.ascii_rules()
        return Vocabulary(tokens, classes, lower, self._max_chars, self._continues, unknown)

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuild, (self.spec, self.skip_unknown)


class _UnicodeRules:
    # The normalizer and pre-tokenizer of the file, applied to single characters by the `tokenizers` library.

    def __init__(self, config: dict[str, Any]) -> None:
        from tokenizers import Tokenizer as Reference

        try:
            reference = Reference.from_str(json.dumps(config))
        except Exception as error:  # tokenizers raises bare Exception
            raise CheckpointError(
                f"tokenizer.json cannot be read by the tokenizers library: {error}"
            ) from error
        self._normalizer = reference.normalizer
        self._pre_tokenizer = reference.pre_tokenizer
        normalizer = config.get("normalizer") or {"type": None}
        strips = normalizer.get("strip_accents")
        self.decomposes = normalizer["type"] == "BertNormalizer" and bool(
            normalizer.get("lowercase", True) if strips is None else strips
        )

    def normalize(self, text: str) -> str:
        return text if self._normalizer is None else str(self._normalizer.normalize_str(text))

    def classify(self, character: str) -> str:
        pieces = [piece for piece, _ in self._pre_tokenizer.pre_tokenize_str(f"x{character}x")]
        return {1: "word", 2: "space", 3: "punctuation"}[len(pieces)]

    def ascii_rules(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        codes = {"word": 0, "space": 1, "punctuation": 2}
        classes = np.zeros(256, np.uint8)
        lower = np.arange(256, dtype=np.uint8)
        for byte in range(128):
            normal = self.normalize(chr(byte))
            if not normal:
                classes[byte] = 3
                continue
            classes[byte] = codes[self.classify(normal)]
            lower[byte] = ord(normal)
        return classes, lower


def _without_additions(spec: str) -> str:
    # Removes every part of a tokenizer.json that adds, cuts or pads tokens.
    try:
        config = json.loads(spec)
        kinds = {
            part: (config.get(part) or {}).get("type") for part in ("model", "normalizer", "pre_tokenizer")
        }
    except (ValueError, AttributeError) as error:
        raise CheckpointError(f"tokenizer.json is not a tokenizer: {error}") from error
    expected = {
        "model": ("WordPiece", "WordLevel"),
        "normalizer": ("BertNormalizer", "Lowercase", None),
        "pre_tokenizer": ("BertPreTokenizer", "WhitespaceSplit"),
    }
    for part, kind in kinds.items():
        if kind not in expected[part]:
            known = ", ".join(str(name) for name in expected[part])
            raise CheckpointError(f"tokenizer.json has {part} of type {kind}, expected one of {known}")
    if not config["model"].get("vocab"):
        raise CheckpointError("tokenizer.json has an empty vocabulary, expected at least one token")
    config |= {
        "added_tokens": [],
        "post_processor": None,
        "truncation": None,
        "padding": None,
        "decoder": None,
    }
    return json.dumps(config, ensure_ascii=False, separators=(",", ":"))


def _rebuild(spec: str, skip_unknown: bool) -> Tokenizer:
    return Tokenizer(spec, skip_unknown=skip_unknown)
