"""Shared options of the commands that read records."""

from collections.abc import Callable
from typing import Any

import click

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


def id_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the option ``--id-field`` to a command."""
    option = click.option("--id-field", help="Field with the ids; by default items are numbered.")
    return option(command)
