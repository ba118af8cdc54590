"""The parts of the ablation benchmark that need no training."""

import json
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.fixture
def cells():
    import ablation_cells

    return ablation_cells


@pytest.fixture
def report():
    import ablation_report

    return ablation_report


def row(report, cell, seed, pearson, transfer):
    scores = {
        "pearson_mean": dict.fromkeys(report.STS, pearson),
        "spearman_all": dict.fromkeys(report.STS, pearson + 1),
        "transfer": {"MR": transfer, "TREC": transfer + 2},
    }
    return {"cell": cell.name, "seed": seed, "scores": scores}


def test_cells_are_distinct_and_keep_the_output_as_long_as_the_embeddings(cells):
    grid = cells.grid()
    names = {cell.name for cell in grid}
    assert len(names) == len(grid) == 20
    assert {cell.config(50, 300).dim for cell in grid} == {300}
    assert {cell.name for cell in cells.in_order(names)} == names
    paper = cells.Cell("paper", (1, 2, 3)).config(50, 300)
    assert paper == paper.paper(50)


def test_gains_are_over_the_word_average_of_the_same_seed(cells, report):
    average, relu = cells.Cell("average"), cells.Cell("paper", (1, 2, 3), "relu")
    rows = [
        row(report, average, 1, 60.0, 70.0),
        row(report, relu, 1, 61.0, 69.0),
        row(report, average, 2, 50.0, 71.0),
        row(report, relu, 2, 53.0, 73.0),
        row(report, relu, 3, 99.0, 99.0),
    ]
    entry = report.summary(rows)[relu.name]
    assert entry["seeds"] == 3
    assert entry["values"]["transfer"] == [70.0, 74.0, 100.0]
    assert entry["gains"] == {
        "STS12-16 Pearson": [1.0, 3.0],
        "STS Spearman": [1.0, 3.0],
        "transfer": [-1.0, 2.0],
    }
    settings = {
        "steps": 5,
        "batch": 4,
        "minutes_a_cell": None,
        "n_pairs": 9,
        "pairs": ["a"],
        "vocabulary": 7,
        "dim": 300,
        "transfer": ["MR", "TREC"],
    }
    lines = report.table(rows, settings).splitlines()
    assert lines[3].startswith("| paper {1, 2, 3}, relu | 3 | 71.00 | +2.00 (+1.00 to +3.00) |")
    assert len({line.count("|") for line in lines[:4]}) == 1
    assert "CR, SUBJ, MPQA, SST2, MRPC left out" in "\n".join(lines)


def test_results_of_other_settings_are_refused(tmp_path):
    import machine

    path = tmp_path / "ablation.json"
    assert machine.earlier_rows(path, {"steps": 5}) == []
    path.write_text(json.dumps({"settings": {"steps": 5}, "rows": [1]}))
    assert machine.earlier_rows(path, {"steps": 5}) == [1]
    with pytest.raises(SystemExit, match=r"other settings \(steps\)"):
        machine.earlier_rows(path, {"steps": 6})
