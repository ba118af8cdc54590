"""The section ``[teacher]`` of a run file of pretraining."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sentenc.encoders.bert.config import Pooling
from sentenc.training.data.examples import TextRole
from sentenc.validation import check_integer, check_number


def normalized_weights(teachers: int, weights: Sequence[float] = ()) -> tuple[float, ...]:
    """Returns the weights of several teachers, scaled to sum to 1; equal weights if none are given.

    Raises:
        ValueError: There is not one positive, finite weight for each teacher.
    """
    weights = tuple(weights) or (1.0,) * teachers
    if len(weights) != teachers or not all(0 < weight < math.inf for weight in weights):
        raise ValueError(
            f"teacher.weights is {list(weights)}, expected {teachers} positive numbers, one for each model"
        )
    return tuple(weight / sum(weights) for weight in weights)


@dataclass(frozen=True, kw_only=True)
class TeacherModel:
    """An entry of ``[[teacher.models]]``: one teacher of a joint space.

    Attributes:
        model: Argument of :func:`sentenc.load`.
        name: Name of the folders of its embeddings; by default the last component of ``model``.
        weight: Weight of the teacher in the joint cosine, relative to the other teachers.
        pooling: Pooling of a folder that does not state it. A folder that states another one is refused.
        query_prompt: Text before texts of the role "query".
        document_prompt: Text before texts of the role "document".
    """

    model: str
    name: str | None = None
    weight: float = 1.0
    pooling: Pooling | None = None
    query_prompt: str = ""
    document_prompt: str = ""

    def __post_init__(self) -> None:
        """Checks the values."""
        if not self.model:
            raise ValueError("teacher.models.model is empty, expected a name, a folder or a Hub id")
        check_number("teacher.models.weight", self.weight, above=0)
        if "/" in self.folder_name or self.folder_name in ("", ".", ".."):
            raise ValueError(
                f"teacher.models.name is {self.folder_name!r}, expected the name of a folder without '/'"
            )

    @property
    def folder_name(self) -> str:
        """The name of the folder of its embeddings without a prompt."""
        return self.model.rstrip("/").rpartition("/")[2] if self.name is None else self.name

    def prompt(self, role: TextRole) -> str:
        """Returns the text before texts of a role."""
        return {"query": self.query_prompt, "document": self.document_prompt}.get(role, "")

    def cache_name(self, role: TextRole) -> str:
        """Returns the name of the folder of its embeddings of texts of a role."""
        return f"{self.folder_name}-{role}" if self.prompt(role) else self.folder_name


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """The section ``[teacher]``.

    Attributes:
        models: Arguments of :func:`sentenc.load`, or tables ``[[teacher.models]]``. Several models are one
            teacher: their unit vectors are concatenated, each scaled by the root of its weight. A student
            that is initialized from its teacher takes the vocabulary and the layers of the first. May be
            empty if the cache has the embeddings of all texts. With tables the cache has a folder for each
            model and prompt: NAME, NAME-query and NAME-document. Weights may then change without computing
            the embeddings again.
        weights: The weights of models that are no tables; equal by default.
        dim: Dimension to which the concatenated vectors are reduced, by the principal axes of a sample of the
            texts. By default they are not reduced. Requires tables.
        axes: File (.npy) of the axes of the reduction: read if it exists, else written. Students that share
            it share a space. By default ``teacher-axes.npy`` in the work folder.
        align_axes: Rotate the axes, before they are written, so that the reduced vectors are closest to the
            vectors of the untrained student. The first components are then not the principal ones. A file of
            axes that were not rotated is refused.
        precision: Type in which the teachers multiply matrices. "bf16" and "int8" require BERTs with mean or
            cls pooling, and other teachers are refused. "bf16": a CPU is faster than in float32 if it has AMX.
            "int8": ONNX Runtime computes on the CPU, at least twice as fast as in float32 if it has VNNI; the
            cosines to float32 are 0.99 and more. "float32": without rounding. By default float32 on a CPU and
            float16 on a GPU.
        cache: Folder of the cached embeddings.
        vectors: Parquet files of texts and their embeddings, as ``sentenc encode`` writes them: paths, globs,
            folders, or URLs such as ``s3://BUCKET/FOLDER``. They are copied into the cache, and no model is
            needed to fill it. Texts without a vector are left out. With ``models``, their fingerprint must be
            the one in the files.
        max_minutes: Stop filling the cache after this time and train on the texts that it then has. 0 takes
            the cache as it is, whichever teacher filled it. None fills it with all texts.
    """

    models: tuple[str | TeacherModel, ...] = ()
    weights: tuple[float, ...] = ()
    dim: int | None = None
    axes: str | None = None
    align_axes: bool = False
    precision: Literal["float32", "bf16", "int8"] | None = None
    cache: str = "teacher-embeddings"
    vectors: tuple[str, ...] = ()
    max_minutes: float | None = None

    def __post_init__(self) -> None:
        """Checks the values."""
        if self.max_minutes is not None:
            check_number("teacher.max_minutes", self.max_minutes, at_least=0)
        if self.weights and not self.models:
            raise ValueError("teacher.weights requires teacher.models")
        if self.models and not self.joint:
            normalized_weights(len(self.models), self.weights)
        if self.vectors and self.max_minutes is not None:
            raise ValueError(
                f"teacher.max_minutes is {self.max_minutes} and teacher.vectors is {list(self.vectors)}: set only one "
                "of them, because a model computes nothing if there are vectors"
            )
        if self.joint:
            self._check_joint()
        elif self.dim is not None:
            raise ValueError(f"teacher.dim is {self.dim}, but requires tables [[teacher.models]]")
        if self.dim is not None:
            check_integer("teacher.dim", self.dim)
        elif self.axes is not None or self.align_axes:
            name = "axes" if self.axes is not None else "align_axes"
            raise ValueError(f"teacher.{name} requires teacher.dim")

    @property
    def joint(self) -> tuple[TeacherModel, ...]:
        """The teachers, if they are tables; else empty."""
        return tuple(model for model in self.models if isinstance(model, TeacherModel))

    @property
    def names(self) -> tuple[str, ...]:
        """The models as arguments of :func:`sentenc.load`."""
        return tuple(model if isinstance(model, str) else model.model for model in self.models)

    @property
    def model_weights(self) -> tuple[float, ...]:
        """The weights of the models as they are written; empty for equal ones, or one model in a table."""
        if len(self.joint) == 1:
            return ()
        return tuple(model.weight for model in self.joint) or self.weights

    def _check_joint(self) -> None:
        if len(self.joint) != len(self.models):
            raise ValueError("teacher.models has names and tables, expected only one of them")
        if self.weights:
            raise ValueError("teacher.weights is set: with tables, set the weight of each of teacher.models")
        if self.vectors:
            raise ValueError(
                f"teacher.vectors is {list(self.vectors)}, which are those of one teacher, and teacher.models are "
                "tables: use only one of them"
            )
        names = [model.cache_name(role) for model in self.joint for role in _cached_roles(model)]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(
                f"several of teacher.models have the folder {repeated[0]!r}: set different names (name)"
            )


def _cached_roles(model: TeacherModel) -> list[TextRole]:
    # The roles with a folder of their own, and "similarity" for the folder of all others.
    roles: tuple[TextRole, ...] = ("similarity", "query", "document")
    return [role for role in roles if role == "similarity" or model.prompt(role)]
