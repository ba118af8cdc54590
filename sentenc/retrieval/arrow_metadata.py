"""The metadata of an Arrow schema that describe the encoder and the settings of an index."""

import json
import math
from collections.abc import Mapping
from typing import Any

from sentenc.retrieval.chunking import Chunking
from sentenc.retrieval.manifest import Manifest


def schema_metadata(manifest: Manifest) -> dict[str, str]:
    """Returns the metadata of the table of an index."""
    described: dict[str, str] = {"metric": manifest.metric, "next_id": str(manifest.next_id)}
    for key, value in (manifest.encoder or {}).items():
        if value is not None:
            described[key] = value if isinstance(value, str) else json.dumps(value)
    if manifest.words is not None:
        described |= {"language": manifest.words["language"], "hybrid_alpha": str(manifest.words["alpha"])}
    if manifest.chunking is not None:
        described["chunking"] = json.dumps(manifest.chunking)
    return described


def described_encoder_of(described: Mapping[str, str]) -> dict[str, Any] | None:
    """Returns what a schema states about the encoder of its vectors, as a manifest does; None if it is too little.

    Raises:
        ValueError: The options are no object of JSON.
    """
    if "fingerprint" not in described:
        return None
    encoder: dict[str, Any] = {"model": described.get("model"), "fingerprint": described["fingerprint"]}
    if "space" in described:
        encoder["space"] = described["space"]
    if "options" in described:
        encoder["options"] = _object(described, "options")
    return encoder


def described_chunking(described: Mapping[str, str]) -> Chunking | None:
    """Returns how an index divided its texts, or None; raises ValueError if the schema states it wrongly."""
    if "chunking" not in described:
        return None
    values = _object(described, "chunking")
    if set(values) != {"tokens", "overlap"} or any(type(value) is not int for value in values.values()):
        raise _wrong(described, "chunking", "the integers 'tokens' and 'overlap'")
    return Chunking(**values)


def described_alpha(described: Mapping[str, str]) -> float | None:
    """Returns the weight of the vectors in hybrid search, or None; raises ValueError if it is no number."""
    if "hybrid_alpha" not in described:
        return None
    try:
        alpha = float(described["hybrid_alpha"])
    except ValueError:
        alpha = math.nan
    if not 0 <= alpha <= 1:
        raise _wrong(described, "hybrid_alpha", "a number from 0 to 1")
    return alpha


def described_next_id(described: Mapping[str, str]) -> int:
    """Returns the next id that an index assigns; raises ValueError if it is no integer."""
    value = described.get("next_id", "0")
    # The next id of an index whose last id is the greatest one has 64 bits without a sign.
    if not value.isdecimal() or int(value) > 2**63:
        raise _wrong(described, "next_id", "an integer of at least 0")
    return int(value)


def _object(described: Mapping[str, str], key: str) -> dict[str, Any]:
    try:
        value = json.loads(described[key])
    except ValueError as error:
        raise _wrong(described, key, f"an object of JSON ({error})") from error
    if not isinstance(value, dict):
        raise _wrong(described, key, "an object of JSON")
    return value


def _wrong(described: Mapping[str, str], key: str, expected: str) -> ValueError:
    return ValueError(f"{key} in the metadata of the schema is {described[key]!r}, expected {expected}")
