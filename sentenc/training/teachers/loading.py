"""Loads the teachers of a run file."""

from collections.abc import Sequence
from typing import Literal, NamedTuple

import torch

from sentenc.checkpoint import is_checkpoint
from sentenc.encoders.base import Encoder
from sentenc.encoders.bert.config import Compute, Pooling
from sentenc.encoders.bert.reading import is_plain_bert_folder
from sentenc.encoders.sentence_transformer import SentenceTransformerEncoder
from sentenc.registry import load, pooling_required, resolve_model
from sentenc.training.teachers.base import Teacher
from sentenc.training.teachers.batched import BatchedTeacher, batch_transformers, has_pooling
from sentenc.training.teachers.ensemble import TeacherEnsemble

TeacherPrecision = Literal["float32", "bf16", "int8"]


class EncodingTeacher(NamedTuple):
    """A teacher that encodes many texts fast.

    Attributes:
        teacher: The teacher.
        fingerprint: The fingerprint of its models.
        precision: The type in which it computes: "float32", "bf16", "float16" or "int8". Of an ensemble, the
            one of the first teacher.
    """

    teacher: Teacher
    fingerprint: str
    precision: str


def load_teacher(
    models: Sequence[str],
    weights: Sequence[float] = (),
    device: str | torch.device = "cpu",
    pooling: Pooling | None = None,
    compute: Compute | None = None,
) -> Teacher:
    """Loads one teacher, or an ensemble of several.

    Args:
        models: One or more arguments of :func:`sentenc.load`.
        weights: The weight of each model, see :class:`TeacherEnsemble`.
        device: The device on which a PyTorch model computes. Models of sentenc and ONNX models always
            compute on the CPU.
        pooling: The pooling of the models, for folders that do not state it; see :func:`sentenc.load`.
        compute: The type in which BERTs multiply matrices on the CPU, see :func:`sentenc.load`. A GPU is not used
            if it is set.

    Raises:
        ValueError: ``models`` is empty, the number of weights differs, or a model has another pooling.
        SentencError: A model cannot be loaded; see :func:`sentenc.load`.
    """
    if not models:
        raise ValueError("no teacher configured: set teacher.models in the run file")
    encoders = [_load_on_device(model, torch.device(device), pooling, compute) for model in models]
    return TeacherEnsemble(encoders, weights) if len(encoders) > 1 or weights else encoders[0]


def load_encoding_teacher(
    models: Sequence[str],
    weights: Sequence[float] = (),
    device: str | torch.device = "cpu",
    precision: TeacherPrecision | None = None,
    pooling: Pooling | None = None,
) -> EncodingTeacher:
    """Loads a teacher that encodes many texts fast.

    Args:
        models: See :func:`load_teacher`.
        weights: See :func:`load_teacher`.
        device: The device that computes. "int8" is computed by the CPU.
        precision: Type in which BERTs multiply matrices; by default float16 on a GPU and float32 elsewhere.
        pooling: See :func:`load_teacher`.

    Raises:
        ValueError: See :func:`load_teacher` and :func:`batch_transformers`; or a model cannot compute in int8
            or bf16.
        SentencError: A model cannot be loaded.
    """
    if precision == "int8":
        teacher = load_teacher(models, weights, "cpu", pooling, compute="int8")
        return EncodingTeacher(teacher, teacher.fingerprint(), "int8")
    teacher = load_teacher(models, weights, device, pooling)
    batched = batch_transformers(teacher, torch.device(device), precision)
    first = batched.encoders[0] if isinstance(batched, TeacherEnsemble) else batched
    # Teachers that are not converted compute in float32 on every device.
    computed = first.precision if isinstance(first, BatchedTeacher) else "float32"
    return EncodingTeacher(batched, teacher.fingerprint(), computed)


def _load_on_device(
    model: str, device: torch.device, pooling: Pooling | None, compute: Compute | None
) -> Encoder:
    folder = resolve_model(model)
    # On a CPU, ONNX Runtime computes a BERT twice as fast as PyTorch. Only PyTorch computes on a GPU.
    on_gpu = device.type == "cuda" and compute is None and not is_checkpoint(folder)
    stated = pooling if is_plain_bert_folder(folder) else None
    with pooling_required():
        encoder = load(model, backend="torch" if on_gpu else None, pooling=stated, compute=compute)
    if pooling not in (None, stated) and not has_pooling(encoder, pooling):
        raise ValueError(
            f"teacher.models.pooling is {pooling!r}, but {model} does not have this pooling alone, and is no folder "
            "that leaves its pooling open: leave it out"
        )
    if isinstance(encoder, SentenceTransformerEncoder):
        encoder.model.to(device)
    return encoder
