"""SentEval's classification protocols: nested k-fold, k-fold with a test set, and a fixed split.

Source: facebookresearch/SentEval at 5d6dc11. The procedures are reimplemented from a description of that
code; none of it is copied.
"""

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.errors import DataError
from sentenc.evaluation.probes.base import Labeled, Labels, Probe, Rows, Split
from sentenc.evaluation.probes.senteval import SentEvalProbe
from sentenc.evaluation.protocols.base import EncodedPart, EvaluationProtocol, Outcome, ProtocolConfig
from sentenc.splits import stratified_folds


@dataclass(frozen=True)
class ClassificationProtocol(EvaluationProtocol):
    """Base of the protocols that train a probe to predict class labels."""

    metric = "accuracy"

    def settings(self, config: ProtocolConfig) -> dict[str, Any]:
        """Returns the seed and the probe."""
        probe = {"name": config.probe.name, **config.probe.settings()}
        return {"aggregation": None, "folds": None, "seed": config.seed, "probe": probe}

    def score(
        self, parts: Mapping[str, EncodedPart], config: ProtocolConfig, rng: np.random.Generator
    ) -> Outcome:
        """Brings every part into SentEval's order and classifies it; see :meth:`classify`."""
        n_classes = max(int(part.examples.targets.max()) for part in parts.values()) + 1
        labeled = {}
        for name, part in parts.items():
            examples = part.examples
            order = senteval_order(examples.texts, examples.partners, examples.targets)
            labeled[name] = Labeled(part.features()[order], examples.targets[order], n_classes)
        return self.classify(labeled, config, rng)

    @abstractmethod
    def classify(
        self, parts: Mapping[str, Labeled], config: ProtocolConfig, rng: np.random.Generator
    ) -> Outcome:
        """Returns ``accuracy`` and ``dev_accuracy`` of the probe, in points.

        Args:
            parts: Features and labels of each part, in SentEval's order.
            config: Supplies the probe, the folds and their seed.
            rng: Generator of the probe.
        """


@dataclass(frozen=True)
class NestedKFold(ClassificationProtocol):
    """MR, CR, SUBJ, MPQA: cross-validation on the part "all", with an inner one to tune the probe."""

    name = "nested-k-fold"
    part_names = ("all",)

    def settings(self, config: ProtocolConfig) -> dict[str, Any]:
        """Returns the seed, the probe and the number of folds."""
        return {**super().settings(config), "folds": config.folds}

    def classify(
        self, parts: Mapping[str, Labeled], config: ProtocolConfig, rng: np.random.Generator
    ) -> Outcome:
        """See :func:`nested_k_fold`."""
        return nested_k_fold(parts["all"], config.probe, config.folds, config.seed, rng)


@dataclass(frozen=True)
class KFold(ClassificationProtocol):
    """TREC, MRPC: cross-validation on "train" tunes the probe, which is then scored on "test"."""

    name = "k-fold"
    part_names = ("train", "test")

    def settings(self, config: ProtocolConfig) -> dict[str, Any]:
        """Returns the seed, the probe and the number of folds."""
        return {**super().settings(config), "folds": config.folds}

    def classify(
        self, parts: Mapping[str, Labeled], config: ProtocolConfig, rng: np.random.Generator
    ) -> Outcome:
        """See :func:`k_fold`."""
        return k_fold(parts["train"], parts["test"], config.probe, config.folds, config.seed, rng)


@dataclass(frozen=True)
class FixedSplit(ClassificationProtocol):
    """SST, SICK-E: the part "dev" tunes the probe, which is then scored on "test".

    Attributes:
        is_linear: Whether the probe ``senteval`` has no hidden layer, whatever its setting. SentEval does so in
            WordContent, which has many classes.
    """

    name = "split"
    part_names = ("train", "dev", "test")
    is_linear: bool = False

    def settings(self, config: ProtocolConfig) -> dict[str, Any]:
        """Returns the seed and the probe."""
        return super().settings(replace(config, probe=self._probe(config)))

    def classify(
        self, parts: Mapping[str, Labeled], config: ProtocolConfig, rng: np.random.Generator
    ) -> Outcome:
        """See :func:`fixed_split`."""
        return fixed_split(parts["train"], parts["dev"], parts["test"], self._probe(config), rng)

    def _probe(self, config: ProtocolConfig) -> Probe:
        if self.is_linear and isinstance(config.probe, SentEvalProbe):
            return replace(config.probe, hidden=0)
        return config.probe


