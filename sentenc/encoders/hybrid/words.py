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
from sentenc.tokenization.analysis import Analyzer

#: Changes with everything that the columns of a text depend on, but for the stemmer, which is another package.
VERSION = 1
_K = 1.2
_BITS_PER_HASH = 512
# A group of texts has a matrix of the vectors of all its terms.
_TEXTS_PER_GROUP = 64
# The hashes of this many columns are kept: 50 MB with 384 columns.
_MOST_CACHED = 2**26


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
        for start in range(0, len(texts), _TEXTS_PER_GROUP):
            group = slice(start, start + _TEXTS_PER_GROUP)
            self._write_group(texts[group], out[group])

    def without_terms(self) -> npt.NDArray[np.float32]:
        """Returns the unit vector (columns,) of texts without terms, which no term has."""
        signs = np.unpackbits(np.frombuffer(term_bits("", self.columns), np.uint8)).astype(np.float32) * 2 - 1
        return np.asarray(signs / np.float32(math.sqrt(self.columns)), np.float32)

    def _write_group(self, texts: Sequence[str], out: npt.NDArray[np.float32]) -> None:
        counts = [Counter(self._analyzer.terms(text)) for text in texts]
        rows: dict[str, int] = {}
        for terms in counts:
            for term in terms:
                rows.setdefault(term, len(rows))
        described = [self._described(term) for term in rows]
        bits = np.frombuffer(b"".join(own for own, _ in described), np.uint8).reshape(-1, self.columns // 8)
        signs = np.unpackbits(bits, axis=1).astype(np.float32) * 2 - 1
        weights = np.array([weight for _, weight in described], np.float32)
        for terms, vector in zip(counts, out, strict=True):
            if not terms:
                vector[:] = 0.0
                continue
            chosen = np.array([rows[term] for term in terms])
            frequency = np.array(list(terms.values()), np.float32)
            vector[:] = (weights[chosen] * (frequency * (_K + 1) / (frequency + _K))) @ signs[chosen]
            norm = float(np.linalg.norm(vector))
            # Two terms can cancel out if there are very few columns.
            vector *= 1 / norm if norm > 0 else 0.0

    def _described(self, term: str) -> tuple[bytes, float]:
        described = self._seen.get(term)
        if described is None:
            if len(self._seen) * self.columns >= _MOST_CACHED:
                self._seen.clear()
            described = term_bits(term, self.columns), math.sqrt(self.idf[term])
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
