"""Initial embeddings from word vectors, and from a teacher's vectors of single tokens."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from sentenc import SentenceTransformerEncoder
from sentenc.encoders.cse.config import CSEConfig
from sentenc.io.word_vectors import WordVectors
from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.training.data.words import word_splitter
from sentenc.training.initialization.cse import (
    init_from_teacher,
    init_from_words,
    pca_embeddings,
    sif_log_weights,
    token_vectors,
)
from sentenc.training.students.cse import CSEStudent
from tests.support.models import make_cse, make_sentence_transformer, wordpiece_spec


def some_vectors(words: list[str], counts: list[int] | None = None) -> WordVectors:
    rows = np.arange(3 * len(words), dtype=np.float32).reshape(-1, 3)
    return WordVectors(words, rows, None if counts is None else np.array(counts))


def test_sif_weights_by_hand():
    # Smoothed counts 1, 9 of 10: shares 0.1 and 0.9.
    weights = np.exp(sif_log_weights(np.array([0, 8]), a=0.1))
    np.testing.assert_allclose(weights, [0.1 / 0.2, 0.1 / 1.0], rtol=1e-6)


def test_principal_components_keep_the_main_directions():
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(40, 3)) @ rng.normal(size=(3, 10)) + 5
    embeddings = pca_embeddings(vectors, 3)
    centered = vectors - vectors.mean(0)
    before, after = centered @ centered.T, embeddings @ embeddings.T
    np.testing.assert_allclose(after, before * (after[0, 0] / before[0, 0]), atol=1e-5)
    assert (embeddings**2).sum(1).mean() == pytest.approx(1, abs=1e-5)
    assert (np.diff(embeddings.var(0)) <= 0).all()
    with pytest.raises(ValueError, match="dim is 11, expected 1 to 10"):
        pca_embeddings(vectors, 11)


def test_words_become_a_word_level_tokenizer():
    start = init_from_words(
        some_vectors(["The", "dog", "crème", "the", "New_York", ".", "the."], [9, 5, 4, 3, 2, 1, 1])
    )
    # The splitter divides "New_York" and "the.", so they occur in no text. "The" is the first form of "the".
    assert start.tokenizer.vocabulary == {"the": 0, "dog": 1, "crème": 2, ".": 3}
    assert start.embeddings[:, 0].tolist() == [0, 3, 6, 15]
    np.testing.assert_allclose(start.log_weights, sif_log_weights(np.array([9, 5, 4, 1])))
    assert start.tokenizer.encode(["The DOG ate crème."])[0].tolist() == [0, 1, 2, 3]
    assert start.tokenizer.skip_unknown


def test_case_can_matter():
    start = init_from_words(some_vectors(["The", "the", "DOG"]), lowercase=False)
    assert start.tokenizer.vocabulary == {"The": 0, "the": 1, "DOG": 2}
    assert start.tokenizer.encode(["the The dog"])[0].tolist() == [1, 0]
    assert start.log_weights.tolist() == [0, 0, 0]


@pytest.mark.parametrize(("name", "row"), [("UUUNKKK", [3, 4, 5]), ("cat", [1.5, 2.5, 3.5])])
def test_unknown_words_can_have_a_row(name, row):
    vectors = some_vectors(["dog", name], [7, 2])
    if name == "UUUNKKK":
        vectors = WordVectors(
            [*vectors.words, "uuunkkks"], np.concatenate([vectors.vectors, [[1, 1, 1]]]).astype("f")
        )
    start = init_from_words(vectors, unknown="row")
    assert start.tokenizer.unknown_id == 0
    assert start.embeddings[0].tolist() == row
    assert start.tokenizer.encode(["a dog <unk>"])[0].tolist() == [0, 1, 0, 0, 0]


def test_words_initialize_a_student_and_dim_reduces_them():
    rng = np.random.default_rng(0)
    vectors = WordVectors(["the", "dog", "cat", "runs", "fell"], rng.normal(size=(5, 4)).astype(np.float32))
    start = init_from_words(vectors, dim=2)
    np.testing.assert_allclose(start.embeddings, pca_embeddings(vectors.vectors, 2))
    config = CSEConfig(vocab_size=5, embedding_dim=2, num_filters=3)
    student = CSEStudent(config, start.tokenizer, embeddings=start.embeddings, log_weights=start.log_weights)
    vector = student.encoder(tables="float32").encode("the dog")
    np.testing.assert_allclose(vector, start.embeddings[:2].mean(0), atol=1e-6)


def test_words_that_no_text_contains_are_refused():
    with pytest.raises(ValueError, match=r"none of 2 words .*'a_b'"):
        init_from_words(some_vectors(["a_b", "c d"]))
    with pytest.raises(ValueError, match="unknown is 'drop'"):
        init_from_words(some_vectors(["a"]), unknown="drop")


def test_splitter_splits_as_the_tokenizer_does():
    split = word_splitter(True)
    text = "The DOG's crème, 東京 \ud800 ran."
    assert split(text) == ["the", "dog", "'", "s", "crème", ",", "東", "京", "ran", "."]
    start = init_from_words(some_vectors(sorted(set(split(text)))))
    by_id = {index: token for token, index in start.tokenizer.vocabulary.items()}
    assert [by_id[i] for i in start.tokenizer.encode([text])[0]] == split(text)


# From a teacher ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    pytest.importorskip("sentence_transformers")
    return SentenceTransformerEncoder(make_sentence_transformer(tmp_path_factory.mktemp("teacher")))


def test_tokens_are_encoded_between_special_tokens(teacher):
    # The vector of a token that is a whole word is the teacher's vector of this word as a text.
    vectors = token_vectors(teacher, ["dog", "##ing", "guitar", "notatoken"])
    np.testing.assert_allclose(vectors[[0, 2]], teacher.encode(["dog", "guitar"]), atol=1e-5)
    np.testing.assert_allclose(vectors[3], teacher.encode("notatoken"), atol=1e-5)
    # "##ing" is its own token, not the text "ing".
    vocabulary = teacher.model.tokenizer.get_vocab()
    ids = torch.tensor([[2, vocabulary["##ing"], 3]])
    with torch.no_grad():
        expected = teacher.model({"input_ids": ids, "attention_mask": torch.ones_like(ids)})[
            "sentence_embedding"
        ]
    np.testing.assert_allclose(vectors[1], expected[0].numpy(), atol=1e-5)
    assert np.abs(vectors[1] - teacher.encode("ing")).max() > 1e-3


def test_initialization_from_a_transformer(teacher):
    tokenizer = Tokenizer(wordpiece_spec())
    frequencies = np.arange(tokenizer.vocab_size)
    start = init_from_teacher(teacher, tokenizer, frequencies, 5)
    assert start.tokenizer is tokenizer
    tokens = sorted(tokenizer.vocabulary, key=tokenizer.vocabulary.__getitem__)
    expected = pca_embeddings(token_vectors(teacher, tokens), 5)
    np.testing.assert_allclose(start.embeddings, expected, atol=1e-4)
    np.testing.assert_allclose(start.log_weights, sif_log_weights(frequencies))


def test_initialization_from_a_model_folder(tmp_path):
    teacher = make_cse(embedding_dim=8)
    teacher.save(tmp_path / "model")
    tokenizer = Tokenizer(wordpiece_spec())
    start = init_from_teacher(tmp_path / "model", tokenizer, None, 8)
    a, b = (tokenizer.vocabulary[word] for word in ("dog", "cat"))
    distance = np.linalg.norm(start.embeddings[a] - start.embeddings[b])
    tokens = sorted(tokenizer.vocabulary, key=tokenizer.vocabulary.__getitem__)
    whole = teacher.encode([token.removeprefix("##") for token in tokens])
    scale = np.sqrt(((whole - whole.mean(0)) ** 2).sum(1).mean())
    assert distance == pytest.approx(np.linalg.norm(whole[a] - whole[b]) / scale, rel=1e-4)
    assert (start.log_weights == 0).all()


def test_teacher_refusals():
    tokenizer = Tokenizer(wordpiece_spec())
    teacher = make_cse(embedding_dim=8)
    with pytest.raises(ValueError, match="dim is 9, expected 1 to 8"):
        init_from_teacher(teacher, tokenizer, None, 9)
    with pytest.raises(ValueError, match=r"frequencies has shape \(4,\)"):
        init_from_teacher(teacher, tokenizer, np.zeros(4, np.int64), 8)


def test_initialization_can_be_imported_without_torch():
    code = (
        "import sys; sys.modules['torch'] = None; sys.modules['gensim'] = None\n"
        "from sentenc.training.data import vocabulary, words\n"
        "from sentenc.training.initialization import cse, word_vectors\n"
        "from sentenc.training.teachers import ensemble, teacher_cache\n"
        "assert words.word_splitter(True)('A dog.') == ['a', 'dog', '.']"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)
