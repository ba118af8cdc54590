"""The fit of a linear head, compared with scikit-learn, and the choice of its regularization."""

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sklearn.linear_model import LogisticRegression

from sentenc.downstream.head_solver import fit_head, hits


def rng(seed=0):
    return np.random.default_rng(seed)


def scaled(features, weights=None):
    """Centers features and divides them by the root mean square of their norms. C applies to this scale."""
    x = features.astype(np.float64)
    x = x - np.average(x, axis=0, weights=weights)
    return x / np.sqrt(np.average((x * x).sum(axis=1), weights=weights))


def assert_close(probabilities, expected):
    assert np.abs(probabilities - expected).max() < 0.02
    assert np.abs(probabilities - expected).mean() < 0.002


@pytest.mark.parametrize("n_classes", [2, 5])
@pytest.mark.parametrize("strength", [0.5, 16.0, 1000.0])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e3])
def test_solution_equals_that_of_scikit_learn(random_problem, n_classes, strength, scale):
    features, labels = random_problem(300, 8, n_classes)
    features = features * np.float32(scale) + np.float32(3 * scale)
    fitted = fit_head(features, np.eye(n_classes)[labels], "softmax", C=strength, rng=rng())
    # Two classes have two rows of weights here, w / 2 and -w / 2, whose penalty is half of that of w.
    reference = LogisticRegression(C=strength * (2 if n_classes == 2 else 1), tol=1e-8, max_iter=10_000)
    expected = reference.fit(scaled(features), labels).predict_proba(scaled(features))
    assert_close(fitted.head.probabilities(features), expected)
    assert (fitted.C, fitted.path, fitted.validation) == (strength, {}, {})
    if strength < 1000:
        # The comparison could fail: another strength gives other probabilities.
        other = LogisticRegression(C=strength * 8, max_iter=10_000).fit(scaled(features), labels)
        assert np.abs(other.predict_proba(scaled(features)) - expected).mean() > 0.002


@pytest.mark.parametrize("n", [7, 39, 40, 41])
def test_fewer_examples_than_dimensions(random_problem, n):
    features, labels = random_problem(n, 40, 3)
    labels[:3] = [0, 1, 2]
    features += 2
    fitted = fit_head(features, np.eye(3)[labels], "softmax", C=4.0, rng=rng())
    reference = LogisticRegression(C=4.0, tol=1e-8, max_iter=10_000).fit(scaled(features), labels)
    assert_close(fitted.head.probabilities(features), reference.predict_proba(scaled(features)))
    # New examples outside of the span of the training examples.
    new = random_problem(50, 40, 3, seed=1)[0] + 2
    x = features.astype(float)
    length = np.sqrt(((x - x.mean(0)) ** 2).sum(1).mean())
    assert_close(fitted.head.probabilities(new), reference.predict_proba((new - x.mean(0)) / length))


def test_sample_weights_are_repeated_rows(random_problem):
    features, labels = random_problem(120, 6, 3)
    times = rng().integers(0, 4, 120)
    weighted = fit_head(features, np.eye(3)[labels], "softmax", C=8.0, sample_weight=times, rng=rng())
    # Weights are scaled to a mean of 1, so C applies to the number of rows.
    n = times.sum()
    repeated = fit_head(
        features.repeat(times, 0), np.eye(3)[labels.repeat(times)], "softmax", C=8.0 * 120 / n, rng=rng()
    )
    assert_close(weighted.head.probabilities(features), repeated.head.probabilities(features))
    reference = LogisticRegression(C=8.0 * 120 / n, tol=1e-8, max_iter=10_000)
    reference.fit(scaled(features, times), labels, sample_weight=times)
    assert_close(weighted.head.probabilities(features), reference.predict_proba(scaled(features, times)))
    plain = fit_head(features, np.eye(3)[labels], "softmax", C=8.0, rng=rng())
    assert np.abs(plain.head.probabilities(features) - weighted.head.probabilities(features)).max() > 0.05


