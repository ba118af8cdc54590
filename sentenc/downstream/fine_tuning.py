"""Fine-tunes an encoder together with the head on top of it, on labeled texts or pairs.

The loop is not the :class:`~sentenc.training.engine.trainer.Trainer` of pretraining, which needs a folder for
its resumable state and has no patience. It shares the engine's optimizer, schedule, clipping and penalty.
"""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.downstream.fine_tuning_config import FineTuningConfig
from sentenc.downstream.head import LinearHead
from sentenc.downstream.head_solver import hits
from sentenc.downstream.trainable_encoder import Init, TrainableEncoder, make_trainable
from sentenc.encoders.base import Encoder
from sentenc.io.progress import Bar, progress_bar
from sentenc.solvers.losses import OutputKind

# Imported after sentenc.downstream.trainable_encoder, which reports a missing torch.
import torch  # isort: skip
from torch import Tensor, nn  # isort: skip

from sentenc.nn.seeding import seeded
from sentenc.training.config.trainer import TrainerConfig
from sentenc.training.engine.optimizer import Optimizer, clip_gradients
from sentenc.training.losses.l2_sp import L2SP

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]
TokenIds = npt.NDArray[np.int64]

# Share of the steps over which the learning rates rise.
_WARMUP = 0.05
# Decoupled weight decay of the head; the encoder has L2-SP instead.
_HEAD_DECAY = 1e-2
# Batches whose examples are sorted by length together.
_BATCHES_PER_POOL = 16
_VALIDATION_BATCH_SIZE = 256
_TEXTS_PER_TOKENIZATION = 1024


@dataclass(frozen=True)
class FineTuned:
    """A fine-tuned encoder and its head.

    Attributes:
        encoder: The encoder.
        head: The head on its vectors, or on the features of pairs of vectors.
        history: For every epoch ``epoch``, ``train_loss``, ``validation_loss``, ``validation_score`` (the
            accuracy) and ``minutes``. Epoch 0 is the initial head on the unchanged encoder.
        best_epoch: The epoch whose weights were kept.
        minutes: Training time.
        stopped_by: "epochs", "patience" or "time".
    """

    encoder: Encoder
    head: LinearHead
    history: list[dict[str, Any]]
    best_epoch: int
    minutes: float
    stopped_by: str


def fine_tune(
    encoder: Encoder,
    columns: Sequence[Sequence[str]],
    targets: Matrix,
    kind: OutputKind,
    *,
    config: FineTuningConfig,
    init: Init = "pretrained",
    sample_weight: Matrix | None = None,
    train_rows: Rows,
    validation_rows: Rows,
    rng: np.random.Generator,
    initial_head: LinearHead | None = None,
    show_progress_bar: bool = False,
) -> FineTuned:
    """Trains encoder and head by AdamW, and keeps the epoch with the lowest validation loss.

    The loss is the mean weighted cross-entropy plus the L2-SP penalty on the encoder. If training starts from
    the best head on the frozen encoder, the result is no worse than that head on the validation split (Kumar
    et al., ICLR 2022).

    Args:
        encoder: The encoder to start from; not modified.
        columns: One column of n texts, or two columns for pairs.
        targets: (n, K), see :func:`~sentenc.downstream.head_solver.fit_head`.
        kind: "softmax" or "sigmoid".
        config: The configuration.
        init: "random" starts from random encoder weights, without a penalty.
        sample_weight: (n,) weights.
        train_rows: The training rows.
        validation_rows: The validation rows. If there are none, all epochs are run and the last one is kept.
        rng: Source of the order of examples, of dropout, and of random weights.
        initial_head: The head to start from; zero by default.
        show_progress_bar: Whether to draw a progress bar on standard error.

    Raises:
        ValueError: The encoder cannot be fine-tuned, or no training example has a weight above 0.
        FloatingPointError: A loss or a gradient is not finite.
    """
    started = time.monotonic()
    weights = np.asarray(np.ones(len(targets)) if sample_weight is None else sample_weight, np.float32)
    # Examples without weight are removed, so that the batches are the same as if they had not been passed.
    train_rows, validation_rows = (rows[weights[rows] > 0] for rows in (train_rows, validation_rows))
    if not len(train_rows):
        raise ValueError("got 0 training examples with a weight above 0, expected at least one")
    # Tokens of validation texts are included: their rows do not change, and the finished encoder has them.
    used_rows = np.concatenate([train_rows, validation_rows])
    texts = list(dict.fromkeys(column[row] for column in columns for row in used_rows))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    # New modules and dropout draw from torch's global generators.
    with seeded(int(rng.integers(2**31)), device):
        student = make_trainable(
            encoder, texts, init=init, rng=rng, dropout=config.dropout, word_dropout=config.word_dropout
        )
        examples = _examples(student, columns, targets, weights / weights[train_rows].mean(), device)
        head = _torch_head(initial_head, encoder.dim * len(columns), targets.shape[1])
        classifier = _Classifier(student, head, kind).to(device)
        run = _FineTuning(classifier, examples, config, is_penalized=init == "pretrained")
        return run.train(train_rows, validation_rows, rng, started, show_progress_bar)


