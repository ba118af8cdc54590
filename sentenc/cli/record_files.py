"""Shared options of the commands that read records."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from sentenc.errors import TextFileError
from sentenc.io.files import files_below
from sentenc.io.formats import FORMATS


def record_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options ``--format`` and ``--text-field`` to a command.

    The default of ``--text-field`` is the first of :data:`~sentenc.io.records.TEXT_FIELDS` in a file, or its
    only field of strings.
    """
    for option in (
        click.option(
            "--format",
            type=click.Choice(FORMATS),
            help="Format of the files; by default that of the suffix of each.",
        ),
        click.option(
            "--text-field",
            help="Field with the text; by default text, sentence, content, ..., or the only field of strings.",
        ),
    ):
        command = option(command)
    return command


def files_in_folders(
    context: click.Context, parameter: click.Parameter, values: tuple[str, ...]
) -> tuple[str, ...]:
    """Replaces each folder by the files in it and below it, in the order of their names.

    Hidden files are left out. A callback of an argument for files.

    Raises:
        click.BadParameter: A folder contains no file.
    """
    paths: list[str] = []
    for value in values:
        if not os.path.isdir(value):
            paths.append(value)
            continue
        inside = Path(value)
        files = sorted(
            str(path)
            for path in files_below(inside)
            if not any(part.startswith(".") for part in path.relative_to(inside).parts)
        )
        if not files:
            raise click.BadParameter(f"the folder {value} contains no file, expected at least one")
        paths += files
    return tuple(paths)


def skip_empty_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the option ``--skip-empty`` to a command; see :class:`EmptyRows`."""
    option = click.option("--skip-empty", is_flag=True, help="Leave out rows without a text, and count them.")
    return option(command)


class EmptyRows:
    """Counts the rows without a text, which are left out, or refuses those whose text is null or missing.

    Args:
        are_skipped: Value of ``--skip-empty``.
    """

    def __init__(self, are_skipped: bool) -> None:
        self._are_skipped = are_skipped
        self.count = 0

    def __call__(self, place: str, is_missing: bool) -> bool:
        """Returns whether a row is left out; an argument ``on_empty`` of a reader."""
        if not self._are_skipped and is_missing:
            raise TextFileError(f"{place}, expected a text: --skip-empty leaves such rows out")
        self.count += self._are_skipped
        return self._are_skipped

    def __str__(self) -> str:
        """The number of rows for the summary of a command, empty if there are none."""
        return f", {self.count:,} rows without a text skipped" if self.count else ""


def id_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the option ``--id-field`` to a command."""
    option = click.option("--id-field", help="Field with the ids; by default items are numbered.")
    return option(command)
