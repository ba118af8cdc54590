"""Analysis of texts for lexical search: words, and the terms under which they are indexed.

A term is a word in lower case, without accents, and stemmed if the language has a Snowball stemmer (Porter, 2001).
English function words have no term. Scripts without spaces between words are indexed by characters and by pairs
of adjacent characters.
"""

import re
import unicodedata
from collections.abc import Collection
from functools import cache
from itertools import pairwise
from typing import Any

from sentenc.forking import lock_before_fork
from sentenc.tokenization.function_words import FUNCTION_WORDS

#: The code of ISO 639 for an undetermined language: no stemmer, no function words.
UNDETERMINED = "und"

_STEMMERS = {
    "ar": "arabic", "ca": "catalan", "cs": "czech", "da": "danish", "de": "german", "el": "greek",
    "en": "english", "eo": "esperanto", "es": "spanish", "et": "estonian", "eu": "basque", "fa": "persian",
    "fi": "finnish", "fr": "french", "ga": "irish", "hi": "hindi", "hu": "hungarian", "hy": "armenian",
    "id": "indonesian", "it": "italian", "lt": "lithuanian", "nb": "norwegian", "ne": "nepali", "nl": "dutch",
    "nn": "norwegian", "no": "norwegian", "pl": "polish", "pt": "portuguese", "ro": "romanian",
    "ru": "russian", "sr": "serbian", "st": "sesotho", "sv": "swedish", "ta": "tamil", "tr": "turkish",
    "yi": "yiddish",
}  # fmt: skip
_LANGUAGE = re.compile(r"[a-z]{2,3}")

# Thai, Lao, Burmese, Khmer, kana, Han and Hangul. Hangul has spaces, but its words carry their particles.
_UNSPACED = (
    "\u0e01-\u0e3a\u0e40-\u0e4e\u0e81-\u0ece\u1000-\u109f\u1780-\u17d3\u3041-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af\uf900-\ufaff\uff66-\uff9f\U00020000-\U0003ffff"
)
_ASCII_WORDS = re.compile(r"[A-Za-z0-9]+")
_LETTERS_AND_DIGITS = re.compile(r"[^\W_]+")
# Code points that may be combining marks or of an unspaced script: all but Latin, Greek, Cyrillic and symbols.
_NEEDS_CARE = re.compile("[\u0300-\u036f\u0483-\u0489\u0530-\u1dff\u20d0-\u20f0\u2c00-\U0010ffff]")
# Latin letters that have no decomposition into a base letter and an accent.
_LETTERS = str.maketrans({"ß": "ss", "ø": "o", "æ": "ae", "œ": "oe", "đ": "d", "ł": "l", "ı": "i", "þ": "th"})
# Combining marks of Latin, Greek and Cyrillic letters. Those of other scripts are letters of their own.
_ACCENTS = re.compile("[\u0300-\u036f]+")
# A cache of terms is emptied at this size, which vocabularies of large collections reach.
_MAX_CACHED_TERMS = 1_000_000
#: Longer words are not cached. They are rarely seen twice, and would take the memory of many others.
MAX_CACHED_LENGTH = 64


