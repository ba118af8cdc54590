"""Distillation: its loss by hand, its start, its folding, its resuming."""

import json

import numpy as np
import pytest
import torch
from conftest import make_cse, make_sentence_transformer, wordpiece_spec

import sentenc
from sentenc import CSE, CSEConfig
from sentenc.tokenization import Tokenizer
from sentenc.training import teacher_vectors as cache
from sentenc.training.cse_distillation import (
    Distillation,
    DistillationConfig,
    Sentences,
    batches,
    initial_embeddings,
    similarity_distillation_loss,
)

TEXTS = [
    f"{a} {b} {c}"
    for a in ("the dog", "a cat", "someone")
    for b in ("runs", "fell", "plays")
    for c in ("in the park", "on time", "")
]


def data(seed=0) -> Sentences:
    tokenizer = Tokenizer(wordpiece_spec())
    ids, ends, _ = tokenizer.encode(TEXTS)
    teacher = np.random.default_rng(seed).normal(size=(len(TEXTS), 20))
    return Sentences(ids, ends, (teacher / np.linalg.norm(teacher, axis=1, keepdims=True)).astype(np.float16))


def distillation(folder, **plan) -> Distillation:
    vocab = Tokenizer(wordpiece_spec()).vocab_size
    config = CSEConfig(vocab_size=vocab, embedding_dim=8, num_filters=4)
    rng = np.random.default_rng(3)
    start = rng.normal(size=(vocab, 8)).astype(np.float32), np.zeros(vocab, np.float32)
    return Distillation(config, DistillationConfig(batch_size=9, warmup=2, **plan), data(), start, folder)


def test_loss_by_hand():
    teacher = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    assert similarity_distillation_loss(7 * teacher, teacher, 0.5).item() == pytest.approx(0, abs=1e-6)
    # Both students say (1, 0): similarities are right in row one and swapped in row two.
    student = torch.tensor([[1.0, 0.0], [3.0, 0.0]])
    p = 1 / (1 + np.exp(-2.0))
    divergence = (p * np.log(p / (1 - p)) + (1 - p) * np.log((1 - p) / p)) / 2
    assert similarity_distillation_loss(student, teacher, 0.5).item() == pytest.approx(
        divergence + 0.5, abs=1e-6
    )


def test_start_keeps_the_main_directions_and_damps_frequent_tokens():
    rng = np.random.default_rng(0)
    vectors = (rng.normal(size=(40, 3)) @ rng.normal(size=(3, 10)) + 5).astype(np.float32)
    embeddings, weights = initial_embeddings(vectors, np.arange(40)[::-1] * 10, 3, a=1e-2)
    centred = vectors - vectors.mean(0)
    before, after = centred @ centred.T, embeddings @ embeddings.T
    assert np.corrcoef(before.ravel(), after.ravel())[0, 1] > 0.9999
    assert (np.diff(weights) > 0).all()


def test_batches_hold_sentences_of_similar_length_once_each():
    sentences = data()
    groups = list(batches(sentences, 9, np.random.default_rng(1)))
    assert sorted(np.concatenate(groups)) == list(range(27))
    spread = [np.ptp(sentences.lengths()[group]) for group in groups]
    assert sum(spread) < sum(np.ptp(sentences.lengths()[i : i + 9]) for i in (0, 9, 18))
    ids, lengths, _ = sentences.batch(np.array([0, 26]))
    assert lengths.tolist() == sentences.lengths()[[0, 26]].tolist()
    assert ids[1, : lengths[1]].tolist() == sentences.ids[-int(lengths[1]) :].tolist()


def test_training_lowers_the_loss_and_folding_keeps_dot_products(tmp_path):
    run = distillation(tmp_path, epochs=60, word_epochs=20)
    rows = np.arange(27)
    ids, lengths, teacher = run.sentences.batch(rows)
    with torch.no_grad():
        before = similarity_distillation_loss(run.student(ids, lengths) @ run.to_teacher, teacher, 0.05)
    run.run()
    with torch.no_grad():
        mapped = run.student(ids, lengths) @ run.to_teacher
        after = similarity_distillation_loss(mapped, teacher, 0.05)
    assert after < 0.7 * before
    assert run.student["output.2"].abs().max() > 0
    encoder = CSE(run.config, run.weights(), Tokenizer(wordpiece_spec()), tables="float32")
    vectors = encoder.encode(TEXTS)
    np.testing.assert_allclose(
        vectors @ vectors.T, mapped @ mapped.T, rtol=0, atol=2e-3 * mapped.abs().max() ** 2
    )


