"""Loads encoders by name: shipped models, folders and models of the Hugging Face Hub."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from sentenc.checkpoint import HYBRID, PAIR, Checkpoint, is_checkpoint, read_checkpoint
from sentenc.encoders.inner_folder import inner_folder
from sentenc.encoders.roles import with_prompts
from sentenc.errors import CheckpointError, ModelNotFoundError, NotBertError, PoolingWarning
from sentenc.texts import describe
from sentenc.threads import Threads, stated_threads
from sentenc.validation import check_choice, check_integer

if TYPE_CHECKING:
    from sentenc.encoders.base import Encoder
    from sentenc.encoders.bert.config import Compute, Pooling
    from sentenc.encoders.pair import PairEncoder

Backend = Literal["onnx", "torch"]

_SHIPPED = Path(__file__).parent / "models"


def shipped_name(model: object) -> str | None:
    """Returns the name of a shipped model that an argument of :func:`load` is, or None for any other."""
    if not isinstance(model, str | os.PathLike):
        return None
    folder = resolve_model(model)
    return folder.name if folder.parent == _SHIPPED else None


def available_models() -> list[str]:
    """Returns the names of the models that ship with the package, sorted."""
    return sorted(folder.name for folder in _SHIPPED.iterdir() if is_checkpoint(folder))


def load(
    model: str | os.PathLike[str],
    *,
    threads: Threads | None = None,
    compute: "Compute | None" = None,
    backend: Backend | None = None,
    pooling: "Pooling | None" = None,
    query_prompt: str | None = None,
    document_prompt: str | None = None,
    max_tokens: int | None = None,
    revision: str | None = None,
) -> "Encoder":
    """Loads an encoder.

    Args:
        model: The name of a shipped model (``"cse-en"``), a model folder, a file of word vectors, or an id of
            the Hugging Face Hub (``"owner/name"``). A folder is one of sentenc, Hugging Face,
            sentence-transformers or model2vec. A file is one of word2vec, GloVe, fastText, gensim or wordllama.
            Only an id opens a connection; with ``HF_HUB_OFFLINE=1`` in the environment, it is read from the cache.
        threads: The number of threads that encode. By default (``"auto"``) all cores that the process may use,
            by its CPU affinity and its container's CPU quota, or the number in the environment variable
            ``SENTENC_THREADS``. It has no effect on ``backend="torch"``, because PyTorch has one number for the
            whole process.
        compute: The type in which a BERT multiplies matrices: ``"float32"`` or ``"int8"``. By default the one
            with which its folder was saved, or else float32.
        backend: How a folder of another library is loaded. ``"onnx"``: it must be a BERT, DistilBERT or MPNet with
            mean or cls pooling, and ONNX Runtime computes it. ``"torch"``: sentence-transformers computes it,
            whichever transformer it is. By default ``"onnx"`` if possible, and otherwise ``"torch"``.
        pooling: The pooling of a transformer in a folder of Hugging Face, which does not state it: ``"mean"``
            of all hidden states, or ``"cls"``, the one of [CLS]. By default the mean, as in
            sentence-transformers, with a ``PoolingWarning``. Folders of sentence-transformers and of sentenc
            state it themselves.
        query_prompt: The text that :meth:`~sentenc.Encoder.encode_query` puts before every query. By default
            the one that the folder states.
        document_prompt: The text that :meth:`~sentenc.Encoder.encode_document` puts before every document. By
            default the one that the folder states.
        max_tokens: The number of tokens at which texts are cut. By default the one that the folder states.
        revision: The branch, tag or commit of a Hub id. By default its main branch.

    Raises:
        ModelNotFoundError: There is no model of this name.
        CheckpointError: The folder is damaged, of a kind that this version does not support, or contains a
            cross-encoder, a classifier or a sparse encoder.
        MissingExtraError: The model needs an extra that is not installed.
        TypeError: ``model`` is neither a str nor a path, ``threads`` or ``max_tokens`` is no integer, or a
            prompt is no str.
        ValueError: An option or ``SENTENC_THREADS`` is out of range, or the model does not support an option.
    """
    _check_options(compute, backend, pooling)
    threads = stated_threads(threads)
    prompts = _checked_prompts(query=query_prompt, document=document_prompt)
    folder = inner_folder(resolve_model(model, revision))
    if not is_checkpoint(folder):
        encoder = _load_foreign(folder, threads, compute, backend, pooling, max_tokens, prompts)
    elif backend == "torch":
        raise ValueError(
            f"backend='torch' is not supported for {folder}, which is in sentenc's own format: "
            "load it without a backend; save() of a BERT writes a folder that sentence-transformers can read"
        )
    else:
        checkpoint = _with_options(read_checkpoint(folder), pooling, max_tokens, prompts)
        encoder = load_checkpoint(checkpoint, threads=threads, compute=compute)
    options = {
        "pooling": pooling, "query_prompt": query_prompt, "document_prompt": document_prompt,
        "max_tokens": max_tokens, "compute": compute, "backend": backend, "revision": revision,
    }  # fmt: skip
    stated = {option: value for option, value in options.items() if value is not None}
    encoder.loaded_as = absolute_model(model), stated
    return encoder


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
    if checkpoint.kind == HYBRID:
        return _load_hybrid(checkpoint, threads, compute)
    if checkpoint.kind not in ("cse", "static"):
        raise CheckpointError(
            f"config.json has kind {checkpoint.kind!r}, expected 'cse', 'static', 'tinybert', 'pair' or 'hybrid'"
        )
    if compute is not None:
        raise ValueError(
            f"compute={compute!r} is not supported for a {'CSE' if checkpoint.kind == 'cse' else 'static model'}, "
            "which multiplies no matrices"
        )
    if checkpoint.kind == "static":
        from sentenc.encoders.static.encoder import StaticEncoder

        return StaticEncoder.from_checkpoint(checkpoint, threads=threads)
    from sentenc.encoders.cse.encoder import CSE

    return CSE.from_checkpoint(checkpoint, threads=threads)


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
        # PyTorch computes in its own type.
        is_changed = compute is not None and described["backend"] != "torch"
        halves[name] = Half(load_half, described, described["model"], is_changed=is_changed)
    return PairEncoder.from_checkpoint(checkpoint, halves)


def _load_half(
    folder: str, described: dict[str, Any], threads: int | None, compute: "Compute | None"
) -> "Encoder":
    from sentenc.encoders.pair_folder import check_fingerprint

    encoder: Encoder
    if described["backend"] == "torch":
        from sentenc.encoders.sentence_transformer import SentenceTransformerEncoder

        encoder = SentenceTransformerEncoder(Path(folder), described["name"])
    else:
        encoder = load(described["model"] or folder, threads=threads)
    # The folders of shipped pairs belong to this version, and a fingerprint takes about as long as a load.
    is_shipped = described["model"] is None and Path(folder).parent.parent == _SHIPPED
    # Hybrid encoders of older versions state no fingerprint.
    if "fingerprint" in described and not is_shipped:
        check_fingerprint(encoder, described, Path(folder))
    # PyTorch computes in its own type, and a CSE multiplies no matrices.
    with_compute = getattr(encoder, "with_compute", None)
    return with_compute(compute) if compute and with_compute is not None else encoder


def _load_hybrid(checkpoint: Checkpoint, threads: int | None, compute: "Compute | None") -> "Encoder":
    from sentenc.encoders.hybrid.encoder import ENCODER, HybridEncoder, checked_config

    if checkpoint.folder is None:
        raise ValueError("the checkpoint of a hybrid encoder has no folder, expected that of its encoder")
    config = checked_config(checkpoint)
    encoder = _load_half(str(checkpoint.folder / ENCODER), {"model": None, **config}, threads, compute)
    return HybridEncoder.from_checkpoint(checkpoint, encoder)


def _check_options(compute: str | None, backend: str | None, pooling: str | None) -> None:
    if backend is not None:
        check_choice("backend", backend, get_args(Backend))
    if compute is None and pooling is None:
        return
    from sentenc.encoders.bert.config import Compute, Pooling

    if compute is not None:
        check_choice("compute", compute, get_args(Compute))
    if pooling is not None:
        check_choice("pooling", pooling, get_args(Pooling))


def _checked_prompts(**prompts: str | None) -> dict[str, str]:
    stated = {name: prompt for name, prompt in prompts.items() if prompt is not None}
    for name, prompt in stated.items():
        if not isinstance(prompt, str):
            raise TypeError(f"{name}_prompt is {prompt!r}, expected a str")
    return stated


def absolute_model(model: str | os.PathLike[str]) -> str:
    """Returns the argument of :func:`load` by which the same model is loaded from any working folder."""
    name, path = os.fspath(model), Path(model).expanduser()
    if os.sep not in name and is_checkpoint(_SHIPPED / name):
        return name
    return str(path.absolute()) if path.exists() else name


def _with_options(
    checkpoint: Checkpoint, pooling: str | None, max_tokens: int | None, prompts: dict[str, str]
) -> Checkpoint:
    is_bert = checkpoint.kind == "tinybert"
    if checkpoint.kind in (PAIR, HYBRID):
        _refuse_options(checkpoint.folder, pooling, max_tokens, prompts, checkpoint.kind)
        return checkpoint
    checkpoint = replace(checkpoint, metadata=with_prompts(checkpoint.metadata, prompts))
    if pooling is not None:
        if not is_bert:
            raise ValueError(
                f"pooling is {pooling!r}, expected None for {checkpoint.folder}: the option is for transformers whose "
                "folder states no pooling"
            )
        stated = checkpoint.config.get("pooling", "mean")
        if pooling != stated:
            raise ValueError(f"pooling is {pooling!r}, expected {stated!r}, which the model has, or None")
    if max_tokens is None:
        return checkpoint
    positions = checkpoint.config.get("max_position_embeddings") if is_bert else None
    check_integer("max_tokens", max_tokens, at_least=3 if is_bert else 1, at_most=positions)
    return replace(checkpoint, config=checkpoint.config | {"max_tokens": max_tokens})


def _refuse_options(
    folder: Path | None,
    pooling: str | None,
    max_tokens: int | None,
    prompts: dict[str, str],
    kind: str = PAIR,
) -> None:
    if pooling is not None or max_tokens is not None or prompts:
        name, encoders = ("pair", "encoders") if kind == PAIR else ("hybrid encoder", "encoder")
        raise ValueError(
            f"{folder} is a {name}, which takes neither pooling, max_tokens nor prompts: load its "
            f"{encoders} with them, and pass the result to sentenc.{kind}"
        )


def _load_foreign(
    folder: Path,
    threads: int | None,
    compute: "Compute | None",
    backend: Backend | None,
    pooling: "Pooling | None",
    max_tokens: int | None,
    prompts: dict[str, str],
) -> "Encoder":
    from sentenc.encoders.bert.reading import is_plain_bert_folder, is_transformer_folder, pooling_missing
    from sentenc.encoders.other_models import refuse_other_models
    from sentenc.encoders.static.reading import is_model2vec_folder

    is_own = folder.is_file() or is_model2vec_folder(folder)
    if not is_own and not is_transformer_folder(folder):
        raise CheckpointError(
            f"{folder} contains no model: it has neither a config.json of sentenc, of a transformer or of "
            "model2vec, nor a modules.json"
        )
    if is_own or (backend != "torch" and (folder / "modules.json").exists()):
        from sentenc.encoders.router_reading import load_router

        routed = load_router(folder, threads=threads, compute=compute, only_onnx=backend == "onnx")
        if routed is not None:
            _refuse_options(folder, pooling, max_tokens, prompts)
            return routed
        static = _load_static(folder, threads)
        if static is not None:
            for name, option in (("compute", compute), ("pooling", pooling), ("max_tokens", max_tokens)):
                if option is not None:
                    raise ValueError(f"{name}={option!r} is not supported for {folder}, a static model")
            static.metadata = with_prompts(static.metadata, prompts)
            return static
    refuse_other_models(folder)
    if pooling is None and is_plain_bert_folder(folder):
        warnings.warn(pooling_missing(folder), PoolingWarning, stacklevel=3)
        pooling = "mean"
    if backend != "torch":
        from sentenc.encoders.bert.encoder import BertEncoder

        try:
            encoder = BertEncoder.from_folder(
                folder, compute=compute, threads=threads, pooling=pooling, max_tokens=max_tokens
            )
            encoder.metadata = with_prompts(encoder.metadata, prompts)
            return encoder
        except NotBertError:
            if backend == "onnx" or compute is not None:
                raise
    if compute is not None:
        raise ValueError(f"compute={compute!r} is not supported with backend='torch'")
    from sentenc.encoders.sentence_transformer import SentenceTransformerEncoder

    return SentenceTransformerEncoder(folder, pooling=pooling, max_tokens=max_tokens, prompts=prompts)


def _load_static(path: Path, threads: int | None) -> "Encoder | None":
    if path.is_file():
        from sentenc.encoders.static.files import load_static_file

        return load_static_file(path, threads=threads)
    from sentenc.encoders.static.reading import load_static

    return load_static(path, threads=threads)


@contextmanager
def pooling_required() -> Iterator[None]:
    """Makes it an error to load a transformer whose folder states no pooling without passing one.

    Raises:
        CheckpointError: A ``PoolingWarning`` was issued.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("error", PoolingWarning)
        try:
            yield
        except PoolingWarning as warning:
            raise CheckpointError(str(warning)) from None


