"""``sentenc convert``: writes a static model of another library as a CSE."""

from pathlib import Path
from typing import get_args

import click

from sentenc.conversion import Rows, convert


@click.command("convert")
@click.argument("model")
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Folder of the CSE.")
@click.option(
    "--rows",
    type=click.Choice(get_args(Rows)),
    default="float32",
    show_default=True,
    help="Type of the stored rows. int8 is a quarter of the size and the fastest.",
)
def convert_command(model: str, output: Path, rows: Rows) -> None:
    """Write a static MODEL as a CSE, which can be trained further, averaged and put into a pair.

    MODEL is a folder of model2vec or of a StaticEmbedding of sentence-transformers, or a file of word vectors
    (word2vec, GloVe, fastText, gensim). Its tokenizer must be WordPiece or split texts into words.
    """
    result = convert(model, rows=rows)
    result.encoder.save(output)
    click.echo(f"{model} is a CSE of {result.encoder.dim} dimensions in {output}", err=True)
    for change in result.changes:
        click.echo(f"- {change}", err=True)
