"""TinyBERT's second stage taken apart: what do augmentation and the losses of the layers do on a task?

    python benchmarks/tinybert_tasks.py --data FOLDER --work FOLDER --teacher FOLDER \
        [--tasks sst2,mrpc,stsb,cola,rte] [--seeds 1,2,3] [--limit 2000] [--copies 2] [--max-minutes M]
    python benchmarks/tinybert_tasks.py --merge FILE.json ...

Five cells a task, all scored on dev: a teacher fine-tuned on the task; the student distilled from it (full);
the same without augmentation; without the losses of the layers; and the student's shape with random weights,
trained on the labels for as many steps as the full one. The paper's ablation (Jiao et al. 2020, tables 2 and 7)
in miniature: so few examples and copies are no comparison with its numbers. Writes ``results/tinybert/`` after
every cell: JSON, table and plot. The same call goes on where it was stopped. What several calls wrote, each in
an --output of its own, --merge puts together.

FOLDER has GLUE's CoLA and RTE (``glue/``) and the raw SST-2, MRPC and STS-B that the evaluation reads. MRPC has
no dev set there: one tenth of its training pairs is held out.
"""

import argparse
import json
import statistics
import time
import traceback
from pathlib import Path
from typing import Any

import machine
import numpy as np
import torch
from ablation import earlier_rows

from sentenc.evaluation import senteval_tasks
from sentenc.figures import BLACK, BLUE, new_figure, save_figure
from sentenc.io.atomic import write_text
from sentenc.training.config.task_distillation import parse_task_run
from sentenc.training.engine.distributed import single_process
from sentenc.training.recipes.task_distillation import run_task

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
# Options that rows must have in common.
SETTINGS = (
    "limit", "copies", "max_minutes", "batch_size", "teacher_epochs", "teacher_learning_rate",
    "intermediate_epochs", "intermediate_learning_rate", "prediction_epochs", "prediction_learning_rate",
    "scratch_epochs", "scratch_learning_rate",
)  # fmt: skip
# Those of files that do not tell.
EARLIER = {
    "device": "cpu", "batch_size": 32, "intermediate_learning_rate": 5e-5, "prediction_learning_rate": 3e-5,
    "scratch_epochs": 2.0, "scratch_learning_rate": 1e-4,
}  # fmt: skip
Rows = list[list[str]]


def prepare(task: str, data: Path, folder: Path) -> None:
    """Writes train.tsv and dev.tsv with a header."""
    parts = glue(task, data) if task in ("cola", "rte") else catalogd(task, data)
    folder.mkdir(parents=True, exist_ok=True)
    header = "\t".join([*TASKS[task][2], "label"])
    for name, rows in parts.items():
        lines = ["\t".join(" ".join(field.split()) for field in row) for row in rows]
        write_text(folder / f"{name}.tsv", "\n".join([header, *lines]) + "\n")


def glue(task: str, data: Path) -> dict[str, Rows]:
    columns, name = {"cola": ([3, 1], "CoLA"), "rte": ([1, 2, 3], "RTE")}[task]
    found = {}
    for part in ("train", "dev"):
        lines = (data / "glue" / name / f"{part}.tsv").read_text("utf-8").split("\n")
        fields = [line.split("\t") for line in lines[task == "rte" :] if line]
        found[part] = [[row[column] for column in columns] for row in fields]
    return found


def catalogd(task: str, data: Path) -> dict[str, Rows]:
    read = senteval_tasks.TASKS[CATALOGUE[task]].read(data, "raw")
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


