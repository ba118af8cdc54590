"""A TinyBERT as an ONNX file, and the gate before it."""

import itertools
import json

import numpy as np
import pytest

from sentenc.encoders.bert import onnx_export as bert_export
from tests.support.models import WORDS, make_tinybert, random_bert_weights

TEXTS = [
    "a man is playing the guitar",
    "someone plays an instrument!",
    "dog",
    "the stock market fell",
    "hello world",
]
CLOSE = {"rtol": 0, "atol": 1e-5}


def cosines(a, b):
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def pairs_file(path, encoder):
    # Scores that the encoder itself would give.
    left, right = zip(*itertools.combinations([*TEXTS, *WORDS[:8]], 2), strict=True)
    a, b = encoder.encode(left, on_overflow="ignore"), encoder.encode(right, on_overflow="ignore")
    rows = zip(cosines(a, b), left, right, strict=True)
    path.write_text("".join(f"{s:.6f}\t{a.strip()}\t{b.strip()}\n" for s, a, b in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("compute", ["float32", "int8"])
def test_an_onnx_file_gives_the_vectors(tmp_path, compute):
    runtime = pytest.importorskip("onnxruntime")
    encoder = make_tinybert(linear=True)
    report = encoder.export_onnx(tmp_path / "model.onnx", compute=compute, texts=TEXTS)
    assert report == json.loads((tmp_path / "model.onnx.json").read_text())
    assert report["mean_cosine"] >= report["min_cosine"] > 0.98
    assert (report["compute"], report["texts"], report["dim"]) == (compute, len(TEXTS), 24)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.json"]
    session = runtime.InferenceSession(tmp_path / "model.onnx")
    vocabulary = encoder.tokenizer.vocabulary
    ids = np.array([[vocabulary[token] for token in ("[CLS]", "dog", "cat", "[SEP]")]])
    found = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
    np.testing.assert_allclose(found[0], encoder.computing(compute).encode("dog cat"), **CLOSE)


def test_an_onnx_file_is_refused_if_it_is_not_good_enough(tmp_path, monkeypatch):
    encoder = make_tinybert()
    sts = pairs_file(tmp_path / "sts.tsv", encoder)
    report = encoder.export_onnx(tmp_path / "good.onnx", sts=sts)
    assert report["spearman"] == pytest.approx(report["spearman_float32"])
    assert report["drop"] == pytest.approx(0)

    def another(config, weights, *, compute):
        return original(config, random_bert_weights(config, 1), compute=compute)

    original = bert_export.bert_graph
    monkeypatch.setattr(bert_export, "bert_graph", another)
    with pytest.raises(
        ValueError, match=r'"mean_cosine": -?0\.\d+.* expected a mean cosine of at least 0\.99'
    ):
        encoder.export_onnx(tmp_path / "bad.onnx")
    monkeypatch.setattr(bert_export, "LEAST_COSINE", -1)
    with pytest.raises(ValueError, match=r'"drop": \d+.* a drop of at most 0\.5'):
        encoder.export_onnx(tmp_path / "bad.onnx", sts=sts)
    assert not list(tmp_path.glob("bad*"))
    with pytest.raises(ValueError, match="none of 2 texts has a known token"):
        encoder.export_onnx(tmp_path / "bad.onnx", texts=["", "☃"])
