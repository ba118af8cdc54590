"""Vectors in fewer bits: per-dimension int8, and one bit a dimension.

Both are fitted on a sample and keep what they learned (the calibration) beside the codes, because codes
mean nothing without it. Quantizing is a step of its own, not a flag of ``encode``: ranges taken from the
vectors of one call would differ from call to call.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


class Quantizer(ABC):
    """Codes of vectors, and what the codes stand for: ``code * step + start``, dimension by dimension.

    Attributes:
        step: (d,) float32, what one unit of a code is worth.
        start: (d,) float32, what code zero stands for.
    """

    name: str

    def __init__(self, step: FloatArray, start: FloatArray) -> None:
        if step.shape != start.shape or step.ndim != 1:
            raise ValueError(
                f"step has shape {step.shape} and start {start.shape}, expected the same, one dimension"
            )
        self.step = step.astype(np.float32)
        self.start = start.astype(np.float32)

    @classmethod
    @abstractmethod
    def fit(cls, sample: npt.ArrayLike) -> "Quantizer":
        """Calibrates on a sample of vectors, (n, d), n of 1 or more."""

    @abstractmethod
    def transform(self, vectors: npt.ArrayLike) -> npt.NDArray[Any]:
        """Codes of vectors (n, d)."""

    @abstractmethod
    def digits(self, codes: npt.NDArray[Any]) -> FloatArray:
        """The codes as numbers, (n, d) float32, still without step and start."""

    @property
    def dim(self) -> int:
        """d, the length of a vector."""
        return len(self.step)

    def inverse_transform(self, codes: npt.NDArray[Any]) -> FloatArray:
        """What codes stand for: (n, d) float32."""
        vectors: FloatArray = self.digits(codes) * self.step + self.start
        return vectors

    def to_array(self) -> FloatArray:
        """The calibration, (2, d) float32."""
        return np.stack([self.step, self.start])

    def same_as(self, other: "Quantizer") -> bool:
        """Whether codes of one mean the same to the other."""
        return self is other or (
            self.name == other.name and np.array_equal(self.to_array(), other.to_array())
        )

    def _check(self, vectors: npt.ArrayLike) -> FloatArray:
        values = np.asarray(vectors, np.float32)
        if values.ndim != 2 or values.shape[1] != self.dim:
            raise ValueError(f"vectors has shape {values.shape}, expected (n, {self.dim})")
        return values


class Int8Quantizer(Quantizer):
    """One byte a dimension: the range seen at ``fit`` in 255 equal steps; what lies beyond is clipped."""

    name = "int8"

    @classmethod
    def fit(cls, sample: npt.ArrayLike) -> "Int8Quantizer":
        """Takes each dimension's smallest and largest value as its range.

        Args:
            sample: (n, d), n of 1 or more. A few thousand typical vectors are enough; with very few the
                ranges are too narrow and later vectors are clipped.
        """
        values = _sample(sample)
        low, high = values.min(axis=0), values.max(axis=0)
        step = np.maximum(high - low, 1e-9) / 255
        return cls(step, low + 128 * step)

    def transform(self, vectors: npt.ArrayLike) -> npt.NDArray[np.int8]:
        """Codes of vectors (n, d): (n, d) int8."""
        steps = np.rint((self._check(vectors) - self.start) / self.step)
        codes: npt.NDArray[np.int8] = np.clip(steps, -128, 127).astype(np.int8)
        return codes

    def digits(self, codes: npt.NDArray[Any]) -> FloatArray:
        """(n, d) float32."""
        return codes.astype(np.float32)


class BinaryQuantizer(Quantizer):
    """One bit a dimension: above the sample's median or not; a bit stands for the mean of its half."""

    name = "binary"

    def __init__(self, step: FloatArray, start: FloatArray, threshold: FloatArray | None = None) -> None:
        super().__init__(step, start)
        self.threshold = start + step / 2 if threshold is None else threshold.astype(np.float32)

    @classmethod
    def fit(cls, sample: npt.ArrayLike) -> "BinaryQuantizer":
        """Takes each dimension's median as threshold, and the means below and above it as values."""
        values = _sample(sample)
        threshold = np.median(values, axis=0).astype(np.float32)
        above = values > threshold
        count = above.sum(axis=0)
        total = values.sum(axis=0, dtype=np.float64)
        upper = np.where(above, values, 0).sum(axis=0, dtype=np.float64)
        high = np.where(count > 0, upper / np.maximum(count, 1), threshold)
        low = np.where(count < len(values), (total - upper) / np.maximum(len(values) - count, 1), threshold)
        return cls((high - low).astype(np.float32), low.astype(np.float32), threshold)

    def transform(self, vectors: npt.ArrayLike) -> npt.NDArray[np.uint8]:
        """Codes of vectors (n, d): (n, ceil(d / 8)) uint8, first dimension in the highest bit."""
        return np.packbits(self._check(vectors) > self.threshold, axis=1)

    def digits(self, codes: npt.NDArray[Any]) -> FloatArray:
        """(n, d) float32 of zeros and ones."""
        return np.unpackbits(codes, axis=1, count=self.dim).astype(np.float32)

    def to_array(self) -> FloatArray:
        """The calibration, (3, d) float32."""
        return np.stack([self.step, self.start, self.threshold])


class _Plain(Quantizer):
    # Floating point stands for itself.

    def __init__(self, dim: int, dtype: type) -> None:
        super().__init__(np.ones(dim, np.float32), np.zeros(dim, np.float32))
        self._dtype = dtype
        self.name = np.dtype(dtype).name

    @classmethod
    def fit(cls, sample: npt.ArrayLike) -> "Quantizer":
        raise TypeError("floating point needs no calibration")

    def transform(self, vectors: npt.ArrayLike) -> npt.NDArray[Any]:
        return self._check(vectors).astype(self._dtype, copy=False)

    def digits(self, codes: npt.NDArray[Any]) -> FloatArray:
        return codes.astype(np.float32, copy=False)

    def inverse_transform(self, codes: npt.NDArray[Any]) -> FloatArray:
        return self.digits(codes)


STORES = ("float32", "float16", "int8", "binary")


def plain(dim: int, name: str = "float32") -> Quantizer:
    """The codes of floating-point storage: the values themselves."""
    return _Plain(dim, np.float16 if name == "float16" else np.float32)


def fit_quantizer(name: str, sample: FloatArray) -> Quantizer:
    """The quantizer of a kind of storage, calibrated on a sample (n, d)."""
    if name == "int8":
        return Int8Quantizer.fit(sample)
    if name == "binary":
        return BinaryQuantizer.fit(sample)
    return plain(sample.shape[1], name)


def load_quantizer(name: str, dim: int, calibration: FloatArray | None) -> Quantizer:
    """The quantizer whose calibration :meth:`Quantizer.to_array` gave."""
    if name == "int8" and calibration is not None:
        return Int8Quantizer(*calibration)
    if name == "binary" and calibration is not None:
        return BinaryQuantizer(*calibration)
    return plain(dim, name)


def _sample(sample: npt.ArrayLike) -> FloatArray:
    values = np.asarray(sample, np.float32)
    if values.ndim != 2 or len(values) == 0:
        raise ValueError(f"sample has shape {values.shape}, expected (n, d) with n of 1 or more")
    if not np.isfinite(values).all():
        raise ValueError("sample has values that are not finite, expected numbers")
    return values
