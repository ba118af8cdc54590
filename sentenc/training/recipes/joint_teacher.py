"""The joint teacher of a pretraining run: its caches, and the axes of its space."""

import json
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from sentenc.embedding_cache import EmbeddingCache
from sentenc.errors import CacheError
from sentenc.io.atomic import replacing_file, write_text
from sentenc.io.progress import progress_bar
from sentenc.training.config.teacher import TeacherConfig, TeacherModel
from sentenc.training.data.examples import TextRole
from sentenc.training.losses import aligned_axes, principal_axes
from sentenc.training.students.base import EncoderStudent
from sentenc.training.teachers.base import Teacher
from sentenc.training.teachers.joint import JointSpace, JointVectors, cache_fingerprint, origin

# Texts of a corpus that all teachers encode before those of the next corpus.
_TEXTS_PER_ROUND = 4096
# Texts of each corpus that an untrained student encodes in order to align the axes.
_TEXTS_FOR_ALIGNMENT = 1500


@dataclass(frozen=True)
class JointPart:
    """A teacher of a joint space, loaded in order to fill its caches.

    Attributes:
        model: Its settings.
        origin: The fingerprint of the model.
        encoder: The teacher.
        precision: Type of its weights and activations, such as "float32".
    """

    model: TeacherModel
    origin: str
    encoder: Teacher
    precision: str

    def fingerprint(self, role: TextRole) -> str:
        """Returns the fingerprint of the cache of a role."""
        pooling = self.model.pooling or "own"
        return cache_fingerprint(self.origin, pooling, self.precision, self.model.prompt(role))

    def encode(self, texts: list[str], role: TextRole) -> npt.NDArray[np.float32]:
        """Returns the unit vectors (n, t) of n texts, with the prompt of a role."""
        prompt = self.model.prompt(role)
        vectors: npt.NDArray[np.float32] = self.encoder.encode(
            [prompt + text for text in texts], normalize_embeddings=True, on_overflow="ignore"
        )
        # A prompt does not give an empty text a meaning: its vector is zero, as that of every encoder.
        vectors[[not text.strip() for text in texts]] = 0.0
        return vectors


def open_joint_caches(
    settings: TeacherConfig,
    roles: Iterable[TextRole],
    parts: Iterable[JointPart] = (),
    shards: Mapping[str, Collection[str]] | None = None,
) -> dict[str, EmbeddingCache]:
    """Opens the caches of all teachers for some roles, by the name of their folder.

    Args:
        settings: The section ``[teacher]``.
        roles: The roles.
        parts: The loaded teachers, to fill the caches. Empty opens them for reading.
        shards: The shards to open, by the name of the folder; None opens all.

    Raises:
        CacheError: A folder was filled by another teacher, or one of its files is damaged.
    """
    folder, roles = Path(settings.cache), list(roles)
    loaded = {part.model: part for part in parts}
    caches: dict[str, EmbeddingCache] = {}
    for model in settings.joint:
        for role in roles:
            name = model.cache_name(role)
            if name not in caches:
                fingerprint = loaded[model].fingerprint(role) if loaded else None
                chosen = None if shards is None else shards.get(name, ())
                caches[name] = EmbeddingCache(folder / name, fingerprint, dtype="float16", shards=chosen)
    return caches


def fill_joint_caches(
    caches: Mapping[str, EmbeddingCache],
    parts: list[JointPart],
    texts: Sequence[tuple[TextRole, Iterable[str], int | None]],
    max_minutes: float | None,
    show_progress_bar: bool,
) -> None:
    """Computes the unit vectors of those texts that have none yet, a round of each corpus after another.

    After any round all teachers have the vectors of the same texts, so that a time limit leaves texts that
    can be used.

    Args:
        caches: See :func:`open_joint_caches`.
        parts: The teachers.
        texts: The role, the texts, and the estimated number of texts (None if unknown) of each corpus.
        max_minutes: Stop after the round during which this time runs out. None for no limit.
        show_progress_bar: Draw a bar on standard error.
    """
    deadline = time.monotonic() + (np.inf if max_minutes is None else 60 * max_minutes)
    counts = [count for _, _, count in texts]
    total = None if None in counts else sum(count or 0 for count in counts) * len(parts)
    streams = [(role, iter(stream)) for role, stream, _ in texts]
    with progress_bar(total, "teacher vectors", show_progress_bar) as bar:
        while streams:
            for role, stream in list(streams):
                block = list(islice(stream, _TEXTS_PER_ROUND))
                if not block:
                    streams.remove((role, stream))
                    continue
                for part in parts:
                    caches[part.model.cache_name(role)].fill(
                        block, _encoding(part, role), bar=bar, source=f"the teacher {part.model.folder_name}"
                    )
                if time.monotonic() >= deadline:
                    return


