"""Encoder and head trained together: what is kept, what stops it, what it leaves alone."""

import time

import numpy as np
import pytest
import torch
from conftest import WORDS, make_cse, make_sentence_transformer
from torch import nn

pytest.importorskip("sklearn")

from sentenc import (
    ExternalEncoder,
    SentenceClassifier,
    SentencePairClassifier,
    SentencePairRegressor,
    downstream,
)
from sentenc.downstream import tuning
from sentenc.downstream.head import LinearHead
from sentenc.downstream.tuning import tune_end_to_end
from sentenc.downstream.tuning_config import TuningConfig
from sentenc.training.objectives.regularization import TowardsStart
from tests.downstream.labelled import labelled, scored_pairs

TEXTS, LABELS = map(list, zip(*labelled(), strict=True))
NAMES = sorted(set(LABELS))
TARGETS = np.eye(3, dtype=np.float32)[[NAMES.index(label) for label in LABELS]]
TRAIN, HELD = np.arange(0, 60, 2), np.arange(1, 60, 2)


def run(encoder=None, texts=TEXTS, targets=TARGETS, kind="softmax", seed=0, head_start=None, weights=None,
        train=TRAIN, held=HELD, init="pretrained", **config):  # fmt: skip
    config = {"epochs": 3, "batch_size": 8} | config
    return tune_end_to_end(
        encoder or make_cse(), [texts], targets, kind, config=TuningConfig(**config), init=init, train_rows=train,
        validation_rows=held, rng=np.random.default_rng(seed), head_start=head_start, sample_weight=weights,
    )  # fmt: skip


