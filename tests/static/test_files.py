"""Files of word vectors and of wordllama."""

import json
import struct
import sys

import numpy as np
import pytest

import sentenc
from sentenc import CheckpointError, MissingExtraError, StaticEncoder, TextFileError
from sentenc.cli import cli
from tests.support.models import unigram_spec
from tests.support.static import tokenizer_and_rows

WORDS = ["the", "cat", "sat", "crème", ".", "<unk>"]
ROWS = np.random.default_rng(0).normal(size=(len(WORDS), 7)).astype(np.float32)
CLOSE = {"rtol": 0, "atol": 1e-5}


def write_text(path, header):
    lines = [f"{len(WORDS)} 7"] if header else []
    lines += [" ".join([word, *map(repr, row.tolist())]) for word, row in zip(WORDS, ROWS, strict=True)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def write_binary(path):
    data = f"{len(WORDS)} 7\n".encode()
    for word, row in zip(WORDS, ROWS, strict=True):
        data += word.encode() + b" " + struct.pack("<7f", *row) + b"\n"
    path.write_bytes(data)


@pytest.mark.parametrize("name", ["glove.txt", "fasttext.vec", "word2vec.bin"])
def test_vectors_are_means_of_words(tmp_path, name):
    path = tmp_path / name
    write_binary(path) if name.endswith(".bin") else write_text(path, header=name.endswith(".vec"))
    encoder = sentenc.load(path)
    assert isinstance(encoder, StaticEncoder)
    # Words are lower-cased, because those of the file are. Punctuation and unknown words have no part.
    expected = [(ROWS[0] + ROWS[1] + ROWS[4]) / 3, (ROWS[3] + ROWS[2]) / 2, np.zeros(7)]
    np.testing.assert_allclose(
        encoder.encode(["The CAT, dog.", "crème sat!", "dog <unk>"]), expected, **CLOSE
    )
    encoder.save(tmp_path / "own")
    np.testing.assert_array_equal(sentenc.load(tmp_path / "own").encode("The CAT"), encoder.encode("The CAT"))


def test_words_of_both_cases_are_kept(tmp_path):
    (tmp_path / "v.txt").write_text("Apple 1 0\napple 0 1\n")
    encoder = sentenc.load(tmp_path / "v.txt")
    assert encoder.encode(["Apple", "apple", "APPLE"]).tolist() == [[1, 0], [0, 1], [0, 0]]


def test_means_are_those_of_gensim(tmp_path):
    models = pytest.importorskip("gensim.models")
    keyed = models.KeyedVectors(7)
    keyed.add_vectors(WORDS, ROWS)
    keyed.save(str(tmp_path / "words.kv"))
    encoder = sentenc.load(tmp_path / "words.kv")
    for words in (["the", "cat"], ["crème", ".", "sat", "the", "the"]):
        expected = keyed.get_mean_vector(words, pre_normalize=False)
        np.testing.assert_allclose(encoder.encode(" ".join(words)), expected, **CLOSE)


def test_a_binary_model_of_fasttext_has_its_words(tmp_path):
    fasttext = pytest.importorskip("gensim.models.fasttext")
    texts = [["the", "cat", "sat"], ["the", "dog", "sat"]] * 10
    model = fasttext.FastText(texts, vector_size=7, min_count=1, epochs=1, workers=1, seed=1, bucket=100)
    fasttext.save_facebook_model(model, str(tmp_path / "model.bin"))
    encoder = sentenc.load(tmp_path / "model.bin")
    expected = (model.wv["the"] + model.wv["dog"]) / 2
    np.testing.assert_allclose(encoder.encode("the dog"), expected, **CLOSE)


def test_a_file_without_gensim_names_the_extra(tmp_path, monkeypatch):
    (tmp_path / "words.kv").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "gensim", None)
    with pytest.raises(MissingExtraError, match=r"sentenc\[train\]"):
        sentenc.load(tmp_path / "words.kv")


def test_damaged_files_are_named(tmp_path):
    (tmp_path / "cut.vec").write_text("9 3\nthe 0.1 0.2 0.3\ncat 1 2 3.5")
    with pytest.raises(TextFileError, match="ends after 2 words, expected 9, the number in its first line"):
        sentenc.load(tmp_path / "cut.vec")
    (tmp_path / "words.txt").write_text("no vectors here\n")
    with pytest.raises(TextFileError, match="line 1"):
        sentenc.load(tmp_path / "words.txt")
    (tmp_path / "words.safetensors").write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="cannot be read as weights"):
        sentenc.load(tmp_path / "words.safetensors")


def test_a_file_can_be_described(tmp_path, capsys):
    write_text(tmp_path / "glove.txt", header=False)
    cli.main(["info", str(tmp_path / "glove.txt"), "--json"], standalone_mode=False)
    described = json.loads(capsys.readouterr().out)
    assert (described["kind"], described["dim"], described["parameters"]) == ("static", 7, 42)


def test_vectors_are_those_of_wordllama(tmp_path):
    pytest.importorskip("tokenizers")
    from safetensors.numpy import save_file

    tokenizer, rows = tokenizer_and_rows(unigram_spec(), 8)
    for folder in ("weights", "tokenizers"):
        (tmp_path / folder).mkdir()
    path = tmp_path / "weights" / "small_cat_8.safetensors"
    save_file({"embedding.weight": rows}, path)
    with pytest.raises(
        CheckpointError, match=r"has no tokenizer, expected one of .*small_cat_tokenizer_config\.json"
    ):
        sentenc.load(path)
    tokenizer.save(str(tmp_path / "tokenizers" / "small_cat_tokenizer_config.json"))
    encoder = sentenc.load(path)
    texts = ["the dog is playing", "hello ☃ world!", "dog"]
    ids = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    np.testing.assert_allclose(encoder.encode(texts), [rows[row].mean(axis=0) for row in ids], **CLOSE)
