"""evaluate(): read, encode once, score, remember."""

import os
import re
import time
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sentenc.errors import DataMismatchWarning
from sentenc.evaluation import relatedness
from sentenc.evaluation.embedder import CachedEmbedder, Embedder, as_embedder
from sentenc.evaluation.probes.base import Labeled, LogisticProbe, Probe
from sentenc.evaluation.probes.senteval import SentEvalProbe
from sentenc.evaluation.protocols import Outcome, k_fold, nested_k_fold, pair_features, senteval_order, split
from sentenc.evaluation.readers import Examples
from sentenc.evaluation.results import Results, Score, versions
from sentenc.evaluation.senteval_tasks import select_tasks
from sentenc.evaluation.similarity import AGGREGATIONS, Aggregation, correlations
from sentenc.evaluation.tasks import Task
from sentenc.io.progress import Bar, progress_bar
from sentenc.metrics import paired_cosine

_CROSS_VALIDATED = ("nested-k-fold", "k-fold")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that decides a score besides encoder and data.

    Attributes:
        probe: What is trained on the vectors, where something is.
        seed: Of the folds, and of probes that draw.
        folds: Of the cross-validation.
        aggregation: Over the sets of a year of STS.
        raw: Raw text, SentEval's tokenized one, or (None) raw for cosine tasks only.
    """

    probe: Probe
    seed: int = 1111
    folds: int = 10
    aggregation: Aggregation = "all"
    raw: bool | None = None

    def __post_init__(self) -> None:
        if self.aggregation not in AGGREGATIONS:
            raise ValueError(
                f"aggregation is {self.aggregation!r}, expected one of {', '.join(AGGREGATIONS)}"
            )
        for name, low in (("seed", 0), ("folds", 2)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < low:
                raise ValueError(f"{name} is {value!r}, expected an integer of {low} or more")

    def of(self, task: Task) -> dict[str, Any]:
        """The settings that matter to one task, as its score stores them; the others are None."""
        trained = task.protocol != "cosine"
        probe = {"name": self.probe.name, **self.probe.settings()}
        return {
            "aggregation": None if trained else self.aggregation,
            "text": task.text_variant(self.raw),
            "folds": self.folds if task.protocol in _CROSS_VALIDATED else None,
            "seed": self.seed if trained else None,
            "probe": relatedness.SETTINGS if task.protocol == "relatedness" else probe if trained else None,
        }


def evaluate(
    encoder: Any,
    tasks: str | Task | Sequence[str | Task] = "all",
    *,
    data: str | os.PathLike[str] = ".",
    probe: Literal["logistic", "senteval"] | Probe = "logistic",
    seed: int = 1111,
    folds: int = 10,
    aggregation: Aggregation = "all",
    raw: bool | None = None,
    name: str | None = None,
    batch_size: int = 64,
    normalize_embeddings: bool = False,
    truncate_dim: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    show_progress_bar: bool = False,
    on_score: Callable[[Score], None] | None = None,
) -> Results:
    """Scores an encoder on SentEval's tasks, or on one's own.

    Args:
        encoder: An :class:`~sentenc.Encoder`, a sentence-transformers model, or a function that turns a
            list of n str into an array of shape (n, dim).
        tasks: ``"transfer"``, ``"sts"``, ``"all"``, ``"probing"``, a task's name, the path of a CSV or
            TSV file, a :class:`~sentenc.evaluation.Task`, or a list of these.
        data: Folder with SentEval's own layout (``downstream/...``). One's own files need none.
        probe: ``"logistic"`` (convex, solved to convergence, no luck), ``"senteval"`` (Adam and early
            stopping, as the published numbers were made), or a probe with other parameters.
        seed: Of the folds, and of probes that draw; 1111 are SentEval's folds.
        folds: Of the cross-validation; the literature uses 10.
        aggregation: Of the sets of a year of STS: ``"all"`` (SimCSE, SBERT, MTEB), ``"mean"``, ``"wmean"``.
        raw: True for text before tokenization, False for SentEval's tokenized text, None for raw text in
            cosine tasks and SentEval's in the others. Tasks without a raw form keep SentEval's.
        name: Of the encoder in reports and file names.
        batch_size: Of encoding; by the contract of encoders it changes no vector.
        normalize_embeddings: Scale the vectors to unit length first.
        truncate_dim: Keep the first so many dimensions.
        cache: Folder to keep vectors in between runs.
        output: Folder in which ``<name>.json`` is brought up to date after every task. Scores that it
            holds already for the same vectors, data and settings are not computed again.
        show_progress_bar: Draw a bar for every task, on standard error.
        on_score: Called with every score once it is there.

    Returns:
        The scores, in the order of the tasks.

    Raises:
        DataError: A file is missing or malformed; the message has its path and line.
        MissingExtraError: A package of ``sentenc[eval]`` is needed and not installed.
        ValueError: An option is out of range, or no task has the name that was asked for.

    Warns:
        DataMismatchWarning: Files are not the published ones; the score says which.
    """
    settings = Settings(probe=_as_probe(probe), seed=seed, folds=folds, aggregation=aggregation, raw=raw)
    chosen = select_tasks(tasks)
    embedder = as_embedder(
        encoder,
        name=name,
        batch_size=batch_size,
        normalize_embeddings=normalize_embeddings,
        truncate_dim=truncate_dim,
    )
    store = CachedEmbedder(embedder, cache)
    log = _Log(embedder, output)
    records: dict[str, Score] = {}
    for task in chosen:
        score = log.find(task, settings, data)
        if score is None:
            score = _evaluate_task(task, store, embedder, settings, data, show_progress_bar)
            log.add(score)
        records[task.name] = score
        if on_score is not None:
            on_score(score)
    return Results(embedder.name, records)


def _as_probe(probe: str | Probe) -> Probe:
    if probe == "logistic":
        return LogisticProbe()
    if probe == "senteval":
        return SentEvalProbe()
    if isinstance(probe, str) or not hasattr(probe, "search"):
        raise ValueError(f"probe is {probe!r}, expected 'logistic', 'senteval' or a probe object")
    return probe


class _Log:
    """The JSON file that an interrupted run is resumed from."""

    def __init__(self, embedder: Embedder, output: str | os.PathLike[str] | None) -> None:
        self._embedder = embedder
        self._path = None if output is None else Path(output, file_stem(embedder.name) + ".json")
        self._records: dict[str, Score] = {}
        if self._path is not None and self._path.exists():
            self._records = Results.from_json(self._path).records

    def find(self, task: Task, settings: Settings, data: str | os.PathLike[str]) -> Score | None:
        """A score that stands for what is asked, or None."""
        known = self._records.get(task.name)
        # A plain function may have changed: only a fingerprint can vouch for old vectors.
        if known is None or self._embedder.fingerprint is None:
            return None
        asked = {
            "task": task.name,
            "protocol": task.protocol,
            **settings.of(task),
            "data": task.checksums(data, task.text_variant(settings.raw)),
            "versions": versions(),
            "encoder": {"fingerprint": self._embedder.fingerprint, "settings": self._embedder.settings},
        }
        return known if known.identity() == asked else None

    def add(self, score: Score) -> None:
        """Writes the file anew with this score in it."""
        self._records[score.task] = score
        if self._path is not None:
            Results(self._embedder.name, self._records).to_json(self._path)


def _evaluate_task(
    task: Task,
    store: CachedEmbedder,
    embedder: Embedder,
    settings: Settings,
    data: str | os.PathLike[str],
    show_progress_bar: bool,
) -> Score:
    asked = settings.of(task)
    parts, mismatches = task.read(data, asked["text"])
    for mismatch in mismatches:
        warnings.warn(f"{task.name}: {mismatch}", DataMismatchWarning, stacklevel=3)
    texts = [text for part in parts.values() for text in [*part.texts, *(part.partners or [])]]
    # One step more than there are texts: the scoring.
    steps = store.count_missing(texts) + 1
    with progress_bar(steps, f"{embedder.name}: {task.name}", show_progress_bar) as bar:
        started = time.perf_counter()
        vectors = _encode(parts, store, bar)
        encoded = time.perf_counter()
        rng = np.random.default_rng([settings.seed, zlib.crc32(task.name.encode())])
        outcome = _score(task, parts, vectors, settings, rng)
        scored = time.perf_counter()
        bar.update(1)
    dim = next(iter(vectors.values()))[0].shape[1]
    return Score(
        task=task.name,
        value=round(outcome.metrics[task.metric], 2),
        metric=task.metric,
        protocol=task.protocol,
        **asked,
        encoder={
            "name": embedder.name,
            "fingerprint": embedder.fingerprint,
            "dim": dim,
            "settings": embedder.settings,
        },
        data=task.checksums(data, asked["text"]),
        mismatches=mismatches,
        sizes={name: len(part) for name, part in parts.items()},
        metrics=outcome.metrics,
        details=outcome.details,
        versions=versions(),
        seconds={"encode": round(encoded - started, 3), "score": round(scored - encoded, 3)},
    )


Vectors = npt.NDArray[np.float32]


def _encode(
    parts: Mapping[str, Examples], store: CachedEmbedder, bar: Bar
) -> dict[str, tuple[Vectors, Vectors | None]]:
    """Vectors of each part's texts and partners; everything is encoded in one go."""
    store.encode([text for part in parts.values() for text in [*part.texts, *(part.partners or [])]], bar)
    return {
        name: (store.encode(part.texts), None if part.partners is None else store.encode(part.partners))
        for name, part in parts.items()
    }


