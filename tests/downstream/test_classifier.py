"""The classifier of single texts: labels of every kind, weights, scores."""

import io
from contextlib import redirect_stderr

import numpy as np
import pandas as pd
import pytest

pytest.importorskip("sklearn")

from sklearn.exceptions import NotFittedError

import sentenc
from sentenc.downstream import SentenceClassifier
from tests.support.labeled import labeled

TEXTS, LABELS = map(list, zip(*labeled(), strict=True))
NUMBERS = {"music": 30, "market": 10, "pets": 20}


@pytest.fixture(scope="module")
def fit(encoder):
    def fitted(texts, y, sample_weight=None, **settings):
        settings = {"random_state": 0} | settings
        return SentenceClassifier(encoder, **settings).fit(texts, y, sample_weight)

    return fitted


def several():
    """Texts of up to three others joined, with all their labels."""
    rng = np.random.default_rng(0)
    texts, sets = [], []
    for _ in range(120):
        rows = rng.choice(len(TEXTS), rng.integers(0, 4), replace=False)
        texts.append(" ".join(TEXTS[row] for row in rows))
        sets.append({LABELS[row] for row in rows})
    return texts, sets


def test_one_label_per_text(fit, encoder):
    classifier = fit(TEXTS, LABELS)
    assert classifier.classes_.tolist() == ["market", "music", "pets"]
    assert classifier.multi_label_ is False
    assert classifier.encoder_ is encoder
    predicted = classifier.predict(TEXTS)
    assert predicted.shape == (60,)
    assert (predicted == LABELS).mean() > 0.9
    assert classifier.score(TEXTS, LABELS) == (predicted == LABELS).mean()
    probabilities = classifier.predict_proba(TEXTS)
    assert probabilities.shape == (60, 3)
    assert probabilities.dtype == np.float64
    np.testing.assert_allclose(probabilities.sum(axis=1), 1)
    assert (classifier.classes_[probabilities.argmax(axis=1)] == predicted).all()
    scores = np.exp(classifier.decision_function(TEXTS))
    np.testing.assert_allclose(scores / scores.sum(axis=1, keepdims=True), probabilities)


def test_unseen_texts_are_classified(fit):
    classifier = fit(TEXTS, LABELS)
    texts, labels = zip(*[row for row in labeled(seed=9) if row[0] not in TEXTS], strict=True)
    assert len(texts) > 30
    assert classifier.score(texts, labels) > 0.85
    assert classifier.metrics_["accuracy"] > 0.8


@pytest.mark.parametrize(
    "kind", [str, NUMBERS.get, lambda label: label == "pets", lambda label: float(NUMBERS[label])]
)
def test_predicted_labels_have_the_type_of_the_given_ones(fit, kind):
    y = [kind(label) for label in LABELS]
    classifier = fit(TEXTS, y)
    assert classifier.classes_.tolist() == sorted(set(y))
    predicted = classifier.predict(TEXTS)
    assert {type(label) for label in predicted.tolist()} == {type(y[0])}
    assert np.mean(predicted == np.array(y)) > 0.9
    # Any kind of sequence of labels is accepted.
    for other in (np.array(y), pd.Series(y, index=range(60, 0, -1)), tuple(y)):
        assert classifier.score(np.array(TEXTS), other) == classifier.score(TEXTS, y)


def test_two_classes(fit):
    y = [label == "pets" for label in LABELS]
    classifier = fit(TEXTS, y)
    scores, probabilities = classifier.decision_function(TEXTS), classifier.predict_proba(TEXTS)
    assert scores.shape == (60,)
    np.testing.assert_allclose(probabilities[:, 1], 1 / (1 + np.exp(-scores)))
    assert ((scores > 0) == classifier.predict(TEXTS)).all()


