"""Word vectors: file formats, damaged files, and reproducible training with gensim."""

import bz2
import gzip
import lzma
import struct

import numpy as np
import pytest

from sentenc.errors import TextFileError
from sentenc.io.word_vectors import WordVectors, load_word_vectors
from sentenc.training.initialization.word_vectors import train_word_vectors

WORDS = ["the", "dog", "crème", ". . ."]
ROWS = np.array([[1.5, -2, 0.25], [0, 1, 2], [3e-5, 7, -1], [4, 5, 6]], np.float32)
SENTENCES = [
    f"the {animal} {verb} in the {place}".split()
    for animal in ("dog", "cat", "horse")
    for verb in ("runs", "sleeps")
    for place in ("park", "house")
] * 5


def text_lines(words=WORDS, rows=ROWS) -> list[str]:
    return [" ".join([word, *map(str, row)]) for word, row in zip(words, rows.tolist(), strict=True)]


def binary(words=WORDS, rows=ROWS, newline=b"\n") -> bytes:
    records = [
        w.encode() + b" " + struct.pack("<3f", *row) + newline for w, row in zip(words, rows, strict=True)
    ]
    return f"{len(words)} 3\n".encode() + b"".join(records)


def same(loaded: WordVectors, n: int = 4) -> None:
    assert loaded.words == WORDS[:n]
    assert loaded.vectors.dtype == np.float32
    np.testing.assert_array_equal(loaded.vectors, ROWS[:n])


@pytest.mark.parametrize(
    ("suffix", "opener"),
    [(".txt", open), (".txt.gz", gzip.open), (".vec.xz", lzma.open), (".txt.bz2", bz2.open)],
)
@pytest.mark.parametrize("header", [[], ["4 3"]])
def test_text(tmp_path, suffix, opener, header):
    path = tmp_path / f"vectors{suffix}"
    with opener(path, "wt", encoding="utf-8") as file:
        # word2vec ends its lines with a space; the second "dog" does not count.
        file.write(" \n".join([*header, *text_lines(), "dog 9 9 9"]) + " \n")
    same(load_word_vectors(path))
    same(load_word_vectors(path, limit=2), 2)
    assert load_word_vectors(path).counts is None


@pytest.mark.parametrize(
    ("suffix", "opener"), [(".bin", open), (".bin.gz", gzip.open), (".bin.bz2", bz2.open)]
)
@pytest.mark.parametrize("newline", [b"\n", b""])
def test_binary(tmp_path, suffix, opener, newline):
    # Words in this format cannot contain a space.
    with opener(tmp_path / f"v{suffix}", "wb") as file:
        file.write(binary(WORDS[:3], ROWS[:3], newline))
    same(load_word_vectors(tmp_path / f"v{suffix}"), 3)
    same(load_word_vectors(tmp_path / f"v{suffix}", limit=1), 1)


def test_a_first_line_of_two_decimal_numbers_is_a_word(tmp_path):
    (tmp_path / "one.txt").write_text("7 2.5\n8 3\n")
    loaded = load_word_vectors(tmp_path / "one.txt")
    assert loaded.words == ["7", "8"]
    assert loaded.vectors.tolist() == [[2.5], [3.0]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a 1 2\nb 3 4\nc 5\n", "line 3: 2 fields, expected .* 2 numbers"),
        (b"a 1 2\nb 3 x4\n", "line 2: .*'x4', expected 2 numbers"),
        (b"2 3\na 1 2\n", "line 2: 3 fields, expected .* 3 numbers"),
        (b"a 1 2\nb 1 nan\n", "vector of 'b' .*not finite"),
        (b"a 1 2\n\xff 1 2\n", "line 2: not UTF-8"),
        (b"word\n", "line 1: 1 fields"),
        (b"", "has no word vectors"),
        (b"3 2\n", "ends after 0 words, expected 3"),
        (b"9 2\nthe 0.1 0.2\ncat 1 2", "ends after 2 words, expected 9, the number in its first line"),
        (b"\xba\x16\x4f\x2f\x0c\x00", "not a file that gensim can load"),
        (binary([*WORDS[:3], "end"])[:-9], "word 4: .*expected 4 words of 3 numbers"),
        (b"\x00\x01\x02 \x03", "binary, but the first line is"),
        (b"1 3\n\xff\xff " + bytes(12), "word 1: not UTF-8"),
    ],
)
def test_damage_is_named(tmp_path, content, message):
    (tmp_path / "vectors.txt").write_bytes(content)
    with pytest.raises(TextFileError, match=message):
        load_word_vectors(tmp_path / "vectors.txt")


