"""The native inner loop of CSE: from UTF-8 bytes to sentence vectors.

It does not hold the GIL. A vector does not depend on the other sentences of a call.
"""

import ctypes
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from sentenc.kernels.library import check, library
from sentenc.kernels.vocabulary import Vocabulary

# Bytes that memory is read in.
_CACHE_LINE = 64
# Codes of the activation and the pooling.
ACTIVATIONS = {"identity": 0, "tanh": 1, "relu": 2, "gelu": 3}
POOLINGS = {"mean": 0, "sum": 1, "max": 2}


class WordTable(NamedTuple):
    """The table of the word path and the plain average: row i times its scales is [a_i x_i P; y_i]."""

    rows: npt.NDArray[Any]  # (V, D + A) int8 or float32
    scales: npt.NDArray[np.float32]  # (V,) a_i times the quantization step of x_i P
    average_scales: npt.NDArray[np.float32]  # (V,) the quantization step of y_i
    weights: npt.NDArray[np.float32]  # (V,) a_i
    dim: int  # D


class NgramTable(NamedTuple):
    """The table of the n-gram path: a row has all T_{h,j} of a token; the rest is applied to sums of them."""

    rows: npt.NDArray[Any]  # (V, k * sum of widths), of the type of the word table
    scales: npt.NDArray[np.float32]  # (K,) quantization step of each filter
    biases: npt.NDArray[np.float32]  # (K,)
    steps: npt.NDArray[np.int16]  # (K,) biases in whole quantization steps; empty if sums are in float32
    widths: npt.NDArray[np.int64]
    filters: int  # k
    phi: int
    pooling: int
    padded: bool
    projection: npt.NDArray[np.float32]  # (K, D), or (0, 0) if features are only concatenated


class _Model(ctypes.Structure):
    # sentenc_cse in sentenc.h.
    _fields_ = [
        (name, ctypes.c_void_p if kind == "p" else ctypes.c_int64)
        for name, kind in (
            ("vocab_size", "i"), ("is_int8", "i"), ("word_rows", "p"), ("word_stride", "i"),
            ("word_dim", "i"), ("average_dim", "i"), ("word_scales", "p"), ("average_scales", "p"),
            ("word_weights", "p"), ("ngram_rows", "p"), ("ngram_stride", "i"), ("filter_scales", "p"),
            ("filter_biases", "p"), ("bias_steps", "p"), ("widths", "p"), ("n_widths", "i"),
            ("filters", "i"), ("phi", "i"), ("pooling", "i"), ("is_padded", "i"), ("projection", "p"),
            ("appends_features", "i"),
        )
    ]  # fmt: skip


class CSEKernel:
    """Encodes texts with a vocabulary and the tables of a CSE.

    Args:
        vocabulary: The vocabulary; its ids are below V.
        words: The word path and the plain average.
        ngrams: The n-gram path.
        dim: The number of components of a vector. Those after the first D + A are the n-gram features.

    Raises:
        ValueError: Two tables do not fit together.
    """

    def __init__(self, vocabulary: Vocabulary, words: WordTable, ngrams: NgramTable, dim: int) -> None:
        self._vocabulary = vocabulary
        self._dim = dim
        self._model, self._arrays = _model(words, ngrams, dim)
        self._address = ctypes.addressof(self._model)

    def encode(
        self,
        text: bytes,
        offsets: npt.NDArray[np.int64],
        max_tokens: int,
        out: npt.NDArray[np.float32],
        counts: npt.NDArray[np.int64],
    ) -> None:
        """Writes the vector of every text ``text[offsets[i]:offsets[i + 1]]`` into ``out``.

        Args:
            text: UTF-8, folded (see :mod:`sentenc.tokenization.unicode_fold`), not yet in lower case.
            offsets: (n + 1,) int64, where each text begins and ends.
            max_tokens: The number of tokens at which a text is cut.
            out: (n, dim) float32, contiguous, overwritten.
            counts: (n,) int64, overwritten by the number of tokens of each text before the cut.

        Raises:
            ValueError: ``offsets`` fall or lie outside of the text, or an array has another shape.
        """
        n = len(offsets) - 1
        if out.shape != (n, self._dim) or counts.shape != (n,):
            raise ValueError(
                f"out has shape {out.shape} and counts {counts.shape}, expected ({n}, {self._dim}) and ({n},)"
            )
        check(
            library.sentenc_encode(
                self._vocabulary.handle, self._address, text, len(text), _address(offsets, np.int64), n,
                max_tokens, _address(out, np.float32), self._dim, _address(counts, np.int64),
            )
        )  # fmt: skip


