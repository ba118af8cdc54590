"""What holds for every objective; objectives by name; the regularization."""

import numpy as np
import pytest
import torch
from torch import nn

from sentenc.training.losses import KINDS, L2SP, Loss, make_loss, principal_axes, unit

# Every objective with what it learns on top, and how many columns its loss sees.
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


def make(kind: str, options: dict) -> Loss:
    generator = torch.Generator().manual_seed(1)
    axes = principal_axes(torch.randn(20, 7, generator=generator), 5)
    return make_loss(kind, options, dim=5, teacher_dim=7, axes=axes, generator=generator)


def random_vectors(count: int, rows: int, dim: int, seed: int = 0) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(rows, dim, generator=generator) for _ in range(count)]


def test_every_kind_is_tested_here():
    # Those of layers' states have tests of their own.
    assert {kind for kind, _, _ in EVERY} == {kind for kind in KINDS if not KINDS[kind].needs_states}


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
    objective = make(kind, options).double()
    (teacher,) = random_vectors(1, 4, 7, seed=1)
    vectors = [v.double().requires_grad_() for v in random_vectors(columns, 4, 5)]
    parameters = list(objective.parameters())
    assert torch.autograd.gradcheck(
        lambda *v: objective.loss(list(v[:columns]), unit(teacher.double())), (*vectors, *parameters)
    )


@pytest.mark.parametrize(("kind", "options", "columns"), EVERY)
def test_zero_vectors_have_a_finite_loss_and_no_gradient(kind, options, columns):
    objective = make(kind, options)
    (teacher,) = random_vectors(1, 4, 7, seed=1)
    vectors = random_vectors(columns, 4, 5)
    vectors[0][1] = 0
    vectors[-1][2] = 0
    for column in vectors:
        column.requires_grad_()
    loss = objective.loss(vectors, unit(teacher))
    loss.backward()
    assert loss.isfinite()
    assert all(column.grad.isfinite().all() for column in vectors)
    assert max(float(column.grad.abs().max()) for column in vectors) < 100
    assert not vectors[0].grad[1].any()
    assert vectors[0].grad[0].any()
    all_zero = [torch.zeros(4, 5) for _ in range(columns)]
    assert objective.loss(all_zero, torch.zeros(4, 7)).isfinite()


@pytest.mark.parametrize(("kind", "options", "columns"), EVERY)
def test_the_order_of_the_batch_does_not_matter(kind, options, columns):
    objective = make(kind, options)
    (teacher,) = random_vectors(1, 4, 7, seed=1)
    vectors = random_vectors(columns, 4, 5)
    order = torch.tensor([2, 0, 3, 1])
    moved = objective.loss([v[order] for v in vectors], teacher[order])
    torch.testing.assert_close(moved, objective.loss(vectors, teacher))


@pytest.mark.parametrize(("kind", "options", "columns"), EVERY)
def test_shapes_that_do_not_fit_are_refused(kind, options, columns):
    objective = make(kind, options)
    (teacher,) = random_vectors(1, 4, 7)
    with pytest.raises(ValueError, match=f"expects {columns} columns"):
        objective.loss(random_vectors(columns + 1, 4, 5), teacher)
    with pytest.raises(ValueError, match=r"at least [12], got 0"):
        objective.loss(random_vectors(columns, 0, 5), teacher[:0])


def test_forward_computes_in_full_precision_under_autocast():
    objective = make("in_batch_softmax", {})
    vectors = [v.bfloat16() for v in random_vectors(2, 6, 5)]
    with torch.autocast("cpu", torch.bfloat16):
        found = objective(vectors)
        rough = objective.loss(vectors, None)
    expected = objective.loss([v.float() for v in vectors], None)
    assert found.item() == expected.item()
    assert found.dtype == torch.float32
    assert rough.item() != expected.item()


def test_objectives_leave_batches_alone_unless_they_say_otherwise():
    batches = [[("a", "b"), ("c", "d")]]
    objective = make("in_batch_softmax", {})
    assert objective.prepare(batches, lambda texts: torch.zeros(0), np.random.default_rng(0)) == batches
    assert (objective.columns, objective.lookahead, objective.needs_teacher) == (2, 1, False)
    assert objective.output_map() is None


def test_errors_name_what_is_known():
    with pytest.raises(ValueError, match=r"'dropout'; known are .*embedding_distillation.*simcse"):
        make("dropout", {})
    with pytest.raises(ValueError, match=r"'temprature' of .*adjacent_sentences; .* temperature, maps"):
        make("adjacent_sentences", {"temprature": 1})
    # What the caller knows is no option.
    with pytest.raises(ValueError, match="unknown option 'dim'"):
        make("adjacent_sentences", {"dim": 3})
    with pytest.raises(ValueError, match="distillation needs a teacher"):
        make_loss("embedding_distillation", {}, dim=5)


