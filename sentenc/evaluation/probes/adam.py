"""Small networks trained by Adam, many at a time: what SentEval's PyTorch probes do, in numpy.

The networks of a batch share nothing but their shape. Those of one split (its regularization strengths)
see the same mini-batches, so that a mini-batch is gathered once for all of them.
"""

from collections.abc import Callable
from itertools import pairwise

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]


class Network:
    """``S x R`` networks: Linear, or Linear-Sigmoid-Linear. PyTorch's initialization of both.

    Args:
        n_inputs: d.
        n_hidden: Width of the hidden layer; 0 for none.
        n_outputs: k.
        n_replicas: R, networks that share their inputs.
        generators: S generators; each draws the weights of its own R networks.

    Attributes:
        parameters: Arrays of shape (S, R, inputs, outputs), the last row of inputs being the bias.
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

    def forward(self, inputs: Floats, at: Rows) -> list[Floats]:
        """Activations of the networks of splits ``at`` (s,) for inputs (s, b, d).

        Returns:
            The hidden activations (s, R, b, h), if any, and the scores (s, R, b, k).
        """
        first = self.parameters[0][at]
        found = [inputs[:, None] @ first[:, :, :-1] + first[:, :, -1:]]
        if len(self.parameters) > 1:
            second = self.parameters[1][at]
            hidden = 1 / (1 + np.exp(-found[0]))
            found = [hidden, hidden @ second[:, :, :-1] + second[:, :, -1:]]
        return found

    def gradients(self, inputs: Floats, activations: list[Floats], slope: Floats, at: Rows) -> list[Floats]:
        """Gradients of all parameters, given that with respect to the scores, (s, R, b, k)."""
        if len(self.parameters) == 1:
            return [_layer_gradient(inputs[:, None], slope)]
        hidden = activations[0]
        outer = _layer_gradient(hidden, slope)
        slope = (slope @ self.parameters[1][at][:, :, :-1].swapaxes(-1, -2)) * hidden * (1 - hidden)
        return [_layer_gradient(inputs[:, None], slope), outer]

    def snapshot(self) -> list[Floats]:
        """A copy of the parameters."""
        return [array.copy() for array in self.parameters]


class Adam:
    """Adam as PyTorch has it: the penalty is added to the gradient, of biases too.

    Args:
        network: What to train; updated in place.
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

    def step(self, gradients: list[Floats], at: Rows) -> None:
        """One update of the networks of splits ``at``, whose gradients are given."""
        self._steps[at] += 1
        count = self._steps[at].astype(np.float64)[:, None, None, None]
        rate = (self._rate / (1 - 0.9**count)).astype(np.float32)
        correction = np.sqrt(1 - 0.999**count).astype(np.float32)
        for parameter, gradient, mean, square in zip(
            self._parameters, gradients, self._mean, self._square, strict=True
        ):
            slope = gradient + self._decay[at] * parameter[at]
            first = 0.9 * mean[at] + np.float32(0.1) * slope
            second = 0.999 * square[at] + np.float32(0.001) * slope * slope
            mean[at], square[at] = first, second
            parameter[at] -= rate * first / (np.sqrt(second) / correction + np.float32(1e-8))


ScoreSlope = Callable[[Floats, Rows], Floats]


def train_epoch(
    network: Network,
    optimizer: Adam,
    features: Floats,
    rows: list[Rows],
    at: Rows,
    batch_size: int,
    generators: list[np.random.Generator],
    slope_of: ScoreSlope,
) -> None:
    """One pass of each split's networks over that split's training rows, in an order of its own.

    Args:
        network: The networks.
        optimizer: Of these networks.
        features: Shape (n, d), shared by all splits.
        rows: Training rows of each of the S splits.
        at: The splits that still train.
        batch_size: Rows of a step; the last step of a pass has the rest.
        generators: One for each split.
        slope_of: From scores (s, R, b, k) and rows (s, b), the gradient of each network's mean loss.
    """
    orders = {int(split): generators[split].permutation(rows[split]) for split in at}
    longest = max(len(order) for order in orders.values())
    for start in range(0, longest, batch_size):
        # Splits differ in length by a row or so: those with equally long batches go together.
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
            slope = slope_of(activations[-1], batch)
            optimizer.step(network.gradients(inputs, activations, slope, chosen), chosen)


def _layer_gradient(inputs: Floats, slope: Floats) -> Floats:
    weights = inputs.swapaxes(-1, -2) @ slope
    return np.concatenate([weights, slope.sum(axis=-2, keepdims=True)], axis=-2)
