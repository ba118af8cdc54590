"""The tree of errors: its drawing in the module, its exports, and its completeness."""

import ast
from pathlib import Path

import pytest

import sentenc
from sentenc import errors

PACKAGE = Path(sentenc.__file__).parent
ERRORS = {name: value for name, value in vars(errors).items() if name in errors.__all__}
# Answers of the server to a client, which no caller of the library catches.
INTERNAL = {"ApiError", "ClientGoneError"}


def drawn_tree() -> dict[str, tuple[str, ...]]:
    """The bases of each error as the docstring of the module draws them."""
    bases, path = {}, []
    for line in errors.__doc__.splitlines():
        if line.strip().startswith("- "):
            depth = (len(line) - len(line.lstrip())) // 4
            name, _, second = line.strip(" -").partition(" (")
            path[depth:] = [name]
            bases[name] = tuple(
                part for part in (path[depth - 1] if depth else "Exception", second.rstrip(")")) if part
            )
    return bases


def test_the_docstring_draws_every_error_with_its_bases():
    actual = {
        name: tuple(base.__name__ for base in value.__bases__)
        for name, value in ERRORS.items()
        if not issubclass(value, Warning)
    }
    assert drawn_tree() == actual
    for name, value in ERRORS.items():
        assert issubclass(value, Warning) == name.endswith("Warning")
        assert name in errors.__doc__


def test_every_error_and_warning_is_exported():
    for name, value in ERRORS.items():
        assert getattr(sentenc, name) is value
        assert name in sentenc.__all__


def test_no_other_module_defines_an_error():
    # The scripts in csrc compile the native library and are not installed.
    elsewhere = {
        node.name
        for path in PACKAGE.rglob("*.py")
        if (path.name != "errors.py" or path.parent != PACKAGE) and path.parent.name != "csrc"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.ClassDef) and node.name.endswith(("Error", "Exception", "Warning"))
    }
    assert elsewhere == INTERNAL


@pytest.mark.parametrize("kind", [sentenc.ModelNotFoundError, sentenc.MissingVectorError])
def test_the_message_of_an_error_is_its_sentence(kind):
    assert str(kind("no such thing")) == "no such thing"
    assert str(kind()) == ""


@pytest.mark.parametrize(
    ("error", "facts"),
    [
        (
            sentenc.MissingExtraError("eval", "scipy", "this"),
            ("this", "'scipy'", 'pip install "sentenc[eval]"'),
        ),
        (sentenc.QueueFullError(7), ("7 s",)),
    ],
)
def test_errors_carry_their_facts(error, facts):
    for fact in facts:
        assert fact in str(error)
