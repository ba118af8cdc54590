"""Extension of the API pages: turns the Sphinx roles and the examples of docstrings into Markdown."""

import inspect
import re
import sys
from pathlib import Path
from typing import Any

import griffe

sys.path.insert(0, str(Path(__file__).parent))
from reference import without_roles


class Docstrings(griffe.Extension):
    """Changes every docstring when it is loaded."""

    def on_object(self, *, obj: griffe.Object, **_: Any) -> None:
        if obj.docstring:
            obj.docstring.value = with_fenced_examples(without_roles(obj.docstring.value))


def with_fenced_examples(text: str) -> str:
    """Puts a code fence around each paragraph that starts with ``>>>``."""
    paragraphs = re.split(r"\n[ ]*\n", text)
    fenced = [
        f"```pycon\n{inspect.cleandoc(part)}\n```" if part.lstrip().startswith(">>>") else part
        for part in paragraphs
    ]
    return "\n\n".join(fenced)
