"""What the commands that read records share: their options, and reading with a progress bar."""

import csv
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import click

from sentenc.progress import progress_bar
from sentenc.retrieval.records import FORMATS, Record, read_records

# Characters in one field of CSV. Enough for a long text, and an end to what an unclosed quote swallows.
_LONGEST_FIELD = 1 << 24


def record_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Options about how to read files."""
    for option in (
        click.option(
            "--format", type=click.Choice(FORMATS), help="Of the files; by default their suffixes say."
        ),
        click.option("--text-field", help="The field with the text; by default the obvious one."),
    ):
        command = option(command)
    return command


def id_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """The option about ids."""
    option = click.option("--id-field", help="The field with ids; by default items are numbered.")
    return option(command)


@contextmanager
def open_records(
    files: tuple[str, ...],
    label: str,
    quiet: bool,
    *,
    text_field: str | None = None,
    id_field: str | None = None,
    format: str | None = None,
) -> Iterator[Iterator[Record]]:
    """The records of files, with a bar that moves by bytes read."""
    csv.field_size_limit(_LONGEST_FIELD)
    size = None if "-" in files else sum(os.path.getsize(file) for file in files)
    with progress_bar(size, label, not quiet and size is not None) as bar:
        yield read_records(
            files, text_field=text_field, id_field=id_field, format=format, on_bytes=bar.update
        )


def in_blocks(records: Iterator[Record], most: int, most_characters: int) -> Iterator[list[Record]]:
    """Lists of up to ``most`` records, of fewer where their texts come to ``most_characters``."""
    block: list[Record] = []
    characters = 0
    for record in records:
        block.append(record)
        characters += len(record.text)
        if len(block) == most or characters >= most_characters:
            yield block
            block, characters = [], 0
    if block:
        yield block
