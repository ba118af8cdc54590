"""Task distillation as a run: phases, resuming, pairs, scores, and every refusal."""

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
from sentenc.training.config.task_distillation import AugmentationConfig, parse_task_run  # noqa: E402
from sentenc.training.data.labeled import read_task_data  # noqa: E402
from sentenc.training.initialization.build_classifier import build_classifier_student, load_classifier  # noqa: E402
from sentenc.training.recipes import task_distillation as task_run  # noqa: E402
from sentenc.training.recipes.task_caches import Targets, augmented, outputs  # noqa: E402
from sentenc.training.recipes.task_distillation import run_task  # noqa: E402
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
    made = settings(place, place / "first", teacher={"model": "base", "finetune": FINETUNE})
    run_task(made, show_progress_bar=False)
    shutil.copytree(place / "first" / "work" / "teacher" / "model", place / "tuned")
    return place


FINETUNE = {"epochs": 8, "learning_rate": 3e-3, "batch_size": 8}
AUGMENTATION = {"copies": 2, "word_vectors": "vectors", "candidates": 3}


def table(data="topics", **changes):
    return {
        "task": {"kind": "classification", "train": f"{data}/train.tsv", "dev": f"{data}/dev.tsv", "text": ["a"],
                 "max_tokens": 32},
        "teacher": {"model": "tuned"},
        "student": {"init": "teacher", "layers": [0, 2], "config": {"intermediate_size": 24}},
        "prediction": {"epochs": 2, "learning_rate": 1e-3, "batch_size": 8},
        "device": "cpu",
    } | changes  # fmt: skip


def settings(folder, own, data="topics", **changes):
    content = table(data, **changes) | {"output": str(own / "out"), "work": str(own / "work")}
    return parse_task_run(content, folder)


def run(*arguments, **options):
    return run_task(*arguments, show_progress_bar=False, **options)


def told(output):
    return json.loads((output / "task.json").read_text(encoding="utf-8"))


def test_student_learns_from_a_finetuned_teacher(folder, tmp_path):
    output = run(settings(folder, tmp_path, augmentation=AUGMENTATION), command="sentenc train x")
    scores = told(output)["scores"]
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


def test_all_phases_and_what_is_done_is_not_repeated(folder, tmp_path, monkeypatch):
    config = settings(
        folder,
        tmp_path,
        teacher={"model": "base", "finetune": FINETUNE},
        intermediate={"epochs": 1, "batch_size": 8},
    )
    output = run(config)
    first = load_file(output / "model.safetensors")
    assert {path.name for path in output.glob("*.jsonl")} == {
        "teacher.jsonl", "intermediate.jsonl", "prediction.jsonl",
    }  # fmt: skip

    def refuse(*_arguments, **_options):
        raise AssertionError("trained again")

    monkeypatch.setattr(task_run, "Trainer", refuse)
    shutil.rmtree(output)
    second = load_file(run(config) / "model.safetensors")
    assert all(torch.equal(second[name], value) for name, value in first.items())
    with pytest.raises(AssertionError, match="trained again"):
        run(config, resume=False)


def test_stopped_run_ends_like_one_that_was_not(folder, tmp_path, monkeypatch):
    changes = {"augmentation": AUGMENTATION, "intermediate": {"epochs": 1, "batch_size": 8}}
    whole = load_file(run(settings(folder, tmp_path / "whole", **changes)) / "model.safetensors")
    config = settings(folder, tmp_path / "parts", **changes)
    real = task_run.Trainer

    class Stopping(real):
        def run(self, stop_at=None):
            if super().run(self.step + 3 if not self.state_file.exists() else None).finished:
                return super().run()
            raise KeyboardInterrupt("stopped")

    monkeypatch.setattr(task_run, "Trainer", Stopping)
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run(config)
    parts = load_file(run(config) / "model.safetensors")
    assert all(torch.equal(parts[name], value) for name, value in whole.items())


