"""``sentenc hybrid``: adds columns for words to the vectors of an encoder."""

from pathlib import Path
from typing import Any

import click

import sentenc
from sentenc.encoders.hybrid.encoder import DEFAULT_COLUMNS, DEFAULT_SHARE
from sentenc.io.text import open_text


@click.command("hybrid")
@click.argument("model")
@click.option(
    "-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder of the new model."
)
@click.option("--columns", type=int, default=DEFAULT_COLUMNS, show_default=True, help="Columns for words.")
@click.option(
    "--share",
    type=float,
    default=DEFAULT_SHARE,
    show_default=True,
    help="Share of the words in a similarity.",
)
@click.option(
    "--texts",
    metavar="FILE",
    help="Text file, one text a line, on which the rarity of words is counted; by default that of English.",
)
@click.option(
    "--language", metavar="CODE", help="Language of the words (ISO 639); by default that of the model."
)
def hybrid_command(
    model: str, output: Path, columns: int, share: float, texts: str | None, language: str | None
) -> None:
    """Write MODEL with columns for words, whose vectors alone find exact words, names and numbers.

    It is for databases that compare vectors only. An index of sentenc searches by words itself.
    """
    options: dict[str, Any] = {"columns": columns, "share": share, "language": language}
    if texts is None:
        encoder = sentenc.hybrid(model, **options)
    else:
        with open_text(texts) as lines:
            encoder = sentenc.hybrid(model, texts=lines, **options)
    encoder.save(output)
    click.echo(f"{output}: {encoder.dim} columns, {columns} of them for words", err=True)
