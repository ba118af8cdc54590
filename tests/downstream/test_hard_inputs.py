"""Difficult inputs: each has a clear error or a sensible result."""

import time

import numpy as np
import pandas as pd
import pytest
from scipy import sparse

from tests.support.models import WORDS as KNOWN

pytest.importorskip("sklearn")

from sentenc.downstream import SentenceClassifier, SentencePairClassifier, SentencePairRegressor
from tests.support.labeled import labeled, scored_pairs

TEXTS, LABELS = map(list, zip(*labeled(), strict=True))
PAIRS = [(left, right) for left, right, _ in scored_pairs()]


@pytest.fixture(scope="module")
def fit(encoder):
    def fitted(texts, y, sample_weight=None, **settings):
        return SentenceClassifier(encoder, **({"random_state": 0} | settings)).fit(texts, y, sample_weight)

    return fitted


# Examples ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("texts", "y", "error", "words"),
    [
        ([], [], ValueError, "0 examples"),
        ([], np.zeros((0, 3)), ValueError, "0 examples"),
        (["a"], ["x"], ValueError, "all 1 labels are 'x'"),
        (["a", "b"], ["x", "x"], ValueError, "all 2 labels are 'x'"),
        (["a", "b"], [False, False], ValueError, "all 2 labels are False"),
        (["a", "b"], [[], []], ValueError, "no text has a label"),
        (["a", "b"], ["1", 1], TypeError, r"y\[1\] is int \(1\), but y\[0\] is str"),
        (["a", "b"], ["x", None], TypeError, r"y\[1\] is NoneType \(None\)"),
        (["a", "b", "c"], ["x", "y", float("nan")], ValueError, r"y\[2\] is nan"),
        (["a", None], ["x", "y"], TypeError, r"texts\[1\] is NoneType \(None\), expected str"),
        (["a", float("nan")], ["x", "y"], TypeError, r"texts\[1\] is float \(nan\), expected str"),
        (pd.Series(["a", None]), ["x", "y"], TypeError, r"texts\[1\] is"),
        (["a", 5], ["x", "y"], TypeError, r"texts\[1\] is int \(5\)"),
        (["a", b"b"], ["x", "y"], TypeError, r"texts\[1\] is bytes"),
        ("ab", ["x", "y"], TypeError, "texts is a str"),
        ({"a": 1, "b": 2}, ["x", "y"], TypeError, "texts is dict"),
        (["a", "b", "c"], ["x", "y"], ValueError, "3 texts but 2 labels"),
        (["a", "b"], ["x", "y", "z"], ValueError, "2 texts but 3 labels"),
        (["a", "b"], None, ValueError, "the target y is None: expected labels"),
        (["a", "b"], [0.5, 1.5], ValueError, "not continuous values"),
        (["a", "b"], np.array([[0, 1], [1, 5]]), ValueError, r"y\[1, 1\] is 5"),
    ],
)
def test_clear_errors(fit, texts, y, error, words):
    with pytest.raises(error, match=words):
        fit(texts, y)


def test_empty_input_has_no_predictions(fit, encoder):
    classifier = fit(TEXTS, LABELS)
    assert classifier.predict([]).shape == (0,)
    assert classifier.predict_proba([]).shape == (0, 3)
    assert classifier.decision_function([]).shape == (0, 3)
    with pytest.raises(ValueError, match="0 texts"):
        classifier.score([], [])
    assert fit(TEXTS, [[label] for label in LABELS]).predict([]) == []
    scorer = SentencePairRegressor(encoder).fit(PAIRS, np.arange(60) % 4)
    assert scorer.predict([]).shape == (0,)
    with pytest.raises(TypeError, match=r"texts\[1\] is NoneType"):
        classifier.predict(["a", None])
    with pytest.raises(ValueError, match="2 examples but 1 labels"):
        classifier.score(["a", "b"], ["music"])


def test_empty_pairs_are_refused(encoder):
    for kind in (SentencePairClassifier, SentencePairRegressor):
        with pytest.raises(ValueError, match="0 examples"):
            kind(encoder).fit([], [])


def test_a_class_with_one_example(fit):
    classifier = fit([*TEXTS, "tokyo tokyo"], [*LABELS, "alone"], C=64.0)
    assert classifier.classes_.tolist() == ["alone", "market", "music", "pets"]
    assert classifier.predict(["tokyo tokyo"]).tolist() == ["alone"]
    assert classifier.score(TEXTS, LABELS) > 0.9
    # It is in no validation fold: the strength is chosen by the other examples.
    assert fit([*TEXTS, "tokyo tokyo"], [*LABELS, "alone"]).metrics_["n"] == 60


