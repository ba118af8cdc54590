"""Word columns: a random projection of the weighted terms of a text to a few hundred dimensions.

The cosine of two of these vectors approximates the cosine of the sparse vectors of their terms (Achlioptas, Journal of
Computer and System Sciences, 2003): each term has a random vector of +1 and -1, here the bits of a hash of the term, so
that no vocabulary is needed. The weight of a term is ``sqrt(idf) * tf * (k + 1) / (tf + k)``, so that a product of two
weights has the idf once, as BM25 has.
"""

import math
from collections import Counter
from collections.abc import Sequence
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from sentenc.encoders.hybrid.idf import InverseDocumentFrequencies
from sentenc.tokenization.analysis import MAX_CACHED_LENGTH, Analyzer

#: Changes with everything that the columns of a text depend on, but for the stemmer, which is another package.
VERSION = 1
_K = 1.2
_BITS_PER_HASH = 512
# The signs of some terms of a text are in memory at once, as float32: 16 MB.
_SIGNS_AT_ONCE = 2**22
# The hashes of this many columns are kept: 50 MB with 384 columns. The objects of a term take as much as 256 columns.
_MOST_CACHED, _LEAST_WEIGHT = 2**26, 256
# The eight signs of each byte.
_SIGNS = np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1).astype(np.float32) * 2 - 1


class WordColumns:
    """Computes the word columns of texts. Any number of threads may use it.

    Args:
        columns: The number of columns, a multiple of 8.
        idf: The rarity of terms, and their language.
    """

    def __init__(self, columns: int, idf: InverseDocumentFrequencies) -> None:
        self.columns = columns
        self.idf = idf
        self._analyzer = Analyzer(idf.language)
        # The bits and the weight of each term that was seen.
        self._seen: dict[str, tuple[bytes, float]] = {}

    def write(self, texts: Sequence[str], out: npt.NDArray[np.float32]) -> None:
        """Writes the unit vectors of n texts into ``out`` (n, columns). That of a text without terms is zero."""
        for text, vector in zip(texts, out, strict=True):
            self._write_one(text, vector)

    def without_terms(self) -> npt.NDArray[np.float32]:
        """Returns the unit vector (columns,) of texts without terms, which no term has."""
        signs = self._signs([term_bits("", self.columns)])[0]
        return np.asarray(signs / np.float32(math.sqrt(self.columns)), np.float32)

    def _write_one(self, text: str, vector: npt.NDArray[np.float32]) -> None:
        counts = Counter(self._analyzer.terms(text))
        terms, frequencies = list(counts), np.array(list(counts.values()), np.float32)
        vector[:] = 0.0
        # The blocks depend on the text alone, and so do the rounding errors of its vector.
        step = max(1, _SIGNS_AT_ONCE // self.columns)
        for first in range(0, len(terms), step):
            described = [self._described(term) for term in terms[first : first + step]]
            signs = self._signs([bits for bits, _ in described])
            weights = np.array([weight for _, weight in described], np.float32)
            frequency = frequencies[first : first + step]
            vector += (weights * (frequency * (_K + 1) / (frequency + _K))) @ signs
        norm = float(np.linalg.norm(vector))
        # Two terms can cancel out if there are very few columns.
        vector *= 1 / norm if norm > 0 else 0.0

    def _signs(self, bits: list[bytes]) -> npt.NDArray[np.float32]:
        # A look-up of whole bytes makes +1 and -1 in one pass.
        return _SIGNS[np.frombuffer(b"".join(bits), np.uint8)].reshape(-1, self.columns)

    def _described(self, term: str) -> tuple[bytes, float]:
        described = self._seen.get(term)
        if described is None:
            described = term_bits(term, self.columns), math.sqrt(self.idf[term])
            if len(term) > MAX_CACHED_LENGTH:
                return described
            if len(self._seen) * max(self.columns, _LEAST_WEIGHT) >= _MOST_CACHED:
                self._seen.clear()
            self._seen[term] = described
        return described

    def __reduce__(self) -> tuple[type["WordColumns"], tuple[int, InverseDocumentFrequencies]]:
        return WordColumns, (self.columns, self.idf)


def term_bits(term: str, columns: int) -> bytes:
    """Returns the bits of a term, the signs of its vector, as ``columns / 8`` bytes."""
    data, size = term.encode("utf-8", "surrogatepass"), _BITS_PER_HASH // 8
    hashes = (
        blake2b(data, digest_size=size, salt=number.to_bytes(8, "little")).digest()
        for number in range(-(-columns // _BITS_PER_HASH))
    )
    return b"".join(hashes)[: columns // 8]