def _address(array: npt.NDArray[Any], dtype: Any) -> int:
    if array.dtype != dtype or not array.flags.c_contiguous:
        raise ValueError(f"an array is {array.dtype}, expected {np.dtype(dtype)} and contiguous")
    return array.ctypes.data


def _model(words: WordTable, ngrams: NgramTable, dim: int) -> tuple[_Model, list[Any]]:
    n_features = len(ngrams.widths) * ngrams.filters
    columns = int(ngrams.widths.sum()) * ngrams.filters
    vocab_size = len(words.rows)
    for name, array, shape in (
        ("words.scales", words.scales, (vocab_size,)),
        ("words.average_scales", words.average_scales, (vocab_size,)),
        ("words.weights", words.weights, (vocab_size,)),
        ("ngrams.rows", ngrams.rows, (vocab_size, columns)),
        ("ngrams.scales", ngrams.scales, (n_features,)),
        ("ngrams.biases", ngrams.biases, (n_features,)),
        ("ngrams.steps", ngrams.steps, (n_features if len(ngrams.steps) else 0,)),
        (
            "ngrams.projection",
            ngrams.projection,
            (n_features, words.dim) if ngrams.projection.size else (0, 0),
        ),
    ):
        if array.shape != shape:
            raise ValueError(f"{name} has shape {array.shape}, expected {shape}")
    if words.rows.dtype != ngrams.rows.dtype or words.rows.dtype not in (np.int8, np.float32):
        raise ValueError(
            f"rows are {words.rows.dtype} and {ngrams.rows.dtype}, expected both int8 or float32"
        )
    arrays = [
        *_side_by_side(words.rows, ngrams.rows),
        *(np.ascontiguousarray(a, np.float32) for a in (words.scales, words.average_scales, words.weights)),
        *(np.ascontiguousarray(a, np.float32) for a in (ngrams.scales, ngrams.biases, ngrams.projection)),
        np.ascontiguousarray(ngrams.steps, np.int16), np.ascontiguousarray(ngrams.widths, np.int64),
    ]  # fmt: skip
    word_rows, ngram_rows, scales, average, weights, filter_scales, biases, projection, steps, widths = arrays
    model = _Model(
        vocab_size, words.rows.dtype == np.int8, word_rows.ctypes.data, word_rows.strides[0], words.dim,
        words.rows.shape[1] - words.dim, scales.ctypes.data, average.ctypes.data, weights.ctypes.data,
        ngram_rows.ctypes.data, ngram_rows.strides[0], filter_scales.ctypes.data, biases.ctypes.data,
        steps.ctypes.data if len(steps) else None, widths.ctypes.data, len(widths), ngrams.filters,
        ngrams.phi, ngrams.pooling, ngrams.padded, projection.ctypes.data if projection.size else None,
        dim > words.rows.shape[1],
    )  # fmt: skip
    return model, arrays


def _side_by_side(words: npt.NDArray[Any], ngrams: npt.NDArray[Any]) -> list[npt.NDArray[Any]]:
    # Both rows of a token are in the same memory, from the start of a cache line on, so that a token reads as
    # few cache lines as possible.
    size = words.itemsize
    widths = [words.shape[1], ngrams.shape[1]]
    stride = -(-sum(widths) * size // _CACHE_LINE) * _CACHE_LINE
    memory = np.empty(len(words) * stride + _CACHE_LINE, np.uint8)
    first = -memory.ctypes.data % _CACHE_LINE
    table = memory[first : first + len(words) * stride].view(words.dtype).reshape(len(words), stride // size)
    parts = [table[:, : widths[0]], table[:, widths[0] : sum(widths)]]
    parts[0][:], parts[1][:] = words, ngrams
    return parts