@dataclass(frozen=True, eq=False)
class _Examples:
    # The token ids of every text by column, targets (n, K), and weights (n,) with a mean of 1 over the
    # training rows.
    columns: list[list[TokenIds]]
    targets: Tensor
    weights: Tensor

    def lengths(self, rows: Rows) -> npt.NDArray[np.int64]:
        # The number of tokens of the longest text of each example.
        return np.array([max(len(column[row]) for column in self.columns) for row in rows])


class _Classifier(nn.Module):
    def __init__(self, student: TrainableEncoder, head: nn.Linear, kind: OutputKind) -> None:
        super().__init__()
        self.student, self.head, self.kind = student, head, kind

    def forward(self, examples: _Examples, rows: Rows) -> Tensor:
        # The scores (B, K) of some examples. All texts of a batch are encoded together, whatever their
        # column.
        device = self.head.weight.device
        ids, lengths = _padded([column[row] for column in examples.columns for row in rows])
        vectors = self.student(ids.to(device), lengths.to(device)).float()
        if len(examples.columns) == 2:
            u, v = vectors.chunk(2)
            vectors = torch.cat([(u - v).abs(), u * v], dim=1)
        scores: Tensor = self.head(vectors)
        return scores

    def losses(self, scores: Tensor, targets: Tensor) -> Tensor:
        # The cross-entropy (B,) of each example.
        if self.kind == "sigmoid":
            return nn.functional.binary_cross_entropy_with_logits(scores, targets, reduction="none").sum(1)
        return -(torch.log_softmax(scores, dim=1) * targets).sum(1)

    def linear_head(self) -> LinearHead:
        # A copy of the head, without torch.
        return LinearHead(
            self.kind, *(p.detach().float().cpu().numpy().copy() for p in self.head.parameters())
        )


@dataclass
class _Best:
    # The epoch with the lowest validation loss, and its weights.
    loss: float = math.inf
    epoch: int = 0
    weights: dict[str, Tensor] = field(default_factory=dict)


