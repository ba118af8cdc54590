"""Downloads the files of a model from the Hugging Face Hub: those that an encoder reads, and no others."""

import glob
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from sentenc.errors import MissingExtraError, ModelNotFoundError

# Configurations, vocabularies, tokenizers, weights and model cards.
_SUFFIXES = (".json", ".txt", ".model", ".safetensors", ".npy", ".md")
_PICKLE = "pytorch_model.bin"
# Folders of copies for other runtimes, and of the states of training.
_OTHERS = {"onnx", "openvino", "coreml", "tflite", "gguf", "original", "runs", ".git", ".github"}


def download_model(name: str, revision: str | None = None) -> Path:
    """Downloads a model into the cache of huggingface_hub, unless it is there, and returns its folder.

    A connection is opened to find out which files there are, unless ``HF_HUB_OFFLINE`` is set. Then only the cache
    is read.

    Args:
        name: An id, ``"owner/name"``.
        revision: A branch, a tag or a commit; by default the main branch.

    Raises:
        ModelNotFoundError: There is no such model or revision, it cannot be read, or the Hub cannot be reached.
        MissingExtraError: huggingface_hub is not installed.
    """
    try:
        from huggingface_hub import HfApi, constants, snapshot_download
    except ImportError as error:
        raise MissingExtraError("hub", "huggingface_hub", f"downloading {name!r}") from error
    try:
        if constants.HF_HUB_OFFLINE:
            return Path(snapshot_download(name, revision=revision, local_files_only=True))
        listed = HfApi().model_info(name, revision=revision).siblings or []
        files = needed_files(file.rfilename for file in listed)
        return Path(snapshot_download(name, revision=revision, allow_patterns=list(map(glob.escape, files))))
    except Exception as error:  # many kinds: no network, no such id, no access
        which = repr(name) if revision is None else f"{name!r} (revision {revision!r})"
        raise ModelNotFoundError(
            f"{which} is no folder, and downloading it from the Hugging Face Hub failed: {error}"
        ) from error


def needed_files(names: Iterable[str]) -> list[str]:
    """Returns the files of a repository that an encoder reads, sorted.

    Weights in a ``pytorch_model.bin`` are needed only where its folder has no safetensors.
    """
    paths = [PurePosixPath(name) for name in names]
    paths = [path for path in paths if not _OTHERS.intersection(path.parts[:-1])]
    with_safetensors = {path.parent for path in paths if path.suffix == ".safetensors"}
    return sorted(
        str(path)
        for path in paths
        if path.suffix in _SUFFIXES or (path.name == _PICKLE and path.parent not in with_safetensors)
    )
