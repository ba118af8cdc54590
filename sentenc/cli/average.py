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
    if weights and len(weights) != len(models):
        raise click.UsageError(
            f"got --weight {len(weights)} times, expected it once for each of {len(models)} models"
        )
    encoders = [sentenc.load(model) for model in models]
    kind = type(encoders[0])
    for model, encoder in zip(models, encoders, strict=True):
        if not isinstance(encoder, (sentenc.CSE, sentenc.BertEncoder)):
            raise click.ClickException(
                f"{model} is a {type(encoder).__name__}, expected a CSE or a BertEncoder"
            )
        if type(encoder) is not kind:
            raise click.ClickException(
                f"{model} is a {type(encoder).__name__}, expected a {kind.__name__} as {models[0]}"
            )
    average = average_models if kind is sentenc.CSE else average_berts
    average(encoders, weights=weights or None).save(output)  # type: ignore[arg-type]
    click.echo(f"the average of {len(models)} models is in {output}", err=True)
