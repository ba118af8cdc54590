"""Vectors of the native library are those of a plain Python reference in float64, for models of any shape.

A vector is the same, bit by bit, in any batch and thread. Instruction sets agree to 1e-6 of the sum of the absolute
values of all terms, for a text of ordinary length.
"""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentenc.kernels.encode import ACTIVATIONS, POOLINGS, CSEKernel, NgramTable, WordTable
from sentenc.kernels.vocabulary import Vocabulary
from tests.kernels.conftest import every_simd_level
from tests.support import kernel_reference as reference
from tests.support.kernel_cases import (
    Model,
    ascii_rules,
    joined,
    models,
    native,
    texts,
    untimed,
    vocabularies,
    vocabulary,
)

BETWEEN_LEVELS, TO_REFERENCE = 1e-6, 2e-6


def encode(kernel: CSEKernel, dim: int, items: list[bytes], max_tokens: int = 2**63 - 1) -> np.ndarray:
    # Numbers that are not overwritten stay NaN.
    out, counts = np.full((len(items), dim), np.nan, np.float32), np.full(len(items), -1)
    kernel.encode(*joined(items), max_tokens, out, counts)
    assert (counts >= 0).all()
    return out


def check(
    model: Model, vocabulary: Vocabulary, all_ids: list[list[int]], items: list[bytes], max_tokens: int
) -> None:
    kernel = model.kernel(vocabulary)
    arguments = model.words, model.ngrams
    vectors = {level: encode(kernel, model.dim, items, max_tokens) for level in every_simd_level()}
    for i, ids in enumerate(all_ids):
        expected = reference.encode(*arguments, ids[:max_tokens], model.phi, model.pooling, model.dim)
        terms = reference.encode(
            *arguments, ids[:max_tokens], model.phi, model.pooling, model.dim, magnitude=True
        )
        # The rounding errors of equal terms add up.
        terms *= 1 + len(ids) / 32
        for level in vectors:
            assert (np.abs(vectors[level][i] - expected) <= TO_REFERENCE * terms).all(), level
            assert (np.abs(vectors[level][i] - vectors["baseline"][i]) <= BETWEEN_LEVELS * terms).all(), level


@untimed
@given(st.data(), st.lists(texts, max_size=10), st.sampled_from([0, 1, 2, 5, 64, 2**63 - 1]))
def test_vectors_are_those_of_the_reference(data, items, max_tokens):
    words = data.draw(vocabularies(items))
    model = data.draw(models(len(words.tokens) + data.draw(st.integers(0, 2))))
    check(model, native(words), [words.tokenize(item) for item in items], items, max_tokens)


def letters() -> Vocabulary:
    return vocabulary([(bytes([byte]), False) for byte in b"abcdefgh"], *ascii_rules(), 100, False, -1)


@untimed
@given(st.data(), st.integers(0, 150), st.integers(0, 2**32 - 1))
def test_long_texts(data, n, seed):
    # Sums of 32 windows are added up in 16 bits.
    ids = np.random.default_rng(seed).integers(8, size=n).tolist()
    text = b" ".join(b"abcdefgh"[i : i + 1] for i in ids)
    check(data.draw(models(8)), letters(), [ids], [text], 2**63 - 1)


@untimed
@given(st.data(), st.lists(texts, min_size=1, max_size=20))
def test_a_vector_depends_on_its_text_alone(data, items):
    words = data.draw(vocabularies(items))
    model = data.draw(models(len(words.tokens)))
    kernel = model.kernel(native(words))
    order = data.draw(st.permutations(range(len(items))))
    for _ in every_simd_level():
        together = encode(kernel, model.dim, items)
        assert encode(kernel, model.dim, [items[i] for i in order]).tobytes() == together[order].tobytes()
        with ThreadPoolExecutor(4) as pool:
            alone = list(pool.map(lambda item: encode(kernel, model.dim, [item]), items))
        assert np.concatenate(alone).tobytes() == together.tobytes()


def extreme_model(value: int, step: int, phi: str) -> Model:
    k, widths = 70, [1, 2, 3]
    steps = np.full(3 * k, step, np.int16)
    scales = np.full(3 * k, 0.5, np.float32)
    words = WordTable(np.zeros((8, 0), np.int8), *np.zeros((3, 8), np.float32), 0)
    rows = np.full((8, 6 * k), value, np.int8)
    ngrams = NgramTable(
        rows, scales, steps * scales, steps, np.array(widths), k, ACTIVATIONS[phi], POOLINGS["sum"], True,
        np.zeros((0, 0), np.float32),
    )  # fmt: skip
    return Model(words, ngrams, 3 * k, phi, "sum")


@pytest.mark.parametrize("phi", ["relu", "identity"])
@pytest.mark.parametrize(("value", "step"), [(127, 511), (-128, -511), (-128, 511), (127, -511)])
def test_the_largest_sums_fit_into_16_bits(phi, value, step):
    check(extreme_model(value, step, phi), letters(), [[0] * 100], [b"a " * 100], 2**63 - 1)


def test_larger_bias_steps_are_refused():
    with pytest.raises(ValueError, match=r"ngrams.steps.*512.*511"):
        extreme_model(1, 512, "relu").kernel(letters())


@pytest.mark.parametrize("tables", [np.int8, np.float32])
@pytest.mark.parametrize("weight", [0, 1e-45, 1e-39])
def test_weights_that_underflow_give_the_zero_vector(tables, weight):
    weights = np.full(8, weight, np.float32)
    words = WordTable(np.ones((8, 5), tables), weights, np.zeros(8, np.float32), weights, 5)
    empty = np.zeros(0, np.float32)
    ngrams = NgramTable(
        np.zeros((8, 0), tables), empty, empty, empty.astype(np.int16), np.zeros(0, np.int64), 0, 0, 0, False,
        np.zeros((0, 0), np.float32),
    )  # fmt: skip
    for _ in every_simd_level():
        assert not encode(CSEKernel(letters(), words, ngrams, 5), 5, [b"a b c"]).any()


def test_rows_in_any_layout_give_the_same_vectors():
    rng = np.random.default_rng(3)
    model = extreme_model(3, 1, "relu")
    rows = rng.integers(-128, 128, model.ngrams.rows.shape).astype(np.int8)
    wide = np.zeros((len(rows), 2 * rows.shape[1]), np.int8)
    wide[:, ::2] = rows
    layouts = {
        "contiguous": rows,
        "columns": np.asfortranarray(rows),
        "reversed": np.ascontiguousarray(rows[::-1])[::-1],
        "every second": wide[:, ::2],
        "part": np.concatenate([rows, rows], axis=1)[:, : rows.shape[1]],
    }
    vectors = set()
    for layout in layouts.values():
        part = Model(model.words, model.ngrams._replace(rows=layout), model.dim, "relu", "sum")
        vectors.add(encode(part.kernel(letters()), model.dim, [b"a b c d e f g h"]).tobytes())
    same = Model(
        model.words,
        model.ngrams._replace(rows=np.broadcast_to(rows[:1], rows.shape)),
        model.dim,
        "relu",
        "sum",
    )
    assert len(vectors) == 1
    assert np.isfinite(encode(same.kernel(letters()), model.dim, [b"a b"])).all()
