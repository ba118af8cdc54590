"""CSE students that are initialized from a larger or smaller model, and from a teacher's embeddings."""

import numpy as np
import pytest

from sentenc import CSE, SentenceTransformerEncoder
from sentenc.training.config.pretraining import RunConfig, parse_run
from sentenc.training.data.vocabulary import prune_vocabulary, token_frequencies
from sentenc.training.initialization.cse import average_from_teacher, pca_embeddings
from sentenc.training.initialization.cse_pruning import prune_cse
from sentenc.training.initialization.student import initialize_student
from tests.support.models import make_cse, make_sentence_transformer

TEXTS = ["the dog runs in a park", "not good at all!", "dog", "", "new york people"]


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    pytest.importorskip("sentence_transformers")
    return SentenceTransformerEncoder(make_sentence_transformer(tmp_path_factory.mktemp("teacher")))


def run_of(tmp_path, **student) -> RunConfig:
    return parse_run(
        {
            "output": "out",
            "student": student,
            "training": {"steps": 1},
            "corpora": {"text": {"sources": [{"files": ["text.txt"], "form": "sentences"}]}},
            "losses": [{"kind": "simcse", "corpus": "text", "batch_size": 2}],
        },
        tmp_path,
    )


def made(tmp_path, teacher=None, **student):
    def nobody():
        raise AssertionError("the teacher was asked for")

    give = nobody if teacher is None else lambda: teacher
    return initialize_student(run_of(tmp_path, **student), lambda: TEXTS, give, "about")


def saved(tmp_path, **shape):
    encoder = make_cse(embedding_dim=12, num_filters=6, **shape)
    encoder.save(tmp_path / "model")
    return encoder, str(tmp_path / "model")


@pytest.mark.parametrize("shape", [{}, {"output_dim": 7, "widths": (1, 3)}])
def test_a_grown_model_has_the_same_sentence_vectors(tmp_path, teacher, shape):
    encoder, path = saved(tmp_path, **shape)
    config = {"combine": "both", "average_dim": 4}
    student = made(tmp_path, teacher, init=path, config=config, sentence_norm=2.0, ngram_norm=0.5)
    vectors = student.encoder(tables="float32").encode(TEXTS)
    d = encoder.config.word_dim
    np.testing.assert_allclose(vectors[:, :d], encoder.encode(TEXTS), atol=1e-5)
    assert vectors.shape[1] == d + 4 + encoder.config.num_features
    expected = average_from_teacher(teacher, encoder.tokenizer, 4)
    np.testing.assert_array_equal(student.encoder().weight("average"), expected)
    ids, ends, _ = encoder.tokenizer.encode(TEXTS[:1])
    np.testing.assert_allclose(vectors[0, d : d + 4], expected[ids[: ends[0]]].mean(0), atol=1e-5)
    assert vectors[0, d + 4 :].any()
    assert (student.sentence_norm, student.average_norm, student.ngram_norm) == (2.0, None, 0.5)


def test_the_teacher_is_loaded_only_for_a_new_average(tmp_path):
    encoder, path = saved(tmp_path, average_dim=4)
    np.testing.assert_allclose(
        made(tmp_path, init=path).encoder(tables="float32").encode(TEXTS), encoder.encode(TEXTS), atol=1e-5
    )
    # An existing average is kept.
    student = made(tmp_path, init=path, config={"combine": "both", "average_dim": 4})
    np.testing.assert_array_equal(student.encoder().weight("average"), encoder.weight("average"))
    assert student.config.combine == "both"


def test_changes_that_a_model_does_not_allow_are_refused(tmp_path, teacher):
    _, path = saved(tmp_path, average_dim=4)
    for config, message in [
        ({"average_dim": 5}, "'average_dim': 5.*average_dim=4"),
        ({"average_dim": 0}, "'average_dim': 0.*average_dim=4"),
        ({"combine": "concat"}, "has combine='residual'"),
        ({"phi": "tanh"}, "average_dim, combine, embedding_dim, num_filters"),
        ({"embedding_dim": 13}, "embedding_dim is 13, expected at most the 12"),
        ({"num_filters": 7}, "num_filters is 7, expected at most the 6"),
    ]:
        with pytest.raises(ValueError, match=message):
            made(tmp_path, teacher, init=path, config=config)
    _, path = saved(tmp_path, combine="both")
    with pytest.raises(ValueError, match="has combine='both'"):
        made(tmp_path, teacher, init=path, config={"combine": "residual"})
    (tmp_path / "words.txt").write_text("dog 1 0\npark 0 1\n")
    with pytest.raises(ValueError, match=r"student\.tokenizer is '.*model'.*words\.txt.*remove it"):
        made(tmp_path, init="words.txt", tokenizer="model")
    with pytest.raises(ValueError, match=r"student\.sentence_norm is 2\.0.*'cse'"):
        made(tmp_path, kind="bert", init="random", sentence_norm=2.0)


