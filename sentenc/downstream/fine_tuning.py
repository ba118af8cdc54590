"""Tuning an encoder together with the head on top of it, on labeled texts or pairs."""

import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.downstream.fine_tuning_config import FineTuningConfig
from sentenc.downstream.head import LinearHead
from sentenc.downstream.head_solver import hits
from sentenc.downstream.trainable_encoder import Ids, Init, TrainableEncoder, tunable
from sentenc.encoders.base import Encoder
from sentenc.io.progress import progress_bar
from sentenc.solvers.losses import OutputKind

# After sentenc.downstream.trainable_encoder, which says so if torch is missing.
import torch  # isort: skip
from torch import Tensor, nn  # isort: skip

from sentenc.nn.seeding import seeded
from sentenc.training.engine.optimizer import clip_gradients
from sentenc.training.losses.l2_sp import L2SP

Matrix = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

_CLIP = 1.0
# Share of the steps over which the learning rates rise.
_WARMUP = 0.05
# Of the head: Adam's decoupled decay.
_HEAD_DECAY = 1e-2
# Batches whose examples are sorted by length together.
_POOL = 16
_VALIDATION_BATCH = 256


@dataclass(frozen=True)
class Tuned:
    """An encoder and its head after tuning.

    Attributes:
        encoder: In the form that encodes.
        head: On its vectors, or on features of pairs of them.
        history: For every epoch ``epoch``, ``train_loss``, ``validation_loss``, ``validation_score`` (the share that
            is right) and ``minutes``; epoch 0 is the head alone.
        best_epoch: The epoch that was kept.
        minutes: In all.
        stopped_by: "epochs", "patience" or "time".
    """

    encoder: Encoder
    head: LinearHead
    history: list[dict[str, Any]]
    best_epoch: int
    minutes: float
    stopped_by: str


def tune_end_to_end(
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
    head_start: LinearHead | None = None,
    show_progress_bar: bool = False,
) -> Tuned:
    """Trains encoder and head by Adam, and keeps the epoch with the lowest loss on the rows held out.

    The loss is the mean weighted cross-entropy, plus the pull towards the pretrained encoder. It starts from the head
    that fits the frozen encoder, so that what is kept is no worse than that on the rows held out (first the head, then
    all: Kumar et al., ICLR 2022).

    Args:
        encoder: Where it starts; not changed.
        columns: One column of n texts; or two, of pairs.
        targets: (n, K), see :func:`~sentenc.downstream.head_solver.fit_head`.
        kind: Of the head.
        config: How.
        init: "random" trains from random weights, without a pull.
        sample_weight: (n,).
        train_rows: Rows to train on.
        validation_rows: Rows held out; none, and all epochs are run and the last is kept.
        rng: Of order, dropout and random weights.
        head_start: The head to start with; zero by default.
        show_progress_bar: On standard error.

    Raises:
        ValueError: The encoder cannot be tuned, or no example to train on has a weight above 0.
        FloatingPointError: A loss is not finite.
    """
    started = time.monotonic()
    weights = (
        np.ones(len(targets), np.float32) if sample_weight is None else np.asarray(sample_weight, np.float32)
    )
    # What weighs nothing is left out, so that batches are as they would be without.
    train_rows, validation_rows = (rows[weights[rows] > 0] for rows in (train_rows, validation_rows))
    if not len(train_rows):
        raise ValueError("there are 0 examples of a weight above 0 to train on, expected at least one")
    # Modules are made, and dropout drawn, from torch's own generator.
    with seeded(int(rng.integers(2**31)), torch.device("cuda" if torch.cuda.is_available() else "cpu")):
        run = _Run(
            encoder, columns, targets, kind, config, init, weights, train_rows, validation_rows, rng, head_start
        )  # fmt: skip
        return run.train(rng, started, show_progress_bar)


