"""Training, validation and test rows."""

import numpy as np
import pytest

from sentenc.splits import strata, stratified_folds, train_test_split, validation_folds, validation_rows


def rng(seed=0):
    return np.random.default_rng(seed)


def test_strata():
    assert len(set(strata(np.eye(3)[[0, 1, 0, 2]]))) == 3
    groups = strata(np.eye(3)[[0, 1, 0, 2]])
    assert groups[0] == groups[2]
    assert strata(np.zeros((0, 3))).shape == (0,)


def test_validation_rows_leave_an_example_of_every_class():
    classes = np.array([0] * 50 + [1] * 45 + [2] * 2 + [3])
    for seed in range(20):
        held_out = validation_rows(classes, 0.3, rng(seed))
        assert len(held_out) == 29
        assert (np.diff(held_out) > 0).all()
        assert set(np.delete(classes, held_out)) == {0, 1, 2, 3}
    assert len(validation_rows(classes, 0.99, rng())) == 98 - 4
    assert len(validation_rows(np.arange(10), 0.5, rng())) == 0
    assert len(validation_rows(classes, 0, rng())) == 0
    assert len(validation_rows(classes[:0], 0.5, rng())) == 0


def test_validation_rows_depend_on_the_seed_alone():
    classes = rng().integers(0, 4, 100)
    for choose in (
        lambda r: validation_rows(classes, 0.2, r),
        lambda r: np.concatenate(validation_folds(classes, 5, r)),
    ):
        np.testing.assert_array_equal(choose(rng(1)), choose(rng(1)))
        assert not np.array_equal(choose(rng(1)), choose(rng(2)))


def test_folds_leave_an_example_of_every_class():
    classes = np.array([0] * 50 + [1] * 45 + [2] * 2 + [3])
    for seed in range(20):
        parts = validation_folds(classes, 5, rng(seed))
        assert len(parts) == 5
        # Every example is held out once, except the only example of a class.
        assert np.sort(np.concatenate(parts)).tolist() == list(range(97))
        for part in parts:
            assert set(np.delete(classes, part)) == {0, 1, 2, 3}
            assert abs((classes[part] == 0).sum() - 10) <= 1
            assert abs((classes[part] == 1).sum() - 9) <= 1
    assert validation_folds(np.arange(5), 5, rng()) == []
    # Two examples make two folds of one example.
    assert sorted(part.tolist() for part in validation_folds(np.zeros(2, np.int64), 5, rng())) == [[0], [1]]


def test_distinct_sets_of_labels_can_be_split():
    # Almost all sets of labels are distinct, and every label still keeps an example.
    targets = (rng().random((200, 40)) < 0.2).astype(np.float32)
    targets[:, 7] = 0
    targets[3, 7] = 1
    for seed in range(5):
        held_out = validation_rows(strata(targets), 0.2, rng(seed))
        assert len(held_out) == 40
        assert np.delete(targets, held_out, axis=0).any(axis=0).all()
        parts = validation_folds(strata(targets), 5, rng(seed))
        assert sum(map(len, parts)) >= 150
        for part in parts:
            assert np.delete(targets, part, axis=0).any(axis=0).all()
    scores = rng().random((100, 1)) * 3
    shares = np.maximum(0, 1 - np.abs(scores - np.arange(4)))
    held_out = validation_rows(strata(shares), 0.2, rng())
    assert len(held_out) == 20
    assert np.delete(shares, held_out, axis=0).any(axis=0).all()


def test_test_rows_have_the_share_of_every_label():
    labels = ["a"] * 60 + ["b"] * 30 + ["c"] * 10
    for seed in range(5):
        train, test = train_test_split(labels, 0.2, seed)
        assert sorted(train + test) == list(range(100))
        counts = [sum(labels[i] == label for i in test) for label in "abc"]
        # The rows are evenly spaced, so that the counts differ from the share by at most one.
        assert abs(np.array(counts) - [12, 6, 2]).max() <= 1
        assert len(test) == 20
    assert train_test_split(labels, 0.2, 1) != train_test_split(labels, 0.2, 2)
    assert train_test_split(labels, 0.2, 1) == train_test_split(labels, 0.2, 1)


def test_training_rows_have_an_example_of_every_label():
    labels = [f"label {i // 2}" for i in range(200)] + ["alone"]
    train, test = train_test_split(labels, 0.5, 0)
    assert {labels[i] for i in train} == set(labels)
    assert 200 in train
    assert len(test) > 50
    assert train_test_split(["a"], 0.9, 0) == ([0], [])


def test_rows_of_distinct_sets_of_labels_are_tested():
    # All sets are distinct, so that no training row has the set of a test row.
    labels = [[f"a{i % 20}", f"b{i // 20}"] for i in range(200)] + [["alone", "a0"], []]
    train, test = train_test_split(labels, 0.2, 0)
    assert sorted(train + test) == list(range(202))
    assert 38 <= len(test) <= 41
    assert 200 in train
    assert {label for i in train for label in labels[i]} == {label for row in labels for label in row}


def test_the_order_of_several_labels_does_not_matter():
    labels = [["a", "b"] if i % 2 else ["c"] for i in range(50)]
    reversed_labels = [row[::-1] if i % 3 else row for i, row in enumerate(labels)]
    assert train_test_split(labels, 0.2, 3) == train_test_split(reversed_labels, 0.2, 3)


def test_test_rows_are_spread_over_the_scores():
    scores = np.linspace(0, 5, 100).tolist()
    _, test = train_test_split(scores, 0.1, 0)
    assert np.diff([scores[i] for i in test]).max() < 0.6
    assert len(test) == 10


def test_stratified_folds_are_those_of_scikit_learn():
    selection = pytest.importorskip("sklearn.model_selection")
    labels = rng().integers(0, 3, 50)
    expected = selection.StratifiedKFold(4, shuffle=True, random_state=7).split(labels, labels)
    for split, other in zip(stratified_folds(labels, 4, 7), expected, strict=True):
        for rows, other_rows in zip(split, other, strict=True):
            np.testing.assert_array_equal(rows, other_rows)
