"""``sentenc hybrid``: adds columns for words to the vectors of an encoder."""

from pathlib import Path
from typing import Any

import click

import sentenc
from sentenc.cli.model_options import load_model, model_options
from sentenc.encoders.hybrid.encoder import DEFAULT_COLUMNS, DEFAULT_WEIGHT
from sentenc.io.text import open_text


@click.command("hybrid")
@click.argument("model")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder of the new model."
)
@click.option("--columns", type=int, default=DEFAULT_COLUMNS, show_default=True, help="Columns for words.")
@click.option(
    "--word-weight",
    type=float,
    default=DEFAULT_WEIGHT,
    show_default=True,
    help="Weight of the words in a similarity.",
)
@click.option(
    "--texts",
    metavar="FILE",
    help="Text file, one text a line, on which the rarity of words is counted; by default that of English.",
)
@click.option(
    "--language", metavar="CODE", help="Language of the words (ISO 639); by default that of the model."
)
@model_options
def hybrid_command(
    model: str,
    output: Path,
    columns: int,
    word_weight: float,
    texts: str | None,
    language: str | None,
    pooling: str | None,
    query_prompt: str | None,
) -> None:
    """Write MODEL with columns for words, so that a search by vectors finds exact words, names and numbers.

    It is for databases that only compare vectors. An index of sentenc searches by words itself.
    """
    loaded = load_model(model, pooling, query_prompt)
    options: dict[str, Any] = {"columns": columns, "word_weight": word_weight, "language": language}
    if texts is None:
        encoder = sentenc.hybrid(loaded, **options)
    else:
        with open_text(texts) as lines:
            encoder = sentenc.hybrid(loaded, texts=lines, **options)
    encoder.save(output)
    click.echo(f"{output}: {encoder.dim} columns, {columns} of them for words", err=True)
