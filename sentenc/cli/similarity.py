"""The command ``sentenc similarity``: prints cosine similarities of texts."""

import json

import click

from sentenc.cli.model_options import load_model, pooling_option


@click.command("similarity")
@click.argument("texts", nargs=-1, required=True)
@click.option(
    "-m", "--model", default="cse-en", show_default=True, help="Name, folder or Hub id of the model."
)
@pooling_option
@click.option("--json", "as_json", is_flag=True, help="Print the matrix as JSON.")
def similarity_command(texts: tuple[str, ...], model: str, pooling: str | None, as_json: bool) -> None:
    """Print the cosine similarity of two texts as a number, or of several texts as a matrix."""
    if len(texts) < 2:
        raise click.UsageError(f"got {len(texts)} text, expected at least 2")
    encoder = load_model(model, pooling)
    vectors = encoder.encode(list(texts))
    matrix = encoder.similarity(vectors, vectors)
    if as_json:
        click.echo(
            json.dumps({"texts": texts, "similarity": [[round(float(v), 6) for v in row] for row in matrix]})
        )
    elif len(texts) == 2:
        click.echo(f"{matrix[0, 1]:.4f}")
    else:
        for row, text in zip(matrix, texts, strict=True):
            click.echo(" ".join(f"{value:7.4f}" for value in row) + f"  {text}")
