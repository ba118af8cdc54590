"""Several teachers as one, and a transformer for many texts."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling

from sentenc import SentenceTransformerEncoder
from sentenc.training.initialization.cse import average_from_teacher, token_vectors
from sentenc.training.teachers import ensemble as teachers
from sentenc.training.teachers.ensemble import BatchedTeacher, TeacherEnsemble, for_many_texts, load_teacher
from tests.support.models import make_cse, make_sentence_transformer

TEXTS = ["the dog runs", "a cat", "", "the cat fell in the park", "a dog", "the dog runs in the park"]


@pytest.fixture(scope="module")
def pair():
    return make_cse(embedding_dim=24), make_cse(embedding_dim=32)


def test_the_cosine_of_an_ensemble_is_the_weighted_mean_of_its_encoders(pair):
    teacher = TeacherEnsemble(pair, [1, 3])
    assert teacher.dim == pair[0].dim + pair[1].dim
    found = teacher.encode(TEXTS)
    assert found.shape == (len(TEXTS), teacher.dim)
    one, other = (e.similarity(v := e.encode(TEXTS), v) for e in pair)
    np.testing.assert_allclose(teacher.similarity(found, found), 0.25 * one + 0.75 * other, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(found[[0, 1, 3]], axis=1), 1, atol=1e-5)
    assert not found[2].any()
    assert teacher.encode(TEXTS[0]).shape == (teacher.dim,)


def test_an_ensemble_is_known_by_its_encoders_and_shares(pair):
    prints = {
        TeacherEnsemble(pair).fingerprint(),
        TeacherEnsemble(pair[::-1]).fingerprint(),
        TeacherEnsemble(pair, [1, 2]).fingerprint(),
        TeacherEnsemble(pair[:1]).fingerprint(),
    }
    assert len(prints) == 4
    assert TeacherEnsemble(pair, [2, 4]).fingerprint() == TeacherEnsemble(pair, [1, 2]).fingerprint()


@pytest.mark.parametrize("shares", [[1], [1, 2, 3], [1, 0], [1, -1], [1, float("nan")], [1, float("inf")]])
def test_shares_that_do_not_fit_are_refused(pair, shares):
    with pytest.raises(ValueError, match="expected 2 positive numbers"):
        TeacherEnsemble(pair, shares)


def test_no_teacher_is_refused():
    with pytest.raises(ValueError, match="expected one or more"):
        TeacherEnsemble([])
    with pytest.raises(ValueError, match=r"teacher\.model"):
        load_teacher(())


def test_names_give_one_teacher_or_several(tmp_path, pair):
    for encoder, name in zip(pair, "ab", strict=True):
        encoder.save(tmp_path / name)
    names = [str(tmp_path / name) for name in "ab"]
    assert load_teacher(names[:1]).dim == pair[0].dim
    both = load_teacher(names, [1, 1])
    assert isinstance(both, TeacherEnsemble)
    assert both.dim == pair[0].dim + pair[1].dim
    with pytest.raises(TypeError, match="one by one"):
        both.save(tmp_path / "c")


def test_tokens_of_an_ensemble_stand_side_by_side(pair):
    tokens = ["dog", "cat"]
    teacher = TeacherEnsemble(pair, [1, 3])
    found = token_vectors(teacher, tokens)
    np.testing.assert_allclose(found, teacher.encode(tokens), atol=1e-6)
    with pytest.raises(ValueError, match="needs the input embeddings of a transformer"):
        average_from_teacher(teacher, pair[0].tokenizer, 4)


def test_without_a_gpu_a_teacher_computes_as_it_is(pair, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    teacher = TeacherEnsemble(pair)
    assert for_many_texts(teacher) is teacher


def test_batches_by_tokens_give_the_vectors_of_sentence_transformers(tmp_path, monkeypatch):
    encoder = SentenceTransformerEncoder(make_sentence_transformer(tmp_path))
    monkeypatch.setattr(teachers, "_TOKENS", 24)
    assert BatchedTeacher.fits(encoder)
    batched = BatchedTeacher(encoder, torch.device("cpu"), torch.float32)
    texts = [*TEXTS, "the dog " * 40, "\N{SNOWMAN} \N{SNOWMAN}"]
    for normalized in (False, True):
        found = batched.encode(texts, normalize_embeddings=normalized, on_overflow="ignore")
        expected = encoder.encode(texts, normalize_embeddings=normalized, on_overflow="ignore")
        np.testing.assert_allclose(found, expected, atol=1e-5)
    assert found[3].any()
    assert not found[[2, -1]].any()
    np.testing.assert_array_equal(batched.count_tokens(texts), encoder.count_tokens(texts))
    assert batched.fingerprint() != encoder.fingerprint()


def test_only_transformers_with_mean_pooling_are_batched(tmp_path, pair):
    model = make_sentence_transformer(tmp_path)
    first = SentenceTransformer(modules=[model[0], Pooling(24, pooling_mode="cls")], device="cpu")
    for encoder in (pair[0], SentenceTransformerEncoder(first)):
        assert not BatchedTeacher.fits(encoder)
    with pytest.raises(ValueError, match="mean pooling"):
        BatchedTeacher(SentenceTransformerEncoder(first), torch.device("cpu"))
