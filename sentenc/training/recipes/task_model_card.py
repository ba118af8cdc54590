"""The card of a task's model: what it scores beside its teacher, and how it was made."""

import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tomli_w

from sentenc._version import __version__
from sentenc.training.config.task_distillation import TaskRunConfig
from sentenc.training.recipes.model_card import package_versions

_TITLES = {
    "teacher": "fine-tuning of the teacher",
    "intermediate": "intermediate layers",
    "prediction": "prediction",
}


def task_card(
    run: TaskRunConfig,
    *,
    name: str,
    command: str,
    scores: Mapping[str, float],
    outcomes: Mapping[str, Mapping[str, Any]],
    sizes: tuple[int, int, int | None],
    parameters: int,
) -> str:
    """A model card in Markdown.

    Args:
        run: What was run.
        name: The model's.
        command: That began it.
        scores: Of "teacher" and "student" on dev, x 100.
        outcomes: Of each phase: steps, minutes, texts, and step and score of the weights that were kept.
        sizes: Examples to train on, those of dev, and the former with their augmented copies (or None).
        parameters: The student's.
    """
    train, dev, augmented = sizes
    task = run.task
    what = "pairs of texts" if len(task.text) == 2 else "texts"
    lines = [
        f"# {name}", "",
        f"A BERT of {parameters:,} parameters for the {task.kind} of {what}, distilled for this task from "
        f"{Path(run.teacher.model).name} by sentenc {__version__} (TinyBERT, Jiao et al. 2020, second stage).", "",
        "## Scores", "",
        f"{str(task.metric).capitalize()} x 100 on `{Path(task.dev).name}` ({dev:,} examples), which also chose the "
        "weights:", "",
        "| teacher | this model |", "|---|---|", f"| {scores['teacher']:.2f} | {scores['student']:.2f} |", "",
        "## How it was made", "", "```", command, "```", "",
        f"Trained on {train:,} examples of `{Path(task.train).name}`"
        + (f", {augmented:,} distinct ones with their augmented copies" if augmented is not None else "") + ".", "",
        "| phase | texts | steps | minutes | step of the weights | dev |", "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for phase, told in outcomes.items():
        score = "" if told.get("score") is None else f"{told['score']:.2f}"
        lines.append(
            f"| {_TITLES[phase]} | {told['texts']:,} | {told['steps']:,} | {told['minutes']:.1f} | "
            f"{told['step']:,} | {score} |"
        )
    lines += ["", "```toml", tomli_w.dumps(run.table).rstrip(), "```", "", "## Versions", ""]
    lines += [", ".join([f"Python {platform.python_version()}", *package_versions()]) + ".", ""]
    return "\n".join(lines)
