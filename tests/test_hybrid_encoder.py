"""Hybrid encoders: vectors with columns for the words of a text."""

import copy
import json
import pickle
import subprocess
import sys
import tracemalloc
from collections import Counter

import numpy as np
import pytest

import sentenc
from sentenc import CheckpointError, HybridEncoder, PairEncoder
from sentenc.encoders.hybrid.idf import InverseDocumentFrequencies, most_frequent
from sentenc.encoders.hybrid.words import WordColumns, term_bits
from sentenc.tokenization.analysis import Analyzer
from tests.support.models import make_bert, make_cse, make_sentence_transformer, random_bert_weights

TEXTS = ["the dog", "a cat and the dog", "", "the", "XK-4711 cat", "東京 dog"]


def unit(vectors):
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    return np.divide(vectors, norms, out=np.zeros_like(vectors), where=norms > 0)


@pytest.fixture(scope="module")
def encoder():
    return make_cse()


@pytest.mark.parametrize("make", [make_cse, make_bert])
def test_a_similarity_is_the_mean_of_both_by_their_shares(make):
    encoder = make()
    hybrid = HybridEncoder(encoder, columns=64, word_weight=0.3)
    assert hybrid.dim == encoder.similarity_dim + 64
    vectors = hybrid.encode(TEXTS)
    meaning = unit(encoder.encode(TEXTS)[:, : encoder.similarity_dim])
    words = np.empty((len(TEXTS), 64), np.float32)
    hybrid.words.write(TEXTS, words)
    both = np.flatnonzero(meaning.any(1) & words.any(1))
    assert len(both) >= 3
    expected = 0.7 * meaning @ meaning.T + 0.3 * words @ words.T
    np.testing.assert_allclose(
        (vectors @ vectors.T)[np.ix_(both, both)], expected[np.ix_(both, both)], atol=1e-5
    )


def test_a_text_without_tokens_and_words_has_the_zero_vector(encoder):
    hybrid = HybridEncoder(encoder, columns=64)
    vectors = hybrid.encode(TEXTS)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), [1, 1, 0, 1, 1, 1], atol=1e-5)


def test_texts_without_words_are_not_nearer_than_their_meaning():
    # A function word is no word of a search, so such texts have one vector in the place of words.
    bert = make_bert()
    hybrid = HybridEncoder(bert, columns=512, word_weight=0.5)
    meaning = bert.similarity("the the", ["the dog", "the"])[0]
    assert hybrid.encode("the")[-512:].any()
    near, other = hybrid.similarity("the the", ["the dog", "the"])[0]
    assert abs(near - 0.5 * meaning[0]) < 0.05
    assert other == pytest.approx(0.5 * meaning[1] + 0.5, abs=1e-5)


def test_words_alone_count_if_the_encoder_knows_no_token(encoder):
    hybrid = HybridEncoder(encoder, columns=64)
    unknown = hybrid.encode("ლიმონი")
    assert not unknown[:-64].any()
    assert np.linalg.norm(unknown) == pytest.approx(1, abs=1e-6)


def test_words_are_stemmed_and_an_unknown_one_is_the_same_everywhere(encoder):
    hybrid = HybridEncoder(encoder, columns=64, word_weight=0.99)
    assert hybrid.similarity("dogs", "dog")[0, 0] > 0.98
    assert hybrid.similarity("XK4711Q", "report on XK4711Q")[0, 0] > 0.3
    # Vectors are stored, so the columns of a word must never change.
    assert term_bits("guitar", 16).hex() == "ed0b"
    words = np.empty((1, 8), np.float32)
    WordColumns(8, InverseDocumentFrequencies.english()).write(["two red guitars"], words)
    np.testing.assert_allclose(
        words[0], [0.7711, 0.4183, -0.1316, 0.1316, 0.2213, 0.2213, -0.2213, 0.2213], atol=1e-4
    )
    assert term_bits("guitar", 1024)[:2] == term_bits("guitar", 16)


def test_more_columns_approximate_the_cosine_of_the_weighted_terms():
    frequencies = InverseDocumentFrequencies.english()
    a, b = "a man plays the guitar in Paris", "the guitar concert of Paris begins at noon in Paris"
    analyzer = Analyzer("en")
    vectors = []
    for text in (a, b):
        terms = analyzer.terms(text)
        counts = {term: terms.count(term) for term in terms}
        vectors.append({t: frequencies[t] ** 0.5 * n * 2.2 / (n + 1.2) for t, n in counts.items()})
    norms = [sum(v * v for v in own.values()) ** 0.5 for own in vectors]
    exact = sum(vectors[0].get(t, 0) * v for t, v in vectors[1].items()) / norms[0] / norms[1]
    out = np.empty((2, 16_384), np.float32)
    WordColumns(16_384, frequencies).write([a, b], out)
    assert 0.3 < exact < 0.7
    assert abs(out[0] @ out[1] - exact) < 0.03


