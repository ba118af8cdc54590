"""Writes a BERT sentence encoder as an ONNX file, after comparing it with the encoder in float32."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sentenc._version import __version__
from sentenc.encoders.base import Encoder
from sentenc.encoders.bert.config import BertConfig, Compute
from sentenc.encoders.golden import GOLDEN_TEXTS
from sentenc.io.atomic import replacing_file
from sentenc.texts import as_text_list

# An exported model must nearly have the vectors of float32, and rank pairs about as well.
MIN_MEAN_COSINE = 0.99
MAX_SCORE_DROP = 0.5

Score = Callable[[Encoder], float]


def export_model(
    model: bytes,
    path: Path,
    config: BertConfig,
    *,
    compute: Compute,
    reference: Encoder,
    candidate: Encoder,
    texts: list[str] | None = None,
    score: Score | None = None,
) -> dict[str, Any]:
    """Writes an ONNX model and its report, ``<path>.json``, if the model is as good as its reference.

    Args:
        model: The serialized ONNX model.
        path: The file to write.
        config: The shape of the model.
        compute: The type in which the model multiplies matrices.
        reference: The encoder in float32.
        candidate: An encoder that computes with ``model``.
        texts: Texts on which both encoders are compared. The golden texts by default.
        score: Scores an encoder, x 100; higher is better.

    Returns:
        The content of the report.

    Raises:
        ValueError: The mean cosine is below 0.99, the score drops by more than 0.5, or no text has a known
            token. No file is written then.
    """
    report = {
        "sentenc_version": __version__,
        "inputs": ["input_ids", "attention_mask"],
        "output": "sentence_embedding",
        "dim": config.hidden_size,
        "max_tokens": config.max_tokens,
        "pooling": config.pooling,
        "normalize": config.normalize,
        "compute": compute,
        "fingerprint": candidate.fingerprint(),
        "bytes": len(model),
        "sha256": hashlib.sha256(model).hexdigest(),
        **_cosines(reference, candidate, GOLDEN_TEXTS if texts is None else as_text_list(texts)),
        **({} if score is None else _scores(reference, candidate, score)),
    }
    if report["mean_cosine"] < MIN_MEAN_COSINE or report.get("drop", 0.0) > MAX_SCORE_DROP:
        measured = {name: report[name] for name in ("mean_cosine", "min_cosine", "drop") if name in report}
        raise ValueError(
            f"{path} was not written: the exported model has {json.dumps(measured)}, "
            f"expected a mean_cosine >= {MIN_MEAN_COSINE} and a drop <= {MAX_SCORE_DROP}"
        )
    report_path = path.with_name(f"{path.name}.json")
    with replacing_file(path) as new_model, replacing_file(report_path) as new_report:
        new_model.write_bytes(model)
        new_report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def _cosines(reference: Encoder, candidate: Encoder, texts: list[str]) -> dict[str, Any]:
    expected, actual = (
        encoder.encode(texts, normalize_embeddings=True, on_overflow="ignore")
        for encoder in (reference, candidate)
    )
    # The vector of a text without known tokens is zero and has no direction to compare.
    cosines = np.einsum("ij,ij->i", expected, actual)[expected.any(axis=1)]
    if not len(cosines):
        raise ValueError(f"none of {len(texts)} texts has a known token, expected at least one to compare")
    return {
        "texts": len(cosines),
        "mean_cosine": float(cosines.mean()),
        "min_cosine": float(cosines.min()),
    }


def _scores(reference: Encoder, candidate: Encoder, score: Score) -> dict[str, float]:
    before, after = score(reference), score(candidate)
    return {"score_float32": before, "score": after, "drop": before - after}