def test_pairs(folder, tmp_path):
    changes = {
        "task": table("same")["task"] | {"text": ["a", "b"], "metric": "f1"},
        "teacher": {"model": "base", "finetune": FINETUNE | {"epochs": 1}},
    }
    config = settings(folder, tmp_path, augmentation=AUGMENTATION, **changes)
    # Whether such a tiny teacher has understood it is beside the point.
    runner = task_run._Run(config, None, True, False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(task_run, "baseline", lambda *_: -1.0)
        student = runner.trained_student()
    assert student.pairs
    assert runner.train.labels == ("other", "same")
    rows = [line.split("\t") for line in read_augmented(tmp_path)]
    assert {len(row) for row in rows} == {3}


def test_scores_are_learned_from_the_originals(folder, tmp_path):
    task = table("scores")["task"] | {"kind": "regression"}
    teacher = {"model": "base", "finetune": FINETUNE}
    config = settings(
        folder, tmp_path, task=task, teacher=teacher, augmentation=AUGMENTATION,
        intermediate={"epochs": 1, "batch_size": 8},
    )  # fmt: skip
    output = run(config)
    outcomes = {
        name: told(tmp_path / "work" / name / "model")["outcome"]["texts"]
        for name in ("intermediate", "prediction")
    }
    assert outcomes["prediction"] == 48 < outcomes["intermediate"]
    assert told(output)["scores"]["student"] > 20
    assert transformers.AutoConfig.from_pretrained(output).num_labels == 1


def test_gold_from_a_random_start(folder, tmp_path):
    config = settings(
        folder, tmp_path, student={"init": "random", "config": {"num_hidden_layers": 1}},
        prediction={"epochs": 12, "learning_rate": 1e-2, "batch_size": 8, "targets": "gold", "evaluations": 2},
    )  # fmt: skip
    assert told(run(config))["scores"]["student"] > 80


def test_student_from_a_folder(folder, tmp_path):
    config = settings(
        folder, tmp_path, student={"init": "base", "config": {"hidden_dropout_prob": 0.0}},
        prediction={"epochs": 1, "batch_size": 16},
    )  # fmt: skip
    output = run(config)
    found = transformers.AutoConfig.from_pretrained(output)
    assert (found.num_hidden_layers, found.hidden_dropout_prob) == (3, 0.0)


def test_layers_of_the_teacher_with_its_classifier(folder, tmp_path):
    config = settings(folder, tmp_path, student={"init": "teacher", "layers": [0, 1, 2]})
    data = read_task_data(config.task.train, config.task)
    teacher = load_classifier(config.teacher.model, data, config)
    student = build_classifier_student(config, teacher, data)
    texts = data.texts[:8]
    np.testing.assert_allclose(student.logits(texts), teacher.logits(texts), atol=1e-5)


def test_time_is_shared_by_the_examples_that_phases_see(folder, tmp_path):
    config = settings(
        folder, tmp_path, teacher={"model": "base", "finetune": FINETUNE | {"epochs": 3}}, augmentation=AUGMENTATION,
        intermediate={"epochs": 4}, prediction={"epochs": 2, "max_minutes": 0.5},
    )  # fmt: skip
    found = task_run._Run(config, 21.0, True, False)
    # 3 passes of n, 4 and 2 of 3 n.
    assert [found._share(name) for name in ("teacher", "intermediate", "prediction")] == [3.0, 12.0, 6.0]
    assert found._training("prediction", config.prediction, 6, "best").max_minutes == 0.5
    assert found._training("teacher", config.teacher.finetune, 6, "best").max_minutes == 3.0
    assert task_run._Run(config, None, True, False)._share("teacher") is None


def test_classes_are_put_into_the_order_of_the_data(folder, tmp_path):
    config = settings(folder, tmp_path)
    data = read_task_data(config.task.train, config.task)
    plain = load_classifier(config.teacher.model, data, config).logits(data.texts[:4])
    turned = transformers.AutoModelForSequenceClassification.from_pretrained(folder / "tuned")
    turned.config.id2label, turned.config.label2id = {0: "1", 1: "0"}, {"1": 0, "0": 1}
    turned.save_pretrained(tmp_path / "turned")
    make_tokenizer().save_pretrained(tmp_path / "turned")
    found = load_classifier(str(tmp_path / "turned"), data, config).logits(data.texts[:4])
    np.testing.assert_array_equal(found, plain[:, ::-1])
    turned.config.id2label = {0: "good", 1: "bad"}
    turned.save_pretrained(tmp_path / "turned")
    with pytest.raises(ValueError, match="classes are good, bad, expected those of the data: 0, 1"):
        load_classifier(str(tmp_path / "turned"), data, config)


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
    with pytest.raises(ValueError, match=r"augmentation.* has nothing to be used by"):
        run(settings(folder, tmp_path, augmentation=AUGMENTATION, prediction={"targets": "gold"}))
    with pytest.raises(ValueError, match="layers is"):
        run(settings(folder, tmp_path, student={"init": "teacher", "layers": [7]}))
    config = settings(folder, tmp_path, prediction={"epochs": 1, "batch_size": 16})
    run(config)
    changed = settings(folder, tmp_path, prediction={"epochs": 1, "batch_size": 12})
    with pytest.raises(ValueError, match=r"other settings: prediction\.batch_size was 16 and is 12"):
        run(changed)
    # Time may change, and a fresh start may be anything.
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
        task_run.intermediate_objective(student, teacher, config.intermediate, 1)


# What is kept in the work folder


def test_outputs_are_resumed_where_they_were_stopped(folder, tmp_path, monkeypatch):
    config = settings(folder, tmp_path)
    data = read_task_data(config.task.train, config.task)
    teacher = load_classifier(config.teacher.model, data, config)
    monkeypatch.setattr("sentenc.embedding_cache._TEXTS_PER_SHARD", 8)
    whole = outputs(teacher, data.texts, tmp_path / "whole", False).lookup(data.texts)
    np.testing.assert_allclose(whole, teacher.logits(data.texts), atol=1e-5)
    real, encoded = teacher.logits, []

    def stopping(texts):
        if len(encoded) == 16:
            raise KeyboardInterrupt
        encoded.extend(texts)
        return real(texts)

    monkeypatch.setattr(teacher, "logits", stopping)
    with pytest.raises(KeyboardInterrupt):
        outputs(teacher, data.texts, tmp_path / "parts", False)
    monkeypatch.setattr(teacher, "logits", lambda texts: encoded.extend(texts) or real(texts))
    for _ in range(2):
        parts = outputs(teacher, data.texts, tmp_path / "parts", False)
        np.testing.assert_array_equal(parts.lookup(data.texts), whole)
        assert len(encoded) == len(set(encoded)) == len(data)


def test_augmentation_goes_on_where_it_was_stopped(folder, tmp_path):
    config = settings(folder, tmp_path)
    data = read_task_data(config.task.train, config.task)
    how = AugmentationConfig(copies=3, word_vectors=str(folder / "vectors"))
    whole = augmented(data, how, 1, tmp_path, False)
    assert whole[0] == data.examples[0]
    assert set(data.examples) < set(whole)
    (path,) = tmp_path.glob("augmented-*.tsv")
    content = path.read_text(encoding="utf-8")
    # Stopped in the middle of a line.
    path.with_suffix(".part").write_text(content[: len(content) // 2 + 3], encoding="utf-8")
    path.unlink()
    assert augmented(data, how, 1, tmp_path, False) == whole
    assert path.read_text(encoding="utf-8") == content
    assert augmented(data, how, 2, tmp_path, False) != whole


def test_augmentation_from_a_file_of_vectors_and_a_masked_model(folder, tmp_path):
    config = settings(folder, tmp_path)
    data = read_task_data(config.task.train, config.task)
    (tmp_path / "words.txt").write_text("dog 1 0\ncat 1 0.1\nmarket 0 1\nstock 0.1 1\n", encoding="utf-8")
    how = AugmentationConfig(copies=2, word_vectors=str(tmp_path / "words.txt"), candidates=1, p=1.0)
    found = {tuple(text.split()) for (text,) in augmented(data, how, 1, tmp_path, False)}
    assert {word for text in found for word in text} <= {word for text in data.texts for word in text.split()}
    make_model(transformers.BertForMaskedLM).save_pretrained(tmp_path / "masked")
    make_tokenizer().save_pretrained(tmp_path / "masked")
    how = AugmentationConfig(copies=1, masked_lm=str(tmp_path / "masked"))
    assert len(augmented(data, how, 1, tmp_path, False)) > len(data)


def test_targets_are_looked_up():
    found = Targets(["a", "b"], np.array([[1.0], [2.0]], np.float32))
    assert found.lookup(["b", "a", "b"]).tolist() == [[2], [1], [2]]
    with pytest.raises(CorpusError, match="the text 'c' has no target"):
        found.lookup(["a", "c"])


def test_command(folder, tmp_path):
    content = table() | {"output": str(tmp_path / "out"), "work": str(tmp_path / "work")}
    for section, key in (("task", "train"), ("task", "dev"), ("teacher", "model")):
        content[section][key] = str(folder / content[section][key])
    file = tmp_path / "run.toml"
    file.write_text(tomli_w.dumps(content), encoding="utf-8")
    found = CliRunner().invoke(
        cli, ["train", str(file), "--set", "prediction.epochs=1", "--max-minutes", "5"]
    )
    assert found.exit_code == 0, found.output
    assert f"the model is in {tmp_path / 'out'}" in found.output
    assert (tmp_path / "out" / "model.safetensors").exists()
    bad = CliRunner().invoke(cli, ["train", str(file), "--set", "task.nonsense=1"])
    assert "unknown key task.nonsense" in str(bad.exception)
