"""``sentenc align``: fits a table of word vectors into the vector space of another encoder."""

import shlex
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from sentenc.cli.record_files import files_in_folders, record_options
from sentenc.io.records import open_records

_FILES = click.Path(exists=True, path_type=str)


@click.command("align")
@click.argument("teacher")
@click.option("-o", "--output", required=True, type=click.Path(file_okay=False, path_type=Path),
              help="Folder of the model.")  # fmt: skip
@click.option("--queries", multiple=True, type=_FILES, callback=files_in_folders, metavar="FILE",
              help="File or folder of queries, or of texts like them. May be repeated.")  # fmt: skip
@click.option("--corpus", multiple=True, type=_FILES, callback=files_in_folders, metavar="FILE",
              help="File or folder of the documents to search. Their sentences serve as queries as well, or "
              "alone if there are none. May be repeated.")  # fmt: skip
@record_options
@click.option("--data", type=click.Path(exists=True, file_okay=False, path_type=Path),
              help="Folder in BEIR's layout: its judgments appear in the report, and its documents are the "
              "collection unless --corpus is given.")  # fmt: skip
@click.option("--dim", type=click.IntRange(min=1),
              help="Number of leading dimensions to keep, for a teacher trained for it (Matryoshka).")  # fmt: skip
@click.option("--cache", type=click.Path(file_okay=False, path_type=Path),
              help="Folder of the teacher's vectors; by default OUTPUT-vectors.")  # fmt: skip
@click.option("--rounds", type=click.IntRange(min=1), help="How often every text is used; by default 6.")
@click.option("--max-texts", type=click.IntRange(min=1),
              help="Maximum number of texts to use, by default 150,000.")  # fmt: skip
@click.option("--max-minutes", type=click.FloatRange(min=0, min_open=True),
              help="Time limit for the teacher's vectors of queries; texts without one are left out.")  # fmt: skip
@click.option("--seed", type=click.IntRange(min=0), help="Seed of samples and of the order of texts.")
@click.option("--threads", type=click.IntRange(min=1), help="Number of threads of the teacher.")
@click.option("-q", "--quiet", is_flag=True, help="Print only the report: no progress bars, no summary.")
def align_command(
    teacher: str, output: Path, queries: tuple[str, ...], corpus: tuple[str, ...], quiet: bool, **options: Any
) -> None:
    """Fit word vectors into the space of the encoder TEACHER, so that queries cost microseconds.

    TEACHER is the name, folder or Hub id of the encoder that encodes your documents. The model in OUTPUT
    encodes queries for an index of these documents. It is fitted to the vectors of TEACHER for queries and
    for sentences of the collection. The report is measured on texts that are kept out of training.

    Ctrl-C stops the command, and the same command continues with the vectors that are in the cache.
    """
    import sentenc

    _check_output(output)
    if not queries and not corpus and options["data"] is None:
        raise click.UsageError("there are no texts: pass --queries, --corpus or --data")
    names = {field.name for field in fields(sentenc.AlignmentSettings)}
    chosen = {name: value for name, value in options.items() if name in names and value is not None}
    encoder = sentenc.load(teacher, threads=options["threads"])
    reading = {"text_field": options["text_field"], "format": options["format"]}
    result = sentenc.align(
        encoder,
        queries=_texts(queries, "queries", quiet, reading),
        corpus=_texts(corpus, "documents", quiet, reading),
        data=options["data"],
        dim=options["dim"],
        cache=options["cache"] or output.with_name(f"{output.name}-vectors"),
        settings=sentenc.AlignmentSettings(**chosen),
        name=output.name,
        command=shlex.join(["sentenc", *sys.argv[1:]]),
        show_progress_bar=not quiet,
    )
    result.encoder.save(output)
    click.echo(result.report.to_text())
    if not quiet:
        click.echo(f"\nwrote the model to {output}", err=True)


def _check_output(output: Path) -> None:
    # Called before minutes of work, not after.
    from sentenc.checkpoint import is_checkpoint

    if output.exists() and any(output.iterdir()) and not is_checkpoint(output):
        raise click.ClickException(f"{output} contains other files: choose another folder")


def _texts(files: tuple[str, ...], label: str, quiet: bool, reading: dict[str, Any]) -> list[str]:
    if not files:
        return []
    with open_records(files, f"reading {label}", quiet, **reading) as records:
        return [record.text for record in records]
