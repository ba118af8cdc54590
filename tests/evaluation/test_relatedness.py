import numpy as np
import pytest

from sentenc.evaluation.protocols import relatedness
from sentenc.evaluation.protocols.relatedness import (
    _ErrorGradient,
    _softmax,
    score_distribution,
    supervised_relatedness,
)


def test_distributions_by_hand():
    shares = score_distribution([3.6, 4.0, 1.0, 5.0, 4.75])
    expected = [[0, 0, 0.4, 0.6, 0], [0, 0, 0, 1, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0, 0, 0, 0.25, 0.75]]
    np.testing.assert_allclose(shares, expected, atol=1e-12)
    np.testing.assert_allclose(shares @ np.arange(1, 6), [3.6, 4, 1, 5, 4.75])


def test_scores_below_one_are_improper_as_in_senteval():
    np.testing.assert_allclose(score_distribution([0.5, 0.0]), [[0.5, 0, 0, 0, 0], [0] * 5])


def test_the_gradient_is_the_derivative_of_the_mean_squared_error():
    rng = np.random.default_rng(0)
    targets = score_distribution(rng.uniform(1, 5, 4)).astype(np.float32)
    scores, rows = rng.standard_normal((1, 1, 3, 5)), np.array([[0, 3, 1]])

    def loss(z):
        return ((_softmax(z)[0, 0] - targets[rows[0]]) ** 2).mean()

    gradient = _ErrorGradient(targets)(scores, rows)
    for at in np.ndindex(scores.shape):
        step = np.zeros_like(scores)
        step[at] = 1e-6
        assert gradient[at] == pytest.approx((loss(scores + step) - loss(scores - step)) / 2e-6, abs=1e-7)


def linear_parts():
    """Pairs whose score is a linear function of their features."""
    rng = np.random.default_rng(0)
    features = rng.standard_normal((260, 4)).astype(np.float32)
    gold = np.clip(3 + features @ np.array([0.8, -0.5, 0.3, 0.0]), 0, 5)
    return {
        name: (features[a:b], gold[a:b])
        for name, a, b in (("train", 0, 160), ("dev", 160, 200), ("test", 200, 260))
    }


def test_learns_and_repeats_itself():
    parts = linear_parts()
    first = supervised_relatedness(parts, np.random.default_rng(1))
    assert first.metrics["pearson"] > 90
    assert first.metrics["mse"] < np.var(parts["test"][1])
    assert 200 <= first.details["epochs"] <= 1050
    assert supervised_relatedness(parts, np.random.default_rng(1)) == first


def test_a_round_begins_at_the_last_epoch_as_in_senteval(monkeypatch):
    monkeypatch.setattr(relatedness, "_MAX_EPOCHS", 100)
    monkeypatch.setattr(relatedness, "_TENACITY", 99)
    assert supervised_relatedness(linear_parts(), np.random.default_rng(1)).details["epochs"] == 150
