"""Loading, ensembles, batching, caching and checking of teachers."""

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling

from sentenc import BertEncoder, SentenceTransformerEncoder
from sentenc.encoders.comparison import unit_rows
from sentenc.training.initialization.cse import average_from_teacher, token_vectors
from sentenc.training.teachers import batched
from sentenc.training.teachers.batched import BatchedTeacher, batch_transformers
from sentenc.training.teachers.ensemble import TeacherEnsemble
from sentenc.training.teachers.loading import load_encoding_teacher, load_teacher
from sentenc.training.teachers.sanity_check import check_teacher
from sentenc.training.teachers.teacher_cache import fill_teacher_cache, open_teacher_cache
from tests.support.models import make_cse, make_sentence_transformer

TEXTS = ["the dog runs", "a cat", "", "the cat fell in the park", "a dog", "the dog runs in the park"]


@pytest.fixture(scope="module")
def pair():
    return make_cse(embedding_dim=24), make_cse(embedding_dim=32)


# Ensembles


def test_the_cosine_of_an_ensemble_is_the_weighted_mean_of_its_encoders(pair):
    teacher = TeacherEnsemble(pair, [1, 3])
    assert teacher.dim == pair[0].dim + pair[1].dim
    vectors = teacher.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), teacher.dim)
    assert vectors.dtype == np.float32
    units = [unit_rows(encoder.encode(TEXTS), "vectors") for encoder in pair]
    expected = 0.25 * units[0] @ units[0].T + 0.75 * units[1] @ units[1].T
    np.testing.assert_allclose(vectors @ vectors.T, expected, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(vectors[[0, 1, 3]], axis=1), 1, atol=1e-5)
    assert not vectors[2].any()
    np.testing.assert_allclose(teacher.encode(TEXTS, normalize_embeddings=True), vectors, atol=1e-6)


def test_the_fingerprint_of_an_ensemble_depends_on_encoders_and_weights(pair):
    fingerprints = {
        TeacherEnsemble(pair).fingerprint(),
        TeacherEnsemble(pair[::-1]).fingerprint(),
        TeacherEnsemble(pair, [1, 2]).fingerprint(),
        TeacherEnsemble(pair[:1]).fingerprint(),
    }
    assert len(fingerprints) == 4
    assert TeacherEnsemble(pair, [2, 4]).fingerprint() == TeacherEnsemble(pair, [1, 2]).fingerprint()


@pytest.mark.parametrize("weights", [[1], [1, 2, 3], [1, 0], [1, -1], [1, float("nan")], [1, float("inf")]])
def test_weights_that_do_not_fit_are_refused(pair, weights):
    with pytest.raises(ValueError, match=r"teacher\.weights is .* 2 positive numbers"):
        TeacherEnsemble(pair, weights)


def test_a_missing_teacher_is_refused():
    with pytest.raises(ValueError, match="encoders is empty"):
        TeacherEnsemble([])
    with pytest.raises(ValueError, match=r"teacher\.models"):
        load_teacher(())


def test_the_token_vectors_of_an_ensemble_are_concatenated(pair):
    tokens = ["dog", "cat"]
    teacher = TeacherEnsemble(pair, [1, 3])
    np.testing.assert_allclose(token_vectors(teacher, tokens), teacher.encode(tokens), atol=1e-6)
    with pytest.raises(ValueError, match="input embeddings of a transformer"):
        average_from_teacher(teacher, pair[0].tokenizer, 4)


# Loading and devices


def test_one_name_loads_an_encoder_and_several_an_ensemble(tmp_path, pair):
    for encoder, name in zip(pair, "ab", strict=True):
        encoder.save(tmp_path / name)
    names = [str(tmp_path / name) for name in "ab"]
    assert load_teacher(names[:1]).dim == pair[0].dim
    both = load_teacher(names, [1, 1])
    assert isinstance(both, TeacherEnsemble)
    assert both.dim == pair[0].dim + pair[1].dim


