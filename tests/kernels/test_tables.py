"""Products and quantization are those of numpy on every instruction set; tables lie side by side."""

import numpy as np
import pytest

from sentenc.kernels.library import available_simd_levels, set_simd_level, simd_level
from sentenc.kernels.tables import are_side_by_side, multiply, quantize, side_by_side


@pytest.fixture(params=available_simd_levels())
def level(request):
    before = simd_level()
    set_simd_level(request.param)
    yield request.param
    set_simd_level(before)


@pytest.mark.parametrize(
    ("n", "dim", "columns"), [(0, 5, 7), (1, 1, 1), (65, 0, 3), (7, 9, 0), (129, 40, 101)]
)
@pytest.mark.parametrize("is_int8", [False, True])
def test_products_and_largest_sizes(level, n, dim, columns, is_int8):
    generator = np.random.default_rng(n)
    matrix = generator.standard_normal((dim, columns)).astype(np.float32)
    rows, scales = generator.standard_normal((n, dim)).astype(np.float32), None
    expected = rows
    if is_int8:
        rows = generator.integers(-128, 128, (n, dim), dtype=np.int8)
        scales = generator.standard_normal(n).astype(np.float32)
        expected = rows * scales[:, None]
    products, largest = multiply(rows, scales, matrix)
    terms = np.abs(expected) @ np.abs(matrix)
    assert products.shape == (n, columns)
    assert (np.abs(products - expected.astype(np.float64) @ matrix) <= 1e-6 * terms).all()
    assert np.array_equal(largest, np.abs(products).max(axis=0, initial=0))
    # The layout of an argument changes nothing.
    again = multiply(np.asfortranarray(rows), scales, np.repeat(matrix, 2, axis=1)[:, ::2])
    assert np.array_equal(again[0], products)


@pytest.mark.parametrize("columns", [1, 5, 16, 31, 64, 100])
def test_values_are_rounded_to_whole_steps(level, columns):
    generator = np.random.default_rng(columns)
    values = (60 * generator.standard_normal((40, columns))).astype(np.float32)
    values[:4] = [[0.5], [1.5], [-2.5], [126.5]]
    steps = np.where(np.arange(columns) % 2, 1, generator.uniform(0.5, 2, columns)).astype(np.float32)
    out = side_by_side(40, (3, columns), np.int8)[1]
    quantize(values, steps, out)
    assert np.array_equal(out, np.clip(np.rint(values / steps), -128, 127))


def test_numbers_outside_of_int8_become_the_nearest_inside(level):
    values = np.array([[1e30, -1e30, np.inf, -np.inf, np.nan, 127.4, -128.4, 127.6]] * 3, np.float32)
    out = np.empty((3, 8), np.int8)
    quantize(values, np.ones(8, np.float32), out)
    assert out.tolist() == [[127, -128, 127, -128, -128, 127, -128, 127]] * 3


def test_tables_share_cache_lines():
    words, ngrams = side_by_side(5, (96, 40), np.int8)
    assert words.shape == (5, 96)
    assert ngrams.shape == (5, 40)
    assert words.ctypes.data % 64 == 0
    assert words.strides == ngrams.strides == (192, 1)
    assert are_side_by_side(words, ngrams)
    assert are_side_by_side(*side_by_side(1, (3, 4), np.float32))
    assert are_side_by_side(*side_by_side(9, (3, 0), np.float32))
    assert are_side_by_side(*side_by_side(9, (0, 3), np.int8))
    assert are_side_by_side(*side_by_side(0, (3, 4), np.int8))
    empty = words[:, :0]
    aligned = side_by_side(5, (64, 0), np.int8)[0]
    assert are_side_by_side(empty, aligned)
    assert not are_side_by_side(empty, np.broadcast_to(aligned[:1], (5, 64)))
    assert not are_side_by_side(empty, aligned[::-1])
    assert not are_side_by_side(words, ngrams.copy())
    assert not are_side_by_side(words[:, 1:], ngrams)
    assert not are_side_by_side(words, ngrams[::-1])
    assert not are_side_by_side(words[1:], ngrams[:-1])
    assert not are_side_by_side(words, ngrams[:, ::2])


def test_bad_arrays_are_refused():
    rows, matrix = np.zeros((2, 3), np.float32), np.zeros((3, 4), np.float32)
    with pytest.raises(ValueError, match="rows are int8 of shape"):
        multiply(rows.astype(np.int8), None, matrix)
    with pytest.raises(ValueError, match=r"matrix has shape \(2, 4\), expected \(3, 4\)"):
        multiply(rows, None, matrix[:2])
    with pytest.raises(ValueError, match=r"scales has shape \(3,\), expected \(2,\)"):
        multiply(rows.astype(np.int8), np.ones(3, np.float32), matrix)
    steps, out = np.ones(4, np.float32), np.zeros((3, 4), np.int8)
    with pytest.raises(ValueError, match=r"values has shape \(2, 3\), expected \(3, 4\)"):
        quantize(rows, steps, out)
    with pytest.raises(ValueError, match=r"steps has shape \(3,\), expected \(4,\)"):
        quantize(matrix, steps[:3], out)
    read_only = out.copy()
    read_only.flags.writeable = False
    for bad in (
        out.astype(np.uint8),
        np.zeros((3, 8), np.int8)[:, ::2],
        np.zeros((4, 3), np.int8).T,
        out[::-1],
    ):
        with pytest.raises(ValueError, match="expected int8 and contiguous rows"):
            quantize(matrix, steps, bad)
    with pytest.raises(ValueError, match="read-only"):
        quantize(matrix, steps, read_only)
    with pytest.raises(ValueError, match="contiguous rows"):
        quantize(matrix, steps, np.broadcast_to(out[:1], (3, 4)))