def bag_twins(n=40):
    """Pairs of texts of the same words in another order, labelled by which of two words comes first."""
    rng = np.random.default_rng(0)
    texts, first = [], []
    for _ in range(n // 2):
        others = rng.choice(WORDS[15:40], 2).tolist()
        for words, label in ((["dog", "cat"], 0), (["cat", "dog"], 1)):
            texts.append(" ".join([others[0], *words, others[1]]))
            first.append(label)
    return texts, np.eye(2, dtype=np.float32)[first]


def test_it_learns_what_no_head_on_a_bag_of_words_can():
    texts, targets = bag_twins()
    encoder = make_cse().word_path()
    # The vectors of both texts of a pair are the same.
    found = encoder.encode(texts)
    np.testing.assert_allclose(found[::2], found[1::2], atol=1e-5)
    silent = make_cse()
    silent._weights["output.2"][:] = 0
    silent._weights["output.3"][:] = 0
    rows = np.arange(len(texts))
    tuned = run(
        silent, texts, targets, train=rows[8:], held=rows[:8], epochs=60, patience=60, learning_rate=2e-2, dropout=0.0,
        regularization=0.0,
    )  # fmt: skip
    right = tuned.head.probabilities(tuned.encoder.encode(texts)).argmax(1) == targets.argmax(1)
    assert right[8:].mean() > 0.9
    assert right[:8].mean() > 0.7


def test_the_epoch_that_is_kept_is_the_best():
    start = LinearHead("softmax", np.zeros((3, 24), np.float32), np.zeros(3, np.float32))
    for rate in (1e-3, 0.5):
        tuned = run(head_start=start, learning_rate=rate, epochs=6)
        losses = [row["validation_loss"] for row in tuned.history]
        assert tuned.best_epoch == int(np.argmin(losses))
        assert losses[0] == pytest.approx(np.log(3), abs=1e-5)
        scores = tuned.head.scores(tuned.encoder.encode([TEXTS[i] for i in HELD]))
        found = -(torch.log_softmax(torch.from_numpy(scores), 1).numpy() * TARGETS[HELD]).sum(1).mean()
        # In the form that encodes, which is rounded.
        assert found == pytest.approx(min(losses), abs=0.02)
    assert tuned.history[0]["train_loss"] is None
    assert all(row["train_loss"] >= 0 for row in tuned.history[1:])


def test_what_stops_it(monkeypatch):
    assert run(epochs=2).stopped_by == "epochs"
    # A rate of next to nothing gains next to nothing after the first epoch; one of far too much loses.
    tuned = run(epochs=50, patience=2, learning_rate=1.0, head_learning_rate=1.0)
    assert tuned.stopped_by == "patience"
    assert len(tuned.history) - 1 == tuned.best_epoch + 2
    clock = iter(range(10_000))
    monkeypatch.setattr(tuning.time, "monotonic", lambda: next(clock))
    tuned = run(epochs=50, max_minutes=0.2)
    assert tuned.stopped_by == "time"
    # Twelve ticks, two of them before the first batch, four batches an epoch.
    assert 1 < len(tuned.history) < 5


def test_without_rows_held_out_the_last_epoch_is_kept():
    tuned = run(train=np.arange(60), held=np.zeros(0, np.int64), epochs=5, patience=1)
    assert (tuned.best_epoch, tuned.stopped_by, len(tuned.history)) == (5, "epochs", 6)
    assert "validation_loss" not in tuned.history[-1]


def test_seeds_and_the_callers_randomness():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    one, same, other = (run(seed=seed).encoder.encode(TEXTS) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0


def test_the_encoder_that_is_given_stays():
    encoder = make_cse()
    before, fingerprint = encoder.encode(TEXTS), encoder.fingerprint()
    tuned = run(encoder, learning_rate=0.1)
    np.testing.assert_array_equal(encoder.encode(TEXTS), before)
    assert encoder.fingerprint() == fingerprint
    assert np.abs(tuned.encoder.encode(TEXTS) - before).max() > 1e-2


def test_regularisation_pulls_towards_the_start():
    encoder = make_cse()
    start = encoder.weight("embeddings")
    moved = [
        np.linalg.norm(
            run(encoder, regularization=strength, learning_rate=1e-2, epochs=8, patience=8, held=np.zeros(0, np.int64))
            .encoder.weight("embeddings") - start
        )
        for strength in (0.0, 0.1, 10.0)
    ]  # fmt: skip
    assert moved[0] > moved[1] > moved[2]


def test_the_pulls_gradient_is_that_of_the_penalty():
    torch.manual_seed(0)
    parameters = {"a": [nn.Parameter(torch.randn(3, 2))], "b": [nn.Parameter(torch.randn(4))]}
    pull = TowardsStart(parameters, {"a": 0.5, "b": 2.0}, to_zero=("b",))
    with torch.no_grad():
        for group in parameters.values():
            group[0].add_(1.0)
    pull.penalty().backward()
    expected = [group[0].grad.clone() for group in parameters.values()]
    for times in (1, 2):
        for group in parameters.values():
            group[0].grad = None
        for _ in range(times):
            pull.add_gradients()
        for group, gradient in zip(parameters.values(), expected, strict=True):
            torch.testing.assert_close(group[0].grad, times * gradient)


def test_an_example_of_no_weight_is_not_there():
    weights = np.ones(60, np.float32)
    weights[TRAIN[::2]] = 0.0
    # As many batches, or the schedule would differ: all rows in one.
    with_them = run(weights=weights, batch_size=60, dropout=0.0, learning_rate=1e-2)
    targets = TARGETS.copy()
    targets[TRAIN[::2]] = targets[TRAIN[::2]][:, [1, 2, 0]]
    other_labels = run(targets=targets, weights=weights, batch_size=60, dropout=0.0, learning_rate=1e-2)
    np.testing.assert_allclose(with_them.head.weights, other_labels.head.weights, atol=1e-6)


def test_several_labels_and_shares():
    both = TARGETS.copy()
    both[[label == "market" for label in LABELS], NAMES.index("pets")] = 1
    tuned = run(targets=both, kind="sigmoid", epochs=6, learning_rate=1e-2)
    assert tuned.history[-1]["validation_loss"] < tuned.history[0]["validation_loss"]
    assert tuned.head.kind == "sigmoid"
    shares = (0.7 * TARGETS + 0.1).astype(np.float32)
    tuned = run(targets=shares, epochs=6, learning_rate=1e-2)
    entropy = -(0.8 * np.log(0.8) + 2 * 0.1 * np.log(0.1))
    assert entropy < tuned.history[-1]["validation_loss"] < tuned.history[0]["validation_loss"]


def test_a_loss_that_is_not_finite_is_told():
    bad = LinearHead("softmax", np.full((3, 24), 3e38, np.float32), np.zeros(3, np.float32))
    with pytest.raises(FloatingPointError, match=r"the held-out loss is .*try a lower learning_rate"):
        run(head_start=bad)
    with pytest.raises(FloatingPointError, match=r"the loss of a batch is .*try a lower learning_rate"):
        run(head_start=bad, held=np.zeros(0, np.int64))


def test_it_can_be_interrupted(monkeypatch):
    def interrupted(self, *_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(tuning._Run, "_update", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run()


@pytest.mark.parametrize("init", ["pretrained", "random"])
def test_a_classifier_end_to_end(tmp_path, init):
    settings = {
        "tune": "all",
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


def test_pairs_and_scores_end_to_end():
    rows = scored_pairs()
    pairs = [row[:2] for row in rows]
    settings = {"tune": "all", "epochs": 5, "random_state": 0, "learning_rate": 1e-2}
    scorer = SentencePairRegressor(make_cse(), **settings).fit(pairs, [row[2] for row in rows])
    assert np.corrcoef(scorer.predict(pairs), [row[2] for row in rows])[0, 1] > 0.7
    classifier = SentencePairClassifier(make_cse(), **settings).fit(pairs, [row[2] > 1 for row in rows])
    assert classifier.score(pairs, [row[2] > 1 for row in rows]) > 0.8


def test_a_bert_end_to_end(tmp_path):
    pytest.importorskip("sentence_transformers")
    encoder = ExternalEncoder(make_sentence_transformer(tmp_path))
    classifier = SentenceClassifier(encoder, tune="all", epochs=3, learning_rate=1e-3, random_state=0)
    classifier.fit(TEXTS, LABELS)
    classifier.save(tmp_path / "folder")
    loaded = downstream.load(tmp_path / "folder")
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), classifier.predict_proba(TEXTS), atol=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"epochs": 0}, "epochs is 0, expected 1 or more"),
        ({"batch_size": 2.0}, "batch_size is 2.0, expected a whole number"),
        ({"learning_rate": -1.0}, "learning_rate is -1.0, expected a finite number"),
        ({"dropout": 1.0}, "dropout is 1.0, expected a share"),
        ({"max_minutes": 0}, "max_minutes is 0, expected a positive number"),
        ({"patience": True}, "patience is True, expected a whole number"),
    ],
)
def test_settings_are_checked(settings, message):
    with pytest.raises((TypeError, ValueError), match=message):
        TuningConfig(**settings)


def test_it_takes_no_longer_than_it_may():
    started = time.monotonic()
    run(epochs=100_000, patience=100_000, max_minutes=0.02)
    assert time.monotonic() - started < 60
