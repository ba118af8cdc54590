"""Ablates TinyBERT's task distillation: the effect of augmentation and of layer-wise losses on five tasks.

    python benchmarks/tinybert_tasks.py --data FOLDER --work FOLDER --teacher FOLDER \
        [--tasks sst2,mrpc,stsb,cola,rte] [--seeds 1,2,3] [--limit 2000] [--copies 2] [--max-minutes M]
    python benchmarks/tinybert_tasks.py --merge FILE.json ...

Each task has five cells, which are scored on its development set:

- teacher: the teacher, fine-tuned on the task;
- full: the student that is distilled from it;
- no augmentation: the same without augmented texts;
- no intermediate: the same without the losses of the layers;
- from scratch: the student's shape with random weights, trained on the labels for as many steps as "full".

This is the ablation of the paper (Jiao et al. 2020, tables 2 and 7) with fewer examples and copies, so that
the scores are not comparable with those of the paper. Writes JSON, table and plot to ``results/tinybert/``
after every cell. The same call resumes an interrupted run. --merge combines the results of several calls that
had different --output folders.

FOLDER contains CoLA and RTE of GLUE (``glue/``) and the raw SST-2, MRPC and STS-B of the evaluation. MRPC has
no development set there, so that one tenth of its training pairs is used.
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

from sentenc.evaluation import TASKS as SENTEVAL_TASKS
from sentenc.figures import BLACK, BLUE, new_figure, save_figure
from sentenc.io.atomic import write_text
from sentenc.training.config.task_distillation import parse_task_run
from sentenc.training.engine.distributed import single_process
from sentenc.training.recipes.task_distillation import distill_for_task

FOLDER = machine.RESULTS / "tinybert"
CELLS = ("teacher", "full", "no augmentation", "no intermediate", "from scratch")
LAYERS, INTERMEDIATE_SIZE = [0, 2, 4, 5], 768
# Kind, metric and text columns of each task.
TASKS: dict[str, tuple[str, str, list[str]]] = {
    "sst2": ("classification", "accuracy", ["a"]),
    "mrpc": ("classification", "f1", ["a", "b"]),
    "stsb": ("regression", "spearman", ["a", "b"]),
    "cola": ("classification", "matthews", ["a"]),
    "rte": ("classification", "accuracy", ["a", "b"]),
}
# The tasks that are read from SentEval's data.
SENTEVAL_NAMES = {"sst2": "SST2-sentence", "mrpc": "MRPC", "stsb": "STS-B-supervised"}
# The folder in glue/ and the columns of text and label of the other tasks.
GLUE_COLUMNS = {"cola": ("CoLA", [3, 1]), "rte": ("RTE", [1, 2, 3])}
# The options that all rows of a result have in common.
SETTINGS = (
    "limit",
    "copies",
    "max_minutes",
    "batch_size",
    "teacher_epochs",
    "teacher_learning_rate",
    "intermediate_epochs",
    "intermediate_learning_rate",
    "prediction_epochs",
    "prediction_learning_rate",
    "scratch_epochs",
    "scratch_learning_rate",
)
Rows = list[list[str]]


def prepare(task: str, data: Path, folder: Path) -> None:
    """Writes train.tsv and dev.tsv of a task, with a header."""
    parts = read_senteval(task, data) if task in SENTEVAL_NAMES else read_glue(task, data)
    folder.mkdir(parents=True, exist_ok=True)
    header = "\t".join([*TASKS[task][2], "label"])
    for name, rows in parts.items():
        lines = ["\t".join(" ".join(field.split()) for field in row) for row in rows]
        write_text(folder / f"{name}.tsv", "\n".join([header, *lines]) + "\n")


def read_glue(task: str, data: Path) -> dict[str, Rows]:
    name, columns = GLUE_COLUMNS[task]
    parts = {}
    for part in ("train", "dev"):
        lines = (data / "glue" / name / f"{part}.tsv").read_text("utf-8").split("\n")
        # RTE has a header, CoLA has none.
        fields = [line.split("\t") for line in lines[task == "rte" :] if line]
        parts[part] = [[row[column] for column in columns] for row in fields]
    return parts


def read_senteval(task: str, data: Path) -> dict[str, Rows]:
    parts = {}
    for name, examples in SENTEVAL_TASKS[SENTEVAL_NAMES[task]].read(data, "raw").items():
        texts = [examples.texts] if examples.partners is None else [examples.texts, examples.partners]
        parts[name] = [[*row, str(target)] for *row, target in zip(*texts, examples.targets, strict=True)]
    if "dev" in parts:
        return {name: parts[name] for name in ("train", "dev")}
    rows = parts["train"]
    order = np.random.default_rng(0).permutation(len(rows))
    n_dev = len(rows) // 10
    return {"dev": [rows[i] for i in order[:n_dev]], "train": [rows[i] for i in order[n_dev:]]}


def run_table(cell: str, task: str, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    """Returns the run of a cell, as a run file contains it."""
    kind, metric, text = TASKS[task]
    folder = options.work / task / f"seed-{seed}"
    own = folder / cell.replace(" ", "-")
    data = {part: str(options.work / task / f"{part}.tsv") for part in ("train", "dev")}
    batch = {"batch_size": options.batch_size}
    run: dict[str, Any] = {
        "output": str(own / "model"),
        "work": str(own / "work"),
        "seed": seed,
        "device": options.device,
        "task": {
            "kind": kind,
            "metric": metric,
            "text": text,
            "limit": options.limit,
            "max_tokens": 64 if len(text) == 1 else 128,
            **data,
        },
        # The run of "full" fine-tunes the teacher of all cells.
        "teacher": {"model": str(folder / "full" / "work" / "teacher" / "model")},
        "student": {"init": "teacher", "layers": LAYERS, "config": {"intermediate_size": INTERMEDIATE_SIZE}},
        "augmentation": {"copies": options.copies, "word_vectors": options.word_vectors},
        "intermediate": {
            "epochs": options.intermediate_epochs,
            "layer_map": [layer + 1 for layer in LAYERS],
            "learning_rate": options.intermediate_learning_rate,
            **batch,
        },
        "prediction": {
            "epochs": options.prediction_epochs,
            "learning_rate": options.prediction_learning_rate,
            **batch,
        },
    }
    if options.masked_lm:
        run["augmentation"]["masked_lm"] = options.masked_lm
    if cell == "full":
        finetune = {"epochs": options.teacher_epochs, "learning_rate": options.teacher_learning_rate}
        run["teacher"] = {"model": options.teacher, "finetune": finetune}
    if cell == "from scratch":
        shape = {"num_hidden_layers": len(LAYERS), "intermediate_size": INTERMEDIATE_SIZE}
        run["student"] = {"init": "random", "config": shape}
        run["prediction"] = {
            "targets": "gold",
            "epochs": scratch_epochs(kind, options),
            "learning_rate": options.scratch_learning_rate,
            **batch,
        }
    return {section: value for section, value in run.items() if section not in unused_sections(cell, kind)}


def unused_sections(cell: str, kind: str) -> tuple[str, ...]:
    """Returns the sections of a run that a cell leaves out."""
    if cell == "from scratch":
        return ("augmentation", "intermediate")
    if cell == "no augmentation":
        return ("augmentation",)
    if cell == "no intermediate":
        # A regression is trained on the original pairs, so that only the layers would use the copies.
        return ("intermediate", "augmentation") if kind == "regression" else ("intermediate",)
    return ()


def scratch_epochs(kind: str, options: argparse.Namespace) -> float:
    """Returns the epochs of "from scratch": as many steps as "full" makes, unless the user sets them."""
    if options.scratch_epochs is not None:
        return float(options.scratch_epochs)
    augmented = 1 + options.copies
    # A regression is trained on the original pairs.
    predicted = 1 if kind == "regression" else augmented
    return float(options.intermediate_epochs * augmented + options.prediction_epochs * predicted)


def scores(rows: list[dict[str, Any]]) -> dict[tuple[str, str], list[float]]:
    """Returns the scores of each cell and task, one per seed."""
    by_cell: dict[tuple[str, str], list[float]] = {}
    for row in rows:
        by_cell.setdefault((row["cell"], row["task"]), []).append(row["score"])
    return by_cell


def table(rows: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    """Returns the results as Markdown."""
    by_cell = scores(rows)
    tasks = [task for task in TASKS if any(row["task"] == task for row in rows)]
    lines = ["| cell | " + " | ".join(f"{task} {TASKS[task][1]}" for task in tasks) + " |"]
    lines.append("|---" * (len(tasks) + 1) + "|")
    for cell in CELLS:
        lines.append(f"| {cell} | {' | '.join(_mean(by_cell.get((cell, task), [])) for task in tasks)} |")
    lines += ["", " ".join(conditions(settings, max(map(len, by_cell.values()))))]
    return "\n".join(lines) + "\n"


def conditions(settings: dict[str, Any], n_seeds: int) -> list[str]:
    """Returns the sentences under the table: how the scores were made."""
    averaged = "one seed" if n_seeds == 1 else f"mean of {n_seeds} seeds ± half their range"
    examples = f"at most {settings['limit']:,}" if settings["limit"] else "all"
    epochs = {
        phase: f"{settings[f'{phase}_epochs']:g}" for phase in ("teacher", "intermediate", "prediction")
    }
    rates = {
        phase: f"{settings[f'{phase}_learning_rate']:g}"
        for phase in ("teacher", "scratch", "intermediate", "prediction")
    }
    scratch = (
        'for as many steps as "full" in both phases'
        if settings["scratch_epochs"] is None
        else f"for {settings['scratch_epochs']:g} epochs"
    )
    sentences = [
        f"Scores on dev, x 100, {averaged}.",
        "Each seed has its own teacher.",
        f"Trained on {examples} examples of a task, with N_a = {settings['copies']} augmented copies.",
        f"Epochs: teacher {epochs['teacher']}, layers {epochs['intermediate']}, output {epochs['prediction']}.",
        f"Batch size: 32 for the teacher and {settings['batch_size']} for students.",
        f'"From scratch" is trained on the labels alone, {scratch}.',
        "Cells that leave a part out make fewer steps.",
        "Every cell keeps its best epoch on dev.",
        "MRPC: one tenth of the training pairs is used as dev.",
        f'Learning rates: teacher {rates["teacher"]}, "from scratch" {rates["scratch"]}, '
        f"layers {rates['intermediate']}, output {rates['prediction']}; none of them was tuned.",
        f"Device: {settings['device']}.",
    ]
    if settings["max_minutes"]:
        sentences.insert(4, f"Each cell was trained for at most {settings['max_minutes']:g} minutes.")
    return sentences


def _mean(values: list[float]) -> str:
    if not values:
        return ""
    spread = f" ± {(max(values) - min(values)) / 2:.1f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.1f}{spread}"


def plot(rows: list[dict[str, Any]], folder: Path) -> None:
    """Draws the mean scores, with one panel per task, one bar per cell and one dot per seed."""
    tasks, by_cell = list(dict.fromkeys(row["task"] for row in rows)), scores(rows)
    figure = new_figure(2.6 * len(tasks) + 1.6, 2.8, extra="eval", feature="the plot")
    panels = figure.subplots(1, len(tasks), sharey=True, squeeze=False)[0]
    for panel, task in zip(panels, tasks, strict=True):
        for position, cell in enumerate(CELLS):
            if values := by_cell.get((cell, task)):
                mean = statistics.mean(values)
                panel.barh(position, mean, color=BLUE, height=0.6)
                if len(values) > 1:
                    panel.plot(values, [position] * len(values), ".", color=BLACK, markersize=4)
                panel.annotate(f" {mean:.1f}", (max(*values, 0), position), va="center", fontsize=8)
        panel.set_title(f"{task}, {TASKS[task][1]}", loc="left", fontsize=10)
        panel.spines[["top", "right"]].set_visible(False)
        panel.margins(x=0.2)
    panels[0].set_yticks(range(len(CELLS)), CELLS)
    panels[0].set_ylim(len(CELLS) - 0.5, -0.5)
    for suffix in ("png", "svg"):
        save_figure(figure, folder / f"tinybert_tasks.{suffix}")


def write(
    rows: list[dict[str, Any]],
    settings: dict[str, Any],
    folder: Path,
    circumstances: dict[str, Any] | None = None,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "tinybert_tasks.md", table(rows, settings))
    plot(rows, folder)
    # The JSON file comes last, because a resumed run takes its rows as done.
    content = {**(circumstances or machine.circumstances()), "settings": settings, "rows": rows}
    machine.write(str((folder / "tinybert_tasks").resolve()), content)


def merge(paths: list[Path], folder: Path) -> None:
    """Writes one result of the rows of several files, with the date and machine of the first one."""
    contents = [json.loads(path.read_text("utf-8")) for path in paths]
    settings = contents[0]["settings"]
    rows: dict[tuple[str, str, int], dict[str, Any]] = {}
    for path, content in zip(paths, contents, strict=True):
        if content["settings"] != settings:
            raise SystemExit(
                f"{path} was made with other settings than {paths[0]}: merge files of one setting"
            )
        rows |= {(row["task"], row["cell"], row["seed"]): row for row in content["rows"]}
    circumstances = {name: value for name, value in contents[0].items() if name not in ("settings", "rows")}
    order = list(TASKS)
    ordered = sorted(rows.values(), key=lambda row: (order.index(row["task"]), row["seed"]))
    write(ordered, settings, folder, circumstances)


def run_cell(cell: str, task: str, seed: int, options: argparse.Namespace) -> list[dict[str, Any]]:
    """Runs a cell. Returns its row, and for "full" also the row of the teacher."""
    started = time.perf_counter()
    run = parse_task_run(run_table(cell, task, seed, options), Path())
    output = distill_for_task(run, max_minutes=options.max_minutes)
    measured = json.loads((output / "task.json").read_text("utf-8"))["scores"]
    shared = {"task": task, "seed": seed}
    seconds = round(time.perf_counter() - started, 1)
    row = {**shared, "cell": cell, "score": measured["student"], "seconds": seconds}
    return [{**shared, "cell": "teacher", "score": measured["teacher"]}, row] if cell == "full" else [row]


def main() -> None:
    options = _options()
    if options.merge:
        merge(options.merge, options.output)
        return
    tasks = options.tasks.split(",")
    if unknown := [task for task in tasks if task not in TASKS]:
        raise SystemExit(f"--tasks is {unknown[0]!r}, expected one or more of {', '.join(TASKS)}")
    device = single_process(options.device).device
    settings = {name: getattr(options, name) for name in SETTINGS}
    settings |= {
        name: Path(getattr(options, name) or "").name for name in ("teacher", "word_vectors", "masked_lm")
    }
    settings["device"] = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    rows = machine.earlier_rows(options.output / "tinybert_tasks.json", settings)
    done = {(row["task"], row["cell"], row["seed"]) for row in rows}
    for task in tasks:
        prepare(task, options.data, options.work / task)
    for seed in map(int, options.seeds.split(",")):
        for task in tasks:
            run_task_cells(task, seed, done, rows, settings, options)


def run_task_cells(
    task: str,
    seed: int,
    done: set[tuple[str, str, int]],
    rows: list[dict[str, Any]],
    settings: dict[str, Any],
    options: argparse.Namespace,
) -> None:
    """Runs the cells of a task that are not done, and adds their rows to ``rows``."""
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
                # The other cells need its teacher, which has not learned the task.
                return
            continue
        write(rows, settings, options.output)
        score, seconds = rows[-1]["score"], rows[-1]["seconds"]
        print(f"{task}, {cell}, seed {seed}: {score:.2f} in {seconds:.0f} s", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, help="folder of the tasks")
    parser.add_argument("--work", type=Path, help="folder for models and run states")
    parser.add_argument("--teacher", help="folder of the BERT with six layers that is fine-tuned")
    parser.add_argument("--tasks", default=",".join(TASKS), help="tasks, separated by commas")
    parser.add_argument(
        "--seeds", default="1", help="seeds, separated by commas; every cell is run with each"
    )
    parser.add_argument("--device", default="auto", help="auto, or the name of a torch device")
    parser.add_argument("--limit", type=int, default=2000, help="training examples per task; 0 for all")
    parser.add_argument("--copies", type=int, default=2, help="augmented copies per example (N_a)")
    parser.add_argument("--word-vectors", default="cse-en", help="file of word vectors, or a model with them")
    parser.add_argument("--masked-lm", help="folder of a masked language model")
    parser.add_argument("--max-minutes", type=float, help="limit of the training time per cell")
    parser.add_argument("--batch-size", type=int, default=32, help="batch size of students (teachers: 32)")
    parser.add_argument("--teacher-epochs", type=float, default=3)
    parser.add_argument("--teacher-learning-rate", type=float, default=5e-5)
    parser.add_argument("--intermediate-epochs", type=float, default=5)
    parser.add_argument("--intermediate-learning-rate", type=float, default=5e-5)
    parser.add_argument("--prediction-epochs", type=float, default=3)
    parser.add_argument("--prediction-learning-rate", type=float, default=3e-5)
    parser.add_argument("--scratch-epochs", type=float, help='default: as many steps as "full" makes')
    parser.add_argument("--scratch-learning-rate", type=float, default=1e-4)
    parser.add_argument("--merge", type=Path, nargs="+", help="result files of other calls to write as one")
    parser.add_argument("-o", "--output", type=Path, default=FOLDER)
    options = parser.parse_args()
    if not options.merge and None in (options.data, options.work, options.teacher):
        parser.error("--data, --work and --teacher are required without --merge")
    return options


if __name__ == "__main__":
    main()
