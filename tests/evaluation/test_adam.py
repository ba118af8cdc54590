"""Compares the networks and Adam with PyTorch's, step by step."""

import numpy as np
import pytest

from sentenc.evaluation.probes.adam import Adam, Network, train_epoch

torch = pytest.importorskip("torch")


def torch_twin(network, split, replica):
    layers = []
    for array in network.parameters:
        weights = torch.tensor(array[split, replica])
        layer = torch.nn.Linear(weights.shape[0] - 1, weights.shape[1])
        with torch.no_grad():
            layer.weight.copy_(weights[:-1].T)
            layer.bias.copy_(weights[-1])
        layers += [layer, torch.nn.Sigmoid()]
    return torch.nn.Sequential(*layers[:-1])


def cross_entropy_gradient(labels, n_classes):
    def gradient(scores, rows):
        shares = np.exp(scores) / np.exp(scores).sum(axis=-1, keepdims=True)
        return (shares - np.eye(n_classes)[labels[rows]][:, None]).astype(np.float32) / rows.shape[1]

    return gradient


@pytest.mark.parametrize("hidden", [0, 7])
def test_training_is_pytorchs(random_problem, hidden):
    features, labels = random_problem(50, 6, 3)
    decay = [[0.0, 0.01], [0.1, 0.0]]
    network = Network(6, hidden, 3, 2, np.random.default_rng(0).spawn(2))
    twins = {(s, r): torch_twin(network, s, r) for s in range(2) for r in range(2)}
    optimizer = Adam(network, decay)
    theirs = {
        key: torch.optim.Adam(twin.parameters(), lr=1e-3, weight_decay=decay[key[0]][key[1]])
        for key, twin in twins.items()
    }
    # Splits of different sizes: the second has one mini-batch fewer.
    rows = [np.arange(0, 41), np.arange(10, 50)]

    class InOrder:
        def permutation(self, order):
            return order

    for _ in range(5):
        gradient = cross_entropy_gradient(labels, 3)
        train_epoch(network, optimizer, features, rows, np.array([0, 1]), 8, [InOrder()] * 2, gradient)
        for (s, r), twin in twins.items():
            for start in range(0, len(rows[s]), 8):
                batch = rows[s][start : start + 8]
                theirs[s, r].zero_grad()
                scores = twin(torch.tensor(features[batch]))
                torch.nn.functional.cross_entropy(scores, torch.tensor(labels[batch])).backward()
                theirs[s, r].step()
    for (s, r), twin in twins.items():
        ours = network.forward(features[None], np.array([s]))[-1][0, r]
        np.testing.assert_allclose(ours, twin(torch.tensor(features)).detach().numpy(), atol=1e-5)


def test_initial_weights_are_within_pytorchs_bounds():
    network = Network(25, 16, 2, 3, [np.random.default_rng(1)])
    for array, bound in zip(network.parameters, (1 / 5, 1 / 4), strict=True):
        assert np.abs(array).max() <= bound
        assert np.abs(array).max() > 0.9 * bound
    assert not np.array_equal(network.parameters[0][0, 0], network.parameters[0][0, 1])
