"""Hashes that identify encoders."""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt


def digest(parts: Sequence[bytes]) -> str:
    """Returns 16 hexadecimal digits that change if any of the parts changes."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(len(part).to_bytes(8, "little"))
        sha.update(part)
    return sha.hexdigest()[:16]


def model_digest(
    settings: str, tokenizer: str | None, weights: Iterable[tuple[str, npt.NDArray[Any]]]
) -> str:
    """Returns the digest of the settings, the tokenizer (if there is one) and the named weights of a model."""
    parts = [text.encode() for text in (settings, tokenizer) if text is not None]
    for name, value in weights:
        parts += [name.encode(), np.ascontiguousarray(value).tobytes()]
    return digest(parts)


def prompted_fingerprint(fingerprint: str, prompts: Mapping[str, str]) -> str:
    """Returns the fingerprint of an encoder with prompts, from its fingerprint without them.

    Without prompts, or with empty ones, both are equal.
    """
    stated = {name: prompt for name, prompt in prompts.items() if prompt}
    return (
        digest([fingerprint.encode(), json.dumps(stated, sort_keys=True).encode()]) if stated else fingerprint
    )
