"""Fits a CSE to texts that have vectors, without the encoder that made the vectors."""

import os
import time
from dataclasses import replace
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np

from sentenc.encoders.comparison import unit_rows
from sentenc.encoders.cse.encoder import CSE
from sentenc.io.text_vectors import TextVectors
from sentenc.retrieval.index_reader import IndexReader
from sentenc.retrieval.vector_sources import read_text_vectors
from sentenc.retrieval.words import word_settings
from sentenc.training.alignment.aligning import Alignment
from sentenc.training.alignment.card import alignment_card
from sentenc.training.alignment.low_rank import fitting_targets
from sentenc.training.alignment.measuring import common_neighbors, judged_scores, mean_cosine, read_judged
from sentenc.training.alignment.model import build_model, choose_tokenizer
from sentenc.training.alignment.report import AlignmentReport
from sentenc.training.alignment.settings import AlignmentSettings
from sentenc.training.alignment.table import fit_table
from sentenc.training.alignment.tokens import FloatArray, TokenizedTexts

_ROUNDS, _BATCH_SIZE = 10, 64
# The number of tokens of a usual query. In a query of this length, the constant has the part that it has in a
# document of average length.
_QUERY_TOKENS = 10
_FEWEST_TEXTS = 20


def align_vectors(
    source: TextVectors | IndexReader | str | os.PathLike[str],
    *,
    space: str | None = None,
    data: str | os.PathLike[str] | None = None,
    settings: AlignmentSettings | None = None,
    name: str | None = None,
    command: str | None = None,
    show_progress_bar: bool = False,
) -> Alignment:
    """Fits a table of word vectors to texts and their vectors, so that queries can be compared with them.

    The encoder of the vectors is not needed. The quality depends on how much queries differ from these texts:
    if the teacher is available, :func:`align` is better.

    Args:
        source: An index or its folder, a Parquet or .npz file with texts and vectors, a folder of such Parquet
            files, or what :func:`~sentenc.retrieval.vector_sources.read_text_vectors` returned for one.
        space: The space of the vectors, the ``space`` of their encoder. By default it is the space or the
            fingerprint that the source states, or else a hash of the vectors.
        data: A folder in BEIR's layout with judged queries for the report. Its documents must be among the
            texts.
        settings: The settings of the fit.
        name: The name of the model in its card.
        command: The command that the model card states.
        show_progress_bar: Draw bars on standard error.

    Returns:
        The model and its report. Cosine and neighbors are those of whole documents that were kept out.

    Raises:
        TextFileError: ``source`` has no texts with vectors.
        ValueError: There are too few texts, or a document of ``data`` has no vector.
    """
    settings = (settings or AlignmentSettings()).with_defaults(_ROUNDS, _BATCH_SIZE)
    vectors = source if isinstance(source, TextVectors) else read_text_vectors(source)
    if len(vectors) < _FEWEST_TEXTS:
        raise ValueError(f"there are {len(vectors)} texts with vectors, expected at least {_FEWEST_TEXTS}")
    order = np.random.default_rng(settings.seed).permutation(len(vectors))[: settings.max_texts]
    n_held_out = max(1, min(settings.held_out, len(order) // 10))
    held_out, training = order[:n_held_out], np.sort(order[n_held_out:])
    tokenizer, origin = choose_tokenizer(None)
    begin = time.perf_counter()
    targets, axes = fitting_targets(
        lambda rows: vectors.vectors(training[rows]), len(training), settings.seed
    )
    tokenized = TokenizedTexts(tokenizer, [vectors.texts[i] for i in training.tolist()])
    table = fit_table(tokenized, targets, settings, show_progress_bar=show_progress_bar)
    seconds = time.perf_counter() - begin
    metadata = _metadata(vectors, space, name)
    whole = build_model(table, tokenizer, metadata, axes)
    # A sample: neighboring items of an index are often alike.
    documents = vectors.vectors(order[n_held_out:][: settings.max_documents])
    wanted = vectors.vectors(held_out)
    own = _encoded(whole, [vectors.texts[i] for i in held_out.tolist()])
    part = min(1.0, _QUERY_TOKENS / max(float(tokenized.lengths.mean()), 1.0))
    encoder = build_model(table.with_constant(part), tokenizer, metadata, axes)
    report = AlignmentReport(
        dim=encoder.dim, n_queries=0, n_sentences=0, n_vectors=len(training), n_held_out=n_held_out,
        n_documents=len(documents), cosine=mean_cosine(own, wanted),
        overlap=common_neighbors(own, wanted, documents), alpha=None, judged=None, tokenizer=origin,
        seconds=seconds,
    )  # fmt: skip
    if data is not None:
        report = _judged(report, encoder, vectors, Path(data))
    if report.alpha is not None:
        metadata["hybrid_alpha"] = report.alpha
    metadata["alignment"] = report.to_dict()
    encoder.card = alignment_card(metadata["name"], metadata["teacher"], report, command)
    return Alignment(encoder, report)


def _metadata(vectors: TextVectors, space: str | None, name: str | None) -> dict[str, Any]:
    described = vectors.described
    teacher = str(described.get("model") or "an unknown encoder")
    stated = space or described.get("space") or described.get("fingerprint")
    if not stated:
        sample = vectors.vectors(np.arange(min(len(vectors), 100)))
        stated = f"vectors-{blake2b(sample.tobytes(), digest_size=8).hexdigest()}"
    metadata = {
        "name": name or "aligned-table",
        "summary": f"word vectors in the space of {teacher}, for queries",
        "teacher": teacher,
        "space": str(stated),
    }
    # An index states them.
    return metadata | {key: described[key] for key in ("language", "hybrid_alpha") if key in described}


def _encoded(encoder: CSE, texts: list[str]) -> FloatArray:
    return unit_rows(encoder.encode(texts, on_overflow="ignore"), "vectors")


def _judged(report: AlignmentReport, encoder: CSE, vectors: TextVectors, folder: Path) -> AlignmentReport:
    collection = read_judged(folder)
    rows = {text: row for row, text in enumerate(vectors.texts)}
    missing = [text for text in collection.documents if text.strip() and text not in rows]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(collection.documents)} documents of {folder} have no vector in "
            f"{vectors.source}, expected all of them; the first is {missing[0][:80]!r}"
        )
    documents = np.zeros((len(collection.documents), vectors.dim), np.float32)
    present = [row for row, text in enumerate(collection.documents) if text in rows]
    documents[present] = vectors.vectors([rows[collection.documents[row]] for row in present])
    own = _encoded(encoder, collection.queries.texts)
    language = word_settings(None, encoder)["language"]
    scores, alpha = judged_scores(collection, own, None, documents, language)
    return replace(report, judged=scores, alpha=alpha)