def test_two_examples(fit):
    classifier = fit(["dog cat", "stock market"], ["pets", "market"])
    assert classifier.predict(["stock market", "dog cat"]).tolist() == ["market", "pets"]
    assert classifier.C_ == 16
    assert "log_loss" not in classifier.metrics_


def test_only_classes_of_one_example(fit):
    classifier = fit(KNOWN[:30], [f"class {word}" for word in KNOWN[:30]])
    assert classifier.score(KNOWN[:30], [f"class {word}" for word in KNOWN[:30]]) > 0.9


def words_of(number, n=3):
    """A different sentence for every number below 60 ** n."""
    return " ".join(KNOWN[number // 60**place % 60] for place in range(n))


def test_two_thousand_classes(fit, tmp_path):
    # A quarter of the classes have two examples.
    texts = [words_of(7 * i) for i in range(2500)]
    y = [f"label {i % 2000}" for i in range(2500)]
    started = time.perf_counter()
    classifier = fit(texts, y, C=16.0)
    # It takes a second or two on an idle core. The limit catches quadratic growth.
    assert time.perf_counter() - started < 60
    assert len(classifier.classes_) == 2000
    assert classifier.head_.weights.shape == (2000, 24)
    probabilities = classifier.predict_proba(texts[:10])
    assert probabilities.shape == (10, 2000)
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    # Far above chance, which is 1 in 2,000, with 24 features.
    assert classifier.score(texts, y) > 0.05
    classifier.save(tmp_path / "saved")
    again = SentenceClassifier.load(tmp_path / "saved")
    assert again.predict(texts[:50]).tolist() == classifier.predict(texts[:50]).tolist()


def test_rare_class(fit):
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(["stock", "market", "fell", "the", "a", "in"], 5)) for _ in range(3000)]
    rare = [" ".join(rng.choice(["dog", "cat", "runs", "the", "a", "in"], 5)) + " dog" for _ in range(6)]
    texts, y = texts + rare[:3], ["usual"] * 3000 + ["rare"] * 3
    for weights in (None, "balanced"):
        classifier = fit(texts, y, class_weight=weights)
        assert np.mean(classifier.predict(texts[:3000]) == "usual") > 0.99
        assert np.isfinite(classifier.predict_proba(texts)).all()
    # With class weights, it predicts the rare label for new texts.
    assert (classifier.predict(rare[3:]) == "rare").all()


def test_label_that_every_text_has(fit):
    classifier = fit(TEXTS, [[label, "text"] for label in LABELS])
    assert all("text" in labels for labels in classifier.predict(TEXTS))
    assert fit(TEXTS, sparse.csr_array(np.ones((60, 1), int))).predict(TEXTS).all()


def test_column_that_no_text_has(fit):
    matrix = np.zeros((60, 3), int)
    matrix[::2, 1] = 1
    classifier = fit(TEXTS, matrix, class_weight="balanced")
    assert classifier.predict(TEXTS).shape == (60, 3)
    assert not classifier.predict(TEXTS)[:, [0, 2]].any()


def test_texts_without_words_or_too_long(fit):
    # Empty texts, texts of unknown characters, and texts above the encoder's maximum length.
    texts = ["", "☃", "   ", "dog " * 1000, "\ud800", "a\0b"]
    classifier = fit(TEXTS + texts, LABELS + ["other"] * 6)
    probabilities = classifier.predict_proba(texts)
    assert np.isfinite(probabilities).all()
    np.testing.assert_array_equal(probabilities[0], probabilities[2])


def test_only_empty_texts(fit):
    classifier = fit([""] * 40, ["a"] * 30 + ["b"] * 10)
    assert classifier.predict([""]).tolist() == ["a"]
    assert classifier.predict_proba([""])[0, 0] == pytest.approx(0.75, abs=0.02)
    # Nothing was learned about any other text.
    assert classifier.predict_proba(["dog cat"])[0, 0] == pytest.approx(0.75, abs=0.02)


def test_the_same_text_with_two_labels(fit):
    classifier = fit(["dog runs"] * 30 + ["dog runs"] * 10, ["a"] * 30 + ["b"] * 10)
    assert classifier.predict_proba(["dog runs"])[0, 0] == pytest.approx(0.75, abs=0.02)
    assert classifier.predict_proba(["stock market fell"])[0, 0] == pytest.approx(0.75, abs=0.02)


def test_iterators_are_accepted(fit):
    classifier = fit((text for text in TEXTS), (label for label in LABELS), C=4.0)
    np.testing.assert_array_equal(
        classifier.predict_proba(TEXTS), fit(TEXTS, LABELS, C=4.0).predict_proba(TEXTS)
    )


