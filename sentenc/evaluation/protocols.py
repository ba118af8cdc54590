"""SentEval's procedures: which rows train, which choose the regularization, which are scored.

Source: facebookresearch/SentEval at 5d6dc11, as described, not as coded: nothing of it is copied.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.errors import DataError
from sentenc.evaluation.probes.base import Labeled, Labels, Probe, Rows, Split
from sentenc.splits import stratified_folds


@dataclass(frozen=True)
class Outcome:
    """What a protocol measured.

    Attributes:
        metrics: In points; the task's main metric among them.
        details: Numbers by fold and set, and the regularization that was chosen.
    """

    metrics: dict[str, float]
    details: dict[str, Any] = field(default_factory=dict)


def nested_k_fold(data: Labeled, probe: Probe, folds: int, seed: int, rng: np.random.Generator) -> Outcome:
    """MR, CR, SUBJ, MPQA: each of k test folds is predicted by a probe tuned by k-fold on the rest.

    Args:
        data: All examples, in SentEval's order.
        probe: What to train.
        folds: k, of both loops.
        seed: Of the folds.
        rng: Of the probe.

    Returns:
        ``accuracy``, the mean over folds, and ``dev_accuracy``, that of the inner loops.
    """
    outer = _stratified_splits(data.labels, folds, seed)
    inner = [
        Split(split.train[part.train], split.train[part.test])
        for split in outer
        for part in _stratified_splits(data.labels[split.train], folds, seed)
    ]
    grid = probe.grid("nested-k-fold")
    accuracies = probe.search(data, inner, grid, rng).reshape(folds, folds, len(grid))
    means = np.round(100 * accuracies.mean(axis=1), 2)
    # Of equally good ones the first in the grid wins, as in SentEval.
    chosen = [grid[at] for at in means.argmax(axis=1)]
    predictions = probe.refit(data, outer, chosen, rng)
    tests = [
        round(100 * accuracy(labels, data.labels[split.test]), 2)
        for labels, split in zip(predictions, outer, strict=True)
    ]
    metrics = {
        "accuracy": round(float(np.mean(tests)), 2),
        "dev_accuracy": round(float(means.max(axis=1).mean()), 2),
    }
    return Outcome(metrics, {"fold_accuracy": tests, "regularization": chosen})


def k_fold(
    train: Labeled, test: Labeled, probe: Probe, folds: int, seed: int, rng: np.random.Generator
) -> Outcome:
    """TREC, MRPC: tuned by k-fold on the training set, refitted on all of it, scored on the test set.

    Returns:
        ``accuracy``, ``dev_accuracy``, and ``f1`` of class 1 where there are two classes.
    """
    grid = probe.grid("k-fold")
    splits = _stratified_splits(train.labels, folds, seed)
    accuracies = probe.search(train, splits, grid, rng)
    return _score_test(train, test, probe, grid, np.round(100 * accuracies.mean(axis=0), 2), None, rng)


def split(train: Labeled, dev: Labeled, test: Labeled, probe: Probe, rng: np.random.Generator) -> Outcome:
    """SST, SICK-E: tuned on the development set, scored on the test set.

    Returns:
        ``accuracy``, ``dev_accuracy``, and ``f1`` of class 1 where there are two classes.
    """
    grid = probe.grid("split")
    both = train.with_rows(dev)
    rows = Split(np.arange(len(train)), np.arange(len(train), len(both)))
    accuracies = probe.search(both, [rows], grid, rng)
    return _score_test(both, test, probe, grid, np.round(100 * accuracies[0], 2), rows, rng)


def _score_test(
    tuning: Labeled,
    test: Labeled,
    probe: Probe,
    grid: Sequence[float],
    dev_accuracies: npt.NDArray[np.float64],
    rows: Split | None,
    rng: np.random.Generator,
) -> Outcome:
    chosen = grid[int(dev_accuracies.argmax())]
    data = tuning.with_rows(test)
    last = np.arange(len(tuning), len(data))
    job = Split(np.arange(len(tuning)), last) if rows is None else Split(rows.train, last, rows.test)
    predicted = probe.refit(data, [job], [chosen], rng)[0]
    metrics = {
        "accuracy": round(100 * accuracy(predicted, test.labels), 2),
        "dev_accuracy": float(dev_accuracies.max()),
    }
    if test.n_classes == 2:
        metrics["f1"] = round(100 * f1(predicted, test.labels), 2)
    return Outcome(metrics, {"regularization": chosen})


def _stratified_splits(labels: Labels, folds: int, seed: int) -> list[Split]:
    """Returns the folds of every published number, those of scikit-learn's shuffled ``StratifiedKFold``.

    Raises:
        DataError: A class has fewer examples than there are folds.
        MissingExtraError: scikit-learn is not installed.
    """
    present, counts = np.unique(labels, return_counts=True)
    if len(present) < 2 or counts.min() < folds:
        raise DataError(
            f"the smallest of {len(present)} classes has {counts.min()} examples to train on, "
            f"expected 2 classes or more, with {folds} examples or more each for {folds} folds"
        )
    return [Split(train, test) for train, test in stratified_folds(labels, folds, seed)]


def senteval_order(texts: Sequence[str], partners: Sequence[str] | None, labels: Labels) -> Rows:
    """The order in which SentEval holds its examples, which decides their folds: by words, then label."""
    first = [len(text.split()) for text in texts]
    second = [0] * len(first) if partners is None else [len(text.split()) for text in partners]
    # lexsort takes the most important key last, and is stable.
    return np.lexsort(np.array([labels, second, first], np.int64))


def pair_features(left: npt.NDArray[np.float32], right: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """``[|u - v| ; u * v]``: shape (n, 2 * dim) of two of shape (n, dim)."""
    return np.concatenate([np.abs(left - right), left * right], axis=1)


def accuracy(predicted: Labels, gold: Labels) -> float:
    """Share of equal labels."""
    return float((predicted == gold).mean())


def f1(predicted: Labels, gold: Labels) -> float:
    """F1 of class 1; 0 where it was neither predicted nor true."""
    hits = int(((predicted == 1) & (gold == 1)).sum())
    total = int((predicted == 1).sum() + (gold == 1).sum())
    return 2 * hits / total if total else 0.0
