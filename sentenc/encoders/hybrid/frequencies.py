"""How rare terms are: the inverse document frequencies that weight the word columns of a hybrid encoder."""

import lzma
import math
from collections import Counter
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.errors import CheckpointError
from sentenc.tokenization.analysis import Analyzer, check_language

_ENGLISH = Path(__file__).parent / "english.txt.xz"
# The most frequent terms are kept. All others are about equally rare.
_MOST_TERMS = 50_000
# A term in fewer texts has as high a weight as one that no text has.
_LEAST_TEXTS = 3


class TermFrequencies:
    """The inverse document frequency of terms, ``ln(1 + (n - df + 0.5) / (df + 0.5))`` as in BM25.

    Args:
        language: The language of the texts that were counted, a code of ISO 639.
        idf: The values of frequent terms.
        rare: The value of all other terms.
    """

    def __init__(self, language: str, idf: dict[str, float], rare: float) -> None:
        self.language = check_language(language)
        # Model folders have float32, and a loaded encoder must be equal to the saved one.
        self.idf = {term: float(np.float32(value)) for term, value in idf.items()}
        self.rare = float(np.float32(rare))

    def __getitem__(self, term: str) -> float:
        return self.idf.get(term, self.rare)

    @classmethod
    def english(cls) -> "TermFrequencies":
        """Returns those of 120,000 English passages, rounded to quarters."""
        return _english()

    @classmethod
    def counted(cls, texts: Iterable[str], language: str) -> "TermFrequencies":
        """Returns those of n texts, such as the documents of a collection.

        Raises:
            ValueError: There are no texts, or the language is not a code of ISO 639.
        """
        analyzer, counts, n = Analyzer(language), Counter[str](), 0
        for text in texts:
            counts.update(set(analyzer.terms(text)))
            n += 1
        if n == 0:
            raise ValueError("texts is empty, expected texts whose words can be counted")
        kept = {term: df for term, df in counts.most_common(_MOST_TERMS) if df >= _LEAST_TEXTS}
        return cls(language, {term: _idf(n, df) for term, df in kept.items()}, _idf(n, _LEAST_TEXTS - 1))

    def to_tensors(self) -> dict[str, npt.NDArray[Any]]:
        """Returns the values as arrays, for a model folder."""
        names = "\n".join(self.idf).encode()
        values = np.array([*self.idf.values(), self.rare], np.float32)
        return {"terms": np.frombuffer(names, np.uint8).copy(), "idf": values}

    @classmethod
    def from_tensors(cls, language: str, tensors: dict[str, npt.NDArray[Any]]) -> "TermFrequencies":
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


@cache
def _english() -> TermFrequencies:
    # Each line has an idf and its terms. The last one has no terms, and is for all that are in no line.
    idf: dict[str, float] = {}
    value = 0.0
    with lzma.open(_ENGLISH, "rt", encoding="utf-8") as lines:
        for line in lines:
            first, *terms = line.split()
            value = float(first)
            idf |= dict.fromkeys(terms, value)
    return TermFrequencies("en", idf, value)


def _idf(n: int, df: int) -> float:
    return math.log1p((max(n, df) - df + 0.5) / (df + 0.5))
