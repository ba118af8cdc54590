"""Importing ONNX Runtime sends and stores no usage reports, and leaves the environment as it was."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.models import make_bert
from tests.support.processes import REPOSITORY

ENCODE = """
import json, os, sys, time
before = dict(os.environ)
import sentenc
encoder = sentenc.load(sys.argv[1], threads=1)
encoder.encode("a man")
# The client of the reports would write its files within a second.
time.sleep(1.5)
print(json.dumps({"unchanged": dict(os.environ) == before, "imported": "onnxruntime" in sys.modules}))
"""
FOLDERS = ["sentenc", "tests", "benchmarks", "examples"]
ONLY_IMPORTER = Path("sentenc/encoders/bert/onnx_runtime.py")


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model") / "tiny"
    make_bert().save(folder)
    return folder


@pytest.mark.parametrize("switch", [None, "0"])
def test_encoding_leaves_no_reports_and_no_change_of_the_environment(model, tmp_path, switch):
    environment = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    environment |= {
        "HOME": str(tmp_path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PYTHONPATH": str(REPOSITORY),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    if switch is not None:
        environment["ORT_DISABLE_TELEMETRY"] = switch
    result = subprocess.run(
        [sys.executable, "-c", ENCODE, model],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    assert json.loads(result.stdout.splitlines()[-1]) == {"unchanged": True, "imported": True}
    # The kernels of the package may be compiled into the cache; ONNX Runtime writes below "Microsoft".
    assert [
        path for path in tmp_path.rglob("*") if "microsoft" in str(path.relative_to(tmp_path)).lower()
    ] == []


def test_the_environment_is_restored_if_the_import_fails():
    code = (
        "import os, sys\nsys.modules['onnxruntime.capi'] = None\nbefore = dict(os.environ)\n"
        "from sentenc.encoders.bert.onnx_runtime import import_onnxruntime\n"
        "try:\n    import_onnxruntime()\nexcept ImportError:\n    print(dict(os.environ) == before)"
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY)}
    result = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert result.stdout.splitlines()[-1:] == ["True"], result.stderr


def test_only_one_module_imports_onnxruntime():
    importers = {
        path.relative_to(REPOSITORY)
        for folder in FOLDERS
        for path in (REPOSITORY / folder).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if "onnxruntime" in {name.partition(".")[0] for name in imported_names(node)}
    }
    assert importers == {ONLY_IMPORTER}


def imported_names(node: ast.AST) -> list[str]:
    """The names that a statement imports; ``pytest.importorskip`` counts too."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        return [node.module or ""]
    if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("importorskip", "import_module")):
        return [str(argument.value) for argument in node.args if isinstance(argument, ast.Constant)]
    return []
