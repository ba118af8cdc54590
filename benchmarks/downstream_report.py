"""The tables and the plot of the downstream benchmark."""

import statistics
from pathlib import Path
from typing import Any

NAMES = ("SST2", "TREC", "MR", "SICK-E", "SICK-R", "banking77")
HEAD, ALL, RANDOM = "cse-en, head", "cse-en, end to end", "random start, end to end"
WORDS, MODEL2VEC, MINILM = "TF-IDF + LR", "model2vec classifier", "MiniLM + LR"
SYSTEMS = (HEAD, ALL, RANDOM, WORDS, MODEL2VEC, MINILM)


def cell(rows: list[dict[str, Any]], task: str, system: str, fraction: float) -> list[dict[str, Any]]:
    """Returns the rows of all seeds of a cell."""
    key = (task, system, fraction)
    return [row for row in rows if (row["task"], row["system"], row["fraction"]) == key]


def table(rows: list[dict[str, Any]]) -> str:
    fractions = sorted({row["fraction"] for row in rows})
    tasks = [name for name in NAMES if any(row["task"] == name for row in rows)]
    heads = [f"{task} {fraction:.0%}" for task in tasks for fraction in fractions]
    lines = ["| | " + " | ".join(heads) + " |", "|---" * (len(heads) + 1) + "|"]
    for system in SYSTEMS:
        fields = []
        for task in tasks:
            for fraction in fractions:
                scores = [row["score"] for row in cell(rows, task, system, fraction)]
                spread = f" ± {statistics.stdev(scores):.1f}" if len(scores) > 1 else ""
                fields.append(f"{statistics.mean(scores):.1f}{spread}" if scores else "")
        lines.append(f"| {system} | " + " | ".join(fields) + " |")
    return "\n".join([*lines, "", *_times(rows, tasks)]) + "\n"


def _times(rows: list[dict[str, Any]], tasks: list[str]) -> list[str]:
    lines = ["All training data: seconds to fit, including the encoding, and texts predicted per second.", ""]
    lines += ["| | " + " | ".join(tasks) + " |", "|---" * (len(tasks) + 1) + "|"]
    for system in SYSTEMS:
        fields = []
        for task in tasks:
            seeds = cell(rows, task, system, 1.0)
            if not seeds:
                fields.append("")
                continue
            fit = statistics.median(row["fit_seconds"] for row in seeds)
            speed = statistics.median(row["predict_texts_per_second"] for row in seeds)
            fields.append(f"{fit:.2g} s, {speed:,.0f}/s" if fit < 10 else f"{fit:.0f} s, {speed:,.0f}/s")
        lines.append(f"| {system} | " + " | ".join(fields) + " |")
    return lines


def plot(rows: list[dict[str, Any]], path: Path) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    colors = dict(
        zip(SYSTEMS, ("#0072B2", "#009E73", "#D55E00", "#E69F00", "#CC79A7", "#000000"), strict=True)
    )
    markers = dict(zip(SYSTEMS, "os^DvP", strict=True))
    tasks = [name for name in NAMES if any(row["task"] == name for row in rows)]
    figure = Figure(figsize=(11, 3.4 * ((len(tasks) + 2) // 3) + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots((len(tasks) + 2) // 3, 3, squeeze=False).ravel()
    for panel in panels[len(tasks) :]:
        panel.set_visible(False)
    for panel, task in zip(panels, tasks, strict=False):
        for system in SYSTEMS:
            own = [row for row in rows if row["task"] == task and row["system"] == system]
            sizes = sorted({row["n_train"] for row in own})
            scores = [[row["score"] for row in own if row["n_train"] == size] for size in sizes]
            if not sizes:
                continue
            means = [statistics.mean(of_size) for of_size in scores]
            panel.fill_between(
                sizes,
                list(map(min, scores)),
                list(map(max, scores)),
                color=colors[system],
                alpha=0.15,
                linewidth=0,
            )
            panel.plot(sizes, means, color=colors[system], marker=markers[system], markersize=5, label=system)
        panel.set_xscale("log")
        panel.set_title(task, loc="left", fontsize=10)
        panel.set_xlabel("training examples", fontsize=9)
        panel.set_ylabel("Pearson x 100" if task == "SICK-R" else "accuracy, %", fontsize=9)
        panel.grid(color="#e5e5e5")
        panel.spines[["top", "right"]].set_visible(False)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)
    figure.savefig(path, dpi=150)
