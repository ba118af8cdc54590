"""From a name to an encoder: a shipped model, a folder, or a model of the Hugging Face Hub."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from sentenc.checkpoint import Checkpoint, is_checkpoint, read_checkpoint
from sentenc.encoders.bert.config import Compute
from sentenc.errors import CheckpointError, MissingExtraError, ModelNotFoundError, NotBertError

if TYPE_CHECKING:
    from sentenc.encoders.base import Encoder

Backend = Literal["onnx", "torch"]

_SHIPPED = Path(__file__).parent / "models"


def available_models() -> list[str]:
    """Names of the models that ship inside the package."""
    return sorted(folder.name for folder in _SHIPPED.iterdir() if is_checkpoint(folder))


def load(
    model: str | os.PathLike[str],
    *,
    threads: int | None = None,
    compute: Compute | None = None,
    backend: Backend | None = None,
) -> "Encoder":
    """Loads an encoder.

    Args:
        model: The name of a shipped model (``"cse-en"``); a folder, sentenc's own or one of
            Hugging Face or sentence-transformers; or an id of the Hugging Face Hub (``"owner/name"``).
            Only an id that is no folder opens a connection.
        threads: Threads that encode; all cores that the process may use by default.
        compute: What a BERT multiplies matrices in: ``"float32"`` or ``"int8"``; what its folder says
            by default, and that is float32 unless it was saved otherwise.
        backend: ``"onnx"``: a folder of another library must be a BERT with mean pooling, which ONNX
            Runtime computes; ``"torch"``: sentence-transformers computes it, whatever it is. By
            default the first where it can be, and the second elsewhere.

    Raises:
        ModelNotFoundError: There is nothing by that name.
        CheckpointError: The folder is damaged or of a kind that this version does not know.
        MissingExtraError: The model needs an extra that is not installed.
        ValueError: An option is unknown, or does not go with the model.
    """
    if compute not in (None, "float32", "int8"):
        raise ValueError(f"compute is {compute!r}, expected 'float32' or 'int8'")
    if backend not in (None, "onnx", "torch"):
        raise ValueError(f"backend is {backend!r}, expected 'onnx' or 'torch'")
    folder = resolve_model(model)
    if not is_checkpoint(folder):
        return _load_foreign(folder, threads, compute, backend)
    if backend == "torch":
        raise ValueError(
            f"backend is 'torch', but {folder} is a folder of sentenc's own: "
            "load it without, and save() writes one that sentence-transformers takes"
        )
    return load_checkpoint(read_checkpoint(folder), threads=threads, compute=compute)


def load_checkpoint(
    checkpoint: Checkpoint, *, threads: int | None = None, compute: Compute | None = None
) -> "Encoder":
    """The encoder that a model folder's content describes."""
    if checkpoint.kind == "tinybert":
        from sentenc.encoders.bert.encoder import BertEncoder

        return BertEncoder.from_checkpoint(checkpoint, compute=compute, threads=threads)
    if checkpoint.kind != "cse":
        raise CheckpointError(f"config.json has kind {checkpoint.kind!r}, expected 'cse' or 'tinybert'")
    if compute is not None:
        raise ValueError(f"compute is {compute!r}, expected none for a CSE: it multiplies no matrices")
    from sentenc.encoders.cse.encoder import CSE

    return CSE.from_checkpoint(checkpoint, threads=threads)


def _load_foreign(
    folder: Path, threads: int | None, compute: Compute | None, backend: Backend | None
) -> "Encoder":
    from sentenc.encoders.bert.reading import is_transformer_folder

    if not is_transformer_folder(folder):
        raise CheckpointError(
            f"{folder} holds no model: expected a sentenc config.json, a modules.json or a transformer's config.json"
        )
    if backend != "torch":
        from sentenc.encoders.bert.encoder import BertEncoder

        try:
            return BertEncoder.from_folder(folder, compute=compute, threads=threads)
        except NotBertError:
            if backend == "onnx" or compute is not None or not (folder / "modules.json").exists():
                raise
    if compute is not None:
        raise ValueError(f"compute is {compute!r}, expected none with backend='torch'")
    from sentenc.encoders.sentence_transformer import SentenceTransformerEncoder

    return SentenceTransformerEncoder(folder)


def resolve_model(model: str | os.PathLike[str]) -> Path:
    """The folder of a model, fetched from the Hub first if it is there that it lives."""
    name = os.fspath(model)
    if not isinstance(name, str) or not name:
        raise ModelNotFoundError(f"model is {model!r}, expected a name, a folder or a Hub id")
    if os.sep not in name and is_checkpoint(_SHIPPED / name):
        return _SHIPPED / name
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    parts = name.split("/")
    # "models/mine" with a folder "models" beside it is a mistyped path, not a Hub id.
    if len(parts) == 2 and all(parts) and parts[0] not in (".", "..", "~") and not Path(parts[0]).exists():
        return _fetch(name)
    shipped = ", ".join(available_models()) or "none"
    raise ModelNotFoundError(
        f"no model {name!r}: neither a shipped one ({shipped}), nor a folder, nor a Hub id (owner/name)"
    )


def _fetch(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError("hub", "huggingface_hub", f"fetching {name!r}") from error
    try:
        return Path(snapshot_download(name))
    except Exception as error:  # dozens of kinds: no network, no such id, no access
        raise ModelNotFoundError(
            f"{name!r} is no folder, and fetching it from the Hugging Face Hub failed: {error}"
        ) from error