def test_a_model_is_pruned(tmp_path):
    encoder, path = saved(tmp_path, average_dim=4, combine="both")
    tokens = encoder.tokenizer.vocab_size
    frequencies = token_frequencies(encoder.tokenizer, TEXTS)
    tokenizer, ids = prune_vocabulary(encoder.tokenizer, frequencies, tokens - 3)
    config = {"embedding_dim": 8, "num_filters": 4, "average_dim": 2}
    student = made(tmp_path, init=path, config=config, vocabulary=tokens - 3)
    assert student.tokenizer.vocabulary == tokenizer.vocabulary
    assert (student.config.vocab_size, student.dim) == (tokens - 3, 8 + 2 + 2 * 4)
    small = student.encoder()
    for name, columns in (("embeddings", 8), ("average", 2)):
        np.testing.assert_array_equal(small.weight(name), encoder.weight(name)[ids, :columns])
    np.testing.assert_array_equal(small.weight("token_weights"), encoder.weight("token_weights")[ids])
    # Filters without output are removed first.
    weights = {name: encoder.weight(name) for name in encoder.config.shapes()}
    weights["output.2"][[1, 4]] = 0
    silent = CSE(encoder.config, weights, encoder.tokenizer)
    left = prune_cse(silent, num_filters=4)
    np.testing.assert_array_equal(left.weight("filters.2"), weights["filters.2"][:, :, [0, 2, 3, 5]])
    np.testing.assert_array_equal(left.weight("output.2"), weights["output.2"][[0, 2, 3, 5]])
    np.testing.assert_array_equal(left.weight("biases.2"), weights["biases.2"][[0, 2, 3, 5]])


def test_models_that_cannot_be_pruned_are_refused():
    with pytest.raises(ValueError, match="output_dim=7"):
        prune_cse(make_cse(output_dim=7), embedding_dim=4)
    encoder = make_cse()
    with pytest.raises(ValueError, match="num_filters is 99, expected at most"):
        prune_cse(encoder, num_filters=99)


def test_a_new_student_has_the_teachers_average(tmp_path, teacher):
    encoder, path = saved(tmp_path)
    config = {"combine": "both", "average_dim": 4, "embedding_dim": 8, "num_filters": 6}
    student = made(tmp_path, teacher, init="random", tokenizer=path, config=config, average_norm=0.5)
    expected = average_from_teacher(teacher, encoder.tokenizer, 4)
    np.testing.assert_array_equal(student.encoder().weight("average"), expected)
    assert student.average_norm == 0.5
    assert student.loss_dim == 8


def test_the_average_consists_of_the_teachers_input_embeddings(teacher):
    tokenizer = make_cse().tokenizer
    average = average_from_teacher(teacher, tokenizer, 6)
    known = teacher.model.tokenizer.get_vocab()
    table = teacher.model[0].auto_model.get_input_embeddings().weight.detach().numpy()
    names = sorted(tokenizer.vocabulary, key=tokenizer.vocabulary.__getitem__)
    assert set(names) <= set(known)
    expected = pca_embeddings(table[[known[name] for name in names]], 6)
    np.testing.assert_allclose(average, expected, atol=1e-6)
    assert (average**2).sum(1).mean() == pytest.approx(1, abs=1e-5)


class _Vocabulary:
    def __init__(self, *tokens: str) -> None:
        self.vocabulary = {token: 2 * place + 1 for place, token in enumerate(tokens)}
        self.vocab_size = 2 * len(tokens)


def test_tokens_that_the_teacher_lacks_have_zero_rows(teacher):
    average = average_from_teacher(teacher, _Vocabulary("cat", "notatoken", "dog", "park"), 2)
    known = teacher.model.tokenizer.get_vocab()
    table = teacher.model[0].auto_model.get_input_embeddings().weight.detach().numpy()
    rows = pca_embeddings(table[[known[name] for name in ("cat", "dog", "park")]], 2)
    np.testing.assert_allclose(average[[1, 5, 7]], rows, atol=1e-6)
    assert not average[[0, 2, 3, 4, 6]].any()


def test_an_average_needs_a_transformer_with_the_tokens(teacher):
    tokenizer = make_cse().tokenizer
    with pytest.raises(ValueError, match=r"average_dim .* input embeddings .* CSE"):
        average_from_teacher(make_cse(), tokenizer, 4)
    with pytest.raises(ValueError, match="dim is 25, expected 1 to 24"):
        average_from_teacher(teacher, tokenizer, 25)
    with pytest.raises(ValueError, match=r"teacher .* none of 2 tokens"):
        average_from_teacher(teacher, _Vocabulary("notatoken"), 4)
