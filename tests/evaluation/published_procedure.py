"""SentEval's PyTorch probe, transcribed literally for comparison: one network at a time, and slow.

Written from a description of facebookresearch/SentEval at 5d6dc11.
"""

from itertools import pairwise

import numpy as np
from sklearn.model_selection import StratifiedKFold

STRENGTHS = (1e-5, 1e-4, 1e-3, 1e-2)


class Classifier:
    def __init__(self, n_inputs, n_hidden, n_classes, decay, rng):
        self.decay, self.rng, self.n_classes = decay, rng, n_classes
        widths = [n_inputs, n_hidden, n_classes] if n_hidden else [n_inputs, n_classes]
        self.parameters = []
        for fan_in, fan_out in pairwise(widths):
            bound = 1 / np.sqrt(fan_in)
            self.parameters.append(rng.uniform(-bound, bound, (fan_in, fan_out)))
            self.parameters.append(rng.uniform(-bound, bound, fan_out))
        self.first = [np.zeros_like(p) for p in self.parameters]
        self.second = [np.zeros_like(p) for p in self.parameters]
        self.steps = 0

    def scores(self, x):
        w, b = self.parameters[:2]
        z = x @ w + b
        if len(self.parameters) == 2:
            return None, z
        hidden = 1 / (1 + np.exp(-z))
        return hidden, hidden @ self.parameters[2] + self.parameters[3]

    def accuracy(self, x, y):
        return (self.scores(x)[1].argmax(axis=1) == y).mean()

    def step(self, x, y):
        hidden, z = self.scores(x)
        p = np.exp(z - z.max(axis=1, keepdims=True))
        p /= p.sum(axis=1, keepdims=True)
        p[np.arange(len(y)), y] -= 1
        p /= len(y)
        if hidden is None:
            gradients = [x.T @ p, p.sum(axis=0)]
        else:
            inner = p @ self.parameters[2].T * hidden * (1 - hidden)
            gradients = [x.T @ inner, inner.sum(axis=0), hidden.T @ p, p.sum(axis=0)]
        self.steps += 1
        for at, gradient in enumerate(gradients):
            gradient = gradient + self.decay * self.parameters[at]
            self.first[at] = 0.9 * self.first[at] + 0.1 * gradient
            self.second[at] = 0.999 * self.second[at] + 0.001 * gradient**2
            mean = self.first[at] / (1 - 0.9**self.steps)
            square = self.second[at] / (1 - 0.999**self.steps)
            self.parameters[at] = self.parameters[at] - 1e-3 * mean / (np.sqrt(square) + 1e-8)

    def fit(self, x, y, dev_x, dev_y, batch_size, tenacity, epoch_size, max_epoch):
        best, best_accuracy, count, epoch, stop = None, -1.0, 0, 0, False
        while not stop and epoch <= max_epoch:
            for _ in range(epoch_size):
                order = self.rng.permutation(len(x))
                for start in range(0, len(x), batch_size):
                    batch = order[start : start + batch_size]
                    self.step(x[batch], y[batch])
            epoch += epoch_size
            accuracy = self.accuracy(dev_x, dev_y)
            if accuracy > best_accuracy:
                best, best_accuracy = list(self.parameters), accuracy
            else:
                if count >= tenacity:
                    stop = True
                count += 1
        self.parameters = best
        return best_accuracy


def nested(x, y, n_classes, folds, n_hidden, rng, **schedule):
    """Accuracy in points by nested k-fold."""
    outer = StratifiedKFold(folds, shuffle=True, random_state=1111)
    tests = []
    for train, test in outer.split(x, y):
        means = []
        for strength in STRENGTHS:
            inner = StratifiedKFold(folds, shuffle=True, random_state=1111)
            each = []
            for a, b in inner.split(x[train], y[train]):
                model = Classifier(x.shape[1], n_hidden, n_classes, strength, rng)
                each.append(model.fit(x[train][a], y[train][a], x[train][b], y[train][b], **schedule))
            means.append(round(100 * float(np.mean(each)), 2))
        strength = STRENGTHS[int(np.argmax(means))]
        order = rng.permutation(train)
        n_dev = int(0.05 * len(order))
        model = Classifier(x.shape[1], n_hidden, n_classes, strength, rng)
        model.fit(x[order[n_dev:]], y[order[n_dev:]], x[order[:n_dev]], y[order[:n_dev]], **schedule)
        tests.append(round(100 * model.accuracy(x[test], y[test]), 2))
    return float(np.mean(tests))
