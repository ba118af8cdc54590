"""Distillation by hand, its two spaces, and cut vectors."""

import math

import pytest
import torch

from sentenc.training.losses import (
    EmbeddingDistillation,
    InBatchSoftmax,
    Matryoshka,
    aligned_axes,
    distillation_loss,
    in_batch_softmax_loss,
    principal_axes,
)

TEACHER = torch.eye(2)


def made(rows: int, columns: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed))


def teacher_vectors(rows: int = 40, columns: int = 6) -> torch.Tensor:
    # Unequal variances and a mean, so that principal axes are well apart.
    scale = torch.tensor([3.0, 2.0, 1.5, 0.5, 0.2, 0.1])[:columns]
    turned = torch.linalg.qr(made(columns, columns, seed=9)).Q
    return torch.nn.functional.normalize((made(rows, columns) * scale + 0.7) @ turned)


def test_a_perfect_student_has_loss_zero():
    teacher = teacher_vectors()
    assert distillation_loss(7 * teacher, teacher, 0.05).item() == pytest.approx(0, abs=1e-6)
    assert distillation_loss(made(40, 6), teacher, 0.05).item() > 0.5


def test_loss_by_hand():
    # Both students say (1, 0): similarities are right in row one and swapped in row two.
    student = torch.tensor([[1.0, 0.0], [3.0, 0.0]])
    p = 1 / (1 + math.exp(-1 / 0.5))
    divergence = (0 + p * math.log(p / (1 - p)) + (1 - p) * math.log((1 - p) / p)) / 2
    cosine = (0 + 1) / 2
    assert distillation_loss(student, TEACHER, 0.5).item() == pytest.approx(divergence + cosine, rel=1e-5)
    weighted = distillation_loss(student, TEACHER, 0.5, cosine_weight=3, relation_weight=0.25).item()
    assert weighted == pytest.approx(0.25 * divergence + 3 * cosine, rel=1e-5)
    only_cosine = distillation_loss(student, TEACHER, 0.5, relation_weight=0).item()
    assert only_cosine == pytest.approx(cosine)


def test_a_batch_of_one_has_only_its_cosine():
    loss = distillation_loss(torch.tensor([[3.0, 4.0]]), TEACHER[:1], 0.5)
    assert loss.item() == pytest.approx(1 - 0.6)


def test_sharp_distributions_stay_finite():
    student = (-10 * TEACHER).requires_grad_()
    loss = distillation_loss(student, TEACHER, 0.001)
    loss.backward()
    # Row i: the teacher is sure of i, at 1000 above the other; the student is 1000 below. Cosine is -1.
    assert loss.item() == pytest.approx(1000 + 2, rel=1e-5)
    assert student.grad.isfinite().all()


def test_linear_space_maps_by_hand():
    objective = EmbeddingDistillation(2, 3, temperature=0.5)
    with torch.no_grad():
        objective.map.copy_(torch.tensor([[0.0, 2.0, 0.0], [1.0, 0.0, 0.0]]))
    teacher = torch.eye(3)[:2]
    # Students map to e2 and e1: both swapped.
    p = 1 / (1 + math.exp(-1 / 0.5))
    divergence = p * math.log(p / (1 - p)) + (1 - p) * math.log((1 - p) / p)
    assert objective.loss([torch.eye(2)], teacher).item() == pytest.approx(divergence + 1, rel=1e-5)
    assert objective.loss([torch.eye(2).flip(0)], teacher).item() == pytest.approx(0, abs=1e-6)
    assert torch.equal(objective.output_map(), objective.map)
    assert not objective.output_map().requires_grad


def test_the_learned_map_starts_orthogonal_and_from_the_generator():
    one, same, other = (
        EmbeddingDistillation(3, 5, generator=torch.Generator().manual_seed(seed)).map.detach()
        for seed in (1, 1, 2)
    )
    torch.testing.assert_close(one @ one.T, torch.eye(3))
    assert torch.equal(one, same)
    assert not torch.allclose(one, other)


def test_principal_axes_keep_the_most_energy():
    teacher = teacher_vectors()
    axes = principal_axes(teacher, 4)
    torch.testing.assert_close(axes.T @ axes, torch.eye(4))
    energy = ((teacher @ axes) ** 2).sum(0)
    singular = torch.linalg.svdvals(teacher)
    torch.testing.assert_close(energy, singular[:4] ** 2, rtol=1e-4, atol=1e-4)
    assert torch.equal(axes, principal_axes(teacher.clone(), 4))
    assert (axes.gather(0, axes.abs().argmax(0, keepdim=True)) > 0).all()
    with pytest.raises(ValueError, match="7 axes were asked for; vectors of 6 components"):
        principal_axes(teacher, 7)


def test_principal_space_is_the_teachers_own():
    teacher = teacher_vectors()
    whole = EmbeddingDistillation(6, 6, space="principal", axes=principal_axes(teacher, 6))
    assert whole.loss([teacher @ whole.axes], teacher).item() == pytest.approx(0, abs=1e-5)
    assert whole.output_map() is None
    assert not list(whole.parameters())
    # With fewer axes the cosine term is bounded below by what they leave out.
    axes = principal_axes(teacher, 3)
    cut = EmbeddingDistillation(3, 6, space="principal", axes=axes, relation_weight=0.0)
    best = 1 - (teacher @ axes).norm(dim=1).mean().item()
    assert cut.loss([teacher @ axes], teacher).item() == pytest.approx(best, rel=1e-4)
    assert best > 0.01


