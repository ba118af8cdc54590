"""The Unicode rules of BERT's normalizer and pre-tokenizers, by a table that ships with the package.

``unicode.json`` has, for every code point, what the ``tokenizers`` library does with it. It is written by
``tools/unicode_tables.py``. So token ids depend neither on the version of that library nor on Python's.
"""

import json
import unicodedata
from bisect import bisect_right
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

_FILE = Path(__file__).with_name("unicode.json")
_ASCII_SPACES = b"\t\n\x0b\x0c\r "
_ASCII_PUNCTUATION = b"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~"
# The ASCII characters that clean_text removes or turns into spaces.
_ASCII_CONTROL, _ASCII_CLEANED = bytes({*range(32), 127} - {*b"\t\n\r"}), b"\t\n\r"
_WORD, _SPACE, _PUNCTUATION, _REMOVED = range(4)


class UnicodeRules:
    """A normalizer and a pre-tokenizer of a ``tokenizer.json``.

    Args:
        normalizer: Its normalizer: ``BertNormalizer`` or ``Lowercase`` with their options, or None.
        pre_tokenizer: Its pre-tokenizer: ``BertPreTokenizer`` or ``WhitespaceSplit``.
    """

    def __init__(self, normalizer: dict[str, Any] | None, pre_tokenizer: dict[str, Any]) -> None:
        options = normalizer or {}
        self._lowers = options.get("type") == "Lowercase" or bool(options.get("lowercase"))
        self._cleans = bool(options.get("clean_text"))
        self._spaces_cjk = bool(options.get("handle_chinese_chars"))
        strips = options.get("strip_accents")
        self._decomposes = options.get("type") == "BertNormalizer" and bool(
            self._lowers if strips is None else strips
        )
        self._splits_punctuation = pre_tokenizer["type"] == "BertPreTokenizer"

    def normalize(self, text: str) -> str:
        """Returns the normalized text."""
        tables = _tables()
        if self._cleans:
            text = "".join(tables.clean(c) for c in text)
        if self._spaces_cjk:
            text = "".join(f" {c} " if tables.cjk.contain(c) else c for c in text)
        if self._decomposes:
            text = "".join(c for c in tables.decompose(text) if not tables.marks.contain(c))
        if self._lowers:
            text = "".join(tables.lower.get(c, c) for c in text)
        return text

    def classify(self, character: str) -> str:
        """Returns ``"word"``, ``"space"`` or ``"punctuation"`` for a character of normalized text."""
        tables = _tables()
        if tables.whitespace.contain(character):
            return "space"
        is_split = self._splits_punctuation and tables.punctuation.contain(character)
        return "punctuation" if is_split else "word"

    def moves(self, character: str) -> bool:
        """Returns whether :meth:`normalize` may move a character among its neighbors."""
        return self._decomposes and character in _tables().classes

    def ascii_rules(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Returns the class of each byte and what it becomes, both (256,); see the native ``Vocabulary``."""
        # ASCII needs no file, which takes longer to read than a text to encode.
        classes = np.full(256, _WORD, np.uint8)
        lower = np.arange(256, dtype=np.uint8)
        classes[list(_ASCII_SPACES)] = _SPACE
        if self._splits_punctuation:
            classes[list(_ASCII_PUNCTUATION)] = _PUNCTUATION
        if self._cleans:
            classes[list(_ASCII_CONTROL)] = _REMOVED
            lower[list(_ASCII_CLEANED)] = ord(" ")
        if self._lowers:
            lower[ord("A") : ord("Z") + 1] += ord("a") - ord("A")
        return classes, lower


class _Ranges:
    # Ranges of code points in rising order.

    def __init__(self, ranges: list[list[int]]) -> None:
        self._first = [first for first, _ in ranges]
        self._last = [last for _, last in ranges]

    def contain(self, character: str) -> bool:
        point = ord(character)
        index = bisect_right(self._first, point) - 1
        return index >= 0 and point <= self._last[index]


class _Tables(NamedTuple):
    removed: _Ranges
    spaces: _Ranges
    cjk: _Ranges
    marks: _Ranges
    whitespace: _Ranges
    punctuation: _Ranges
    parts: dict[str, str]  # of a decomposed character
    classes: dict[str, int]  # canonical combining classes, if not 0
    lower: dict[str, str]

    def clean(self, character: str) -> str:
        if self.removed.contain(character):
            return ""
        return " " if self.spaces.contain(character) else character

    def decompose(self, text: str) -> Iterator[str]:
        # Yields the characters of the decomposed text in canonical order: a run of marks is sorted by class.
        run: list[str] = []
        for character in text:
            for part in self._parts_of(character):
                if part not in self.classes:
                    yield from sorted(run, key=self.classes.__getitem__)
                    yield part
                    run.clear()
                else:
                    run.append(part)
        yield from sorted(run, key=self.classes.__getitem__)

    def _parts_of(self, character: str) -> str:
        if "가" <= character <= "힣":  # Hangul syllables, which would be 11,172 entries
            return unicodedata.normalize("NFD", character)
        return self.parts.get(character, character)


@cache
def _tables() -> _Tables:
    content = json.loads(_FILE.read_text(encoding="utf-8"))
    return _Tables(
        removed=_Ranges(content["removed"]),
        spaces=_Ranges(content["spaces"]),
        cjk=_Ranges(content["cjk"]),
        marks=_Ranges(content["marks"]),
        whitespace=_Ranges(content["whitespace"]),
        punctuation=_Ranges(content["punctuation"]),
        parts=content["parts"],
        classes=content["classes"],
        lower=content["lower"],
    )
