"""The task distillation recipe: phases, resuming, pairs, scores, and refusals."""

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import tomli_w
import torch

transformers = pytest.importorskip("transformers")

from click.testing import CliRunner  # noqa: E402 (needs the extra)
from safetensors.torch import load_file  # noqa: E402

from sentenc.cli import cli  # noqa: E402
from sentenc.errors import CheckpointError, CorpusError, ModelNotFoundError  # noqa: E402
from sentenc.io.locks import FileLock  # noqa: E402
from sentenc.training.config.task_distillation import AugmentationConfig, parse_task_run  # noqa: E402
from sentenc.training.data.labeled import TaskData, read_task_data  # noqa: E402
from sentenc.training.engine.distributed import single_process  # noqa: E402
from sentenc.training.initialization.build_classifier import build_classifier_student, load_classifier  # noqa: E402
from sentenc.training.recipes import task_distillation, task_phases  # noqa: E402
from sentenc.training.recipes.task_caches import augmented_examples, teacher_outputs  # noqa: E402
from sentenc.training.recipes.task_distillation import GoldTargets, build_intermediate_loss, distill_for_task  # noqa: E402
from tests.support.models import make_cse  # noqa: E402
from tests.support.task import make_model, make_tokenizer, save_base, write_task  # noqa: E402


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Base model, vectors and data, with a teacher that was fine-tuned for the topics."""
    place = tmp_path_factory.mktemp("task")
    save_base(place / "base")
    make_cse().save(place / "vectors")
    for name, options in (("topics", {}), ("same", {"pairs": True}), ("scores", {"scores": True})):
        (place / name).mkdir()
        write_task(place / name, **options)
    config = settings(place, place / "first", teacher={"model": "base", "finetune": FINETUNE})
    distill_for_task(config, show_progress_bar=False)
    shutil.copytree(place / "first" / "work" / "teacher" / "model", place / "tuned")
    return place


FINETUNE = {"epochs": 8, "learning_rate": 3e-3, "batch_size": 8}
AUGMENTATION = {"copies": 2, "word_vectors": "vectors", "candidates": 3}


def table(data="topics", **changes):
    return {
        "task": {
            "kind": "classification",
            "train": f"{data}/train.tsv",
            "dev": f"{data}/dev.tsv",
            "text": ["a"],
            "max_tokens": 32,
        },
        "teacher": {"model": "tuned"},
        "student": {"init": "teacher", "layers": [0, 2], "config": {"intermediate_size": 24}},
        "prediction": {"epochs": 2, "learning_rate": 1e-3, "batch_size": 8},
        "device": "cpu",
    } | changes


def settings(folder, own, data="topics", **changes):
    content = table(data, **changes) | {"output": str(own / "out"), "work": str(own / "work")}
    return parse_task_run(content, folder)


def run(*arguments, **options):
    return distill_for_task(*arguments, show_progress_bar=False, **options)


def task_metadata(folder):
    return json.loads((folder / "task.json").read_text(encoding="utf-8"))


def test_the_student_learns_from_a_fine_tuned_teacher(folder, tmp_path):
    output = run(settings(folder, tmp_path, augmentation=AUGMENTATION), command="sentenc train x")
    scores = task_metadata(output)["scores"]
    assert scores["teacher"] > 90
    assert scores["student"] > 60
    model = transformers.AutoModelForSequenceClassification.from_pretrained(output)
    assert model.config.num_hidden_layers == 2
    assert model.config.intermediate_size == 24
    assert model.config.id2label == {0: "0", 1: "1"}
    card = (output / "README.md").read_text(encoding="utf-8")
    assert "sentenc train x" in card
    assert f"{scores['student']:.2f}" in card
    assert str(tmp_path) not in card.split("```toml")[0]
    assert (output / "run.toml").exists()
    assert "dev" in (output / "prediction.jsonl").read_text()
    assert not list((tmp_path / "work").rglob("state.pt"))
    kept = read_augmented(tmp_path)
    assert 48 < len(kept) <= 144


def read_augmented(own):
    (path,) = (own / "work").glob("augmented-*.tsv")
    return path.read_text(encoding="utf-8").splitlines()


def test_complete_phases_are_not_repeated(folder, tmp_path, monkeypatch):
    config = settings(
        folder,
        tmp_path,
        teacher={"model": "base", "finetune": FINETUNE},
        intermediate={"epochs": 1, "batch_size": 8},
    )
    output = run(config)
    first = load_file(output / "model.safetensors")
    assert {path.name for path in output.glob("*.jsonl")} == {
        "teacher.jsonl",
        "intermediate.jsonl",
        "prediction.jsonl",
    }

    def refuse(*_arguments, **_options):
        raise AssertionError("trained again")

    monkeypatch.setattr(task_phases, "Trainer", refuse)
    shutil.rmtree(output)
    second = load_file(run(config) / "model.safetensors")
    assert all(torch.equal(second[name], value) for name, value in first.items())
    with pytest.raises(AssertionError, match="trained again"):
        run(config, resume=False)


def test_a_fresh_start_with_a_mistake_keeps_the_phases(folder, tmp_path):
    run(settings(folder, tmp_path))
    phase = tmp_path / "work/prediction/model/task.json"
    before = phase.stat().st_mtime_ns
    with pytest.raises(ModelNotFoundError):
        run(settings(folder, tmp_path, teacher={"model": "nowhere"}), resume=False)
    (tmp_path / "out/task.json").unlink()
    with pytest.raises(CheckpointError, match="out"):
        run(settings(folder, tmp_path), resume=False)
    lock = FileLock(tmp_path / "work/.sentenc.lock")
    with pytest.raises(ValueError, match="in use by another run"):
        run(replace(settings(folder, tmp_path), output=str(tmp_path / "other")))
    lock.release()
    assert phase.stat().st_mtime_ns == before


def test_a_stopped_run_ends_like_one_that_was_not_stopped(folder, tmp_path, monkeypatch):
    changes = {"augmentation": AUGMENTATION, "intermediate": {"epochs": 1, "batch_size": 8}}
    whole = load_file(run(settings(folder, tmp_path / "whole", **changes)) / "model.safetensors")
    config = settings(folder, tmp_path / "parts", **changes)
    real = task_phases.Trainer

    class Stopping(real):
        def run(self, stop_at=None):
            if super().run(self.step + 3 if not self.state_file.exists() else None).finished:
                return super().run()
            raise KeyboardInterrupt("stopped")

    monkeypatch.setattr(task_phases, "Trainer", Stopping)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(config)
    parts = load_file(run(config) / "model.safetensors")
    assert all(torch.equal(parts[name], value) for name, value in whole.items())


def test_pairs(folder, tmp_path, monkeypatch):
    changes = {
        "task": table("same")["task"] | {"text": ["a", "b"], "metric": "f1"},
        "teacher": {"model": "base", "finetune": FINETUNE | {"epochs": 1}},
    }
    config = settings(folder, tmp_path, augmentation=AUGMENTATION, **changes)
    # Such a tiny teacher does not learn the task; any score is accepted here.
    monkeypatch.setattr(task_distillation, "baseline", lambda *_: -1.0)
    metadata = task_metadata(run(config))
    assert metadata["pairs"]
    assert metadata["labels"] == ["other", "same"]
    lines = [line.split("\t") for line in read_augmented(tmp_path)]
    assert {len(fields) for fields in lines} == {3}


def test_scores_are_learned_from_the_original_examples(folder, tmp_path):
    task = table("scores")["task"] | {"kind": "regression"}
    teacher = {"model": "base", "finetune": FINETUNE}
    config = settings(
        folder,
        tmp_path,
        task=task,
        teacher=teacher,
        augmentation=AUGMENTATION,
        intermediate={"epochs": 1, "batch_size": 8},
    )
    output = run(config)
    outcomes = {
        name: task_metadata(tmp_path / "work" / name / "model")["outcome"]["texts"]
        for name in ("intermediate", "prediction")
    }
    assert outcomes["prediction"] == 48 < outcomes["intermediate"]
    assert task_metadata(output)["scores"]["student"] > 20
    assert transformers.AutoConfig.from_pretrained(output).num_labels == 1


def test_gold_labels_with_random_initialization(folder, tmp_path):
    config = settings(
        folder, tmp_path, student={"init": "random", "config": {"num_hidden_layers": 1}},
        prediction={
            "epochs": 12, "learning_rate": 1e-2, "batch_size": 8, "targets": "gold", "evaluations": 2,
        },
    )  # fmt: skip
    assert task_metadata(run(config))["scores"]["student"] > 80


def test_student_from_a_folder(folder, tmp_path):
    config = settings(
        folder,
        tmp_path,
        student={"init": "base", "config": {"hidden_dropout_prob": 0.0}},
        prediction={"epochs": 1, "batch_size": 16},
    )
    output = run(config)
    model_config = transformers.AutoConfig.from_pretrained(output)
    assert (model_config.num_hidden_layers, model_config.hidden_dropout_prob) == (3, 0.0)


def test_layers_of_the_teacher_with_its_classifier(folder, tmp_path):
    config = settings(folder, tmp_path, student={"init": "teacher", "layers": [0, 1, 2]})
    data = read_task_data(config.task.train, config.task)
    teacher = load_classifier(config.teacher.model, data, config)
    student = build_classifier_student(config, teacher, data)
    texts = data.texts[:8]
    np.testing.assert_allclose(student.logits(texts), teacher.logits(texts), atol=1e-5)


def test_the_time_is_divided_by_the_examples_that_phases_see(folder, tmp_path):
    config = settings(
        folder, tmp_path, teacher={"model": "base", "finetune": FINETUNE | {"epochs": 3}},
        augmentation=AUGMENTATION, intermediate={"epochs": 4}, prediction={"epochs": 2, "max_minutes": 0.5},
    )  # fmt: skip
    train = read_task_data(config.task.train, config.task)

    def of(minutes):
        return task_phases.TaskRun(
            config=config, train=train, dev=train, processes=single_process("cpu"), max_minutes=minutes
        )

    # Three passes over n examples, then four and two passes over 3 n.
    minutes = [task_phases.phase_minutes(of(21.0), name) for name in task_phases.PHASES]
    assert minutes == [3.0, 12.0, 6.0]
    for phase, settings_of_phase, expected in (
        ("prediction", config.prediction, 0.5),
        ("teacher", config.teacher.finetune, 3.0),
    ):
        trainer = task_phases.trainer_config(of(21.0), phase, settings_of_phase, 6, "best")
        assert trainer.max_minutes == expected
    assert task_phases.phase_minutes(of(None), "teacher") is None


def test_classes_are_reordered_like_those_of_the_data(folder, tmp_path):
    config = settings(folder, tmp_path)
    data = read_task_data(config.task.train, config.task)
    plain = load_classifier(config.teacher.model, data, config).logits(data.texts[:4])
    reversed_classes = transformers.AutoModelForSequenceClassification.from_pretrained(folder / "tuned")
    reversed_classes.config.id2label, reversed_classes.config.label2id = {0: "1", 1: "0"}, {"1": 0, "0": 1}
    reversed_classes.save_pretrained(tmp_path / "reversed")
    make_tokenizer().save_pretrained(tmp_path / "reversed")
    reordered = load_classifier(str(tmp_path / "reversed"), data, config).logits(data.texts[:4])
    np.testing.assert_array_equal(reordered, plain[:, ::-1])
    reversed_classes.config.id2label = {0: "good", 1: "bad"}
    reversed_classes.save_pretrained(tmp_path / "reversed")
    with pytest.raises(ValueError, match="classes are good, bad, expected those of the data: 0, 1"):
        load_classifier(str(tmp_path / "reversed"), data, config)


def test_refused_teachers(folder, tmp_path):
    config = settings(folder, tmp_path)
    make_model().save_pretrained(tmp_path / "raw")
    make_tokenizer().save_pretrained(tmp_path / "raw")
    with pytest.raises(ValueError, match=r"teacher's accuracy on dev is \d+\.\d\d, expected more than \d+"):
        run(replace(config, teacher=replace(config.teacher, model=str(tmp_path / "raw"))))
    with pytest.raises(ValueError, match=r"base has no classifier"):
        run(settings(folder, tmp_path, teacher={"model": "base"}))
    make_model(num_labels=3).save_pretrained(tmp_path / "raw")
    with pytest.raises(ValueError, match=r"has 3 outputs \(LABEL_0, .*expected 2: 0, 1"):
        run(replace(config, teacher=replace(config.teacher, model=str(tmp_path / "raw"))))
    (tmp_path / "raw" / "model.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot be read as a BERT"):
        run(replace(config, teacher=replace(config.teacher, model=str(tmp_path / "raw"))))
    with pytest.raises(ModelNotFoundError):
        run(settings(folder, tmp_path, teacher={"model": "./nowhere"}))
    with pytest.raises(ValueError, match="expected a transformer"):
        run(settings(folder, tmp_path, teacher={"model": "vectors", "finetune": FINETUNE}))


def test_refused_settings(folder, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match=r"\[augmentation\] has no effect"):
        run(settings(folder, tmp_path, augmentation=AUGMENTATION, prediction={"targets": "gold"}))
    with pytest.raises(ValueError, match="layers is"):
        run(settings(folder, tmp_path, student={"init": "teacher", "layers": [7]}))
    config = settings(folder, tmp_path, prediction={"epochs": 1, "batch_size": 16})
    run(config)
    changed = settings(folder, tmp_path, prediction={"epochs": 1, "batch_size": 12})
    with pytest.raises(ValueError, match=r"other settings: prediction\.batch_size was 16 and is 12"):
        run(changed)
    # Time limits may change, and a run that does not resume may have any settings.
    run(settings(folder, tmp_path, prediction={"epochs": 1, "batch_size": 16, "max_minutes": 5.0}))
    run(changed, resume=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="several processes"):
        run(config)


def test_refused_vocabularies(folder, tmp_path):
    config = settings(folder, tmp_path, student={"init": "base"}, intermediate={"epochs": 1})
    data = read_task_data(config.task.train, config.task)
    teacher = load_classifier(config.teacher.model, data, config)
    student = build_classifier_student(config, teacher, data)
    student.tokenizer.add_tokens(["sentenc"])
    with pytest.raises(ValueError, match="the teacher lacks 1 of the student's"):
        build_intermediate_loss(student, teacher, config.intermediate, 1)


# Caches in the work folder


def test_outputs_are_resumed_where_they_were_stopped(folder, tmp_path, monkeypatch):
    config = settings(folder, tmp_path)
    data = read_task_data(config.task.train, config.task)
    teacher = load_classifier(config.teacher.model, data, config)
    monkeypatch.setattr("sentenc.embedding_cache._TEXTS_PER_SHARD", 8)
    whole = teacher_outputs(teacher, data.texts, tmp_path / "whole", False).lookup(data.texts)
    np.testing.assert_allclose(whole, teacher.logits(data.texts), atol=1e-5)
    real, encoded = teacher.logits, []

    def stopping(texts):
        if len(encoded) == 16:
            raise KeyboardInterrupt
        encoded.extend(texts)
        return real(texts)

    monkeypatch.setattr(teacher, "logits", stopping)
    with pytest.raises(KeyboardInterrupt):
        teacher_outputs(teacher, data.texts, tmp_path / "parts", False)
    monkeypatch.setattr(teacher, "logits", lambda texts: encoded.extend(texts) or real(texts))
    for _ in range(2):
        parts = teacher_outputs(teacher, data.texts, tmp_path / "parts", False)
        np.testing.assert_array_equal(parts.lookup(data.texts), whole)
        assert len(encoded) == len(set(encoded)) == len(data)


def test_augmentation_is_resumed_where_it_was_stopped(folder, tmp_path):
    config = settings(folder, tmp_path)
    data = read_task_data(config.task.train, config.task)
    how = AugmentationConfig(copies=3, word_vectors=str(folder / "vectors"))
    whole = augmented_examples(data, how, 1, tmp_path, False)
    assert whole[0] == data.examples[0]
    assert set(data.examples) < set(whole)
    (path,) = tmp_path.glob("augmented-*.tsv")
    content = path.read_text(encoding="utf-8")
    # The run was stopped in the middle of a line.
    path.with_suffix(".part").write_text(content[: len(content) // 2 + 3], encoding="utf-8")
    path.unlink()
    assert augmented_examples(data, how, 1, tmp_path, False) == whole
    assert path.read_text(encoding="utf-8") == content
    assert augmented_examples(data, how, 2, tmp_path, False) != whole


def test_augmentation_from_a_file_of_vectors_and_a_masked_model(folder, tmp_path):
    config = settings(folder, tmp_path)
    data = read_task_data(config.task.train, config.task)
    (tmp_path / "words.txt").write_text("dog 1 0\ncat 1 0.1\nmarket 0 1\nstock 0.1 1\n", encoding="utf-8")
    how = AugmentationConfig(copies=2, word_vectors=str(tmp_path / "words.txt"), candidates=1, p=1.0)
    texts = {tuple(text.split()) for (text,) in augmented_examples(data, how, 1, tmp_path, False)}
    assert {word for text in texts for word in text} <= {word for text in data.texts for word in text.split()}
    make_model(transformers.BertForMaskedLM).save_pretrained(tmp_path / "masked")
    make_tokenizer().save_pretrained(tmp_path / "masked")
    how = AugmentationConfig(copies=1, masked_lm=str(tmp_path / "masked"))
    assert len(augmented_examples(data, how, 1, tmp_path, False)) > len(data)


def test_gold_targets_are_looked_up_by_text():
    targets = GoldTargets(TaskData([("a",), ("b",), ("b",)], np.array([1.0, 2.0, 4.0]), ()))
    assert targets.texts == ["a", "b"]
    assert targets.lookup(["b", "a", "b"]).tolist() == [[3], [1], [3]]
    with pytest.raises(CorpusError, match="'c'"):
        targets.lookup(["a", "c"])


def test_command(folder, tmp_path):
    content = table() | {"output": str(tmp_path / "out"), "work": str(tmp_path / "work")}
    for section, key in (("task", "train"), ("task", "dev"), ("teacher", "model")):
        content[section][key] = str(folder / content[section][key])
    file = tmp_path / "run.toml"
    file.write_text(tomli_w.dumps(content), encoding="utf-8")
    result = CliRunner().invoke(
        cli, ["train", str(file), "--set", "prediction.epochs=1", "--max-minutes", "5"]
    )
    assert result.exit_code == 0, result.output
    assert f"the model is in {tmp_path / 'out'}" in result.output
    assert (tmp_path / "out" / "model.safetensors").exists()
    bad = CliRunner().invoke(cli, ["train", str(file), "--set", "task.nonsense=1"])
    assert "unknown key task.nonsense" in str(bad.exception)
