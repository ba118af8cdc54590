"""Reads a ``Router`` of sentence-transformers without torch.

A folder with a ``Router`` is read as its routes: the entries of ``modules.json`` that a model of one route would
have.
"""

from pathlib import Path

from sentenc.checkpoint import read_card
from sentenc.encoders.base import Encoder
from sentenc.encoders.bert.config import Compute
from sentenc.encoders.bert.encoder import BertEncoder
from sentenc.encoders.bert.reading import read_metadata
from sentenc.encoders.bert.tokenizer_files import read_json
from sentenc.encoders.cse.encoder import CSE
from sentenc.encoders.pair import PairEncoder
from sentenc.encoders.router import ROUTER, Modules, module_kind, read_modules
from sentenc.encoders.sentence_transformer import SentenceTransformerEncoder, load_sentence_transformer
from sentenc.encoders.static.encoder import StaticEncoder
from sentenc.encoders.static.reading import read_static_folder
from sentenc.errors import CheckpointError, NotBertError, NotStaticError


def load_router(
    folder: Path, *, threads: int | None = None, compute: Compute | None = None, only_onnx: bool = False
) -> PairEncoder | None:
    """Loads a folder with a ``Router`` of the routes "query" and "document" as a pair of one space.

    A route of a BERT is computed by ONNX Runtime, and a ``StaticEmbedding`` is a CSE of words alone. Any other route
    is computed by sentence-transformers.

    Args:
        folder: The folder.
        threads: The number of threads that encode. PyTorch has its own number for the whole process.
        compute: The type in which a BERT multiplies matrices.
        only_onnx: Whether routes for sentence-transformers are refused.

    Returns:
        None if the folder has no such ``Router``.

    Raises:
        CheckpointError: A file is missing or damaged.
        NotBertError: A route is neither a BERT nor a ``StaticEmbedding``, and ``only_onnx`` is true.
        MissingExtraError: A route needs sentence-transformers, which is not installed.
        ValueError: The routes have different numbers of components, or ``compute`` was passed, and
            sentence-transformers computes a route.
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
            if compute is not None:
                raise ValueError(
                    f"compute is {compute!r}, expected None: sentence-transformers computes the route {name!r} "
                    f"of {folder}"
                ) from None
            encoders.append(_load_wrapped(folder, name))
    documents, queries = encoders
    # Both routes were trained for each other.
    queries.metadata = {**queries.metadata, "space": documents.space}
    return PairEncoder(documents, queries, card=read_card(folder))


def _load_route(folder: Path, modules: Modules, threads: int | None, compute: Compute | None) -> Encoder:
    if module_kind(modules[0]) == "StaticEmbedding":
        # A pair compares directions, which Normalize does not change.
        scaled = [module for module in modules if module_kind(module) != "Normalize"]
        content = read_static_folder(folder, scaled)
        encoder: CSE | StaticEncoder
        try:
            encoder = content.as_cse(threads)
        except NotStaticError:
            encoder = content.encoder(threads)
        encoder.metadata = read_metadata(folder)
        return encoder
    return BertEncoder.from_folder(folder, compute=compute, threads=threads, modules=modules)


def _load_wrapped(folder: Path, route: str) -> SentenceTransformerEncoder:
    whole = load_sentence_transformer(folder, None)
    from sentence_transformers import SentenceTransformer

    modules = [*whole[0].sub_modules[route], *list(whole)[1:]]
    model = SentenceTransformer(modules=modules, prompts=dict(whole.prompts), device=whole.device)
    return SentenceTransformerEncoder(model, f"{folder.name}-{route}")


def _read_routes(folder: Path) -> tuple[Modules, Modules] | None:
    """Returns the modules of the documents and those of the queries of a folder with a ``Router``.

    Modules that follow the ``Router`` belong to both routes.

    Returns:
        None if the folder has no ``Router``, or one without the routes "query" and "document".

    Raises:
        CheckpointError: A file is damaged.
    """
    modules = read_modules(folder)
    if not modules or module_kind(modules[0]) not in ("Router", "Asym"):
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
