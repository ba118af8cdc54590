"""Refining a model: losses use its sentence vector, evaluations the finished model."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import sentenc
from sentenc.training.config.pretraining import parse_run
from sentenc.training.engine.trainer import Trainer, TrainerConfig
from sentenc.training.recipes.pretraining import pretrain
from sentenc.training.students.cse import CSEStudent
from tests.support.models import make_cse, make_sentence_transformer
from tests.support.training import rows, sentences, trainer

TEXTS = sentences(7, 40)


def wide_student(**options) -> CSEStudent:
    encoder = make_cse(embedding_dim=16, num_filters=4, combine="both", average_dim=5)
    return CSEStudent.from_encoder(encoder, **options)


def test_losses_train_the_sentence_vector_and_not_the_average(tmp_path):
    student = wide_student()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    # The losses of the tiny trainer have 16 components, and one of them calls the student for vectors.
    trainer(tmp_path, student=student, steps=3).run()
    for name, value in student.state_dict().items():
        assert torch.equal(value, before[name]) == (name == "module.weights.average"), name


def test_the_model_that_is_evaluated_is_the_finished_one(tmp_path):
    seen = []

    def evaluate(output_map):
        seen.append(whole.student.encoder(output_map, TEXTS).encode(TEXTS))
        return 0.0

    whole = trainer(tmp_path, student=wide_student(sentence_norm=3.0, average_norm=0.5), dropout=0.0)
    config = TrainerConfig(steps=1, device="cpu", evaluate_every=1)
    Trainer(whole.student, whole.loss_terms[1:], config, tmp_path, evaluate, show_progress_bar=False).run()
    assert len(seen) == 2
    for vectors in seen:
        lengths = [np.sqrt((part**2).sum(1).mean()) for part in (vectors[:, :16], vectors[:, 16:21])]
        np.testing.assert_allclose(lengths, [3.0, 0.5], rtol=0.01)
    energy = seen[0][:, :16].T @ seen[0][:, :16]
    assert energy[0, 0] > 2 * energy[1, 1]


def refining(tmp_path, **changes):
    if not (tmp_path / "teacher").exists():
        make_sentence_transformer(tmp_path).save(str(tmp_path / "teacher"))
        make_cse(embedding_dim=12, num_filters=6).save(tmp_path / "start")
        (tmp_path / "text.txt").write_text("\n".join(sentences(3, 300)), encoding="utf-8")
    loss = {"kind": "embedding_distillation", "corpus": "text", "batch_size": 16, "space": "aligned"}
    table = {
        "output": "out",
        "work": "work",
        "student": {
            "init": "./start",
            "config": {"combine": "both", "average_dim": 4},
            "sentence_norm": 3.0,
            "average_norm": 0.9,
            "ngram_norm": 0.6,
        },
        "teacher": {"models": ["./teacher"], "cache": "cache"},
        "corpora": {"text": {"sources": [{"files": ["text.txt"], "form": "sentences"}]}},
        "losses": [loss | changes],
        "training": {"steps": 12, "learning_rate": 0.001, "log_every": 6, "device": "cpu", "warmup": 0},
    }
    return parse_run(table, tmp_path)


def test_a_model_is_widened_aligned_and_trained(tmp_path):
    pytest.importorskip("sentence_transformers")
    config = refining(tmp_path)
    model = sentenc.load(pretrain(config, show_progress_bar=False))
    assert (model.config.combine, model.config.average_dim, model.dim) == ("both", 4, 12 + 4 + 12)
    texts = (tmp_path / "text.txt").read_text(encoding="utf-8").splitlines()
    vectors, average, features = np.split(model.encode(texts), [12, 16], axis=1)
    sizes = [np.sqrt((x**2).sum(1).mean()) for x in (vectors, average, features - features.mean(0))]
    np.testing.assert_allclose(sizes, [3.0, 0.9, 0.6], rtol=0.05)
    np.testing.assert_allclose(average.mean(0), 0, atol=0.01)
    # After so few steps, the dot products are nearly those of the initial model.
    start = sentenc.load(tmp_path / "start").encode(texts)
    cosines = model.similarity(vectors, vectors), model.similarity(start, start)
    assert np.corrcoef(cosines[0].ravel(), cosines[1].ravel())[0, 1] > 0.95
    losses = [row["loss"] for row in rows(tmp_path / "work")]
    assert losses[-1] < losses[0]


def test_aligned_axes_begin_lower_than_principal_ones(tmp_path):
    pytest.importorskip("sentence_transformers")
    first = {}
    for space in ("aligned", "principal"):
        config = refining(tmp_path, space=space, relation_weight=0.0)
        student = replace(config.student, sentence_norm=None, average_norm=None, ngram_norm=None)
        work, output = str(tmp_path / space), str(tmp_path / f"out-{space}")
        pretrain(replace(config, student=student, work=work, output=output), show_progress_bar=False)
        first[space] = rows(tmp_path / space)[0]["loss"]
    # The principal axes of the teacher are unrelated to the axes of the initial model.
    assert first["aligned"] < first["principal"] - 0.1


def test_norms_are_refused_if_a_loss_shapes_the_axes(tmp_path):
    pytest.importorskip("sentence_transformers")
    with pytest.raises(ValueError, match=r"student\.sentence_norm is 3\.0"):
        pretrain(refining(tmp_path, space="principal"), show_progress_bar=False)
