"""The command line, ``sentenc COMMAND``. Each command is in the module that its entry names."""

import os
import sys
import warnings
from importlib import import_module

import click

from sentenc._version import __version__
from sentenc.errors import SentencError

_COMMANDS = {
    "average": "sentenc.cli.average:average_command",
    "classify": "sentenc.cli.classify:classify_command",
    "demo": "sentenc.cli.demo:demo_command",
    "encode": "sentenc.cli.encode:encode_command",
    "eval": "sentenc.cli.evaluate:evaluate_command",
    "fit": "sentenc.cli.fit:fit_command",
    "index": "sentenc.cli.index:index_group",
    "info": "sentenc.cli.models:info_command",
    "mine": "sentenc.cli.mine:mine_command",
    "models": "sentenc.cli.models:models_command",
    "search": "sentenc.cli.search:search_command",
    "serve": "sentenc.cli.serve:serve_command",
    "similarity": "sentenc.cli.similarity:similarity_command",
    "train": "sentenc.cli.train:train_command",
    "verify": "sentenc.cli.models:verify_command",
}


class _LazyGroup(click.Group):
    # Imports a command when it is used, so that --help and completion are fast.

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name].split(":")
        command: click.Command = getattr(import_module(module), name)
        return command


@click.group(cls=_LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="sentenc")
def cli() -> None:
    """Sentence embeddings on a CPU: encode, compare, search and classify texts, and train models."""


def main() -> None:
    """Runs the command line. Exit codes: 0 success, 1 failure, 2 wrong usage, 130 Ctrl-C."""
    warnings.showwarning = lambda message, *_args, **_options: click.echo(f"warning: {message}", err=True)
    try:
        code = cli.main(prog_name="sentenc", standalone_mode=False)
    except click.exceptions.Abort:
        click.echo("interrupted", err=True)
        sys.exit(130)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of the output has closed it (`| head`), which is no error.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except (SentencError, OSError, TypeError, ValueError) as error:
        click.echo(f"sentenc: {error}", err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)
