"""Inner products in int8 are exact on every instruction set, and refuse numbers that are too large."""

import numpy as np
import pytest

from sentenc.kernels.dot import dot_int8, quantized_query
from sentenc.kernels.library import available_simd_levels, set_simd_level, simd_level


@pytest.fixture(params=available_simd_levels())
def level(request):
    before = simd_level()
    set_simd_level(request.param)
    yield request.param
    set_simd_level(before)


@pytest.mark.parametrize("dim", [0, 1, 7, 16, 63, 256, 300, 1024, 4096])
def test_products_are_exact(level, dim):
    generator = np.random.default_rng(dim)
    rows = generator.integers(-128, 128, (50, dim), dtype=np.int8)
    query, _ = quantized_query(generator.standard_normal(dim).astype(np.float32))
    expected = rows.astype(np.int64) @ query.astype(np.int64)
    assert np.array_equal(dot_int8(rows, query), expected)
    wide = generator.integers(-128, 128, (50, dim + 5), dtype=np.int8)
    assert np.array_equal(
        dot_int8(wide[:, 2 : 2 + dim], query), wide[:, 2 : 2 + dim].astype(np.int64) @ query
    )


@pytest.mark.parametrize("dim", [1, 256, 512, 4096])
def test_the_largest_products_do_not_overflow(level, dim):
    query, step = quantized_query(np.full(dim, -3.0, np.float32))
    rows = np.full((3, dim), -128, np.int8)
    assert np.array_equal(dot_int8(rows, query), rows.astype(np.int64) @ query.astype(np.int64))
    assert np.allclose(query * step, -3)


def test_bad_arrays_are_refused():
    rows, query = np.zeros((2, 512), np.int8), np.zeros(512, np.int16)
    with pytest.raises(ValueError, match="rows is float32 of shape"):
        dot_int8(rows.astype(np.float32), query)
    with pytest.raises(ValueError, match=r"rows is int8 of shape \(2, 511\), expected int8 with 512 columns"):
        dot_int8(rows[:, :511], query)
    with pytest.raises(ValueError, match="too large for 4096 dimensions"):
        dot_int8(np.zeros((2, 4096), np.int8), np.full(4096, -32768, np.int16))


def test_a_query_of_zeros_has_products_of_zero():
    query, step = quantized_query(np.zeros(5, np.float32))
    assert step == 1
    assert dot_int8(np.ones((2, 5), np.int8), query).tolist() == [0, 0]


def test_arrays_in_any_layout_are_accepted(level):
    generator = np.random.default_rng(5)
    rows = generator.integers(-128, 128, (9, 40), dtype=np.int8)
    query, _ = quantized_query(generator.standard_normal(40).astype(np.float32))
    expected = (rows.astype(np.int64) @ query).tolist()
    shifted = np.frombuffer(b"x" + query.tobytes(), np.int16, offset=1)
    assert not shifted.flags.aligned
    for layout in (
        np.asfortranarray(rows),
        np.ascontiguousarray(rows[::-1])[::-1],
        np.repeat(rows, 2, 1)[:, ::2],
    ):
        assert dot_int8(layout, shifted).tolist() == expected
    assert dot_int8(np.broadcast_to(rows[:1], (9, 40)), query).tolist() == expected[:1] * 9
    assert dot_int8(rows, np.repeat(query, 2)[::2]).tolist() == expected