def test_collections_of_labels(fit):
    texts, sets = several()
    classifier = fit(texts, sets)
    assert classifier.multi_label_ is True
    assert classifier.head_.kind == "sigmoid"
    predicted = classifier.predict(texts)
    assert {type(labels) for labels in predicted} == {tuple}
    assert all(type(label) is str for labels in predicted for label in labels)
    share = np.mean([set(a) == b for a, b in zip(predicted, sets, strict=True)])
    assert share > 0.8
    assert classifier.score(texts, sets) == pytest.approx(share)
    assert classifier.score(texts, [sorted(labels) for labels in sets]) == pytest.approx(share)
    probabilities = classifier.predict_proba(texts)
    assert probabilities.shape == classifier.decision_function(texts).shape == (120, 3)
    assert predicted == [tuple(classifier.classes_[row].tolist()) for row in probabilities > 0.5]
    # A set that contains an unknown label is wrong.
    assert classifier.score(texts, [labels | {"new"} for labels in sets]) == 0


def test_matrix_of_labels(fit):
    texts, sets = several()
    matrix = np.array([[label in labels for label in ("market", "music", "pets")] for labels in sets]).astype(
        int
    )
    classifier, other = fit(texts, matrix), fit(texts, sets)
    assert classifier.classes_.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(classifier.predict_proba(texts), other.predict_proba(texts))
    predicted = classifier.predict(texts)
    assert predicted.shape == (120, 3)
    assert classifier.score(texts, matrix) == (predicted == matrix).all(axis=1).mean()


def test_class_weights(fit):
    texts = [text for text, label in zip(TEXTS, LABELS, strict=True) if label != "music"]
    # Every tenth text is labeled pets, whatever its words: only the weights decide the prediction.
    y = np.array(["pets" if i % 10 == 0 else "market" for i in range(len(texts))])
    settings = {"C": 0.01}
    plain = fit(texts, y, **settings).predict_proba(texts)[:, 1].mean()
    assert plain == pytest.approx(0.1, abs=0.03)
    balanced = fit(texts, y, class_weight="balanced", **settings).predict_proba(texts)[:, 1].mean()
    assert balanced == pytest.approx(0.5, abs=0.03)
    by_hand = fit(texts, y, class_weight={"pets": 3}, **settings).predict_proba(texts)[:, 1].mean()
    assert by_hand == pytest.approx(0.3 / 1.2, abs=0.03)
    # The weights n / (K * count) of the examples.
    weights = np.where(y == "pets", 40 / (2 * 4), 40 / (2 * 36))
    np.testing.assert_allclose(
        fit(texts, y, weights, C=1.0).predict_proba(texts),
        fit(texts, y, class_weight="balanced", C=1.0).predict_proba(texts),
        atol=1e-6,
    )
    both = fit(texts, y, weights, class_weight={"pets": 2}, C=1.0).predict_proba(texts)
    by_product = fit(texts, y, weights * np.where(y == "pets", 2, 1), C=1.0).predict_proba(texts)
    np.testing.assert_allclose(both, by_product, atol=1e-6)


def test_class_weights_of_sets(fit):
    texts, sets = several()
    plain, heavy = (
        fit(texts, sets, C=0.1, class_weight=weights).predict_proba(texts)[:, 2].mean()
        for weights in (None, {"pets": 10})
    )
    assert heavy > plain + 0.1
    fit(texts, sets, class_weight="balanced")


def test_examples_of_weight_zero_do_not_count(fit):
    wrong = [*LABELS, *(["pets"] * 60)]
    weights = np.repeat([1.0, 0.0], 60)
    assert fit(TEXTS * 2, wrong, weights).score(TEXTS, LABELS) > 0.9
    assert fit(TEXTS * 2, wrong).score(TEXTS, LABELS) < 0.9


def test_score_is_weighted(fit):
    classifier = fit(TEXTS, LABELS)
    right = classifier.predict(TEXTS[:2]).tolist()
    y = [right[0], "something else"]
    assert classifier.score(TEXTS[:2], y) == 0.5
    assert classifier.score(TEXTS[:2], y, sample_weight=[3, 1]) == 0.75


