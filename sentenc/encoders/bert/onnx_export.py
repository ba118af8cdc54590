"""A TinyBERT as an ONNX file, and the gate that a file has to pass."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sentenc._version import __version__
from sentenc.encoders.bert.config import Compute
from sentenc.encoders.bert.onnx_graph import bert_graph
from sentenc.encoders.golden import GOLDEN_TEXTS
from sentenc.io.atomic import replacing_file
from sentenc.texts import as_text_list

if TYPE_CHECKING:
    from sentenc.encoders.bert.encoder import BertEncoder

# Vectors in another arithmetic must be about those of float32, and order pairs as well.
LEAST_COSINE = 0.99
LARGEST_DROP = 0.5


def export(
    encoder: "BertEncoder",
    path: Path,
    compute: Compute,
    texts: list[str] | None,
    sts: Path | None,
) -> dict[str, Any]:
    """See :meth:`~sentenc.BertEncoder.export_onnx`."""
    model = bert_graph(encoder.config, encoder._weights, compute=compute)
    exact, candidate = encoder.computing("float32"), encoder.computing(compute)
    candidate._use(model)
    report = {
        "sentenc_version": __version__,
        "inputs": ["input_ids", "attention_mask"],
        "output": "sentence_embedding",
        "dim": encoder.dim,
        "max_tokens": encoder.max_tokens,
        "normalize": encoder.config.normalize,
        "compute": compute,
        "fingerprint": candidate.fingerprint(),
        "bytes": len(model),
        "sha256": hashlib.sha256(model).hexdigest(),
        **_cosines(exact, candidate, GOLDEN_TEXTS if texts is None else as_text_list(texts)),
        **({} if sts is None else _correlations(exact, candidate, sts)),
    }
    if report["mean_cosine"] < LEAST_COSINE or report.get("drop", 0.0) > LARGEST_DROP:
        found = {name: report[name] for name in ("mean_cosine", "min_cosine", "drop") if name in report}
        raise ValueError(
            f"compute={compute!r} gives {json.dumps(found)}, expected a mean cosine of at least {LEAST_COSINE} "
            f"and a drop of at most {LARGEST_DROP}: nothing was written"
        )
    beside = path.with_name(f"{path.name}.json")
    with replacing_file(path) as temporary, replacing_file(beside) as about:
        temporary.write_bytes(model)
        about.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    return report


def _cosines(exact: "BertEncoder", candidate: "BertEncoder", texts: list[str]) -> dict[str, Any]:
    wanted, found = (
        encoder.encode(texts, normalize_embeddings=True, on_overflow="ignore")
        for encoder in (exact, candidate)
    )
    # Texts without a known token have no direction to compare.
    rows = np.einsum("ij,ij->i", wanted, found)[wanted.any(axis=1)]
    if not len(rows):
        raise ValueError(f"none of {len(texts)} texts has a known token, expected at least one to compare")
    return {"texts": len(rows), "mean_cosine": float(rows.mean()), "min_cosine": float(rows.min())}


def _correlations(exact: "BertEncoder", candidate: "BertEncoder", sts: Path) -> dict[str, float]:
    from sentenc.training.recipes.dev_score import sts_score

    score = sts_score(sts)
    before, after = score(exact), score(candidate)
    return {"spearman_float32": before, "spearman": after, "drop": before - after}
