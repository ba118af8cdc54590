"""Trains many small networks at a time by Adam: a NumPy equivalent of SentEval's PyTorch probes.

The networks of a batch share only their shape. The networks of one split, one per regularization strength,
are trained on the same mini-batches, so that each mini-batch is gathered once for all of them.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


class Network:
    """``S x R`` networks of the form Linear or Linear-Sigmoid-Linear, with PyTorch's initialization.

    Args:
        n_inputs: The number d of features.
        n_hidden: Width of the hidden layer; 0 for none.
        n_outputs: The number k of scores.
        n_replicas: The number R of networks per split; they share their inputs.
        generators: S generators, one per split; each draws the weights of its own R networks.

    Attributes:
        parameters: One array per layer, (S, R, inputs + 1, outputs); the last input row is the bias.
    """

    def __init__(
        self,
        n_inputs: int,
        n_hidden: int,
        n_outputs: int,
        n_replicas: int,
        generators: list[np.random.Generator],
    ) -> None:
        widths = [n_inputs, n_hidden, n_outputs] if n_hidden else [n_inputs, n_outputs]
        self.parameters: list[Floats] = []
        for fan_in, fan_out in pairwise(widths):
            bound = 1 / np.sqrt(fan_in)
            shape = (n_replicas, fan_in + 1, fan_out)
            drawn = [generator.uniform(-bound, bound, shape) for generator in generators]
            self.parameters.append(np.stack(drawn).astype(np.float32))

    def forward(self, inputs: Floats, splits: Rows) -> list[Floats]:
        """Returns the activations of the networks of some splits.

        Args:
            inputs: Shape (s, b, d).
            splits: Shape (s,), the indices of the splits.

        Returns:
            The hidden activations (s, R, b, h), if any, and the scores (s, R, b, k).
        """
        first = self.parameters[0][splits]
        output = inputs[:, None] @ first[:, :, :-1] + first[:, :, -1:]
        if len(self.parameters) == 1:
            return [output]
        second = self.parameters[1][splits]
        hidden = 1 / (1 + np.exp(-output))
        return [hidden, hidden @ second[:, :, :-1] + second[:, :, -1:]]

    def gradients(
        self, inputs: Floats, activations: list[Floats], score_gradient: Floats, splits: Rows
    ) -> list[Floats]:
        """Returns the gradients of all parameters from the gradient of the scores, (s, R, b, k)."""
        if len(self.parameters) == 1:
            return [_layer_gradient(inputs[:, None], score_gradient)]
        hidden = activations[0]
        second = self.parameters[1][splits][:, :, :-1]
        hidden_gradient = (score_gradient @ second.swapaxes(-1, -2)) * hidden * (1 - hidden)
        return [_layer_gradient(inputs[:, None], hidden_gradient), _layer_gradient(hidden, score_gradient)]

    def snapshot(self) -> list[Floats]:
        """Returns a copy of the parameters."""
        return [array.copy() for array in self.parameters]


class Adam:
    """Adam as in PyTorch: the penalty is added to the gradient, also for biases.

    Args:
        network: The networks to train; updated in place.
        decay: Weight decay of each network, shape (S, R).
        rate: Learning rate.
    """

    def __init__(self, network: Network, decay: npt.ArrayLike, rate: float = 1e-3) -> None:
        self._parameters = network.parameters
        self._decay = np.asarray(decay, np.float32)[:, :, None, None]
        self._rate = rate
        self._mean = [np.zeros_like(array) for array in self._parameters]
        self._square = [np.zeros_like(array) for array in self._parameters]
        self._steps = np.zeros(len(self._decay), np.int64)

    def step(self, gradients: list[Floats], splits: Rows) -> None:
        """Updates the networks of some splits (s,) by their gradients, one array per layer."""
        self._steps[splits] += 1
        count = self._steps[splits].astype(np.float64)[:, None, None, None]
        rate = (self._rate / (1 - 0.9**count)).astype(np.float32)
        correction = np.sqrt(1 - 0.999**count).astype(np.float32)
        for parameter, gradient, mean, square in zip(
            self._parameters, gradients, self._mean, self._square, strict=True
        ):
            total = gradient + self._decay[splits] * parameter[splits]
            first = 0.9 * mean[splits] + np.float32(0.1) * total
            second = 0.999 * square[splits] + np.float32(0.001) * total * total
            mean[splits], square[splits] = first, second
            parameter[splits] -= rate * first / (np.sqrt(second) / correction + np.float32(1e-8))


# From scores (s, R, b, k) and their rows (s, b), the gradient of each network's mean loss, (s, R, b, k).
ScoreGradient = Callable[[Floats, Rows], Floats]


def train_epoch(
    network: Network,
    optimizer: Adam,
    features: Floats,
    rows: list[Rows],
    active: Rows,
    batch_size: int,
    generators: list[np.random.Generator],
    score_gradient: ScoreGradient,
) -> None:
    """Trains the networks of each active split for one epoch, each split in a random order of its own.

    Args:
        network: The networks.
        optimizer: The optimizer of these networks.
        features: Shape (n, d), shared by all splits.
        rows: Training rows of each of the S splits.
        active: Indices of the splits that are still training.
        batch_size: Rows per step; the last step of an epoch has the remaining ones.
        generators: One generator per split.
        score_gradient: Computes the gradient of the loss with respect to the scores.
    """
    orders = {int(split): generators[split].permutation(rows[split]) for split in active}
    longest = max(len(order) for order in orders.values())
    for start in range(0, longest, batch_size):
        # Splits differ in length by a row or so: those with batches of equal length are computed together.
        by_size: dict[int, list[int]] = {}
        for split, order in orders.items():
            by_size.setdefault(min(batch_size, len(order) - start), []).append(split)
        for size, splits in by_size.items():
            if size <= 0:
                continue
            chosen = np.array(splits)
            batch = np.stack([orders[split][start : start + size] for split in splits])
            inputs = features[batch]
            activations = network.forward(inputs, chosen)
            gradient = score_gradient(activations[-1], batch)
            optimizer.step(network.gradients(inputs, activations, gradient, chosen), chosen)


def _layer_gradient(inputs: Floats, output_gradient: Floats) -> Floats:
    """Returns the gradient of a layer's weights and bias from its inputs and the gradient of its outputs."""
    weights = inputs.swapaxes(-1, -2) @ output_gradient
    return np.concatenate([weights, output_gradient.sum(axis=-2, keepdims=True)], axis=-2)
