"""Stored vectors of a reranker: one or several for each row, because its passages may be shorter."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.encoders.comparison import unit_rows
from sentenc.retrieval.chunking import check_chunking, passage_spans
from sentenc.retrieval.manifest import write_array
from sentenc.retrieval.quantization import FloatArray

VECTORS, STARTS = "rerank.npy", "rerank-starts.npy"


@dataclass(frozen=True, eq=False)
class RerankVectors:
    """The unit vectors of a reranker for m texts.

    A text beyond the limit of the reranker has several vectors, those of its passages.

    Attributes:
        vectors: (p, e) float16 or float32 unit vectors.
        starts: (m + 1,) int64; text i has the vectors from ``starts[i]`` to ``starts[i + 1]``.
    """

    vectors: npt.NDArray[np.floating]
    starts: npt.NDArray[np.int64]

    @classmethod
    def of(cls, texts: Sequence[str], encoder: Encoder) -> "RerankVectors":
        """Encodes documents, in passages of 256 tokens or fewer."""
        chunking = check_chunking("auto", None, encoder)
        spans = [[(0, len(text))] for text in texts]
        if chunking is not None:
            spans = passage_spans(texts, encoder, chunking)
        passages = [text[a:b] for text, own in zip(texts, spans, strict=True) for a, b in own]
        vectors = encoder.encode_document(passages, truncate_dim=encoder.similarity_dim)
        starts = np.append(0, np.cumsum([len(own) for own in spans], dtype=np.int64))
        return cls(unit_rows(vectors, "vectors"), starts)

    def __len__(self) -> int:
        return len(self.starts) - 1

    def as_float16(self) -> "RerankVectors":
        """Returns the vectors as they are stored."""
        return RerankVectors(self.vectors.astype(np.float16), self.starts)

    def similarities(self, queries: FloatArray) -> FloatArray:
        """Returns the similarity (q, m) of unit vectors (q, e) and texts: that of the best of a text's vectors."""
        if len(self) == 0:
            return np.zeros((len(queries), 0), np.float32)
        products = queries @ np.asarray(self.vectors, np.float32).T
        best: FloatArray = np.maximum.reduceat(products, self.starts[:-1], axis=1)
        return best

    def only(self, texts: npt.NDArray[np.int64]) -> "RerankVectors":
        """Returns the vectors of some texts, in memory."""
        counts = np.diff(self.starts)[texts]
        starts = np.append(0, np.cumsum(counts))
        places = np.repeat(self.starts[texts] - starts[:-1], counts) + np.arange(starts[-1])
        return RerankVectors(np.array(self.vectors[places]), starts)

    def write(self, folder: Path) -> None:
        """Writes its files into the folder of a segment durably."""
        write_array(folder / VECTORS, self.vectors)
        write_array(folder / STARTS, self.starts)

    @classmethod
    def read(cls, folder: Path) -> "RerankVectors":
        """Reads the files in the folder of a segment, memory-mapped."""
        return cls(np.load(folder / VECTORS, mmap_mode="r"), np.load(folder / STARTS, mmap_mode="r"))


def joined(parts: Sequence[RerankVectors]) -> RerankVectors:
    """Returns the vectors of consecutive texts as those of one sequence."""
    starts, total = [np.zeros(1, np.int64)], 0
    for part in parts:
        starts.append(part.starts[1:] + total)
        total += int(part.starts[-1])
    return RerankVectors(np.concatenate([part.vectors for part in parts]), np.concatenate(starts))
