"""The words nearest to a word, by the cosine of word vectors."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.training.initialization.word_vectors import WordVectors

# Words whose cosines with all others are computed at a time.
_BLOCK = 256


class WordNeighbors:
    """Neighbors of words among the words that have vectors; words without letters alone are left out.

    Args:
        vectors: :class:`~sentenc.training.initialization.word_vectors.WordVectors`, or gensim's ``KeyedVectors``.

    Raises:
        TypeError: ``vectors`` is something else.
        ValueError: No word with a vector other than zero is made of letters.
    """

    def __init__(self, vectors: Any) -> None:
        words, rows = _parts(vectors)
        norms = np.linalg.norm(rows, axis=1)
        # Nothing but letters may stand in for a word, and a zero vector has no direction.
        kept = [i for i, word in enumerate(words) if norms[i] > 0 and word.isalpha()]
        if not kept:
            raise ValueError(f"none of {len(words)} words has letters alone and a vector, expected some")
        self.words = [words[i] for i in kept]
        self._rows = (rows[kept] / norms[kept, None]).astype(np.float32)
        # Where words differ in case alone, the first (in most files the most frequent) answers for all.
        self._place = {word.lower(): i for i, word in reversed(list(enumerate(self.words)))}
        self._place |= {word: i for i, word in enumerate(self.words)}
        self._known: dict[tuple[int, int], list[str]] = {}

    def candidates(self, words: Sequence[str], count: int) -> list[list[str]]:
        """The ``count`` words nearest to each word, nearest first; none for a word without a vector.

        A word is looked up as it is, then in lower case. Other spellings of its case are no neighbors.
        """
        places = [self._place.get(word, self._place.get(word.lower(), -1)) for word in words]
        new = sorted({place for place in places if place >= 0 and (place, count) not in self._known})
        for start in range(0, len(new), _BLOCK):
            self._find(new[start : start + _BLOCK], count)
        return [self._known[place, count] if place >= 0 else [] for place in places]

    def _find(self, places: list[int], count: int) -> None:
        cosines = self._rows[places] @ self._rows.T
        # More than asked for: spellings of one word are told apart afterwards.
        most = min(len(self.words), 2 * count + 2)
        top = np.argpartition(-cosines, most - 1, axis=1)[:, :most]
        for place, row, found in zip(places, cosines, top, strict=True):
            # Of equal cosines the first word: the order must not depend on the block.
            order = found[np.lexsort((found, -row[found]))]
            distinct = {self.words[place].lower(): ""}
            for index in order:
                distinct.setdefault(self.words[index].lower(), self.words[index])
            self._known[place, count] = list(distinct.values())[1 : count + 1]


def nearest_words_of(encoder: Encoder, words: Iterable[str]) -> WordNeighbors:
    """Neighbors among given words by an encoder's vectors of them alone.

    Raises:
        ValueError: No word is made of letters and has a vector other than zero.
    """
    distinct = [word for word in dict.fromkeys(words) if word.isalpha()]
    if not distinct:
        raise ValueError("none of the words is made of letters alone, expected some")
    vectors = encoder.encode(distinct, on_overflow="ignore")[:, : encoder.similarity_dim]
    return WordNeighbors(WordVectors(distinct, np.ascontiguousarray(vectors)))


def _parts(vectors: Any) -> tuple[list[str], npt.NDArray[np.float32]]:
    if isinstance(vectors, WordVectors):
        return vectors.words, vectors.vectors
    if hasattr(vectors, "index_to_key") and hasattr(vectors, "vectors"):
        words = list(vectors.index_to_key)
        return words, np.asarray(vectors.vectors[: len(words)], np.float32)
    raise TypeError(f"vectors is {type(vectors).__name__}, expected WordVectors or gensim's KeyedVectors")
