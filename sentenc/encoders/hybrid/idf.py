"""Inverse document frequencies of terms, which weight the word columns of a hybrid encoder."""

import json
import lzma
import math
from collections import Counter
from collections.abc import Iterable
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.fingerprints import digest
from sentenc.errors import CheckpointError
from sentenc.texts import check_text, iterate_texts
from sentenc.tokenization.analysis import Analyzer, check_language

_ENGLISH = Path(__file__).parent / "english.txt.xz"
# The most frequent terms are kept. All others are about equally rare.
_MOST_TERMS = 50_000
# A term in fewer texts has as high a weight as one that no text has.
LEAST_TEXTS = 3


class InverseDocumentFrequencies:
    """The inverse document frequency of terms, ``ln(1 + (n - df + 0.5) / (df + 0.5))`` as in BM25. It does not change.

    Args:
        language: The language of the texts that were counted, a code of ISO 639.
        idf: The values of frequent terms.
        rare: The value of all other terms.
    """

    def __init__(self, language: str, idf: dict[str, float], rare: float) -> None:
        self.language = check_language(language)
        # Model folders have float32, and a loaded encoder must be equal to the saved one.
        self._idf = {term: float(np.float32(idf[term])) for term in sorted(idf)}
        self.rare = float(np.float32(rare))

    def __getitem__(self, term: str) -> float:
        return self._idf.get(term, self.rare)

    def __len__(self) -> int:
        return len(self._idf)

    @cached_property
    def digest(self) -> str:
        """A short hash of the language and all values."""
        return digest([json.dumps([self.language, self.rare, self._idf]).encode()])

    @classmethod
    def english(cls) -> "InverseDocumentFrequencies":
        """Returns those of 120,000 English passages, rounded to quarters.

        The passages are from Wikipedia (CC BY-SA), Wikinews (CC BY), arXiv (CC0), MedQuAD, OpenStax and documentation of
        Microsoft (CC BY), BoolQ, QED, SQuAD and Stack Exchange (CC BY-SA), and SciTLDR (Apache-2.0).
        ``make_english.py`` in this folder counted them.
        """
        return _english()

    @classmethod
    def counted(cls, texts: Iterable[str], language: str) -> "InverseDocumentFrequencies":
        """Returns those of n texts, such as the documents of a collection.

        Terms in fewer than three texts have the same value, that of the rarest.

        Raises:
            TypeError: ``texts`` or one of its items is not text; the message has the index.
            ValueError: There are no texts, or the language is not a code of ISO 639.
        """
        n, counts = count_terms(texts, language)
        if n == 0:
            raise ValueError("texts is empty, expected texts whose words can be counted")
        kept = most_frequent(counts, _MOST_TERMS, LEAST_TEXTS)
        return cls(language, {term: idf(n, counts[term]) for term in kept}, idf(n, LEAST_TEXTS - 1))

    def to_tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Returns the values as arrays, for a model folder."""
        names = "\n".join(self._idf).encode()
        values = np.array([*self._idf.values(), self.rare], np.float32)
        return {"terms": np.frombuffer(names, np.uint8).copy(), "idf": values}

    @classmethod
    def from_tensors(
        cls, language: str, tensors: dict[str, npt.NDArray[Any]]
    ) -> "InverseDocumentFrequencies":
        """Creates them from the output of :meth:`to_tensors`.

        Raises:
            CheckpointError: An array is missing or damaged.
        """
        try:
            terms = bytes(tensors["terms"].astype(np.uint8)).decode().split("\n")
            values = [float(value) for value in tensors["idf"].astype(np.float32)]
        except (KeyError, ValueError) as error:
            raise CheckpointError(f"model.safetensors has no terms and their idf: {error}") from error
        terms = [term for term in terms if term]
        if len(values) != len(terms) + 1 or not all(math.isfinite(v) and v > 0 for v in values):
            raise CheckpointError(
                f"model.safetensors has {len(values)} idf values for {len(terms)} terms, expected one more, all positive"
            )
        return cls(language, dict(zip(terms, values, strict=False)), values[-1])


def count_terms(texts: Iterable[str], language: str) -> tuple[int, Counter[str]]:
    """Returns the number of texts, and in how many of them each term is."""
    if isinstance(texts, str):
        raise TypeError("texts is str, expected an iterable of str")
    analyzer, counts, n = Analyzer(language), Counter[str](), 0
    for n, text in enumerate(iterate_texts(texts), 1):
        check_text(text, n - 1)
        counts.update(set(analyzer.terms(text)))
    return n, counts


def most_frequent(counts: Counter[str], most: int, least: int) -> list[str]:
    """Returns the ``most`` terms that are in most texts, and in at least ``least``; equal ones by the alphabet."""
    # The order of a set, and so of a Counter, is another one in every process.
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    return [term for term, df in ranked[:most] if df >= least]


def idf(n: int, df: int) -> float:
    """Returns the inverse document frequency of a term that is in ``df`` of ``n`` texts."""
    return math.log1p((max(n, df) - df + 0.5) / (df + 0.5))


@cache
def _english() -> InverseDocumentFrequencies:
    # Each line has an idf and its terms. The last one has no terms, and is for all that are in no line.
    values: dict[str, float] = {}
    value = 0.0
    with lzma.open(_ENGLISH, "rt", encoding="utf-8") as lines:
        for line in lines:
            first, *terms = line.split()
            value = float(first)
            values |= dict.fromkeys(terms, value)
    return InverseDocumentFrequencies("en", values, value)
