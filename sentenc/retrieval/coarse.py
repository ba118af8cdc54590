"""Coarse codes of vectors: one byte per dimension, for the first pass of an exact search.

The coarse product of a query and a row differs from the exact one by at most ``|q| * radius``, where the radius is
the largest distance between a row and its decoded code (Cauchy-Schwarz), and by the rounding of the query. Rows
whose upper bound is below the k-th lower bound cannot be among the k best. The others are compared exactly, so the
result is that of comparing all rows, and a quarter of the bytes is read.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sentenc.kernels.dot import dot_int8, quantized_query
from sentenc.retrieval.manifest import write_array
from sentenc.retrieval.quantization import FloatArray, Int8Quantizer, Quantizer

#: The name of the file of the codes in the folder of a segment.
CODES = "coarse-codes.npy"
_CALIBRATION, _RADIUS = "coarse-calibration.npy", "coarse-radius.npy"
_ROWS_PER_BLOCK = 8192
# A bound for the rounding errors of float32 sums, as a share of the product of the lengths.
_ROUNDING = 1e-5


@dataclass(frozen=True, eq=False)
class CoarseCodes:
    """Coarse codes of n rows.

    Attributes:
        codes: (n, d) int8.
        quantizer: The quantizer of the codes.
        radius: The largest Euclidean distance between a row and its decoded code.
        longest: The largest Euclidean length of a row.
    """

    codes: npt.NDArray[np.int8]
    quantizer: Int8Quantizer
    radius: float
    longest: float

    @classmethod
    def of(cls, codes: npt.NDArray[np.floating], quantizer: Quantizer) -> "CoarseCodes":
        """Returns the coarse codes of n rows, at least one, from their codes in floating point."""
        blocks = [slice(i, i + _ROWS_PER_BLOCK) for i in range(0, len(codes), _ROWS_PER_BLOCK)]
        extremes = [f(quantizer.digits(codes[block]), axis=0) for block in blocks for f in (np.min, np.max)]
        coarse = Int8Quantizer.fit(np.stack(extremes))
        rows = np.empty(codes.shape, np.int8)
        radius = longest = 0.0
        for block in blocks:
            vectors = quantizer.digits(codes[block])
            rows[block] = coarse.transform(vectors)
            radius = max(radius, _longest(vectors - coarse.inverse_transform(rows[block])))
            longest = max(longest, _longest(vectors))
        return cls(rows, coarse, radius, longest)

    def products(self, query: FloatArray) -> tuple[FloatArray, float]:
        """Returns the coarse products (n,) float32 of all rows with a query (d,), and a bound of their errors."""
        scaled = query * self.quantizer.step
        steps, step = quantized_query(scaled)
        products = dot_int8(self.codes, steps).astype(np.float32)
        products *= np.float32(step)
        products += np.float32(query @ self.quantizer.start)
        length = float(np.linalg.norm(query))
        rounded = float(np.abs(scaled - steps * np.float32(step)).sum()) * 128
        return products, length * (self.radius + _ROUNDING * (self.longest + self.radius)) + rounded

    def write(self, folder: Path) -> None:
        """Writes the codes into the folder of the segment durably."""
        write_array(folder / CODES, self.codes)
        write_array(folder / _CALIBRATION, self.quantizer.to_array())
        write_array(folder / _RADIUS, np.array([self.radius, self.longest]))

    @classmethod
    def read(cls, folder: Path) -> "CoarseCodes":
        """Reads the codes from the folder of a segment, memory-mapped."""
        radius, longest = np.load(folder / _RADIUS).tolist()
        quantizer = Int8Quantizer(*np.load(folder / _CALIBRATION))
        return cls(np.load(folder / CODES, mmap_mode="r"), quantizer, radius, longest)


def _longest(vectors: FloatArray) -> float:
    return float(np.sqrt(np.einsum("ij,ij->i", vectors, vectors, dtype=np.float64).max(initial=0)))
