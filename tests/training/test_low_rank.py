"""Principal axes of vectors in wide spaces."""

import numpy as np
import pytest

from sentenc.training.alignment.low_rank import principal_axes


def vectors_on(spectrum: np.ndarray, n: int, d: int, seed: int = 0) -> np.ndarray:
    """Unit vectors whose variance along hidden orthonormal axes falls with a spectrum."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.standard_normal((d, len(spectrum))))[0].T
    values = (rng.standard_normal((n, len(spectrum))) * np.sqrt(spectrum)) @ axes
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(("n", "d", "rank"), [(300, 400, 40), (200, 30, 10), (50, 400, 20), (100, 24, 24)])
def test_the_axes_are_the_singular_vectors(n, d, rank):
    vectors = vectors_on(0.8 ** np.arange(min(d, 100)), n, d)
    _, values, rows = np.linalg.svd(vectors.astype(np.float64), full_matrices=False)
    principal = principal_axes(vectors, rank=rank)
    assert principal.axes.shape == (rank, d)
    assert principal.axes.dtype == np.float32
    np.testing.assert_allclose(principal.axes @ principal.axes.T, np.eye(rank), atol=1e-5)
    assert principal.kept == pytest.approx((values[:rank] ** 2).sum() / (values**2).sum(), abs=1e-4)
    # The subspaces agree, in which signs and nearly equal axes may differ.
    leading = rows[: rank // 2]
    np.testing.assert_allclose(np.linalg.norm(leading @ principal.axes.T, axis=1), 1, atol=1e-3)


def test_the_rank_is_the_smallest_that_keeps_enough():
    few = principal_axes(vectors_on(np.ones(100), 500, 600))
    assert len(few.axes) == 96
    assert few.kept >= 0.95
    assert len(principal_axes(vectors_on(np.ones(50), 500, 600)).axes) == 64
    many = principal_axes(vectors_on(np.ones(900), 1000, 900))
    assert len(many.axes) == 384
    assert many.kept < 0.95


def test_there_are_no_more_axes_than_vectors_or_dimensions():
    vectors = vectors_on(np.ones(20), 10, 600)
    principal = principal_axes(vectors)
    assert principal.axes.shape == (10, 600)
    assert principal.kept == pytest.approx(1, abs=1e-5)
    assert principal_axes(vectors_on(np.ones(20), 100, 20), rank=50).axes.shape == (20, 20)
    assert principal_axes(vectors[:1]).axes.shape == (1, 600)


def test_the_mean_is_among_the_axes():
    # All vectors are close to one direction: it counts as much as the differences.
    rng = np.random.default_rng(1)
    vectors = np.eye(600, dtype=np.float32)[0] + 0.02 * rng.standard_normal((500, 600)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    principal = principal_axes(vectors, rank=1)
    assert abs(principal.axes[0, 0]) > 0.999


def test_the_axes_are_the_same_in_every_run():
    vectors = vectors_on(0.9 ** np.arange(100), 300, 700)
    np.testing.assert_array_equal(principal_axes(vectors).axes, principal_axes(vectors).axes)


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"vectors has shape \(0, 3\)"):
        principal_axes(np.zeros((0, 3)))
    with pytest.raises(ValueError, match="rank is 0"):
        principal_axes(np.ones((2, 3)), rank=0)
