"""CSE students: initial weights, warm-up, dropout, and folded maps."""

import numpy as np
import pytest
import torch

import sentenc
from sentenc import CSE, CSEConfig
from sentenc.nn.cse import CSEModule
from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.training.students.cse import CSEStudent
from sentenc.training.students.cse_rotation import map_output, map_root, principal_rotation
from tests.support.models import make_cse, random_weights, word_spec, wordpiece_spec

TEXTS = [
    f"{a} {b} {c}"
    for a in ("the dog", "a cat", "someone", "new york people")
    for b in ("runs", "fell", "plays the guitar")
    for c in ("in the park", "on time", "")
]
PAPER = {
    "widths": (1, 2, 3),
    "combine": "concat",
    "phi": "identity",
    "pooling": "sum",
    "windows": "padded",
    "word_path": False,
}


def make_student(spec: str | None = None, options: dict | None = None, **shape) -> CSEStudent:
    encoder = make_cse(spec=spec, **{"embedding_dim": 12, "num_filters": 6} | shape)
    return CSEStudent.from_encoder(encoder, **options or {})


def vectors(student: CSEStudent, texts: list[str]) -> np.ndarray:
    student.eval()
    with torch.no_grad():
        return student(*student.tokenize(texts)).numpy()


def random_map(dim: int, width: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(dim, width, generator=torch.Generator().manual_seed(seed))


# Text in, vectors out ------------------------------------------------------------------------------


def test_tokenize_pads_and_cuts():
    student = make_student(spec=word_spec(), max_tokens=3)
    vocabulary = student.tokenizer.vocabulary
    ids, lengths = student.tokenize(["dog cat", "", "the dog runs in"])
    assert ids.dtype == lengths.dtype == torch.int64
    assert lengths.tolist() == [2, 0, 3]
    assert ids.tolist() == [
        [vocabulary["dog"], vocabulary["cat"], 0],
        [0, 0, 0],
        [vocabulary["the"], vocabulary["dog"], vocabulary["runs"]],
    ]
    assert student.tokenize([""])[0].shape == (1, 1)
    assert student.tokenize([])[0].shape == (0, 1)


@pytest.mark.parametrize("shape", [{}, {"combine": "concat"}, {"output_dim": 7}, PAPER, {"widths": ()}])
def test_a_student_made_from_an_encoder_is_that_encoder(shape):
    student = make_student(**shape)
    encoder = student.encoder(tables="float32")
    np.testing.assert_allclose(encoder.encode(TEXTS), vectors(student, TEXTS), rtol=0, atol=2e-5)
    assert student.dim == encoder.dim == vectors(student, TEXTS).shape[1]
    # A compressed model is accepted too. Its int8 rows are scaled back.
    compressed = encoder.compressed()
    again = vectors(CSEStudent.from_encoder(compressed), TEXTS)
    np.testing.assert_allclose(again, vectors(student, TEXTS), rtol=0, atol=0.05)


def test_initial_weights_are_used_and_checked():
    tokenizer = Tokenizer(wordpiece_spec())
    config = CSEConfig(vocab_size=tokenizer.vocab_size, embedding_dim=4, num_filters=3)
    start = np.arange(4 * config.vocab_size, dtype=np.float64).reshape(-1, 4)
    student = CSEStudent(
        config, tokenizer, embeddings=start, log_weights=np.log(np.arange(config.vocab_size) + 1.0)
    )
    a, b = (tokenizer.vocabulary[word] for word in ("dog", "cat"))
    # A new student is a word average, because its n-grams are zero. Weights are id + 1.
    expected = ((a + 1) * start[a] + (b + 1) * start[b]) / (a + b + 2)
    np.testing.assert_allclose(vectors(student, ["dog cat"])[0], expected, rtol=1e-5)
    with pytest.raises(ValueError, match=r"embeddings has shape \(3, 4\), expected"):
        CSEStudent(config, tokenizer, embeddings=start[:3])
    with pytest.raises(ValueError, match=r"token_weights .*not finite"):
        CSEStudent(config, tokenizer, log_weights=np.full(config.vocab_size, np.inf))


def test_wrong_arguments_are_refused():
    tokenizer = Tokenizer(wordpiece_spec())
    config = CSEConfig(vocab_size=tokenizer.vocab_size, embedding_dim=4, num_filters=3)
    small = CSEConfig(vocab_size=9, embedding_dim=4)
    with pytest.raises(ValueError, match="expected at most vocab_size 9"):
        CSEStudent(small, tokenizer)
    with pytest.raises(ValueError, match="skip_unknown is False"):
        CSEStudent(config, Tokenizer(wordpiece_spec(), skip_unknown=False))
    for options, message in [
        ({"dropout": 1.0}, "dropout is 1.0, expected"),
        ({"word_dropout": -0.1}, "word_dropout is -0.1"),
        ({"ngram_warmup": 1.5}, "ngram_warmup is 1.5"),
    ]:
        with pytest.raises(ValueError, match=message):
            CSEStudent(config, tokenizer, **options)
    with pytest.raises(ValueError, match=r"ngram_warmup is 0\.5 with combine='concat'"):
        make_student(combine="concat", options={"ngram_warmup": 0.5})


# Phases, groups, gradients -------------------------------------------------------------------------


def test_groups_hold_every_parameter_once():
    student = make_student(output_dim=7, widths=(2, 3))
    groups = student.groups()
    assert set(groups) == {"embeddings", "ngrams"}
    assert len(groups["embeddings"]) == 3
    grouped = [id(parameter) for group in groups.values() for parameter in group]
    assert sorted(grouped) == sorted(id(parameter) for parameter in student.parameters())
    assert set(make_student(widths=()).groups()) == {"embeddings"}


def test_warmup_leaves_out_the_ngrams():
    student = make_student(options={"ngram_warmup": 0.5})
    words = CSEStudent.from_encoder(student.encoder().word_path())
    np.testing.assert_allclose(vectors(student, TEXTS), vectors(words, TEXTS), atol=1e-6)
    student(*student.tokenize(TEXTS)).sum().backward()
    assert all(parameter.grad is None for parameter in student.groups()["ngrams"])
    student.set_progress(0.49)
    assert not student.module.ngrams_active
    student.set_progress(0.5)
    np.testing.assert_allclose(vectors(student, TEXTS), vectors(make_student(), TEXTS), atol=1e-6)
    assert np.abs(vectors(student, TEXTS) - vectors(words, TEXTS)).max() > 0.1


def test_inactive_ngrams_of_a_concatenation_are_zero():
    student = make_student(combine="concat")
    student.module.ngrams_active = False
    outputs = vectors(student, TEXTS)
    assert outputs.shape[1] == student.dim
    assert (outputs[:, 12:] == 0).all()
    student.module.ngrams_active = True
    np.testing.assert_array_equal(vectors(student, TEXTS)[:, :12], outputs[:, :12])


def test_sparse_gradients_are_the_dense_ones():
    dense, sparse = make_student(), make_student(options={"sparse_embeddings": True})
    for student in (dense, sparse):
        student(*student.tokenize(TEXTS)).square().sum().backward()
    assert dense.sparse_parameters() == []
    [embeddings] = sparse.sparse_parameters()
    assert embeddings.grad.is_sparse
    torch.testing.assert_close(embeddings.grad.to_dense(), dense.module["embeddings"].grad)
    torch.testing.assert_close(sparse.module["token_weights"].grad, dense.module["token_weights"].grad)


# Dropout -------------------------------------------------------------------------------------------


def dropped_average(**rates) -> torch.Tensor:
    """Training-mode vectors of 4,000 copies of a one-token sentence whose embedding is all ones."""
    config = CSEConfig(vocab_size=3, embedding_dim=8, widths=(), num_filters=1)
    module = CSEModule(config, **rates)
    with torch.no_grad():
        module["embeddings"].fill_(1.0)
    state = torch.random.get_rng_state()
    torch.manual_seed(0)
    try:
        return module(torch.ones(4000, 1, dtype=torch.int64), torch.ones(4000, dtype=torch.int64)).detach()
    finally:
        torch.random.set_rng_state(state)


def test_dropout_is_by_element_and_keeps_the_mean():
    dropped = dropped_average(dropout=0.25)
    assert sorted(dropped.unique().tolist()) == pytest.approx([0, 4 / 3])
    assert (dropped == 0).double().mean().item() == pytest.approx(0.25, abs=0.02)
    assert ((dropped == 0).any(1) & (dropped != 0).any(1)).double().mean() > 0.5


def test_word_dropout_is_by_token():
    dropped = dropped_average(word_dropout=0.25)
    assert sorted(dropped.unique().tolist()) == pytest.approx([0, 4 / 3])
    assert ((dropped == 0).all(1) | (dropped != 0).all(1)).all()
    assert (dropped == 0).all(1).double().mean().item() == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize("kind", ["dropout", "word_dropout"])
def test_dropout_affects_ngrams_and_only_in_training(kind):
    student = make_student(**PAPER, options={kind: 0.5})
    batch = student.tokenize(TEXTS)
    student.train()
    assert (student(*batch) - student(*batch)).abs().max() > 0.01
    np.testing.assert_array_equal(vectors(student, TEXTS), vectors(make_student(**PAPER), TEXTS))


# Folding -------------------------------------------------------------------------------------------


def test_map_root_by_hand():
    # M M^T = [[9, 0], [0, 16]].
    np.testing.assert_allclose(map_root(np.array([[0.0, 3, 0], [4, 0, 0]])), [[3, 0], [0, 4]], atol=1e-12)
    with pytest.raises(ValueError, match=r"shape \(2,\)"):
        map_root(np.ones(2))


def test_principal_rotation_by_hand():
    # Unit vectors (±0.8, ±0.6): most lies along the first axis; lengths and zero vectors do not count.
    axes = principal_rotation(np.array([[0.8, 0.6], [-8, 6.0], [0.6 * 5, 0], [0, 0]])[:, ::-1])
    np.testing.assert_allclose(axes, [[0, 1], [1, 0]], atol=1e-12)
    np.testing.assert_allclose(axes @ axes.T, np.eye(2), atol=1e-12)


@pytest.mark.parametrize("shape", [{}, {"output_dim": 7}, {"widths": ()}, {"phi": "gelu", "pooling": "max"}])
@pytest.mark.parametrize("width", [30, 4])
def test_folded_map_keeps_dot_products_of_mapped_vectors(shape, width):
    # Width 4 makes M M^T singular, so that it cannot be inverted.
    student = make_student(**shape)
    output_map = random_map(student.dim, width)
    mapped = vectors(student, TEXTS) @ output_map.numpy()
    expected = mapped @ mapped.T
    for rotate_on in (None, TEXTS):
        encoder = student.encoder(output_map, rotate_on, tables="float32")
        mapped = encoder.encode(TEXTS)
        np.testing.assert_allclose(mapped @ mapped.T, expected, rtol=0, atol=1e-4 * np.abs(expected).max())
        assert encoder.dim == student.dim


def test_rotation_alone_keeps_dot_products_and_makes_truncation_better():
    student = make_student(embedding_dim=24)
    before = student.encoder(tables="float32")
    after = student.encoder(rotate_on=TEXTS, tables="float32")
    whole = before.similarity(before.encode(TEXTS), before.encode(TEXTS))
    np.testing.assert_allclose(after.similarity(after.encode(TEXTS), after.encode(TEXTS)), whole, atol=1e-4)

    def error(encoder: CSE) -> float:
        short = encoder.encode(TEXTS, truncate_dim=6)
        return float(np.abs(encoder.similarity(short, short) - whole).mean())

    assert error(after) < 0.5 * error(before)


def test_a_badly_conditioned_map_becomes_a_projection_and_survives_compression():
    student = make_student(embedding_dim=24)
    singular = random_map(24, 24) * torch.logspace(0, -6, 24)[None]
    encoder = student.encoder(singular)
    assert encoder.config.output_dim == 24
    mapped = vectors(student, TEXTS) @ singular.numpy()
    expected = encoder.similarity(mapped, mapped)
    rounded = encoder.compressed().encode(TEXTS)
    assert np.abs(encoder.similarity(rounded, rounded) - expected).max() < 0.05
    assert student.encoder(random_map(24, 400)).config.output_dim is None


def test_a_concatenation_refuses_a_map_and_keeps_its_axes():
    student = make_student(combine="concat")
    with pytest.raises(ValueError, match="combine is 'concat', expected 'residual'"):
        student.encoder(random_map(student.dim, 30))
    encoded = student.encoder(rotate_on=TEXTS, tables="float32").encode(TEXTS)
    np.testing.assert_allclose(encoded, vectors(student, TEXTS), atol=1e-5)


def test_a_map_of_another_shape_is_refused():
    config = CSEConfig(vocab_size=5, embedding_dim=4, num_filters=2)
    with pytest.raises(ValueError, match=r"shape \(3, 3\), expected \(4, 4\)"):
        map_output(config, random_weights(config), np.eye(3))
    with pytest.raises(ValueError, match="expected"):
        make_student().encoder(random_map(5, 30))


def test_making_an_encoder_leaves_the_student_as_it_was(tmp_path):
    student = make_student()
    before = {name: value.clone() for name, value in student.state_dict().items()}
    student.train()
    encoder = student.encoder(random_map(12, 30), TEXTS)
    assert student.training
    for name, value in student.state_dict().items():
        assert torch.equal(value, before[name])
    vectors = encoder.encode(TEXTS)
    with torch.no_grad():
        student.module["embeddings"].zero_()
    np.testing.assert_array_equal(encoder.encode(TEXTS), vectors)


def test_save_writes_a_model_folder(tmp_path):
    student, output_map = make_student(), random_map(12, 30)
    student.save(
        tmp_path / "model", output_map=output_map, rotate_on=TEXTS, metadata={"name": "mine"}, card="# Mine\n"
    )
    loaded = sentenc.load(tmp_path / "model")
    expected = student.encoder(output_map, TEXTS).compressed()
    np.testing.assert_array_equal(loaded.encode(TEXTS), expected.encode(TEXTS))
    assert loaded.metadata["name"] == "mine"
    assert loaded.card == "# Mine\n"
