"""Draws reports: confusion matrix, precision and recall by label, predicted scores, and loss curves."""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np

from sentenc.downstream.report import Report
from sentenc.figures import BLUE, GREEN, ORANGE, new_figure, save_figure

# Maximum number of labels in a confusion matrix. In a larger one, the numbers in the cells cannot be read.
MAX_DRAWN = 20


def plot_confusion(report: Report, path: str | os.PathLike[str]) -> None:
    """Draws the confusion matrix: rows are labels, columns are predictions.

    The number in a cell is its count, and its color the share of the row. Of more than 20 labels, only the 20
    with the most mistakes are drawn, with a note in the title.

    Args:
        report: A report with one label per example.
        path: Image file; its suffix determines the format.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: The report has no confusion matrix.
    """
    if report.confusion is None:
        raise ValueError(
            f"the report is of kind {report.kind!r}, expected 'single', which has a confusion matrix"
        )
    counts = report.confusion
    # A label that neither occurs nor was predicted would be an empty row and an empty column.
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
    # The color scale is the root of the share, so that a few percent of mistakes are visible.
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
    """Draws the precision and the recall of each label; of more than 40 labels, the weakest 40.

    Args:
        report: A report with labels.
        path: Image file; its suffix determines the format.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: The report has no labels.
    """
    limit = 2 * MAX_DRAWN
    labels = sorted(
        (label for label in report.labels if label.support), key=lambda label: (label.f1, -label.support)
    )
    if not labels:
        raise ValueError("the report has no label with an example")
    title = "" if len(labels) <= limit else f"the {limit} weakest of {len(labels):,} labels"
    labels = labels[:limit]
    figure = _frame(7.0, 1.2 + 0.3 * len(labels))
    panel = figure.subplots()
    rows = range(len(labels))
    for row, label in zip(rows, labels, strict=True):
        panel.plot([label.precision, label.recall], [row, row], color="#bbbbbb", linewidth=1.5, zorder=1)
    for name, color, marker in (("precision", BLUE, "o"), ("recall", ORANGE, "s")):
        panel.scatter([getattr(label, name) for label in labels], rows, s=40, color=color, marker=marker,
                      edgecolors="white", linewidths=0.6, label=name, zorder=2)  # fmt: skip
    panel.set_yticks(rows, [f"{_short(label.label)} ({label.support:,})" for label in labels], fontsize=9)
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
    """Draws predicted scores against true scores.

    Args:
        report: A report of scores.
        path: Image file; its suffix determines the format.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: The report is of another kind.
    """
    if report.true_scores is None:
        raise ValueError(f"the report is of kind {report.kind!r}, expected 'score'")
    true, predicted = report.true_scores
    low, high = min(true.min(), predicted.min()), max(true.max(), predicted.max())
    figure = _frame(5.0, 5.0)
    panel = figure.subplots()
    panel.plot([low, high], [low, high], color="#bbbbbb", linewidth=1.2, zorder=1)
    # Faint dots show the density where thousands overlap.
    alpha = float(np.clip(200 / len(true), 0.08, 0.7))
    panel.scatter(true, predicted, s=16, color=BLUE, alpha=alpha, linewidths=0, zorder=2)
    panel.set_xlabel("labeled")
    panel.set_ylabel("predicted")
    panel.set_aspect("equal")
    panel.grid(color="#e5e5e5")
    panel.set_axisbelow(True)
    panel.spines[["top", "right"]].set_visible(False)
    save_figure(figure, path)


def plot_history(rows: Sequence[dict[str, Any]], path: str | os.PathLike[str]) -> None:
    """Draws the losses of fine-tuning by epoch, and the validation score if there is one.

    Args:
        rows: The ``history_`` of an estimator: ``epoch``, ``train_loss``, ``validation_loss`` and
            ``validation_score``. All but the first may be missing or None.
        path: Image file; its suffix determines the format.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: No row has a loss.
    """
    losses = (("train_loss", "training loss", BLUE), ("validation_loss", "validation loss", ORANGE))
    curves = [(label, color, _points(rows, key)) for key, label, color in losses]
    if not any(points for _, _, points in curves):
        raise ValueError("the history has no row with a loss")
    figure = _frame(7.0, 4.0)
    left = figure.subplots()
    for label, color, points in curves:
        if points:
            left.plot(*zip(*points, strict=True), color=color, marker="o", markersize=4, label=label)
    validation = curves[1][2]
    if validation:
        best = min(validation, key=lambda point: point[1])
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
                   label="validation score")  # fmt: skip
        right.set_ylabel("validation score", color=GREEN)
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
    # A dollar sign would start a formula.
    return (name if len(name) <= 28 else f"{name[:27]}…").replace("$", r"\$")


def _root_norm() -> Any:
    from matplotlib.colors import PowerNorm

    return PowerNorm(0.5, vmin=0.0, vmax=1.0)


def require_matplotlib() -> None:
    """Checks that pictures can be drawn, before minutes of work.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    _frame(1.0, 1.0)


def _frame(width: float, height: float) -> Any:
    return new_figure(width, height, extra="downstream", feature="drawing a report")
