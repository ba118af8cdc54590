"""The dev score of a run: similarity, search and classification, and their weighted mean."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.errors import DataError, TextFileError
from sentenc.evaluation.beir import CORPUS, QUERIES, Queries, judgments_file, read_documents, read_queries
from sentenc.evaluation.probes.base import Labeled, LogisticProbe, Split
from sentenc.evaluation.protocols.base import EncodedPart
from sentenc.evaluation.protocols.search import cosine_scores, search_metrics
from sentenc.evaluation.readers import Examples
from sentenc.evaluation.tasks import Task
from sentenc.io.text import open_text
from sentenc.metrics import paired_cosine, pearson, spearman
from sentenc.splits import validation_folds
from sentenc.training.config.evaluation import EvaluationConfig, ScoreConfig
from sentenc.training.engine.dev_score import DevScore

Score = Callable[[Encoder], float]

_DEFAULT_FOLDS = 5
# The seed of all samples and folds: they are the same in every evaluation and every run.
_SEED = 0


def dev_score(config: EvaluationConfig) -> Callable[[Encoder], DevScore]:
    """Reads the data of an evaluation and returns a function that scores an encoder on them.

    Raises:
        SentencError: A file is missing or malformed.
        OSError: A file cannot be read.
    """
    scores = {entry.label: _SCORES[entry.kind](entry) for entry in config.entries}
    weights = np.array([entry.weight for entry in config.entries])

    def score(encoder: Encoder) -> DevScore:
        parts = {name: compute(encoder) for name, compute in scores.items()}
        # Scores of weight 0 may be anything, also NaN.
        used = [part for part, weight in zip(parts.values(), weights, strict=True) if weight]
        return DevScore(float(np.average(used, weights=weights[weights > 0])), parts)

    return score


def sts_score(path: Path, metric: str = "spearman", max_examples: int | None = None) -> Score:
    """Reads scored sentence pairs and returns a function that scores an encoder on them.

    Args:
        path: TSV file without a header: a score and two texts on each line.
        metric: "spearman" or "pearson".
        max_examples: Number of pairs that are drawn; None for all.

    Returns:
        A function that returns the correlation of an encoder's cosines with the scores, times 100.

    Raises:
        TextFileError: A line does not have this form (the message contains its number), or there are fewer
            than two lines.
        OSError: The file cannot be read.
    """
    rows: list[tuple[float, str, str]] = []
    with open_text(str(path)) as lines:
        for number, line in enumerate(lines, 1):
            parts = line.rstrip("\r\n").split("\t")
            try:
                rating, first, second = float(parts[0]), *parts[1:]
            except ValueError as error:
                raise TextFileError(
                    f"{path}, line {number}: {line[:60]!r}, expected score<TAB>text<TAB>text: {error}"
                ) from error
            rows.append((rating, first, second))
    if len(rows) < 2:
        raise TextFileError(f"{path} has {len(rows)} pairs, expected at least 2")
    rows = [rows[i] for i in _sample(len(rows), max_examples)]
    correlation = {"spearman": spearman, "pearson": pearson}[metric]
    targets = np.array([rating for rating, _, _ in rows])
    left, right = [first for _, first, _ in rows], [second for _, _, second in rows]

    def score(encoder: Encoder) -> float:
        a, b = (_similarity_vectors(encoder.encode, encoder, texts) for texts in (left, right))
        return 100 * correlation(paired_cosine(a, b), targets)

    return score


def search_score(entry: ScoreConfig) -> Score:
    """Reads documents and judged queries, and returns a function that scores the search of an encoder.

    Every document is encoded once for an evaluation, in batches of texts of similar length.

    Raises:
        DataError: A file is missing or malformed, or no relevant document is in the collection.
    """
    folder = Path(entry.path)
    documents = read_documents([folder / CORPUS], "utf-8", ())
    judged = read_queries([folder / QUERIES, judgments_file(folder, entry.split)], "utf-8", ())
    chosen = _sample(len(judged), entry.max_queries)
    queries = Queries(
        [judged.texts[i] for i in chosen],
        None,
        np.zeros(0),
        ids=tuple(judged.ids[i] for i in chosen),
        grades=tuple(judged.grades[i] for i in chosen),
    )
    relevant = {name for grades in queries.grades for name, grade in grades.items() if grade > 0}
    is_relevant = np.array([name in relevant for name in documents.ids], np.bool_)
    if not is_relevant.any():
        raise DataError(
            f"{folder}: {CORPUS} has none of the {len(relevant)} documents that are relevant for its queries"
        )
    rows = _sample(len(documents), entry.max_documents, is_relevant)
    ids, texts = [documents.ids[i] for i in rows], [documents.texts[i] for i in rows]

    def score(encoder: Encoder) -> float:
        vectors = _similarity_vectors(encoder.encode_document, encoder, texts)
        query_vectors = _similarity_vectors(encoder.encode_query, encoder, queries.texts)
        cosines = cosine_scores(vectors, query_vectors, texts)
        return search_metrics(ids, queries, cosines)[entry.chosen_metric]

    return score


def classification_score(entry: ScoreConfig) -> Score:
    """Reads labeled texts or pairs, and returns a function that cross-validates a classifier on them.

    The classifier is the logistic regression of :func:`sentenc.evaluate`, on all columns of the vectors. The
    score is the mean accuracy of the folds with the best of its regularization strengths.

    Raises:
        DataError: The file is missing or malformed, has no labels, or all labels are equal.
    """
    task = Task.from_file(entry.path)
    if task.protocol.part_names != ("all",):
        raise DataError(f"{entry.path} has scores, expected labels for a classification")
    read = task.read("", "own")["all"]
    rows = _sample(len(read), entry.max_examples)
    partners = None if read.partners is None else [read.partners[i] for i in rows]
    classes, labels = np.unique(read.targets[rows], return_inverse=True)
    examples = Examples([read.texts[i] for i in rows], partners, labels)
    rng = np.random.default_rng(_SEED)
    folds = validation_folds(labels, entry.folds or _DEFAULT_FOLDS, rng)
    if len(classes) < 2 or len(folds) < 2:
        raise DataError(f"{entry.path} has {len(classes)} labels, expected at least 2 with 2 examples each")
    everything = np.arange(len(labels))
    splits = [Split(np.setdiff1d(everything, fold), fold) for fold in folds]
    probe = LogisticProbe()

    def score(encoder: Encoder) -> float:
        encode = partial(encoder.encode, on_overflow="ignore")
        partner_vectors = None if examples.partners is None else encode(examples.partners)
        features = EncodedPart(examples, encode(examples.texts), partner_vectors).features()
        data = Labeled(features, labels, len(classes))
        accuracies = probe.search(data, splits, probe.grid("k-fold"), rng)
        return 100 * float(accuracies.mean(axis=0).max())

    return score


_SCORES: dict[str, Callable[[ScoreConfig], Score]] = {
    "sts": lambda entry: sts_score(Path(entry.path), entry.chosen_metric, entry.max_examples),
    "search": search_score,
    "classification": classification_score,
}


def _similarity_vectors(
    encode: Callable[..., npt.NDArray[np.float32]], encoder: Encoder, texts: list[str]
) -> npt.NDArray[np.float32]:
    # The columns that similarity compares.
    return encode(texts, truncate_dim=encoder.similarity_dim, on_overflow="ignore")


def _sample(n: int, most: int | None, wanted: npt.NDArray[np.bool_] | None = None) -> list[int]:
    """Returns at most ``most`` of n rows in order: all wanted ones, even if they are more, and random others."""
    if most is None or most >= n:
        return list(range(n))
    order = np.random.default_rng(_SEED).permutation(n)
    if wanted is not None:
        order = order[np.argsort(~wanted[order], kind="stable")]
        most = max(most, int(wanted.sum()))
    return [int(row) for row in np.sort(order[:most])]
