"""The options of commands that load a model whose folder does not state everything."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

import sentenc

if TYPE_CHECKING:
    from sentenc.encoders.base import Encoder
    from sentenc.threads import Threads


class _ThreadsType(click.ParamType):  # type: ignore[type-arg,unused-ignore]
    # The value of --threads: an integer of 1 or more, or "auto".

    name = "threads"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> "Threads":
        if value == "auto":
            return "auto"
        if str(value).isdecimal() and int(value):
            return int(value)
        self.fail(f"{value!r} is neither an integer of 1 or more nor 'auto'", param, ctx)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return "[N|auto]"


THREADS = _ThreadsType()


def pooling_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the option ``--pooling`` to a command."""
    option = click.option(
        "--pooling",
        type=click.Choice(["mean", "cls"]),
        help="Pooling of a BERT whose folder does not state it.",
    )
    return option(command)


def model_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options ``--pooling`` and ``--query-prompt`` to a command."""
    option = click.option(
        "--query-prompt",
        metavar="TEXT",
        help="Text that the model wants before queries; by default the one that its folder states.",
    )
    return pooling_option(option(command))


def load_model(
    model: str, pooling: str | None = None, query_prompt: str | None = None, **options: Any
) -> "Encoder":
    """Loads a model with the options of a command.

    Args:
        model: Argument of :func:`sentenc.load`.
        pooling: Value of ``--pooling``.
        query_prompt: Value of ``--query-prompt``.
        options: Further options of :func:`sentenc.load`; None for their defaults.

    Raises:
        BadParameter: The model does not support an option.
    """
    options |= {"pooling": pooling, "query_prompt": query_prompt}
    try:
        return sentenc.load(model, **{name: value for name, value in options.items() if value is not None})
    except ValueError as error:
        raise click.BadParameter(str(error)) from error


def optional_model(
    model: str | None, pooling: str | None, query_prompt: str | None
) -> "Encoder | str | None":
    """Returns the encoder of ``--model``, or None without this option; a name if it is loaded as it is.

    Raises:
        UsageError: ``--pooling`` or ``--query-prompt`` was passed without ``--model``.
    """
    if pooling is None and query_prompt is None:
        return model
    if model is None:
        raise click.UsageError("--pooling and --query-prompt require --model")
    return load_model(model, pooling, query_prompt)
