import numpy as np
import pytest

from sentenc.evaluation.probes.base import Labeled, Split
from sentenc.evaluation.probes.senteval import SentEvalProbe
from sentenc.evaluation.protocols.classification import nested_k_fold
from tests.evaluation import published_procedure

# A short schedule with the rules of the full one, because the transcription is slow.
SCHEDULE = {"batch_size": 16, "tenacity": 2, "epoch_size": 4, "max_epoch": 24}


@pytest.mark.parametrize("hidden", [0, 6])
def test_agrees_with_the_published_procedure_within_seed_noise(random_problem, hidden):
    features, labels = random_problem(450, 4, 2, seed=3)
    features *= 2
    data = Labeled(features, labels, 2)
    probe = SentEvalProbe(hidden=hidden, **SCHEDULE)
    seeds = range(6)
    ours = [
        nested_k_fold(data, probe, 3, 1111, np.random.default_rng(seed)).metrics["accuracy"] for seed in seeds
    ]
    theirs = [
        published_procedure.nested(
            features.astype(np.float64), labels, 2, 3, hidden, np.random.default_rng(seed + 100), **SCHEDULE
        )
        for seed in seeds
    ]
    noise = np.sqrt((np.var(ours, ddof=1) + np.var(theirs, ddof=1)) / len(seeds))
    # Three standard errors of the difference of the two means.
    assert abs(np.mean(ours) - np.mean(theirs)) < 3 * noise
    # Both are far from chance and from the best accuracy that these labels allow, so that another schedule
    # would change both accuracies.
    assert 55 < np.mean(ours) < 95


def test_tenacity_is_cumulative(monkeypatch):
    # Development accuracies by round. With tenacity 1 the second failure ends the training, although a
    # better round came between the two failures.
    script = [0.5, 0.4, 0.6, 0.6, 0.9]
    rounds = []

    def scripted(network, data, job, split):
        rounds.append(len(rounds))
        return np.array([script[len(rounds) - 1]])

    monkeypatch.setattr("sentenc.evaluation.probes.senteval._accuracies", scripted)
    data = Labeled(np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1]), 2)
    rows = np.arange(4)
    probe = SentEvalProbe(tenacity=1, epoch_size=1)
    accuracies = probe.search(data, [Split(rows, rows)], [0.0], np.random.default_rng(0))
    assert rounds == [0, 1, 2, 3]
    assert accuracies.tolist() == [[0.6]]


def test_no_round_starts_after_max_epoch(monkeypatch):
    rounds = []

    def rising(network, data, job, split):
        rounds.append(None)
        return np.array([float(len(rounds))])

    monkeypatch.setattr("sentenc.evaluation.probes.senteval._accuracies", rising)
    data = Labeled(np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1]), 2)
    rows = np.arange(4)
    SentEvalProbe(epoch_size=4, max_epoch=8).search(
        data, [Split(rows, rows)], [0.0], np.random.default_rng(0)
    )
    # Rounds start at epochs 0, 4 and 8.
    assert len(rounds) == 3


def test_the_best_weights_are_kept_not_the_last(monkeypatch):
    snapshots = []
    script = [0.5, 0.9, 0.1, 0.1]

    def scripted(network, data, job, split):
        snapshots.append(network.parameters[0].copy())
        return np.array([script[len(snapshots) - 1]])

    def first_weights(network, features, split):
        snapshots.append(network.parameters[0].copy())
        return np.zeros((1, len(features)), np.int64)

    monkeypatch.setattr("sentenc.evaluation.probes.senteval._accuracies", scripted)
    monkeypatch.setattr("sentenc.evaluation.probes.senteval._predict", first_weights)
    data = Labeled(np.eye(4, dtype=np.float32), np.array([0, 1, 0, 1]), 2)
    rows = np.arange(4)
    probe = SentEvalProbe(tenacity=1, epoch_size=1)
    probe.refit(data, [Split(rows, rows, rows)], [0.0], np.random.default_rng(0))
    np.testing.assert_array_equal(snapshots[-1], snapshots[1])
    assert not np.array_equal(snapshots[-1], snapshots[3])


def test_same_generator_same_result_whatever_the_threads(random_problem):
    features, labels = random_problem(200, 5, 3)
    data = Labeled(features, labels, 3)
    rows = np.arange(200)
    # More splits than one batch takes, so that there is work for several threads.
    splits = [Split(np.delete(rows, rows[at::12]), rows[at::12]) for at in range(12)]
    accuracies = [
        SentEvalProbe(n_threads=n, **SCHEDULE).search(data, splits, [1e-4, 1e-2], np.random.default_rng(5))
        for n in (1, 3)
    ]
    np.testing.assert_array_equal(*accuracies)
    other = SentEvalProbe(**SCHEDULE).search(data, splits, [1e-4, 1e-2], np.random.default_rng(6))
    assert not np.array_equal(accuracies[0], other)


def test_parameters_are_checked():
    with pytest.raises(ValueError, match=r"hidden is -1, expected .* 0"):
        SentEvalProbe(hidden=-1)
    with pytest.raises(TypeError, match=r"batch_size is 1\.5"):
        SentEvalProbe(batch_size=1.5)


def test_defaults_are_the_literatures():
    assert SentEvalProbe().settings() == {
        "nhid": 0,
        "optim": "adam",
        "lr": 1e-3,
        "batch_size": 64,
        "tenacity": 5,
        "epoch_size": 4,
        "max_epoch": 200,
        "weight_decay": [1e-5, 1e-4, 1e-3, 1e-2],
    }