def test_fitted_attributes(fit):
    classifier = fit(TEXTS, LABELS)
    assert classifier.C_ in [4.0**power for power in range(-1, 7)]
    assert set(classifier.metrics_) == {"log_loss", "accuracy", "n", "n_train", "n_classes", "seconds"}
    assert classifier.metrics_["n"] == classifier.metrics_["n_train"] == 60
    assert classifier.metrics_["n_classes"] == 3
    assert (classifier.history_, classifier.n_iter_) == ([], 1)
    assert fit(TEXTS, LABELS, C=2).C_ == 2
    fixed = fit(TEXTS, LABELS, validation_fraction=0)
    assert fixed.C_ == 16
    assert "accuracy" not in fixed.metrics_


def test_seed(fit):
    first, again, other = (fit(TEXTS, LABELS, random_state=seed).metrics_["log_loss"] for seed in (1, 1, 2))
    assert first == again != other
    generator = np.random.default_rng(1)
    assert fit(TEXTS, LABELS, random_state=generator).metrics_["log_loss"] == first
    assert fit(TEXTS, LABELS, random_state=generator).metrics_["log_loss"] != first


def test_encoder_is_never_changed(fit, encoder):
    before = encoder.fingerprint()
    fit(TEXTS, LABELS)
    assert encoder.fingerprint() == before


def test_encoder_from_a_folder(encoder, tmp_path):
    encoder.save(tmp_path / "model")
    classifier = SentenceClassifier(tmp_path / "model", random_state=0).fit(TEXTS, LABELS)
    assert classifier.score(TEXTS, LABELS) > 0.9
    assert classifier.encoder == tmp_path / "model"
    with pytest.raises(sentenc.ModelNotFoundError, match="cse-nowhere"):
        SentenceClassifier("cse-nowhere").fit(TEXTS, LABELS)


def test_progress_is_drawn_on_standard_error(encoder):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for show in (True, False):
        with redirect_stderr(Terminal()) as drawn:
            SentenceClassifier(encoder, show_progress_bar=show, C=1.0).fit(TEXTS, LABELS)
        assert ("60/60" in drawn.getvalue()) == show


def test_methods_before_fit_raise(encoder, tmp_path):
    classifier = SentenceClassifier(encoder)
    for call in (
        lambda: classifier.predict(TEXTS),
        lambda: classifier.predict_proba(TEXTS),
        lambda: classifier.decision_function(TEXTS),
        lambda: classifier.score(TEXTS, LABELS),
        lambda: classifier.save(tmp_path / "c"),
    ):
        with pytest.raises(NotFittedError, match="SentenceClassifier"):
            call()
    assert not (tmp_path / "c").exists()


def test_a_fit_replaces_the_earlier_one(fit):
    classifier = fit(TEXTS, LABELS)
    texts, sets = several()
    classifier.fit(texts, sets)
    assert classifier.multi_label_
    assert isinstance(classifier.predict(texts), list)
    classifier.fit(TEXTS, [label == "pets" for label in LABELS])
    assert classifier.predict(TEXTS).dtype == bool


def test_a_failed_fit_keeps_the_earlier_one(fit):
    classifier = fit(TEXTS, LABELS)
    before = classifier.predict_proba(TEXTS)
    for texts, y in (
        (TEXTS[:3], [["a"], ["b"], None]),
        (TEXTS[:2], ["a", "b", "c"]),
        ([None, "x"], [["a"], ["b"]]),
    ):
        with pytest.raises((TypeError, ValueError)):
            classifier.fit(texts, y)
        np.testing.assert_array_equal(classifier.predict_proba(TEXTS), before)
        assert classifier.predict(TEXTS).shape == (60,)


def test_the_package_exports_classifiers():
    assert sentenc.SentenceClassifier is SentenceClassifier
    with pytest.raises(AttributeError, match="no attribute 'SentenceRanker'"):
        sentenc.downstream.SentenceRanker  # noqa: B018
