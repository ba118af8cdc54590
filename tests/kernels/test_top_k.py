"""The k best scores are those of a sort, for any scores, in any blocks."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentenc.kernels.top_k import add_block, empty_heaps
from tests.kernels.conftest import every_simd_level
from tests.support import kernel_reference as reference
from tests.support.kernel_cases import untimed

nan = float("nan")
scores = st.one_of(
    st.floats(width=32),
    st.sampled_from([np.nan, np.inf, -np.inf, 0.0, -0.0, 1.0, 1.0, 2.0]),
    st.floats(-2, 2, width=32),
)


@untimed
@given(
    st.lists(st.tuples(scores, scores, st.booleans()), max_size=40),
    st.integers(0, 12),
    st.lists(st.integers(0, 40), max_size=4),
)
def test_the_best_are_those_of_a_sort(rows, k, cuts):
    values = np.array([row[:2] for row in rows], np.float32).reshape(-1, 2).T
    left_out = np.array([row[2] for row in rows], bool)
    bounds = sorted({0, len(rows), *(cut for cut in cuts if cut < len(rows))})
    for _ in every_simd_level():
        best_scores, best_rows, counts = empty_heaps(2, k)
        for start, end in itertools.pairwise(bounds):
            block = values[:, start:end]
            add_block(block, start, left_out[start:end], best_scores, best_rows, counts)
        for q in range(2):
            expected = reference.top_k(values[q], left_out, k)
            best = best_rows[q, : counts[q]]
            assert sorted(best.tolist()) == sorted(expected)
            assert (best_rows[q, counts[q] :] == -1).all()
            np.testing.assert_array_equal(best_scores[q, : counts[q]], values[q][best])


@pytest.mark.parametrize("row", [[nan, nan, 1, 2], [nan, 1, nan, 2], [1, nan, 2, nan], [1, 2, nan, nan]])
@pytest.mark.parametrize("size", [1, 2, 4])
def test_nan_is_below_every_number(row, size):
    scores, (best_scores, best_rows, counts) = np.array([row], np.float32), empty_heaps(1, 2)
    for start in range(0, 4, size):
        add_block(
            scores[:, start : start + size], start, np.zeros(size, bool), best_scores, best_rows, counts
        )
    assert sorted(best_scores[0]) == [1, 2]
    assert [row[i] for i in sorted(best_rows[0])] == [1, 2]
