"""``sentenc average``: the mean of several refinements of one model."""

from pathlib import Path

import click

import sentenc


@click.command("average")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder to write the model to."
)
def average_command(models: tuple[str, ...], output: Path) -> None:
    """Write the mean of MODELs, CSEs that went on from the same one with other seeds or settings.

    It is as fast as one of them, and often better than each.
    """
    from sentenc.training.students.model_soup import average

    if len(models) < 2:
        raise click.UsageError(f"got {len(models)} model, expected two or more")
    encoders = [sentenc.load(model) for model in models]
    for model, encoder in zip(models, encoders, strict=True):
        if not isinstance(encoder, sentenc.CSE):
            raise click.ClickException(f"{model} is {type(encoder).__name__}, expected CSE models")
    average(encoders).save(output)  # type: ignore[arg-type]
    click.echo(f"the mean of {len(models)} models is in {output}", err=True)
