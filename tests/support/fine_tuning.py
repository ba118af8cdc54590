"""Fine-tuning of a tiny encoder on small labeled data, with the examples that its tests share."""

import numpy as np

from sentenc import CSE
from sentenc.downstream.fine_tuning import fine_tune
from sentenc.downstream.fine_tuning_config import FineTuningConfig
from sentenc.downstream.head import LinearHead
from sentenc.solvers.losses import log_losses
from tests.support.labeled import labeled
from tests.support.models import make_cse

TEXTS, LABELS = map(list, zip(*labeled(), strict=True))
NAMES = sorted(set(LABELS))
TARGETS = np.eye(3, dtype=np.float32)[[NAMES.index(label) for label in LABELS]]
TRAIN, VALIDATION = np.arange(0, 60, 2), np.arange(1, 60, 2)
NO_ROWS = np.zeros(0, np.int64)


def tune(
    encoder=None,
    texts=TEXTS,
    targets=TARGETS,
    kind="softmax",
    *,
    seed=0,
    initial_head=None,
    weights=None,
    train=TRAIN,
    validation=VALIDATION,
    init="pretrained",
    **config,
):
    """Fine-tunes on single texts; 3 epochs of batches of 8 examples by default."""
    return fine_tune(
        encoder or make_cse(),
        [texts],
        targets,
        kind,
        config=FineTuningConfig(**{"epochs": 3, "batch_size": 8} | config),
        init=init,
        train_rows=train,
        validation_rows=validation,
        rng=np.random.default_rng(seed),
        initial_head=initial_head,
        sample_weight=weights,
    )


def random_head(kind="softmax", dim=24, spread=1.0):
    """A head of 3 outputs with random weights and zero intercepts."""
    weights = np.random.default_rng(0).normal(0, spread, (3, dim)).astype(np.float32)
    return LinearHead(kind, weights, np.zeros(3, np.float32))


def with_weights(encoder, change):
    """A copy of a CSE whose weights, in float32 by name, were changed in place by a function."""
    weights = {name: encoder.weight(name).copy() for name in encoder.config.shapes()}
    change(weights)
    return CSE(encoder.config, weights, encoder.tokenizer, tables="float32")


def mean_log_loss(head, features, targets):
    """The mean cross-entropy of a head on features (n, d)."""
    return float(log_losses(head.scores(features), targets, head.kind).mean())