def test_rare_words_count_more():
    frequencies = InverseDocumentFrequencies.counted(["dog cat"] * 9 + ["dog"] * 80 + ["bird"] * 4, "en")
    assert frequencies["dog"] < frequencies["cat"] < frequencies["bird"] < frequencies["unseen"]
    english = InverseDocumentFrequencies.english()
    assert english["year"] < english["guitar"] < english["xk4711q"]
    assert len(english) == 25_000
    with pytest.raises(ValueError, match="texts is empty"):
        InverseDocumentFrequencies.counted([], "en")


@pytest.mark.parametrize("make", [make_cse, make_bert])
def test_a_saved_encoder_is_equal(make, tmp_path):
    texts = [f"dog number {i}" for i in range(9)]
    hybrid = sentenc.hybrid(make(), columns=40, word_weight=0.4, texts=texts)
    hybrid.save(tmp_path / "model")
    loaded = sentenc.load(tmp_path / "model")
    assert isinstance(loaded, HybridEncoder)
    assert (loaded.fingerprint(), loaded.space) == (hybrid.fingerprint(), hybrid.space)
    np.testing.assert_allclose(loaded.encode(TEXTS), hybrid.encode(TEXTS), rtol=0, atol=1e-6)
    copy = pickle.loads(pickle.dumps(loaded))
    np.testing.assert_array_equal(copy.encode(TEXTS), loaded.encode(TEXTS))
    assert sentenc.verify(tmp_path / "model").max_difference < 1e-6
    assert loaded.metadata["language"] == "en"
    with pytest.raises(
        ValueError, match=r"hybrid encoder, which takes neither .*pass the result to sentenc.hybrid"
    ):
        sentenc.load(tmp_path / "model", max_tokens=20)


def test_every_setting_changes_the_space(encoder):
    spaces = {
        HybridEncoder(encoder, **options).space
        for options in (
            {},
            {"columns": 64},
            {"word_weight": 0.5},
            {"idf": InverseDocumentFrequencies("de", {}, 1.0)},
        )
    }
    assert len(spaces | {encoder.space}) == 5
    # The compute of a BERT changes none.
    bert = make_bert()
    assert HybridEncoder(bert).space == HybridEncoder(bert.with_compute("int8")).space


def test_prompts_have_no_part_in_the_words():
    bert = make_bert()
    bert.metadata = {"prompts": {"query": "find the dog "}}
    hybrid = HybridEncoder(bert, columns=64, word_weight=0.5)
    assert dict(hybrid.prompts) == {"query": "find the dog "}
    query, plain = hybrid.encode_query("a cat"), hybrid.encode("a cat")
    np.testing.assert_allclose(query[-64:], plain[-64:], rtol=0, atol=1e-6)
    assert np.abs(query[:-64] - plain[:-64]).max() > 1e-3
    assert not hybrid.encode_query("").any()


def test_equally_frequent_terms_are_chosen_by_the_alphabet():
    counts = Counter({"b": 4, "c": 5, "a": 4, "d": 2})
    assert most_frequent(counts, 2, 1) == ["c", "a"]
    assert most_frequent(counts, 9, 3) == ["c", "a", "b"]
    digests = [
        InverseDocumentFrequencies("en", dict(order), 9.0).digest
        for order in ((("a", 1), ("b", 2)), (("b", 2), ("a", 1)))
    ]
    assert digests[0] == digests[1]


def test_a_role_is_that_of_the_encoder():
    class ByRole(type(make_bert())):
        role = None

        def for_role(self, role):
            other = copy.copy(self)
            other.role = role
            return other, None

    bert = make_bert()
    hybrid = HybridEncoder(ByRole(bert.config, random_bert_weights(bert.config), bert.tokenizer), columns=64)
    for role in ("query", "document"):
        encoder, _ = hybrid.for_role(role)
        assert (encoder.encoder.role, encoder.space) == (role, hybrid.space)
        assert encoder.words is hybrid.words


