"""What should a small BERT start from, and do its layers need a teacher too? Equal steps, equal texts.

    python benchmarks/tinybert_starts.py --teacher FOLDER --sentences FILE --sts DEV.tsv --work FOLDER \
        [--steps 150] [--batch 64]

Students of four layers from random weights, from layers of the teacher, from those with half of the neurons
or with a smaller hidden size; each taught by sentence vectors alone, or by embeddings, hidden states and attention
scores of the layers too (TinyBERT: Jiao et al., 2020). Scores are Spearman x 100 on the development set, before
and after. Writes ``results/tinybert/starts.json`` and ``.md`` after every cell; the same call goes on.
"""

import argparse
import shutil
from pathlib import Path
from typing import Any

import machine
from ablation import earlier_rows

import sentenc
from sentenc.io.atomic import write_text
from sentenc.training.config.pretraining import parse_run
from sentenc.training.engine.run_log import read_log
from sentenc.training.recipes.pretraining import pretrain

FOLDER = machine.RESULTS / "tinybert"
LAYERS = [0, 2, 4, 5]
SHAPE = {"hidden_size": 384, "num_hidden_layers": 4, "num_attention_heads": 12, "intermediate_size": 1536}
STARTS: dict[str, dict[str, Any]] = {
    "random weights": {"start": "random", "config": SHAPE},
    "the teacher's layers 1, 3, 5, 6": {"start": "teacher", "layers": LAYERS},
    "those, 768 of 1,536 neurons": {
        "start": "teacher", "layers": LAYERS, "config": {"intermediate_size": 768},
    },
    "those, 312 of 384 hidden, 1,200 neurons": {
        "start": "teacher", "layers": LAYERS, "config": {"hidden_size": 312, "intermediate_size": 1200},
    },
}  # fmt: skip
LESSONS = ("sentence vectors", "layers and sentence vectors")


def table_of(start: dict[str, Any], lessons: str, options: argparse.Namespace) -> dict[str, Any]:
    """The run of one cell."""
    teacher = str(options.teacher.resolve())
    student = {"kind": "bert", "normalize": True} | start
    if start["start"] == "random":
        student["tokenizer"] = teacher
    narrow = start.get("config", {}).get("hidden_size", 384) != 384
    objectives = [
        {"kind": "embedding_distillation", "corpus": "sentences", "batch_size": options.batch,
         "space": "aligned" if narrow else "same"}
    ]  # fmt: skip
    if lessons != LESSONS[0]:
        objectives.append(
            {"kind": "transformer_distillation", "corpus": "sentences", "batch_size": options.batch}
        )
    return {
        "output": "model", "work": "cell", "seed": 1,
        "student": student,
        "teacher": {"model": teacher, "cache": str((options.work / "teacher-vectors").resolve()), "minutes": 1e4},
        "corpora": {"sentences": {"sources": [{"files": [str(options.sentences.resolve())], "form": "sentences"}],
                                  "max_words": 60}},
        "losses": objectives,
        "training": {"steps": options.steps, "learning_rate": 3e-4, "warmup": 20, "keep": "last", "device": "cpu"},
        "evaluation": {"sts": str(options.sts.resolve()), "every": options.steps},
    }  # fmt: skip


def cell(start: dict[str, Any], lessons: str, options: argparse.Namespace) -> dict[str, Any]:
    """Trains one student: its scores before and after, its size and its minutes."""
    folder = options.work / "starts"
    shutil.rmtree(folder / "cell", ignore_errors=True)
    model = pretrain(parse_run(table_of(start, lessons, options), folder))
    rows = read_log(model / "log.jsonl")
    scores = [row["dev"] for row in rows if "dev" in row]
    config = sentenc.load(model, backend="torch").model[0].auto_model
    return {
        "before": round(scores[0], 2), "after": round(scores[-1], 2), "minutes": round(rows[-1]["minutes"], 1),
        "parameters": sum(p.numel() for p in config.parameters()),
    }  # fmt: skip


def text(rows: list[dict[str, Any]], settings: dict[str, Any]) -> str:
    """The table, for readers."""
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
        f"{settings['steps']} steps of {settings['batch']} texts, one seed; four layers, the whole vocabulary. "
        "Minutes depend on what else the machine does: compare the scores.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Runs the cells that are missing."""
    options = _options()
    settings = {"steps": options.steps, "batch": options.batch, "teacher": options.teacher.name}
    path = options.output / "starts.json"
    rows = earlier_rows(path, settings)
    done = {(row["start"], row["lessons"]) for row in rows}
    options.output.mkdir(parents=True, exist_ok=True)
    for lessons in LESSONS:
        for name, start in STARTS.items():
            if (name, lessons) in done:
                continue
            rows.append({"start": name, "lessons": lessons} | cell(start, lessons, options))
            print(rows[-1], flush=True)
            write_text(options.output / "starts.md", text(rows, settings))
            machine.write(
                str((options.output / "starts").resolve()),
                {**machine.circumstances(), "settings": settings, "rows": rows},
            )


def _options() -> argparse.Namespace:
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=raw)
    parser.add_argument("--teacher", type=Path, required=True, help="folder of a BERT sentence encoder")
    parser.add_argument("--sentences", type=Path, required=True, help="a text a line")
    parser.add_argument("--sts", type=Path, required=True, help="development set: score, text, text")
    parser.add_argument(
        "--work", type=Path, required=True, help="folder for the teacher's vectors and states"
    )
    parser.add_argument("--steps", type=int, default=150)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("-o", "--output", type=Path, default=FOLDER)
    return parser.parse_args()


if __name__ == "__main__":
    main()
