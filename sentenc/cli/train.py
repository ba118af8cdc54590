"""``sentenc train``: a model from the file of a run."""

import os
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from sentenc.training.config.pretraining import RunConfig
    from sentenc.training.config.task_distillation import TaskRunConfig


@click.command("train")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="RUN.toml")
@click.option("--set", "changes", multiple=True, metavar="KEY=VALUE",
              help="Another value for a key: --set training.steps=500, --set 'losses.0.kind=\"...\"'.")  # fmt: skip
@click.option("--max-minutes", type=click.FloatRange(min=0, min_open=True),
              help="End the training within this time; the schedule is squeezed.")  # fmt: skip
@click.option("--fresh", is_flag=True, help="Begin again, even if there is a state to go on from.")
@click.option("-q", "--quiet", is_flag=True, help="No progress bars and no summary.")
def train_command(
    file: Path, changes: tuple[str, ...], max_minutes: float | None, fresh: bool, quiet: bool
) -> None:
    """Train the model that RUN.toml describes (extra "train").

    With a section [task] that is a classifier, distilled from one that was fine-tuned on the task.

    Ctrl-C saves the state; the same command goes on where it was. Several processes:
    torchrun --standalone --nproc-per-node 2 -m sentenc train RUN.toml
    """
    from sentenc.errors import MissingExtraError
    from sentenc.training.config.pretraining import load_run
    from sentenc.training.config.task_distillation import is_task_run, load_task_run

    config = load_task_run(file, changes) if is_task_run(file) else load_run(file, changes)
    # torch's threads wait for each other in a busy loop by default, and stall each other several-fold as soon
    # as anything else wants a core, be it the thread that reads the corpus. It is read when torch is loaded.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("train", "torch", "training") from error
    command = shlex.join(["sentenc", *sys.argv[1:]])
    try:
        output = _run(
            config, max_minutes=max_minutes, resume=not fresh, command=command, show_progress_bar=not quiet
        )
    except FloatingPointError as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt as error:
        # The command line says "interrupted"; what to do then is said here.
        if error.args and _is_first():
            click.echo(str(error), err=True)
        raise
    if not quiet and _is_first():
        click.echo(f"the model is in {output}", err=True)


def _run(config: "RunConfig | TaskRunConfig", **options: Any) -> Path:
    from sentenc.training.config.task_distillation import TaskRunConfig

    if isinstance(config, TaskRunConfig):
        from sentenc.training.recipes.task_distillation import run_task

        return run_task(config, **options)
    from sentenc.training.recipes.pretraining import pretrain

    return pretrain(config, **options)


def _is_first() -> bool:
    # Of the processes that torchrun started.
    return os.environ.get("RANK", "0") == "0"
