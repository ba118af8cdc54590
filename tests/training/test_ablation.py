"""The pure parts of benchmarks/ablation.py."""

import json
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(scope="module")
def ablation():
    sys.path.insert(0, str(BENCHMARKS))
    try:
        import ablation
    finally:
        sys.path.remove(str(BENCHMARKS))
    return ablation


def row(ablation, cell, seed, pearson, transfer):
    scores = {
        "pearson_mean": dict.fromkeys(ablation.STS, pearson),
        "spearman_all": dict.fromkeys(ablation.STS, pearson + 1),
        "transfer": {"MR": transfer, "TREC": transfer + 2},
    }
    return {"cell": cell.name, "seed": seed, "scores": scores}


def test_cells_are_distinct_and_keep_the_output_as_long_as_the_embeddings(ablation):
    cells = ablation.grid()
    assert len({cell.name for cell in cells}) == len(cells) == 20
    assert {cell.config(50, 300).dim for cell in cells} == {300}
    assert sorted(cell.name for cell in ablation.in_order({cell.name for cell in cells})) == sorted(
        cell.name for cell in cells
    )
    paper = ablation.Cell("paper", (1, 2, 3)).config(50, 300)
    assert paper == paper.paper(50)


def test_gains_are_over_the_word_average_of_the_same_seed(ablation):
    average, relu = ablation.Cell("average"), ablation.Cell("paper", (1, 2, 3), "relu")
    rows = [
        row(ablation, average, 1, 60.0, 70.0),
        row(ablation, relu, 1, 61.0, 69.0),
        row(ablation, average, 2, 50.0, 71.0),
        row(ablation, relu, 2, 53.0, 73.0),
        row(ablation, relu, 3, 99.0, 99.0),
    ]
    entry = ablation.summary(rows)[relu.name]
    assert entry["seeds"] == 3
    assert entry["values"]["transfer"] == [70.0, 74.0, 100.0]
    assert entry["gains"] == {
        "STS12-16 Pearson": [1.0, 3.0], "STS Spearman": [1.0, 3.0], "transfer": [-1.0, 2.0],
    }  # fmt: skip
    settings = {
        "steps": 5, "batch": 4, "minutes_a_cell": None, "n_pairs": 9, "pairs": ["a"], "vocabulary": 7, "dim": 300,
        "transfer": ["MR", "TREC"],
    }  # fmt: skip
    lines = ablation.table(rows, settings).splitlines()
    assert lines[3].startswith("| paper {1, 2, 3}, relu | 3 | 71.00 | +2.00 (+1.00 to +3.00) |")
    assert len({line.count("|") for line in lines[:4]}) == 1
    assert "CR, SUBJ, MPQA, SST2, MRPC left out" in "\n".join(lines)


def test_results_of_other_settings_are_refused(ablation, tmp_path):
    path = tmp_path / "ablation.json"
    assert ablation.earlier_rows(path, {"steps": 5}) == []
    path.write_text(json.dumps({"settings": {"steps": 5}, "rows": [1]}))
    assert ablation.earlier_rows(path, {"steps": 5}) == [1]
    with pytest.raises(SystemExit, match=r"other settings \(steps\)"):
        ablation.earlier_rows(path, {"steps": 6})
