"""Scalar quantization of vectors: int8 with a range per dimension, and one bit per dimension.

Both are calibrated on a sample of vectors, and the calibration is stored with the codes. Quantization is not
an option of ``encode``, because ranges of the vectors of one call would differ from call to call.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]


class Quantizer(ABC):
    """A quantizer whose codes are decoded as ``code * step + start``, dimension by dimension.

    Attributes:
        name: Name of the type of storage.
        step: (d,) float32, the difference between the values of two consecutive codes.
        start: (d,) float32, the value of code zero.
    """

    name: str

    def __init__(self, step: FloatArray, start: FloatArray) -> None:
        if step.shape != start.shape or step.ndim != 1:
            raise ValueError(f"step has shape {step.shape} and start {start.shape}, expected the same, (d,)")
        self.step = step.astype(np.float32)
        self.start = start.astype(np.float32)

    @classmethod
    @abstractmethod
    def fit(cls, sample: npt.ArrayLike) -> "Quantizer":
        """Returns a quantizer that is calibrated on a sample of vectors, (n, d) with n of at least 1."""

    @abstractmethod
    def transform(self, vectors: npt.ArrayLike) -> npt.NDArray[Any]:
        """Returns the codes of vectors (n, d)."""

    @abstractmethod
    def digits(self, codes: npt.NDArray[Any]) -> FloatArray:
        """Returns the codes as numbers, (n, d) float32, before ``step`` and ``start`` are applied."""

    @property
    def dim(self) -> int:
        """Number of dimensions of the vectors."""
        return len(self.step)

    def inverse_transform(self, codes: npt.NDArray[Any]) -> FloatArray:
        """Returns the decoded vectors of codes, (n, d) float32."""
        vectors: FloatArray = self.digits(codes) * self.step + self.start
        return vectors

    def to_array(self) -> FloatArray:
        """Returns the calibration, (2, d) float32: ``step`` and ``start``."""
        return np.stack([self.step, self.start])

    def same_as(self, other: "Quantizer") -> bool:
        """Returns whether the other quantizer has the same type and calibration."""
        return self is other or (
            self.name == other.name and np.array_equal(self.to_array(), other.to_array())
        )

    def _check(self, vectors: npt.ArrayLike) -> FloatArray:
        values = np.asarray(vectors, np.float32)
        if values.ndim != 2 or values.shape[1] != self.dim:
            raise ValueError(f"vectors has shape {values.shape}, expected (n, {self.dim})")
        return values


class Int8Quantizer(Quantizer):
    """A quantizer with one byte per dimension: the range of the sample in 255 equal steps.

    Values beyond the range are clipped.
    """

    name = "int8"

    @classmethod
    def fit(cls, sample: npt.ArrayLike) -> "Int8Quantizer":
        """Calibrates the range of each dimension: its smallest and largest value in the sample.

        Args:
            sample: (n, d) with n of at least 1. A few thousand typical vectors are enough. With very few,
                the ranges are too narrow, and other vectors are clipped.
        """
        values = _sample(sample)
        low, high = values.min(axis=0), values.max(axis=0)
        step = np.maximum(high - low, 1e-9) / 255
        return cls(step, low + 128 * step)

    def transform(self, vectors: npt.ArrayLike) -> npt.NDArray[np.int8]:
        """Returns the codes of vectors (n, d), (n, d) int8."""
        steps = np.rint((self._check(vectors) - self.start) / self.step)
        codes: npt.NDArray[np.int8] = np.clip(steps, -128, 127).astype(np.int8)
        return codes

    def digits(self, codes: npt.NDArray[Any]) -> FloatArray:
        """Returns the codes as numbers, (n, d) float32."""
        return codes.astype(np.float32)


class BinaryQuantizer(Quantizer):
    """A quantizer with one bit per dimension: whether the value is above the median of the sample.

    A bit is decoded as the mean of the sample's values on its side of the median.
    """

    name = "binary"

    def __init__(self, step: FloatArray, start: FloatArray, threshold: FloatArray | None = None) -> None:
        super().__init__(step, start)
        self.threshold = start + step / 2 if threshold is None else threshold.astype(np.float32)

    @classmethod
    def fit(cls, sample: npt.ArrayLike) -> "BinaryQuantizer":
        """Calibrates each dimension: its median in the sample, and the means on both sides of it."""
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
        """Returns the codes of vectors (n, d), (n, ceil(d / 8)) uint8; the highest bit comes first."""
        return np.packbits(self._check(vectors) > self.threshold, axis=1)

    def digits(self, codes: npt.NDArray[Any]) -> FloatArray:
        """Returns the bits as numbers, (n, d) float32 of zeros and ones."""
        return np.unpackbits(codes, axis=1, count=self.dim).astype(np.float32)

    def to_array(self) -> FloatArray:
        """Returns the calibration, (3, d) float32: ``step``, ``start`` and the medians."""
        return np.stack([self.step, self.start, self.threshold])


class _FloatQuantizer(Quantizer):
    # The codes are the values in floating point.

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
    """Returns the quantizer of floating-point storage, whose codes are the values themselves."""
    return _FloatQuantizer(dim, np.float16 if name == "float16" else np.float32)


def fit_quantizer(name: str, sample: FloatArray) -> Quantizer:
    """Returns the quantizer of a type of storage, calibrated on a sample (n, d)."""
    if name == "int8":
        return Int8Quantizer.fit(sample)
    if name == "binary":
        return BinaryQuantizer.fit(sample)
    return plain(sample.shape[1], name)


def load_quantizer(name: str, dim: int, calibration: FloatArray | None) -> Quantizer:
    """Returns the quantizer of a type of storage, with a calibration from :meth:`Quantizer.to_array`."""
    if name == "int8" and calibration is not None:
        return Int8Quantizer(*calibration)
    if name == "binary" and calibration is not None:
        return BinaryQuantizer(*calibration)
    return plain(dim, name)


def _sample(sample: npt.ArrayLike) -> FloatArray:
    values = np.asarray(sample, np.float32)
    if values.ndim != 2 or len(values) == 0:
        raise ValueError(f"sample has shape {values.shape}, expected (n, d) with n of at least 1")
    if not np.isfinite(values).all():
        raise ValueError("sample has NaN or infinity, expected finite numbers")
    return values
