"""Runs the index commands in the process of the test and in a folder of its own."""

import json

import pytest
from click.testing import CliRunner

from sentenc.cli import cli, index_build
from sentenc.errors import SentencError
from tests.support.models import make_cse

TEXTS = ["a man is playing the guitar", "dog cat", "the stock market fell", "a dog runs in the park"]
WORDS = list(dict.fromkeys(" ".join(TEXTS).split()))
LINES = [f"{text} word {i}" for i, text in enumerate(TEXTS * 25)]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "model"
    make_cse("int8").save(folder)
    return str(folder)


@pytest.fixture
def folder_of_its_own(monkeypatch, tmp_path):
    """Sets the working folder, and commits of 30 records."""
    monkeypatch.setattr(index_build, "RECORDS_PER_COMMIT", 30)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def lines(tmp_path):
    (tmp_path / "lines.txt").write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return "lines.txt"


@pytest.fixture
def rows(tmp_path):
    rows = [{"key": f"k{i}", "text": text, "n": i} for i, text in enumerate(LINES)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "rows.jsonl"


def run(*arguments, stdin=None, code=0):
    """Returns standard output and error of a command; an error with exit code 1 is appended to the latter."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments], input=stdin)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        if not isinstance(result.exception, SentencError | OSError | TypeError | ValueError):
            raise result.exception
        assert code == 1, result.exception
        return result.stdout, f"{result.stderr}sentenc: {result.exception}\n"
    assert result.exit_code == code, result.output
    return result.stdout, result.stderr


def build(*arguments, model, **options):
    return run("index", "build", *arguments, "-m", model, **options)
