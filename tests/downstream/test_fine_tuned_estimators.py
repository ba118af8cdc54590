"""Estimators with a fine-tuned encoder: fitting, saving and loading."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sentenc import (
    SentenceClassifier,
    SentencePairClassifier,
    SentencePairRegressor,
    SentenceTransformerEncoder,
    downstream,
)
from tests.support.fine_tuning import (
    LABELS,
    TEXTS,
)
from tests.support.labeled import scored_pairs
from tests.support.models import make_cse, make_sentence_transformer


@pytest.mark.parametrize("init", ["pretrained", "random"])
def test_a_classifier_end_to_end(tmp_path, init):
    settings = {
        "fine_tune": "all",
        "init": init,
        "epochs": 8,
        "learning_rate": 1e-2,
        "random_state": 0,
        "batch_size": 8,
    }
    encoder = make_cse("int8").compressed()
    classifier = SentenceClassifier(encoder, **settings).fit(TEXTS, LABELS)
    assert classifier.score(TEXTS, LABELS) > 0.8
    assert classifier.encoder_.fingerprint() != encoder.fingerprint()
    assert [row["epoch"] for row in classifier.history_] == list(range(len(classifier.history_)))
    assert classifier.metrics_["n"] == 6
    classifier.save(tmp_path / "folder")
    loaded = downstream.load(tmp_path / "folder")
    np.testing.assert_array_equal(loaded.predict_proba(TEXTS), classifier.predict_proba(TEXTS))
    assert loaded.history_ == classifier.history_
    again = SentenceClassifier(encoder, **settings).fit(TEXTS, LABELS)
    np.testing.assert_array_equal(again.predict_proba(TEXTS), classifier.predict_proba(TEXTS))


def test_pairs_and_scores_end_to_end(tmp_path):
    rows = scored_pairs()
    pairs = [row[:2] for row in rows]
    settings = {"fine_tune": "all", "epochs": 5, "random_state": 0, "learning_rate": 1e-2}
    scorer = SentencePairRegressor(make_cse(), **settings).fit(pairs, [row[2] for row in rows])
    assert np.corrcoef(scorer.predict(pairs), [row[2] for row in rows])[0, 1] > 0.7
    classifier = SentencePairClassifier(make_cse(), **settings).fit(pairs, [row[2] > 1 for row in rows])
    assert classifier.score(pairs, [row[2] > 1 for row in rows]) > 0.8
    for estimator in (scorer, classifier):
        estimator.save(tmp_path / type(estimator).__name__)
        loaded = downstream.load(tmp_path / type(estimator).__name__)
        np.testing.assert_array_equal(loaded.predict_proba(pairs), estimator.predict_proba(pairs))


def test_a_bert_is_fine_tuned_saved_and_loaded(tmp_path):
    pytest.importorskip("sentence_transformers")
    encoder = SentenceTransformerEncoder(make_sentence_transformer(tmp_path))
    classifier = SentenceClassifier(encoder, fine_tune="all", epochs=3, learning_rate=1e-3, random_state=0)
    classifier.fit(TEXTS, LABELS)
    classifier.save(tmp_path / "folder")
    loaded = downstream.load(tmp_path / "folder")
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), classifier.predict_proba(TEXTS), atol=1e-5)
