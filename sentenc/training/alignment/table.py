"""Fits a row for each token and a constant, so that their sum has the direction of a given vector.

The model of a text is e = sum_i x_i + c, and the loss 1 - cos(e, y) for the vector y of the teacher. A cosine
ignores the length of e, so the same direction is u + c / n: the mean of the rows and the bias of a
:class:`~sentenc.CSE`. The constant takes the mean of the teacher's vectors. Without it, each row would have to
contain a part of that mean, and a long text would have more of it than a short one.

Rows are trained by Adam (Kingma and Ba, 2015), which updates only those of a batch's tokens.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sentenc.io.progress import progress_bar
from sentenc.training.alignment.settings import AlignmentSettings
from sentenc.training.alignment.tokens import FloatArray, Rows, TokenizedTexts

#: The number of rounds and the batch size by default.
ROUNDS, BATCH_SIZE = 6, 256
_DECAY, _SQUARE_DECAY, _EPSILON = 0.9, 0.999, 1e-8
# The number of texts by which a mean is drawn to 0: rows of tokens that occur once are half of their text.
_PRIOR_TEXTS = 1.0


class Table(NamedTuple):
    """The fitted weights.

    Attributes:
        rows: (V, d) float32.
        constant: (d,) float32.
    """

    rows: FloatArray
    constant: FloatArray

    def with_constant(self, part: float) -> "Table":
        """Returns the table with a part of its constant."""
        return Table(self.rows, self.constant * np.float32(part))


def initial_table(texts: TokenizedTexts, targets: npt.NDArray[np.floating], batch_size: int) -> Table:
    """Returns the mean of all targets as constant, and as rows the mean deviations of each token's texts.

    Args:
        texts: n texts.
        targets: The vectors of the teacher, (n, d).
        batch_size: The number of texts that are added at a time.
    """
    constant = targets.mean(axis=0, dtype=np.float64).astype(np.float32)
    sums = np.zeros((texts.vocab_size, targets.shape[1]), np.float32)
    totals = np.full(texts.vocab_size, _PRIOR_TEXTS, np.float32)
    for start in range(0, len(texts), batch_size):
        rows = np.arange(start, min(start + batch_size, len(texts)))
        tokens, counts = texts.batch(rows)
        sums[tokens] += counts.T @ (targets[rows] - constant)
        totals[tokens] += counts.sum(axis=0)
    sums /= totals[:, None]
    return Table(sums, constant)


def fit_table(
    texts: TokenizedTexts,
    targets: npt.NDArray[np.floating],
    settings: AlignmentSettings,
    *,
    show_progress_bar: bool = False,
) -> Table:
    """Fits rows and a constant to vectors.

    Args:
        texts: n texts. Those without a token are left out.
        targets: The vectors of the teacher at unit length, (n, d).
        settings: Rounds, batch size, learning rate and seed.
        show_progress_bar: Draw a bar on standard error.

    Raises:
        ValueError: No text has a token.
    """
    usable = np.flatnonzero(texts.lengths > 0)
    if not len(usable):
        raise ValueError(f"none of {len(texts)} texts has a token of the vocabulary, expected at least one")
    n_rounds, batch_size = settings.rounds or ROUNDS, settings.batch_size or BATCH_SIZE
    table = initial_table(texts, targets, batch_size)
    rows, constant = _Adam(table.rows), _Adam(table.constant[None])
    rng = np.random.default_rng(settings.seed)
    # The last, smaller batch of a round is left out, unless it is the only one: Adam gives it equal weight.
    per_round = max(1, len(usable) // batch_size)
    n_steps = n_rounds * per_round
    with progress_bar(n_steps, "fitting", show_progress_bar) as bar:
        for _ in range(n_rounds):
            order = rng.permutation(usable)
            for batch in np.array_split(order[: per_round * batch_size], per_round):
                rate = settings.learning_rate * (1 - rows.n_steps / n_steps)
                _step(texts, targets, np.sort(batch), rows, constant, rate)
                bar.update(1)
    return Table(rows.values, constant.values[0])


def _step(
    texts: TokenizedTexts,
    targets: npt.NDArray[np.floating],
    batch: Rows,
    rows: "_Adam",
    constant: "_Adam",
    rate: float,
) -> None:
    tokens, counts = texts.batch(batch)
    wanted = targets[batch].astype(np.float32, copy=False)
    vectors = counts @ rows.values[tokens] + constant.values
    norms = np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-6)
    vectors /= norms
    cosines = np.einsum("nd,nd->n", vectors, wanted)[:, None]
    # The gradient of 1 - cos(e, y) with regard to e, of the mean over the batch.
    gradient = (cosines * vectors - wanted) / (norms * np.float32(len(batch)))
    rows.update(tokens, counts.T @ gradient, rate)
    constant.update(np.zeros(1, np.int64), gradient.sum(axis=0, keepdims=True), rate)


class _Adam:
    # Values (n, d) with their moments. An update changes only the rows that have a gradient.

    def __init__(self, values: FloatArray) -> None:
        self.values = values.copy()
        self.n_steps = 0
        self._mean, self._square = np.zeros_like(values), np.zeros_like(values)

    def update(self, rows: Rows, gradient: FloatArray, rate: float) -> None:
        self.n_steps += 1
        mean = self._mean[rows]
        mean += np.float32(1 - _DECAY) * (gradient - mean)
        square = self._square[rows]
        square += np.float32(1 - _SQUARE_DECAY) * (gradient * gradient - square)
        self._mean[rows], self._square[rows] = mean, square
        # The corrections for moments that began with zero.
        scale = rate * (1 - _SQUARE_DECAY**self.n_steps) ** 0.5 / (1 - _DECAY**self.n_steps)
        np.sqrt(square, out=square)
        square += np.float32(_EPSILON)
        mean /= square
        mean *= np.float32(scale)
        self.values[rows] -= mean
