"""The folder of a pair: a folder for each encoder, or the name of a shipped model in its place.

``config.json`` has the kind "pair" and, for each half, its fingerprint, ``max_tokens`` and prompts, so that a
half is loaded only if it is used. The folders ``documents`` and ``queries`` are model folders as their
encoders save them. Instead of a folder, a half can have the name of a shipped model (``model``); its
fingerprint must be the stored one. sentence-transformers reads ``modules.json``, ``router_config.json``,
``documents`` and ``queries/static``.
"""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sentenc.checkpoint import CONFIG, Checkpoint, write_files
from sentenc.encoders.base import Encoder
from sentenc.encoders.bert.encoder import BertEncoder
from sentenc.encoders.golden import GOLDEN_TEXTS
from sentenc.encoders.lazy import LazyEncoder, Loaded
from sentenc.encoders.router import write_router
from sentenc.encoders.sentence_transformer import SentenceTransformerEncoder
from sentenc.encoders.static_embedding import has_static_form
from sentenc.errors import CheckpointError
from sentenc.io.atomic import replacing_folder

#: The halves, by the names that the folder and errors use.
DOCUMENTS, QUERIES = "documents", "queries"
# Facts about a half that are known before it is loaded.
_DESCRIBED = ("fingerprint", "max_tokens", "prompts")
_HALF_KEYS = {"model", "name", "backend", *_DESCRIBED}


class Half(LazyEncoder):
    """One encoder of a pair, which is loaded when it is first used.

    Args:
        load: Loads the encoder. It can be pickled.
        described: ``fingerprint``, ``max_tokens`` and ``prompts`` of the encoder.
        shipped: The name of the shipped model that the encoder is, or None.
        is_changed: Whether ``load`` applies an option that can change the described fingerprint.
    """

    def __init__(
        self,
        load: Callable[[], Encoder],
        described: Mapping[str, Any],
        shipped: str | None = None,
        *,
        is_changed: bool = False,
    ) -> None:
        super().__init__(load)
        self._is_changed = is_changed
        self.described = {key: described[key] for key in _DESCRIBED}
        self.shipped = shipped

    @classmethod
    def of(cls, encoder: Encoder, shipped: str | None = None) -> "Half":
        """Returns the half of an encoder that is loaded already."""
        described = {
            "fingerprint": encoder.fingerprint(),
            "max_tokens": encoder.max_tokens,
            "prompts": dict(encoder.prompts),
        }
        return cls(Loaded(encoder), described, shipped)

    @property
    def fingerprint(self) -> str:
        """The fingerprint of the encoder. The encoder is loaded if an option can have changed it."""
        return self.encoder.fingerprint() if self._is_changed else str(self.described["fingerprint"])


def write_pair(
    folder: str | os.PathLike[str], checkpoint: Checkpoint, halves: Mapping[str, Half], references: bool
) -> None:
    """Writes the folder of a pair; see :meth:`sentenc.PairEncoder.save`.

    Args:
        folder: The folder to write.
        checkpoint: ``dim``, ``space``, metadata and card. The halves and the golden vectors are added.
        halves: Both halves by name.
        references: Whether a half that is a shipped model is written as its name.
    """
    with replacing_folder(Path(folder), CONFIG, CheckpointError, "a model folder") as staging:
        described: dict[str, Any] = {}
        for name, half in halves.items():
            # The name of a shipped model cannot state the options with which it was loaded.
            is_shipped = half.shipped is not None and half.fingerprint == half.described["fingerprint"]
            is_reference = references and is_shipped
            if not is_reference:
                half.encoder.save(staging / name)
            described[name] = {
                "model": half.shipped if is_reference else None,
                **({"name": None, "backend": None} if is_reference else wrapping(half.encoder)),
                **half.described,
                "fingerprint": half.fingerprint,
            }
        documents, queries = halves[DOCUMENTS].encoder, halves[QUERIES].encoder
        # sentence-transformers would not cut the vectors of documents.
        is_whole = all(half["model"] is None for half in described.values())
        is_whole = is_whole and documents.dim == checkpoint.config["dim"]
        if is_whole and isinstance(documents, BertEncoder) and has_static_form(queries):
            write_router(staging, documents, queries)
        golden = _golden(documents, queries, checkpoint.config["dim"])
        write_files(staging, replace(checkpoint, config={**checkpoint.config, **described}, golden=golden))


def read_half(checkpoint: Checkpoint, name: str) -> dict[str, Any]:
    """Returns the description of a half, ``"documents"`` or ``"queries"``, in the folder of a pair.

    Raises:
        CheckpointError: It is missing or damaged.
    """
    described = checkpoint.config.get(name)
    if not isinstance(described, dict) or set(described) != _HALF_KEYS:
        raise CheckpointError(
            f"config.json has {name} {described!r}, expected an object with {', '.join(sorted(_HALF_KEYS))}"
        )
    prompts = described["prompts"]
    if not isinstance(prompts, dict) or not isinstance(described["max_tokens"], int):
        raise CheckpointError(
            f"config.json has damaged {name}: prompts {prompts!r} and max_tokens {described['max_tokens']!r}, "
            "expected an object and an integer"
        )
    return described


def check_fingerprint(encoder: Encoder, described: Mapping[str, Any], folder: Path) -> None:
    """Checks that an encoder is the one with which a pair or a hybrid encoder was saved.

    Args:
        encoder: The encoder, before options change it.
        described: ``model``, the name of the shipped model that it should be or None, and its ``fingerprint``.
        folder: The folder from which it was loaded, unless it is a shipped model.

    Raises:
        CheckpointError: The encoder has another fingerprint.
    """
    actual, expected = encoder.fingerprint(), described["fingerprint"]
    if actual == expected:
        return
    if described["model"] is not None:
        raise CheckpointError(
            f"the pair was saved with {described['model']} of fingerprint {expected}, but this version of sentenc "
            f"ships one of fingerprint {actual}: their vectors are not comparable"
        )
    raise CheckpointError(
        f"{folder} has the fingerprint {actual}, expected {expected}, which {folder.parent / CONFIG} states: it was "
        "replaced or changed after it was saved"
    )


def wrapping(encoder: Encoder) -> dict[str, Any]:
    """Returns the name and backend by which an encoder is loaded from its folder again; both None for most."""
    # A wrapped model is loaded by PyTorch again, and its fingerprint depends on its name.
    is_wrapped = isinstance(encoder, SentenceTransformerEncoder)
    return {
        "name": encoder.name if isinstance(encoder, SentenceTransformerEncoder) else None,
        "backend": "torch" if is_wrapped else None,
    }


def _golden(documents: Encoder, queries: Encoder, dim: int) -> dict[str, Any]:
    options: dict[str, Any] = {"truncate_dim": dim, "on_overflow": "ignore"}
    vectors = {
        "embeddings": _float32(documents).encode(GOLDEN_TEXTS, **options),
        "queries": _float32(queries).encode_query(GOLDEN_TEXTS, **options),
    }
    rows = {name: [[round(float(x), 7) for x in row] for row in own] for name, own in vectors.items()}
    return {"texts": GOLDEN_TEXTS, **rows}


def _float32(encoder: Encoder) -> Any:
    # Rounding to int8 depends on the last bits of a sum, and these depend on the processor.
    with_compute = getattr(encoder, "with_compute", None)
    return encoder if with_compute is None else with_compute("float32")
