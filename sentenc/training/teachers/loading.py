"""Loads the teachers of a run file."""

from collections.abc import Sequence

import torch

from sentenc.checkpoint import is_checkpoint
from sentenc.encoders.base import Encoder
from sentenc.encoders.bert.config import Pooling
from sentenc.encoders.bert.reading import is_plain_bert_folder
from sentenc.encoders.sentence_transformer import SentenceTransformerEncoder
from sentenc.registry import load, pooling_required, resolve_model
from sentenc.training.teachers.base import Teacher
from sentenc.training.teachers.ensemble import TeacherEnsemble


def load_teacher(
    models: Sequence[str],
    weights: Sequence[float] = (),
    device: str | torch.device = "cpu",
    pooling: Pooling | None = None,
) -> Teacher:
    """Loads one teacher, or an ensemble of several.

    Args:
        models: One or more arguments of :func:`sentenc.load`.
        weights: The weight of each model, see :class:`TeacherEnsemble`.
        device: The device on which a PyTorch model computes. Models of sentenc and ONNX models always
            compute on the CPU.
        pooling: The pooling of folders that do not state it, see :func:`sentenc.load`.

    Raises:
        ValueError: ``models`` is empty, or the number of weights differs.
        SentencError: A model cannot be loaded; see :func:`sentenc.load`.
    """
    if not models:
        raise ValueError("no teacher configured: set teacher.models in the run file")
    encoders = [_load_on_device(model, torch.device(device), pooling) for model in models]
    return TeacherEnsemble(encoders, weights) if len(encoders) > 1 or weights else encoders[0]


def _load_on_device(model: str, device: torch.device, pooling: Pooling | None) -> Encoder:
    folder = resolve_model(model)
    # On a CPU, ONNX Runtime computes a BERT twice as fast as PyTorch. Only PyTorch computes on a GPU.
    on_gpu = device.type == "cuda" and not is_checkpoint(folder)
    pooling = pooling if is_plain_bert_folder(folder) else None
    with pooling_required():
        encoder = load(model, backend="torch" if on_gpu else None, pooling=pooling)
    if isinstance(encoder, SentenceTransformerEncoder):
        encoder.model.to(device)
    return encoder
