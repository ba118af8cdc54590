"""Compares initializations of a small BERT, each with and without layer-wise distillation.

    python benchmarks/tinybert_starts.py --teacher FOLDER --sentences FILE --sts DEV.tsv --work FOLDER \
        [--steps 150] [--batch 64]

All students have four layers and are trained for the same number of steps on the same texts. They start from
random weights, from layers of the teacher, or from these layers with half of the neurons or a smaller hidden
size. Each is taught by sentence vectors alone, or also by the embeddings, hidden states and attention scores
of the layers (TinyBERT: Jiao et al., 2020). Scores are Spearman x 100 on the development set, before and
after training.

Writes ``results/tinybert/starts.json`` and ``.md`` after every cell. The same call resumes an interrupted
run.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import machine

import sentenc
from sentenc.io.atomic import write_text
from sentenc.training.config.pretraining import parse_run
from sentenc.training.engine.run_log import read_log
from sentenc.training.recipes.pretraining import pretrain

FOLDER = machine.RESULTS / "tinybert"
HIDDEN_SIZE = 384
LAYERS = [0, 2, 4, 5]
# The [student] section of each initialization.
STUDENTS: dict[str, dict[str, Any]] = {
    "random weights": {
        "init": "random",
        "config": {
            "hidden_size": HIDDEN_SIZE,
            "num_hidden_layers": len(LAYERS),
            "num_attention_heads": 12,
            "intermediate_size": 1536,
        },
    },
    "the teacher's layers 1, 3, 5, 6": {"init": "teacher", "layers": LAYERS},
    "those, 768 of 1,536 neurons": {
        "init": "teacher",
        "layers": LAYERS,
        "config": {"intermediate_size": 768},
    },
    "those, 312 of 384 hidden, 1,200 neurons": {
        "init": "teacher",
        "layers": LAYERS,
        "config": {"hidden_size": 312, "intermediate_size": 1200},
    },
}
LESSONS = ("sentence vectors", "layers and sentence vectors")


def run_table(student: dict[str, Any], lessons: str, options: argparse.Namespace) -> dict[str, Any]:
    """Returns the run of one cell, as a run file contains it."""
    teacher = str(options.teacher.resolve())
    student = {"kind": "bert", "normalize": True} | student
    if student["init"] == "random":
        student["tokenizer"] = teacher
    # Vectors of another dimension than the teacher's are compared after an orthogonal map.
    same_size = student.get("config", {}).get("hidden_size", HIDDEN_SIZE) == HIDDEN_SIZE
    shared = {"corpus": "sentences", "batch_size": options.batch}
    losses = [{"kind": "embedding_distillation", "space": "same" if same_size else "aligned", **shared}]
    if lessons != LESSONS[0]:
        losses.append({"kind": "transformer_distillation", **shared})
    source = {"files": [str(options.sentences.resolve())], "form": "sentences"}
    return {
        "output": "model",
        "work": "cell",
        "seed": 1,
        "student": student,
        "teacher": {"models": [teacher], "cache": str((options.work / "teacher-vectors").resolve())},
        "corpora": {"sentences": {"sources": [source], "max_words": 60}},
        "losses": losses,
        "training": {
            "steps": options.steps,
            "learning_rate": 3e-4,
            "warmup": 20,
            "keep": "last",
            "device": "cpu",
        },
        "evaluation": {"sts": str(options.sts.resolve()), "every": options.steps},
    }


def run_cell(student: dict[str, Any], lessons: str, options: argparse.Namespace) -> dict[str, Any]:
    """Trains one student. Returns its scores before and after, its size and its minutes."""
    folder = options.work / "starts"
    shutil.rmtree(folder / "cell", ignore_errors=True)
    model = pretrain(parse_run(run_table(student, lessons, options), folder))
    log = read_log(model / "log.jsonl")
    scores = [row["dev"] for row in log if "dev" in row]
    bert = sentenc.load(model, backend="torch").model[0].auto_model
    return {
        "before": round(scores[0], 2),
        "after": round(scores[-1], 2),
        "minutes": round(log[-1]["minutes"], 1),
        "parameters": sum(parameter.numel() for parameter in bert.parameters()),
    }


def table(rows: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    """Returns the results as Markdown."""
    lines = [
        "| start | taught by | parameters | STS-B dev before | after | minutes |",
        "|---|---|---|---|---|---|",
    ]
    for row in rows:
        lines.append(
            f"| {row['start']} | {row['lessons']} | {row['parameters'] / 1e6:.1f}M | {row['before']:.2f} | "
            f"{row['after']:.2f} | {row['minutes']:.1f} |"
        )
    lines += [
        "",
        f"Trained for {settings['steps']} steps of {settings['batch']} texts, with one seed. All students have four "
        "layers and the whole vocabulary. Minutes depend on the load of the machine: compare the scores.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    options = _options()
    settings = {"steps": options.steps, "batch": options.batch, "teacher": options.teacher.name}
    rows = machine.earlier_rows(options.output / "starts.json", settings)
    done = {(row["start"], row["lessons"]) for row in rows}
    options.output.mkdir(parents=True, exist_ok=True)
    for lessons in LESSONS:
        for name, student in STUDENTS.items():
            if (name, lessons) in done:
                continue
            rows.append({"start": name, "lessons": lessons} | run_cell(student, lessons, options))
            print(rows[-1], flush=True)
            write_text(options.output / "starts.md", table(rows, settings))
            content = {**machine.circumstances(), "settings": settings, "rows": rows}
            machine.write(str((options.output / "starts").resolve()), content)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--teacher", type=Path, required=True, help="folder of a BERT sentence encoder")
    parser.add_argument("--sentences", type=Path, required=True, help="text file with one text per line")
    parser.add_argument(
        "--sts", type=Path, required=True, help="development set, TSV: score, first text, second text"
    )
    parser.add_argument("--work", type=Path, required=True, help="folder for teacher vectors and run states")
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("-o", "--output", type=Path, default=FOLDER)
    return parser.parse_args()


if __name__ == "__main__":
    main()
