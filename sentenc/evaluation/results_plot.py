"""Plots evaluation results: one panel per task family, one mark per encoder and task."""

import os
from collections.abc import Sequence
from typing import Any

from sentenc.evaluation.results import Results
from sentenc.evaluation.results_markdown import OTHER_FAMILIES, protocol_of
from sentenc.evaluation.senteval_tasks import STS, TRANSFER
from sentenc.figures import BLACK, BLUE, GREEN, ORANGE, PINK, SKY, YELLOW, new_figure, save_figure

_COLORS = (BLUE, ORANGE, GREEN, PINK, YELLOW, SKY, BLACK)
# Encoders stay distinguishable in a grayscale print.
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")


def plot(results: Results | Sequence[Results], path: str | os.PathLike[str]) -> None:
    """Draws scores into an image file: one panel per task family, one row per task, one mark per encoder.

    Args:
        results: The results of one encoder or of several.
        path: Image file. Its suffix decides the format: PNG, SVG, PDF or any other that matplotlib writes.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ValueError: The results contain no scores.
    """
    results = [results] if isinstance(results, Results) else results
    families = [(title, tasks) for title, tasks in _families(results) if tasks]
    if not families:
        raise ValueError("the results contain no scores, expected at least one")
    row_counts = [len(tasks) for _, tasks in families]
    height = 1.3 + 0.42 * sum(row_counts) + 0.55 * len(row_counts)
    figure = new_figure(8.0, height, extra="eval", feature="plotting results")
    panels = figure.subplots(
        len(families), 1, squeeze=False, height_ratios=[count + 1 for count in row_counts]
    )
    for panel, (title, tasks) in zip(panels[:, 0], families, strict=True):
        _draw_panel(panel, title, tasks, results)
    handles, labels = panels[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=min(3, len(results)), frameon=False)
    save_figure(figure, path)


def _families(results: Sequence[Results]) -> list[tuple[str, list[str]]]:
    """Returns the title and the tasks of each family; a family's average comes last."""
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
        *_own_families(results, others),
    ]


def _own_families(results: Sequence[Results], tasks: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Returns the families of the tasks that belong neither to transfer nor to similarity."""
    families = [("Search: nDCG@10 of the vectors", "search"), *OTHER_FAMILIES]
    protocols = {task: protocol_of(results, task) for task in tasks}
    named = {protocol for _, protocol in families}
    return [
        *((title, [task for task in tasks if protocols[task] == name]) for title, name in families),
        ("Other tasks: their main metric", [task for task in tasks if protocols[task] not in named]),
    ]


def _draw_panel(panel: Any, title: str, tasks: Sequence[str], results: Sequence[Results]) -> None:
    scores = [{**result.scores, **result.averages} for result in results]
    positions = range(len(tasks))
    for position, task in enumerate(tasks):
        present = [by_task[task] for by_task in scores if task in by_task]
        ends = [min(present), max(present)]
        panel.plot(ends, [position, position], color="#bbbbbb", linewidth=1.5, zorder=1)
    for index, (result, by_task) in enumerate(zip(results, scores, strict=True)):
        panel.scatter(
            [by_task.get(task, float("nan")) for task in tasks],
            positions,
            s=46,
            color=_COLORS[index % len(_COLORS)],
            marker=_MARKERS[(index + index // len(_COLORS)) % len(_MARKERS)],
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
