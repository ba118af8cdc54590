"""Results as a picture: a dot for every encoder and task."""

import os
from collections.abc import Sequence
from typing import Any

from sentenc.evaluation.results import Results
from sentenc.evaluation.senteval_tasks import STS, TRANSFER
from sentenc.figures import BLACK, BLUE, GREEN, ORANGE, PINK, SKY, YELLOW, new_figure, save_figure

_COLOURS = (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, BLACK)
# For gray print.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def plot(results: Sequence[Results], path: str | os.PathLike[str]) -> None:
    """Draws one panel a family of tasks, one row a task, one mark an encoder.

    Args:
        results: One for each encoder.
        path: Image file; the suffix decides the format.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: There is nothing to draw.
    """
    families = [(title, tasks) for title, tasks in _families(results) if tasks]
    if not families:
        raise ValueError("no scores to draw")
    rows = [len(tasks) for _, tasks in families]
    height = 1.3 + 0.42 * sum(rows) + 0.55 * len(rows)
    figure = new_figure(8.0, height, extra="eval", feature="plotting results")
    panels = figure.subplots(len(families), 1, squeeze=False, height_ratios=[count + 1 for count in rows])
    for panel, (title, tasks) in zip(panels[:, 0], families, strict=True):
        _draw_panel(panel, title, tasks, results)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(3, len(results)), frameon=False)
    save_figure(figure, path)


def _families(results: Sequence[Results]) -> list[tuple[str, list[str]]]:
    """Tasks by family, each family's average last."""
    present = list(dict.fromkeys(task for result in results for task in result.records))
    transfer = [task for task in TRANSFER if task in present]
    sts = [task for task in STS if task in present]
    averages = {name for result in results for name in result.averages}
    others = [task for task in present if task not in TRANSFER and task not in STS]
    return [
        ("Transfer: accuracy", transfer + [name for name in averages if name.startswith("transfer")]),
        (
            "Similarity: correlation of the cosine",
            sts + [name for name in averages if name.startswith("STS")],
        ),
        ("Other tasks: their main metric", others),
    ]


def _draw_panel(panel: Any, title: str, tasks: Sequence[str], results: Sequence[Results]) -> None:
    values = [{**result.scores, **result.averages} for result in results]
    positions = range(len(tasks))
    for at, task in enumerate(tasks):
        shown = [value[task] for value in values if task in value]
        panel.plot([min(shown), max(shown)], [at, at], color="#bbbbbb", linewidth=1.5, zorder=1)
    for index, (result, value) in enumerate(zip(results, values, strict=True)):
        panel.scatter(
            [value.get(task, float("nan")) for task in tasks],
            positions,
            s=46,
            color=_COLOURS[index % len(_COLOURS)],
            marker=_MARKERS[(index + index // len(_COLOURS)) % len(_MARKERS)],
            edgecolors="white",
            linewidths=0.6,
            label=result.encoder,
            zorder=2,
        )
    panel.set_yticks(list(positions), list(tasks))
    for label in panel.get_yticklabels():
        if label.get_text().endswith(" avg"):
            label.set_fontweight("bold")
    panel.set_ylim(len(tasks) - 0.5, -0.5)
    panel.set_title(title, loc="left", fontsize=10)
    panel.set_xlabel("points", fontsize=9)
    panel.grid(axis="x", color="#e5e5e5")
    panel.set_axisbelow(True)
    panel.spines[["top", "right", "left"]].set_visible(False)
    panel.tick_params(axis="y", length=0)
