"""TinyBERT's second stage taken apart: what do augmentation and the losses of the layers do on a task?

    python benchmarks/tinybert_tasks.py --data FOLDER --work FOLDER --teacher FOLDER \
        [--tasks sst2,mrpc,stsb,cola,rte] [--limit 2000] [--copies 2] [--max-minutes M]

Five cells a task, all scored on dev: a teacher fine-tuned on the task; the student distilled from it (full);
the same without augmentation; without the losses of the layers; and the student's shape with random weights,
fine-tuned on the labels. The paper's ablation (Jiao et al. 2020, tables 2 and 7) in miniature: so few examples
and copies are no comparison with its numbers. Writes ``results/tinybert/`` after every cell: JSON, table and
plot. The same call goes on where it was stopped.

FOLDER has GLUE's CoLA and RTE (``glue/``) and the raw SST-2, MRPC and STS-B that the evaluation reads. MRPC has
no dev set there: one tenth of its training pairs is held out.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

import machine
import numpy as np
from ablation import earlier_rows

from sentenc.evaluation import catalogue
from sentenc.evaluation.results import write_atomically
from sentenc.figures import BLUE, new_figure, save_figure
from sentenc.training.task_config import parse_task_run
from sentenc.training.task_run import run_task

FOLDER = machine.RESULTS / "tinybert"
CELLS = ("teacher", "full", "no augmentation", "no intermediate", "from scratch")
LAYERS, INTERMEDIATE_SIZE = [0, 2, 4, 5], 768
# Of each task: kind, metric, columns of its text.
TASKS: dict[str, tuple[str, str, list[str]]] = {
    "sst2": ("classification", "accuracy", ["a"]),
    "mrpc": ("classification", "f1", ["a", "b"]),
    "stsb": ("regression", "spearman", ["a", "b"]),
    "cola": ("classification", "matthews", ["a"]),
    "rte": ("classification", "accuracy", ["a", "b"]),
}
CATALOGUE = {"sst2": "SST2-sentence", "mrpc": "MRPC", "stsb": "STS-B-supervised"}
Rows = list[list[str]]


def prepare(task: str, data: Path, folder: Path) -> None:
    """Writes train.tsv and dev.tsv with a header."""
    parts = glue(task, data) if task in ("cola", "rte") else catalogued(task, data)
    folder.mkdir(parents=True, exist_ok=True)
    header = "\t".join([*TASKS[task][2], "label"])
    for name, rows in parts.items():
        lines = ["\t".join(" ".join(field.split()) for field in row) for row in rows]
        write_atomically(folder / f"{name}.tsv", "\n".join([header, *lines]) + "\n")


def glue(task: str, data: Path) -> dict[str, Rows]:
    columns, name = {"cola": ([3, 1], "CoLA"), "rte": ([1, 2, 3], "RTE")}[task]
    found = {}
    for part in ("train", "dev"):
        lines = (data / "glue" / name / f"{part}.tsv").read_text("utf-8").split("\n")
        fields = [line.split("\t") for line in lines[task == "rte" :] if line]
        found[part] = [[row[column] for column in columns] for row in fields]
    return found


def catalogued(task: str, data: Path) -> dict[str, Rows]:
    read, _ = catalogue.TASKS[CATALOGUE[task]].read(data, "raw")
    found = {}
    for part in ("train", "dev") if "dev" in read else ("train",):
        examples = read[part]
        texts = [examples.texts] if examples.partners is None else [examples.texts, examples.partners]
        found[part] = [[*row, str(target)] for *row, target in zip(*texts, examples.targets, strict=True)]
    if "dev" not in found:
        order = np.random.default_rng(0).permutation(len(found["train"]))
        rows, held = found["train"], len(order) // 10
        found = {"dev": [rows[i] for i in order[:held]], "train": [rows[i] for i in order[held:]]}
    return found


def table_of(cell: str, task: str, options: argparse.Namespace) -> dict[str, Any]:
    """The run of a cell."""
    kind, metric, text = TASKS[task]
    own = options.work / task / cell.replace(" ", "-")
    tuned = options.work / task / "full" / "work" / "teacher" / "model"
    found: dict[str, Any] = {
        "output": str(own / "model"), "work": str(own / "work"), "seed": options.seed, "device": "cpu",
        "task": {"kind": kind, "metric": metric, "text": text, "limit": options.limit,
                 "max_tokens": 64 if len(text) == 1 else 128,
                 **{part: str(options.work / task / f"{part}.tsv") for part in ("train", "dev")}},
        "teacher": {"model": str(tuned)},
        "student": {"start": "teacher", "layers": LAYERS, "config": {"intermediate_size": INTERMEDIATE_SIZE}},
        "augmentation": {"copies": options.copies, "word_vectors": options.word_vectors},
        "intermediate": {
            "epochs": options.intermediate_epochs, "layer_map": [layer + 1 for layer in LAYERS],
        },
        "prediction": {"epochs": options.prediction_epochs},
    }  # fmt: skip
    if options.masked_lm:
        found["augmentation"]["masked_lm"] = options.masked_lm
    if cell == "full":
        found["teacher"] = {"model": options.teacher, "finetune": {
            "epochs": options.teacher_epochs, "learning_rate": options.teacher_learning_rate,
        }}  # fmt: skip
    if cell in ("no augmentation", "from scratch"):
        del found["augmentation"]
    if cell in ("no intermediate", "from scratch"):
        del found["intermediate"]
    if cell == "no intermediate" and kind == "regression":
        # Scores are learned from the original pairs: nothing would see the copies.
        del found["augmentation"]
    if cell == "from scratch":
        shape = {"num_hidden_layers": len(LAYERS), "intermediate_size": INTERMEDIATE_SIZE}
        found["student"] = {"start": "random", "config": shape}
        found["prediction"] |= {"targets": "gold", "learning_rate": 1e-4}
    return found


def table(rows: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    tasks = [task for task in TASKS if any(row["task"] == task for row in rows)]
    lines = ["| cell | " + " | ".join(f"{task} {TASKS[task][1]}" for task in tasks) + " |"]
    lines.append("|---" * (len(tasks) + 1) + "|")
    scores = {(row["cell"], row["task"]): row["score"] for row in rows}
    for cell in CELLS:
        fields = [f"{scores[cell, task]:.1f}" if (cell, task) in scores else "" for task in tasks]
        lines.append(f"| {cell} | {' | '.join(fields)} |")
    limit = settings["limit"]
    lines += ["", f"On dev, x 100, one seed. Trained on {f'at most {limit:,}' if limit else 'all'} examples of a task, "
              f"N_a = {settings['copies']}; {settings['intermediate_epochs']:g} epochs of the layers, "
              f"{settings['prediction_epochs']:g} of the output, {settings['teacher_epochs']:g} of the teacher"
              + (f"; {settings['max_minutes']:g} minutes a cell at most" if settings["max_minutes"] else "")
              + ". MRPC: one tenth of the training pairs is held out as dev. "
              f"Learning rates: the teacher {settings['teacher_learning_rate']:g}, \"from scratch\" (labels alone) 1e-4, layers 5e-5, "
              "output 3e-5; nothing was tuned."]  # fmt: skip
    return "\n".join(lines) + "\n"


def plot(rows: list[dict[str, Any]], folder: Path) -> None:
    """Scores of the cells, a panel a task."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    figure = new_figure(2.6 * len(tasks) + 1.6, 2.8, extra="eval", feature="the plot")
    panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    for panel, task in zip(panels, tasks, strict=True):
        found = {row["cell"]: row["score"] for row in rows if row["task"] == task}
        places = [CELLS.index(cell) for cell in found]
        panel.barh(places, list(found.values()), color=BLUE, height=0.6)
        for place, value in zip(places, found.values(), strict=True):
            panel.annotate(f" {value:.1f}", (max(value, 0), place), va="center", fontsize=8)
        panel.set_title(f"{task}, {TASKS[task][1]}", loc="left", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(x=0.2)
    panels[0].set_yticks(range(len(CELLS)), CELLS)
    panels[0].set_ylim(len(CELLS) - 0.5, -0.5)
    for suffix in ("png", "svg"):
        save_figure(figure, folder / f"tinybert_tasks.{suffix}")


def write(rows: list[dict[str, Any]], settings: dict[str, Any], folder: Path) -> None:
    write_atomically(folder / "tinybert_tasks.md", table(rows, settings))
    plot(rows, folder)
    # Last: what it lists is done.
    content = {**machine.circumstances(), "settings": settings, "rows": rows}
    machine.write(str((folder / "tinybert_tasks").resolve()), content)


def run_cell(cell: str, task: str, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows that a run gives: of "full" also the teacher's."""

    began = time.perf_counter()
    run = parse_task_run(table_of(cell, task, options), Path())
    output = run_task(run, max_minutes=options.max_minutes)
    scores = json.loads((output / "task.json").read_text("utf-8"))["scores"]
    row = {
        "task": task,
        "cell": cell,
        "score": scores["student"],
        "seconds": round(time.perf_counter() - began, 1),
    }
    return [{"task": task, "cell": "teacher", "score": scores["teacher"]}, row] if cell == "full" else [row]


def main() -> None:
    options = _options()
    tasks = options.tasks.split(",")
    if unknown := [task for task in tasks if task not in TASKS]:
        raise SystemExit(f"--tasks has {unknown[0]!r}, expected some of {', '.join(TASKS)}")
    names = (
        "limit",
        "copies",
        "seed",
        "max_minutes",
        "teacher_epochs",
        "teacher_learning_rate",
        "intermediate_epochs",
        "prediction_epochs",
    )
    settings = {name: getattr(options, name) for name in names}
    settings |= {
        name: Path(getattr(options, name) or "").name for name in ("teacher", "word_vectors", "masked_lm")
    }
    options.output.mkdir(parents=True, exist_ok=True)
    rows = earlier_rows(options.output / "tinybert_tasks.json", settings)
    done = {(row["task"], row["cell"]) for row in rows}
    for task in tasks:
        prepare(task, options.data, options.work / task)
        for cell in CELLS[1:]:
            # Other cells take the teacher from the full one's folder.
            if (task, cell) in done:
                continue
            try:
                rows += run_cell(cell, task, options)
            except ValueError as error:
                # A teacher that has not learned the task has nothing to teach.
                print(f"{task} is left out: {error}", flush=True)
                break
            write(rows, settings, options.output)
            print(f"{task}, {cell}: {rows[-1]['score']:.2f} in {rows[-1]['seconds']:.0f} s", flush=True)


def _options() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--data", type=Path, required=True, help="folder with the tasks")
    parser.add_argument("--work", type=Path, required=True, help="folder for models and states")
    parser.add_argument("--teacher", required=True, help="folder of the BERT that is fine-tuned, six layers")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--limit", type=int, default=2000, help="training examples a task, 0 for all")
    parser.add_argument("--copies", type=int, default=2, help="N_a")
    parser.add_argument("--word-vectors", default="cse-en", help="file, or model for its vectors of words")
    parser.add_argument("--masked-lm", help="folder of a masked language model")
    parser.add_argument("--max-minutes", type=float, help="of training, a cell")
    parser.add_argument("--teacher-epochs", type=float, default=3)
    parser.add_argument("--teacher-learning-rate", type=float, default=5e-5)
    parser.add_argument("--intermediate-epochs", type=float, default=5)
    parser.add_argument("--prediction-epochs", type=float, default=3)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("-o", "--output", type=Path, default=FOLDER)
    return parser.parse_args()


if __name__ == "__main__":
    main()
