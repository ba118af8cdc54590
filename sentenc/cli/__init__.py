"""The command line, ``sentenc COMMAND``. Each command is in the module that its entry names."""

import codecs
import io
import os
import select
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from sentenc._version import __version__
from sentenc.errors import SentencError

_COMMANDS = {
    "align": "sentenc.cli.align:align_command",
    "average": "sentenc.cli.average:average_command",
    "classify": "sentenc.cli.classify:classify_command",
    "convert": "sentenc.cli.convert:convert_command",
    "demo": "sentenc.cli.demo:demo_command",
    "encode": "sentenc.cli.encode:encode_command",
    "eval": "sentenc.cli.evaluate:evaluate_command",
    "fit": "sentenc.cli.fit:fit_command",
    "hybrid": "sentenc.cli.hybrid:hybrid_command",
    "index": "sentenc.cli.index:index_group",
    "info": "sentenc.cli.models:info_command",
    "mine": "sentenc.cli.mine:mine_command",
    "models": "sentenc.cli.models:models_command",
    "push": "sentenc.cli.push:push_command",
    "search": "sentenc.cli.search:search_command",
    "serve": "sentenc.cli.serve:serve_command",
    "similarity": "sentenc.cli.similarity:similarity_command",
    "train": "sentenc.cli.train:train_command",
    "verify": "sentenc.cli.models:verify_command",
}


class _CommandGroup(click.Group):
    # Imports a command when it is used, so that --help and completion are fast.

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def make_context(self, *args: Any, **options: Any) -> click.Context:
        # The help text is printed here.
        with _closed_output_is_success():
            return super().make_context(*args, **options)

    def invoke(self, ctx: click.Context) -> Any:
        with _closed_output_is_success():
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result


@contextmanager
def _closed_output_is_success() -> Iterator[None]:
    """Ends with exit code 0 if the reader of the output has closed it (`| head`); click would end with 1."""
    try:
        yield
    except BrokenPipeError:
        if not _output_is_closed():
            raise
        # Otherwise Python would try to write the rest at its end, and report the failure.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise click.exceptions.Exit(0) from None


def _output_is_closed() -> bool:
    output, messages = sys.stdout.fileno(), sys.stderr.fileno()
    # A message that could not be written may have stopped work before its end, which is no success.
    if os.path.sameopenfile(output, messages) or not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(output, 0)
    return bool(poll.poll(0))


def _escape(error: UnicodeError) -> tuple[str, int]:
    """Replaces characters that an encoding lacks by ``\\uXXXX``, as in JSON; a handler of codec errors."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    units = error.object[error.start : error.end].encode("utf-16-be", "surrogatepass").hex()
    return "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)), error.end


def _restore_or_escape(error: UnicodeError) -> tuple[str | bytes, int]:
    """Writes the bytes that an argument or a file name had, and escapes everything else."""
    try:
        return codecs.lookup_error("surrogateescape")(error)
    except UnicodeEncodeError:
        return _escape(error)


def _escape_unprintable() -> None:
    """Lets every text be printed, whatever the encoding of the terminal or pipe; JSON remains JSON."""
    codecs.register_error("sentenc.escape", _escape)
    codecs.register_error("sentenc.restore", _restore_or_escape)
    # Without a locale, as in most containers, Python writes with "surrogateescape".
    handlers = {"strict": "escape", "backslashreplace": "escape", "surrogateescape": "restore"}
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper) and stream.errors in handlers:
            stream.reconfigure(errors=f"sentenc.{handlers[stream.errors]}")


@click.group(cls=_CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sentenc")
def cli() -> None:
    """Sentence embeddings on a CPU: encode, compare, search and classify texts, and train models."""


def main() -> None:
    """Runs the command line. Exit codes: 0 success, 1 failure, 2 wrong usage, 130 Ctrl-C."""
    _escape_unprintable()
    warnings.showwarning = lambda message, *_args, **_options: click.echo(f"warning: {message}", err=True)
    try:
        code = cli.main(prog_name="sentenc", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (SentencError, OSError, TypeError, ValueError) as error:
        click.echo(f"sentenc: {error}", err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