def test_a_run_on_the_cpu_never_uses_the_gpu(tmp_path, pair, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    make_sentence_transformer(tmp_path).save(str(tmp_path / "model"))
    assert isinstance(load_teacher([str(tmp_path / "model")], device="cpu"), BertEncoder)
    encoder = SentenceTransformerEncoder(make_sentence_transformer(tmp_path))
    for teacher in (encoder, TeacherEnsemble(pair)):
        assert batch_transformers(teacher, torch.device("cpu")) is teacher


def test_on_a_gpu_the_transformers_of_an_ensemble_are_batched(tmp_path, pair, monkeypatch):
    encoder = SentenceTransformerEncoder(make_sentence_transformer(tmp_path))
    monkeypatch.setattr(batched, "BatchedTeacher", Batched)
    teacher = batch_transformers(TeacherEnsemble([pair[0], encoder], [1, 3]), torch.device("cuda", 1))
    assert teacher.encoders[0] is pair[0]
    assert isinstance(teacher.encoders[1], Batched)
    assert teacher.encoders[1].device == torch.device("cuda", 1)
    assert teacher.weights == (0.25, 0.75)


class Batched(BatchedTeacher):
    """A batched teacher that records its device and computes on the CPU."""

    def __init__(self, encoder, device, dtype):
        assert dtype == torch.float16
        super().__init__(encoder, torch.device("cpu"), torch.float32)
        self.device = device


# Batching


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_batches_of_similar_length_give_the_vectors_of_sentence_transformers(tmp_path, monkeypatch, pooling):
    model = make_sentence_transformer(tmp_path)
    model = SentenceTransformer(modules=[model[0], Pooling(24, pooling_mode=pooling)], device="cpu")
    encoder = SentenceTransformerEncoder(model)
    monkeypatch.setattr(batched, "_TOKENS_PER_CPU_BATCH", 24)
    assert BatchedTeacher.supports(encoder)
    teacher = BatchedTeacher(encoder, torch.device("cpu"), torch.float32)
    assert teacher.dim == encoder.dim
    texts = [*TEXTS, "the dog " * 40, "\N{SNOWMAN} \N{SNOWMAN}"]
    for normalized in (False, True):
        vectors = teacher.encode(texts, normalize_embeddings=normalized)
        expected = encoder.encode(texts, normalize_embeddings=normalized, on_overflow="ignore")
        np.testing.assert_allclose(vectors, expected, atol=1e-5)
    assert vectors[3].any()
    assert not vectors[[2, -1]].any()
    assert teacher.encode([]).shape == (0, encoder.dim)
    assert teacher.fingerprint() != encoder.fingerprint()


def test_transformers_with_another_pooling_are_not_batched(tmp_path, pair):
    model = make_sentence_transformer(tmp_path)
    first = SentenceTransformer(modules=[model[0], Pooling(24, pooling_mode="max")], device="cpu")
    for encoder in (pair[0], SentenceTransformerEncoder(first)):
        assert not BatchedTeacher.supports(encoder)
    with pytest.raises(ValueError, match="WordPiece tokens and pooling alone"):
        BatchedTeacher(SentenceTransformerEncoder(first), torch.device("cpu"))


def test_a_pooling_is_that_of_folders_that_state_none(tmp_path):
    model = make_sentence_transformer(tmp_path)
    model.save(str(tmp_path / "mean"))
    first = SentenceTransformer(modules=[model[0], Pooling(24, pooling_mode="cls")], device="cpu")
    model[0].auto_model.save_pretrained(tmp_path / "plain")
    model.tokenizer.save_pretrained(tmp_path / "plain")
    make_cse().save(tmp_path / "cse")
    expected = SentenceTransformerEncoder(first).encode(TEXTS)
    for precision in (None, "bf16"):
        teacher = load_encoding_teacher([str(tmp_path / "plain")], precision=precision, pooling="cls").teacher
        vectors = teacher.encode(TEXTS)
        assert not vectors[2].any()
        np.testing.assert_allclose(vectors, expected, atol=1e-4 if precision is None else 0.1)
    # The initialization of a student reads the same teacher, so a contradiction is refused there too.
    for name in ("mean", "cse"):
        with pytest.raises(ValueError, match=rf"pooling is 'cls'.*{name}"):
            load_teacher([str(tmp_path / name)], pooling="cls")
    assert load_teacher([str(tmp_path / "mean")], pooling="mean").dim == 24


def test_half_precision_on_a_cpu_changes_vectors_little(tmp_path):
    make_sentence_transformer(tmp_path).save(str(tmp_path / "model"))
    exact = load_teacher([str(tmp_path / "model")])
    teacher = batch_transformers(exact, torch.device("cpu"), "bf16")
    assert isinstance(teacher, BatchedTeacher)
    vectors, expected = (encoder.encode(TEXTS, normalize_embeddings=True) for encoder in (teacher, exact))
    cosines = (vectors * expected).sum(1)
    assert not vectors[2].any()
    assert cosines[[0, 1, 3, 4, 5]].min() > 0.999
    assert np.abs(vectors - expected).max() > 1e-5
    # A teacher of another kind cannot compute in it.
    for other in (make_cse(), TeacherEnsemble([exact, make_cse()])):
        with pytest.raises(ValueError, match="'bf16' for CSE"):
            batch_transformers(other, torch.device("cpu"), "bf16")
        assert batch_transformers(other, torch.device("cpu"), "float32") is other


# The cache


def test_the_cache_contains_unit_vectors_in_half_precision(tmp_path, pair):
    teacher = TeacherEnsemble(pair)
    cache = open_teacher_cache(tmp_path, teacher)
    assert fill_teacher_cache(cache, teacher, [*TEXTS, "the dog " * 400], show_progress_bar=False) == 7
    vectors = open_teacher_cache(tmp_path, None).lookup(TEXTS)
    np.testing.assert_allclose(vectors, teacher.encode(TEXTS), atol=1e-3)
    assert {np.load(path).dtype for path in tmp_path.glob("vectors-*.npy")} == {np.dtype(np.float16)}
    assert fill_teacher_cache(cache, teacher, TEXTS) == 0
    with pytest.raises(ValueError, match="another encoder"):
        open_teacher_cache(tmp_path, pair[0])


# The sanity check


class RuleTeacher:
    """A teacher that computes the vector of a text by a rule."""

    def __init__(self, rule):
        self.rule = rule

    def encode(self, texts, *, normalize_embeddings, on_overflow):
        vectors = np.array([self.rule(text) for text in texts], np.float32)
        return unit_rows(vectors, "vectors") if normalize_embeddings else vectors


NOISE = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda _: [np.nan, 1], "NaN or infinity for 8 of 8"),
        (lambda text: [len(text), *NOISE.normal(size=8)], "dropout"),
        (lambda text: [1, 1e-4 * len(text)], r"above 0\.999"),
        (
            lambda text: [1, 5 * (-1) ** text.startswith(("A man is", "The", "She"))],
            "higher one for paraphrases",
        ),
    ],
    ids=["nan", "dropout", "constant", "opposite"],
)
def test_implausible_teachers_are_refused(rule, message):
    with pytest.raises(ValueError, match=message):
        check_teacher(RuleTeacher(rule))


def test_a_plausible_teacher_passes():
    check_teacher(
        RuleTeacher(
            lambda text: [float(word in text.lower()) for word in ("guitar", "stock", "rice", "park")]
        )
    )