@pytest.mark.parametrize(
    ("kind", "options", "error", "message"),
    [
        (
            "adjacent_sentences",
            {"temperature": "warm"},
            TypeError,
            "temperature must be a number, got 'warm'",
        ),
        ("adjacent_sentences", {"temperature": 0}, ValueError, "temperature must be at least 0.001, got 0"),
        ("adjacent_sentences", {"maps": 1}, TypeError, "maps must be true or false, got 1"),
        (
            "embedding_distillation",
            {"space": "curved"},
            ValueError,
            "space must be one of linear, principal, aligned, same; got 'curved'",
        ),
        (
            "embedding_distillation",
            {"cosine_weight": float("nan")},
            ValueError,
            "cosine_weight must be at least 0",
        ),
        (
            "embedding_distillation",
            {"cosine_weight": 0, "relation_weight": 0},
            ValueError,
            "nothing to learn",
        ),
        ("paraphrase_margin", {"negatives": "MAX"}, ValueError, "one of max, mix, random; got 'MAX'"),
        ("paraphrase_margin", {"scramble": 1.5}, ValueError, "at least 0 and at most 1, got 1.5"),
        ("paraphrase_margin", {"mega_batch": 2.5}, TypeError, "mega_batch must be a whole number, got 2.5"),
        ("paraphrase_margin", {"mega_batch": 0}, ValueError, "mega_batch must be at least 1, got 0"),
        ("simcse", {"matryoshka": [2, 6]}, ValueError, r"at most the student's 5, got \[2, 6\]"),
        ("simcse", {"matryoshka": [2, 2]}, ValueError, r"each once; got \[2, 2\]"),
        ("simcse", {"matryoshka": 2}, TypeError, "must be lists of numbers, got 2"),
        (
            "simcse",
            {"matryoshka": [2, 3], "matryoshka_weights": [1]},
            ValueError,
            r"must be 2.*got \[1.0\]",
        ),
        ("simcse", {"matryoshka_weights": [1]}, ValueError, "given without matryoshka"),
    ],
)
def test_bad_values_are_refused(kind, options, error, message):
    with pytest.raises(error, match=message):
        make(kind, options)


def groups() -> dict[str, list[nn.Parameter]]:
    return {
        "embeddings": [
            nn.Parameter(torch.tensor([[1.0, 2.0], [3.0, 4.0]])),
            nn.Parameter(torch.tensor([5.0])),
        ],
        "ngrams": [nn.Parameter(torch.tensor([2.0, -1.0]))],
    }


def test_regularization_by_hand():
    parameters = groups()
    term = L2SP(parameters, {"embeddings": 0.1, "ngrams": 0.4})
    # Nothing has moved: 0.5 * 0.4 * (4 + 1).
    assert term.penalty().item() == pytest.approx(1.0)
    with torch.no_grad():
        parameters["embeddings"][0][1, 0] += 2
        parameters["embeddings"][1] -= 1
    # 0.5 * 0.1 * (4 + 1) more.
    term.penalty().backward()
    assert term.penalty().item() == pytest.approx(1.25)
    assert parameters["embeddings"][0].grad.tolist() == [[0, 0], [pytest.approx(0.2), 0]]
    assert parameters["embeddings"][1].grad.tolist() == [pytest.approx(-0.1)]
    assert parameters["ngrams"][0].grad.tolist() == [pytest.approx(0.8), pytest.approx(-0.4)]


def test_regularization_for_fine_tuning_draws_everything_to_the_start():
    parameters = groups()
    term = L2SP(parameters, {"ngrams": 0.4}, to_zero=())
    assert term.penalty().item() == 0
    with torch.no_grad():
        parameters["ngrams"][0][0] += 3
    assert term.penalty().item() == pytest.approx(0.5 * 0.4 * 9)


def test_regularization_of_nothing_and_of_the_unknown():
    assert not L2SP(groups(), {"embeddings": 0.0})
    assert L2SP(groups(), {}).penalty().item() == 0
    assert L2SP(groups(), {"ngrams": 1e-6})
    with pytest.raises(ValueError, match="names filters; groups are embeddings, ngrams"):
        L2SP(groups(), {"filters": 1.0})
    with pytest.raises(ValueError, match="of ngrams must be 0 or more, got -1"):
        L2SP(groups(), {"ngrams": -1.0})


def test_a_resumed_run_keeps_the_first_start():
    parameters = groups()
    first = L2SP(parameters, {"embeddings": 2.0})
    # The student's parameters are its own business; only the start is stored.
    assert not list(first.parameters())
    with torch.no_grad():
        parameters["embeddings"][1] += 1
    second = L2SP(parameters, {"embeddings": 2.0})
    assert second.penalty().item() == 0
    second.load_state_dict(first.state_dict())
    assert second.penalty().item() == pytest.approx(1.0)