class _Run:
    def __init__(
        self, encoder: Encoder, columns: Sequence[Sequence[str]], targets: Matrix, kind: OutputKind,
        config: FineTuningConfig, init: Init, weights: Matrix, rows: Rows, validation: Rows, rng: np.random.Generator,
        head_start: LinearHead | None,
    ) -> None:  # fmt: skip
        self.config, self.kind, self.rows, self.validation = config, kind, rows, validation
        self.steps = config.epochs * math.ceil(len(rows) / config.batch_size)
        # Tokens that only held-out texts have keep their rows (no gradient, no pull): they count when it is used too.
        every = np.concatenate([rows, validation])
        texts = list(dict.fromkeys(column[row] for column in columns for row in every))
        self.tunable: TrainableEncoder = tunable(
            encoder, texts, init=init, rng=rng, dropout=config.dropout, word_dropout=config.word_dropout
        )
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.ids: list[list[Ids]] = [self.tunable.prepare(column) for column in columns]
        self.targets = torch.from_numpy(np.asarray(targets, np.float32))
        self.weights = torch.from_numpy(np.asarray(weights / weights[rows].mean(), np.float32))
        self.head = _head(head_start, encoder.dim * len(columns), targets.shape[1])
        self.module = self.tunable.module.to(self.device)
        self.head.to(self.device)
        groups = self.tunable.groups()
        strengths = dict.fromkeys(groups, config.regularization) if init == "pretrained" else {}
        self.pull = L2SP(groups, strengths, to_zero=()).to(self.device)
        self.parameters = [p for group in groups.values() for p in group]
        self.optimizer = torch.optim.AdamW(
            [
                {"params": self.parameters, "peak": config.learning_rate, "weight_decay": 0.0},
                {
                    "params": list(self.head.parameters()),
                    "peak": config.head_learning_rate,
                    "weight_decay": _HEAD_DECAY,
                },
            ],
            lr=config.learning_rate,
            fused=True,
        )

    def train(self, rng: np.random.Generator, started: float, show_progress_bar: bool) -> Tuned:
        limit = math.inf if self.config.max_minutes is None else started + 60 * self.config.max_minutes
        history: list[dict[str, Any]] = []
        best: tuple[float, int, dict[str, Any]] = (math.inf, 0, {})
        stopped_by, step = "epochs", 0
        with progress_bar(self.steps, "tuning", show_progress_bar) as bar:
            for epoch in range(self.config.epochs + 1):
                losses = []
                for rows in self._batches(rng) if epoch else ():
                    if time.monotonic() > limit:
                        stopped_by = "time"
                        break
                    losses.append(self._update(rows, step))
                    step += 1
                    bar.update(1)
                if epoch and not losses:
                    # The time was over before the epoch began.
                    break
                row: dict[str, Any] = {
                    "epoch": epoch,
                    "train_loss": float(np.mean(losses)) if losses else None,
                }
                if len(self.validation):
                    row["validation_loss"], row["validation_score"] = self._validated(self.validation)
                row["minutes"] = round((time.monotonic() - started) / 60, 4)
                history.append(row)
                loss = row.get("validation_loss", -epoch)
                if loss < best[0]:
                    best = (loss, epoch, self._state())
                elif stopped_by == "epochs" and epoch - best[1] >= self.config.patience:
                    stopped_by = "patience"
                if stopped_by != "epochs":
                    break
        self._load(best[2])
        head = LinearHead(
            self.kind, *(p.detach().float().cpu().numpy().copy() for p in self.head.parameters())
        )
        minutes = (time.monotonic() - started) / 60
        return Tuned(self.tunable.finished(), head, history, best[1], minutes, stopped_by)

    def _update(self, rows: Rows, step: int) -> float:
        self.module.train()
        losses = self._losses(rows, self._scores(rows))
        loss = (losses * self.weights[rows].to(self.device)).mean()
        value = self._finite("the loss of a batch", float(loss.detach()))
        loss.backward()  # type: ignore[no-untyped-call]
        self.pull.add_gradients()
        norm = clip_gradients([*self.parameters, *self.head.parameters()], _CLIP)
        self._finite("the length of a gradient", norm)
        rate = min(1.0, (step + 1) / (_WARMUP * self.steps)) * (1 - step / self.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return value

    def _finite(self, what: str, value: float) -> float:
        if not math.isfinite(value):
            raise FloatingPointError(
                f"{what} is {value}, expected a finite number: try a lower learning_rate than "
                f"{self.config.learning_rate}"
            )
        return value

    def _losses(self, rows: Rows, scores: Tensor) -> Tensor:
        targets = self.targets[rows].to(self.device)
        if self.kind == "sigmoid":
            return nn.functional.binary_cross_entropy_with_logits(scores, targets, reduction="none").sum(1)
        return -(torch.log_softmax(scores, dim=1) * targets).sum(1)

    def _scores(self, rows: Rows) -> Tensor:
        # All texts of a batch at once, of whatever column.
        vectors = self.tunable.vectors([column[row] for column in self.ids for row in rows]).float()
        if len(self.ids) == 2:
            u, v = vectors.chunk(2)
            vectors = torch.cat([(u - v).abs(), u * v], dim=1)
        scores: Tensor = self.head(vectors)
        return scores

    @torch.no_grad()
    def _validated(self, rows: Rows) -> tuple[float, float]:
        self.module.eval()
        losses, right = 0.0, 0
        for start in range(0, len(rows), _VALIDATION_BATCH):
            some = rows[start : start + _VALIDATION_BATCH]
            scores = self._scores(some)
            losses += float((self._losses(some, scores) * self.weights[some].to(self.device)).sum())
            right += int(hits(scores.double().cpu().numpy(), self.targets[some].numpy(), self.kind).sum())
        loss = self._finite("the held-out loss", losses / float(self.weights[rows].sum()))
        return loss, right / len(rows)

    def _batches(self, rng: np.random.Generator) -> Iterator[Rows]:
        # Of similar length, so that little is padded; in an order of their own every epoch.
        size = self.config.batch_size
        order = rng.permutation(self.rows)
        lengths = np.array([max(len(column[row]) for column in self.ids) for row in order])
        found: list[Rows] = []
        for start in range(0, len(order), size * _POOL):
            pool = order[start : start + size * _POOL]
            pool = pool[np.argsort(lengths[start : start + size * _POOL], kind="stable")]
            found += [pool[i : i + size] for i in range(0, len(pool), size)]
        return (found[i] for i in rng.permutation(len(found)))

    def _state(self) -> dict[str, Any]:
        modules = {"encoder": self.module, "head": self.head}
        return {
            name: {key: value.detach().cpu().clone() for key, value in module.state_dict().items()}
            for name, module in modules.items()
        }

    def _load(self, state: dict[str, Any]) -> None:
        self.module.load_state_dict(state["encoder"])
        self.head.load_state_dict(state["head"])


def _head(start: LinearHead | None, dim: int, n_outputs: int) -> nn.Linear:
    head = nn.Linear(dim, n_outputs)
    with torch.no_grad():
        head.weight.zero_() if start is None else head.weight.copy_(torch.from_numpy(start.weights))
        head.bias.zero_() if start is None else head.bias.copy_(torch.from_numpy(start.bias))
    return head
