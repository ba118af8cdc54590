"""The random numbers of SentEval's program: every fit starts NumPy's and PyTorch's generators from the same seed."""

import numpy as np


class FitGenerator:
    """The generator of one fit, in place of ``np.random.Generator``."""

    def __init__(self, seed):
        self._seed = seed
        self._state = np.random.RandomState(seed)

    def uniform(self, low, high, shape):
        """The initial weights (R, inputs + 1, outputs) of R networks: those of ``torch.nn.Linear``, R times."""
        import torch

        n_replicas, n_rows, n_outputs = shape
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self._seed)
            layer = torch.nn.Linear(n_rows - 1, n_outputs)
        rows = [*layer.weight.detach().numpy().T, layer.bias.detach().numpy()]
        return np.stack([rows] * n_replicas)

    def permutation(self, rows):
        return np.asarray(rows)[self._state.permutation(len(rows))]


class ProgramGenerator:
    """The generator of a protocol. After a hold-out, a fit continues with the next numbers."""

    def __init__(self, seed):
        self._seed = seed
        self._begun = []

    def permutation(self, rows):
        self._begun.append(FitGenerator(self._seed))
        return self._begun[-1].permutation(rows)

    def spawn(self, n):
        begun, self._begun = self._begun, []
        return begun or [FitGenerator(self._seed) for _ in range(n)]
