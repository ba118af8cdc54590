"""Embedding distillation: the student learns a teacher's vectors and its picture of the batch.

The cosine to the teacher's vector is what tokenlearn (MinishLab) began with; the in-batch distribution
over the teacher's vectors is a soft form of the contrastive loss it turned to later, with targets in the
manner of relational knowledge distillation (Park et al., CVPR 2019) and SEED (Fang et al., ICLR 2021).
"""

import torch
from torch import Tensor, nn

from sentenc.training.losses.base import Loss, unit
from sentenc.training.losses.checks import (
    checked_choice,
    checked_columns,
    checked_number,
    checked_temperature,
)


def distillation_loss(
    student: Tensor,
    teacher: Tensor,
    temperature: float,
    *,
    cosine_weight: float = 1.0,
    relation_weight: float = 1.0,
) -> Tensor:
    """The batch mean of w_c (1 - cos(s_i, t_i)) + w_r KL(p_i || q_i).

    p_i = softmax_j(cos(t_i, t_j) / T) and q_i = softmax_j(cos(s_i, t_j) / T): the teacher's and the
    student's similarities to the teacher's vectors of the batch. KL is their cross-entropy less the
    entropy of p_i, so that a perfect student has loss zero. In a batch of one KL is zero.

    Args:
        student: (B, t) student vectors in the teacher's space, any length.
        teacher: (B, t) teacher vectors, any length.
        temperature: T.
        cosine_weight: w_c.
        relation_weight: w_r.

    Returns:
        A scalar.
    """
    student, teacher = unit(student), unit(teacher)
    loss = cosine_weight * (1 - (student * teacher).sum(1)).mean()
    if relation_weight:
        target = torch.log_softmax(teacher @ teacher.T / temperature, dim=1)
        predicted = torch.log_softmax(student @ teacher.T / temperature, dim=1)
        loss = loss + relation_weight * (target.exp() * (target - predicted)).sum(1).mean()
    return loss


def principal_axes(teacher: Tensor, dim: int) -> Tensor:
    """The ``dim`` orthonormal directions in which vectors have most energy, most first.

    They are not centered: dot products between vectors are what they keep best.

    Args:
        teacher: (n, t) float vectors.
        dim: At most t.

    Returns:
        (t, dim) float32 with orthonormal columns; each column's largest component is positive, so that
        the same vectors give the same axes.

    Raises:
        ValueError: ``dim`` is more than t, or less than one.
    """
    if not 1 <= dim <= teacher.shape[1]:
        raise ValueError(
            f"{dim} axes were asked for; vectors of {teacher.shape[1]} components have 1 to that"
        )
    vectors = teacher.double()
    _, directions = torch.linalg.eigh(vectors.T @ vectors)
    axes: Tensor = directions.flip(1)[:, :dim]
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    axes = axes * largest.sign()
    return axes.float().contiguous()


def aligned_axes(student: Tensor, teacher: Tensor) -> Tensor:
    """The orthonormal directions that bring a student's unit vectors closest to its teacher's.

    Orthogonal Procrustes (Schönemann, 1966): A minimizes the sum of |s_i A^T - t_i|^2, A^T = U W^T from the
    singular value decomposition U S W^T of the sum of s_i^T t_i.

    Args:
        student: (n, dim) vectors, any length.
        teacher: (n, t) vectors of the same texts, t at least dim.

    Returns:
        (t, dim) float32 with orthonormal columns.

    Raises:
        ValueError: t is less than dim.
    """
    if student.shape[1] > teacher.shape[1]:
        raise ValueError(
            f"the student has {student.shape[1]} components, expected at most the teacher's {teacher.shape[1]}"
        )
    left, _, right = torch.linalg.svd(unit(student).double().T @ unit(teacher).double(), full_matrices=False)
    axes: Tensor = (left @ right).T.float().contiguous()
    return axes