def resolve_model(model: str | os.PathLike[str], revision: str | None = None) -> Path:
    """Returns the folder of a model, and downloads it first if it is on the Hugging Face Hub.

    Args:
        model: A name, a folder or a Hub id, as in :func:`load`.
        revision: The revision of a Hub id, as in :func:`load`.

    Raises:
        ModelNotFoundError: There is no model of this name.
        MissingExtraError: A download needs the extra ``hub``.
        TypeError: ``model`` is neither a str nor a path.
        ValueError: A revision was passed for another model than one of the Hub.
    """
    name = os.fspath(model) if isinstance(model, str | os.PathLike) else None
    if not isinstance(name, str):
        raise TypeError(f"model is {describe(model)}, expected a name, a folder or a Hub id")
    if not name:
        raise ModelNotFoundError("model is '', expected a name, a folder or a Hub id")
    folder = Path(name).expanduser()
    if os.sep not in name and is_checkpoint(_SHIPPED / name):
        folder = _SHIPPED / name
    if folder.is_dir() or folder.is_file():
        if revision is not None:
            raise ValueError(f"revision is {revision!r}, expected None for {name!r}, which is not on the Hub")
        return folder
    parts = name.split("/")
    # If there is a folder "models", then "models/mine" is a mistyped path, not a Hub id.
    if len(parts) == 2 and all(parts) and parts[0] not in (".", "..", "~") and not Path(parts[0]).exists():
        from sentenc.encoders.hub_download import download_model

        return download_model(name, revision)
    shipped = ", ".join(available_models()) or "none"
    raise ModelNotFoundError(
        f"model is {name!r}, expected a shipped model ({shipped}), a folder or a Hub id (owner/name)"
    )
