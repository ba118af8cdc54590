"""Writes a pair as a ``Router`` of sentence-transformers, with modules for documents and others for queries."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.encoders.bert.reading import MODULES, PROMPTS, SAFETENSORS
from sentenc.encoders.bert.tokenizer_files import read_json, write_json
from sentenc.encoders.cse.encoder import CSE
from sentenc.encoders.static_embedding import write_static
from sentenc.errors import CheckpointError

ROUTER = "router_config.json"
_OWN = "sentence_transformers."
_MODULE = f"{_OWN}models."
Modules = list[dict[str, Any]]
#: Since this version, sentence-transformers multiplies the rows of a StaticEmbedding by factors of the tokens.
FACTORS_VERSION = "6.2"


def write_router(folder: Path, documents: Encoder, queries: CSE) -> None:
    """Writes the files by which sentence-transformers loads a pair.

    Args:
        folder: The folder of a pair, with the folders ``documents`` of a BERT, whose files are used as they are, and
            ``queries``.
        documents: The encoder of documents.
        queries: A CSE that has the form of a ``StaticEmbedding``.
    """
    types: dict[str, str] = {}
    routes: dict[str, list[str]] = {"document": [], "query": []}
    for module in read_modules(folder / "documents"):
        path = "/".join(part for part in ("documents", module["path"]) if part)
        types[path] = module["type"]
        routes["document"].append(path)
    for name, kind in write_static_modules(folder / "queries", queries):
        types[f"queries/{name}"] = kind
        routes["query"].append(f"queries/{name}")
    write_json(
        folder / ROUTER,
        {"types": types, "structure": routes, "parameters": {"default_route": "document"}},
    )
    write_json(folder / MODULES, [{"idx": 0, "name": "0", "path": "", "type": f"{_MODULE}Router"}])
    write_json(folder / PROMPTS, _settings(documents, queries))


def write_static_modules(folder: Path, encoder: CSE) -> list[tuple[str, str]]:
    """Writes modules of sentence-transformers whose vectors have the directions of those of a CSE.

    Args:
        folder: An existing folder, in which each module has a folder of its own.
        encoder: A CSE that has the form of a ``StaticEmbedding``.

    Returns:
        The folder and the class of each module, in their order.
    """
    modules = [("static", f"{_MODULE}StaticEmbedding")]
    write_static(folder / "static", encoder)
    if encoder.config.output_dim is not None:
        modules.append(("dense", f"{_MODULE}Dense"))
        _write_dense(folder / "dense", encoder.weight("projection").T)
    # The mean of rows has the direction of the vector of a text, and another length.
    modules.append(("normalize", f"{_MODULE}Normalize"))
    (folder / "normalize").mkdir()
    return modules


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
        "requirements": {"sentence-transformers": f">={FACTORS_VERSION}"},
        "default_prompt_name": None,
        "prompts": {
            "query": queries.prompts.get("query", ""),
            "document": documents.prompts.get("document", ""),
        },
        "similarity_fn_name": "cosine",
    }


def module_kind(module: dict[str, Any]) -> str:
    """Returns the class of a module of sentence-transformers, or the whole name of another one."""
    kind = str(module["type"])
    # Modules of other packages have the same short names and other functions.
    return kind.rsplit(".", 1)[-1] if kind.startswith(_OWN) else kind


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