def table_of(cell: str, task: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """The run of a cell."""
    kind, metric, text = TASKS[task]
    folder = options.work / task / f"seed-{seed}"
    own, tuned = folder / cell.replace(" ", "-"), folder / "full" / "work" / "teacher" / "model"
    batch = {"batch_size": options.batch_size}
    found: dict[str, Any] = {
        "output": str(own / "model"), "work": str(own / "work"), "seed": seed, "device": options.device,
        "task": {"kind": kind, "metric": metric, "text": text, "limit": options.limit,
                 "max_tokens": 64 if len(text) == 1 else 128,
                 **{part: str(options.work / task / f"{part}.tsv") for part in ("train", "dev")}},
        "teacher": {"model": str(tuned)},
        "student": {"start": "teacher", "layers": LAYERS, "config": {"intermediate_size": INTERMEDIATE_SIZE}},
        "augmentation": {"copies": options.copies, "word_vectors": options.word_vectors},
        "intermediate": {
            "epochs": options.intermediate_epochs, "layer_map": [layer + 1 for layer in LAYERS],
            "learning_rate": options.intermediate_learning_rate, **batch,
        },
        "prediction": {
            "epochs": options.prediction_epochs, "learning_rate": options.prediction_learning_rate, **batch,
        },
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
        found["prediction"] = {
            "targets": "gold", "epochs": scratch_epochs(kind, options),
            "learning_rate": options.scratch_learning_rate, **batch,
        }  # fmt: skip
    return found


def scratch_epochs(kind: str, options: argparse.Namespace) -> float:
    """Epochs of the labels alone: what is asked for, or those in as many steps as "full" makes after the teacher."""
    if options.scratch_epochs is not None:
        return float(options.scratch_epochs)
    # Scores are learned from the original pairs.
    copied = 1 + options.copies
    learned = 1 if kind == "regression" else copied
    return float(options.intermediate_epochs * copied + options.prediction_epochs * learned)


def scores(rows: list[dict[str, Any]]) -> dict[tuple[str, str], list[float]]:
    """Of cell and task the scores, one a seed."""
    found: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        found.setdefault((row["cell"], row["task"]), []).append(row["score"])
    return found


def table(rows: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    tasks = [task for task in TASKS if any(row["task"] == task for row in rows)]
    lines = ["| cell | " + " | ".join(f"{task} {TASKS[task][1]}" for task in tasks) + " |"]
    lines.append("|---" * (len(tasks) + 1) + "|")
    found = scores(rows)
    for cell in CELLS:
        lines.append(f"| {cell} | {' | '.join(_shown(found.get((cell, task), [])) for task in tasks)} |")
    limit, most, epochs = settings["limit"], max(map(len, found.values())), settings["scratch_epochs"]
    lines += ["", f"On dev, x 100, {'one seed' if most == 1 else f'mean of {most} seeds ± half their range'} (another "
              "seed is another teacher too). "
              f"Trained on {f'at most {limit:,}' if limit else 'all'} examples of a task, "
              f"N_a = {settings['copies']}; {settings['intermediate_epochs']:g} epochs of the layers, "
              f"{settings['prediction_epochs']:g} of the output, {settings['teacher_epochs']:g} of the teacher"
              + (f"; {settings['max_minutes']:g} minutes a cell at most" if settings["max_minutes"] else "")
              + f"; batches of 32 for the teacher and {settings['batch_size']} for students. \"From scratch\" sees the labels alone, "
              + ("for as many steps as \"full\" makes in both phases; " if epochs is None else f"{epochs:g} epochs; ")
              + "cells that lack a part make fewer steps. MRPC: one tenth of the training pairs is held out as dev. "
              "Every cell keeps its best epoch on dev. "
              f"Learning rates: the teacher {settings['teacher_learning_rate']:g}, \"from scratch\" "
              f"{settings['scratch_learning_rate']:g}, layers {settings['intermediate_learning_rate']:g}, output "
              f"{settings['prediction_learning_rate']:g}; nothing was tuned. Device: {settings['device']}."]  # fmt: skip
    return "\n".join(lines) + "\n"


def _shown(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ± {(max(values) - min(values)) / 2:.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def plot(rows: list[dict[str, Any]], folder: Path) -> None:
    """Mean scores of the cells, a panel a task; a dot a seed where there are several."""
    tasks, found = list(dict.fromkeys(row["task"] for row in rows)), scores(rows)
    figure = new_figure(2.6 * len(tasks) + 1.6, 2.8, extra="eval", feature="the plot")
    panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    for panel, task in zip(panels, tasks, strict=True):
        for place, cell in enumerate(CELLS):
            if values := found.get((cell, task)):
                mean = statistics.mean(values)
                panel.barh(place, mean, color=BLUE, height=0.6)
                if len(values) > 1:
                    panel.plot(values, [place] * len(values), ".", color=BLACK, markersize=4)
                panel.annotate(f" {mean:.1f}", (max(*values, 0), place), va="center", fontsize=8)
        panel.set_title(f"{task}, {TASKS[task][1]}", loc="left", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(x=0.2)
    panels[0].set_yticks(range(len(CELLS)), CELLS)
    panels[0].set_ylim(len(CELLS) - 0.5, -0.5)
    for suffix in ("png", "svg"):
        save_figure(figure, folder / f"tinybert_tasks.{suffix}")


def write(
    rows: list[dict[str, Any]], settings: dict[str, Any], folder: Path, where: dict[str, Any] | None = None
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "tinybert_tasks.md", table(rows, settings))
    plot(rows, folder)
    # Last: what it lists is done.
    content = {**(where or machine.circumstances()), "settings": settings, "rows": rows}
    machine.write(str((folder / "tinybert_tasks").resolve()), content)


def merge(paths: list[Path], folder: Path) -> None:
    """Writes table and plot of the rows of several files; where they were measured is the first one's."""
    contents = [json.loads(path.read_text("utf-8")) for path in paths]
    rows: dict[tuple[str, str, int], dict[str, Any]] = {}
    for path, content in zip(paths, contents, strict=True):
        content["settings"] = EARLIER | content["settings"]
        seed = content["settings"].pop("seed", 1)
        if content["settings"] != contents[0]["settings"]:
            raise SystemExit(f"{path} was made with other settings than {paths[0]}, expected the same")
        for row in content["rows"]:
            row = {"seed": seed} | row
            rows[row["task"], row["cell"], row["seed"]] = row
    where = {name: value for name, value in contents[0].items() if name not in ("settings", "rows")}
    order = list(TASKS)
    ordered = sorted(rows.values(), key=lambda row: (order.index(row["task"]), row["seed"]))
    write(ordered, contents[0]["settings"], folder, where)


def run_cell(cell: str, task: str, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """The rows that a run gives: of "full" also the teacher's."""
    began = time.perf_counter()
    run = parse_task_run(table_of(cell, task, seed, options), Path())
    output = run_task(run, max_minutes=options.max_minutes)
    found = json.loads((output / "task.json").read_text("utf-8"))["scores"]
    which = {"task": task, "seed": seed}
    seconds = round(time.perf_counter() - began, 1)
    row = {**which, "cell": cell, "score": found["student"], "seconds": seconds}
    return [{**which, "cell": "teacher", "score": found["teacher"]}, row] if cell == "full" else [row]


def main() -> None:
    options = _options()
    if options.merge:
        merge(options.merge, options.output)
        return
    tasks = options.tasks.split(",")
    if unknown := [task for task in tasks if task not in TASKS]:
        raise SystemExit(f"--tasks has {unknown[0]!r}, expected some of {', '.join(TASKS)}")
    device = single_process(options.device).device
    settings = {name: getattr(options, name) for name in SETTINGS}
    settings |= {
        name: Path(getattr(options, name) or "").name for name in ("teacher", "word_vectors", "masked_lm")
    }
    settings["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    rows = earlier_rows(options.output / "tinybert_tasks.json", settings)
    done = {(row["task"], row["cell"], row["seed"]) for row in rows}
    for task in tasks:
        prepare(task, options.data, options.work / task)
    for seed in map(int, options.seeds.split(",")):
        for task in tasks:
            for cell in CELLS[1:]:
                if (task, cell, seed) in done:
                    continue
                try:
                    rows += run_cell(cell, task, seed, options)
                except Exception as error:
                    print(f"{task}, {cell}, seed {seed} is left out: {error}", flush=True)
                    if not isinstance(error, ValueError):
                        traceback.print_exc()
                    if cell == "full":
                        # A teacher that has not learned the task has nothing to teach, and the others need it.
                        break
                    continue
                write(rows, settings, options.output)
                score, seconds = rows[-1]["score"], rows[-1]["seconds"]
                print(f"{task}, {cell}, seed {seed}: {score:.2f} in {seconds:.0f} s", flush=True)


def _options() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--data", type=Path, help="folder with the tasks")
    parser.add_argument("--work", type=Path, help="folder for models and states")
    parser.add_argument("--teacher", help="folder of the BERT that is fine-tuned, six layers")
    parser.add_argument("--tasks", default=",".join(TASKS))
    parser.add_argument("--seeds", default="1", help="one run of everything a seed")
    parser.add_argument("--device", default="auto", help="auto, or torch's name of one")
    parser.add_argument("--limit", type=int, default=2000, help="training examples a task, 0 for all")
    parser.add_argument("--copies", type=int, default=2, help="N_a")
    parser.add_argument("--word-vectors", default="cse-en", help="file, or model for its vectors of words")
    parser.add_argument("--masked-lm", help="folder of a masked language model")
    parser.add_argument("--max-minutes", type=float, help="of training, a cell")
    parser.add_argument("--batch-size", type=int, default=32, help="of students; of teachers 32")
    parser.add_argument("--teacher-epochs", type=float, default=3)
    parser.add_argument("--teacher-learning-rate", type=float, default=5e-5)
    parser.add_argument("--intermediate-epochs", type=float, default=5)
    parser.add_argument("--intermediate-learning-rate", type=float, default=5e-5)
    parser.add_argument("--prediction-epochs", type=float, default=3)
    parser.add_argument("--prediction-learning-rate", type=float, default=3e-5)
    parser.add_argument("--scratch-epochs", type=float, help='by default as many steps as "full" makes')
    parser.add_argument("--scratch-learning-rate", type=float, default=1e-4)
    parser.add_argument("--merge", type=Path, nargs="+", help="files of other calls, to write as one")
    parser.add_argument("-o", "--output", type=Path, default=FOLDER)
    options = parser.parse_args()
    if not options.merge and None in (options.data, options.work, options.teacher):
        parser.error("expected --data, --work and --teacher, or --merge")
    return options


if __name__ == "__main__":
    main()
