"""The run file of task distillation: reading and refusals."""

from pathlib import Path

import pytest

from sentenc.training.config.task_distillation import is_task_run, load_task_run, parse_task_run

EXAMPLE = Path(__file__).parents[2] / "examples" / "runs" / "tinybert-task-sst2.toml"


def table(**changes):
    content = {
        "output": "out",
        "task": {"kind": "classification", "train": "a.tsv", "dev": "b.tsv", "text": ["s"]},
        "teacher": {"model": "somewhere"},
        "student": {"init": "teacher", "layers": [0, 1]},
    }
    for path, value in changes.items():
        *sections, key = path.split("__")
        section = content
        for name in sections:
            section = section.setdefault(name, {})
        section[key] = value
    return content


def test_example_is_read():
    run = load_task_run(EXAMPLE, ["prediction.temperature=2.0", "task.limit=100"])
    assert Path(run.output).is_relative_to(EXAMPLE.parent)
    assert Path(run.task.train).is_relative_to(EXAMPLE.parent)
    assert (run.prediction.temperature, run.task.limit) == (2.0, 100)
    assert run.student.layers == (0, 2, 4, 5)
    assert run.teacher.finetune is not None
    assert run.augmentation.word_vectors == "cse-en"
    assert run.intermediate.epochs == 20


def test_example_names_every_key():
    from dataclasses import fields

    from sentenc.training.config import task_distillation as task_config

    text = EXAMPLE.read_text(encoding="utf-8")
    kinds = "Task Phase Intermediate Prediction TaskTeacher TaskStudent Augmentation"
    for kind in (f"{name}Config" for name in kinds.split()):
        for item in fields(getattr(task_config, kind)):
            assert f"{item.name} =" in text or f"[teacher.{item.name}]" in text, item.name


def test_defaults(tmp_path):
    run = parse_task_run(table(), tmp_path)
    assert (run.task.metric, run.task.max_tokens, run.task.is_regression) == ("accuracy", 128, False)
    assert run.augmentation is run.intermediate is run.teacher.finetune is None
    assert (run.prediction.epochs, run.prediction.targets, run.seed, run.device) == (
        3.0,
        "teacher",
        1,
        "auto",
    )
    regression = parse_task_run(table(task__kind="regression"), tmp_path)
    assert (regression.task.metric, regression.task.is_regression) == ("spearman", True)


def test_names_are_paths_only_if_there_is_such_a_file(tmp_path):
    (tmp_path / "somewhere").mkdir()
    (tmp_path / "teacher").mkdir()
    run = parse_task_run(table(augmentation__word_vectors="cse-en"), tmp_path)
    assert run.teacher.model == str(tmp_path / "somewhere")
    assert run.student.init == "teacher"
    assert run.augmentation.word_vectors == "cse-en"


def test_run_files_of_tasks_are_recognized(tmp_path):
    assert is_task_run(EXAMPLE)
    assert not is_task_run(EXAMPLE.with_name("cse-tiny.toml"))
    path = tmp_path / "broken.toml"
    path.write_text("[task", encoding="utf-8")
    assert not is_task_run(path)
    with pytest.raises(ValueError, match="is not a TOML file"):
        load_task_run(path)
    path.write_text("[task]\nkind = 1", encoding="utf-8")
    with pytest.raises(ValueError, match=r"broken\.toml: output is missing"):
        load_task_run(path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nonsense": 1}, "unknown key 'nonsense'.* output, work"),
        ({"task__nonsense": 1}, "unknown key task.nonsense"),
        ({"task__kind": "ranking"}, "task.kind is 'ranking'"),
        ({"task__text": ["a", "b", "c"]}, "expected one or two different columns"),
        ({"task__text": []}, "expected one or two different columns"),
        ({"task__text": ["a", "a"]}, "expected one or two different columns"),
        ({"task__text": ["label"]}, "expected one or two different columns"),
        ({"task__columns": ["s", "x"]}, "task.columns is .*'label'"),
        ({"task__metric": "spearman"}, "task.metric is 'spearman', expected one of accuracy, f1, matthews"),
        ({"task__max_tokens": 4}, "task.max_tokens is 4, expected .* 5"),
        ({"task__limit": -1}, "task.limit is -1"),
        ({"seed": -1}, "seed is -1"),
        ({"teacher": {}}, "teacher.model is missing"),
        ({"teacher__finetune": {"epochs": 0}}, "teacher.finetune: epochs is 0, expected"),
        ({"teacher__finetune": {"temperature": 1.0}}, "unknown key teacher.finetune.temperature"),
        ({"student": {}}, "student.layers is required"),
        ({"student": {"init": "random", "layers": [1]}}, "'random'"),
        ({"student__config": {"vocab_size": 3}}, "student.config.vocab_size"),
        ({"student": {"init": "x", "config": {"hidden_size": 3}}}, "student.config.hidden_size"),
        ({"augmentation": {}}, "masked_lm, word_vectors"),
        ({"augmentation": {"word_vectors": "x", "p": 0.0}}, "augmentation.p is 0"),
        ({"augmentation": {"word_vectors": "x", "copies": 0}}, "augmentation.copies is 0"),
        ({"intermediate": {"attention": -1.0}}, "intermediate: attention is -1"),
        ({"intermediate": {"batch_size": 0}}, "intermediate: batch_size is 0"),
        ({"prediction": {"targets": "silver"}}, "prediction.targets is 'silver'"),
        ({"prediction": {"evaluations": 0}}, "prediction: evaluations is 0"),
        ({"prediction": {"temperature": 0.0}}, "prediction: temperature is 0"),
        ({"prediction": {"learning_rate": float("inf")}}, "learning_rate is inf"),
        ({"prediction": 3}, "prediction is 3, expected a table"),
        ({"task": None}, "task is missing"),
    ],
)
def test_invalid_values_are_refused(changes, message, tmp_path):
    with pytest.raises((TypeError, ValueError), match=message):
        parse_task_run(table(**changes), tmp_path)
