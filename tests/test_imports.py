"""The import rule: every package is on a floor, imports only go down, and there are no import circles.

Every import counts: at the top of a module, inside a function and under ``TYPE_CHECKING``. An import inside a
function saves start-up time, or waits for an optional package. It is never there to get around a circle.
"""

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import sentenc

PACKAGE = Path(sentenc.__file__).parent

# The floors from the bottom to the top. A module may import its own unit and every floor below, but no other
# unit on its own floor. The empty name is the package itself: ``import sentenc``.
FLOORS = [
    ["errors", "_version", "forking", "arrow_texts"],
    ["validation", "texts", "metrics", "figures", "collections", "installed", "key_index"],
    ["io", "kernels", "splits", "solvers", "threads"],
    ["tokenization", "checkpoint"],
    ["encoders"],
    ["registry", "embedding_cache"],
    ["verification", "conversion", "combining", "nn", "shards"],
    ["retrieval"],
    ["evaluation"],
    ["training.data"],
    ["training.losses"],
    ["training.config"],
    ["training.teachers"],
    ["training.students"],
    ["training.engine", "training.initialization"],
    ["training.augmentation"],
    ["training.recipes", "training.alignment"],
    ["training"],
    ["downstream"],
    ["serving"],
    ["integrations"],
    [""],
    ["cli"],
    ["__main__"],
]
FLOOR = {unit: number for number, units in enumerate(FLOORS) for unit in units}


def module_name(path: Path) -> str:
    """The dotted name of a module below ``sentenc``; the package itself is the empty name."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


MODULES = {module_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}


def imported_modules(path: Path) -> Iterator[str]:
    """The modules of the package that a module imports anywhere in its text."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            # ``from package import name`` imports a submodule if there is one of this name.
            names = [f"{node.module}.{alias.name}" for alias in node.names]
            names = [name if name.removeprefix("sentenc.") in MODULES else node.module for name in names]
        else:
            continue
        yield from (name.partition(".")[2] for name in names if name.partition(".")[0] == "sentenc")


def unit_of(module: str) -> str:
    """The longest unit of ``FLOORS`` that contains a module, or the empty name."""
    return max((unit for unit in FLOOR if f"{module}.".startswith(f"{unit}.")), key=len, default="")


# Methods of encoders that hand them to other libraries. Their functions import these packages when they are called.
UPWARD = {
    ("encoders.sharing", "integrations.hub"),
    ("encoders.sharing", "integrations.sentence_transformers"),
    ("encoders.sharing", "integrations.sentence_transformers_folder"),
}

IMPORTS = {
    name: {imported for imported in imported_modules(path) if (name, imported) not in UPWARD}
    for name, path in MODULES.items()
}


def test_every_module_is_on_a_floor():
    assert [name for name in MODULES if not unit_of(name) and name] == []


def test_imports_only_go_down():
    upward = {
        f"{module} -> {imported}"
        for module, targets in IMPORTS.items()
        for imported in targets
        if unit_of(imported) != unit_of(module) and FLOOR[unit_of(imported)] >= FLOOR[unit_of(module)]
    }
    assert upward == set()


def test_imports_that_go_up_are_in_functions():
    for module, imported in UPWARD:
        tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
        at_top = {node.module for node in tree.body if isinstance(node, ast.ImportFrom)}
        assert imported in set(imported_modules(MODULES[module]))
        assert f"sentenc.{imported}" not in at_top


def test_there_are_no_import_circles():
    try:
        TopologicalSorter(IMPORTS).prepare()
    except CycleError as error:
        pytest.fail(f"import circle: {' <- '.join(error.args[1])}")
