"""The table and the plot of the ablation benchmark."""

import statistics
from pathlib import Path
from typing import Any

from ablation_cells import Cell, in_order

from sentenc.evaluation.senteval_tasks import STS, TRANSFER
from sentenc.figures import BLACK, BLUE, ORANGE, new_figure, save_figure

YEARS = ("STS12", "STS13", "STS14", "STS15", "STS16")
# A penalized classifier depends on the norm of its inputs, and sums have larger norms than means. The vectors
# of each cell are therefore scaled by one number to this root mean square norm, which is that of cse-en.
NORM = 3.0
# Values of the paper that differ from the library's defaults.
MARGIN, DROPOUT, L2_SP = 0.6, 0.1, 1e-6


def averages(row: dict[str, Any]) -> dict[str, float]:
    """Returns the averages of a row: Pearson, Spearman and, if measured, transfer."""
    pearson, spearman = row["scores"]["pearson_mean"], row["scores"]["spearman_all"]
    means = {
        "STS12-16 Pearson": statistics.mean(pearson[year] for year in YEARS),
        "STS Spearman": statistics.mean(spearman[task] for task in STS),
    }
    if row["scores"]["transfer"]:
        means["transfer"] = statistics.mean(row["scores"]["transfer"].values())
    return means


def summary(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Returns the averages of every cell and their gains over the word average, by seed."""
    base = {row["seed"]: averages(row) for row in rows if row["cell"] == Cell("average").name}
    by_cell: dict[str, dict[str, Any]] = {}
    for row in rows:
        entry = by_cell.setdefault(row["cell"], {"seeds": 0, "values": {}, "gains": {}})
        entry["seeds"] += 1
        for name, value in averages(row).items():
            entry["values"].setdefault(name, []).append(value)
            if row["seed"] in base:
                entry["gains"].setdefault(name, []).append(value - base[row["seed"]][name])
    return by_cell


def table(rows: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    """Returns the results as Markdown."""
    by_cell = summary(rows)
    names = list(next(iter(by_cell.values()))["values"])
    tasks = [*YEARS, "STS-B", "SICK-R"]
    heads = [*(f"{name} | gain" for name in names), *(f"{task} r" for task in tasks), *settings["transfer"]]
    lines = [f"| cell | seeds | {' | '.join(heads)} |"]
    lines.append("|---" * (lines[0].count("|") - 1) + "|")
    for cell in (cell.name for cell in in_order(by_cell)):
        entry = by_cell[cell]
        fields = [f"{statistics.mean(entry['values'][name]):.2f} | {_gain(entry, name)}" for name in names]
        seeds = [row["scores"] for row in rows if row["cell"] == cell]
        for kind, columns in (("pearson_mean", tasks), ("transfer", settings["transfer"])):
            fields += [f"{statistics.mean(scores[kind][task] for scores in seeds):.1f}" for task in columns]
        lines.append(f"| {cell} | {entry['seeds']} | {' | '.join(fields)} |")
    return "\n".join([*lines, "", *_notes(settings)]) + "\n"


def _gain(entry: dict[str, Any], name: str) -> str:
    gains = entry["gains"].get(name)
    if not gains:
        return ""
    spread = f" ({min(gains):+.2f} to {max(gains):+.2f})" if len(gains) > 1 else ""
    return f"{statistics.mean(gains):+.2f}{spread}"


def _notes(settings: dict[str, Any]) -> list[str]:
    """Returns the paragraphs under the table: how the scores were made."""
    left_out = [task for task in TRANSFER if task not in settings["transfer"]]
    steps = f"{settings['steps']} steps of {settings['batch']} pairs"
    if settings["minutes_a_cell"]:
        steps += f" or {settings['minutes_a_cell']} minutes"
    measurement = [
        "Gains are over the trained word average with the same seed, with the range over seeds in brackets.",
        "Pearson: the mean over the sets of a year on raw text, as in the paper; the average is over the five years.",
        "Spearman: the correlation over all pairs of a year; the average is over the seven STS tasks.",
        f"Transfer: accuracy of a logistic regression on vectors with a root mean square norm of {NORM:g}.",
    ]
    if left_out:
        measurement.append(f"To save time, {', '.join(left_out)} left out.")
    training = [
        f"Trained for {steps}, from {settings['n_pairs']:,} pairs: {', '.join(settings['pairs'])}.",
        f"Loss: paraphrase margin {MARGIN} with the hardest negatives; dropout {DROPOUT}; Adam with learning rate 1e-3.",
        f"The embeddings are regularized towards their initial values (L2-SP, {L2_SP:g}).",
        "Half of the pairs are scrambled, unless the name of the cell excludes it.",
        f"Initial word vectors: word2vec of {settings['vocabulary']:,} words with {settings['dim']} dimensions.",
        "The number of n-gram features is the same.",
    ]
    return [" ".join(measurement), "", " ".join(training)]


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    """Draws the gains over the trained word average, with one panel per average."""
    by_cell = summary(rows)
    cells = [cell for cell in in_order(by_cell) if cell.form != "average" and by_cell[cell.name]["gains"]]
    if not cells:
        return
    positions = list(dict.fromkeys(cell.row for cell in cells))
    names = list(by_cell[cells[0].name]["gains"])
    size = (3.6 * len(names) + 1.6, 1.4 + 0.42 * len(positions))
    figure = new_figure(*size, extra="eval", feature="the plot")
    panels = figure.subplots(1, len(names), sharey=True, squeeze=False)[0]
    for panel, name in zip(panels, names, strict=True):
        panel.axvline(0, color="#555555", linewidth=1)
        for cell in cells:
            _mark(panel, positions.index(cell.row), cell, by_cell[cell.name]["gains"][name])
        panel.set_title(name, loc="left", fontsize=10)
        panel.set_xlabel("points over the trained word average", fontsize=9)
        panel.grid(axis="x", color="#e5e5e5")
        panel.set_axisbelow(True)
        panel.spines[["top", "right", "left"]].set_visible(False)
        panel.tick_params(axis="y", length=0)
    panels[0].set_yticks(range(len(positions)), positions)
    panels[0].set_ylim(len(positions) - 0.5, -0.5)
    marks = {mark.get_label(): mark for mark in panels[0].collections}
    figure.legend(marks.values(), marks.keys(), loc="outside upper center", ncols=len(marks), frameon=False)
    save_figure(figure, path)


def _mark(panel: Any, row: int, cell: Cell, gains: list[float]) -> None:
    # The shapes distinguish cells in a grayscale print. The marks of a row are shifted, so that all are
    # visible.
    color, shape, shift = (BLUE, "o", -0.1) if cell.phi == "identity" else (ORANGE, "s", 0.1)
    label = {"identity": "linear", "relu": "relu"}[cell.phi] + ("" if cell.scramble else ", not scrambled")
    if cell.form == "untrained":
        color, shape, shift, label = BLACK, "D", 0.0, "untrained"
    height = row + shift * (1 if cell.scramble else 2.6)
    panel.plot([min(gains), max(gains)], [height, height], color=color, linewidth=1.2)
    look = {"color": color if cell.scramble else "white", "edgecolors": color, "marker": shape, "s": 34}
    panel.scatter([statistics.mean(gains)], [height], label=label, **look)
