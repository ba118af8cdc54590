"""Embedding distillation: the student learns a teacher's vectors and their similarities within the batch.

The first loss, the cosine to the teacher's vector, is that of early versions of tokenlearn (MinishLab). The
second compares distributions over the teacher's vectors of the batch. It is a soft form of the contrastive
loss of later versions, with targets as in relational knowledge distillation (Park et al., CVPR 2019) and SEED
(Fang et al., ICLR 2021).
"""

import torch
from torch import Tensor, nn

from sentenc.training.losses.base import VectorLoss, unit
from sentenc.training.losses.checks import check_columns, check_temperature
from sentenc.validation import check_choice, check_integer, check_number


def embedding_distillation_loss(
    student: Tensor,
    teacher: Tensor,
    temperature: float,
    *,
    cosine_weight: float = 1.0,
    relation_weight: float = 1.0,
) -> Tensor:
    """Computes the batch mean of w_c (1 - cos(s_i, t_i)) + w_r KL(p_i || q_i).

    p_i = softmax_j(cos(t_i, t_j) / T) and q_i = softmax_j(cos(s_i, t_j) / T) are the teacher's and the
    student's similarities to the teacher's vectors of the batch. KL is their cross-entropy minus the
    entropy of p_i, so a perfect student has loss zero. In a batch of one, KL is zero.

    Args:
        student: (B, t) student vectors in the teacher's space, of any norm.
        teacher: (B, t) teacher vectors, of any norm.
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
    """Computes the ``dim`` orthonormal directions in which vectors have the most energy, largest first.

    The vectors are not centered, because the directions are to preserve dot products.

    Args:
        teacher: (n, t) float vectors.
        dim: From 1 to t.

    Returns:
        (t, dim) float32 with orthonormal columns. The largest component of each column is positive, so that
        equal vectors have equal axes.

    Raises:
        ValueError: ``dim`` is less than 1 or more than t.
    """
    if not 1 <= dim <= teacher.shape[1]:
        raise ValueError(f"dim is {dim}, expected 1 to {teacher.shape[1]}, the components of the vectors")
    vectors = teacher.double()
    _, directions = torch.linalg.eigh(vectors.T @ vectors)
    axes: Tensor = directions.flip(1)[:, :dim]
    largest = axes.gather(0, axes.abs().argmax(0, keepdim=True))
    axes = axes * largest.sign()
    return axes.float().contiguous()


def aligned_axes(student: Tensor, teacher: Tensor) -> Tensor:
    """Computes the orthonormal directions that map a student's unit vectors closest to its teacher's.

    Orthogonal Procrustes (Schönemann, 1966): A minimizes the sum of |s_i A^T - t_i|^2. A^T = U W^T from the
    singular value decomposition U S W^T of the sum of s_i^T t_i.

    Args:
        student: (n, dim) vectors, of any norm.
        teacher: (n, t) vectors of the same texts, with t at least dim.

    Returns:
        (t, dim) float32 with orthonormal columns.

    Raises:
        ValueError: t is less than dim.
    """
    if student.shape[1] > teacher.shape[1]:
        raise ValueError(
            f"the student's dimension is {student.shape[1]}, expected at most {teacher.shape[1]}, the "
            "teacher's"
        )
    left, _, right = torch.linalg.svd(unit(student).double().T @ unit(teacher).double(), full_matrices=False)
    axes: Tensor = (left @ right).T.float().contiguous()
    return axes


class EmbeddingDistillation(VectorLoss):
    """The distillation of a teacher's vectors. A batch of one is allowed.

    The texts of pairs and triplets are in one batch. The student then learns how similar the teacher considers
    texts that have much in common, of which a batch of random sentences has few.

    Args:
        dim: The student's dimension.
        teacher_dim: The teacher's dimension t.
        columns: The number of texts in an example: 1, 2 or 3.
        temperature: The temperature of the similarity distributions.
        cosine_weight: Weight of one minus the cosine to the teacher's vector.
        relation_weight: Weight of the divergence of the similarity distributions.
        space: The map from student vectors v to the teacher's space. "linear": v M with a learned M (dim, t)
            that is initialized as orthogonal. "principal": v A^T with fixed axes, so that the student's
            components are the teacher's first principal components and v needs no map. "aligned": v A^T with
            the axes that fit a student that has been trained before. "same": v itself, for a student of the
            teacher's dimension.
        axes: A (t, dim) with orthonormal columns, for "principal" (see :func:`principal_axes`) and "aligned"
            (see :func:`aligned_axes`).
        generator: Source of the initial M.

    Raises:
        TypeError: A value has the wrong type.
        ValueError: A value is out of range, or the axes or dimensions do not fit.
    """

    needs_targets = True
    axes: Tensor

    def __init__(
        self,
        dim: int,
        teacher_dim: int,
        *,
        columns: int = 1,
        temperature: float = 0.05,
        cosine_weight: float = 1.0,
        relation_weight: float = 1.0,
        space: str = "linear",
        axes: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.columns = check_integer("columns", columns, at_least=1, at_most=3)
        self.temperature = check_temperature(temperature)
        self.cosine_weight = check_number("cosine_weight", cosine_weight, at_least=0)
        self.relation_weight = check_number("relation_weight", relation_weight, at_least=0)
        if self.cosine_weight == self.relation_weight == 0:
            raise ValueError("cosine_weight and relation_weight are both 0, expected at least one above 0")
        self.space = check_choice("space", space, ("linear", "principal", "aligned", "same"))
        if self.space == "same":
            if dim != teacher_dim:
                raise ValueError(
                    f"the student's dimension is {dim}, expected {teacher_dim}, the teacher's, for space "
                    "'same'"
                )
            self.register_buffer("axes", torch.eye(dim), persistent=False)
        elif self.space == "linear":
            self.map = nn.Parameter(torch.empty(dim, teacher_dim))
            nn.init.orthogonal_(self.map, generator=generator)
        else:
            self.register_buffer("axes", _checked_axes(axes, dim, teacher_dim, self.space))

    def loss(self, vectors: list[Tensor], targets: Tensor | None) -> Tensor:
        """Computes :func:`embedding_distillation_loss` of c columns (B, d) and teacher vectors (c * B, t)."""
        student = torch.cat(check_columns("embedding_distillation", vectors, self.columns))
        to_teacher = self.map if self.space == "linear" else self.axes.T
        expected = (len(student), to_teacher.shape[1])
        if targets is None or tuple(targets.shape) != expected:
            shape = None if targets is None else tuple(targets.shape)
            raise ValueError(f"the targets of embedding_distillation have shape {shape}, expected {expected}")
        # Truncated vectors use the rows that belong to their components.
        mapped = student @ to_teacher[: student.shape[1]]
        return embedding_distillation_loss(
            mapped,
            targets.to(mapped.dtype),
            self.temperature,
            cosine_weight=self.cosine_weight,
            relation_weight=self.relation_weight,
        )

    def output_map(self) -> Tensor | None:
        """Returns M (dim, t), detached, for space "linear"; None for fixed axes."""
        return self.map.detach() if self.space == "linear" else None


def _checked_axes(axes: Tensor | None, dim: int, teacher_dim: int, space: str) -> Tensor:
    if axes is None:
        raise ValueError(f"axes is None, expected the axes of space {space!r}")
    if tuple(axes.shape) != (teacher_dim, dim):
        raise ValueError(f"axes has shape {tuple(axes.shape)}, expected {(teacher_dim, dim)}")
    deviation = float((axes.T @ axes - torch.eye(dim, dtype=axes.dtype, device=axes.device)).abs().max())
    if not deviation < 1e-3:
        raise ValueError(
            f"the dot products of the columns of axes deviate by {deviation:.2g}, expected orthonormal "
            "columns"
        )
    return axes.detach().clone()