def test_weights_count_by_their_ratio(random_problem):
    features, labels = random_problem(60, 4, 3)
    weights = rng().random(60)
    light, heavy = (
        fit_head(features, np.eye(3)[labels], "softmax", C=4.0, sample_weight=weights * by, rng=rng()).head
        for by in (1, 1000)
    )
    assert_close(light.probabilities(features), heavy.probabilities(features))


def test_shares_are_weighted_rows(random_problem):
    features, labels = random_problem(150, 6, 4)
    share = rng().random(150)
    neighbor = (labels + 1) % 4
    targets = share[:, None] * np.eye(4)[labels] + (1 - share)[:, None] * np.eye(4)[neighbor]
    fitted = fit_head(features, targets, "softmax", C=8.0, rng=rng())
    both = np.concatenate([labels, neighbor])
    reference = LogisticRegression(C=8.0, tol=1e-8, max_iter=10_000)
    reference.fit(
        np.concatenate([scaled(features)] * 2), both, sample_weight=np.concatenate([share, 1 - share])
    )
    assert_close(fitted.head.probabilities(features), reference.predict_proba(scaled(features)))


def test_each_label_is_a_binary_problem(random_problem):
    features, _ = random_problem(200, 6, 2)
    draw = rng(3)
    targets = (features @ draw.normal(size=(6, 3)) + draw.normal(size=(200, 3)) > [0, 1, 3]).astype(float)
    fitted = fit_head(features, targets, "sigmoid", C=8.0, rng=rng()).head.probabilities(features)
    for label in range(3):
        reference = LogisticRegression(C=8.0, tol=1e-8, max_iter=10_000).fit(
            scaled(features), targets[:, label]
        )
        assert_close(fitted[:, label], reference.predict_proba(scaled(features))[:, 1])


@pytest.mark.parametrize("n", [300, 2500])
@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_auto_chooses_the_best_strength_of_the_path(random_problem, n, kind):
    features, labels = random_problem(n, 10, 3)
    fitted = fit_head(features, np.eye(3)[labels], kind, rng=rng())
    tried = list(fitted.path)
    assert len(tried) >= 2
    assert tried == [4.0**power for power in range(-1 if n == 300 else 0, 7)][: len(tried)]
    losses = np.array(list(fitted.path.values()))
    assert fitted.path[fitted.C] <= losses.min() / 0.99
    # Among strengths of nearly equal loss, the smallest: all smaller ones are clearly worse.
    assert (losses[: tried.index(fitted.C)] > fitted.path[fitted.C] / 0.995).all()
    assert fitted.validation["log_loss"] == fitted.path[fitted.C]
    assert fitted.validation["n"] == (300 if n == 300 else 250)
    assert 0.4 < fitted.validation["accuracy"] < 0.95
    # The head is fitted on all rows with this strength.
    again = fit_head(features, np.eye(3)[labels], kind, C=fitted.C, rng=rng())
    assert_close(fitted.head.probabilities(features), again.head.probabilities(features))


def test_strength_follows_the_noise(random_problem):
    # Many uninformative features lead to the smallest strength, and well separated classes to a large one.
    noise = rng().normal(size=(200, 60))
    assert fit_head(noise, np.eye(2)[rng(1).integers(0, 2, 200)], "softmax", rng=rng()).C == 0.25
    labels = rng().integers(0, 2, 200)
    apart = (noise[:, :5] + 20 * labels[:, None]).astype(np.float32)
    fitted = fit_head(apart, np.eye(2)[labels], "softmax", rng=rng())
    assert fitted.C >= 64
    assert fitted.validation["accuracy"] == 1


def test_examples_without_weight_do_not_choose(random_problem):
    features, labels = random_problem(200, 10, 2)
    # Half of the examples have wrong labels, and no weight.
    wrong = np.concatenate([labels, 1 - labels])
    weights = np.repeat([1.0, 0.0], 200)
    fitted = fit_head(
        np.concatenate([features] * 2), np.eye(2)[wrong], "softmax", sample_weight=weights, rng=rng()
    )
    alone = fit_head(features, np.eye(2)[labels], "softmax", C=fitted.C, rng=rng())
    assert fitted.C > 1
    assert fitted.path[fitted.C] < 0.6
    assert (
        hits(fitted.head.scores(features), np.eye(2)[labels], "softmax").mean()
        >= hits(alone.head.scores(features), np.eye(2)[labels], "softmax").mean() - 0.03
    )


