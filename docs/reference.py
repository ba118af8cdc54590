"""Writes the tables of keys in reference/run-file.md from the classes that check a run file.

python docs/reference.py
"""

import inspect
import re
from dataclasses import MISSING, Field, fields, is_dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

PAGE = Path(__file__).parent / "reference/run-file.md"
ROLE = re.compile(r":(?:class|func|meth|mod|data|attr|exc|obj):`(~?)([\w.]+)`")
TABLE = re.compile(r"(<!-- keys of ([\w.]+) -->\n).*?(?=<!-- end -->)", re.S)
TYPES = {str: "string", int: "integer", float: "number", bool: "true or false", type(None): "none"}


def with_tables(page: str) -> str:
    """Returns the page with new tables."""
    return TABLE.sub(lambda match: f"{match[1]}\n{key_table(match[2])}\n\n", page)


def without_roles(text: str) -> str:
    """Returns the text with Sphinx roles as Markdown code."""
    return ROLE.sub(lambda m: f"`{m[2].split('.')[-1] if m[1] else m[2]}`", text)


def key_table(path: str) -> str:
    """Returns a Markdown table of the fields of a configuration class, or of the arguments of another class."""
    module, name = path.rsplit(".", 1)
    cls = getattr(import_module(module), name)
    lines = ["| Key | Type | Default | Meaning |", "|---|---|---|---|"]
    meanings = documented(cls)
    for key, hint, default in keys(cls):
        cells = (f"`{key}`", type_words(hint), default, meanings.get(key, ""))
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    return "\n".join(lines)


def keys(cls: type) -> list[tuple[str, Any, str]]:
    if is_dataclass(cls):
        hints = get_type_hints(cls)
        return [(item.name, hints[item.name], default_words(item)) for item in fields(cls)]
    hints = get_type_hints(cls.__init__)
    parameters = list(inspect.signature(cls).parameters.values())
    return [
        (p.name, hints[p.name], "required" if p.default is p.empty else shown(p.default)) for p in parameters
    ]


def default_words(item: "Field[Any]") -> str:
    if item.default is not MISSING:
        return shown(item.default)
    return "required" if item.default_factory is MISSING else shown(item.default_factory())


def shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return f'`"{value}"`'
    return f"`{str(value).lower() if isinstance(value, bool) else list(value) if isinstance(value, tuple) else value}`"


def type_words(hint: Any) -> str:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Literal:
        return " or ".join(f'`"{choice}"`' for choice in arguments)
    if origin in (tuple, list) or (origin and "Sequence" in str(origin)):
        return f"list of {type_words(arguments[0])}s"
    if origin is dict or (origin and "Mapping" in str(origin)):
        return "table"
    if arguments:
        return " or ".join(type_words(part) for part in arguments if part is not type(None))
    return TYPES.get(hint, getattr(hint, "__name__", str(hint)))


def documented(cls: type) -> dict[str, str]:
    """Returns the meaning of each attribute or argument, from the docstring's section."""
    meanings: dict[str, str] = {}
    name, inside = None, False
    for line in (inspect.getdoc(cls) or "").splitlines():
        if line in ("Attributes:", "Args:"):
            inside = True
        elif line and not line.startswith(" "):
            inside = False
        elif inside and (match := re.match(r"    (\w+): (.*)", line)):
            name = match[1]
            meanings[name] = match[2]
        elif inside and name and line.strip():
            meanings[name] += " " + line.strip()
    return {key: without_roles(text).replace("``", "`") for key, text in meanings.items()}


if __name__ == "__main__":
    PAGE.write_text(with_tables(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
