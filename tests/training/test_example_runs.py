"""The runs in examples/runs are read, and every loss in them can be made."""

from pathlib import Path

import pytest
import torch

from sentenc.training.config.pretraining import load_run
from sentenc.training.losses import make_loss

FILES = sorted((Path(__file__).parents[2] / "examples" / "runs").glob("*.toml"))
RUNS = [path for path in FILES if "[task]" not in path.read_text(encoding="utf-8")]


def test_there_are_runs():
    assert {path.stem for path in RUNS} >= {
        "cse-distill",
        "cse-refine",
        "cse-paper",
        "cse-tiny",
        "tinybert-general",
        "tinybert-joint",
        "tinybert-joint-finish",
        "tinybert4-pairs",
        "tinybert6",
        "tinybert6-finish",
        "cse-joint",
    }
    assert {path.stem for path in set(FILES) - set(RUNS)} == {"tinybert-task-sst2"}


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_run_is_read(path):
    run = load_run(path, ["training.learning_rate=0.5"])
    assert run.training.learning_rate == 0.5
    assert Path(run.output).is_relative_to(path.parent)
    columns = {"sentences": 1, "pairs": 2, "triplets": 3}
    for settings in run.losses:
        teacher_dim = 8 if settings.options.get("space") == "same" else 12
        (form,) = {source.form for source in run.corpora[settings.corpus].sources}
        loss = make_loss(
            settings.kind,
            settings.options,
            dim=8,
            columns=columns[form],
            teacher_dim=teacher_dim,
            axes=torch.eye(12, 8),
        )
        assert loss.columns == columns[form]
        assert not loss.needs_targets or run.teacher is not None


@pytest.mark.parametrize(("part", "count"), [("joint", 3), ("tinybert6", 2)])
def test_the_runs_of_a_joint_space_have_the_same_teachers(part, count):
    teachers = [load_run(path).teacher for path in RUNS if part in path.stem]
    assert len(teachers) == count
    for name in ("models", "joint", "dim", "axes", "cache", "precision"):
        assert len({str(getattr(teacher, name)) for teacher in teachers}) == 1


def test_runs_that_share_a_folder_of_embeddings_have_the_same_teachers():
    teachers: dict[str, tuple] = {}
    for path in RUNS:
        if (teacher := load_run(path).teacher) is None:
            continue
        contents = {teacher.cache: (teacher.models, teacher.model_weights, teacher.precision)}
        if teacher.joint:
            # A folder for each teacher and prompt; weights are no part of it.
            contents = {
                f"{teacher.cache}/{model.cache_name(role)}": (
                    model.model,
                    model.pooling,
                    model.prompt(role),
                    teacher.precision,
                )
                for model in teacher.joint
                for role in ("similarity", "query", "document")
            }
        for folder, content in contents.items():
            assert teachers.setdefault(folder, content) == content, (path.stem, folder)
    assert len(teachers) >= 5


def test_the_model_of_an_earlier_stage_is_a_folder():
    stages = {path.stem: load_run(path) for path in RUNS}
    for name, first in (
        ("cse-refine", "cse-distill"),
        ("tinybert-joint-finish", "tinybert-joint"),
        ("tinybert4-pairs", "tinybert-joint-finish"),
        ("tinybert6-finish", "tinybert6"),
    ):
        # The folder does not exist here, and is no Hub id nevertheless.
        assert stages[name].student.init == stages[first].output


def test_every_file_of_a_corpus_has_one_kind_of_text():
    kinds = ("sentences", "queries", "passages")
    for path in RUNS:
        for corpus in load_run(path).corpora.values():
            patterns = [
                Path(file).relative_to(path.parent) for source in corpus.sources for file in source.files
            ]
            for pattern in patterns:
                matched = {kind for kind in kinds if Path(f"corpus/{kind}-1.txt.gz").match(str(pattern))}
                assert len(matched) == (pattern.parent.name == "corpus"), (path.stem, pattern)
