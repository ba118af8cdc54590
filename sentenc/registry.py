"""Loads encoders by name: shipped models, folders and models of the Hugging Face Hub."""

import os
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from sentenc.checkpoint import PAIR, Checkpoint, is_checkpoint, read_checkpoint
from sentenc.errors import CheckpointError, MissingExtraError, ModelNotFoundError, NotBertError
from sentenc.validation import check_choice

if TYPE_CHECKING:
    from sentenc.encoders.base import Encoder
    from sentenc.encoders.bert.config import Compute
    from sentenc.encoders.pair import PairEncoder

Backend = Literal["onnx", "torch"]

_SHIPPED = Path(__file__).parent / "models"


def available_models() -> list[str]:
    """Returns the names of the models that ship with the package, sorted."""
    return sorted(folder.name for folder in _SHIPPED.iterdir() if is_checkpoint(folder))


def load(
    model: str | os.PathLike[str],
    *,
    threads: int | None = None,
    compute: "Compute | None" = None,
    backend: Backend | None = None,
) -> "Encoder":
    """Loads an encoder.

    Args:
        model: The name of a shipped model (``"cse-en"``), a model folder, or an id of the Hugging Face Hub
            (``"owner/name"``). A folder is one of sentenc, Hugging Face or sentence-transformers. Only an id
            opens a connection.
        threads: The number of threads that encode. By default all cores that the process may use.
        compute: The type in which a BERT multiplies matrices: ``"float32"`` or ``"int8"``. By default the one
            with which its folder was saved, or else float32.
        backend: How a folder of another library is loaded. ``"onnx"``: it must be a BERT with mean pooling,
            and ONNX Runtime computes it. ``"torch"``: sentence-transformers computes it. By default
            ``"onnx"`` if possible, and otherwise ``"torch"``.

    Raises:
        ModelNotFoundError: There is no model of this name.
        CheckpointError: The folder is damaged, or of a kind that this version does not support.
        MissingExtraError: The model needs an extra that is not installed.
        TypeError: ``threads`` is no integer.
        ValueError: An option is out of range, or the model does not support it.
    """
    if compute is not None:
        from sentenc.encoders.bert.config import Compute

        check_choice("compute", compute, get_args(Compute))
    if backend is not None:
        check_choice("backend", backend, get_args(Backend))
    folder = resolve_model(model)
    if not is_checkpoint(folder):
        return _load_foreign(folder, threads, compute, backend)
    if backend == "torch":
        raise ValueError(
            f"backend='torch' is not supported for {folder}, which is in sentenc's own format: "
            "load it without a backend; save() of a BERT writes a folder that sentence-transformers can read"
        )
    return load_checkpoint(read_checkpoint(folder), threads=threads, compute=compute)


def load_checkpoint(
    checkpoint: Checkpoint, *, threads: int | None = None, compute: "Compute | None" = None
) -> "Encoder":
    """Creates an encoder from the content of a model folder.

    Args:
        checkpoint: The content of the folder.
        threads: The number of threads that encode, as in :func:`load`.
        compute: The type in which a BERT multiplies matrices, as in :func:`load`.

    Raises:
        CheckpointError: The kind is unknown, or the configuration or a weight is damaged.
        ValueError: The model does not support ``compute``.
    """
    if checkpoint.kind == "tinybert":
        from sentenc.encoders.bert.encoder import BertEncoder

        return BertEncoder.from_checkpoint(checkpoint, compute=compute, threads=threads)
    if checkpoint.kind == PAIR:
        return _load_pair(checkpoint, threads, compute)
    if checkpoint.kind != "cse":
        raise CheckpointError(
            f"config.json has kind {checkpoint.kind!r}, expected 'cse', 'tinybert' or 'pair'"
        )
    if compute is not None:
        raise ValueError(f"compute={compute!r} is not supported for a CSE, which multiplies no matrices")
    from sentenc.encoders.cse.encoder import CSE

    return CSE.from_checkpoint(checkpoint, threads=threads)


def pair(
    documents: "Encoder | str | os.PathLike[str]",
    queries: "Encoder | str | os.PathLike[str]",
    *,
    metadata: dict[str, Any] | None = None,
    card: str | None = None,
) -> "PairEncoder":
    """Makes a pair of two encoders of one space: one for documents, and usually a faster one for queries.

    >>> pair = sentenc.pair(documents="documents-folder", queries="queries-folder")
    >>> pair.save("pair-folder")

    Args:
        documents: The encoder of documents, or an argument of :func:`load`.
        queries: The encoder of queries, or an argument of :func:`load`.
        metadata: As for :class:`~sentenc.PairEncoder`.
        card: As for :class:`~sentenc.PairEncoder`.

    Raises:
        ModelNotFoundError: There is no model of this name.
        TypeError: An encoder is a pair.
        ValueError: The encoders have different spaces or numbers of components.
    """
    from sentenc.encoders.base import Encoder
    from sentenc.encoders.pair import PairEncoder

    loaded, shipped = [], []
    for half in (documents, queries):
        loaded.append(half if isinstance(half, Encoder) else load(half))
        is_shipped = not isinstance(half, Encoder) and resolve_model(half).parent == _SHIPPED
        shipped.append(resolve_model(half).name if is_shipped else None)  # type: ignore[arg-type]
    return PairEncoder(loaded[0], loaded[1], metadata=metadata, card=card, shipped=(shipped[0], shipped[1]))


