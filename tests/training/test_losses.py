"""Properties of every loss, losses by name, and the checks of their options."""

import numpy as np
import pytest
import torch

from sentenc.training.losses import LOSSES, StateLoss, VectorLoss, make_loss, principal_axes, unit

# Every loss of vectors with options, and the number of columns that it compares.
EVERY = [
    ("embedding_distillation", {}, 1),
    ("embedding_distillation", {"space": "principal"}, 1),
    ("embedding_distillation", {"matryoshka": [2, 5], "matryoshka_weights": [1, 3]}, 1),
    ("simcse", {}, 2),
    ("in_batch_softmax", {"symmetric": True}, 2),
    ("in_batch_softmax", {"hard_negatives": True, "matryoshka": [3, 5]}, 3),
    ("adjacent_sentences", {}, 2),
    ("adjacent_sentences", {"maps": True, "matryoshka": [4]}, 2),
    ("paraphrase_margin", {"margin": 0.9}, 4),
]


def make(kind: str, options: dict) -> VectorLoss:
    generator = torch.Generator().manual_seed(1)
    axes = principal_axes(torch.randn(20, 7, generator=generator), 5)
    return make_loss(kind, options, dim=5, teacher_dim=7, axes=axes, generator=generator)


def random_vectors(count: int, rows: int, dim: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, dim, generator=generator) for _ in range(count)]


def test_every_kind_is_tested_here():
    # Losses of layer states have their own tests.
    of_states = {kind for kind, loss in LOSSES.items() if issubclass(loss, StateLoss)}
    assert {kind for kind, _, _ in EVERY} == set(LOSSES) - of_states
    assert all(issubclass(LOSSES[kind], VectorLoss) for kind in set(LOSSES) - of_states)


def test_unit_vectors_by_hand():
    assert unit(torch.tensor([[3.0, 4.0], [0.0, 0.0]])).tolist() == [
        [pytest.approx(0.6), pytest.approx(0.8)],
        [0, 0],
    ]
    assert unit(torch.tensor([[3e-8, 4e-8]])).tolist() == [[pytest.approx(0.6), pytest.approx(0.8)]]
    assert unit(torch.ones(1, 4, dtype=torch.bfloat16)).dtype == torch.float32
    assert unit(torch.ones(1, 4, dtype=torch.float64)).dtype == torch.float64


@pytest.mark.parametrize(("kind", "options", "columns"), EVERY)
def test_gradients_are_those_of_the_loss(kind, options, columns):
    criterion = make(kind, options).double()
    (teacher,) = random_vectors(1, 4, 7, seed=1)
    vectors = [v.double().requires_grad_() for v in random_vectors(columns, 4, 5)]
    parameters = list(criterion.parameters())
    assert torch.autograd.gradcheck(
        lambda *v: criterion.loss(list(v[:columns]), unit(teacher.double())), (*vectors, *parameters)
    )


@pytest.mark.parametrize(("kind", "options", "columns"), EVERY)
def test_zero_vectors_have_a_finite_loss_and_no_gradient(kind, options, columns):
    criterion = make(kind, options)
    (teacher,) = random_vectors(1, 4, 7, seed=1)
    vectors = random_vectors(columns, 4, 5)
    vectors[0][1] = 0
    vectors[-1][2] = 0
    for column in vectors:
        column.requires_grad_()
    loss = criterion.loss(vectors, unit(teacher))
    loss.backward()
    assert loss.isfinite()
    assert all(column.grad.isfinite().all() for column in vectors)
    assert max(float(column.grad.abs().max()) for column in vectors) < 100
    assert not vectors[0].grad[1].any()
    assert vectors[0].grad[0].any()
    all_zero = [torch.zeros(4, 5) for _ in range(columns)]
    assert criterion.loss(all_zero, torch.zeros(4, 7)).isfinite()


@pytest.mark.parametrize(("kind", "options", "columns"), EVERY)
def test_the_order_of_the_batch_does_not_matter(kind, options, columns):
    criterion = make(kind, options)
    (teacher,) = random_vectors(1, 4, 7, seed=1)
    vectors = random_vectors(columns, 4, 5)
    order = torch.tensor([2, 0, 3, 1])
    moved = criterion.loss([v[order] for v in vectors], teacher[order])
    torch.testing.assert_close(moved, criterion.loss(vectors, teacher))