def test_resumed_is_uninterrupted(tmp_path):
    whole = distillation(tmp_path / "a", epochs=6, word_epochs=3)
    whole.run()
    first = distillation(tmp_path / "b", epochs=6, word_epochs=3)
    first.steps = 10  # as if stopped there
    full = distillation(tmp_path / "c", epochs=6, word_epochs=3).steps
    update = first._update
    first._update = lambda rows, progress: update(rows, first.step / full)
    first.run()
    second = distillation(tmp_path / "b", epochs=6, word_epochs=3)
    second.run()
    assert second.step == whole.step == 18
    for name, weight in whole.weights().items():
        np.testing.assert_allclose(second.weights()[name], weight, rtol=0, atol=1e-6)


def test_time_limit_ends_the_run_and_the_schedule(tmp_path):
    run = distillation(tmp_path, epochs=10_000, word_epochs=0, max_minutes=0.02)
    run.run()
    assert run.step < run.steps
    assert run.optimizer.param_groups[0]["lr"] < 0.05 * run.plan.learning_rate
    assert (tmp_path / "state.pt").exists()


def test_nan_stops_and_keeps_the_batch(tmp_path):
    run = distillation(tmp_path, epochs=1)
    with torch.no_grad():
        run.to_teacher.fill_(float("nan"))
    with pytest.raises(FloatingPointError, match="step 0"):
        run.run()
    assert len(np.load(tmp_path / "nan_batch.npy")) == 9


def test_teacher_cache_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr(cache, "SHARD", 10)
    calls = []

    def encode(texts):
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(texts)
        return np.full((len(texts), 3), len(texts), np.float32)

    with pytest.raises(KeyboardInterrupt):
        cache.cache_vectors(encode, TEXTS, tmp_path)
    with pytest.raises(ValueError, match="20 sentences, expected 27"):
        cache.load_vectors(tmp_path, 27)
    calls = []
    cache.cache_vectors(encode, TEXTS, tmp_path)
    assert calls == [TEXTS[20:]]
    assert cache.load_vectors(tmp_path, 27).shape == (27, 3)


def test_command_makes_a_model(tmp_path):
    from click.testing import CliRunner

    from sentenc.training.__main__ import main

    teacher = tmp_path / "teacher"
    make_sentence_transformer(tmp_path).save(str(teacher))
    (teacher / "tokenizer.json").write_text(wordpiece_spec(), encoding="utf-8")
    (tmp_path / "corpus.txt").write_text("\n".join(TEXTS * 30), encoding="utf-8")
    texts = "".join(f"{line} {line} {i}\n" for i in range(30) for line in TEXTS)
    (tmp_path / "more.txt").write_text(texts, encoding="utf-8")
    (tmp_path / "dev.tsv").write_text("5\tdog\tdog\n1\tdog\tthe stock market fell\n3\tdog\tdog runs\n")
    options = [teacher, tmp_path / "corpus.txt", tmp_path / "more.txt", "-o", tmp_path / "out", "--work", tmp_path / "work",
               "--embedding-dim", 8, "--num-filters", 4, "--epochs", 4, "--word-epochs", 2, "--dev", tmp_path / "dev.tsv"]  # fmt: skip
    result = CliRunner().invoke(main, list(map(str, options)), catch_exceptions=False)
    assert result.exit_code == 0
    assert sentenc.load(tmp_path / "out").encode("dog").shape == (8,)
    log = [json.loads(line) for line in (tmp_path / "work" / "run" / "log.jsonl").read_text().splitlines()]
    assert -100 <= log[-1]["dev"] <= 100
    assert make_cse().dim == 24
