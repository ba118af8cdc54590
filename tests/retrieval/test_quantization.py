"""Int8 and binary codes: calibration, bounded errors, and refusals."""

import numpy as np
import pytest

from sentenc.kernels.top_k import add_block, empty_heaps
from sentenc.retrieval import BinaryQuantizer, Int8Quantizer
from sentenc.retrieval.exact_search import best_first


def test_int8_error_is_at_most_half_a_step():
    rng = np.random.default_rng(0)
    x = (rng.normal(size=(500, 7)) * [1, 2, 3, 0.01, 100, 1, 1] + [0, 5, 0, 0, 0, -3, 0]).astype(np.float32)
    quantizer = Int8Quantizer.fit(x)
    codes = quantizer.transform(x)
    assert codes.dtype == np.int8
    error = np.abs(quantizer.inverse_transform(codes) - x)
    assert (error <= np.ptp(x, axis=0) / 255 * 0.51).all()
    far = quantizer.inverse_transform(quantizer.transform(x * 10 + 1000))
    assert (far <= x.max(axis=0) + 1e-3 * np.ptp(x, axis=0)).all()


def test_int8_by_hand():
    quantizer = Int8Quantizer.fit([[0.0], [255.0]])
    assert quantizer.transform([[0.0], [255.0], [128.4], [-7.0]]).ravel().tolist() == [-128, 127, 0, -128]
    assert quantizer.inverse_transform(np.array([[-128], [0], [127]], np.int8)).ravel().tolist() == [
        0,
        128,
        255,
    ]


def test_a_constant_dimension_is_restored_exactly():
    x = np.full((5, 3), 0.25, np.float32)
    for kind in (Int8Quantizer, BinaryQuantizer):
        quantizer = kind.fit(x)
        np.testing.assert_allclose(quantizer.inverse_transform(quantizer.transform(x)), x, atol=1e-6)


def test_binary_by_hand():
    quantizer = BinaryQuantizer.fit([[0.0, 9.0], [1.0, 9.0], [2.0, 9.0], [5.0, 9.0]])
    codes = quantizer.transform([[0.0, 0.0], [4.0, 10.0]])
    assert codes.tolist() == [[0b00000000], [0b11000000]]
    # 0 and 1 are below the median 1.5, and 2 and 5 are above it.
    np.testing.assert_allclose(quantizer.inverse_transform(codes), [[0.5, 9.0], [3.5, 9.0]])
    assert BinaryQuantizer(*quantizer.to_array()).transform([[4.0, 10.0]]).tolist() == [[0b11000000]]


def test_invalid_samples_and_shapes_are_named():
    with pytest.raises(ValueError, match=r"sample .*\(0, 3\)"):
        Int8Quantizer.fit(np.zeros((0, 3)))
    with pytest.raises(ValueError, match=r"sample .*finite"):
        BinaryQuantizer.fit([[np.nan]])
    with pytest.raises(ValueError, match=r"vectors .*\(1, 2\), .*3"):
        Int8Quantizer.fit(np.ones((2, 3))).transform(np.ones((1, 2)))


@pytest.mark.parametrize("k", [1, 3, 50])
def test_heaps_keep_the_best_whatever_the_block_size(k):
    rng = np.random.default_rng(k)
    scores = rng.integers(0, 6, size=(4, 40)).astype(np.float32)  # many ties
    deleted = rng.random(40) < 0.2
    for size in (1, 7, 40):
        heaps = empty_heaps(4, k)
        for first in range(0, 40, size):
            block = np.ascontiguousarray(scores[:, first : first + size])
            add_block(block, first, deleted[first : first + size], *heaps)
        best, rows = best_first(heaps[0], heaps[1])
        for q in range(4):
            alive = [row for row in range(40) if not deleted[row]]
            expected = sorted(alive, key=lambda row: (-scores[q, row], row))[:k]
            assert rows[q, : len(expected)].tolist() == expected
            assert best[q, : len(expected)].tolist() == [scores[q, row] for row in expected]
            assert (rows[q, len(expected) :] == -1).all()
