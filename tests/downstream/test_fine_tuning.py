"""Encoder and head trained together: what is kept, what stops it, what it leaves alone."""

import time

import numpy as np
import pytest
import torch
from torch import nn

from tests.support.models import WORDS, make_cse, make_sentence_transformer

pytest.importorskip("sklearn")

from sentenc import (
    CSE,
    SentenceClassifier,
    SentencePairClassifier,
    SentencePairRegressor,
    SentenceTransformerEncoder,
    downstream,
)
from sentenc.downstream import fine_tuning
from sentenc.downstream.features import pair_features
from sentenc.downstream.fine_tuning import tune_end_to_end
from sentenc.downstream.fine_tuning_config import FineTuningConfig
from sentenc.downstream.head import LinearHead
from sentenc.downstream.head_solver import fit_head
from sentenc.solvers.losses import log_losses
from sentenc.training.losses.l2_sp import L2SP
from tests.support.labeled import labeled, scored_pairs

TEXTS, LABELS = map(list, zip(*labeled(), strict=True))
NAMES = sorted(set(LABELS))
TARGETS = np.eye(3, dtype=np.float32)[[NAMES.index(label) for label in LABELS]]
TRAIN, HELD = np.arange(0, 60, 2), np.arange(1, 60, 2)


def run(encoder=None, texts=TEXTS, targets=TARGETS, kind="softmax", seed=0, head_start=None, weights=None,
        train=TRAIN, held=HELD, init="pretrained", **config):  # fmt: skip
    config = {"epochs": 3, "batch_size": 8} | config
    return tune_end_to_end(
        encoder or make_cse(), [texts], targets, kind, config=FineTuningConfig(**config), init=init, train_rows=train,
        validation_rows=held, rng=np.random.default_rng(seed), head_start=head_start, sample_weight=weights,
    )  # fmt: skip


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
    assert all(np.isfinite(row["train_loss"]) for row in tuned.history[1:])


def test_what_stops_it(monkeypatch):
    assert run(epochs=2).stopped_by == "epochs"
    # A rate of next to nothing gains next to nothing after the first epoch; one of far too much loses.
    tuned = run(epochs=50, patience=2, learning_rate=1.0, head_learning_rate=1.0)
    assert tuned.stopped_by == "patience"
    assert len(tuned.history) - 1 == tuned.best_epoch + 2
    clock = iter(range(10_000))
    monkeypatch.setattr(fine_tuning.time, "monotonic", lambda: next(clock))
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


def test_regularization_pulls_towards_the_start():
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
    pull = L2SP(parameters, {"a": 0.5, "b": 2.0}, to_zero=("b",))
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

    monkeypatch.setattr(fine_tuning._Run, "_update", interrupted)
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


def test_pairs_and_scores_end_to_end(tmp_path):
    rows = scored_pairs()
    pairs = [row[:2] for row in rows]
    settings = {"tune": "all", "epochs": 5, "random_state": 0, "learning_rate": 1e-2}
    scorer = SentencePairRegressor(make_cse(), **settings).fit(pairs, [row[2] for row in rows])
    assert np.corrcoef(scorer.predict(pairs), [row[2] for row in rows])[0, 1] > 0.7
    classifier = SentencePairClassifier(make_cse(), **settings).fit(pairs, [row[2] > 1 for row in rows])
    assert classifier.score(pairs, [row[2] > 1 for row in rows]) > 0.8
    for found in (scorer, classifier):
        found.save(tmp_path / type(found).__name__)
        loaded = downstream.load(tmp_path / type(found).__name__)
        np.testing.assert_array_equal(loaded.predict_proba(pairs), found.predict_proba(pairs))


def test_a_bert_end_to_end(tmp_path):
    pytest.importorskip("sentence_transformers")
    encoder = SentenceTransformerEncoder(make_sentence_transformer(tmp_path))
    classifier = SentenceClassifier(encoder, tune="all", epochs=3, learning_rate=1e-3, random_state=0)
    classifier.fit(TEXTS, LABELS)
    classifier.save(tmp_path / "folder")
    loaded = downstream.load(tmp_path / "folder")
    np.testing.assert_allclose(loaded.predict_proba(TEXTS), classifier.predict_proba(TEXTS), atol=1e-5)


