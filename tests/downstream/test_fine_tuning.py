"""Fine-tuning: the best epoch, the ends of training, learned tasks, and the unmodified original encoder."""

import time

import numpy as np
import pytest
import torch

pytest.importorskip("sklearn")

from sentenc.downstream import fine_tuning
from sentenc.downstream.head import LinearHead
from sentenc.downstream.head_solver import fit_head
from tests.support.fine_tuning import (
    NO_ROWS,
    TARGETS,
    TEXTS,
    TRAIN,
    VALIDATION,
    mean_log_loss,
    tune,
    with_weights,
)
from tests.support.models import WORDS, make_cse


def bag_twins(n=40):
    """Pairs of texts of the same words in another order, labeled by which of two words comes first."""
    rng = np.random.default_rng(0)
    texts, first = [], []
    for _ in range(n // 2):
        others = rng.choice(WORDS[15:40], 2).tolist()
        for words, label in ((["dog", "cat"], 0), (["cat", "dog"], 1)):
            texts.append(" ".join([others[0], *words, others[1]]))
            first.append(label)
    return texts, np.eye(2, dtype=np.float32)[first]


def test_tasks_beyond_a_bag_of_words_are_learned():
    texts, targets = bag_twins()
    encoder = make_cse().word_path()
    # The vectors of both texts of a pair are the same.
    vectors = encoder.encode(texts)
    np.testing.assert_allclose(vectors[::2], vectors[1::2], atol=1e-5)

    def without_ngrams(weights):
        weights["output.2"][:] = 0
        weights["output.3"][:] = 0

    silent = with_weights(make_cse(), without_ngrams)
    rows = np.arange(len(texts))
    tuned = tune(
        silent,
        texts,
        targets,
        train=rows[8:],
        validation=rows[:8],
        epochs=60,
        patience=60,
        learning_rate=2e-2,
        dropout=0.0,
        regularization=0.0,
    )
    right = tuned.head.probabilities(tuned.encoder.encode(texts)).argmax(1) == targets.argmax(1)
    assert right[8:].mean() > 0.9
    assert right[:8].mean() > 0.7


def test_words_without_a_vector_are_learned():
    dog, cat = make_cse().tokenizer.encode(["dog cat"])[0]

    def without_dog_and_cat(weights):
        weights["embeddings"][[dog, cat]] = 0.0
        weights["token_weights"][[dog, cat]] = 0.0

    encoder = with_weights(make_cse(), without_dog_and_cat)
    texts = [
        f"{left} {animal} {right}"
        for animal in ("dog", "cat")
        for left in WORDS[20:26]
        for right in WORDS[26:29]
    ]
    targets = np.repeat(np.eye(2, dtype=np.float32), len(texts) // 2, axis=0)
    np.testing.assert_array_equal(*np.split(encoder.encode(texts), 2))
    rows = np.random.default_rng(0).permutation(len(texts))
    tuned = tune(
        encoder, texts, targets, train=rows[10:], validation=rows[:10], epochs=20, learning_rate=3e-2
    )
    right = tuned.head.scores(tuned.encoder.encode(texts)).argmax(1) == targets.argmax(1)
    assert right.all()


def test_the_best_epoch_is_kept():
    start = LinearHead("softmax", np.zeros((3, 24), np.float32), np.zeros(3, np.float32))
    for rate in (1e-3, 0.5):
        tuned = tune(initial_head=start, learning_rate=rate, epochs=6)
        losses = [row["validation_loss"] for row in tuned.history]
        assert tuned.best_epoch == int(np.argmin(losses))
        assert losses[0] == pytest.approx(np.log(3), abs=1e-5)
        scores = tuned.head.scores(tuned.encoder.encode([TEXTS[i] for i in VALIDATION]))
        loss = -(torch.log_softmax(torch.from_numpy(scores), 1).numpy() * TARGETS[VALIDATION]).sum(1).mean()
        # The weights of the finished encoder are rounded.
        assert loss == pytest.approx(min(losses), abs=0.02)
    assert tuned.history[0]["train_loss"] is None
    assert all(np.isfinite(row["train_loss"]) for row in tuned.history[1:])


def test_epochs_patience_and_time_stop_training(monkeypatch):
    assert tune(epochs=2).stopped_by == "epochs"
    # Learning rates that are far too high increase the validation loss.
    tuned = tune(epochs=50, patience=2, learning_rate=1.0, head_learning_rate=1.0)
    assert tuned.stopped_by == "patience"
    assert len(tuned.history) - 1 == tuned.best_epoch + 2
    clock = iter(range(10_000))
    monkeypatch.setattr(fine_tuning.time, "monotonic", lambda: next(clock))
    tuned = tune(epochs=50, max_minutes=0.2)
    assert tuned.stopped_by == "time"
    # The clock ticks at every call: twice before the first batch, then four batches an epoch.
    assert 1 < len(tuned.history) < 5


def test_a_time_limit_between_two_epochs_adds_no_epoch(monkeypatch):
    updates = []
    # Four batches an epoch: the time is over with the last update of the second epoch.
    monkeypatch.setattr(fine_tuning, "clip_gradients", lambda *_: updates.append(1) or 0.0)
    monkeypatch.setattr(fine_tuning.time, "monotonic", lambda: 100.0 if len(updates) == 8 else 0.0)
    tuned = tune(epochs=9, patience=9, max_minutes=1)
    assert [row["epoch"] for row in tuned.history] == [0, 1, 2]
    assert tuned.stopped_by == "time"


def test_the_time_limit_is_respected():
    started = time.monotonic()
    tune(epochs=100_000, patience=100_000, max_minutes=0.02)
    assert time.monotonic() - started < 60


def test_training_can_be_interrupted(monkeypatch):
    def interrupted(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(fine_tuning, "clip_gradients", interrupted)
    with pytest.raises(KeyboardInterrupt):
        tune()


def test_without_validation_rows_the_last_epoch_is_kept():
    tuned = tune(train=np.arange(60), validation=NO_ROWS, epochs=5, patience=1)
    assert (tuned.best_epoch, tuned.stopped_by, len(tuned.history)) == (5, "epochs", 6)
    assert "validation_loss" not in tuned.history[-1]


def test_the_result_is_no_worse_than_the_head_alone():
    encoder = make_cse()
    validation_texts, train_texts = ([TEXTS[row] for row in rows] for rows in (VALIDATION, TRAIN))
    start = fit_head(
        encoder.encode(train_texts), TARGETS[TRAIN], "softmax", C=4.0, rng=np.random.default_rng(0)
    ).head
    alone = mean_log_loss(start, encoder.encode(validation_texts), TARGETS[VALIDATION])
    # With learning rates that are too high, the initial head stays the best.
    harmed = tune(encoder, initial_head=start, learning_rate=0.5, head_learning_rate=0.5, epochs=4)
    assert harmed.best_epoch == 0
    np.testing.assert_array_equal(harmed.head.weights, start.weights)
    np.testing.assert_array_equal(harmed.head.bias, start.bias)
    for name in ("filters.2", "token_weights"):
        np.testing.assert_allclose(harmed.encoder.weight(name), encoder.weight(name), rtol=1e-3, atol=1e-6)
    helped = tune(encoder, initial_head=start, learning_rate=3e-3, epochs=8)
    assert helped.best_epoch > 0
    for tuned in (harmed, helped):
        assert tuned.history[tuned.best_epoch]["validation_loss"] <= alone * (1 + 1e-5)
        loss = mean_log_loss(tuned.head, tuned.encoder.encode(validation_texts), TARGETS[VALIDATION])
        assert loss == pytest.approx(tuned.history[tuned.best_epoch]["validation_loss"], abs=0.01)


def test_the_seed_determines_the_result():
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first, same, other = (tune(seed=seed).encoder.encode(TEXTS) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 0


@pytest.mark.parametrize("init", ["pretrained", "random"])
def test_torchs_global_generator_is_restored(init):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = tune(init=init, seed=1, epochs=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    # The result does not depend on the state of the global generator.
    torch.manual_seed(6)
    second = tune(init=init, seed=1, epochs=1)
    np.testing.assert_array_equal(first.head.weights, second.head.weights)
    np.testing.assert_array_equal(first.encoder.encode(TEXTS), second.encoder.encode(TEXTS))


def test_the_original_encoder_is_not_modified():
    encoder = make_cse()
    before, fingerprint = encoder.encode(TEXTS), encoder.fingerprint()
    tuned = tune(encoder, learning_rate=0.1)
    np.testing.assert_array_equal(encoder.encode(TEXTS), before)
    assert encoder.fingerprint() == fingerprint
    assert np.abs(tuned.encoder.encode(TEXTS) - before).max() > 1e-2


def test_texts_without_tokens_among_the_others():
    texts = ["" if i % 3 == 0 else text for i, text in enumerate(TEXTS)]
    tuned = tune(texts=texts, epochs=2)
    assert np.isfinite([row["validation_loss"] for row in tuned.history]).all()
    empty = tune(texts=[""] * 60, epochs=2, learning_rate=0.1)
    assert not empty.encoder.encode([""]).any()
    assert empty.history[1]["train_loss"] == pytest.approx(np.log(3), rel=0.1)
