"""The parts of a finished CSE's output: rotated, scaled to a norm, or unchanged."""

import numpy as np
import pytest
import torch

import sentenc
from sentenc import CSE, CSEConfig
from sentenc.training.students.cse import CSEStudent
from sentenc.training.students.cse_rotation import map_output, scale_features
from tests.support.models import make_cse, random_weights

TEXTS = [
    f"{a} {b} {c}"
    for a in ("the dog", "a cat", "someone", "new york people")
    for b in ("runs", "fell", "plays the guitar")
    for c in ("in the park", "on time", "")
]
BOTH = {"combine": "both", "average_dim": 5, "embedding_dim": 12, "num_filters": 6}


def make_student(options: dict | None = None, **shape) -> CSEStudent:
    return CSEStudent.from_encoder(make_cse(**BOTH | shape), **options or {})


def parts(encoder: CSE, texts: list[str] = TEXTS) -> list[np.ndarray]:
    """Sentence vectors, plain averages and features."""
    config, outputs = encoder.config, encoder.encode(texts).astype(np.float64)
    return np.split(outputs, [config.word_dim, config.word_dim + config.average_dim], axis=1)


def rms(vectors: np.ndarray) -> float:
    return float(np.sqrt((vectors**2).sum(1).mean()))


def assert_close(vectors: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-4 * np.abs(expected).max())


# A linear map of the sentence vector ---------------------------------------------------------------


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"output_dim": 7},
        {"widths": ()},
        {"phi": "gelu", "pooling": "max"},
        {"average_dim": 0},
        {"bias": True},
    ],
)
@pytest.mark.parametrize("singular", [False, True])
def test_a_map_changes_only_the_sentence_vector(shape, singular):
    before = make_cse(**BOTH | shape)
    matrix = np.random.default_rng(0).normal(size=(before.config.word_dim,) * 2)
    if singular:
        matrix[:, 0] = 0
    weights = {name: before.weight(name) for name in before.config.shapes()}
    config, mapped_weights = map_output(before.config, weights, matrix)
    assert (config.output_dim is not None) == (
        "output_dim" in shape or (singular and shape != {"widths": ()})
    )
    after = CSE(config, mapped_weights, before.tokenizer, tables="float32")
    (vectors, *features), (mapped_vectors, *same) = parts(before), parts(after)
    assert_close(mapped_vectors, vectors @ matrix)
    for was, is_now in zip(features, same, strict=True):
        np.testing.assert_allclose(is_now, was, rtol=0, atol=2e-5)


@pytest.mark.parametrize("rotate_on", [None, TEXTS])
def test_a_learned_map_changes_only_the_sentence_vector(rotate_on):
    student = make_student()
    output_map = torch.randn(12, 30, generator=torch.Generator().manual_seed(0))
    encoder = student.encoder(output_map, rotate_on, tables="float32")
    (vectors, *features), (mapped, *same) = parts(student.encoder(tables="float32")), parts(encoder)
    expected = vectors @ output_map.numpy()
    assert_close(mapped @ mapped.T, expected @ expected.T)
    for was, is_now in zip(features, same, strict=True):
        np.testing.assert_allclose(is_now, was, rtol=0, atol=2e-5)


def test_a_map_has_the_shape_of_the_sentence_vector():
    config = CSEConfig(vocab_size=5, embedding_dim=4, num_filters=2, combine="both", average_dim=3)
    weights = random_weights(config)
    with pytest.raises(ValueError, match=r"shape \(11, 11\), expected \(4, 4\)"):
        map_output(config, weights, np.eye(config.dim))
    concat = CSEConfig(vocab_size=5, embedding_dim=4, num_filters=2, combine="concat")
    with pytest.raises(ValueError, match="combine is 'concat', expected 'residual' or 'both'"):
        map_output(concat, random_weights(concat), np.eye(4))


# Lengths -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [{}, {"output_dim": 7, "windows": "padded"}, {"phi": "identity"}])
def test_norms_are_set_and_cosines_stay(shape):
    plain = make_student(**shape).encoder(tables="float32")
    options = {"sentence_norm": 3.0, "average_norm": 0.9, "ngram_norm": 0.6}
    student = make_student(options, **shape)
    encoder = student.encoder(rotate_on=TEXTS, tables="float32")
    (old, old_average, old_features), (vectors, average, features) = parts(plain), parts(encoder)
    assert rms(vectors) == pytest.approx(3.0, rel=1e-4)
    assert_close(vectors @ vectors.T, old @ old.T * (3.0 / rms(old)) ** 2)
    # The axes are the principal ones: uncorrelated, and sorted by their variance.
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    energy = unit.T @ unit
    assert np.abs(energy - np.diag(np.diag(energy))).max() < 1e-3
    assert (np.diff(np.diag(energy)) <= 1e-4).all()
    np.testing.assert_allclose(average.mean(0), 0, atol=1e-5)
    assert rms(average) == pytest.approx(0.9, rel=1e-4)
    old_average = old_average - old_average.mean(0)
    assert_close(average, old_average * (0.9 / rms(old_average)))
    # Each filter has its own scale. A filter that is never active is unchanged and not part of the norm.
    answers = old_features.any(0)
    assert answers.mean() > 0.9
    np.testing.assert_allclose(features.std(0)[answers], 0.6 / np.sqrt(features.shape[1]), rtol=1e-3)
    assert rms(features - features.mean(0)) == pytest.approx(0.6 * np.sqrt(answers.mean()), rel=1e-4)
    alive, old_alive = features[:, answers], old_features[:, answers]
    assert_close(alive / alive.std(0), old_alive / old_alive.std(0))


