"""What a training run tells: a log as JSON lines, a bar, and a picture of the curve."""

import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from sentenc.figures import BLACK, BLUE, GREEN, ORANGE, PINK, SKY, YELLOW, new_figure, save_figure
from sentenc.io.atomic import replacing_file

_COLOURS = (BLUE, GREEN, PINK, YELLOW, SKY, BLACK)
_DEV_COLOUR = ORANGE
# Parts of the bar: it shows progress, which goes by time where there is a limit.
_PARTS = 10_000


class TrainingLog:
    """Rows of JSON in a file.

    Args:
        path: The file; made with its folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, row: dict[str, Any]) -> None:
        """Appends a row."""
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def cut(self, step: int) -> None:
        """Drops the rows after a step: those that a run wrote after the state it now goes on from."""
        if not self.path.exists():
            return
        rows = [row for row in read_log(self.path) if row["step"] <= step]
        with replacing_file(self.path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_log(path: Path) -> list[dict[str, Any]]:
    """The rows of a log; what a killed process left unfinished at the end is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


@dataclass
class LossWindow:
    """Sums over the steps since the last row of the log.

    Attributes:
        since: Seconds of training when it was opened.
        steps: Updates in it.
        examples: Examples in it.
        total: Sum of the weighted losses.
        losses: Sums of the losses by task.
        norm: Sum of the norms of the gradient, before clipping.
        last: The last weighted loss.
        epoch: Of the last batch.
    """

    since: float = 0.0
    steps: int = 0
    examples: int = 0
    total: float = 0.0
    losses: dict[str, float] = field(default_factory=dict)
    norm: float = 0.0
    last: float = math.nan
    epoch: int = 0

    def add(self, total: float, losses: dict[str, float], norm: float, examples: int, epoch: int) -> None:
        """Counts an update."""
        self.steps += 1
        self.examples += examples
        self.total += total
        for name, loss in losses.items():
            self.losses[name] = self.losses.get(name, 0.0) + loss
        self.norm += norm
        self.last, self.epoch = total, epoch

    def row(self, seconds: float) -> dict[str, Any]:
        """Means, for the log; nothing of a window without updates."""
        if not self.steps:
            return {}
        return {
            "epoch": self.epoch,
            "loss": self.total / self.steps,
            "losses": {name: total / self.steps for name, total in self.losses.items()},
            "gradient_norm": self.norm / self.steps,
            "examples_per_second": round(self.examples / max(seconds - self.since, 1e-9), 1),
        }


class TrainingBar(Protocol):
    """Where a run reports how far it is."""

    def show(self, progress: float, loss: float) -> None:
        """Moves the bar to a share of the training, 0 to 1."""


class _NoBar:
    def show(self, progress: float, loss: float) -> None:
        """Does nothing."""


class _Bar:
    def __init__(self, bar: Any) -> None:
        self._bar, self._place = bar, 0

    def show(self, progress: float, loss: float) -> None:
        place = int(progress * _PARTS)
        if place > self._place:
            self._bar.update(place - self._place, loss)
            self._place = place


@contextmanager
def training_bar(show: bool) -> Iterator[TrainingBar]:
    """A bar with the time left and the loss, on a terminal; one that does nothing elsewhere."""
    if not show or not sys.stderr.isatty():
        yield _NoBar()
        return
    import click

    def loss_of(loss: float | None) -> str:
        return "" if loss is None else f"loss {loss:.4f}"

    with click.progressbar(
        length=_PARTS, label="training", file=sys.stderr, item_show_func=loss_of, show_percent=True
    ) as bar:
        yield _Bar(bar)


def plot_curve(rows: Sequence[dict[str, Any]], path: str | os.PathLike[str]) -> None:
    """Draws losses, and dev scores where there are any, over steps.

    Args:
        rows: Those of a log.
        path: Image file; the suffix decides the format.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: No row has a loss.
    """
    losses = [row for row in rows if row.get("losses")]
    scores = [row for row in rows if row.get("dev") is not None]
    if not losses:
        raise ValueError("the log has no row with a loss, nothing to draw")
    figure = new_figure(8.0, 4.2, extra="eval", feature="drawing the training curve")
    left = figure.subplots()
    for index, name in enumerate(losses[0]["losses"]):
        points = [(row["step"], row["losses"][name]) for row in losses if name in row["losses"]]
        left.plot(*zip(*points, strict=True), color=_COLOURS[index % len(_COLOURS)], label=f"loss: {name}")
    left.set_xlabel("step")
    left.set_ylabel("loss")
    left.grid(color="#e5e5e5")
    left.spines[["top"]].set_visible(False)
    handles, labels = left.get_legend_handles_labels()
    if scores:
        right = left.twinx()
        points = [(row["step"], row["dev"]) for row in scores]
        right.plot(*zip(*points, strict=True), color=_DEV_COLOUR, marker="o", markersize=4, label="dev score")
        right.set_ylabel("dev score", color=_DEV_COLOUR)
        right.tick_params(axis="y", colors=_DEV_COLOUR)
        right.spines[["top"]].set_visible(False)
        more = right.get_legend_handles_labels()
        handles, labels = handles + more[0], labels + more[1]
    else:
        left.spines[["right"]].set_visible(False)
    figure.legend(handles, labels, loc="outside upper center", ncols=min(3, len(labels)), frameon=False)
    save_figure(figure, path)