def _encoding(part: JointPart, role: TextRole) -> Callable[[list[str]], npt.NDArray[np.float32]]:
    return lambda texts: part.encode(texts, role)


def joint_space(settings: TeacherConfig, caches: Mapping[str, EmbeddingCache]) -> JointSpace:
    """Returns the space of the teachers, without a reduction.

    Raises:
        CacheError: The caches of a teacher were filled by different models.
    """
    roles: tuple[TextRole, ...] = ("similarity", "query", "document")
    origins = []
    for model in settings.joint:
        names = {model.cache_name(role) for role in roles} & caches.keys()
        origins.append(origin([caches[name] for name in sorted(names)]))
    return JointSpace(teachers=settings.joint, origins=tuple(origins))


def joint_vectors(space: JointSpace, caches: Mapping[str, EmbeddingCache], role: TextRole) -> JointVectors:
    """Returns the vectors of texts of a role.

    Raises:
        ValueError: A cache is empty.
    """
    chosen = [caches[model.cache_name(role)] for model in space.teachers]
    for cache in chosen:
        if not len(cache):
            raise ValueError(
                f"{cache.folder} contains no embeddings: set a teacher.max_minutes above 0 to fill it, or copy it "
                "from the machine of the first process, if this is another one"
            )
    return JointVectors(space, chosen)


def read_axes(space: JointSpace, path: Path, shape: tuple[int, int], *, aligned: bool = False) -> JointSpace:
    """Returns the space reduced by the axes in a file.

    Args:
        space: The space without a reduction.
        path: The file.
        shape: The dimensions of all teachers together, and of the reduced vectors.
        aligned: Whether the axes must have been aligned with an untrained student.

    Raises:
        CacheError: The file is damaged, or its axes were computed for other teachers, weights or prompts, or
            are not aligned.
    """
    try:
        axes = np.load(path)
    except (OSError, ValueError, EOFError) as error:
        raise CacheError(f"teacher.axes is {path}, which cannot be read: {error}") from error
    if axes.shape != shape or axes.dtype != np.float32:
        raise CacheError(
            f"teacher.axes is {path} with shape {axes.shape} {axes.dtype}, expected {shape} float32: the "
            "dimensions of all teachers together, and teacher.dim"
        )
    if not np.abs(axes.T @ axes - np.eye(shape[1])).max() < 1e-3:
        raise CacheError(f"teacher.axes is {path}, whose columns are not orthonormal")
    described = description_file(path)
    if described.exists():
        try:
            stored = json.loads(described.read_text(encoding="utf-8"))
        except ValueError as error:
            raise CacheError(
                f"{described} is damaged, expected JSON ({error}): delete it and {path.name}"
            ) from error
        # Earlier descriptions are the list of the teachers alone.
        teachers = stored.get("teachers") if isinstance(stored, dict) else stored
        remedy = f"choose another file, or delete this one and {described.name}"
        if teachers != _description(space):
            raise CacheError(
                f"teacher.axes is {path}, which was computed for the teachers {teachers}, but the run has "
                f"{_description(space)}: {remedy}"
            )
        if aligned and isinstance(stored, dict) and stored.get("aligned") is False:
            raise CacheError(
                f"teacher.align_axes is true, but teacher.axes is {path}, which a run without align_axes wrote: "
                f"remove align_axes, {remedy}"
            )
    return replace(space, axes=axes)