def test_same_seed_same_head(random_problem):
    features, labels = random_problem(200, 6, 3)
    first, again, other = (fit_head(features, np.eye(3)[labels], "softmax", rng=rng(s)) for s in (1, 1, 2))
    np.testing.assert_array_equal(first.head.weights, again.head.weights)
    assert first.path == again.path
    assert first.path != other.path


def test_without_held_out_examples_the_default_strength_is_used(random_problem):
    features, _ = random_problem(4, 3, 2)
    for targets, fraction in ((np.eye(4), 0.1), (np.eye(2)[[0, 0, 1, 1]], 0.0)):
        fitted = fit_head(features, targets, "softmax", validation_fraction=fraction, rng=rng())
        assert (fitted.C, fitted.validation, fitted.path) == (16.0, {}, {})
        assert hits(fitted.head.scores(features), targets, "softmax").all()


def test_features_that_are_all_the_same():
    # Only the frequencies of the classes can be learned. Rounding errors must not be amplified.
    row = rng().normal(size=30).astype(np.float32) * 3
    features = np.tile(row, (40, 1))
    targets = np.eye(2)[[0] * 30 + [1] * 10]
    fitted = fit_head(features, targets, "softmax", rng=rng()).head
    np.testing.assert_allclose(fitted.probabilities(row[None]), [[0.75, 0.25]], atol=0.02)
    np.testing.assert_allclose(fitted.probabilities(row[None] * 1.5), [[0.75, 0.25]], atol=0.05)
    nothing = fit_head(features * 0, targets, "softmax", rng=rng()).head
    np.testing.assert_allclose(nothing.probabilities(row[None] * 0), [[0.75, 0.25]], atol=0.02)


def test_label_of_all_or_no_examples(random_problem):
    features, labels = random_problem(80, 4, 2)
    targets = np.stack([labels, np.ones(80), np.zeros(80)], axis=1)
    fitted = fit_head(features, targets, "sigmoid", rng=rng()).head.probabilities(features)
    assert (fitted[:, 1] > 0.95).all()
    assert (fitted[:, 2] < 0.05).all()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"targets": np.eye(2)}, r"shapes \(3, 2\), \(2, 2\), \(3,\)"),
        ({"targets": np.zeros(3)}, "shapes"),
        ({"sample_weight": np.ones(2)}, "shapes"),
        ({"sample_weight": np.ones((3, 1))}, "shapes"),
        ({"features": np.empty((0, 2)), "targets": np.empty((0, 2))}, "shapes"),
        ({"features": np.full((3, 2), np.nan)}, "features have values that are not finite"),
        ({"targets": np.full((3, 2), np.inf)}, "targets have values that are not finite"),
        ({"sample_weight": [1, 2, -1]}, "weights"),
        ({"sample_weight": [0, 0, 0]}, "weights"),
        ({"sample_weight": [1, np.nan, 1]}, "weights"),
        ({"kind": "linear"}, "kind is 'linear'"),
    ],
)
def test_wrong_examples_are_refused(change, words):
    arguments = {
        "features": np.eye(3)[:, :2],
        "targets": np.eye(2)[[0, 1, 0]],
        "kind": "softmax",
        "rng": rng(),
    }
    with pytest.raises(ValueError, match=words):
        fit_head(**(arguments | change))


@pytest.mark.parametrize("kind", ["softmax", "sigmoid"])
def test_the_number_of_threads_changes_nothing(monkeypatch, random_problem, kind):
    # Several blocks, the last one short.
    features, labels = random_problem(3001, 20, 3)
    heads = []
    for cores in (1, 4):
        monkeypatch.setattr("sentenc.threads.usable_cores", lambda n=cores: n)
        heads.append(fit_head(features, np.eye(3)[labels], kind, C=4.0, rng=rng()).head)
    np.testing.assert_array_equal(heads[0].weights, heads[1].weights)
    np.testing.assert_array_equal(heads[0].bias, heads[1].bias)
