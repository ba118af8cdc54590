"""The state of a training run on disk: whole or not there, and of the same run or refused."""

import json
import pickle
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from sentenc.errors import CheckpointError
from sentenc.io.atomic import replacing_file

# Raised when the content changes so that older states cannot be read.
_VERSION = 1


def save_state(path: Path, state: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Writes a state, atomically.

    Args:
        path: The file.
        state: Tensors, numbers, text, and lists and dicts of them.
        settings: JSON values; what :func:`load_state` compares.
    """
    with replacing_file(path) as temporary:
        torch.save({"version": _VERSION, "settings": json.dumps(settings), "state": dict(state)}, temporary)


def load_state(path: Path, settings: Mapping[str, Any], free: Collection[str] = ()) -> dict[str, Any]:
    """Reads a state, on the CPU.

    Args:
        path: The file.
        settings: Those of the run that wants to go on.
        free: Settings that may differ: "section.key".

    Raises:
        CheckpointError: The file is damaged, or of another version.
        ValueError: The settings differ; the message says in what.
    """
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        version, known = found["version"], json.loads(found["settings"])
        state: dict[str, Any] = found["state"]
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} is no state of a training run, or damaged ({error}): delete it to begin again"
        ) from error
    if version != _VERSION:
        raise CheckpointError(f"{path} is a state of version {version}, expected {_VERSION}")
    changes = differences(known, json.loads(json.dumps(settings)), free)
    if changes:
        raise ValueError(
            f"{path} is the state of a run with other settings: {'; '.join(changes)}. Only "
            f"{', '.join(free) or 'nothing'} may change; undo it, or choose another folder or a fresh start"
        )
    return state


def differences(
    before: Mapping[str, Any], after: Mapping[str, Any], free: Collection[str] = (), prefix: str = ""
) -> list[str]:
    """In words, where two trees of JSON values differ, but for free keys: "training.seed was 1 and is 2"."""
    found: list[str] = []
    for key in sorted({*before, *after}):
        old, new = before.get(key, "absent"), after.get(key, "absent")
        if f"{prefix}{key}" in free:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, free, f"{prefix}{key}.")
        elif old != new:
            found.append(f"{prefix}{key} was {old!r} and is {new!r}")
    return found


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """The state of torch's own generators, on the CPU and on a GPU."""
    found = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        found["cuda"] = torch.cuda.get_rng_state(device)
    return found


def set_random_state(state: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Goes back to a state of :func:`random_state`."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