def compute_axes(
    vectors: Mapping[TextRole, JointVectors],
    texts: list[tuple[TextRole, list[str]]],
    dim: int,
    student: EncoderStudent | None,
) -> npt.NDArray[np.float32]:
    """Computes the principal axes of a sample, and rotates them to a student's vectors.

    Args:
        vectors: The vectors of each role, not reduced (t components).
        texts: The texts of each corpus, and their role.
        dim: Number of axes.
        student: The student, untrained. None does not rotate the axes.

    Returns:
        Shape (t, dim), float32.

    Raises:
        ValueError: There are no texts, or the student or the teachers have another dimension.
    """
    if not any(sample for _, sample in texts):
        caches = {cache.folder: len(cache) for role in vectors.values() for cache in role.caches}
        listed = ", ".join(f"{folder} ({count:,} texts)" for folder, count in caches.items())
        raise ValueError(
            f"the corpora have no text with an embedding in each of {listed}: set a teacher.max_minutes above 0 to "
            "fill them, or choose the teacher.cache of these corpora"
        )
    sample = [torch.from_numpy(vectors[role].lookup(some)) for role, some in texts if some]
    axes = principal_axes(torch.cat(sample), dim)
    if student is not None:
        if student.loss_dim != dim:
            raise ValueError(
                f"teacher.align_axes is true and the student's dimension is {student.loss_dim}, expected "
                f"teacher.dim, {dim}"
            )
        own, targets = _pairs(student, vectors, texts)
        axes = axes @ aligned_axes(targets @ axes, own).T
    values: npt.NDArray[np.float32] = axes.contiguous().numpy()
    return values


def rotate_student(
    student: EncoderStudent, vectors: Mapping[TextRole, JointVectors], texts: list[tuple[TextRole, list[str]]]
) -> bool:
    """Rotates an untrained student so that its vectors are closest to a joint teacher's.

    A student that already has the space, or another dimension, is left unchanged.

    Args:
        student: The student, changed in place.
        vectors: The vectors of each role.
        texts: The texts of each corpus, and their role.

    Returns:
        Whether the student was rotated.
    """
    first = next(iter(vectors.values()))
    if student.space == first.space.identifier() or student.loss_dim != first.dim:
        return False
    own, targets = _pairs(student, vectors, texts)
    return student.rotate(aligned_axes(own, targets).T.numpy())


def _pairs(
    student: EncoderStudent, vectors: Mapping[TextRole, JointVectors], texts: list[tuple[TextRole, list[str]]]
) -> tuple[torch.Tensor, torch.Tensor]:
    # The student's vectors (n, loss_dim) of a part of the texts, and the teacher's (n, t).
    encoder = student.encoder()
    own, targets = [], []
    for role, sample in texts:
        if part := sample[:_TEXTS_FOR_ALIGNMENT]:
            prompted = [student.prompt(role) + text for text in part]
            own.append(encoder.encode(prompted, on_overflow="ignore")[:, : student.loss_dim])
            targets.append(vectors[role].lookup(part))
    return torch.from_numpy(np.concatenate(own)), torch.from_numpy(np.concatenate(targets))


def write_axes(space: JointSpace, path: Path, *, aligned: bool) -> None:
    """Writes the axes of a space to a file, and a description of them next to it.

    The description contains the teachers, and whether the axes were aligned with a student.
    """
    if space.axes is None:
        raise ValueError("the space has no axes, expected the axes of a reduction")
    path.parent.mkdir(parents=True, exist_ok=True)
    description = {"aligned": aligned, "teachers": _description(space)}
    write_text(description_file(path), json.dumps(description, indent=1) + "\n")
    with replacing_file(path) as temporary, open(temporary, "wb") as file:
        np.save(file, space.axes)


def description_file(path: Path) -> Path:
    """Returns the file next to that of axes, which describes them."""
    return path.with_suffix(".json")


def _description(space: JointSpace) -> list[dict[str, Any]]:
    return [
        {
            "name": teacher.folder_name,
            "origin": origin,
            "weight": round(weight, 6),
            "query_prompt": teacher.query_prompt,
            "document_prompt": teacher.document_prompt,
        }
        for teacher, origin, weight in zip(space.teachers, space.origins, space.weights, strict=True)
    ]
