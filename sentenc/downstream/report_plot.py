"""A report as pictures: what is taken for what, predicted against given scores, and how training went."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from sentenc.downstream.report import Report
from sentenc.figures import BLUE, GREEN, ORANGE, new_figure, save_figure

# Beyond this, numbers in cells cannot be read.
MAX_DRAWN = 20


def plot_confusion(report: Report, path: str | os.PathLike[str]) -> None:
    """Draws what each label was taken for: rows are labels, columns predictions.

    A cell's color is its share of the row, its number the count. Of more than 20 labels, the 20 that take
    part in most mistakes are drawn, and the title says so.

    Args:
        report: Of predictions of one label each.
        path: Image file; the suffix decides the format.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: The report has no confusion matrix.
    """
    if report.confusion is None:
        raise ValueError(f"the report is of kind {report.kind!r}, which has no confusion matrix")
    counts = report.confusion
    # What no example is or was taken for would be an empty cross.
    chosen = np.nonzero(counts.sum(axis=0) + counts.sum(axis=1))[0]
    title = ""
    if len(chosen) > MAX_DRAWN:
        wrong = counts - np.diag(np.diag(counts))
        mistakes = wrong.sum(axis=0) + wrong.sum(axis=1)
        drawn = np.sort(chosen[np.argsort(-mistakes[chosen], kind="stable")[:MAX_DRAWN]])
        title = f"the {MAX_DRAWN} most confused of {len(report.labels):,} labels"
        chosen = drawn
    support = np.maximum(counts.sum(axis=1)[chosen], 1)
    shown = counts[np.ix_(chosen, chosen)]
    names = [_short(report.labels[i].label) for i in chosen]
    size = 0.42 * len(names) + 0.07 * max(map(len, names)) + 2.0
    figure = _frame(max(size, 4.4), max(size - 0.6, 3.6))
    panel = figure.subplots()
    # By the root of the share: a few per cent of mistakes shall be seen beside what is right.
    image = panel.imshow(shown / support[:, None], cmap="Blues", norm=_root_norm())
    panel.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor", fontsize=9)
    panel.set_yticks(range(len(names)), names, fontsize=9)
    panel.set_xlabel("predicted")
    panel.set_ylabel("labeled")
    panel.set_title(title, loc="left", fontsize=9, color="#444444")
    for row, column in zip(*np.nonzero(shown), strict=True):
        dark = shown[row, column] / support[row] > 0.35
        panel.text(column, row, f"{shown[row, column]:,}", ha="center", va="center", fontsize=9,
                   color="white" if dark else "#222222")  # fmt: skip
    panel.tick_params(length=0)
    panel.spines[:].set_color("#cccccc")
    ticks = (0, 0.05, 0.25, 0.5, 1)
    bar = figure.colorbar(image, ax=panel, shrink=0.7, aspect=30, pad=0.02, ticks=ticks)
    bar.set_ticklabels([f"{tick:.0%}" for tick in ticks])
    bar.set_label("share of the label's examples", color="#444444", fontsize=9)
    bar.outline.set_visible(False)
    save_figure(figure, path)


def plot_label_scores(report: Report, path: str | os.PathLike[str]) -> None:
    """Draws precision and recall of each label; of more than 40 labels, the weakest.

    Args:
        report: Of predictions of labels.
        path: Image file; the suffix decides the format.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: The report has no labels.
    """
    most = 2 * MAX_DRAWN
    labels = sorted((one for one in report.labels if one.support), key=lambda one: (one.f1, -one.support))
    if not labels:
        raise ValueError("the report has no label with an example, nothing to draw")
    title = "" if len(labels) <= most else f"the {most} weakest of {len(labels):,} labels"
    labels = labels[:most]
    figure = _frame(7.0, 1.2 + 0.3 * len(labels))
    panel = figure.subplots()
    rows = range(len(labels))
    for row, one in zip(rows, labels, strict=True):
        panel.plot([one.precision, one.recall], [row, row], color="#bbbbbb", linewidth=1.5, zorder=1)
    for name, color, marker in (("precision", BLUE, "o"), ("recall", ORANGE, "s")):
        panel.scatter([getattr(one, name) for one in labels], rows, s=40, color=color, marker=marker,
                      edgecolors="white", linewidths=0.6, label=name, zorder=2)  # fmt: skip
    panel.set_yticks(rows, [f"{_short(one.label)} ({one.support:,})" for one in labels], fontsize=9)
    panel.set_ylim(len(labels) - 0.5, -0.5)
    panel.set_xlim(-0.02, 1.02)
    panel.set_title(title, loc="left", fontsize=9, color="#444444")
    panel.grid(axis="x", color="#e5e5e5")
    panel.set_axisbelow(True)
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.tick_params(axis="y", length=0)
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    save_figure(figure, path)


def plot_scores(report: Report, path: str | os.PathLike[str]) -> None:
    """Draws predicted scores against the labels.

    Args:
        report: Of predictions of scores.
        path: Image file; the suffix decides the format.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: The report is not of scores.
    """
    if report.true_scores is None:
        raise ValueError(f"the report is of kind {report.kind!r}, which has no scores")
    true, given = report.true_scores
    low, high = min(true.min(), given.min()), max(true.max(), given.max())
    figure = _frame(5.0, 5.0)
    panel = figure.subplots()
    panel.plot([low, high], [low, high], color="#bbbbbb", linewidth=1.2, zorder=1)
    # Where thousands lie on one another, faint dots show where most are.
    alpha = float(np.clip(200 / len(true), 0.08, 0.7))
    panel.scatter(true, given, s=16, color=BLUE, alpha=alpha, linewidths=0, zorder=2)
    panel.set_xlabel("labeled")
    panel.set_ylabel("predicted")
    panel.set_aspect("equal")
    panel.grid(color="#e5e5e5")
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def plot_history(rows: Sequence[dict[str, Any]], path: str | os.PathLike[str]) -> None:
    """Draws the losses of end-to-end tuning over its epochs, and the held-out score where there is one.

    Args:
        rows: ``history_`` of an estimator: ``epoch``, ``train_loss``, ``validation_loss`` and
            ``validation_score``, any but the first missing or None.
        path: Image file; the suffix decides the format.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: No row has a loss.
    """
    losses = (("train_loss", "training loss", BLUE), ("validation_loss", "held-out loss", ORANGE))
    curves = [(label, color, _points(rows, key)) for key, label, color in losses]
    if not any(points for _, _, points in curves):
        raise ValueError("the history has no row with a loss, nothing to draw")
    figure = _frame(7.0, 4.0)
    left = figure.subplots()
    for label, color, points in curves:
        if points:
            left.plot(*zip(*points, strict=True), color=color, marker="o", markersize=4, label=label)
    held_out = curves[1][2]
    if held_out:
        best = min(held_out, key=lambda point: point[1])
        left.scatter(*best, s=110, facecolors="none", edgecolors=ORANGE, label="kept", zorder=3)
    left.set_xlabel("epoch")
    left.set_ylabel("loss")
    left.xaxis.get_major_locator().set_params(integer=True)
    left.grid(color="#e5e5e5")
    left.spines[["top"]].set_visible(False)
    scores = _points(rows, "validation_score")
    if scores:
        right = left.twinx()
        right.plot(*zip(*scores, strict=True), color=GREEN, linestyle="--", marker="^", markersize=4,
                   label="held-out score")  # fmt: skip
        right.set_ylabel("held-out score", color=GREEN)
        right.tick_params(axis="y", colors=GREEN)
        right.spines[["top"]].set_visible(False)
    else:
        left.spines[["right"]].set_visible(False)
    figure.legend(loc="outside upper center", ncols=4, frameon=False)
    save_figure(figure, path)


def _points(rows: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    return [(row["epoch"], row[key]) for row in rows if row.get(key) is not None]


def _short(label: Any) -> str:
    name = "".join(c if c.isprintable() else " " for c in str(label))
    # A dollar would begin a formula.
    return (name if len(name) <= 28 else f"{name[:27]}…").replace("$", r"\$")


def _root_norm() -> Any:
    from matplotlib.colors import PowerNorm

    return PowerNorm(0.5, vmin=0.0, vmax=1.0)


def require_matplotlib() -> None:
    """Fails where a picture could not be drawn, for who has minutes of work before it.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    _frame(1.0, 1.0)


def _frame(width: float, height: float) -> Any:
    return new_figure(width, height, extra="downstream", feature="drawing a report")
