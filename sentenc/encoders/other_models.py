"""Recognizes model folders that contain no sentence encoder: rerankers, classifiers and sparse encoders."""

import json
from pathlib import Path
from typing import Any

from sentenc.errors import CheckpointError

# By the end of the name of an architecture of transformers.
_HEADS = {
    "ForSequenceClassification": "a classifier of texts or a cross-encoder (reranker)",
    "ForTokenClassification": "a tagger of tokens",
    "ForQuestionAnswering": "a model that finds answers in a text",
    "ForMultipleChoice": "a model that chooses among answers",
}
# By the kind that config_sentence_transformers.json states.
_KINDS = {
    "CrossEncoder": "a cross-encoder (reranker)",
    "SparseEncoder": "a sparse encoder, whose vectors have a component for every token",
}


def refuse_other_models(folder: Path) -> None:
    """Raises an error if a folder of another library contains a model that gives no sentence vectors.

    Args:
        folder: A folder of Hugging Face or sentence-transformers.

    Raises:
        CheckpointError: It contains a cross-encoder, a classifier or a sparse encoder.
    """
    kind = _KINDS.get(str(_read(folder / "config_sentence_transformers.json").get("model_type")))
    if kind is None and not (folder / "modules.json").exists():
        architectures = _read(folder / "config.json").get("architectures")
        names = [str(name) for name in architectures] if isinstance(architectures, list) else []
        matches = ((name, text) for name in names for end, text in _HEADS.items() if name.endswith(end))
        kind = next((f"{text}, {name}" for name, text in matches), None)
    if kind is not None:
        raise CheckpointError(
            f"{folder} contains {kind}, expected an encoder of sentences: a model that was trained to score or "
            "classify texts has no vectors that can be compared"
        )


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}
