"""A BERT as an ONNX file, and the comparison before it is written."""

import itertools
import json

import numpy as np
import pytest

from sentenc import BertEncoder
from sentenc.encoders.bert.onnx_export import export_model
from sentenc.encoders.bert.onnx_runtime import import_onnxruntime
from sentenc.training.recipes.dev_score import sts_score
from tests.support.models import WORDS, make_bert, random_bert_weights

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
    # Scores of the encoder itself.
    left, right = zip(*itertools.combinations([*TEXTS, *WORDS[:8]], 2), strict=True)
    a, b = encoder.encode(left, on_overflow="ignore"), encoder.encode(right, on_overflow="ignore")
    rows = zip(cosines(a, b), left, right, strict=True)
    path.write_text("".join(f"{s:.6f}\t{a.strip()}\t{b.strip()}\n" for s, a, b in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("compute", ["float32", "int8"])
def test_an_onnx_file_gives_the_vectors(tmp_path, compute):
    encoder = make_bert(linear=True)
    report = encoder.export_onnx(tmp_path / "model.onnx", compute=compute, texts=TEXTS)
    assert report == json.loads((tmp_path / "model.onnx.json").read_text())
    assert report["mean_cosine"] >= report["min_cosine"] > 0.98
    assert (report["compute"], report["texts"], report["dim"]) == (compute, len(TEXTS), 24)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.onnx", "model.onnx.json"]
    session = import_onnxruntime().InferenceSession(tmp_path / "model.onnx")
    vocabulary = encoder.tokenizer.vocabulary
    ids = np.array([[vocabulary[token] for token in ("[CLS]", "dog", "cat", "[SEP]")]])
    vectors = session.run(None, {"input_ids": ids, "attention_mask": np.ones_like(ids)})[0]
    np.testing.assert_allclose(vectors[0], encoder.with_compute(compute).encode("dog cat"), **CLOSE)


def test_an_onnx_file_is_written_if_its_score_does_not_drop(tmp_path):
    encoder = make_bert()
    score = sts_score(pairs_file(tmp_path / "sts.tsv", encoder))
    report = encoder.export_onnx(tmp_path / "good.onnx", score=score)
    assert report["score"] == pytest.approx(report["score_float32"])
    assert report["drop"] == pytest.approx(0)


def test_an_onnx_file_is_refused_if_its_score_drops(tmp_path):
    scores = iter([80.0, 79.0])
    with pytest.raises(ValueError, match=r'bad\.onnx.*"drop": 1\.0.*drop <= 0\.5'):
        make_bert().export_onnx(tmp_path / "bad.onnx", score=lambda _: next(scores))
    assert list(tmp_path.iterdir()) == []


def test_a_model_is_refused_if_its_vectors_differ(tmp_path):
    encoder = make_bert()
    other = BertEncoder(encoder.config, random_bert_weights(encoder.config, 1), encoder.tokenizer)
    with pytest.raises(ValueError, match=r'"mean_cosine": -?0\.\d+.* mean_cosine >= 0\.99'):
        export_model(
            b"model",
            tmp_path / "bad.onnx",
            encoder.config,
            compute="int8",
            reference=encoder,
            candidate=other,
        )
    assert list(tmp_path.iterdir()) == []


def test_texts_without_a_known_token_cannot_be_compared(tmp_path):
    with pytest.raises(ValueError, match="none of 2 texts has a known token"):
        make_bert().export_onnx(tmp_path / "bad.onnx", texts=["", "☃"])
    assert list(tmp_path.iterdir()) == []
