"""Hypothesis strategies of vocabularies, texts and models for the native library."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from sentenc.kernels.encode import ACTIVATIONS, INT16_BIAS, POOLINGS, CSEKernel, NgramTable, WordTable
from sentenc.kernels.vocabulary import Vocabulary
from tests.support.kernel_reference import PUNCTUATION, REMOVED, SPACE, WORD, ReferenceVocabulary

# A busy machine is no reason to fail.
untimed = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])

# Bytes with every class, characters of one to four bytes, and bytes that are no UTF-8.
PARTS = [
    *(bytes([byte]) for byte in b"abcABCz09 \t\n.-'!_\x00\x01\x7f"), "é".encode(), "東".encode(), "👩".encode(),
    "\u0301".encode(), b"\x80", b"\xc3", b"\xff", b"ing", b"un", b"the", b"antidisestablishmentarianism", b"x" * 15,
    b"y" * 16, b"z" * 17, b"Q" * 31, b"w" * 33, b" " * 60, b"." * 64,
]  # fmt: skip
pieces = st.lists(st.sampled_from(PARTS), max_size=40).map(b"".join)
texts = st.one_of(pieces, pieces, st.binary(max_size=150))
seeds = st.integers(0, 2**32 - 1)


def ascii_rules(lowercase: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """The classes of bytes and their lower case, as BERT has them."""
    classes, lower = np.zeros(256, np.uint8), np.arange(256, dtype=np.uint8)
    for byte in range(128):
        character = chr(byte)
        if character in " \t\n\r":
            classes[byte] = SPACE
        elif byte < 32 or byte == 127:
            classes[byte] = REMOVED
        elif not character.isalnum():
            classes[byte] = PUNCTUATION
        lower[byte] = ord(character.lower()) if lowercase else byte
    return classes, lower


@st.composite
def rules(draw: Any) -> tuple[np.ndarray, np.ndarray]:
    kind = draw(st.sampled_from(["lower", "cased", "arbitrary"]))
    if kind != "arbitrary":
        return ascii_rules(kind == "lower")
    rng = np.random.default_rng(draw(seeds))
    classes = np.zeros(256, np.uint8)
    classes[:128] = rng.choice(4, 128, p=[0.7, 0.1, 0.1, 0.1])
    lower = np.arange(256, dtype=np.uint8)
    for kind in (WORD, SPACE, PUNCTUATION):
        members = np.flatnonzero(classes == kind)
        lower[members] = rng.permuted(members) if rng.random() < 0.5 else members
    lower[classes == REMOVED] = rng.integers(256, size=(classes == REMOVED).sum())
    return classes, lower


@st.composite
def vocabularies(draw: Any, sources: list[bytes] | None = None) -> ReferenceVocabulary:
    """Vocabularies of which most tokens are parts of the sources."""
    classes, lower = draw(rules())
    lowered = [bytes(lower[list(source)]) for source in (sources or []) if source]
    tokens = [
        (draw(st.sampled_from([b"", b"\x80", *PARTS])), draw(st.booleans()))
        for _ in range(draw(st.integers(1, 6)))
    ]
    rng = np.random.default_rng(draw(seeds))
    for source in lowered:
        for _ in range(draw(st.integers(0, 10))):
            length = int(rng.choice([1, 1, 2, 3, 5, 16, 17, 31, 32, 40]))
            start = int(rng.integers(len(source)))
            tokens.append((source[start : start + length], bool(rng.integers(2))))
    return ReferenceVocabulary(
        tokens,
        classes,
        lower,
        draw(st.sampled_from([0, 1, 3, 10, 100, 2**31, 2**63 - 1])),
        draw(st.booleans()) or draw(st.booleans()),
        draw(st.integers(-1, len(tokens) - 1)),
    )


def native(v: ReferenceVocabulary) -> Vocabulary:
    return vocabulary(v.tokens, v.classes, v.lower, v.max_chars, v.splits_words, v.unknown)


def vocabulary(tokens: list[tuple[bytes, bool]], *options: Any) -> Vocabulary:
    """The vocabulary of these tokens, each with whether it continues a word."""
    pool, offsets = joined([data for data, _ in tokens])
    return Vocabulary(pool, offsets, np.array([continues for _, continues in tokens], bool), *options)


def joined(items: list[bytes]) -> tuple[bytes, np.ndarray]:
    """The bytes of all texts, and their offsets."""
    return b"".join(items), np.cumsum([0, *map(len, items)])


@dataclass
class Model:
    words: WordTable
    ngrams: NgramTable
    dim: int
    phi: str
    pooling: str

    def kernel(self, vocabulary: Vocabulary) -> CSEKernel:
        return CSEKernel(vocabulary, self.words, self.ngrams, self.dim)

    def __repr__(self) -> str:
        shape = [
            f"{self.words.rows.dtype}", f"D={self.words.dim}", f"columns={self.words.rows.shape[1]}", f"dim={self.dim}",
            f"k={self.ngrams.filters}", f"widths={self.ngrams.widths.tolist()}", self.phi, self.pooling,
            f"padded={self.ngrams.padded}", f"steps={len(self.ngrams.steps)}", f"P={self.ngrams.projection.shape}",
        ]  # fmt: skip
        return f"Model({', '.join(shape)})"


sizes = st.one_of(st.integers(0, 5), st.sampled_from([7, 8, 15, 16, 17, 31, 32, 33, 64, 65, 100, 131]))


@st.composite
def models(draw: Any, vocab_size: int) -> Model:
    """Models of any shape with random tables."""
    rng = np.random.default_rng(draw(seeds))
    is_int8 = draw(st.booleans())
    dim, average, k = draw(sizes), draw(st.one_of(st.just(0), sizes)), draw(sizes)
    widths = draw(st.lists(st.integers(1, 6), max_size=3))
    phi, pooling = draw(st.sampled_from(list(ACTIVATIONS))), draw(st.sampled_from(list(POOLINGS)))
    n_features, columns = len(widths) * k, sum(widths) * k
    word_rows, ngram_rows = (
        _rows(rng, is_int8, vocab_size, dim + average),
        _rows(rng, is_int8, vocab_size, columns),
    )
    step = 1 / 127 if is_int8 else 1
    scales = (rng.uniform(0.2, 1, n_features) * step).astype(np.float32)
    steps = rng.integers(-INT16_BIAS, INT16_BIAS + 1, n_features).astype(np.int16)
    has_steps = is_int8 and draw(st.booleans())
    biases = scales * steps if has_steps else rng.standard_normal(n_features)
    projects = n_features * dim > 0 and draw(st.booleans())
    words = WordTable(
        word_rows, (rng.uniform(0.2, 1, vocab_size) * step).astype(np.float32),
        (rng.uniform(0.2, 1, vocab_size) * step).astype(np.float32),
        rng.uniform(0.01, 1, vocab_size).astype(np.float32), dim,
    )  # fmt: skip
    ngrams = NgramTable(
        ngram_rows, scales, biases.astype(np.float32), steps if has_steps else steps[:0], np.array(widths, np.int64),
        k, ACTIVATIONS[phi], POOLINGS[pooling], draw(st.booleans()),
        rng.standard_normal((n_features, dim) if projects else (0, 0)).astype(np.float32),
    )  # fmt: skip
    return Model(words, ngrams, dim + average + (n_features if draw(st.booleans()) else 0), phi, pooling)


def _rows(rng: np.random.Generator, is_int8: bool, n: int, columns: int) -> np.ndarray:
    # Half of the tables are parts of wider ones.
    gap = int(rng.integers(2)) * 3
    if is_int8:
        return rng.integers(-128, 128, (n, columns + gap)).astype(np.int8)[:, :columns]
    return rng.standard_normal((n, columns + gap)).astype(np.float32)[:, :columns]