def test_a_cut_off_archive_is_named(tmp_path):
    (tmp_path / "v.txt.gz").write_bytes(gzip.compress("\n".join(text_lines()).encode())[:-12])
    with pytest.raises(TextFileError, match=r"v\.txt\.gz"):
        load_word_vectors(tmp_path / "v.txt.gz")


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match=r"vectors has shape \(4, 3\), expected \(1, d\)"):
        WordVectors(["a"], ROWS)
    with pytest.raises(ValueError, match="counts has shape"):
        WordVectors(WORDS, ROWS, np.ones(3, np.int64))
    with pytest.raises(ValueError, match="1 words"):
        WordVectors(["a", "b", "a"], ROWS[:3])
    with pytest.raises(ValueError, match="limit is 0"):
        load_word_vectors("nowhere", limit=0)


# gensim --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["word2vec", "fasttext"])
def test_training_is_reproducible_and_counts(kind):
    pytest.importorskip("gensim")
    options = {"kind": kind, "dim": 8, "min_count": 11, "epochs": 2, "progress": False}
    trained, again = (train_word_vectors(SENTENCES, seed=3, **options) for _ in range(2))
    np.testing.assert_array_equal(trained.vectors, again.vectors)
    counts = dict(zip(trained.words, trained.counts.tolist(), strict=True))
    assert counts == {
        "the": 120,
        "in": 60,
        "runs": 30,
        "sleeps": 30,
        "park": 30,
        "house": 30,
        "dog": 20,
        "cat": 20,
        "horse": 20,
    }
    assert trained.words[:2] == ["the", "in"]
    other = train_word_vectors(SENTENCES, seed=4, **options)
    assert np.abs(other.vectors - trained.vectors).max() > 1e-3


def test_words_with_similar_contexts_have_similar_vectors():
    pytest.importorskip("gensim")
    rng = np.random.default_rng(0)
    groups = [["dog", "cat", "horse"], ["bread", "cheese", "apple"]]
    sentences = [list(rng.choice(groups[i % 2], 3)) for i in range(600)]
    trained = train_word_vectors(sentences, dim=6, epochs=20, min_count=1, sample=0, progress=False)
    unit = trained.vectors / np.linalg.norm(trained.vectors, axis=1, keepdims=True)
    index = {word: i for i, word in enumerate(trained.words)}
    cosine = unit @ unit.T
    assert cosine[index["dog"], index["cat"]] > cosine[index["dog"], index["bread"]] + 0.3


def test_a_corpus_is_split_and_read_epoch_by_epoch():
    pytest.importorskip("gensim")
    epochs = []

    class Corpus:
        def epoch(self, seed, epoch):
            epochs.append((seed, epoch))
            yield from [("The dog's bone.", "the DOG"), ("A dog",)] * 3

    trained = train_word_vectors(Corpus(), dim=4, min_count=3, epochs=2, seed=7, progress=False)
    counts = dict(zip(trained.words, trained.counts.tolist(), strict=True))
    assert counts == {"dog": 9, "the": 6, "'": 3, "s": 3, "bone": 3, ".": 3, "a": 3}
    # One pass to count the words, and two to train.
    assert epochs == [(7, 0), (7, 1), (7, 2)]


def test_training_refusals():
    with pytest.raises(ValueError, match="kind is 'glove'"):
        train_word_vectors(SENTENCES, kind="glove")
    with pytest.raises(TypeError, match=r"sentences is generator.*once"):
        train_word_vectors(iter_sentence for iter_sentence in SENTENCES)
    pytest.importorskip("gensim")
    with pytest.raises(ValueError, match=r"min_count=500 .*60 sentences"):
        train_word_vectors(SENTENCES, min_count=500)


@pytest.mark.parametrize("name", ["model.model", "vectors.kv"])
def test_gensims_own_files(tmp_path, name):
    models = pytest.importorskip("gensim.models")
    model = models.Word2Vec(SENTENCES, vector_size=5, min_count=1, workers=1, seed=1)
    (model if name.endswith(".model") else model.wv).save(str(tmp_path / name))
    loaded = load_word_vectors(tmp_path / name)
    assert loaded.words == model.wv.index_to_key
    np.testing.assert_array_equal(loaded.vectors, model.wv.vectors)
    assert loaded.counts[0] == 120
    assert load_word_vectors(tmp_path / name, limit=2).counts.tolist() == [120, 60]


def test_word2vec_files_written_by_gensim_are_read(tmp_path):
    models = pytest.importorskip("gensim.models")
    wv = models.Word2Vec(SENTENCES, vector_size=5, min_count=1, workers=1, seed=1).wv
    for name, is_binary in (("v.txt", False), ("v.bin", True)):
        wv.save_word2vec_format(str(tmp_path / name), binary=is_binary)
        loaded = load_word_vectors(tmp_path / name)
        assert loaded.words == wv.index_to_key
        np.testing.assert_allclose(loaded.vectors, wv.vectors, rtol=1e-6)


def test_a_file_that_gensim_did_not_save(tmp_path):
    pytest.importorskip("gensim")
    (tmp_path / "v.kv").write_bytes(b"no pickle")
    with pytest.raises(TextFileError, match="gensim"):
        load_word_vectors(tmp_path / "v.kv")
    with pytest.raises(FileNotFoundError, match="no file"):
        load_word_vectors(tmp_path / "nowhere.kv")
