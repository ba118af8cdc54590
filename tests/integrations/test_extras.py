"""Every adapter names its extra if its library is not installed, and the extras exist."""

import importlib
import sys
import tomllib
from pathlib import Path

import pytest

import sentenc
from sentenc import MissingExtraError

ADAPTERS = {
    "bertopic": ("bertopic", "bertopic"),
    "chroma": ("chromadb", "chroma"),
    "haystack": ("haystack", "haystack"),
    "keybert": ("keybert", "keybert"),
    "lancedb": ("lancedb", "lancedb"),
    "langchain": ("langchain_core", "langchain"),
    "llama_index": ("llama_index", "llama-index"),
    "mteb": ("mteb", "mteb"),
    "pgvector": ("psycopg", "pgvector"),
    "polars": ("polars", "polars"),
    "spark": ("pyspark", "spark"),
    "sentence_transformers": ("sentence_transformers", "sentence-transformers"),
}
PROJECT = Path(sentenc.__file__).parents[1] / "pyproject.toml"


@pytest.mark.parametrize(("module", "library", "extra"), [(m, *names) for m, names in ADAPTERS.items()])
def test_a_missing_library_is_named_with_its_extra(monkeypatch, module, library, extra):
    for name in [name for name in sys.modules if name == library or name.startswith(f"{library}.")]:
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.delitem(sys.modules, f"sentenc.integrations.{module}", raising=False)
    with pytest.raises(MissingExtraError, match=rf"sentenc\[{extra}\]"):
        importlib.import_module(f"sentenc.integrations.{module}")


@pytest.mark.skipif(not PROJECT.exists(), reason="the package is installed without its sources")
def test_extras_and_the_versions_that_are_tested():
    extras = tomllib.loads(PROJECT.read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    assert {extra for _, extra in ADAPTERS.values()} <= set(extras)
    constraints = PROJECT.with_name("constraints.txt").read_text(encoding="utf-8")
    pinned = dict(line.split("==") for line in constraints.splitlines() if "==" in line)
    page = (PROJECT.parent / "docs" / "guides" / "integrations.md").read_text(encoding="utf-8")
    for library in ("langchain-core", "llama-index-core", "haystack-ai", "chromadb", "psycopg"):
        assert f"{library} {pinned[library]}" in page
    for library in (
        "scikit-learn",
        "sentence-transformers",
        "lancedb",
        "bertopic",
        "keybert",
        "mteb",
        "ray",
        "pyspark",
        "polars",
    ):
        assert f"| {pinned[library]} |" in page
