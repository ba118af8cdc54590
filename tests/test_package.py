"""The package itself: the cost of its import, its public names and the size of its files."""

import json
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import sentenc
from sentenc import MissingExtraError

HEAVY = [
    "numpy", "torch", "onnxruntime", "transformers", "sentence_transformers", "tokenizers", "sklearn",
    "huggingface_hub", "langchain_core", "llama_index", "haystack", "chromadb", "lancedb", "psycopg", "bertopic", "keybert",
    "mteb", "ray", "pyspark", "polars",
]  # fmt: skip


def python(code: str) -> str:
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120
    )
    return result.stdout


def test_public_names_can_be_imported():
    for name in sentenc.__all__:
        assert getattr(sentenc, name) is not None
    assert set(sentenc.__all__) <= set(dir(sentenc))
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = sentenc.nonsense


def test_import_loads_nothing_heavy():
    code = f"import sys, sentenc, json; print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    assert json.loads(python(code)) == []


def test_command_line_help_loads_nothing_heavy():
    code = (
        "import sys, json\nfrom sentenc.cli import cli\n"
        "cli.main(['--version'], standalone_mode=False)\n"
        f"print(json.dumps([m for m in {HEAVY} if m in sys.modules]))"
    )
    assert json.loads(python(code).splitlines()[-1]) == []


def test_encoding_needs_no_torch():
    code = (
        "import sys\nfor name in ('torch', 'transformers', 'sentence_transformers', 'scipy', 'sklearn'):\n"
        "    sys.modules[name] = None\n"
        "import sentenc\nprint(sentenc.load('cse-en').encode(['a man', 'a dog']).shape)"
    )
    assert python(code) == "(2, 480)\n"


def test_shipped_models_need_no_tokenizers_library():
    code = (
        "import sys\nsys.modules['tokenizers'] = sys.modules['huggingface_hub'] = None\nimport sentenc\n"
        "for name in sentenc.available_models():\n"
        "    print(sentenc.load(name).encode(['a man', 'Crème brûlée, 東京 \\u302e']).shape)"
    )
    assert python(code) == "(2, 480)\n(2, 272)\n" + "(2, 384)\n" * 3


def test_a_splitter_without_tokenizers_names_the_extra(monkeypatch):
    from sentenc.training.data.words import word_splitter

    monkeypatch.setitem(sys.modules, "tokenizers", None)
    with pytest.raises(MissingExtraError, match=r"sentenc\[train\]"):
        word_splitter(True)


def test_encoding_loads_only_what_it_needs():
    # Each of these takes as long as several thousand texts.
    unused = [
        "bz2", "concurrent.futures", "csv", "logging", "lzma", "onnxruntime", "sentenc.io.records",
        "sentenc.retrieval", "tempfile", "tokenizers",
    ]  # fmt: skip
    code = (
        "import numpy, sys, json\nbefore = set(sys.modules)\nimport sentenc\n"
        "sentenc.load('cse-en-tiny').encode('a man')\n"
        f"print(json.dumps([name for name in {unused} if name in set(sys.modules) - before]))"
    )
    assert json.loads(python(code)) == []


def test_missing_extra_names_itself():
    code = (
        "import sys\nsys.modules['sentence_transformers'] = None\nimport sentenc\n"
        "try:\n    sentenc.SentenceTransformerEncoder('folder')\nexcept sentenc.MissingExtraError as e:\n    print(e)"
    )
    assert 'pip install "sentenc[sentence-transformers]"' in python(code)
    assert MissingExtraError("eval", "scipy", "this").extra == "eval"


def test_no_logging_is_configured():
    code = "import logging, sentenc; sentenc.load('cse-en').encode('a'); print(logging.getLogger().handlers)"
    assert python(code) == "[]\n"


def test_files_are_short():
    package = Path(sentenc.__file__).parent
    if Path(sysconfig.get_paths()["purelib"]) in package.parents:
        pytest.skip("only of interest in the repository")
    for path in [*package.rglob("*.py"), *Path(__file__).parent.rglob("*.py")]:
        assert len(path.read_text(encoding="utf-8").splitlines()) <= 400, path
