"""From a name to an encoder: a shipped model, a folder, or a model of the Hugging Face Hub."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sentenc.checkpoint import Checkpoint, is_checkpoint, read_checkpoint
from sentenc.errors import CheckpointError, MissingExtraError, ModelNotFoundError

if TYPE_CHECKING:
    from sentenc.encoders.base import Encoder

_SHIPPED = Path(__file__).parent / "models"


def available_models() -> list[str]:
    """Names of the models that ship inside the package."""
    return sorted(folder.name for folder in _SHIPPED.iterdir() if is_checkpoint(folder))


def load(model: str | os.PathLike[str], *, threads: int | None = None) -> "Encoder":
    """Loads an encoder.

    Args:
        model: The name of a shipped model (``"cse-en"``); a folder, sentenc's own or one of
            sentence-transformers; or an id of the Hugging Face Hub (``"owner/name"``). Only an id
            that is no folder opens a connection.
        threads: Threads that encode; all cores that the process may use by default.

    Raises:
        ModelNotFoundError: There is nothing by that name.
        CheckpointError: The folder is damaged or of a kind that this version does not know.
        MissingExtraError: The model needs an extra that is not installed.
    """
    folder = find(model)
    if is_checkpoint(folder):
        return load_checkpoint(read_checkpoint(folder), threads=threads)
    if (folder / "modules.json").exists():
        from sentenc.encoders.external import ExternalEncoder

        return ExternalEncoder(folder)
    raise CheckpointError(f"{folder} holds no model: expected a sentenc config.json or a modules.json")


def load_checkpoint(checkpoint: Checkpoint, *, threads: int | None = None) -> "Encoder":
    """The encoder that a model folder's content describes."""
    if checkpoint.kind == "cse":
        from sentenc.encoders.cse import CSE

        return CSE.from_checkpoint(checkpoint, threads=threads)
    raise CheckpointError(f"config.json has kind {checkpoint.kind!r}, expected 'cse'")


def find(model: str | os.PathLike[str]) -> Path:
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
