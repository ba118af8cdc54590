"""The native library in plain Python: slow, and written to be read. Sums are in float64."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

WORD, SPACE, PUNCTUATION, REMOVED = range(4)


@dataclass
class ReferenceVocabulary:
    tokens: list[tuple[bytes, bool]]
    classes: np.ndarray
    lower: np.ndarray
    max_chars: int
    splits_words: bool
    unknown: int

    def __post_init__(self) -> None:
        self.ids: dict[tuple[bytes, bool], int] = {}
        for index, token in enumerate(self.tokens):
            if token[0]:
                self.ids.setdefault(token, index)

    def tokenize(self, text: bytes) -> list[int]:
        return [index for word in self.words(text) for index in self.word_ids(*word)]

    def words(self, text: bytes) -> list[tuple[bytes, bool]]:
        """The words of a text, and whether each is a punctuation mark."""
        words, word = [], b""
        for byte in text:
            kind = self.classes[byte]
            if kind == REMOVED:
                continue
            if kind == WORD:
                word += bytes([self.lower[byte]])
                continue
            words.append((word, False))
            word = b""
            if kind == PUNCTUATION:
                words.append((bytes([self.lower[byte]]), True))
        return [(word, is_mark) for word, is_mark in [*words, (word, False)] if word]

    def word_ids(self, word: bytes, is_mark: bool) -> list[int]:
        unknown = [] if self.unknown < 0 else [self.unknown]
        if is_mark:
            return [self.ids[word, False]] if (word, False) in self.ids else unknown
        if sum(not is_inside_character(byte) for byte in word) > self.max_chars:
            return unknown
        if not self.splits_words:
            return [self.ids[word, False]] if (word, False) in self.ids else unknown
        parts = self.word_pieces(word)
        return unknown if parts is None else parts

    def word_pieces(self, word: bytes) -> list[int] | None:
        if (word, False) in self.ids:
            return [self.ids[word, False]]
        parts, start = [], 0
        while start < len(word):
            for end in range(len(word), start, -1):
                part = (word[start:end], start > 0)
                if part in self.ids and (end == len(word) or not is_inside_character(word[end])):
                    parts.append(self.ids[part])
                    start = end
                    break
            else:
                return None
        return parts


def is_inside_character(byte: int) -> bool:
    """Whether a byte continues a character of UTF-8."""
    return byte & 0xC0 == 0x80


def fold(entries: dict[int, bytes], text: bytes) -> bytes:
    """Folds UTF-8, in which a byte that is no UTF-8 counts as U+FFFD."""
    folded, start = b"", 0
    while start < len(text):
        for length in (1, 2, 3, 4):
            try:
                point = text[start : start + length].decode("utf-8", "surrogatepass")
            except UnicodeDecodeError:
                continue
            if len(point) == 1:
                break
        else:
            point, length = "\ufffd", 1
        folded += point.encode() if ord(point) < 128 else entries[ord(point)]
        start += length
    return folded


def activate(name: str, z: np.ndarray) -> np.ndarray:
    if name == "relu":
        return np.maximum(z, 0)
    if name == "tanh":
        return np.tanh(z)
    if name == "gelu":
        return z * (1 + np.array([math.erf(x / math.sqrt(2)) for x in z.flat]).reshape(z.shape)) / 2
    return z


def pooled_windows(
    rows: np.ndarray, scales: np.ndarray, biases: np.ndarray, width: int, phi: str, pooling: str, padded: bool
) -> np.ndarray:
    """Pools the windows of one width; rows: (n, width, k), the part of every token at each tap."""
    n = len(rows)
    windows = n if padded else max(1, n - width + 1)
    sums = np.zeros((windows, rows.shape[2]))
    for i in range(windows):
        for j in range(min(width, n - i)):
            sums[i] += rows[i + j, j]
    values = activate(phi, sums * scales + biases)
    return {"mean": values.mean, "sum": values.sum, "max": values.max}[pooling](axis=0)


def encode(
    words, ngrams, ids: Sequence[int], phi: str, pooling: str, dim: int, magnitude: bool = False
) -> np.ndarray:
    """The vector of a text with the tables of sentenc.kernels.encode, in float64.

    With ``magnitude``, it is the sum of the absolute values of all terms, to which rounding errors are relative.
    """
    absolute = np.abs if magnitude else np.asarray
    columns, k = words.rows.shape[1], ngrams.filters
    vector = np.zeros(dim)
    if len(ids) == 0:
        return vector
    scales, rows = words.scales[list(ids), None].astype(float), words.rows[list(ids)].astype(float)
    total = float(words.weights[list(ids)].astype(float).sum())
    if total >= np.finfo(np.float32).tiny:
        vector[: words.dim] = absolute(scales * rows[:, : words.dim]).sum(axis=0) / total
    average = words.average_scales[list(ids), None].astype(float) * rows[:, words.dim :]
    vector[words.dim : columns] = absolute(average).mean(axis=0)
    features, column = [], 0
    for w, width in enumerate(ngrams.widths.tolist()):
        taps = ngrams.rows[list(ids), column : column + width * k].astype(float).reshape(len(ids), width, k)
        part = slice(w * k, (w + 1) * k)
        biases, steps = ngrams.biases[part].astype(float), ngrams.scales[part].astype(float)
        # Of the activations, relu and identity are the largest. Tables for the magnitude have absolute values.
        kind, pool = ("identity", "sum" if pooling == "sum" else "max") if magnitude else (phi, pooling)
        features.append(
            pooled_windows(absolute(taps), steps, absolute(biases), width, kind, pool, bool(ngrams.padded))
        )
        column += width * k
    feature = np.concatenate(features) if features else np.zeros(0)
    if ngrams.projection.size:
        vector[: words.dim] += feature @ absolute(ngrams.projection.astype(float))
    if dim > columns:
        vector[columns:] = feature
    return vector


def top_k(scores: np.ndarray, left_out: np.ndarray, k: int) -> list[int]:
    """The rows of the k best scores: falling score, then rising row, and NaN last."""
    rows = [row for row in range(len(scores)) if not left_out[row]]
    return sorted(rows, key=lambda row: (np.isnan(scores[row]), -np.nan_to_num(scores[row], nan=0), row))[:k]
