"""Matryoshka worked by hand, and around embedding distillation."""

import math

import pytest
import torch

from sentenc.training.losses import (
    EmbeddingDistillation,
    InBatchSoftmax,
    Matryoshka,
    in_batch_softmax_loss,
    principal_axes,
)


def made(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def teacher_vectors(rows: int = 40, columns: int = 6) -> torch.Tensor:
    # Unequal variances and a mean make the principal axes distinct.
    scale = torch.tensor([3.0, 2.0, 1.5, 0.5, 0.2, 0.1])[:columns]
    rotation = torch.linalg.qr(made(columns, columns, seed=9)).Q
    return torch.nn.functional.normalize((made(rows, columns) * scale + 0.7) @ rotation)


def test_matryoshka_by_hand():
    # First component: cosines of a to c are [[1, -1], [-1, 1]]; both: [[0.6, 0], [-0.6, 0]].
    a, c = torch.tensor([[1.0, 0.0], [-2.0, 0.0]]), torch.tensor([[3.0, 4.0], [-1e-3, 5.0]])
    inner = InBatchSoftmax(temperature=0.5)
    of_one, of_two = (
        in_batch_softmax_loss(a[:, :1], c[:, :1], 0.5).item(),
        in_batch_softmax_loss(a, c, 0.5).item(),
    )
    assert of_one == pytest.approx(math.log(1 + math.exp(-4)), rel=1e-4)
    assert of_two == pytest.approx(
        (math.log(1 + math.exp(-1.2)) + math.log(1 + math.exp(-1.2))) / 2, abs=1e-3
    )
    assert Matryoshka(inner, (1, 2)).loss([a, c], None).item() == pytest.approx((of_one + of_two) / 2)
    weighted = Matryoshka(inner, (1, 2), (3, 1)).loss([a, c], None).item()
    assert weighted == pytest.approx((3 * of_one + of_two) / 4)
    assert Matryoshka(inner, (1,)).loss([a, c], None).item() == pytest.approx(of_one)


def test_matryoshka_has_the_attributes_of_its_inner_loss():
    inner = EmbeddingDistillation(3, 6)
    nested = Matryoshka(inner, (2, 3))
    assert (nested.columns, nested.needs_targets, nested.lookahead) == (1, True, 1)
    assert torch.equal(nested.output_map(), inner.map)
    assert [id(p) for p in nested.parameters()] == [id(inner.map)]
    with pytest.raises(ValueError, match="dimension is 4, expected at most 3"):
        Matryoshka(inner, (2, 4)).loss([made(4, 3)], teacher_vectors(4))


@pytest.mark.parametrize("space", ["linear", "principal", "aligned"])
def test_matryoshka_truncates_the_map_of_distillation_too(space):
    teacher = teacher_vectors()
    criterion = EmbeddingDistillation(3, 6, space=space, axes=principal_axes(teacher, 3))
    vectors = made(40, 3)
    truncated = vectors * torch.tensor([1.0, 1.0, 0.0])
    expected = (criterion.loss([truncated], teacher) + criterion.loss([vectors], teacher)) / 2
    torch.testing.assert_close(Matryoshka(criterion, (2, 3)).loss([vectors], teacher), expected)


def test_matryoshka_improves_truncated_vectors():
    teacher = teacher_vectors()

    def trained(dims: tuple[int, ...]) -> float:
        criterion = EmbeddingDistillation(4, 6, generator=torch.Generator().manual_seed(3))
        nested = Matryoshka(criterion, dims)
        vectors = made(40, 4, seed=2).requires_grad_()
        optimizer = torch.optim.Adam([vectors, *nested.parameters()], 0.05)
        for _ in range(150):
            optimizer.zero_grad()
            nested.loss([vectors], teacher).backward()
            optimizer.step()
        with torch.no_grad():
            return criterion.loss([vectors[:, :2]], teacher).item()

    assert trained((2, 4)) < 0.5 * trained((4,))
