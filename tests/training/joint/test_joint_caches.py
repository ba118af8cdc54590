"""The caches of joint teachers: precision, pooling, time limits and foreign vectors."""

import json

import numpy as np
import pytest

pytest.importorskip("sentence_transformers")
torch = pytest.importorskip("torch")

import sentenc  # noqa: E402 (needs the extra)
from sentenc.embedding_cache import EmbeddingCache  # noqa: E402
from sentenc.encoders.comparison import unit_rows  # noqa: E402
from sentenc.errors import CacheError  # noqa: E402
from sentenc.training.config.pretraining import parse_run  # noqa: E402
from sentenc.training.initialization import student  # noqa: E402
from sentenc.training.teachers.batched import BatchedTeacher  # noqa: E402
from sentenc.training.teachers.loading import load_encoding_teacher  # noqa: E402
from tests.training.joint.runs import PROMPT, lines, table, train  # noqa: E402


def test_caches_of_other_texts_are_named(folder):
    train(folder, table("few", cache="few", axes="few.npy"))
    content = table("no-texts", cache="few", max_minutes=0, axes="no-texts.npy")
    for number, corpus in enumerate(content["corpora"].values()):
        (folder / f"unknown-{number}.txt").write_text("\n".join(lines(70 + number, 60)))
        corpus["sources"][0]["files"] = [f"unknown-{number}.txt"]
    with pytest.raises(
        ValueError, match=r"few/bert \(\d+ texts\).*few/second-query \(120 texts\).*max_minutes"
    ):
        train(folder, content)
    for name in ("dim", "axes"):
        del content["teacher"][name]
    for loss in content["losses"]:
        loss["space"] = "aligned"
    with pytest.raises(ValueError, match=r"corpus text has no text .*few \(\d+ texts\).*max_minutes"):
        train(folder, content)


def test_caches_are_used_as_they_are(folder):
    train(folder, table("filled", cache="foreign"))
    for path in (folder / "foreign").rglob("cache.json"):
        prompt = f" {PROMPT}" if path.parent.name.endswith("-query") else ""
        path.write_text(json.dumps({"fingerprint": f"{path.parent.name[:4]} cls bf16{prompt}"}))
    added = lines(9, 40)
    (folder / "new.txt").write_text("\n".join(added))
    content = table("foreign", cache="foreign", max_minutes=0, axes="foreign.npy")
    content["corpora"]["text"]["sources"][0]["files"].append("new.txt")
    train(folder, content)
    stored = json.loads((folder / "foreign.json").read_text())["teachers"]
    assert [entry["origin"] for entry in stored] == ["bert cls", "seco cls"]
    # Texts that a cache lacks are left out, and nothing is added.
    assert not EmbeddingCache(folder / "foreign/bert", dtype="float16").has(added).any()
    (folder / "foreign/second/cache.json").write_text(json.dumps({"fingerprint": "other mean bf16"}))
    with pytest.raises(CacheError, match="filled by different models"):
        train(folder, content)


def test_teachers_compute_in_half_precision_with_their_pooling(folder):
    content = table("half", cache="half", axes="half.npy", precision="bf16")
    model, tokenizer = sentenc.load(folder / "bert").torch_model()
    for part in (model, tokenizer):
        part.save_pretrained(folder / "open")
    content["teacher"]["models"] = [{"model": "open", "pooling": "cls", "query_prompt": PROMPT}]
    train(folder, content)
    for name, prompt in (("open", ""), ("open-query", PROMPT)):
        stored = json.loads((folder / "half" / name / "cache.json").read_text())["fingerprint"]
        fingerprint = sentenc.load(folder / "open", pooling="cls").fingerprint()
        assert stored == f"{fingerprint} cls bf16{' ' + prompt if prompt else ''}"
    text = (folder / "queries.txt").read_text().split("\n")[:4]
    inputs = tokenizer([PROMPT + line for line in text], return_tensors="pt", padding=True)
    with torch.no_grad():
        expected = unit_rows(model(**inputs).last_hidden_state[:, 0].numpy(), "vectors")
    vectors = EmbeddingCache(folder / "half/open-query", dtype="float16").lookup(text)
    assert (vectors * expected).sum(1).min() > 0.999


def test_teachers_compute_in_int8(folder):
    content = table("int8", cache="int8", axes="int8.npy", precision="int8")
    content["teacher"]["models"] = [{"model": "bert", "pooling": "mean", "query_prompt": PROMPT}]
    train(folder, content)
    teacher = sentenc.load(folder / "bert", compute="int8")
    stored = json.loads((folder / "int8/bert-query/cache.json").read_text())["fingerprint"]
    assert stored == f"{teacher.fingerprint()} mean int8 {PROMPT}"
    text = (folder / "queries.txt").read_text().split("\n")[:4]
    expected = teacher.encode([PROMPT + line for line in text], normalize_embeddings=True)
    vectors = EmbeddingCache(folder / "int8/bert-query", dtype="float16").lookup(text)
    np.testing.assert_allclose(vectors, expected, atol=1e-3)
    content["teacher"]["models"][0]["pooling"] = "cls"
    with pytest.raises(ValueError, match=r"pooling is 'cls', but .*bert"):
        train(folder, content | {"work": "work-int8-cls"})


def test_the_precision_of_a_cache_is_the_one_that_was_computed_in(folder):
    teachers = {name: load_encoding_teacher([str(folder / name)], device="cpu") for name in ("bert", "cse")}
    assert {loaded.precision for loaded in teachers.values()} == {"float32"}
    for precision in ("float32", "bf16", "int8"):
        assert load_encoding_teacher([str(folder / "bert")], precision=precision).precision == precision
    encoder = sentenc.load(folder / "bert")
    assert BatchedTeacher(encoder, torch.device("cpu"), torch.float16).precision == "float16"
    # Also with a GPU, a model of sentenc's own format computes on the CPU.
    assert load_encoding_teacher([str(folder / "cse")], device="cuda").precision == "float32"
    # A CSE multiplies no matrices, and has no other precision.
    assert load_encoding_teacher([str(folder / "cse")], precision="float32").precision == "float32"
    for precision in ("bf16", "int8"):
        with pytest.raises(ValueError, match=precision):
            train(folder, table("precision", cache="precision", precision=precision))
    assert not (folder / "precision").exists()


def test_a_time_limit_covers_all_teachers_and_corpora(folder, monkeypatch):
    from sentenc.training.recipes import joint_teacher

    monkeypatch.setattr(joint_teacher, "_TEXTS_PER_ROUND", 20)
    content = table("limited", cache="limited", max_minutes=1e-9, axes="limited.npy")
    content["losses"] = content["losses"][:1]
    train(folder, content)
    caches = [EmbeddingCache(folder / "limited" / name, dtype="float16") for name in ("bert", "second")]
    assert [len(cache) for cache in caches] == [20, 20]


def test_a_cached_initialization_is_that_of_one_pooling(folder, monkeypatch):
    monkeypatch.setattr(student, "build_cse_student", lambda _run, _texts, _load, cache: cache)
    caches = []
    for settings in ({}, {"pooling": "cls"}, {"pooling": "mean"}, {}):
        content = table("pooling")
        content["student"] = {"kind": "cse", "init": "teacher"}
        content["teacher"]["models"][0] |= settings
        caches.append(student.initialize_student(parse_run(content, folder), list, list, "corpus"))
    assert caches[0] == caches[3]
    assert len(set(caches)) == 3
