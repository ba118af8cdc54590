"""Runs every code block of README.md and docs/, and compares printed output with the blocks that show it."""

import ast
import contextlib
import io
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import NamedTuple

import click
import pytest

from sentenc.cli import cli

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+) -->\n)?^```(?P<language>\w+)\n(?P<code>.*?)^```", re.M | re.S
)
LANGUAGES = {"python", "bash", "toml", "text", "json", "html"}
# Commands of a shell, as opposed to one plain command that can run in this process.
SHELL = re.compile(r"[|<>;&$`\n]")


class Block(NamedTuple):
    """A fenced block; ``reason`` states why it is not run."""

    reason: str | None
    language: str
    code: str


def blocks(page: Path) -> list[Block]:
    return [
        Block(m["reason"], m["language"], m["code"]) for m in BLOCK.finditer(page.read_text(encoding="utf-8"))
    ]


def with_blocks() -> list[Path]:
    return [page for page in PAGES if blocks(page)]


@pytest.mark.parametrize("page", with_blocks(), ids=lambda page: str(page.relative_to(ROOT)))
def test_code_of_a_page_runs(page, tmp_path, monkeypatch):
    pytest.importorskip("torch")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {"__name__": "__main__"}
    printed = None
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{block.language}: use one of {LANGUAGES}"
        if block.language == "text":
            if printed is not None:
                assert same_output(block.code, printed), f"the page shows:\n{block.code}\nprinted:\n{printed}"
        elif block.reason is not None:
            check_syntax(block)
            printed = None
        elif block.language == "python":
            printed = run_python(block.code, names)
        elif block.language == "bash":
            printed = run_bash(block.code)
        elif block.language == "toml":
            tomllib.loads(block.code)


def test_few_code_blocks_are_skipped():
    """Blocks that are not run need a reason of this list."""
    known = {
        "installs packages", "installs the package", "needs GLUE's data", "needs SentEval's data",
        "needs a running server", "needs trained models", "starts a server", "starts several processes",
        "trains for an hour", "trains for hours", "needs the repository", "needs the Hugging Face Hub", "needs another library",
        "needs Docker", "needs an object store", "downloads a model",
    }  # fmt: skip
    assert {block.reason for page in PAGES for block in blocks(page)} - {None} <= known


def run_python(code: str, names: dict[str, object]) -> str:
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(compile(code, "<page>", "exec"), names)
    return output.getvalue()


def run_bash(code: str) -> str:
    return "".join(run_command(command) for command in commands(code))


def commands(code: str) -> list[str]:
    """The commands of a script; a here-document and a loop belong to their command."""
    scripts, lines = [], iter(code.splitlines())
    for line in lines:
        end = re.search(r"<<'(\w+)'", line)
        closing = end[1] if end else "done" if line.startswith("for ") else None
        command = [line]
        while closing and command[-1].split(" >")[0] != closing:
            command.append(next(lines))
        scripts.append("\n".join(command))
    return [command for command in scripts if command.strip()]


def run_command(command: str) -> str:
    if command.startswith("sentenc ") and not SHELL.search(command):
        # The command runs in this process, which is several times as fast as a new one.
        output = io.StringIO()
        with contextlib.redirect_stdout(output):
            cli(shlex.split(command, comments=True)[1:], standalone_mode=False)
        return output.getvalue()
    script = f'sentenc() {{ "{sys.executable}" -m sentenc "$@"; }}\n{command}'
    result = subprocess.run(["bash", "-euo", "pipefail", "-c", script], capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    return result.stdout


def check_syntax(block: Block) -> None:
    """Parses a block that is not run; options of sentenc must exist."""
    if block.language == "python":
        ast.parse(block.code)
    for line in block.code.splitlines() if block.language == "bash" else ():
        words = shlex.split(line, comments=True)
        if words[:1] == ["sentenc"]:
            check_options(cli, words[1:])


def check_options(command: click.Command, words: list[str]) -> None:
    context = click.Context(command)
    if isinstance(command, click.Group):
        inner = command.get_command(context, words[0])
        assert inner is not None, f"no command {words[0]!r}"
        return check_options(inner, words[1:])
    options = {
        name
        for parameter in command.get_params(context)
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    for word in words:
        if word.startswith("-") and word != "-":
            assert word.split("=")[0] in options, f"{command.name} has no option {word}"
    return None


def same_output(shown: str, printed: str) -> bool:
    """Compares words, so that white space does not count; "..." on the page matches any text."""
    pattern = r"\s+".join(".*" if word == "..." else re.escape(word) for word in shown.split())
    return re.fullmatch(rf"\s*{pattern}\s*", printed, re.S) is not None
