"""``sentenc average``: averages the weights of several models."""

from pathlib import Path

import click

import sentenc


@click.command("average")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "-w",
    "--weight",
    "weights",
    multiple=True,
    type=float,
    help="Weight of a model in the mean, once for each MODEL in their order. By default all are equal.",
)
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder of the averaged model."
)
def average_command(models: tuple[str, ...], weights: tuple[float, ...], output: Path) -> None:
    """Average the weights of two or more MODELs (a model soup).

    The MODELs must be CSEs, or BERTs, that were fine-tuned from the same model, with other seeds or settings. The
    averaged model is as fast as one of them, and often better than each.
    """
    from sentenc.training.students.model_soup import average_berts, average_models

    if len(models) < 2:
        raise click.UsageError(f"got {len(models)} model, expected at least 2")
    encoders = [sentenc.load(model) for model in models]
    kind = sentenc.BertEncoder if isinstance(encoders[0], sentenc.BertEncoder) else sentenc.CSE
    for model, encoder in zip(models, encoders, strict=True):
        if not isinstance(encoder, kind):
            raise click.ClickException(
                f"{model} is a {type(encoder).__name__}, expected only CSEs or only BertEncoders"
            )
    average = average_berts if kind is sentenc.BertEncoder else average_models
    average(encoders, weights=weights or None).save(output)  # type: ignore[arg-type]
    click.echo(f"the average of {len(models)} models is in {output}", err=True)