def _score(
    task: Task,
    parts: Mapping[str, Examples],
    vectors: Mapping[str, tuple[Vectors, Vectors | None]],
    settings: Settings,
    rng: np.random.Generator,
) -> Outcome:
    if task.protocol == "cosine":
        sets = {}
        for name, (left, right) in vectors.items():
            if right is None:
                raise ValueError(f"{task.name} has the protocol 'cosine' but single texts, expected pairs")
            sets[name] = (paired_cosine(left, right), parts[name].targets)
        found = correlations(sets)
        metrics = {name: values[settings.aggregation] for name, values in found.items()}
        return Outcome(metrics, found)
    features = {
        name: left if right is None else pair_features(left, right) for name, (left, right) in vectors.items()
    }
    if task.protocol == "relatedness":
        pairs = {name: (features[name], part.targets) for name, part in parts.items()}
        return relatedness.supervised_relatedness(pairs, rng)
    n_classes = max(int(part.targets.max()) for part in parts.values()) + 1
    sorted_parts = {}
    for name, part in parts.items():
        order = senteval_order(part.texts, part.partners, part.targets)
        sorted_parts[name] = Labeled(features[name][order], part.targets[order], n_classes)
    return _classify(task, sorted_parts, settings, rng)


def _classify(
    task: Task, parts: Mapping[str, Labeled], settings: Settings, rng: np.random.Generator
) -> Outcome:
    if task.protocol == "nested-k-fold":
        return nested_k_fold(parts["all"], settings.probe, settings.folds, settings.seed, rng)
    if task.protocol == "k-fold":
        return k_fold(parts["train"], parts["test"], settings.probe, settings.folds, settings.seed, rng)
    return split(parts["train"], parts["dev"], parts["test"], settings.probe, rng)


def file_stem(name: str) -> str:
    """A file name for an encoder: what file systems dislike becomes a hyphen."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "encoder"
