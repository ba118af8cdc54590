import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import StratifiedKFold

from sentenc.errors import DataError
from sentenc.evaluation.probes.base import Labeled, LogisticProbe
from sentenc.evaluation.protocols.base import pair_features
from sentenc.evaluation.protocols.classification import f1, fixed_split, k_fold, nested_k_fold, senteval_order


def fit(features, labels, strength):
    return LogisticRegression(C=strength, tol=1e-8, max_iter=10_000).fit(features.astype(np.float64), labels)


def test_nested_k_fold_is_scikit_learn_fold_by_fold(random_problem):
    features, labels = random_problem(150, 6, 2)
    ours = nested_k_fold(Labeled(features, labels, 2), LogisticProbe(), 4, 1111, np.random.default_rng(0))
    grid = [2.0**power for power in range(-2, 4)]
    folds = StratifiedKFold(4, shuffle=True, random_state=1111)
    tests, devs, chosen = [], [], []
    for train, test in folds.split(features, labels):
        x, y = features[train], labels[train]
        scores = []
        for strength in grid:
            each = [fit(x[a], y[a], strength).score(x[b], y[b]) for a, b in folds.split(x, y)]
            scores.append(round(100 * np.mean(each), 2))
        chosen.append(grid[int(np.argmax(scores))])
        devs.append(max(scores))
        tests.append(round(100 * fit(x, y, chosen[-1]).score(features[test], labels[test]), 2))
    assert ours.details == {"fold_accuracy": tests, "regularization": chosen}
    assert ours.metrics == {
        "accuracy": round(float(np.mean(tests)), 2),
        "dev_accuracy": round(float(np.mean(devs)), 2),
    }
    assert len(set(tests)) > 1


def test_k_fold_tunes_on_train_and_scores_test(random_problem):
    features, labels = random_problem(260, 6, 3)
    train, test = Labeled(features[:200], labels[:200], 3), Labeled(features[200:], labels[200:], 3)
    ours = k_fold(train, test, LogisticProbe(), 5, 1111, np.random.default_rng(0))
    folds = list(StratifiedKFold(5, shuffle=True, random_state=1111).split(train.features, train.labels))
    grid = [2.0**power for power in range(-1, 6)]
    scores = [
        round(
            100
            * np.mean(
                [
                    fit(train.features[a], train.labels[a], c).score(train.features[b], train.labels[b])
                    for a, b in folds
                ]
            ),
            2,
        )
        for c in grid
    ]
    best = grid[int(np.argmax(scores))]
    assert ours.details["regularization"] == best
    assert ours.metrics["dev_accuracy"] == max(scores)
    expected = fit(train.features, train.labels, best).score(test.features, test.labels)
    assert ours.metrics["accuracy"] == round(100 * expected, 2)
    assert "f1" not in ours.metrics


def test_a_split_with_one_class_is_an_error(random_problem):
    features, labels = random_problem(30, 6, 2)
    one = Labeled(features, np.zeros_like(labels), 1)
    with pytest.raises(DataError, match="1 class, expected at least 2"):
        fixed_split(one, one, one, LogisticProbe(), np.random.default_rng(0))


def test_split_tunes_on_dev(random_problem):
    features, labels = random_problem(300, 6, 2)
    parts = [Labeled(features[a:b], labels[a:b], 2) for a, b in ((0, 150), (150, 220), (220, 300))]
    ours = fixed_split(*parts, LogisticProbe(), np.random.default_rng(0))
    train, dev, test = parts
    scores = {
        c: fit(train.features, train.labels, c).score(dev.features, dev.labels)
        for c in LogisticProbe().grid("split")
    }
    best = max(scores, key=scores.get)
    assert ours.details["regularization"] == best
    predicted = fit(train.features, train.labels, best).predict(test.features)
    assert ours.metrics["accuracy"] == round(100 * (predicted == test.labels).mean(), 2)
    assert ours.metrics["f1"] == round(100 * f1(predicted, test.labels), 2)


def test_a_class_too_small_for_the_folds_is_refused(random_problem):
    features, _ = random_problem(30, 3, 2)
    labels = np.array([1] * 3 + [0] * 27)
    with pytest.raises(DataError, match="the smallest of 2 classes has 3 examples"):
        nested_k_fold(Labeled(features, labels, 2), LogisticProbe(), 4, 1, np.random.default_rng(0))
    with pytest.raises(DataError, match="the smallest of 1 classes"):
        nested_k_fold(Labeled(features, labels * 0, 2), LogisticProbe(), 4, 1, np.random.default_rng(0))


def test_f1_by_hand():
    # Two hits, one false alarm, one miss.
    assert f1(np.array([1, 1, 1, 0, 0]), np.array([1, 1, 0, 1, 0])) == pytest.approx(2 * 2 / 6)
    assert f1(np.zeros(3, int), np.zeros(3, int)) == 0


def test_pair_features_by_hand():
    u, v = np.array([[1.0, -2.0]], np.float32), np.array([[3.0, 1.0]], np.float32)
    assert pair_features(u, v).tolist() == [[2.0, 3.0, 3.0, -2.0]]


def test_sentevals_order_is_by_words_then_label_then_file():
    texts = ["b b", "a", "c", "", "d d"]
    labels = np.array([1, 1, 0, 1, 1])
    assert senteval_order(texts, None, labels).tolist() == [3, 2, 1, 0, 4]
    assert senteval_order(texts, ["x", "x x", "x", "x", ""], labels).tolist() == [3, 2, 1, 4, 0]
