"""Options of ``sentenc index build`` for long texts."""

from collections.abc import Callable
from typing import Any

import click


def passage_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options ``--chunk``, ``--chunk-tokens`` and ``--overlap`` to a command."""
    for option in (
        click.option(
            "--overlap",
            type=click.IntRange(min=0),
            help="Tokens that consecutive passages share; by default an eighth of a passage.",
        ),
        click.option(
            "--chunk-tokens",
            type=click.IntRange(min=1),
            metavar="N",
            help="Divide texts of more than N tokens into passages.",
        ),
        click.option(
            "--chunk",
            is_flag=True,
            help="Divide long texts into passages of 256 tokens, or of as many as the model can read.",
        ),
    ):
        command = option(command)
    return command


def chunking_arguments(chunk: bool, chunk_tokens: int | None, overlap: int | None) -> dict[str, Any]:
    """Returns the arguments of an index for the values of the options.

    Raises:
        UsageError: ``--overlap`` was passed alone.
    """
    if chunk_tokens is None and not chunk:
        if overlap is not None:
            raise click.UsageError("--overlap requires --chunk or --chunk-tokens")
        return {}
    return {"chunk_tokens": "auto" if chunk_tokens is None else chunk_tokens, "overlap": overlap}
