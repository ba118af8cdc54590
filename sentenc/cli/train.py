"""``sentenc train``: trains a model from a run file."""

import os
import shlex
import sys
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sentenc.training.config.pretraining import RunConfig
    from sentenc.training.config.task_distillation import TaskRunConfig


@click.command("train")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="RUN.toml")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE",
              help="Replace the value of a key, e.g. --set training.steps=500 or "
              "--set 'student.init=\"random\"'. The value is in TOML syntax. May be repeated.")  # fmt: skip
@click.option("--max-minutes", type=click.FloatRange(min=0, min_open=True),
              help="End the training within this time, and compress the schedule accordingly. The preparations "
              "of a sentence encoder, such as the vectors of the teacher, come before it.")  # fmt: skip
@click.option("--fresh", is_flag=True, help="Start again from the beginning, even if there is a saved state.")
@click.option("-q", "--quiet", is_flag=True, help="Show no progress bars and no summary.")
def train_command(
    file: Path, overrides: tuple[str, ...], max_minutes: float | None, fresh: bool, quiet: bool
) -> None:
    """Train the model that RUN.toml describes. Requires the extra "train".

    A run file with a section [task] trains a classifier by task distillation. Any other run file trains a
    sentence encoder.

    Ctrl-C saves the state, and the same command resumes the run. To train a sentence encoder with several
    processes, use torchrun: torchrun --standalone --nproc-per-node 2 -m sentenc train RUN.toml. On several
    machines, the same command with --nnodes, --node-rank and --rdzv-endpoint starts the processes of each.
    """
    from sentenc.errors import MissingExtraError
    from sentenc.training.config.pretraining import load_run
    from sentenc.training.config.task_distillation import is_task_run, load_task_run

    config = load_task_run(file, overrides) if is_task_run(file) else load_run(file, overrides)
    # By default, torch's threads wait for each other in a busy loop. They then slow each other down several
    # times as soon as anything else needs a core, such as the thread that reads the corpus. Torch reads the
    # variable on import.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for package in ("torch", "tomli_w"):
        try:
            import_module(package)
        except ImportError as error:
            raise MissingExtraError("train", package, "training") from error
    command = shlex.join(["sentenc", *sys.argv[1:]])
    try:
        output = _run(
            config, max_minutes=max_minutes, resume=not fresh, command=command, show_progress_bar=not quiet
        )
    except FloatingPointError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt as error:
        # The command line prints "interrupted". The message explains how to resume.
        if error.args and _is_first():
            click.echo(str(error), err=True)
        raise
    if not quiet and _is_first():
        click.echo(f"the model is in {output}", err=True)


def _run(config: "RunConfig | TaskRunConfig", **options: Any) -> Path:
    from sentenc.training.config.task_distillation import TaskRunConfig

    if isinstance(config, TaskRunConfig):
        from sentenc.training.recipes.task_distillation import distill_for_task

        return distill_for_task(config, **options)
    from sentenc.training.recipes.pretraining import pretrain

    return pretrain(config, **options)


def _is_first() -> bool:
    # Whether this is the first of the processes that torchrun started.
    return os.environ.get("RANK", "0") == "0"