def test_it_takes_no_longer_than_it_may():
    started = time.monotonic()
    run(epochs=100_000, patience=100_000, max_minutes=0.02)
    assert time.monotonic() - started < 60


def log_loss(head, features, targets):
    return float(log_losses(head.scores(features), targets, head.kind).mean())


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_epoch_0_is_the_head_on_the_frozen_encoder(kind):
    # Also for words that only held-out texts have, which are most of what they have.
    texts = [text if i % 2 else "the dog" for i, text in enumerate(TEXTS)]
    rng, encoder = np.random.default_rng(0), make_cse()
    start = LinearHead(kind, rng.normal(size=(3, 24)).astype(np.float32), np.ones(3, np.float32))
    tuned = run(encoder, texts, kind=kind, head_start=start, epochs=2)
    held = encoder.encode([texts[row] for row in HELD])
    expected = log_loss(start, held, TARGETS[HELD])
    assert tuned.history[0]["validation_loss"] == pytest.approx(expected, rel=1e-5)
    hits = start.scores(held).argmax(1) == TARGETS[HELD].argmax(1)
    if kind == "softmax":
        assert tuned.history[0]["validation_score"] == pytest.approx(hits.mean())
    # No more is said of pairs than of texts: features are |u - v| and u * v.
    others = texts[::-1]
    pairs = LinearHead(kind, rng.normal(size=(3, 48)).astype(np.float32), np.ones(3, np.float32))
    tuned = tune_end_to_end(
        encoder, [texts, others], TARGETS, kind, config=FineTuningConfig(epochs=1), train_rows=TRAIN, validation_rows=HELD,
        rng=rng, head_start=pairs,
    )  # fmt: skip
    held = pair_features(*(encoder.encode([column[row] for row in HELD]) for column in (texts, others)))
    assert tuned.history[0]["validation_loss"] == pytest.approx(
        log_loss(pairs, held, TARGETS[HELD]), rel=1e-5
    )


def test_what_is_kept_is_no_worse_than_the_head_alone():
    encoder = make_cse()
    held, kept = ([TEXTS[row] for row in rows] for rows in (HELD, TRAIN))
    start = fit_head(
        encoder.encode(kept), TARGETS[TRAIN], "softmax", C=4.0, rng=np.random.default_rng(0)
    ).head
    alone = log_loss(start, encoder.encode(held), TARGETS[HELD])
    # Of rates that are too high, the head alone is the best that is left.
    harmed = run(encoder, head_start=start, learning_rate=0.5, head_learning_rate=0.5, epochs=4)
    assert harmed.best_epoch == 0
    np.testing.assert_array_equal(harmed.head.weights, start.weights)
    np.testing.assert_array_equal(harmed.head.bias, start.bias)
    for name in ("filters.2", "token_weights"):
        np.testing.assert_allclose(harmed.encoder.weight(name), encoder.weight(name), rtol=1e-3, atol=1e-6)
    helped = run(encoder, head_start=start, learning_rate=3e-3, epochs=8)
    assert helped.best_epoch > 0
    for tuned in (harmed, helped):
        assert tuned.history[tuned.best_epoch]["validation_loss"] <= alone * (1 + 1e-5)
        found = log_loss(tuned.head, tuned.encoder.encode(held), TARGETS[HELD])
        assert found == pytest.approx(tuned.history[tuned.best_epoch]["validation_loss"], abs=0.01)


