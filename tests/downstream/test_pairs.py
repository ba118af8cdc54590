"""Classifier and scorer of pairs."""

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn")

from sklearn.exceptions import NotFittedError
from sklearn.metrics import r2_score

from sentenc.downstream import SentenceClassifier, SentencePairClassifier, SentencePairRegressor
from sentenc.downstream.pairs import step_distributions
from tests.support.labeled import scored_pairs

ROWS = scored_pairs(120)
PAIRS = [(left, right) for left, right, _ in ROWS]
SCORES = np.array([score for *_, score in ROWS], float)
SAME = ["same" if score >= 2 else "other" for score in SCORES]


@pytest.fixture(scope="module")
def regressor(encoder):
    return SentencePairRegressor(encoder, random_state=0).fit(PAIRS, SCORES)


def test_distributions_by_hand():
    steps = np.arange(0, 6)
    np.testing.assert_allclose(
        step_distributions(np.array([3.6, 0.0, 5.0, 2.25]), steps),
        [[0, 0, 0, 0.4, 0.6, 0], [1, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1], [0, 0, 0.75, 0.25, 0, 0]],
        atol=1e-7,
    )
    np.testing.assert_allclose(step_distributions(np.array([-1.25]), np.arange(-2, 1)), [[0.25, 0.75, 0]])


def test_distributions_have_the_score_as_their_mean():
    scores, steps = np.random.default_rng(0).uniform(1, 5, 500), np.arange(1, 6)
    shares = step_distributions(scores, steps)
    np.testing.assert_allclose(shares.sum(axis=1), 1, atol=1e-6)
    np.testing.assert_allclose(shares @ steps, scores, atol=1e-5)
    assert ((shares > 0).sum(axis=1) <= 2).all()


def test_scores_are_learned(regressor):
    assert regressor.steps_.tolist() == [0, 1, 2, 3]
    predicted = regressor.predict(PAIRS)
    assert predicted.shape == (120,)
    assert predicted.dtype == np.float64
    assert ((predicted >= 0) & (predicted <= 3)).all()
    assert np.corrcoef(predicted, SCORES)[0, 1] > 0.8
    shares = regressor.predict_proba(PAIRS)
    assert shares.shape == (120, 4)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    np.testing.assert_allclose(shares @ [0, 1, 2, 3], predicted)
    assert regressor.score(PAIRS, SCORES) == pytest.approx(r2_score(SCORES, predicted))
    assert not hasattr(regressor, "decision_function")


def test_metrics_of_a_regressor(regressor):
    metrics = regressor.metrics_
    assert set(metrics) == {"log_loss", "pearson", "spearman", "n", "n_train", "seconds"}
    assert metrics["n"] == metrics["n_train"] == 120
    # On validation examples, the correlation is positive and lower than on the training examples.
    fitted = np.corrcoef(regressor.predict(PAIRS), SCORES)[0, 1]
    assert 0.3 < metrics["pearson"] < fitted
    assert metrics["spearman"] == pytest.approx(metrics["pearson"], abs=0.2)


def test_both_orders_are_the_same(regressor, encoder):
    turned = [pair[::-1] for pair in PAIRS]
    np.testing.assert_allclose(regressor.predict(turned), regressor.predict(PAIRS), atol=1e-6)
    classifier = SentencePairClassifier(encoder, random_state=0).fit(PAIRS, SAME)
    np.testing.assert_allclose(classifier.predict_proba(turned), classifier.predict_proba(PAIRS), atol=1e-6)


def test_pairs_in_every_form(regressor):
    expected = regressor.predict(PAIRS)
    for pairs in (
        np.array(PAIRS),
        pd.DataFrame(PAIRS, columns=["a", "b"]),
        [list(pair) for pair in PAIRS],
        iter(PAIRS),
    ):
        np.testing.assert_array_equal(regressor.predict(pairs), expected)


def test_classifier_of_pairs(encoder):
    classifier = SentencePairClassifier(encoder, random_state=0).fit(np.array(PAIRS), SAME)
    assert classifier.classes_.tolist() == ["other", "same"]
    assert classifier.head_.weights.shape == (2, 2 * encoder.dim)
    assert classifier.score(PAIRS, SAME) > 0.8
    assert classifier.predict_proba(PAIRS).shape == (120, 2)
    assert classifier.decision_function(PAIRS).shape == (120,)
    both = SentencePairClassifier(encoder, random_state=0).fit(PAIRS, [{label, "pair"} for label in SAME])
    assert both.multi_label_
    assert set(both.predict(PAIRS[:1])[0]) >= {"pair"}


