import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sentenc import NotConvergedWarning
from sentenc.evaluation.probes.base import Labeled, LogisticProbe, Split
from sentenc.solvers.lbfgs import minimize
from sentenc.solvers.logistic_folds import Design, predict, solve_path
from sentenc.threads import worker_threads

GRID = (0.25, 2.0, 8.0)


def masks_of(n, n_problems):
    masks = np.ones((n_problems, n), bool)
    for at in range(n_problems):
        masks[at, at::n_problems] = n_problems == 1
    return masks


def solve(features, labels, n_classes, masks, n_threads=2):
    design = Design.of(features, labels, n_classes)
    with worker_threads(n_threads) as pool:
        return [(c, weights.copy()) for c, weights in solve_path(design, masks, GRID, pool)]


@pytest.mark.parametrize(("n_classes", "n_problems"), [(2, 1), (2, 5), (3, 1), (6, 4), (10, 2)])
def test_weights_are_scikit_learns(random_problem, n_classes, n_problems):
    features, labels = random_problem(400, 12, n_classes)
    masks = masks_of(400, n_problems)
    for strength, weights in solve(features, labels, n_classes, masks):
        for mask, ours in zip(masks, weights, strict=True):
            model = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000)
            model.fit(features[mask].astype(np.float64), labels[mask])
            theirs = np.column_stack([model.coef_, model.intercept_])
            # Scores are only defined up to a constant added to every class.
            if n_classes > 2:
                ours, theirs = ours - ours.mean(axis=0), theirs - theirs.mean(axis=0)
            np.testing.assert_allclose(ours, theirs, atol=2e-4)


def test_gradient_vanishes_far_below_what_a_decision_could_notice(random_problem):
    features, labels = random_problem(300, 8, 2)
    strength, weights = solve(features, labels, 2, np.ones((1, 300), bool))[-1]
    w, b = weights[0, 0, :-1], weights[0, 0, -1]
    residual = 1 / (1 + np.exp(-(features @ w + b))) - labels
    np.testing.assert_allclose(strength * features.T @ residual + w, 0, atol=1e-6)
    assert abs(residual.sum()) < 1e-6


@pytest.mark.parametrize("n_classes", [2, 4])
def test_thread_count_changes_no_bit(random_problem, n_classes):
    features, labels = random_problem(10_000, 6, n_classes)
    masks = masks_of(10_000, 5)
    single = solve(features, labels, n_classes, masks, n_threads=1)
    three = solve(features, labels, n_classes, masks, n_threads=3)
    for (_, first), (_, second) in zip(single, three, strict=True):
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e3])
def test_features_of_any_scale_converge(random_problem, scale):
    features, labels = random_problem(300, 10, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        solve(features * scale, labels, 3, masks_of(300, 3))


def test_constant_and_repeated_features_converge(random_problem):
    features, labels = random_problem(200, 4, 2)
    features = np.concatenate([features, features, np.ones((200, 1)), np.zeros((200, 2))], axis=1)
    for _, weights in solve(features, labels, 2, masks_of(200, 3)):
        assert np.isfinite(weights).all()
        np.testing.assert_array_equal(weights[:, :, -3:-1], 0)


def test_ties_go_to_the_first_class():
    design = Design.of(np.zeros((1, 2)), np.zeros(1, np.int64), 3)
    assert predict(design, np.zeros((3, 3)), np.array([0])).tolist() == [0]
    two = Design.of(np.zeros((1, 2)), np.zeros(1, np.int64), 2)
    assert predict(two, np.zeros((1, 3)), np.array([0])).tolist() == [0]


def test_search_and_refit_use_their_own_rows(random_problem):
    features, labels = random_problem(120, 5, 2)
    data = Labeled(features, labels, 2)
    rows = np.arange(120)
    splits = [Split(rows[:80], rows[80:]), Split(rows[40:], rows[:40])]
    probe, rng = LogisticProbe(n_threads=1), np.random.default_rng(0)
    accuracies = probe.search(data, splits, [0.5, 4.0], rng)
    predictions = probe.refit(data, splits, [4.0, 0.5], rng)
    for at, (strength, column) in enumerate([(4.0, 1), (0.5, 0)]):
        split, predicted = splits[at], predictions[at]
        model = LogisticRegression(C=strength, tol=1e-10, max_iter=10_000)
        model.fit(features[split.train].astype(np.float64), labels[split.train])
        np.testing.assert_array_equal(predicted, model.predict(features[split.test].astype(np.float64)))
        assert accuracies[at, column] == (predicted == labels[split.test]).mean()


def test_grids_are_sentevals_for_scikit_learn():
    probe = LogisticProbe()
    assert probe.grid("nested-k-fold") == probe.grid("split") == (0.25, 0.5, 1, 2, 4, 8)
    assert probe.grid("k-fold") == (0.5, 1, 2, 4, 8, 16, 32)


def test_missing_convergence_is_warned_of(monkeypatch):
    class Identity:
        def solve(self, vectors):
            return vectors

    def bowl(weights, problems):
        steepness = np.array([1.0, 30.0])
        return 0.5 * (steepness * weights**2).sum(axis=(1, 2)), steepness * weights

    start = np.array([[[1.0, 1.0]], [[0.0, 0.0]]])
    solution, converged = minimize(bowl, Identity(), start)
    assert converged
    np.testing.assert_allclose(solution, 0, atol=1e-8)
    monkeypatch.setattr("sentenc.solvers.lbfgs._MAX_STEPS", 2)
    with pytest.warns(NotConvergedWarning, match="1 problems did not converge in 2 steps"):
        minimize(bowl, Identity(), start)
