"""Fits a CSE into the vector space of another encoder."""

import os
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sentenc.encoders.base import Encoder
from sentenc.encoders.comparison import unit_rows
from sentenc.encoders.cse.encoder import CSE
from sentenc.encoders.endpoint import EndpointEncoder
from sentenc.registry import load, pooling_required
from sentenc.retrieval.words import hybrid_alpha, word_settings
from sentenc.training.alignment.card import alignment_card
from sentenc.training.alignment.low_rank import fitting_targets
from sentenc.training.alignment.measuring import (
    JudgedCollection,
    alpha_without_judgments,
    common_neighbors,
    judged_scores,
    mean_cosine,
    read_judged,
)
from sentenc.training.alignment.model import build_model, choose_tokenizer
from sentenc.training.alignment.report import AlignmentReport
from sentenc.training.alignment.settings import AlignmentSettings
from sentenc.training.alignment.table import fit_table
from sentenc.training.alignment.teacher_vectors import TeacherVectors
from sentenc.training.alignment.texts import AlignmentTexts, choose_texts
from sentenc.training.alignment.tokens import FloatArray, Rows, TokenizedTexts
from sentenc.validation import check_integer

# The part of the constant that the model has. It is the same for every query, so it moves each document up or
# down for all queries alike. With all of it, cosines are nearest to the teacher's. With a third of it,
# rankings are better: on three development collections, nDCG@10 is 63.0 instead of 62.4, and 62.6 without it.
_CONSTANT = 1 / 3


@dataclass(frozen=True, eq=False)
class Alignment:
    """The result of :func:`align`.

    Attributes:
        encoder: The model. Its ``space`` is that of the teacher.
        report: Its measurements on texts that were kept out of training.
    """

    encoder: CSE
    report: AlignmentReport


def align(
    teacher: Encoder | str | os.PathLike[str] | None = None,
    *,
    queries: Iterable[str] = (),
    corpus: Iterable[str] = (),
    data: str | os.PathLike[str] | None = None,
    endpoint: str | None = None,
    model: str | None = None,
    api_key_env: str = "OPENAI_API_KEY",
    dim: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    settings: AlignmentSettings | None = None,
    name: str | None = None,
    command: str | None = None,
    show_progress_bar: bool = False,
) -> Alignment:
    """Fits a table of word vectors into the vector space of an encoder, so that both can be compared.

    An index whose documents were encoded by the teacher can then be searched with queries that the table
    encodes, at the speed of a CSE. The table is fitted to the teacher's vectors of texts in the role of
    queries, by their cosine.

    Args:
        teacher: The encoder, or the argument of :func:`sentenc.load` for it.
        queries: Queries, or texts like them: the more, the better. They may be of any kind of text.
        corpus: The documents of the collection to search. Their sentences serve as queries as well, or alone
            if there are none.
        data: A folder in BEIR's layout with judged queries, for the report. Its documents become the
            collection if ``corpus`` is empty. Its queries are not used for training.
        endpoint: The base URL of an OpenAI-compatible endpoint, instead of ``teacher``. Pass an
            :class:`~sentenc.EndpointEncoder` as the teacher for more options.
        model: The name of the model at the endpoint.
        api_key_env: The name of the environment variable with the key of the endpoint.
        dim: Keeps this number of leading components, for a teacher that was trained for it (Matryoshka). An
            index must then have as many.
        cache: A folder for the teacher's vectors. A run that was stopped continues from it.
        settings: The settings of the fit; see
            :class:`~sentenc.training.alignment.settings.AlignmentSettings`.
        name: The name of the model in its card.
        command: The command that the model card states.
        show_progress_bar: Draw bars on standard error.

    Returns:
        The model and its report.

    Raises:
        TypeError: A text is no str, or an option is of the wrong type.
        ValueError: There are too few texts, or an option is out of range.
        CacheError: ``cache`` has the vectors of another encoder.
        DataError: ``data`` is no folder of judgments.
        EndpointError: The endpoint failed. The same call continues with the vectors in ``cache``.
    """
    settings = settings or AlignmentSettings()
    if endpoint is not None or model is not None or teacher is None:
        teacher = _at_endpoint(teacher, endpoint, model, api_key_env)
    if not isinstance(teacher, Encoder):
        with pooling_required():
            teacher = load(teacher)
    if dim is not None:
        check_integer("dim", dim, at_most=teacher.similarity_dim)
    judged = None if data is None else read_judged(Path(data))
    corpus = list(corpus) or ([] if judged is None else judged.documents)
    texts = choose_texts(queries, corpus, settings, excluded=[] if judged is None else judged.queries.texts)
    folder = None if cache is None else Path(cache)
    vectors = TeacherVectors(teacher, folder, dim=dim, show_progress_bar=show_progress_bar)
    held_out, _ = vectors(texts.held_out, "query", "vectors of texts kept out")
    documents, _ = vectors(texts.documents, "document", "vectors of documents")
    rows = vectors.fill(texts.training, "query", "vectors of queries", settings.max_minutes)
    chosen = [texts.training[i] for i in rows.tolist()]
    targets, axes = fitting_targets(
        lambda part: vectors.read([chosen[i] for i in part.tolist()], "query"), len(chosen), settings.seed
    )
    tokenizer, origin = choose_tokenizer(teacher)
    begin = time.perf_counter()
    tokenized = TokenizedTexts(tokenizer, chosen)
    table = fit_table(tokenized, targets, settings, show_progress_bar=show_progress_bar)
    seconds = time.perf_counter() - begin
    encoder = build_model(table.with_constant(_CONSTANT), tokenizer, _metadata(teacher, dim, name), axes)
    report = _report(encoder, teacher, texts, rows, held_out, documents, judged, vectors, origin, seconds)
    if report.alpha is not None:
        encoder.metadata["hybrid_alpha"] = report.alpha
    encoder.metadata["alignment"] = report.to_dict()
    encoder.card = alignment_card(encoder.metadata["name"], _name_of(teacher), report, command)
    return Alignment(encoder, report)