@pytest.mark.parametrize(
    ("scores", "wanted", "steps"),
    [
        ([0.5, 1.5], None, [0, 1, 2]),
        ([-1.5, 0], None, [-2, -1, 0]),
        ([2, 3], None, [2, 3]),
        ([2.5, 2.5], None, [2, 3]),
        ([2, 3], (1, 5), [1, 2, 3, 4, 5]),
        ([3, 3], [0, 5], [0, 1, 2, 3, 4, 5]),
        ([0, 100], None, list(range(101))),
        ([2, 3], (np.int64(2), np.int64(4)), [2, 3, 4]),
    ],
)
def test_steps(encoder, scores, wanted, steps):
    regressor = SentencePairRegressor(encoder, score_range=wanted, random_state=0)
    regressor.fit(PAIRS[:2], scores)
    assert regressor.steps_.tolist() == steps
    predicted = regressor.predict(PAIRS)
    assert ((steps[0] <= predicted) & (predicted <= steps[-1])).all()


@pytest.mark.parametrize(
    ("scores", "wanted", "words"),
    [
        ([], None, "0 examples"),
        ([3, 3], None, "all scores are 3.0"),
        ([0, 101], None, "0 to 101 .* at most 101"),
        ([0, 1e300], None, "at most 101"),
        ([0, 1], (0, 200), "0 to 200 .* at most 101"),
        ([1, 6], (0, 5), r"y\[1\] is 6.0, .*0 to 5"),
        ([-0.1, 2], (0, 5), r"y\[0\] is -0.1, .*0 to 5"),
        ([1, 2], (0.5, 5), r"score_range is \(0.5, 5\)"),
        ([1, 2], (5, 0), r"score_range is \(5, 0\)"),
        ([1, 1], (1, 1), r"score_range is \(1, 1\)"),
        ([1, 2], (0,), r"score_range is \(0,\)"),
        ([1, 2], "05", "score_range is '05'"),
        ([1, 2], (None, 5), r"score_range is \(None, 5\)"),
        ([0, 1], (False, True), r"score_range is \(False, True\)"),
        ([0, 1e300], None, r"0 to 1e\+300"),
    ],
)
def test_impossible_steps_are_refused(encoder, scores, wanted, words):
    with pytest.raises(ValueError, match=words):
        SentencePairRegressor(encoder, score_range=wanted).fit(PAIRS[: len(scores)], scores)


def test_distinct_scores_have_validation_examples(encoder):
    # All examples have different targets, and still some become validation examples.
    scores = np.clip(SCORES + np.random.default_rng(0).uniform(-0.4, 0.4, 120), 0, 3)
    regressor = SentencePairRegressor(encoder, random_state=0).fit(PAIRS, scores)
    assert regressor.metrics_["n"] > 100
    assert regressor.metrics_["pearson"] > 0.3


def test_weights_of_pairs(encoder):
    wrong = np.concatenate([SCORES, 3 - SCORES])
    settings = {"random_state": 0, "C": 16.0}
    weighted = SentencePairRegressor(encoder, **settings).fit(PAIRS * 2, wrong, np.repeat([1.0, 0.0], 120))
    plain = SentencePairRegressor(encoder, **settings).fit(PAIRS * 2, wrong)
    assert weighted.score(PAIRS, SCORES) > 0.5 > plain.score(PAIRS, SCORES)


def test_a_failed_fit_keeps_the_earlier_one(encoder):
    regressor = SentencePairRegressor(encoder, random_state=0).fit(PAIRS, SCORES)
    before = regressor.predict(PAIRS)
    with pytest.raises(TypeError, match=r"pairs\[0\]\[1\] is NoneType"):
        regressor.fit([("a", None), ("a", "b")], [0, 100])
    np.testing.assert_array_equal(regressor.predict(PAIRS), before)


def test_methods_before_fit_raise(encoder):
    for call in ("predict", "predict_proba"):
        with pytest.raises(NotFittedError, match="SentencePairRegressor"):
            getattr(SentencePairRegressor(encoder), call)(PAIRS)


def test_texts_for_pairs_and_wrong_lengths_are_refused(regressor, encoder):
    with pytest.raises(TypeError, match=r"pairs\[0\] is str"):
        regressor.predict(["a text", "another"])
    with pytest.raises(TypeError, match=r"texts\[0\] is tuple"):
        SentenceClassifier(encoder).fit(PAIRS, SAME)
    with pytest.raises(ValueError, match="120 pairs but 119 labels"):
        SentencePairRegressor(encoder).fit(PAIRS, SCORES[1:])
    with pytest.raises(ValueError, match="120 pairs but 119 labels"):
        SentencePairClassifier(encoder).fit(PAIRS, SAME[1:])