def test_norms_are_set_independently_and_only_with_texts():
    plain = parts(make_student().encoder(tables="float32"))
    sizes = {"sentence_norm": 3.0, "average_norm": 0.9, "ngram_norm": 0.6}
    for number, (name, size) in enumerate(sizes.items()):
        scaled = parts(make_student({name: size}).encoder(rotate_on=TEXTS, tables="float32"))
        for other, (was, is_now) in enumerate(zip(plain, scaled, strict=True)):
            if other != number:
                assert_close(is_now @ is_now.T, was @ was.T)
    unset = parts(make_student(sizes).encoder(tables="float32"))
    for was, is_now in zip(plain, unset, strict=True):
        np.testing.assert_array_equal(is_now, was)


def test_the_finished_model_survives_compression(tmp_path):
    options = {"sentence_norm": 3.0, "average_norm": 0.9, "ngram_norm": 0.6}
    student = make_student(options)
    student.save(tmp_path / "model", rotate_on=TEXTS)
    saved = parts(sentenc.load(tmp_path / "model"))
    exact = parts(student.encoder(rotate_on=TEXTS, tables="float32"))
    for is_now, was in zip(saved, exact, strict=True):
        assert np.abs(is_now - was).max() < 0.03 * np.abs(was).max()


@pytest.mark.parametrize("pooling", ["mean", "sum", "max"])
def test_scaled_features_leave_the_sentence_vector(pooling):
    before = make_cse(**BOTH | {"pooling": pooling, "widths": (1, 2, 3)})
    weights = {name: before.weight(name) for name in before.config.shapes()}
    weights["biases.2"][3] = -100  # a filter that is never active
    before = CSE(before.config, weights, before.tokenizer, tables="float32")
    original_weights = {name: value.copy() for name, value in weights.items()}
    vectors, average, features = parts(before)
    assert not features[:, 6 + 3].any()
    scaled_weights = scale_features(before.config, weights, features, 2.0)
    after = parts(CSE(before.config, scaled_weights, before.tokenizer, tables="float32"))
    assert_close(after[0], vectors)
    np.testing.assert_array_equal(after[1], average)
    lively = np.delete(np.arange(18), 6 + 3)
    np.testing.assert_allclose(after[2].std(0)[lively], 2 / np.sqrt(18), rtol=1e-4)
    assert not after[2][:, 6 + 3].any()
    for name, value in original_weights.items():
        np.testing.assert_array_equal(weights[name], value)


def test_features_that_cannot_be_scaled_are_refused():
    features = np.random.default_rng(0).normal(size=(9, 12))
    gelu = make_cse(**BOTH | {"phi": "gelu"}).config
    with pytest.raises(ValueError, match="phi is 'gelu'"):
        scale_features(gelu, random_weights(gelu), features, 1.0)
    relu = make_cse(**BOTH).config
    with pytest.raises(ValueError, match="features of 1 sentences"):
        scale_features(relu, random_weights(relu), features[:1], 1.0)


def test_norms_that_do_not_fit_are_refused():
    for options, shape, message in [
        ({"sentence_norm": 0}, {}, "sentence_norm is 0, expected a number above 0"),
        ({"average_norm": -1.0}, {}, r"average_norm is -1\.0, expected a number above 0"),
        ({"ngram_norm": float("nan")}, {}, "ngram_norm is nan"),
        (
            {"sentence_norm": 1.0},
            {"combine": "concat"},
            r"sentence_norm is 1\.0 with combine='concat'.*expected combine 'residual'",
        ),
        ({"average_norm": 1.0}, {"average_dim": 0}, r"average_dim=0, expected an average_dim"),
        ({"ngram_norm": 1.0}, {"combine": "residual"}, r"ngram_norm is 1\.0 with combine='residual'"),
    ]:
        with pytest.raises(ValueError, match=message):
            make_student(options, **shape)


# Vectors in losses --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ({}, 12),
        ({"average_dim": 0}, 12),
        ({"combine": "residual"}, 12),
        ({"output_dim": 7}, 7),
        # Concatenated features are trained in place.
        ({"combine": "concat"}, 12 + 5 + 12),
        ({"combine": "concat", "average_dim": 0}, 12 + 12),
        ({"combine": "concat", "word_path": False}, 5 + 12),
    ],
)
def test_losses_see_the_sentence_vector(shape, expected):
    assert make_student(**shape).loss_dim == expected


def test_the_plain_average_is_used_but_not_trained():
    encoder = make_cse(**BOTH)
    average = np.random.default_rng(0).normal(size=(encoder.config.vocab_size, 5))
    student = CSEStudent(encoder.config, encoder.tokenizer, average=average)
    np.testing.assert_allclose(student.encoder().weight("average"), average, rtol=1e-6)
    trained = [parameter for group in student.groups().values() for parameter in group]
    assert len(trained) == len(student.module.weights) - 1
    assert all(parameter is not student.module["average"] for parameter in trained)
    student(*student.tokenize(TEXTS)).square().sum().backward()
    assert student.module["average"].grad is None
    assert all(parameter.grad is not None for parameter in trained)
    with pytest.raises(ValueError, match=r"average has shape \(3, 5\), expected"):
        CSEStudent(encoder.config, encoder.tokenizer, average=average[:3])


def test_inactive_ngrams_leave_sentence_vector_and_average():
    student = make_student({"ngram_warmup": 0.5}).eval()
    batch = student.tokenize(TEXTS)
    outputs = student(*batch).detach().numpy()
    words = student.encoder(tables="float32").word_path().encode(TEXTS)
    np.testing.assert_allclose(outputs[:, :17], words, atol=1e-6)
    assert outputs.shape[1] == student.dim
    assert not outputs[:, 17:].any()
    student.set_progress(0.5)
    np.testing.assert_allclose(
        student(*batch).detach(), student.encoder(tables="float32").encode(TEXTS), atol=1e-5
    )
