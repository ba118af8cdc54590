"""What the commands that read records share: their options, and reading with a progress bar."""

from collections.abc import Callable
from typing import Any

import click

from sentenc.io.formats import FORMATS


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