class Analyzer:
    """Splits texts into words, and maps words to terms. Any number of threads may use it.

    Args:
        language: A code of ISO 639, such as ``"en"``. Unless there is a stemmer for it, words are not stemmed.

    Raises:
        ValueError: ``language`` is not a code of two or three letters.
    """

    def __init__(self, language: str = UNDETERMINED) -> None:
        self.language = check_language(language)
        self._terms = _Terms(language)

    def __reduce__(self) -> tuple[Any, ...]:
        # Stemmers cannot be pickled. Hits have their analyzer.
        return Analyzer, (self.language,)

    def words(self, text: str) -> list[str]:
        """Returns the words of a text as they are written, in order."""
        if text.isascii():
            return _ASCII_WORDS.findall(text)
        if not _NEEDS_CARE.search(text):
            return _LETTERS_AND_DIGITS.findall(text)
        spaced, has_unspaced = _patterns()
        if not has_unspaced.search(text):
            return spaced.findall(text)
        words: list[str] = []
        for part in _runs().findall(text):
            words += _with_pairs(part) if has_unspaced.match(part) else [part]
        return words

    def term(self, word: str) -> str:
        """Returns the term of a word; empty if the word is not indexed."""
        return self._terms[word]

    def terms(self, text: str) -> list[str]:
        """Returns the terms of a text, in order, repeated as often as they occur."""
        return [term for term in map(self._terms.__getitem__, self.words(text)) if term]

    def matched(self, text: str, terms: Collection[str]) -> tuple[str, ...]:
        """Returns the different words of a text that have one of ``terms``, in their order."""
        words = dict.fromkeys(self.words(text))
        if self.language == "en" and text.isascii():
            # The English stemmer never changes the first letter, and stemming takes longer than this look.
            first = {term[0] for term in terms}
            return tuple(word for word in words if word[0].lower() in first and self._terms[word] in terms)
        return tuple(word for word in words if self._terms[word] in terms)


class _Terms(dict[str, str]):
    # The terms of words, computed once for each word.

    def __init__(self, language: str) -> None:
        super().__init__()
        self._function_words = FUNCTION_WORDS if language == "en" else frozenset()
        # The stemmers of other languages need the accents.
        self._folds_first = language == "en"
        self._stemmer = _stemmer(language)
        self._lock = lock_before_fork()

    def __missing__(self, word: str) -> str:
        term = word.lower() if word.isascii() else unicodedata.normalize("NFKC", word).lower()
        if self._folds_first:
            term = without_accents(term)
        if term in self._function_words:
            term = ""
        elif self._stemmer is not None:
            # A stemmer has a state, so only one thread at a time may use it.
            with self._lock:
                term = without_accents(self._stemmer.stemWord(term))
        else:
            term = without_accents(term)
        if len(word) > MAX_CACHED_LENGTH:
            return term
        if len(self) >= _MAX_CACHED_TERMS:
            self.clear()
        self[word] = term
        return term


def check_language(language: Any) -> str:
    """Returns the language; raises ValueError unless it is a code of ISO 639 of two or three letters."""
    if not isinstance(language, str) or not _LANGUAGE.fullmatch(language):
        raise ValueError(
            f"language is {language!r}, expected a code of ISO 639 such as 'en', or {UNDETERMINED!r} for none"
        )
    return language


def stemmer_version() -> str:
    """Returns the version of the stemmers; another version may derive other terms from a few words."""
    import Stemmer

    return str(Stemmer.version())


def has_stemmer(language: str) -> bool:
    """Returns whether there is a stemmer for a language."""
    return _stemmer(language) is not None


def without_accents(word: str) -> str:
    """Returns a word in lower case without the accents of Latin, Greek and Cyrillic letters."""
    if word.isascii():
        return word
    bare = _ACCENTS.sub("", unicodedata.normalize("NFD", word.translate(_LETTERS)))
    return unicodedata.normalize("NFC", bare)


def _stemmer(language: str) -> Any:
    name = _STEMMERS.get(language)
    if name is None:
        return None
    import Stemmer

    # The cache of terms makes a second one unnecessary.
    return Stemmer.Stemmer(name, 0) if name in Stemmer.algorithms() else None


def _with_pairs(run: str) -> list[str]:
    return [*run, *map("".join, pairwise(run))]


@cache
def _marks() -> str:
    # Python's \w does not match combining marks, which are inside of words.
    points = range(0x300, 0x20000)
    return "".join(chr(i) for i in points if unicodedata.category(chr(i)) in ("Mn", "Mc"))


@cache
def _patterns() -> tuple[re.Pattern[str], re.Pattern[str]]:
    spaced = rf"[^\W_{_UNSPACED}]+(?:[{_marks()}]+[^\W_{_UNSPACED}]*)*"
    return re.compile(spaced), re.compile(f"[{_UNSPACED}]")


@cache
def _runs() -> re.Pattern[str]:
    return re.compile(f"[{_UNSPACED}]+|{_patterns()[0].pattern}")