@pytest.mark.parametrize(("kind", "options", "columns"), EVERY)
def test_shapes_that_do_not_fit_are_refused(kind, options, columns):
    criterion = make(kind, options)
    (teacher,) = random_vectors(1, 4, 7)
    with pytest.raises(ValueError, match=f"{columns} equal shapes"):
        criterion.loss(random_vectors(columns + 1, 4, 5), teacher)
    with pytest.raises(ValueError, match=r"batch size .* is 0, expected at least [12]"):
        criterion.loss(random_vectors(columns, 0, 5), teacher[:0])


def test_forward_computes_in_full_precision_under_autocast():
    criterion = make("in_batch_softmax", {})
    vectors = [v.bfloat16() for v in random_vectors(2, 6, 5)]
    with torch.autocast("cpu", torch.bfloat16):
        full = criterion(vectors)
        half = criterion.loss(vectors, None)
    expected = criterion.loss([v.float() for v in vectors], None)
    assert full.item() == expected.item()
    assert full.dtype == torch.float32
    assert half.item() != expected.item()


def test_by_default_batches_are_not_changed():
    batches = [[("a", "b"), ("c", "d")]]
    criterion = make("in_batch_softmax", {})
    assert criterion.prepare(batches, lambda texts: torch.zeros(0), np.random.default_rng(0)) == batches
    assert (criterion.columns, criterion.lookahead, criterion.needs_targets) == (2, 1, False)
    assert criterion.output_map() is None


def test_unknown_names_are_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'dropout'.*embedding_distillation.*simcse"):
        make("dropout", {})
    with pytest.raises(ValueError, match=r"'temprature' .*adjacent_sentences.* temperature, maps"):
        make("adjacent_sentences", {"temprature": 1})
    # Arguments that depend on the student are no options.
    with pytest.raises(ValueError, match="unknown option 'dim'"):
        make("adjacent_sentences", {"dim": 3})
    with pytest.raises(ValueError, match="embedding_distillation needs a teacher"):
        make_loss("embedding_distillation", {}, dim=5)


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    [
        (
            "adjacent_sentences",
            {"temperature": "warm"},
            TypeError,
            "temperature is 'warm', expected a .*number",
        ),
        ("adjacent_sentences", {"temperature": 0}, ValueError, r"temperature is 0, .* 0\.001"),
        ("adjacent_sentences", {"maps": 1}, TypeError, "maps is 1, expected"),
        (
            "embedding_distillation",
            {"space": "curved"},
            ValueError,
            "space is 'curved', expected 'linear', 'principal'",
        ),
        (
            "embedding_distillation",
            {"cosine_weight": float("nan")},
            ValueError,
            "cosine_weight is nan",
        ),
        (
            "embedding_distillation",
            {"cosine_weight": 0, "relation_weight": 0},
            ValueError,
            "cosine_weight and relation_weight are both 0",
        ),
        ("paraphrase_margin", {"negatives": "MAX"}, ValueError, "negatives is 'MAX', expected 'max'"),
        ("paraphrase_margin", {"scramble": 1.5}, ValueError, r"scramble is 1\.5, expected"),
        ("paraphrase_margin", {"mega_batch": 2.5}, TypeError, r"mega_batch is 2\.5, expected an integer"),
        ("paraphrase_margin", {"mega_batch": 0}, ValueError, "mega_batch is 0, expected"),
        ("simcse", {"matryoshka": [2, 6]}, ValueError, r"matryoshka is \[2, 6\], .*at most 5"),
        ("simcse", {"matryoshka": [2, 2]}, ValueError, r"matryoshka is \[2, 2\], expected .*different"),
        ("simcse", {"matryoshka": 2}, TypeError, "matryoshka is 2, expected a list"),
        (
            "simcse",
            {"matryoshka": [2, 3], "matryoshka_weights": [1]},
            ValueError,
            r"matryoshka_weights is \[1\.0\], expected 2",
        ),
        ("simcse", {"matryoshka_weights": [1]}, ValueError, "matryoshka_weights requires matryoshka"),
    ],
)
def test_bad_values_are_refused(kind, options, error, message):
    with pytest.raises(error, match=message):
        make(kind, options)
