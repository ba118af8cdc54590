"""Embedding distillation worked by hand, and its spaces."""

import math

import pytest
import torch

from sentenc.training.losses import (
    EmbeddingDistillation,
    aligned_axes,
    embedding_distillation_loss,
    principal_axes,
)

TEACHER = torch.eye(2)


def made(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def teacher_vectors(rows: int = 40, columns: int = 6) -> torch.Tensor:
    # Unequal variances and a mean make the principal axes distinct.
    scale = torch.tensor([3.0, 2.0, 1.5, 0.5, 0.2, 0.1])[:columns]
    rotation = torch.linalg.qr(made(columns, columns, seed=9)).Q
    return torch.nn.functional.normalize((made(rows, columns) * scale + 0.7) @ rotation)


def test_a_perfect_student_has_loss_zero():
    teacher = teacher_vectors()
    assert embedding_distillation_loss(7 * teacher, teacher, 0.05).item() == pytest.approx(0, abs=1e-6)
    assert embedding_distillation_loss(made(40, 6), teacher, 0.05).item() > 0.5


def test_loss_by_hand():
    # Both student vectors have direction (1, 0): similarities are right in row one and swapped in row two.
    student = torch.tensor([[1.0, 0.0], [3.0, 0.0]])
    p = 1 / (1 + math.exp(-1 / 0.5))
    divergence = (0 + p * math.log(p / (1 - p)) + (1 - p) * math.log((1 - p) / p)) / 2
    cosine = (0 + 1) / 2
    assert embedding_distillation_loss(student, TEACHER, 0.5).item() == pytest.approx(
        divergence + cosine, rel=1e-5
    )
    weighted = embedding_distillation_loss(
        student, TEACHER, 0.5, cosine_weight=3, relation_weight=0.25
    ).item()
    assert weighted == pytest.approx(0.25 * divergence + 3 * cosine, rel=1e-5)
    only_cosine = embedding_distillation_loss(student, TEACHER, 0.5, relation_weight=0).item()
    assert only_cosine == pytest.approx(cosine)


def test_a_batch_of_one_has_only_its_cosine():
    loss = embedding_distillation_loss(torch.tensor([[3.0, 4.0]]), TEACHER[:1], 0.5)
    assert loss.item() == pytest.approx(1 - 0.6)


def test_sharp_distributions_stay_finite():
    student = (-10 * TEACHER).requires_grad_()
    loss = embedding_distillation_loss(student, TEACHER, 0.001)
    loss.backward()
    # In row i, the teacher's logit of i exceeds the other by 1000, and the student's is 1000
    # below. The cosine is -1.
    assert loss.item() == pytest.approx(1000 + 2, rel=1e-5)
    assert student.grad.isfinite().all()


def test_linear_space_maps_by_hand():
    criterion = EmbeddingDistillation(2, 3, temperature=0.5)
    with torch.no_grad():
        criterion.map.copy_(torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]]))
    teacher = torch.eye(3)[:2]
    # The students are mapped to e2 and e1: both are swapped.
    p = 1 / (1 + math.exp(-1 / 0.5))
    divergence = p * math.log(p / (1 - p)) + (1 - p) * math.log((1 - p) / p)
    assert criterion.loss([torch.eye(2)], teacher).item() == pytest.approx(divergence + 1, rel=1e-5)
    assert criterion.loss([torch.eye(2).flip(0)], teacher).item() == pytest.approx(0, abs=1e-6)
    assert torch.equal(criterion.output_map(), criterion.map)
    assert not criterion.output_map().requires_grad


def test_the_learned_map_is_initialized_as_orthogonal_by_the_generator():
    first, same, other = (
        EmbeddingDistillation(3, 5, generator=torch.Generator().manual_seed(seed)).map.detach()
        for seed in (1, 1, 2)
    )
    torch.testing.assert_close(first @ first.T, torch.eye(3))
    assert torch.equal(first, same)
    assert not torch.allclose(first, other)


def test_principal_axes_keep_the_most_energy():
    teacher = teacher_vectors()
    axes = principal_axes(teacher, 4)
    torch.testing.assert_close(axes.T @ axes, torch.eye(4))
    energy = ((teacher @ axes) ** 2).sum(0)
    singular = torch.linalg.svdvals(teacher)
    torch.testing.assert_close(energy, singular[:4] ** 2, rtol=1e-4, atol=1e-4)
    assert torch.equal(axes, principal_axes(teacher.clone(), 4))
    assert (axes.gather(0, axes.abs().argmax(0, keepdim=True)) > 0).all()
    with pytest.raises(ValueError, match="dim is 7, expected 1 to 6"):
        principal_axes(teacher, 7)


def test_principal_space_reproduces_the_teacher():
    teacher = teacher_vectors()
    whole = EmbeddingDistillation(6, 6, space="principal", axes=principal_axes(teacher, 6))
    assert whole.loss([teacher @ whole.axes], teacher).item() == pytest.approx(0, abs=1e-5)
    assert whole.output_map() is None
    assert not list(whole.parameters())
    # With fewer axes, the energy that they omit is a lower bound of the cosine term.
    axes = principal_axes(teacher, 3)
    cut = EmbeddingDistillation(3, 6, space="principal", axes=axes, relation_weight=0.0)
    best = 1 - (teacher @ axes).norm(dim=1).mean().item()
    assert cut.loss([teacher @ axes], teacher).item() == pytest.approx(best, rel=1e-4)
    assert best > 0.01


