"""Writes the model card of a model that was distilled for a task."""

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
    """Returns a model card in Markdown.

    Args:
        run: The configuration of the run.
        name: The model's name.
        command: The command that started the run.
        scores: The scores of "teacher" and "student" on dev, x 100.
        outcomes: The outcome of each phase: steps, minutes, texts, and the step and dev score of the weights
            that were kept.
        sizes: The numbers of training examples, of dev examples, and of distinct texts with augmented copies
            (None without augmentation).
        parameters: The number of the model's parameters.
    """
    train, dev, augmented = sizes
    task = run.task
    inputs = "pairs of texts" if len(task.text) == 2 else "texts"
    augmentation = "" if augmented is None else f", {augmented:,} distinct texts with augmented copies"
    lines = [
        f"# {name}",
        "",
        f"A BERT of {parameters:,} parameters for the {task.kind} of {inputs}, distilled for this task from "
        f"{Path(run.teacher.model).name} by sentenc {__version__} (TinyBERT, Jiao et al. 2020, second stage).",
        "",
        "## Scores",
        "",
        f"{str(task.metric).capitalize()} x 100 on `{Path(task.dev).name}` ({dev:,} examples). The weights "
        "were chosen by the same score.",
        "",
        "| teacher | this model |\n|---|---|",
        f"| {scores['teacher']:.2f} | {scores['student']:.2f} |",
        "",
        "## Training",
        "",
        f"```\n{command}\n```",
        "",
        f"Trained on {train:,} examples of `{Path(task.train).name}`{augmentation}.",
        "",
        "| phase | texts | steps | minutes | best step | dev score |",
        "|---|---|---|---|---|---|",
    ]
    for phase, outcome in outcomes.items():
        score = "" if outcome.get("score") is None else f"{outcome['score']:.2f}"
        lines.append(
            f"| {_TITLES[phase]} | {outcome['texts']:,} | {outcome['steps']:,} | {outcome['minutes']:.1f} | "
            f"{outcome['step']:,} | {score} |"
        )
    lines += ["", "```toml", tomli_w.dumps(run.table).rstrip(), "```", "", "## Versions", ""]
    lines += [", ".join([f"Python {platform.python_version()}", *package_versions()]) + ".", ""]
    return "\n".join(lines)
