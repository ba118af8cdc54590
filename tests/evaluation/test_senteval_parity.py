"""With SentEval's random numbers, the probe ``senteval`` predicts what SentEval's program predicts.

The program below was written from a description of facebookresearch/SentEval: PyTorch trains one network at a
time.
"""

import numpy as np
import pytest
from sklearn.model_selection import StratifiedKFold

from sentenc.evaluation.probes.base import Labeled
from sentenc.evaluation.probes.senteval import SentEvalProbe
from sentenc.evaluation.protocols.classification import fixed_split, k_fold, nested_k_fold
from tests.evaluation.senteval_random_numbers import ProgramGenerator

torch = pytest.importorskip("torch")

SEED, FOLDS = 1111, 3
STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2)
SCHEDULE = {"batch_size": 32, "tenacity": 1, "epoch_size": 4, "max_epoch": 16}


def fit(x, y, n_classes, strength, dev=None):
    """Returns the best development accuracy, and a function from features to predicted labels."""
    rng = np.random.RandomState(SEED)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        model = torch.nn.Linear(x.shape[1], n_classes)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, weight_decay=strength)
    if dev is None:
        order = rng.permutation(len(x))
        n_dev = int(0.05 * len(x))
        dev = x[order[:n_dev]], y[order[:n_dev]]
        x, y = x[order[n_dev:]], y[order[n_dev:]]
    inputs, targets = torch.tensor(x), torch.tensor(y)

    def predict(features):
        with torch.no_grad():
            return model(torch.tensor(features)).argmax(dim=1).numpy()

    best, best_accuracy, failures, epoch = None, -1.0, 0, 0
    while failures <= SCHEDULE["tenacity"] and epoch <= SCHEDULE["max_epoch"]:
        for _ in range(SCHEDULE["epoch_size"]):
            order = torch.from_numpy(rng.permutation(len(x)))
            for batch in order.split(SCHEDULE["batch_size"]):
                optimizer.zero_grad()
                torch.nn.functional.cross_entropy(model(inputs[batch]), targets[batch]).backward()
                optimizer.step()
        epoch += SCHEDULE["epoch_size"]
        accuracy = (predict(dev[0]) == dev[1]).mean()
        if accuracy > best_accuracy:
            best_accuracy = accuracy
            best = {name: value.clone() for name, value in model.state_dict().items()}
        else:
            failures += 1
    model.load_state_dict(best)
    return best_accuracy, predict


def tuned_by_folds(x, y, n_classes):
    """Returns the best strength by cross-validation, and its mean accuracy in points."""
    folds = list(StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(x, y))
    means = [
        round(100 * np.mean([fit(x[a], y[a], n_classes, strength, (x[b], y[b]))[0] for a, b in folds]), 2)
        for strength in STRENGTHS
    ]
    return STRENGTHS[int(np.argmax(means))], max(means)


def points(predicted, gold):
    return round(100 * float((predicted == gold).mean()), 2)


@pytest.fixture(autouse=True)
def one_torch_thread():
    """Limits PyTorch to one thread: networks of this size only get slower with more."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def data(random_problem):
    features, labels = random_problem(300, 6, 3, seed=5)
    # So few epochs separate the classes only if the features are large.
    return Labeled(4 * features, labels, 3)


def part(data, rows):
    return Labeled(data.features[rows], data.labels[rows], data.n_classes)


@pytest.fixture
def probe():
    return SentEvalProbe(**SCHEDULE)


def test_nested_k_fold_is_sentevals(data, probe):
    x, y = data.features, data.labels
    tests, strengths = [], []
    for train, test in StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(x, y):
        strength, _ = tuned_by_folds(x[train], y[train], 3)
        tests.append(points(fit(x[train], y[train], 3, strength)[1](x[test]), y[test]))
        strengths.append(strength)
    outcome = nested_k_fold(data, probe, FOLDS, SEED, ProgramGenerator(SEED))
    assert outcome.details == {"fold_accuracy": tests, "regularization": strengths}
    assert len(set(tests)) > 1


def test_k_fold_is_sentevals(data, probe):
    train, test = part(data, slice(0, 220)), part(data, slice(220, 300))
    strength, dev_accuracy = tuned_by_folds(train.features, train.labels, 3)
    predicted = fit(train.features, train.labels, 3, strength)[1](test.features)
    outcome = k_fold(train, test, probe, FOLDS, SEED, ProgramGenerator(SEED))
    accuracy = points(predicted, test.labels)
    assert outcome.metrics == {"accuracy": accuracy, "dev_accuracy": dev_accuracy}
    assert outcome.details["regularization"] == strength


def test_fixed_split_is_sentevals(data, probe):
    train, dev, test = (part(data, slice(*ends)) for ends in ((0, 160), (160, 220), (220, 300)))
    fits = [
        fit(train.features, train.labels, 3, strength, (dev.features, dev.labels)) for strength in STRENGTHS
    ]
    accuracies = [round(100 * float(accuracy), 2) for accuracy, _ in fits]
    chosen = int(np.argmax(accuracies))
    outcome = fixed_split(train, dev, test, probe, ProgramGenerator(SEED))
    assert outcome.metrics == {
        "accuracy": points(fits[chosen][1](test.features), test.labels),
        "dev_accuracy": accuracies[chosen],
    }
    assert outcome.details["regularization"] == STRENGTHS[chosen]