def test_given_lists_are_not_changed(fit):
    texts, y, weights = list(TEXTS), list(LABELS), np.ones(60)
    fit(texts, y, weights, class_weight="balanced")
    assert (texts, y) == (TEXTS, LABELS)
    assert (weights == 1).all()


# Settings ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        (
            {"encoder": None},
            TypeError,
            "encoder is NoneType",
        ),
        ({"encoder": 3}, TypeError, "encoder is int"),
        ({"fine_tune": "everything"}, ValueError, "fine_tune is 'everything', expected 'head' or 'all'"),
        ({"fine_tune": None}, ValueError, "fine_tune is None"),
        ({"init": "zeros"}, ValueError, "init is 'zeros'"),
        ({"C": 0}, ValueError, "C is 0, "),
        ({"C": -1.0}, ValueError, "C is -1.0"),
        ({"C": "best"}, ValueError, "C is 'best'"),
        ({"C": None}, ValueError, "C is None"),
        ({"C": True}, ValueError, "C is True"),
        ({"C": float("nan")}, ValueError, "C is nan"),
        ({"C": float("inf")}, ValueError, "C is inf"),
        ({"C": [1.0]}, ValueError, r"C is \[1.0\]"),
        ({"validation_fraction": 1}, ValueError, "validation_fraction is 1"),
        ({"validation_fraction": -0.1}, ValueError, "validation_fraction is -0.1"),
        ({"validation_fraction": None}, TypeError, "validation_fraction is None"),
        ({"validation_fraction": "0.1"}, TypeError, "validation_fraction is '0.1'"),
        ({"epochs": 0}, ValueError, "epochs is 0"),
        ({"epochs": 1.5}, TypeError, "epochs is 1.5"),
        ({"patience": -1}, ValueError, "patience is -1"),
        ({"batch_size": None}, TypeError, "batch_size is None"),
        ({"learning_rate": -1}, ValueError, "learning_rate is -1"),
        ({"regularization": "x"}, TypeError, "regularization is 'x'"),
        ({"max_minutes": 0}, ValueError, "max_minutes is 0"),
        ({"random_state": -1}, ValueError, "random_state is -1"),
        ({"random_state": "one"}, ValueError, "random_state is 'one'"),
        ({"class_weight": "even"}, ValueError, "class_weight is 'even'"),
        (
            {"class_weight": {"birds": 2}},
            ValueError,
            "class_weight has 'birds', which is none of the 3 classes",
        ),
        ({"class_weight": {"pets": -1}}, ValueError, "class_weight is "),
        ({"class_weight": {"pets": None}}, ValueError, "class_weight is "),
        ({"class_weight": {"pets": "2"}}, ValueError, "class_weight is "),
        ({"class_weight": [1, 2, 3]}, ValueError, r"class_weight is \[1, 2, 3\]"),
    ],
)
def test_wrong_settings(encoder, settings, error, words):
    classifier = SentenceClassifier(**({"encoder": encoder} | settings))
    with pytest.raises(error, match=words):
        classifier.fit(TEXTS, LABELS)
    assert not hasattr(classifier, "head_")


@pytest.mark.parametrize(
    ("weights", "words"),
    [
        (np.ones(59), r"sample_weight has shape \(59,\), expected \(60,\)"),
        (np.ones((60, 1)), r"sample_weight has shape \(60, 1\)"),
        (np.r_[np.ones(59), -1], r"sample_weight\[59\] is -1.0"),
        (np.r_[np.nan, np.ones(59)], r"sample_weight\[0\] is nan"),
        (np.r_[np.inf, np.ones(59)], r"sample_weight\[0\] is inf"),
        (np.zeros(60), "the weights of all examples are zero"),
    ],
)
def test_wrong_weights(fit, weights, words):
    with pytest.raises(ValueError, match=words):
        fit(TEXTS, LABELS, weights)


def test_weights_that_exclude_every_example_are_refused(fit):
    weights = [float(label == "pets") for label in LABELS]
    with pytest.raises(ValueError, match="the weights of all examples are zero"):
        fit(TEXTS, LABELS, weights, class_weight={"pets": 0})
    # Weights may remove all classes but one.
    assert (fit(TEXTS, LABELS, weights).predict(TEXTS) == "pets").all()


def test_settings_may_be_numpy_scalars(fit):
    fitted = fit(TEXTS, LABELS, C=np.float32(4), epochs=np.int64(3), random_state=np.int64(0))
    np.testing.assert_array_equal(fitted.predict_proba(TEXTS), fit(TEXTS, LABELS, C=4.0).predict_proba(TEXTS))