def _at_endpoint(
    teacher: Encoder | str | os.PathLike[str] | None,
    endpoint: str | None,
    model: str | None,
    api_key_env: str,
) -> EndpointEncoder:
    if teacher is not None or endpoint is None or model is None:
        raise ValueError(
            f"teacher is {teacher!r}, endpoint is {endpoint!r} and model is {model!r}, expected either a teacher "
            "or endpoint and model"
        )
    return EndpointEncoder(endpoint, model, api_key_env=api_key_env)


def _metadata(teacher: Encoder, dim: int | None, name: str | None) -> dict[str, Any]:
    is_whole = dim is None or dim == teacher.similarity_dim
    space = teacher.space if is_whole else f"{teacher.space}[:{dim}]"
    metadata = {
        "name": name or f"{_name_of(teacher)}-table",
        "summary": f"word vectors in the space of {_name_of(teacher)}, for queries",
        "teacher": _name_of(teacher),
        "space": space,
        "hybrid_alpha": hybrid_alpha(teacher),
    }
    if "language" in teacher.metadata:
        metadata["language"] = teacher.metadata["language"]
    return metadata


def _name_of(teacher: Encoder) -> str:
    return str(teacher.metadata.get("name") or getattr(teacher, "name", None) or type(teacher).__name__)


def _encoded(encoder: CSE, texts: Sequence[str]) -> FloatArray:
    return unit_rows(encoder.encode(list(texts), on_overflow="ignore"), "vectors")


def _report(
    encoder: CSE,
    teacher: Encoder,
    texts: AlignmentTexts,
    rows: Rows,
    held_out: FloatArray,
    documents: FloatArray,
    judged: JudgedCollection | None,
    vectors: TeacherVectors,
    tokenizer: str,
    seconds: float,
) -> AlignmentReport:
    own = _encoded(encoder, texts.held_out)
    language = word_settings(None, teacher)["language"]
    overlap = alpha = scores = None
    if len(documents):
        overlap = common_neighbors(own, held_out, documents)
    if len(documents) and judged is None:
        alpha = alpha_without_judgments(
            texts.held_out, own, held_out, texts.documents, documents,
            teacher_alpha=hybrid_alpha(teacher), language=language,
        )  # fmt: skip
    if judged is not None:
        expected, _ = vectors(judged.queries.texts, "query", "vectors of judged queries")
        collection, _ = vectors(judged.documents, "document", "vectors of documents")
        asked = _encoded(encoder, judged.queries.texts)
        scores, alpha = judged_scores(judged, asked, expected, collection, language)
    n_queries = int(texts.are_queries[rows].sum())
    return AlignmentReport(
        dim=encoder.dim, n_queries=n_queries, n_sentences=len(rows) - n_queries, n_vectors=0,
        n_held_out=len(texts.held_out), n_documents=len(documents),
        cosine=mean_cosine(own, held_out), overlap=overlap, alpha=alpha,
        judged=scores, tokenizer=tokenizer, seconds=seconds,
    )  # fmt: skip
