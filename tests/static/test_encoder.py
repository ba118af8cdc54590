"""Static models in sentenc's own folders, and by the command line."""

import json
from dataclasses import replace

import numpy as np
import pytest

import sentenc
from sentenc import CheckpointError, StaticEncoder
from sentenc.cli import cli
from sentenc.encoders.static.config import StaticConfig
from sentenc.encoders.static.pooling import pool_rows
from tests.support.models import make_bag_of_words, make_static, whitespace_spec, word_spec


def test_mean_of_rows_by_hand():
    encoder = make_static(word_spec(), unknown="row")
    rows = encoder.weights["embeddings"]
    words = encoder.tokenizer.vocabulary()
    expected = (rows[words["dog"]] + rows[words["cat"]] + rows[words["<unk>"]]) / 3
    np.testing.assert_allclose(encoder.encode("dog ☃ Cat"), expected, rtol=0, atol=1e-6)
    skipping = StaticEncoder(replace(encoder.config, unknown="skip"), encoder.weights, encoder.tokenizer)
    expected = (rows[words["dog"]] + rows[words["cat"]]) / 2
    np.testing.assert_allclose(skipping.encode("dog ☃ Cat"), expected, rtol=0, atol=1e-6)
    # Both count the unknown word.
    assert encoder.count_tokens("dog ☃ Cat") == skipping.count_tokens("dog ☃ Cat") == 3


def test_native_and_gathered_means_are_equal():
    texts = ["dog [SEP] cat", "a man is not good", "", "word " * 50, "dog"]
    for dtype in ("float32", "int8"):
        encoder = make_static(dtype=dtype)
        ids, ends, _ = encoder.tokenizer.encode(texts, 64)
        vectors = np.empty((len(texts), encoder.dim), np.float32)
        pool_rows(encoder.weights, ids, ends, "mean", vectors)
        np.testing.assert_allclose(encoder.encode(texts), vectors, rtol=0, atol=1e-5)


def test_rows_are_gathered_in_parts(monkeypatch):
    encoder = make_static(whitespace_spec(), splitting="whitespace", max_tokens=10_000)
    texts = ["dog cat " * 300, "dog", "a man is good"] * 3
    expected = encoder.encode(texts)
    monkeypatch.setattr("sentenc.encoders.static.pooling._NUMBERS", 100)
    np.testing.assert_allclose(encoder.encode(texts), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"vocab_size": 0}, "vocab_size is 0"),
        ({"pooling": "median"}, "pooling is 'median'"),
        ({"splitting": "letters"}, "splitting is 'letters'"),
        ({"normalize": 1}, "normalize is 1"),
        ({"pooling": "count"}, "embedding_dim is 4, expected vocab_size 9"),
        ({"max_characters": 0}, "max_characters is 0"),
    ],
)
def test_bad_values_are_named(values, message):
    with pytest.raises((TypeError, ValueError), match=message):
        StaticConfig(**{"vocab_size": 9, "embedding_dim": 4} | values)


def test_a_folder_can_be_described_and_verified(tmp_path, capsys):
    encoder = make_static(normalize=True)
    encoder.save(tmp_path / "static")
    cli.main(["info", str(tmp_path / "static"), "--json"], standalone_mode=False)
    described = json.loads(capsys.readouterr().out)
    assert (described["kind"], described["dim"]) == ("static", 24)
    assert described["parameters"] == encoder.weights["embeddings"].size
    assert sentenc.verify(tmp_path / "static").max_difference < 1e-6
    path = tmp_path / "static" / "config.json"
    content = json.loads(path.read_text())
    del content["config"]["pooling"]
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"keys missing: \['pooling'\]"):
        sentenc.load(tmp_path / "static")


def test_blocks_of_a_bag_of_words_are_bounded():
    encoder = make_bag_of_words()
    assert encoder._block_size(64) == 8192
    object.__setattr__(encoder.config, "embedding_dim", 1 << 20)
    assert encoder._block_size(1) == 64