def test_a_rotated_copy_is_aligned_exactly():
    teacher = teacher_vectors()
    rotation = torch.linalg.qr(made(6, 6, seed=4)).Q
    # Lengths do not count: neither the student's nor the teacher's.
    student = teacher @ rotation * (0.5 + torch.arange(40)[:, None])
    axes = aligned_axes(student, 3 * teacher)
    torch.testing.assert_close(axes, rotation, rtol=0, atol=1e-5)
    whole = EmbeddingDistillation(6, 6, space="aligned", axes=axes)
    assert whole.loss([student], teacher).item() == pytest.approx(0, abs=1e-5)
    assert whole.output_map() is None
    assert not list(whole.parameters())


def test_a_shorter_student_is_aligned_by_hand():
    # Its first component is the teacher's third, its second the teacher's first, backwards.
    teacher = torch.tensor([[0.0, 0.0, 1.0], [1.0, 0.0, 0.0], [0.6, 0.0, 0.8]])
    student = torch.tensor([[2.0, 0.0], [0.0, -5.0], [0.8, -0.6]])
    axes = aligned_axes(student, teacher)
    torch.testing.assert_close(axes, torch.tensor([[0.0, -1.0], [0.0, 0.0], [1.0, 0.0]]))
    with pytest.raises(ValueError, match="the student has 3 components, expected at most the teacher's 2"):
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


def test_bad_axes_and_teachers_are_refused():
    for space in ("principal", "aligned"):
        with pytest.raises(ValueError, match=f"space '{space}' needs axes"):
            EmbeddingDistillation(3, 6, space=space)
    with pytest.raises(ValueError, match=r"axes must have shape \(6, 3\), got \(3, 6\)"):
        EmbeddingDistillation(3, 6, space="principal", axes=torch.eye(6)[:3])
    with pytest.raises(ValueError, match="orthonormal columns; they are off by"):
        EmbeddingDistillation(3, 6, space="principal", axes=2 * torch.eye(6)[:, :3])
    with pytest.raises(ValueError, match="orthonormal columns; they are off by nan"):
        EmbeddingDistillation(3, 6, space="principal", axes=torch.full((6, 3), torch.nan))
    objective = EmbeddingDistillation(3, 6)
    with pytest.raises(ValueError, match=r"teacher vectors of shape \(4, 6\), got none"):
        objective.loss([made(4, 3)], None)
    with pytest.raises(ValueError, match=r"teacher vectors of shape \(4, 6\), got shape \(4, 5\)"):
        objective.loss([made(4, 3)], made(4, 5))


def test_matryoshka_by_hand():
    # First component: cosines of a to c are [[1, -1], [-1, 1]]; both: [[0.6, 0], [-0.6, 0]].
    a, c = torch.tensor([[1.0, 0.0], [-2.0, 0.0]]), torch.tensor([[3.0, 4.0], [-1e-3, 5.0]])
    inner = InBatchSoftmax(temperature=0.5)
    one, two = in_batch_softmax_loss(a[:, :1], c[:, :1], 0.5).item(), in_batch_softmax_loss(a, c, 0.5).item()
    assert one == pytest.approx(math.log(1 + math.exp(-4)), rel=1e-4)
    assert two == pytest.approx((math.log(1 + math.exp(-1.2)) + math.log(1 + math.exp(-1.2))) / 2, abs=1e-3)
    assert Matryoshka(inner, (1, 2)).loss([a, c], None).item() == pytest.approx((one + two) / 2)
    weighted = Matryoshka(inner, (1, 2), (3, 1)).loss([a, c], None).item()
    assert weighted == pytest.approx((3 * one + two) / 4)
    assert Matryoshka(inner, (1,)).loss([a, c], None).item() == pytest.approx(one)


def test_matryoshka_is_like_its_inner_objective():
    inner = EmbeddingDistillation(3, 6)
    nested = Matryoshka(inner, (2, 3))
    assert (nested.columns, nested.needs_teacher, nested.lookahead) == (1, True, 1)
    assert torch.equal(nested.output_map(), inner.map)
    assert [id(p) for p in nested.parameters()] == [id(inner.map)]
    with pytest.raises(ValueError, match="go to 4, vectors have 3"):
        Matryoshka(inner, (2, 4)).loss([made(4, 3)], teacher_vectors(4))


@pytest.mark.parametrize("space", ["linear", "principal", "aligned"])
def test_matryoshka_of_distillation_cuts_the_map_too(space):
    teacher = teacher_vectors()
    objective = EmbeddingDistillation(3, 6, space=space, axes=principal_axes(teacher, 3))
    vectors = made(40, 3)
    cut = vectors * torch.tensor([1.0, 1.0, 0.0])
    expected = (objective.loss([cut], teacher) + objective.loss([vectors], teacher)) / 2
    torch.testing.assert_close(Matryoshka(objective, (2, 3)).loss([vectors], teacher), expected)


def test_matryoshka_makes_cut_vectors_better():
    teacher = teacher_vectors()

    def trained(dims: tuple[int, ...]) -> float:
        objective = EmbeddingDistillation(4, 6, generator=torch.Generator().manual_seed(3))
        nested = Matryoshka(objective, dims)
        vectors = made(40, 4, seed=2).requires_grad_()
        optimizer = torch.optim.Adam([vectors, *nested.parameters()], 0.05)
        for _ in range(150):
            optimizer.zero_grad()
            nested.loss([vectors], teacher).backward()
            optimizer.step()
        with torch.no_grad():
            return objective.loss([vectors[:, :2]], teacher).item()

    assert trained((2, 4)) < 0.5 * trained((4,))
