"""The ``Router`` of sentence-transformers, which sends queries and documents through modules of their own.

A folder with a ``Router`` is read as its routes: the entries of ``modules.json`` that a model of one route would have.
"""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.encoders.bert.reading import MODULES, SAFETENSORS
from sentenc.encoders.bert.tokenizer_files import read_json, write_json
from sentenc.encoders.cse.encoder import CSE
from sentenc.encoders.static_embedding import UnsupportedStaticError, static_embedding_as_cse, write_static
from sentenc.errors import CheckpointError

ROUTER = "router_config.json"
SETTINGS = "config_sentence_transformers.json"
_MODULE = "sentence_transformers.models."
_OWN = "sentence_transformers."
Modules = list[dict[str, Any]]
# Since this version, sentence-transformers multiplies the rows of a StaticEmbedding by factors of the tokens.
_VERSION = "6.2"


def write_router(folder: Path, documents: Encoder, queries: CSE) -> None:
    """Writes the files by which sentence-transformers loads a pair.

    Args:
        folder: The folder of a pair, with the folders ``documents`` of a BERT, whose files are used as they are, and
            ``queries``.
        documents: The encoder of documents.
        queries: A CSE that has the form of a ``StaticEmbedding``.
    """
    types: dict[str, str] = {}
    routes: dict[str, list[str]] = {"document": [], "query": ["queries/static"]}
    for module in read_modules(folder / "documents"):
        path = "/".join(part for part in ("documents", module["path"]) if part)
        types[path] = module["type"]
        routes["document"].append(path)
    types["queries/static"] = f"{_MODULE}StaticEmbedding"
    write_static(folder / "queries" / "static", queries)
    if queries.config.output_dim is not None:
        types["queries/dense"] = f"{_MODULE}Dense"
        _write_dense(folder / "queries" / "dense", queries.weight("projection").T)
        routes["query"].append("queries/dense")
    # The mean of rows has the direction of the vector of a query, and another length.
    types["queries/normalize"] = f"{_MODULE}Normalize"
    (folder / "queries" / "normalize").mkdir()
    routes["query"].append("queries/normalize")
    write_json(
        folder / ROUTER,
        {"types": types, "structure": routes, "parameters": {"default_route": "document"}},
    )
    write_json(folder / MODULES, [{"idx": 0, "name": "0", "path": "", "type": f"{_MODULE}Router"}])
    write_json(folder / SETTINGS, _settings(documents, queries))


def _write_dense(folder: Path, matrix: npt.NDArray[np.float32]) -> None:
    # Writes a matrix (out, in) without a bias into a new folder.
    from safetensors.numpy import save_file

    folder.mkdir()
    settings = {
        "in_features": matrix.shape[1], "out_features": matrix.shape[0], "bias": False,
        "activation_function": "torch.nn.modules.linear.Identity",
    }  # fmt: skip
    write_json(folder / "config.json", settings)
    tensors = {"linear.weight": np.ascontiguousarray(matrix, np.float32)}
    save_file(tensors, folder / SAFETENSORS, metadata={"format": "pt"})


def _settings(documents: Encoder, queries: Encoder) -> dict[str, Any]:
    return {
        "requirements": {"sentence-transformers": f">={_VERSION}"},
        "default_prompt_name": None,
        "prompts": {
            "query": queries.prompts.get("query", ""),
            "document": documents.prompts.get("document", ""),
        },
        "similarity_fn_name": "cosine",
    }


def read_modules(folder: Path) -> Modules:
    """Returns the entries of ``modules.json``, each with its ``type`` and ``path``; none if there is no such file.

    Raises:
        CheckpointError: An entry is damaged.
    """
    if not (folder / MODULES).exists():
        return []
    modules: Modules = read_json(folder / MODULES, list)
    for module in modules:
        if not isinstance(module, dict) or not all(isinstance(module.get(k), str) for k in ("type", "path")):
            raise CheckpointError(f"{folder / MODULES} has the module {module!r}, expected its type and path")
    return modules


def kind_of(module: dict[str, Any]) -> str:
    """Returns the class of a module of sentence-transformers, or the whole name of another one."""
    kind = str(module["type"])
    # Modules of other packages have the same short names and other functions.
    return kind.rsplit(".", 1)[-1] if kind.startswith(_OWN) else kind


def read_routes(folder: Path) -> tuple[Modules, Modules] | None:
    """Returns the modules of the documents and those of the queries of a folder with a ``Router``.

    Modules that follow the ``Router`` belong to both routes.

    Returns:
        None if the folder has no ``Router``, or one without the routes "query" and "document".

    Raises:
        CheckpointError: A file is damaged.
    """
    modules = read_modules(folder)
    if not modules or kind_of(modules[0]) not in ("Router", "Asym"):
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


def is_static(modules: Modules) -> bool:
    """Returns whether modules are a ``StaticEmbedding``, alone or before Dense and Normalize."""
    kinds = [kind_of(module) for module in modules]
    return kinds[:1] == ["StaticEmbedding"] and kinds[1:] in (
        [], ["Normalize"], ["Dense"], ["Dense", "Normalize"], ["Normalize", "Dense"],
    )  # fmt: skip


def read_static(
    folder: Path, modules: Modules, metadata: dict[str, Any], *, threads: int | None = None
) -> CSE:
    """Reads the modules of a ``StaticEmbedding`` as a CSE of words alone, whose vectors have the same directions.

    Args:
        folder: The folder of the model.
        modules: Modules of which :func:`is_static` is true. ``Normalize`` has no effect.
        metadata: The metadata of the CSE.
        threads: The number of threads that encode.

    Raises:
        UnsupportedStaticError: The tokenizer or a module is of a kind that a CSE does not have.
        CheckpointError: A file is missing or damaged.
    """
    own = folder / modules[0]["path"]
    dense = [folder / module["path"] for module in modules if kind_of(module) == "Dense"]
    try:
        spec = (own / "tokenizer.json").read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CheckpointError(f"{own / 'tokenizer.json'} cannot be read: {error}") from error
    projection = _read_dense(dense[0]).T if dense else None
    encoder = static_embedding_as_cse(_read_tensors(own), spec, projection, source=own, threads=threads)
    encoder.metadata = metadata
    return encoder


def _read_dense(folder: Path) -> npt.NDArray[np.float32]:
    settings = read_json(folder / "config.json")
    kind = str(settings.get("activation_function")).rsplit(".", 1)[-1]
    if settings.get("bias", True) or kind != "Identity":
        raise UnsupportedStaticError(
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
        raise UnsupportedStaticError(f"{folder} has no {SAFETENSORS}, expected the weights in this file")
    try:
        return load(path.read_bytes())
    except (SafetensorError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path} cannot be read as weights: {error}") from error