def nested_k_fold(data: Labeled, probe: Probe, folds: int, seed: int, rng: np.random.Generator) -> Outcome:
    """Predicts each of k test folds with a probe that was tuned by k-fold cross-validation on the others.

    Args:
        data: All examples, in SentEval's order.
        probe: The classifier to tune and train.
        folds: The number k of folds in both loops.
        seed: Seed of the folds.
        rng: Generator of the probe.

    Returns:
        ``accuracy``, the mean over the test folds, and ``dev_accuracy``, the mean over the inner loops.
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
    # Among equally good strengths the first in the grid wins, as in SentEval.
    chosen = [grid[index] for index in means.argmax(axis=1)]
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
    """Tunes a probe by k-fold cross-validation on the training set, and scores the test set.

    Returns:
        ``accuracy``, ``dev_accuracy``, and ``f1`` of class 1 if there are two classes.
    """
    grid = probe.grid("k-fold")
    splits = _stratified_splits(train.labels, folds, seed)
    accuracies = probe.search(train, splits, grid, rng)
    return _score_test(train, test, probe, grid, np.round(100 * accuracies.mean(axis=0), 2), None, rng)


def fixed_split(
    train: Labeled, dev: Labeled, test: Labeled, probe: Probe, rng: np.random.Generator
) -> Outcome:
    """Tunes a probe on the development set and scores the test set.

    Returns:
        ``accuracy``, ``dev_accuracy``, and ``f1`` of class 1 if there are two classes.

    Raises:
        DataError: All training examples have one class.
    """
    grid = probe.grid("split")
    present = len(np.unique(train.labels))
    if present < 2:
        raise DataError(f"the training examples have {present} class, expected at least 2 classes")
    both = train.with_rows(dev)
    split = Split(np.arange(len(train)), np.arange(len(train), len(both)))
    accuracies = probe.search(both, [split], grid, rng)
    return _score_test(both, test, probe, grid, np.round(100 * accuracies[0], 2), split, rng)


def _score_test(
    tuning: Labeled,
    test: Labeled,
    probe: Probe,
    grid: Sequence[float],
    dev_accuracies: npt.NDArray[np.float64],
    tuning_split: Split | None,
    rng: np.random.Generator,
) -> Outcome:
    """Refits the probe at its best strength and scores the test set.

    Without ``tuning_split`` the probe is refitted on all of ``tuning``; otherwise on its training rows, and
    a probe that stops early does so on its test rows, the development set.
    """
    chosen = grid[int(dev_accuracies.argmax())]
    data = tuning.with_rows(test)
    test_rows = np.arange(len(tuning), len(data))
    if tuning_split is None:
        job = Split(np.arange(len(tuning)), test_rows)
    else:
        job = Split(tuning_split.train, test_rows, dev=tuning_split.test)
    predicted = probe.refit(data, [job], [chosen], rng)[0]
    metrics = {
        "accuracy": round(100 * accuracy(predicted, test.labels), 2),
        "dev_accuracy": float(dev_accuracies.max()),
    }
    if test.n_classes == 2:
        metrics["f1"] = round(100 * f1(predicted, test.labels), 2)
    return Outcome(metrics, {"regularization": chosen})


def _stratified_splits(labels: Labels, folds: int, seed: int) -> list[Split]:
    """Returns the folds of scikit-learn's shuffled ``StratifiedKFold``, which every published score uses.

    Raises:
        DataError: A class has fewer examples than there are folds.
        MissingExtraError: scikit-learn is not installed.
    """
    present, counts = np.unique(labels, return_counts=True)
    if len(present) < 2 or counts.min() < folds:
        raise DataError(
            f"the smallest of {len(present)} classes has {counts.min()} examples to train on, "
            f"expected at least 2 classes and, for {folds} folds, at least {folds} examples of each"
        )
    return [Split(train, test) for train, test in stratified_folds(labels, folds, seed)]


def senteval_order(texts: Sequence[str], partners: Sequence[str] | None, labels: Labels) -> Rows:
    """Returns the order (n,) in which SentEval stores its examples: by number of words, then by label.

    The order decides which examples share a fold.
    """
    first = [len(text.split()) for text in texts]
    second = [0] * len(first) if partners is None else [len(text.split()) for text in partners]
    # lexsort takes the most important key last, and is stable.
    return np.lexsort(np.array([labels, second, first], np.int64))


def accuracy(predicted: Labels, gold: Labels) -> float:
    """Returns the fraction of equal labels, 0 to 1."""
    return float((predicted == gold).mean())


def f1(predicted: Labels, gold: Labels) -> float:
    """Returns the F1 score of class 1, 0 to 1; 0 if the class is neither predicted nor true."""
    hits = int(((predicted == 1) & (gold == 1)).sum())
    total = int((predicted == 1).sum() + (gold == 1).sum())
    return 2 * hits / total if total else 0.0