def test_another_compute_keeps_how_the_encoder_was_loaded(tmp_path):
    HybridEncoder(make_bert().compressed(), columns=64).save(tmp_path / "model")
    assert (tmp_path / "model" / "encoder" / "golden.json").exists()
    loaded = sentenc.load(tmp_path / "model")
    changed = loaded.with_compute("int8")
    assert changed.loaded_as == (str(tmp_path / "model"), {"compute": "int8"})
    assert changed.encoder.compute == "int8"
    assert changed.space == loaded.space
    index = sentenc.Index(sentenc.load(tmp_path / "model", compute="int8"))
    index.add(["the dog", "a cat"])
    index.save(tmp_path / "index")
    assert sentenc.Index.open(tmp_path / "index").search("cats", k=1)[0].text == "a cat"


def test_another_stemmer_is_reported(encoder, tmp_path):
    HybridEncoder(encoder, columns=64).save(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    values = json.loads(config.read_text())
    values["config"]["stemmer"] = "1.0"
    config.write_text(json.dumps(values))
    with pytest.warns(UserWarning, match=r"saved with PyStemmer 1\.0, but .* is installed"):
        sentenc.load(tmp_path / "model")


def test_an_external_model_is_saved_with_it(tmp_path):
    pytest.importorskip("sentence_transformers")
    external = sentenc.SentenceTransformerEncoder(make_sentence_transformer(tmp_path), "external")
    hybrid = HybridEncoder(external, columns=64)
    hybrid.save(tmp_path / "model")
    loaded = sentenc.load(tmp_path / "model")
    assert isinstance(loaded.encoder, sentenc.SentenceTransformerEncoder)
    assert loaded.fingerprint() == hybrid.fingerprint()
    np.testing.assert_allclose(loaded.encode(TEXTS), hybrid.encode(TEXTS), rtol=0, atol=1e-6)


def test_a_text_has_one_vector_for_any_batch(encoder):
    hybrid = HybridEncoder(encoder, columns=64)
    texts = TEXTS * 40
    together = hybrid.encode(texts)
    for i in (0, 1, 4, 5):
        np.testing.assert_allclose(hybrid.encode(texts[i]), together[i], rtol=0, atol=1e-6)
        np.testing.assert_allclose(together[i + 6 * 30], together[i], rtol=0, atol=1e-6)
    many = WordColumns(8, InverseDocumentFrequencies.english())
    out = np.empty((3, 8), np.float32)
    many.write([" ".join(f"w{i}" for i in range(start, start + 9)) for start in (0, 9, 0)], out)
    np.testing.assert_array_equal(out[0], out[2])


def test_long_texts_need_little_memory_and_have_one_vector():
    words = WordColumns(4096, InverseDocumentFrequencies.english())
    texts = [" ".join(f"w{i}" for i in range(start, start + 3000)) for start in range(0, 24_000, 3000)]
    out = np.empty((8, 4096), np.float32)
    tracemalloc.start()
    try:
        words.write(texts, out)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # One matrix of all terms has 393 MB, that of one text 49 MB. The packed bits of all terms have 12 MB.
    assert peak < 80e6
    alone = np.empty((1, 4096), np.float32)
    for i in (0, 7):
        words.write(texts[i : i + 1], alone)
        np.testing.assert_array_equal(alone[0], out[i])
    bits = np.stack([np.frombuffer(term_bits(f"w{i}", 4096), np.uint8) for i in range(3000)])
    expected = (np.unpackbits(bits, axis=1) * 2.0 - 1).sum(axis=0)
    np.testing.assert_allclose(out[0], expected / np.linalg.norm(expected), rtol=0, atol=1e-6)


def test_only_some_terms_are_cached(monkeypatch):
    words = WordColumns(8, InverseDocumentFrequencies.english())
    long, out = "xk" * 33, np.empty((1, 8), np.float32)
    words.write([f"guitar {long} {long[:64]}"], out)
    assert set(words._seen) == {"guitar", long[:64]}
    # A term with few columns needs the memory of its objects.
    monkeypatch.setattr("sentenc.encoders.hybrid.words._MOST_CACHED", 256 * 9)
    words.write([" ".join(f"w{i}" for i in range(100))], out)
    assert len(words._seen) <= 9


def test_both_halves_of_a_pair_get_the_columns(tmp_path):
    bert = make_bert()
    queries = make_bert()
    queries.metadata = {"space": bert.space, "hybrid_alpha": 0.4}
    pair = sentenc.hybrid(sentenc.pair(bert, queries), columns=64)
    assert isinstance(pair, PairEncoder)
    assert pair.dim == bert.dim + 64
    assert pair.metadata["hybrid_alpha"] == 0.4
    pair.save(tmp_path / "pair")
    loaded = sentenc.load(tmp_path / "pair")
    np.testing.assert_allclose(
        loaded.encode_query("the dog"), pair.encode_query("the dog"), rtol=0, atol=1e-6
    )
    assert sentenc.verify(tmp_path / "pair").max_difference < 1e-6
    assert sentenc.load(tmp_path / "pair", compute="int8").documents.encoder.compute == "int8"


def test_an_index_compares_all_columns(encoder, tmp_path):
    hybrid = HybridEncoder(encoder, columns=256, word_weight=0.5)
    documents = ["the cat", "the dog XK4711Q", "a dog"]
    index = sentenc.Index(hybrid)
    index.add(documents)
    assert index.dim == hybrid.dim
    assert index.search("XK4711Q", k=1, mode="vector")[0].text == documents[1]


def test_errors_name_the_value_and_the_expectation(encoder, tmp_path):
    for options, message in (
        ({"columns": 12}, "columns is 12, expected a multiple of 8"),
        ({"columns": 0}, "columns is 0, expected"),
        ({"word_weight": 1.0}, "word_weight is 1.0, expected"),
        ({"word_weight": 0}, "word_weight is 0, expected"),
        ({"language": "english"}, "language is 'english', expected"),
    ):
        with pytest.raises(ValueError, match=message):
            sentenc.hybrid(encoder, texts=["a"], **options)
    with pytest.raises(ValueError, match="the language is 'de', expected texts"):
        sentenc.hybrid(encoder, language="de")
    assert sentenc.hybrid(encoder, language="de", texts=["der Hund"]).metadata["language"] == "de"
    twin = make_cse()
    twin.metadata = {"language": ["de"]}
    with pytest.raises(ValueError, match=r"the language \['de'\]: pass language="):
        sentenc.hybrid(twin)
    for texts, message in (
        ("the dog", "texts is str"),
        (3, "texts is int"),
        (["a", None], r"texts\[1\] is NoneType"),
    ):
        with pytest.raises(TypeError, match=message):
            sentenc.hybrid(encoder, texts=texts)
    with pytest.raises(TypeError, match="idf is dict"):
        HybridEncoder(encoder, idf={"a": 1.0})
    hybrid = HybridEncoder(encoder, columns=64)
    with pytest.raises(TypeError, match="expected an Encoder that is neither a pair nor a hybrid encoder"):
        sentenc.hybrid(hybrid)
    with pytest.raises(TypeError, match="encoder is"):
        HybridEncoder("cse-en")
    hybrid.save(tmp_path / "model")
    config = tmp_path / "model" / "config.json"
    for changes in ({"word_weight": 2}, {"columns": "many"}, {"language": None}, {"model": "cse-en"}):
        values = json.loads(config.read_text())
        config.write_text(json.dumps(values | {"config": values["config"] | changes}))
        with pytest.raises(CheckpointError, match=r"config\.json has a bad config"):
            sentenc.load(tmp_path / "model")
        config.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match="2 idf values for 3 terms"):
        InverseDocumentFrequencies.from_tensors(
            "en", {"terms": np.frombuffer(b"a\nb\nc", np.uint8), "idf": np.ones(2)}
        )
    with pytest.raises(CheckpointError, match="no terms"):
        InverseDocumentFrequencies.from_tensors("en", {})


def test_the_command_writes_a_model(tmp_path):
    make_cse().save(tmp_path / "cse")
    (tmp_path / "texts.txt").write_text("the dog\na cat\n")
    command = [sys.executable, "-m", "sentenc"]
    arguments = ["hybrid", "cse", "-o", "hybrid", "--columns", "64", "--word-weight", "0.4"]
    arguments += ["--texts", "texts.txt", "--language", "de"]
    done = subprocess.run([*command, *arguments], cwd=tmp_path, capture_output=True, text=True, check=True)
    hybrid = sentenc.load(tmp_path / "hybrid")
    assert (hybrid.word_weight, hybrid.words.idf.language) == (0.4, "de")
    assert f"hybrid: {hybrid.dim} columns, 64 of them for words" in done.stderr
    info = subprocess.run(
        [*command, "info", "hybrid"], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "kind: hybrid" in info.stdout
    assert "parameters: null" not in info.stdout
    failed = subprocess.run(
        [*command, "hybrid", "hybrid", "-o", "x", "--language", "en"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert failed.returncode == 1
    assert "expected an Encoder that is neither" in failed.stderr
    assert "Traceback" not in failed.stderr