def test_a_rotated_copy_is_aligned_exactly():
    teacher = teacher_vectors()
    rotation = torch.linalg.qr(made(6, 6, seed=4)).Q
    # Norms do not matter, neither the student's nor the teacher's.
    student = teacher @ rotation * (0.5 + torch.arange(40)[:, None])
    axes = aligned_axes(student, 3 * teacher)
    torch.testing.assert_close(axes, rotation, rtol=0, atol=1e-5)
    whole = EmbeddingDistillation(6, 6, space="aligned", axes=axes)
    assert whole.loss([student], teacher).item() == pytest.approx(0, abs=1e-5)
    assert whole.output_map() is None
    assert not list(whole.parameters())


def test_the_alignment_of_a_student_of_lower_dimension_by_hand():
    # Its first component is the teacher's third. Its second is the teacher's first with the opposite sign.
    teacher = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.6, 0.0, 0.8]])
    student = torch.tensor([[2.0, 0.0], [0.0, -5.0], [0.8, -0.6]])
    axes = aligned_axes(student, teacher)
    torch.testing.assert_close(axes, torch.tensor([[0.0, -1.0], [0.0, 0.0], [1.0, 0.0]]))
    with pytest.raises(ValueError, match="dimension is 3, expected at most 2"):
        aligned_axes(teacher, student)


def test_no_axes_fit_better_than_the_aligned_ones():
    teacher, student = teacher_vectors(), made(40, 3, seed=5)
    axes = aligned_axes(student, teacher)
    torch.testing.assert_close(axes.T @ axes, torch.eye(3))

    def loss(axes: torch.Tensor) -> float:
        return (
            EmbeddingDistillation(3, 6, space="aligned", axes=axes, relation_weight=0.0)
            .loss([student], teacher)
            .item()
        )

    others = [torch.linalg.qr(axes + size * made(6, 3, seed=i)).Q for i in range(20) for size in (0.01, 3.0)]
    signs = [other * (other * axes).sum(0).sign() for other in others]
    assert loss(axes) < min(map(loss, signs))


def test_principal_axes_are_in_the_state():
    axes = principal_axes(teacher_vectors(), 3)
    assert torch.equal(EmbeddingDistillation(3, 6, space="principal", axes=axes).state_dict()["axes"], axes)


def test_the_texts_of_an_example_are_in_one_batch():
    first, second, targets = made(4, 6), made(4, 6, seed=1), teacher_vectors(8)
    together = EmbeddingDistillation(6, 6, columns=2, space="same").loss([first, second], targets)
    alone = EmbeddingDistillation(6, 6, space="same").loss([torch.cat([first, second])], targets)
    assert together.item() == pytest.approx(alone.item())
    halves = [
        EmbeddingDistillation(6, 6, space="same").loss([part], target).item()
        for part, target in ((first, targets[:4]), (second, targets[4:]))
    ]
    # The similarities of the texts of different columns count, too.
    assert together.item() > sum(halves) / 2 + 0.01


def test_bad_columns_are_refused():
    with pytest.raises(ValueError, match="columns is 4, expected"):
        EmbeddingDistillation(3, 6, columns=4)
    criterion = EmbeddingDistillation(6, 6, columns=2, space="same")
    with pytest.raises(ValueError, match="expected 2 equal shapes"):
        criterion.loss([made(4, 6)], made(4, 6))
    with pytest.raises(ValueError, match=r"shape \(4, 6\), expected \(8, 6\)"):
        criterion.loss([made(4, 6), made(4, 6)], made(4, 6))


def test_bad_axes_and_teachers_are_refused():
    for space in ("principal", "aligned"):
        with pytest.raises(ValueError, match=f"axes is None.* '{space}'"):
            EmbeddingDistillation(3, 6, space=space)
    with pytest.raises(ValueError, match=r"axes has shape \(3, 6\), expected \(6, 3\)"):
        EmbeddingDistillation(3, 6, space="principal", axes=torch.eye(6)[:3])
    with pytest.raises(ValueError, match="deviate by 3, expected orthonormal columns"):
        EmbeddingDistillation(3, 6, space="principal", axes=2 * torch.eye(6)[:, :3])
    with pytest.raises(ValueError, match="deviate by nan"):
        EmbeddingDistillation(3, 6, space="principal", axes=torch.full((6, 3), torch.nan))
    criterion = EmbeddingDistillation(3, 6)
    with pytest.raises(ValueError, match=r"shape None, expected \(4, 6\)"):
        criterion.loss([made(4, 3)], None)
    with pytest.raises(ValueError, match=r"shape \(4, 5\), expected \(4, 6\)"):
        criterion.loss([made(4, 3)], made(4, 5))