class _FineTuning:
    def __init__(
        self, classifier: _Classifier, examples: _Examples, config: FineTuningConfig, is_penalized: bool
    ) -> None:
        self.classifier, self.examples, self.config = classifier, examples, config
        groups = classifier.student.groups()
        strengths = dict.fromkeys(groups, config.regularization) if is_penalized else {}
        self.penalty = L2SP(groups, strengths, to_zero=()).to(classifier.head.weight.device)
        self.groups = groups | {"head": list(classifier.head.parameters())}
        self.parameters = [parameter for group in self.groups.values() for parameter in group]

    def train(
        self,
        train_rows: Rows,
        validation_rows: Rows,
        rng: np.random.Generator,
        started: float,
        show_progress_bar: bool,
    ) -> FineTuned:
        config = self.config
        n_steps = config.epochs * math.ceil(len(train_rows) / config.batch_size)
        self._start_schedule(n_steps)
        limit = math.inf if config.max_minutes is None else started + 60 * config.max_minutes
        history: list[dict[str, Any]] = []
        best, stopped_by = _Best(), "epochs"
        with progress_bar(n_steps, "fine-tuning", show_progress_bar) as bar:
            for epoch in range(config.epochs + 1):
                # Epoch 0 is the initial state.
                losses, timed_out = self._epoch(train_rows, rng, limit, bar) if epoch else ([], False)
                if timed_out:
                    stopped_by = "time"
                if epoch and not losses:
                    break
                entry: dict[str, Any] = {
                    "epoch": epoch,
                    "train_loss": float(np.mean(losses)) if losses else None,
                }
                if len(validation_rows):
                    entry["validation_loss"], entry["validation_score"] = self._validate(validation_rows)
                entry["minutes"] = round((time.monotonic() - started) / 60, 4)
                history.append(entry)
                # Without a validation loss, the last epoch is the best.
                loss = entry.get("validation_loss", -epoch)
                if loss < best.loss:
                    best = _Best(loss, epoch, self._weights())
                elif stopped_by == "epochs" and epoch - best.epoch >= config.patience:
                    stopped_by = "patience"
                if stopped_by != "epochs":
                    break
        self.classifier.load_state_dict(best.weights)
        head, minutes = self.classifier.linear_head(), (time.monotonic() - started) / 60
        return FineTuned(self.classifier.student.finished(), head, history, best.epoch, minutes, stopped_by)

    def _start_schedule(self, n_steps: int) -> None:
        self.schedule = TrainerConfig(
            steps=n_steps,
            learning_rate=self.config.learning_rate,
            learning_rates={"head": self.config.head_learning_rate},
            warmup=round(_WARMUP * n_steps),
            schedule="linear",
        )
        self.optimizer = Optimizer(self.groups, [], self.schedule, weight_decays={"head": _HEAD_DECAY})
        self.step = 0

    def _epoch(
        self, train_rows: Rows, rng: np.random.Generator, limit: float, bar: Bar
    ) -> tuple[list[float], bool]:
        # The losses of an epoch's batches, and whether the time limit ended the epoch.
        losses: list[float] = []
        for rows in self._batches(train_rows, rng):
            if time.monotonic() > limit:
                return losses, True
            losses.append(self._update(rows))
            bar.update(1)
        return losses, False

    def _update(self, rows: Rows) -> float:
        self.classifier.train()
        scores = self.classifier(self.examples, rows)
        losses = self.classifier.losses(scores, self.examples.targets[rows])
        loss = (losses * self.examples.weights[rows]).mean()
        value = self._finite("the loss of a batch", float(loss.detach()))
        loss.backward()  # type: ignore[no-untyped-call]
        self.penalty.add_gradients()
        self._finite("the norm of a gradient", clip_gradients(self.parameters, self.schedule.clip))
        self.optimizer.step(self.schedule.rate(self.step, self.step / self.schedule.steps))
        self.step += 1
        return value

    def _finite(self, what: str, value: float) -> float:
        if not math.isfinite(value):
            raise FloatingPointError(
                f"{what} is {value}, expected a finite number: try a learning_rate below "
                f"{self.config.learning_rate}"
            )
        return value

    @torch.no_grad()
    def _validate(self, rows: Rows) -> tuple[float, float]:
        # The weighted mean loss, and the accuracy.
        self.classifier.eval()
        targets, weights = self.examples.targets, self.examples.weights
        total, n_right = 0.0, 0
        for start in range(0, len(rows), _VALIDATION_BATCH_SIZE):
            batch = rows[start : start + _VALIDATION_BATCH_SIZE]
            scores = self.classifier(self.examples, batch)
            total += float((self.classifier.losses(scores, targets[batch]) * weights[batch]).sum())
            is_right = hits(scores.double().cpu().numpy(), targets[batch].cpu().numpy(), self.classifier.kind)
            n_right += int(is_right.sum())
        loss = self._finite("the validation loss", total / float(weights[rows].sum()))
        return loss, n_right / len(rows)

    def _batches(self, train_rows: Rows, rng: np.random.Generator) -> Iterator[Rows]:
        # Batches of texts of similar length, so that there is little padding, in a new order every epoch.
        size = self.config.batch_size
        order = rng.permutation(train_rows)
        lengths = self.examples.lengths(order)
        batches: list[Rows] = []
        for start in range(0, len(order), size * _BATCHES_PER_POOL):
            pool = order[start : start + size * _BATCHES_PER_POOL]
            pool = pool[np.argsort(lengths[start : start + size * _BATCHES_PER_POOL], kind="stable")]
            batches += [pool[i : i + size] for i in range(0, len(pool), size)]
        return (batches[i] for i in rng.permutation(len(batches)))

    def _weights(self) -> dict[str, Tensor]:
        return {key: value.detach().cpu().clone() for key, value in self.classifier.state_dict().items()}


def _examples(
    student: TrainableEncoder,
    columns: Sequence[Sequence[str]],
    targets: Matrix,
    weights: Matrix,
    device: torch.device,
) -> _Examples:
    return _Examples(
        [_tokenize(student, column) for column in columns],
        torch.from_numpy(np.asarray(targets, np.float32)).to(device),
        torch.from_numpy(np.asarray(weights, np.float32)).to(device),
    )


def _tokenize(student: TrainableEncoder, texts: Sequence[str]) -> list[TokenIds]:
    token_ids: list[TokenIds] = []
    for start in range(0, len(texts), _TEXTS_PER_TOKENIZATION):
        ids, lengths = student.tokenize(list(texts[start : start + _TEXTS_PER_TOKENIZATION]))
        # Copies, because a slice would keep the whole padded table in memory.
        token_ids += [row[:length].numpy().copy() for row, length in zip(ids, lengths.tolist(), strict=True)]
    return token_ids


def _padded(token_ids: Sequence[TokenIds]) -> tuple[Tensor, Tensor]:
    lengths = np.array([len(ids) for ids in token_ids], np.int64)
    table = np.zeros((len(token_ids), max(1, int(lengths.max(initial=0)))), np.int64)
    if lengths.any():
        table[np.arange(table.shape[1]) < lengths[:, None]] = np.concatenate(token_ids)
    return torch.from_numpy(table), torch.from_numpy(lengths)


def _torch_head(initial: LinearHead | None, dim: int, n_outputs: int) -> nn.Linear:
    head = nn.Linear(dim, n_outputs)
    with torch.no_grad():
        head.weight.zero_() if initial is None else head.weight.copy_(torch.from_numpy(initial.weights))
        head.bias.zero_() if initial is None else head.bias.copy_(torch.from_numpy(initial.bias))
    return head
