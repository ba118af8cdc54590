"""Finds the nearest neighbors of words by the cosine of word vectors."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.io.word_vectors import WordVectors

# Limits the memory that the matrix of cosines takes.
_WORDS_PER_BLOCK = 256


class WordNeighbors:
    """Nearest neighbors among the words that have vectors and consist of letters.

    Args:
        vectors: :class:`~sentenc.io.word_vectors.WordVectors`, or gensim's
            ``KeyedVectors``.

    Raises:
        TypeError: ``vectors`` is something else.
        ValueError: No word consists of letters and has a vector other than zero.
    """

    def __init__(self, vectors: Any) -> None:
        words, matrix = _words_and_matrix(vectors)
        norms = np.linalg.norm(matrix, axis=1)
        # Only letters may replace a word, and a zero vector has no direction.
        usable = [i for i, word in enumerate(words) if norms[i] > 0 and word.isalpha()]
        if not usable:
            raise ValueError(
                f"none of the {len(words)} words consists of letters and has a nonzero vector, expected at "
                "least one"
            )
        self.words = [words[i] for i in usable]
        self._unit_vectors = (matrix[usable] / norms[usable, None]).astype(np.float32)
        # Words that differ only in case share the entry of the first, in most files the most frequent one.
        self._index = {word.lower(): i for i, word in reversed(list(enumerate(self.words)))}
        self._index |= {word: i for i, word in enumerate(self.words)}
        self._neighbors: dict[tuple[int, int], list[str]] = {}

    def candidates(self, words: Sequence[str], count: int) -> list[list[str]]:
        """Returns the ``count`` nearest neighbors of each word, nearest first.

        A word is looked up as it is written, then in lower case. A word without a vector has no neighbors.
        Words that differ from it only in case are no neighbors.
        """
        indices = [self._index.get(word, self._index.get(word.lower(), -1)) for word in words]
        new = sorted({index for index in indices if index >= 0 and (index, count) not in self._neighbors})
        for start in range(0, len(new), _WORDS_PER_BLOCK):
            self._compute(new[start : start + _WORDS_PER_BLOCK], count)
        return [self._neighbors[index, count] if index >= 0 else [] for index in indices]

    def _compute(self, indices: list[int], count: int) -> None:
        cosines = self._unit_vectors[indices] @ self._unit_vectors.T
        # More than ``count``, because words that differ only in case are removed afterwards.
        most = min(len(self.words), 2 * count + 2)
        top = np.argpartition(-cosines, most - 1, axis=1)[:, :most]
        for index, row, nearest in zip(indices, cosines, top, strict=True):
            # Words of equal cosine are ordered by index, so that the order does not depend on the block.
            order = nearest[np.lexsort((nearest, -row[nearest]))]
            distinct = {self.words[index].lower(): ""}
            for other in order:
                distinct.setdefault(self.words[other].lower(), self.words[other])
            self._neighbors[index, count] = list(distinct.values())[1 : count + 1]


def neighbors_among(words: Iterable[str], encoder: Encoder) -> WordNeighbors:
    """Returns neighbors among the words themselves, by an encoder's vectors of single words.

    Raises:
        ValueError: No word consists of letters and has a vector other than zero.
    """
    distinct = [word for word in dict.fromkeys(words) if word.isalpha()]
    if not distinct:
        raise ValueError("none of the words consists of letters, expected at least one")
    vectors = encoder.encode(distinct, on_overflow="ignore")[:, : encoder.similarity_dim]
    return WordNeighbors(WordVectors(distinct, np.ascontiguousarray(vectors)))


def _words_and_matrix(vectors: Any) -> tuple[list[str], npt.NDArray[np.float32]]:
    if isinstance(vectors, WordVectors):
        return vectors.words, vectors.vectors
    if hasattr(vectors, "index_to_key") and hasattr(vectors, "vectors"):
        words = list(vectors.index_to_key)
        return words, np.asarray(vectors.vectors[: len(words)], np.float32)
    raise TypeError(f"vectors is {type(vectors).__name__}, expected WordVectors or gensim's KeyedVectors")
