"""Reads a ``Router`` and a ``StaticEmbedding`` of sentence-transformers without torch.

A folder with a ``Router`` is read as its routes: the entries of ``modules.json`` that a model of one route would
have.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.encoders.bert.config import Compute
from sentenc.encoders.bert.encoder import BertEncoder
from sentenc.encoders.bert.reading import SAFETENSORS, read_metadata
from sentenc.encoders.bert.tokenizer_files import read_json
from sentenc.encoders.cse.encoder import CSE
from sentenc.encoders.pair import PairEncoder
from sentenc.encoders.router import ROUTER, Modules, read_modules
from sentenc.encoders.sentence_transformer import SentenceTransformerEncoder, load_sentence_transformer
from sentenc.encoders.static_embedding import static_embedding_as_cse
from sentenc.errors import CheckpointError, NotBertError, NotStaticError

_OWN = "sentence_transformers."


def load_router(
    folder: Path, *, threads: int | None = None, compute: Compute | None = None, only_onnx: bool = False
) -> PairEncoder | None:
    """Loads a folder with a ``Router`` of the routes "query" and "document" as a pair of one space.

    A route of a BERT is computed by ONNX Runtime, and a ``StaticEmbedding`` is a CSE of words alone. Any other route
    is computed by sentence-transformers.

    Args:
        folder: The folder.
        threads: The number of threads that encode.
        compute: The type in which a BERT multiplies matrices.
        only_onnx: Whether routes for sentence-transformers are refused.

    Returns:
        None if the folder has no such ``Router``.

    Raises:
        CheckpointError: A file is missing or damaged.
        NotBertError: A route is neither a BERT nor a ``StaticEmbedding``, and ``only_onnx`` is true.
        MissingExtraError: A route needs sentence-transformers, which is not installed.
        ValueError: The routes have different numbers of components.
    """
    routes = _read_routes(folder)
    if routes is None:
        return None
    encoders = []
    for name, modules in zip(("document", "query"), routes, strict=True):
        try:
            encoders.append(_load_route(folder, modules, threads, compute))
        except (NotBertError, NotStaticError):
            if only_onnx:
                raise
            encoders.append(_load_wrapped(folder, name))
    documents, queries = encoders
    # Both routes were trained for each other.
    queries.metadata = {**queries.metadata, "space": documents.space}
    card = folder / "README.md"
    return PairEncoder(documents, queries, card=card.read_text(encoding="utf-8") if card.exists() else None)


def load_static(folder: Path, *, threads: int | None = None) -> CSE | None:
    """Loads a folder with a ``StaticEmbedding`` as a CSE of words alone.

    Returns:
        None if it contains another model.

    Raises:
        NotStaticError: The tokenizer or a module is of a kind that a CSE does not have.
        CheckpointError: A file is missing or damaged.
    """
    modules = read_modules(folder)
    return _read_static(folder, modules, threads) if _is_static(modules) else None


def _load_route(folder: Path, modules: Modules, threads: int | None, compute: Compute | None) -> Encoder:
    if _is_static(modules):
        return _read_static(folder, modules, threads)
    return BertEncoder.from_folder(folder, compute=compute, threads=threads, modules=modules)


def _load_wrapped(folder: Path, route: str) -> SentenceTransformerEncoder:
    whole = load_sentence_transformer(folder, None)
    from sentence_transformers import SentenceTransformer

    modules = [*whole[0].sub_modules[route], *list(whole)[1:]]
    model = SentenceTransformer(modules=modules, prompts=dict(whole.prompts), device=whole.device)
    return SentenceTransformerEncoder(model, f"{folder.name}-{route}")


def _kind(module: dict[str, Any]) -> str:
    """Returns the class of a module of sentence-transformers, or the whole name of another one."""
    kind = str(module["type"])
    # Modules of other packages have the same short names and other functions.
    return kind.rsplit(".", 1)[-1] if kind.startswith(_OWN) else kind


def _read_routes(folder: Path) -> tuple[Modules, Modules] | None:
    """Returns the modules of the documents and those of the queries of a folder with a ``Router``.

    Modules that follow the ``Router`` belong to both routes.

    Returns:
        None if the folder has no ``Router``, or one without the routes "query" and "document".

    Raises:
        CheckpointError: A file is damaged.
    """
    modules = read_modules(folder)
    if not modules or _kind(modules[0]) not in ("Router", "Asym"):
        return None
    base = folder / modules[0]["path"]
    # The releases before 5.0, in which it was called Asym, wrote config.json.
    path = base / ROUTER if (base / ROUTER).exists() else base / "config.json"
    content = read_json(path)
    types, structure = content.get("types"), content.get("structure")
    if not isinstance(types, dict) or not isinstance(structure, dict):
        raise CheckpointError(f"{path} has no types and structure of its routes")
    if set(structure) != {"query", "document"}:
        return None
    routes = []
    for name in ("document", "query"):
        own = [module for module in structure[name] if isinstance(types.get(module), str)]
        if len(own) != len(structure[name]) or not own:
            raise CheckpointError(
                f"{path} has the route {name} {structure[name]!r}, expected modules of types"
            )
        prefix = f"{modules[0]['path']}/" if modules[0]["path"] else ""
        routes.append([{"type": types[module], "path": f"{prefix}{module}"} for module in own] + modules[1:])
    return routes[0], routes[1]


def _is_static(modules: Modules) -> bool:
    """Returns whether modules are a ``StaticEmbedding``, alone or before Dense and Normalize."""
    kinds = [_kind(module) for module in modules]
    return kinds[:1] == ["StaticEmbedding"] and kinds[1:] in (
        [], ["Normalize"], ["Dense"], ["Dense", "Normalize"], ["Normalize", "Dense"],
    )  # fmt: skip


def _read_static(folder: Path, modules: Modules, threads: int | None) -> CSE:
    # Normalize has no effect: the vectors of a CSE have the same directions.
    own = folder / modules[0]["path"]
    dense = [folder / module["path"] for module in modules if _kind(module) == "Dense"]
    try:
        spec = (own / "tokenizer.json").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{own / 'tokenizer.json'} cannot be read: {error}") from error
    projection = _read_dense(dense[0]).T if dense else None
    encoder = static_embedding_as_cse(_read_tensors(own), spec, projection, source=own, threads=threads)
    encoder.metadata = read_metadata(folder)
    return encoder


def _read_dense(folder: Path) -> npt.NDArray[np.float32]:
    settings = read_json(folder / "config.json")
    kind = str(settings.get("activation_function")).rsplit(".", 1)[-1]
    if settings.get("bias", True) or kind != "Identity":
        raise NotStaticError(
            f"{folder / 'config.json'} has bias {settings.get('bias', True)} and activation {kind}, "
            "expected a Dense without either"
        )
    matrix = _read_tensors(folder).get("linear.weight")
    if matrix is None or matrix.ndim != 2:
        raise CheckpointError(f"{folder / SAFETENSORS} has no matrix linear.weight, expected that of a Dense")
    return matrix.astype(np.float32)


def _read_tensors(folder: Path) -> dict[str, npt.NDArray[Any]]:
    from safetensors import SafetensorError
    from safetensors.numpy import load

    path = folder / SAFETENSORS
    if not path.exists():
        raise NotStaticError(f"{folder} has no {SAFETENSORS}, expected the weights in this file")
    try:
        return load(path.read_bytes())
    except (SafetensorError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read as weights: {error}") from error
