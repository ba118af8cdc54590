"""The folder of an encoder inside a folder that sentence-transformers loads by a module of sentenc."""

import json
from pathlib import Path

#: The class that ``modules.json`` names, and the folder that it reads.
ENCODER_MODULE = "sentenc.integrations.sentence_transformers.EncoderModule"
ENCODER_FOLDER = "encoder"


def inner_folder(folder: Path) -> Path:
    """Returns the folder of the encoder of such a folder, and any other folder as it is."""
    try:
        modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
        is_ours = [module["type"] for module in modules] == [ENCODER_MODULE]
        path = modules[0]["path"] if is_ours else ""
    except (OSError, ValueError, TypeError, LookupError):
        return folder
    return folder / path / ENCODER_FOLDER if is_ours else folder
