"""The losses of fine-tuning: weights, targets, regularization, and values that are not finite."""

import numpy as np
import pytest
import torch
from torch import nn

pytest.importorskip("sklearn")

from sentenc.downstream import fine_tuning
from sentenc.downstream.features import pair_features
from sentenc.downstream.fine_tuning import fine_tune
from sentenc.downstream.fine_tuning_config import FineTuningConfig
from sentenc.downstream.head import LinearHead
from sentenc.solvers.losses import log_losses
from sentenc.training.losses.l2_sp import L2SP
from tests.support.fine_tuning import (
    LABELS,
    NAMES,
    NO_ROWS,
    TARGETS,
    TEXTS,
    TRAIN,
    VALIDATION,
    mean_log_loss,
    random_head,
    tune,
)
from tests.support.models import make_cse


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_epoch_0_is_the_head_on_the_frozen_encoder(kind):
    # Most words of the validation texts occur in no training text.
    texts = [text if i % 2 else "the dog" for i, text in enumerate(TEXTS)]
    rng, encoder = np.random.default_rng(0), make_cse()
    start = LinearHead(kind, rng.normal(size=(3, 24)).astype(np.float32), np.ones(3, np.float32))
    tuned = tune(encoder, texts, kind=kind, initial_head=start, epochs=2)
    held = encoder.encode([texts[row] for row in VALIDATION])
    expected = mean_log_loss(start, held, TARGETS[VALIDATION])
    assert tuned.history[0]["validation_loss"] == pytest.approx(expected, rel=1e-5)
    hits = start.scores(held).argmax(1) == TARGETS[VALIDATION].argmax(1)
    if kind == "softmax":
        assert tuned.history[0]["validation_score"] == pytest.approx(hits.mean())
    # The same holds for pairs, whose features are |u - v| and u * v.
    others = texts[::-1]
    pairs = LinearHead(kind, rng.normal(size=(3, 48)).astype(np.float32), np.ones(3, np.float32))
    tuned = fine_tune(
        encoder,
        [texts, others],
        TARGETS,
        kind,
        config=FineTuningConfig(epochs=1),
        train_rows=TRAIN,
        validation_rows=VALIDATION,
        rng=rng,
        initial_head=pairs,
    )
    held = pair_features(*(encoder.encode([column[row] for row in VALIDATION]) for column in (texts, others)))
    assert tuned.history[0]["validation_loss"] == pytest.approx(
        mean_log_loss(pairs, held, TARGETS[VALIDATION]), rel=1e-5
    )


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_steps_are_those_of_adam_on_the_weighted_loss(kind, monkeypatch):
    # Only the head is trained, on constant vectors, with all examples in every batch.
    monkeypatch.setattr(fine_tuning, "clip_gradients", lambda *_: 0.0)
    encoder, weights = make_cse(), np.linspace(0.5, 1.5, 60).astype(np.float32)
    start = np.random.default_rng(0).normal(0, 0.3, (3, 25)).astype(np.float32)
    start = LinearHead(kind, start[:, 1:], start[:, 0])
    tuned = tune(
        encoder, kind=kind, weights=weights, initial_head=start, epochs=5, batch_size=60, train=np.arange(60),
        validation=NO_ROWS, learning_rate=0.0, head_learning_rate=0.05, dropout=0.0,
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
        # The warm-up is over at the first of five steps.
        adam.param_groups[0]["lr"] = 0.05 * (1 - step / 5)
        adam.step()
    np.testing.assert_allclose(tuned.head.weights, w.detach().numpy(), atol=1e-3)
    np.testing.assert_allclose(tuned.head.bias, b.detach().numpy(), atol=1e-3)


def test_a_single_step_is_not_all_warm_up():
    encoder = make_cse()
    tuned = tune(
        encoder, epochs=1, batch_size=64, train=np.arange(60), validation=NO_ROWS, head_learning_rate=0.01
    )
    # The first step of Adam has the size of the learning rate.
    assert np.abs(tuned.head.weights).max() == pytest.approx(0.01, rel=1e-3)


def test_validation_is_without_dropout_and_training_with_it():
    # With dropout in validation, the same weights would have different losses.
    still = {"learning_rate": 0.0, "head_learning_rate": 0.0, "epochs": 2}
    head = random_head()
    tuned = tune(initial_head=head, dropout=0.5, **still)
    losses = [row["validation_loss"] for row in tuned.history]
    assert losses[0] == losses[1] == losses[2]
    assert tuned.best_epoch == 0
    without = tune(initial_head=head, dropout=0.0, **still)
    assert tuned.history[1]["train_loss"] != pytest.approx(without.history[1]["train_loss"], rel=1e-3)


def test_several_labels_and_soft_targets():
    both = TARGETS.copy()
    both[[label == "market" for label in LABELS], NAMES.index("pets")] = 1
    tuned = tune(targets=both, kind="sigmoid", epochs=6, learning_rate=1e-2)
    assert tuned.history[-1]["validation_loss"] < tuned.history[0]["validation_loss"]
    assert tuned.head.kind == "sigmoid"
    shares = (0.7 * TARGETS + 0.1).astype(np.float32)
    tuned = tune(targets=shares, epochs=6, learning_rate=1e-2)
    entropy = -(0.8 * np.log(0.8) + 2 * 0.1 * np.log(0.1))
    assert entropy < tuned.history[-1]["validation_loss"] < tuned.history[0]["validation_loss"]


def test_an_example_without_weight_does_not_count():
    weights = np.ones(60, np.float32)
    weights[TRAIN[::2]] = 0.0
    with_all = tune(weights=weights, batch_size=60, dropout=0.0, learning_rate=1e-2)
    targets = TARGETS.copy()
    targets[TRAIN[::2]] = targets[TRAIN[::2]][:, [1, 2, 0]]
    other_labels = tune(targets=targets, weights=weights, batch_size=60, dropout=0.0, learning_rate=1e-2)
    np.testing.assert_allclose(with_all.head.weights, other_labels.head.weights, atol=1e-6)


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_examples_without_weight_change_nothing(kind):
    weights = np.ones(60, np.float32)
    weights[[TRAIN[3], TRAIN[4], VALIDATION[5]]] = 0.0
    weights[TRAIN[7]] = 3.0
    with_all = tune(weights=weights, kind=kind)
    left_out = tune(
        weights=weights,
        kind=kind,
        train=TRAIN[weights[TRAIN] > 0],
        validation=VALIDATION[weights[VALIDATION] > 0],
    )
    np.testing.assert_array_equal(with_all.head.weights, left_out.head.weights)
    np.testing.assert_array_equal(with_all.encoder.encode(TEXTS), left_out.encoder.encode(TEXTS))
    for left, right in zip(with_all.history, left_out.history, strict=True):
        assert left | {"minutes": 0} == right | {"minutes": 0}
    # Only the ratios of weights matter.
    np.testing.assert_allclose(
        tune(weights=5 * weights, kind=kind).head.weights, left_out.head.weights, atol=1e-5
    )
    unweighted = tune(weights=np.minimum(weights, 1), kind=kind)
    assert np.abs(unweighted.head.weights - left_out.head.weights).max() > 1e-5


def test_weights_may_leave_no_validation_example_but_not_no_training_example():
    weights = np.ones(60, np.float32)
    weights[VALIDATION] = 0.0
    # Like training without a validation split.
    tuned = tune(weights=weights, epochs=2)
    assert tuned.best_epoch == 2
    assert "validation_loss" not in tuned.history[0]
    with pytest.raises(ValueError, match="0 training examples"):
        tune(weights=1 - weights)


def test_the_validation_loss_is_weighted():
    encoder = make_cse()
    head = random_head()
    weights = np.linspace(0.5, 3, 60).astype(np.float32)
    tuned = tune(encoder, weights=weights, initial_head=head, epochs=1)
    losses = log_losses(
        head.scores(encoder.encode([TEXTS[row] for row in VALIDATION])), TARGETS[VALIDATION], "softmax"
    )
    assert tuned.history[0]["validation_loss"] == pytest.approx(
        np.average(losses, weights=weights[VALIDATION]), rel=1e-5
    )
    assert abs(np.average(losses, weights=weights[VALIDATION]) - losses.mean()) > 1e-3


def test_regularization_keeps_the_encoder_near_the_pretrained_one():
    encoder = make_cse()
    start = encoder.weight("embeddings")
    moved = [
        np.linalg.norm(
            tune(
                encoder, regularization=strength, learning_rate=1e-2, epochs=8, patience=8, validation=NO_ROWS
            ).encoder.weight("embeddings")
            - start
        )
        for strength in (0.0, 0.1, 10.0)
    ]
    assert moved[0] > moved[1] > moved[2]


def test_random_weights_are_not_regularized():
    free, pulled = (tune(init="random", regularization=strength) for strength in (0.0, 100.0))
    np.testing.assert_array_equal(free.head.weights, pulled.head.weights)
    np.testing.assert_array_equal(free.encoder.encode(TEXTS), pulled.encoder.encode(TEXTS))


def test_the_added_gradient_is_that_of_the_penalty():
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


def test_a_loss_that_is_not_finite_is_an_error():
    bad = LinearHead("softmax", np.full((3, 24), 3e38, np.float32), np.zeros(3, np.float32))
    with pytest.raises(FloatingPointError, match=r"validation loss is .*learning_rate"):
        tune(initial_head=bad)
    with pytest.raises(FloatingPointError, match=r"batch is .*learning_rate"):
        tune(initial_head=bad, validation=NO_ROWS)


def test_a_gradient_that_is_not_finite_is_an_error(monkeypatch):
    rows = np.arange(60)
    monkeypatch.setattr(fine_tuning, "clip_gradients", lambda *_: float("nan"))
    with pytest.raises(FloatingPointError, match="gradient is nan"):
        tune(train=rows, validation=NO_ROWS)
    monkeypatch.undo()
    bad = LinearHead("softmax", np.full((3, 24), 3e38, np.float32), np.zeros(3, np.float32))
    with pytest.raises(FloatingPointError, match=r"batch is (nan|inf)"):
        tune(train=rows, validation=NO_ROWS, initial_head=bad)
