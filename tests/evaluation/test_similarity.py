import numpy as np
import pytest
from scipy import stats

from sentenc.evaluation.protocols.similarity import correlations
from sentenc.metrics import average_ranks, paired_cosine, pearson, spearman


def test_cosine_of_rows_and_zero_for_zero_vectors():
    left = [[3, 4], [0, 0], [1, 0]]
    right = [[4, 3], [1, 1], [-2, 0]]
    np.testing.assert_allclose(paired_cosine(left, right), [24 / 25, 0, -1])


def test_ranks_share_ties():
    np.testing.assert_array_equal(average_ranks([10, 30, 20, 30, 5]), [2, 4.5, 3, 4.5, 1])


def test_correlations_by_hand():
    # Deviations (-1, 0, 1) and (-3, 0, 3) against (-4, 2, 2): 6 / sqrt(2 * 24), 18 / sqrt(18 * 24).
    assert pearson([1, 2, 3], [0, 6, 6]) == pytest.approx(6 / np.sqrt(48))
    # Ranks (1, 2, 3) and (1, 2.5, 2.5): 1.5 / sqrt(2 * 1.5).
    assert spearman([1, 2, 3], [0, 6, 6]) == pytest.approx(1.5 / np.sqrt(3))


def test_correlations_are_scipys():
    rng = np.random.default_rng(0)
    a = rng.integers(0, 20, 200) / 4
    b = a + rng.standard_normal(200)
    assert pearson(a, b) == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-12)
    assert spearman(a, b) == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)


def test_a_constant_has_no_correlation():
    assert pearson([1, 1, 1], [1, 2, 3]) == 0
    assert spearman([1, 2, 3], [2, 2, 2]) == 0


def test_aggregations_by_hand():
    # Two sets that are perfect in themselves but on different levels, and one reversed.
    up = np.array([1.0, 2.0, 3.0])
    sets = {"a": (up, up), "b": (up + 10, up), "c": (np.array([2.0, 1.0]), np.array([1.0, 2.0]))}
    by_metric = correlations(sets)
    assert {name: by_metric["pearson"][name] for name in sets} == pytest.approx(
        {"a": 100, "b": 100, "c": -100}
    )
    assert by_metric["pearson"]["mean"] == pytest.approx(100 / 3)
    assert by_metric["pearson"]["wmean"] == pytest.approx(100 * (3 + 3 - 2) / 8)
    # Predictions 1 2 3 11 12 13 2 1 against 1 2 3 1 2 3 1 2, in ranks:
    # (1.5 3.5 5 6 7 8 3.5 1.5) and (2 5 7.5 2 5 7.5 2 5). Deviations from 4.5 multiply to 17.5; the
    # squares add up to 41 and 37.5.
    assert by_metric["spearman"]["all"] == pytest.approx(100 * 17.5 / np.sqrt(41 * 37.5))