class EmbeddingDistillation(Loss):
    """Single sentences and the teacher's vectors of them. A batch of one is fine.

    Args:
        dim: The student's.
        teacher_dim: The teacher's.
        temperature: Of the similarity distributions.
        cosine_weight: Weight of one minus cosine to the teacher's vector.
        relation_weight: Weight of the divergence of the similarity distributions.
        space: How student vectors v come to the teacher's space: "linear", v M with a learned M (dim, t)
            that starts orthogonal; "principal", v A^T with fixed axes, so that the student's components
            are the teacher's first principal ones and v needs no map; "aligned", the same with the axes
            that fit the student as it starts, for one that has been trained before; "same", v as it is, for
            a student of the teacher's dimension.
        axes: A (t, dim) with orthonormal columns, for "principal" (see :func:`principal_axes`) and "aligned"
            (see :func:`aligned_axes`).
        generator: Source of the start of M.
    """

    columns = 1
    needs_teacher = True
    axes: Tensor

    def __init__(
        self,
        dim: int,
        teacher_dim: int,
        *,
        temperature: float = 0.05,
        cosine_weight: float = 1.0,
        relation_weight: float = 1.0,
        space: str = "linear",
        axes: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.temperature = checked_temperature(temperature)
        self.cosine_weight = checked_number("cosine_weight", cosine_weight, 0)
        self.relation_weight = checked_number("relation_weight", relation_weight, 0)
        if self.cosine_weight == self.relation_weight == 0:
            raise ValueError("cosine_weight and relation_weight are both 0: nothing to learn")
        self.space = checked_choice("space", space, ("linear", "principal", "aligned", "same"))
        if self.space == "same":
            if dim != teacher_dim:
                raise ValueError(
                    f"space 'same' with a student of {dim} and a teacher of {teacher_dim} components"
                )
            self.register_buffer("axes", torch.eye(dim), persistent=False)
        elif self.space == "linear":
            self.map = nn.Parameter(torch.empty(dim, teacher_dim))
            nn.init.orthogonal_(self.map, generator=generator)
        else:
            self.register_buffer("axes", _checked_axes(axes, dim, teacher_dim, self.space))

    def loss(self, vectors: list[Tensor], teacher: Tensor | None) -> Tensor:
        """See :func:`distillation_loss`; vectors (B, d) of the one column, the teacher's (B, t)."""
        (student,) = checked_columns("embedding_distillation", vectors, 1)
        to_teacher = self.map if self.space == "linear" else self.axes.T
        expected = (len(student), to_teacher.shape[1])
        if teacher is None or tuple(teacher.shape) != expected:
            got = "none" if teacher is None else f"shape {tuple(teacher.shape)}"
            raise ValueError(f"distillation expects teacher vectors of shape {expected}, got {got}")
        # Truncated vectors use the rows that belong to what is left of them.
        mapped = student @ to_teacher[: student.shape[1]]
        return distillation_loss(
            mapped,
            teacher.to(mapped.dtype),
            self.temperature,
            cosine_weight=self.cosine_weight,
            relation_weight=self.relation_weight,
        )

    def output_map(self) -> Tensor | None:
        """M (dim, t), detached, for "linear"; None for fixed axes."""
        return self.map.detach() if self.space == "linear" else None


def _checked_axes(axes: Tensor | None, dim: int, teacher_dim: int, space: str) -> Tensor:
    if axes is None:
        raise ValueError(f"space {space!r} needs axes, directions in the teacher's space; got none")
    if tuple(axes.shape) != (teacher_dim, dim):
        raise ValueError(f"axes must have shape {(teacher_dim, dim)}, got {tuple(axes.shape)}")
    off = float((axes.T @ axes - torch.eye(dim, dtype=axes.dtype, device=axes.device)).abs().max())
    if not off < 1e-3:
        raise ValueError(f"axes must have orthonormal columns; they are off by {off:.2g}")
    return axes.detach().clone()
