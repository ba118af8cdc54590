"""The parts of the benchmarks that run without data: their imports, run tables and result tables."""

import argparse
import json
from pathlib import Path

import pytest

from sentenc.training.config.pretraining import parse_run
from sentenc.training.config.task_distillation import parse_task_run

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))


@pytest.mark.parametrize(
    "name",
    [
        "downstream",
        "encode_speed",
        "index_memory",
        "index_speed",
        "retrieval",
        "server_load",
        "static_models",
    ],
)
def test_a_benchmark_can_be_imported(name):
    __import__(name)


def test_the_runs_of_initializations_are_valid(tmp_path):
    pytest.importorskip("torch")
    import tinybert_starts

    options = argparse.Namespace(
        teacher=tmp_path,
        sentences=tmp_path / "a.txt",
        sts=tmp_path / "dev.tsv",
        work=tmp_path,
        steps=5,
        batch=4,
    )
    for student in tinybert_starts.STUDENTS.values():
        for lessons in tinybert_starts.LESSONS:
            run = parse_run(tinybert_starts.run_table(student, lessons, options), tmp_path)
            assert run.student.init == student["init"]


@pytest.fixture
def tinybert_tasks():
    pytest.importorskip("torch")
    import tinybert_tasks

    return tinybert_tasks


def test_the_ablation_can_be_imported():
    pytest.importorskip("torch")
    import ablation

    assert ablation.grid()


def test_the_runs_of_task_distillation_are_valid(tinybert_tasks, tmp_path, monkeypatch):
    arguments = ["tinybert_tasks", "--data", "data", "--work", str(tmp_path), "--teacher", "bert"]
    monkeypatch.setattr("sys.argv", arguments)
    options = tinybert_tasks._options()
    for task in tinybert_tasks.TASKS:
        for cell in tinybert_tasks.CELLS[1:]:
            run = parse_task_run(tinybert_tasks.run_table(cell, task, 1, options), tmp_path)
            assert (run.intermediate is None) == (cell in ("no intermediate", "from scratch"))


def test_the_table_of_task_distillation_contains_the_scores_and_the_settings(tinybert_tasks):
    path = BENCHMARKS / "results/tinybert/tinybert_tasks.json"
    content = json.loads(path.read_text("utf-8"))
    text = tinybert_tasks.table(content["rows"], content["settings"])
    assert "| full | 86.5 ± 0.3 | 86.5 ± 0.2 | 84.6 ± 0.0 | 5.0 ± 0.2 | 57.0 ± 0.4 |" in text
    assert "NVIDIA H200" in text
