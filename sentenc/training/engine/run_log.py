"""Training logs: JSON lines, a progress bar and a plot of the learning curves."""

import json
import math
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any, Protocol

from sentenc.errors import MissingExtraError
from sentenc.figures import BLACK, BLUE, GREEN, ORANGE, PINK, SKY, YELLOW, new_figure, save_figure
from sentenc.io.atomic import replacing_file
from sentenc.io.disk_full import naming_full_disk

_LOSS_COLORS = (BLUE, GREEN, PINK, YELLOW, SKY, BLACK)
_DEV_COLOR = ORANGE
# The line styles of the parts of a dev score.
_PART_STYLES = ("--", ":", "-.")
# Steps of the progress bar. It shows the share of the training that is over, which depends on time if that is
# limited.
_BAR_STEPS = 10_000


class RunLog:
    """The log of a training run: a file of JSON lines.

    Args:
        path: The file. It and its folder are created if necessary.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)

    def add(self, row: dict[str, Any]) -> None:
        """Appends a row to the file."""
        with naming_full_disk(self.path), open(self.path, "a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def truncate(self, step: int) -> None:
        """Removes the rows after a step, which are newer than the state that the run resumes from."""
        if not self.path.exists():
            return
        rows = [row for row in read_log(self.path) if row["step"] <= step]
        with replacing_file(self.path) as temporary:
            temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def read_log(path: Path) -> list[dict[str, Any]]:
    """Returns the rows of a log. A line that a killed process left unfinished is skipped."""
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


@dataclass
class LossWindow:
    """Accumulates losses over the steps since the last row of the log.

    Attributes:
        since: Seconds of training before the window's first step.
        steps: Number of updates.
        examples: Number of examples.
        total: Sum of the weighted losses.
        losses: Sum of each loss term, by name.
        norm: Sum of the gradient norms before clipping.
        last: Weighted loss of the last update.
        epoch: Epoch of the last batch.
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
        """Adds an update."""
        self.steps += 1
        self.examples += examples
        self.total += total
        for name, loss in losses.items():
            self.losses[name] = self.losses.get(name, 0.0) + loss
        self.norm += norm
        self.last, self.epoch = total, epoch

    def row(self, seconds: float) -> dict[str, Any]:
        """Returns the means over the window as a row of the log; an empty row if there were no updates."""
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
    """Displays the progress of a run."""

    def show(self, progress: float, text: str) -> None:
        """Moves the bar to a share of the training, from 0 to 1, and writes a text after it."""


class _NoBar:
    def show(self, progress: float, text: str) -> None:
        """Does nothing."""


class _Bar:
    def __init__(self, bar: Any) -> None:
        self._bar, self._place = bar, 0

    def show(self, progress: float, text: str) -> None:
        place = int(progress * _BAR_STEPS)
        if place > self._place:
            self._bar.update(place - self._place, text)
            self._place = place


@contextmanager
def training_bar(show: bool) -> Iterator[TrainingBar]:
    """Draws a bar with remaining time, loss and dev scores on a terminal, and nothing elsewhere."""
    if not show or not sys.stderr.isatty():
        yield _NoBar()
        return
    import click

    with click.progressbar(
        length=_BAR_STEPS,
        label="training",
        file=sys.stderr,
        item_show_func=lambda text: text,
        show_percent=True,
    ) as bar:
        yield _Bar(bar)


def draw_curves(log: Path, folder: Path) -> None:
    """Plots a log as ``curve.png`` and ``curve.svg`` in a folder. Without matplotlib, prints a note instead.

    A log without losses is not plotted.
    """
    rows = read_log(log)
    if not any(row.get("losses") for row in rows):
        return
    try:
        for suffix in ("png", "svg"):
            plot_curve(rows, folder / f"curve.{suffix}")
    except MissingExtraError as error:
        print(f"no learning curve: {error}", file=sys.stderr)


def plot_curve(rows: Sequence[dict[str, Any]], path: str | os.PathLike[str]) -> None:
    """Plots losses, and dev scores if there are any, over the steps.

    Args:
        rows: The rows of a log.
        path: Image file; its suffix selects the format.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: No row has a loss.
    """
    losses = [row for row in rows if row.get("losses")]
    scores = [row for row in rows if row.get("dev") is not None]
    if not losses:
        raise ValueError("the log has no row with a loss, expected at least one")
    figure = new_figure(8.0, 4.2, extra="eval", feature="drawing the training curve")
    left = figure.subplots()
    for index, name in enumerate(losses[0]["losses"]):
        points = [(row["step"], row["losses"][name]) for row in losses if name in row["losses"]]
        left.plot(
            *zip(*points, strict=True), color=_LOSS_COLORS[index % len(_LOSS_COLORS)], label=f"loss: {name}"
        )
    left.set_xlabel("step")
    left.set_ylabel("loss")
    left.grid(color="#e5e5e5")
    left.spines[["top"]].set_visible(False)
    handles, labels = left.get_legend_handles_labels()
    if scores:
        right = left.twinx()
        points = [(row["step"], row["dev"]) for row in scores]
        right.plot(*zip(*points, strict=True), color=_DEV_COLOR, marker="o", markersize=4, label="dev score")
        parts = dict.fromkeys(name for row in scores for name in row.get("dev_scores", {}))
        for name, style in zip(parts, cycle(_PART_STYLES), strict=False):
            points = [(row["step"], row["dev_scores"][name]) for row in scores if name in row["dev_scores"]]
            right.plot(*zip(*points, strict=True), color=_DEV_COLOR, linestyle=style, label=f"dev: {name}")
        right.set_ylabel("dev score", color=_DEV_COLOR)
        right.tick_params(axis="y", colors=_DEV_COLOR)
        right.spines[["top"]].set_visible(False)
        more = right.get_legend_handles_labels()
        handles, labels = handles + more[0], labels + more[1]
    else:
        left.spines[["right"]].set_visible(False)
    figure.legend(handles, labels, loc="outside upper center", ncols=min(3, len(labels)), frameon=False)
    save_figure(figure, path)
