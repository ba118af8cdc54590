"""Saves and loads the state of a training run, and refuses the state of a run with other settings."""

import json
import pickle
import zipfile
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch

from sentenc.errors import CheckpointError
from sentenc.io.atomic import replacing_file

# Increased if a change of the content makes older states unreadable.
_VERSION = 1


def save_state(path: Path, state: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Writes a state atomically.

    Args:
        path: The file.
        state: Tensors, numbers, strings, and lists and dicts of these.
        settings: JSON values that identify the run; :func:`load_state` compares them.
    """
    # PyTorch's own files do not report why they could not be written.
    with replacing_file(path) as temporary, open(temporary, "wb") as file:
        torch.save({"version": _VERSION, "settings": json.dumps(settings), "state": dict(state)}, file)


def load_state(path: Path, settings: Mapping[str, Any], free: Collection[str] = ()) -> dict[str, Any]:
    """Reads a state into tensors on the CPU.

    Args:
        path: The file.
        settings: The settings of the run that resumes.
        free: Settings that may differ, each as "section.key".

    Raises:
        CheckpointError: The file is damaged, or has another version.
        ValueError: The settings differ; the message names each difference.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
        version, saved_settings = content["version"], json.loads(content["settings"])
        state: dict[str, Any] = content["state"]
    except (RuntimeError, pickle.UnpicklingError, EOFError, KeyError, TypeError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} is damaged, or not the state of a training run ({error}): delete it to start again"
        ) from error
    if version != _VERSION:
        raise CheckpointError(f"{path} has version {version}, expected {_VERSION}")
    changes = differences(saved_settings, json.loads(json.dumps(settings)), free)
    if changes:
        raise ValueError(
            f"{path} is the state of a run with other settings: {'; '.join(changes)}. Only "
            f"{', '.join(free) or 'nothing'} may change: undo the changes, choose another work folder, or "
            "start again (--fresh, or resume=False)"
        )
    return state


def differences(
    before: Mapping[str, Any], after: Mapping[str, Any], free: Collection[str] = (), prefix: str = ""
) -> list[str]:
    """Lists the differences of two trees of JSON values, each as "seed was 1 and is 2".

    Args:
        before: The first tree.
        after: The second tree.
        free: Keys that may differ, each as "section.key".
        prefix: The path of the trees, with a dot at its end.
    """
    changes: list[str] = []
    for key in sorted({*before, *after}):
        old, new = before.get(key, "absent"), after.get(key, "absent")
        if f"{prefix}{key}" in free:
            continue
        if isinstance(old, dict) and isinstance(new, dict):
            changes += differences(old, new, free, f"{prefix}{key}.")
        elif old != new:
            changes.append(f"{prefix}{key} was {old!r} and is {new!r}")
    return changes


def random_state(device: torch.device) -> dict[str, torch.Tensor]:
    """Returns the state of torch's default generators: on the CPU, and on the GPU if ``device`` is one."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_random_state(state: Mapping[str, torch.Tensor], device: torch.device) -> None:
    """Restores a state that :func:`random_state` returned."""
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"], device)