def test_it_learns_words_that_had_no_vector():
    weights = make_cse()
    dog, cat = weights.tokenizer.encode(["dog cat"])[0]
    weights._weights["embeddings"][[dog, cat]] = 0.0
    weights._weights["token_weights"][[dog, cat]] = 0.0
    encoder = CSE(weights.config, weights._weights, weights.tokenizer, tables="float32")
    texts = [
        f"{left} {animal} {right}"
        for animal in ("dog", "cat")
        for left in WORDS[20:26]
        for right in WORDS[26:29]
    ]
    targets = np.repeat(np.eye(2, dtype=np.float32), len(texts) // 2, axis=0)
    np.testing.assert_array_equal(*np.split(encoder.encode(texts), 2))
    rows = np.random.default_rng(0).permutation(len(texts))
    tuned = run(encoder, texts, targets, train=rows[10:], held=rows[:10], epochs=20, learning_rate=3e-2)
    right = tuned.head.scores(tuned.encoder.encode(texts)).argmax(1) == targets.argmax(1)
    assert right.all()


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_rows_of_no_weight_might_as_well_not_be_given(kind):
    weights = np.ones(60, np.float32)
    weights[[TRAIN[3], TRAIN[4], HELD[5]]] = 0.0
    weights[TRAIN[7]] = 3.0
    with_them = run(weights=weights, kind=kind)
    left_out = run(
        weights=weights, kind=kind, train=TRAIN[weights[TRAIN] > 0], held=HELD[weights[HELD] > 0],
    )  # fmt: skip
    np.testing.assert_array_equal(with_them.head.weights, left_out.head.weights)
    np.testing.assert_array_equal(with_them.encoder.encode(TEXTS), left_out.encoder.encode(TEXTS))
    for left, right in zip(with_them.history, left_out.history, strict=True):
        assert left | {"minutes": 0} == right | {"minutes": 0}
    # Weights are relative, and count.
    np.testing.assert_allclose(
        run(weights=5 * weights, kind=kind).head.weights, left_out.head.weights, atol=1e-5
    )
    unweighted = run(weights=np.minimum(weights, 1), kind=kind)
    assert np.abs(unweighted.head.weights - left_out.head.weights).max() > 1e-5


def test_no_weight_at_all():
    weights = np.ones(60, np.float32)
    weights[HELD] = 0.0
    # As if nothing were held out.
    tuned = run(weights=weights, epochs=2)
    assert tuned.best_epoch == 2
    assert "validation_loss" not in tuned.history[0]
    with pytest.raises(ValueError, match="0 examples of a weight above 0 to train on, expected at least one"):
        run(weights=1 - weights)


def test_a_held_out_loss_counts_examples_by_their_weight():
    encoder = make_cse()
    head = LinearHead(
        "softmax", np.random.default_rng(0).normal(size=(3, 24)).astype(np.float32), np.zeros(3, np.float32)
    )
    weights = np.linspace(0.5, 3, 60).astype(np.float32)
    tuned = run(encoder, weights=weights, head_start=head, epochs=1)
    losses = log_losses(head.scores(encoder.encode([TEXTS[row] for row in HELD])), TARGETS[HELD], "softmax")
    assert tuned.history[0]["validation_loss"] == pytest.approx(
        np.average(losses, weights=weights[HELD]), rel=1e-5
    )
    assert abs(np.average(losses, weights=weights[HELD]) - losses.mean()) > 1e-3


@pytest.mark.parametrize("init", ["pretrained", "random"])
def test_torchs_own_generator_is_left_as_it_was(init):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = run(init=init, seed=1, epochs=1)
    assert torch.equal(torch.random.get_rng_state(), before)
    # Nor does anything depend on it, or on whoever trains at the same time.
    torch.manual_seed(6)
    second = run(init=init, seed=1, epochs=1)
    np.testing.assert_array_equal(first.head.weights, second.head.weights)
    np.testing.assert_array_equal(first.encoder.encode(TEXTS), second.encoder.encode(TEXTS))


def test_random_weights_are_not_pulled_to_the_start():
    free, pulled = (run(init="random", regularization=strength) for strength in (0.0, 100.0))
    np.testing.assert_array_equal(free.head.weights, pulled.head.weights)
    np.testing.assert_array_equal(free.encoder.encode(TEXTS), pulled.encoder.encode(TEXTS))


def test_validation_is_without_dropout_and_training_with_it():
    # Were it drawn on, the same weights would have two losses.
    still = {"learning_rate": 0.0, "head_learning_rate": 0.0, "epochs": 2}
    head = LinearHead(
        "softmax", np.random.default_rng(0).normal(size=(3, 24)).astype(np.float32), np.zeros(3, np.float32)
    )
    tuned = run(head_start=head, dropout=0.5, **still)
    losses = [row["validation_loss"] for row in tuned.history]
    assert losses[0] == losses[1] == losses[2]
    assert tuned.best_epoch == 0
    without = run(head_start=head, dropout=0.0, **still)
    assert tuned.history[1]["train_loss"] != pytest.approx(without.history[1]["train_loss"], rel=1e-3)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_steps_are_those_of_adam_on_the_weighted_loss(kind, monkeypatch):
    # Of the head alone, on vectors that do not change, all of them in every batch.
    monkeypatch.setattr(fine_tuning, "_CLIP", None)
    encoder, weights = make_cse(), np.linspace(0.5, 1.5, 60).astype(np.float32)
    start = np.random.default_rng(0).normal(0, 0.3, (3, 25)).astype(np.float32)
    start = LinearHead(kind, start[:, 1:], start[:, 0])
    tuned = run(
        encoder, kind=kind, weights=weights, head_start=start, epochs=5, batch_size=60, train=np.arange(60),
        held=np.zeros(0, np.int64), learning_rate=0.0, head_learning_rate=0.05, dropout=0.0,
    )  # fmt: skip
    features, targets = torch.from_numpy(encoder.encode(TEXTS)), torch.from_numpy(TARGETS)
    w, b = (torch.from_numpy(value.copy()).requires_grad_() for value in (start.weights, start.bias))
    adam = torch.optim.AdamW([w, b], weight_decay=0.01)
    for step in range(5):
        scores = features @ w.T + b
        if kind == "softmax":
            losses = -(scores.log_softmax(1) * targets).sum(1)
        else:
            losses = -(targets * scores.sigmoid().log() + (1 - targets) * (-scores).sigmoid().log()).sum(1)
        loss = (losses * torch.from_numpy(weights)).sum() / float(weights.sum())
        assert tuned.history[step + 1]["train_loss"] == pytest.approx(float(loss.detach()), rel=1e-4)
        adam.zero_grad()
        loss.backward()
        # The warm-up is over with the first of five.
        adam.param_groups[0]["lr"] = 0.05 * (1 - step / 5)
        adam.step()
    np.testing.assert_allclose(tuned.head.weights, w.detach().numpy(), atol=1e-3)
    np.testing.assert_allclose(tuned.head.bias, b.detach().numpy(), atol=1e-3)


def test_a_single_step_is_not_all_warm_up():
    encoder = make_cse()
    nothing_held = np.zeros(0, np.int64)
    tuned = run(
        encoder, epochs=1, batch_size=64, train=np.arange(60), held=nothing_held, head_learning_rate=0.01
    )
    # The first step of Adam is as long as the rate.
    assert np.abs(tuned.head.weights).max() == pytest.approx(0.01, rel=1e-3)


def test_a_limit_that_is_over_adds_no_epoch():
    class Clock:
        now = 0.0

    def finished_batch(run, rows, step):
        # Four batches an epoch: the time is over with the second epoch.
        Clock.now = 100.0 if step == 7 else 0.0
        return 1.0

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fine_tuning.time, "monotonic", lambda: Clock.now)
        patch.setattr(fine_tuning._Run, "_update", finished_batch)
        tuned = run(epochs=9, patience=9, max_minutes=1)
    assert [row["epoch"] for row in tuned.history] == [0, 1, 2]
    assert tuned.stopped_by == "time"


def test_a_gradient_or_held_out_loss_that_is_not_finite_is_told(monkeypatch):
    rows = np.arange(60)
    monkeypatch.setattr(fine_tuning, "clip_gradients", lambda *_: float("nan"))
    with pytest.raises(FloatingPointError, match="the length of a gradient is nan, expected a finite number"):
        run(train=rows, held=np.zeros(0, np.int64))
    monkeypatch.undo()
    bad = LinearHead("softmax", np.full((3, 24), 3e38, np.float32), np.zeros(3, np.float32))
    with pytest.raises(
        FloatingPointError, match=r"the loss of a batch is (nan|inf), expected a finite number"
    ):
        run(train=rows, held=np.zeros(0, np.int64), head_start=bad)


def test_texts_without_tokens_among_the_others():
    texts = ["" if i % 3 == 0 else text for i, text in enumerate(TEXTS)]
    tuned = run(texts=texts, epochs=2)
    assert np.isfinite([row["validation_loss"] for row in tuned.history]).all()
    empty = run(texts=[""] * 60, epochs=2, learning_rate=0.1)
    assert not empty.encoder.encode([""]).any()
    assert empty.history[1]["train_loss"] == pytest.approx(np.log(3), rel=0.1)