def _load_pair(checkpoint: Checkpoint, threads: int | None, compute: "Compute | None") -> "PairEncoder":
    from sentenc.encoders.pair import PairEncoder
    from sentenc.encoders.pair_folder import DOCUMENTS, QUERIES, Half, read_half

    if checkpoint.folder is None:
        raise ValueError("the checkpoint of a pair has no folder, expected that of its encoders")
    halves = {}
    for name in (DOCUMENTS, QUERIES):
        described = read_half(checkpoint, name)
        folder = checkpoint.folder / name
        if described["model"] is not None and described["model"] not in available_models():
            raise CheckpointError(
                f"{checkpoint.folder} refers to the shipped model {described['model']!r}, expected one of this "
                f"version of sentenc: {', '.join(available_models())}"
            )
        # From another working folder, a relative path would be another folder.
        load_half = partial(_load_half, str(folder.absolute()), described, threads, compute)
        halves[name] = Half(load_half, described, described["model"])
    return PairEncoder.from_checkpoint(checkpoint, halves)


def _load_half(
    folder: str, described: dict[str, Any], threads: int | None, compute: "Compute | None"
) -> "Encoder":
    from sentenc.encoders.bert.encoder import BertEncoder

    if described["backend"] == "torch":
        from sentenc.encoders.sentence_transformer import SentenceTransformerEncoder

        return SentenceTransformerEncoder(Path(folder), described["name"])
    encoder = load(described["model"] or folder, threads=threads)
    if described["model"] is not None and encoder.fingerprint() != described["fingerprint"]:
        raise CheckpointError(
            f"the pair was saved with {described['model']} of fingerprint {described['fingerprint']}, but this "
            f"version of sentenc ships one of fingerprint {encoder.fingerprint()}: their vectors are not comparable"
        )
    # A CSE multiplies no matrices.
    return encoder.with_compute(compute) if compute and isinstance(encoder, BertEncoder) else encoder


def _load_foreign(
    folder: Path, threads: int | None, compute: "Compute | None", backend: Backend | None
) -> "Encoder":
    from sentenc.encoders.bert.reading import is_transformer_folder

    if not is_transformer_folder(folder):
        raise CheckpointError(
            f"{folder} contains no model: it has neither a config.json of sentenc or of a transformer, "
            "nor a modules.json"
        )
    if backend != "torch":
        from sentenc.encoders.bert.encoder import BertEncoder

        try:
            return BertEncoder.from_folder(folder, compute=compute, threads=threads)
        except NotBertError:
            if backend == "onnx" or compute is not None or not (folder / "modules.json").exists():
                raise
    if compute is not None:
        raise ValueError(f"compute={compute!r} is not supported with backend='torch'")
    from sentenc.encoders.sentence_transformer import SentenceTransformerEncoder

    return SentenceTransformerEncoder(folder)


def resolve_model(model: str | os.PathLike[str]) -> Path:
    """Returns the folder of a model, and downloads it first if it is on the Hugging Face Hub.

    Args:
        model: A name, a folder or a Hub id, as in :func:`load`.

    Raises:
        ModelNotFoundError: There is no model of this name.
        MissingExtraError: A download needs the extra ``hub``.
    """
    name = os.fspath(model)
    if not isinstance(name, str) or not name:
        raise ModelNotFoundError(f"model is {model!r}, expected a name, a folder or a Hub id")
    if os.sep not in name and is_checkpoint(_SHIPPED / name):
        return _SHIPPED / name
    folder = Path(name).expanduser()
    if folder.is_dir():
        return folder
    parts = name.split("/")
    # If there is a folder "models", then "models/mine" is a mistyped path, not a Hub id.
    if len(parts) == 2 and all(parts) and parts[0] not in (".", "..", "~") and not Path(parts[0]).exists():
        return _download(name)
    shipped = ", ".join(available_models()) or "none"
    raise ModelNotFoundError(
        f"model is {name!r}, expected a shipped model ({shipped}), a folder or a Hub id (owner/name)"
    )


def _download(name: str) -> Path:
    try:
        from huggingface_hub import snapshot_download
    except ImportError as error:
        raise MissingExtraError("hub", "huggingface_hub", f"downloading {name!r}") from error
    try:
        return Path(snapshot_download(name))
    except Exception as error:  # many kinds: no network, no such id, no access
        raise ModelNotFoundError(
            f"{name!r} is no folder, and downloading it from the Hugging Face Hub failed: {error}"
        ) from error
