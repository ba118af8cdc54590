"""The linear head: scores, probabilities, losses and tensors."""

import numpy as np
import pytest

pytest.importorskip("sklearn")


from sentenc.downstream.features import pair_features
from sentenc.downstream.head import LinearHead
from sentenc.downstream.head_solver import hits
from sentenc.errors import CheckpointError
from sentenc.solvers.losses import log_losses, probabilities

HUGE = 1e4


def head(kind="softmax"):
    return LinearHead(kind, np.array([[1, 0], [0, 2]], np.float32), np.array([0.5, -0.5], np.float32))


def test_scores_and_probabilities():
    scores = head().scores([[1, 2], [0, 0]])
    assert scores.tolist() == [[1.5, 3.5], [0.5, -0.5]]
    assert scores.dtype == np.float64
    e = np.exp
    np.testing.assert_allclose(
        head().probabilities([[1, 2], [0, 0]]),
        [[1 / (1 + e(2)), e(2) / (1 + e(2))], [e(1) / (1 + e(1)), 1 / (1 + e(1))]],
    )
    np.testing.assert_allclose(
        head("sigmoid").probabilities([[1, 2], [0, 0]]),
        [[1 / (1 + e(-1.5)), 1 / (1 + e(-3.5))], [1 / (1 + e(-0.5)), 1 / (1 + e(0.5))]],
    )
    for kind in ("softmax", "sigmoid"):
        assert head(kind).probabilities(np.empty((0, 2))).shape == (0, 2)


def test_log_losses():
    scores = np.log([[0.2, 0.8], [0.5, 0.5], [0.9, 0.1]])
    targets = np.array([[0, 1], [1, 0], [0.25, 0.75]])
    expected = [-np.log(0.8), -np.log(0.5), -0.25 * np.log(0.9) - 0.75 * np.log(0.1)]
    np.testing.assert_allclose(log_losses(scores, targets, "softmax"), expected)
    # A constant for all classes of a row changes nothing.
    np.testing.assert_allclose(log_losses(scores + 7, targets, "softmax"), expected)
    logits = np.log([[0.2 / 0.8, 3.0], [1.0, 1 / 4]])
    both = np.array([[1, 0], [1, 1]])
    np.testing.assert_allclose(
        log_losses(logits, both, "sigmoid"), [-np.log(0.2) - np.log(1 / 4), -np.log(0.5) - np.log(0.2)]
    )


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_no_score_is_too_large(kind):
    scores = np.array([[HUGE, -HUGE], [-HUGE, HUGE]])
    np.testing.assert_array_equal(probabilities(scores, kind), np.eye(2))
    np.testing.assert_array_equal(log_losses(scores, np.eye(2), kind), [0, 0])
    wrong = {"softmax": 2 * HUGE, "sigmoid": 2 * HUGE}[kind]
    np.testing.assert_array_equal(log_losses(scores, 1 - np.eye(2), kind), [wrong, wrong])


def test_hits():
    scores = np.array([[1.0, 2.0], [1.0, -2.0]])
    assert hits(scores, np.array([[0, 1], [0, 1]]), "softmax").tolist() == [True, False]
    assert hits(scores, np.array([[1, 1], [0, 1]]), "sigmoid").tolist() == [True, False]
    assert hits(scores, np.array([[0, 1], [1, 0]]), "sigmoid").tolist() == [False, True]


def test_features_of_a_pair():
    u, v = np.array([[1, -2], [0, 3]]), np.array([[4, 2], [0, -1]])
    expected = [[3, 4, 4, -4], [0, 4, 0, -3]]
    np.testing.assert_array_equal(pair_features(u, v), expected)
    np.testing.assert_array_equal(pair_features(v, u), expected)
    assert pair_features(u, v).dtype == np.float32
    with pytest.raises(ValueError, match=r"shapes \(2, 2\) and \(1, 2\)"):
        pair_features(u, v[:1])


@pytest.mark.parametrize(
    ("kind", "weights", "bias", "words"),
    [
        ("linear", np.eye(2), np.zeros(2), "kind is 'linear', expected 'softmax' or 'sigmoid'"),
        ("softmax", np.eye(2), np.zeros(3), r"shapes \(2, 2\) and \(3,\)"),
        ("softmax", np.zeros(2), np.zeros(2), r"shapes \(2,\)"),
        ("softmax", np.full((2, 2), np.nan), np.zeros(2), "not finite"),
        ("sigmoid", np.eye(2), np.array([0, np.inf]), "not finite"),
    ],
)
def test_impossible_heads_are_refused(kind, weights, bias, words):
    with pytest.raises(ValueError, match=words):
        LinearHead(kind, weights, bias)
    with pytest.raises(CheckpointError, match=words):
        LinearHead.from_tensors(kind, {"weights": weights, "bias": bias})


def test_tensors():
    again = LinearHead.from_tensors("sigmoid", head("sigmoid").tensors())
    assert again.scores([[1, 2]]).tolist() == [[1.5, 3.5]]
    assert again.kind == "sigmoid"
    for names in ({"weights"}, {"weights", "bias", "scale"}):
        with pytest.raises(CheckpointError, match="has tensors"):
            LinearHead.from_tensors("softmax", dict.fromkeys(names, np.eye(2)))
