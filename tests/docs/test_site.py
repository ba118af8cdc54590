"""The files that the documentation site includes are up to date."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def test_tables_contain_the_measured_results(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    import tables

    for name in tables.TABLES:
        path = ROOT / "benchmarks/results" / f"{name}.md"
        assert path.read_text(encoding="utf-8") == tables.render(name), (
            f"run: {sys.executable} benchmarks/tables.py"
        )


@pytest.mark.parametrize("page", ["README.md", "docs/models.md"])
def test_scores_of_models_are_the_measured_results(page):
    encoders = json.loads((ROOT / "benchmarks/results/transfer/summary.json").read_text(encoding="utf-8"))[
        "encoders"
    ]
    rows = re.findall(r"^\| [`*]*([\w-]+)[`*]* \|(.*)\|$", (ROOT / page).read_text(encoding="utf-8"), re.M)
    shown = {name: cells.split("|") for name, cells in rows if name in encoders}
    assert {"cse-en", "cse-en-tiny", "tinybert4-en", "tinybert6-en"} <= shown.keys()
    for name, cells in shown.items():
        averages = encoders[name]["averages"]
        for key in ("STS avg", "transfer avg"):
            assert f"{averages[key]:.1f}" in [cell.strip() for cell in cells], (name, key)


def test_keys_of_run_files_are_those_of_the_classes(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    import reference

    page = reference.PAGE.read_text(encoding="utf-8")
    assert page == reference.with_tables(page), f"run: {sys.executable} docs/reference.py"


def test_plots_of_the_site_are_those_of_the_results():
    measured = {path.name: path.read_bytes() for path in (ROOT / "benchmarks/results").rglob("*.png")}
    shown = [path for path in (ROOT / "docs/assets").glob("*.png") if path.name in measured]
    assert len(shown) >= 4
    for path in shown:
        assert path.read_bytes() == measured[path.name], path.name


def test_readme_is_short():
    assert len((ROOT / "README.md").read_bytes()) < 8_000


def test_lines_of_prose_are_short():
    pages = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md")]
    for page in [*pages, *(ROOT / "docs").rglob("*.md")]:
        # Lines of code and of tables cannot be wrapped.
        prose = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)
        for line in prose.splitlines():
            assert len(line) <= 130 or line.lstrip().startswith(("|", "!!!")), (page.name, line)
