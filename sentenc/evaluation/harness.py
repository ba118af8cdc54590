"""Evaluates an encoder on tasks: reads each task, encodes its texts once, scores it and stores the score."""

import os
import re
import time
import warnings
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from sentenc.encoders.roles import Role
from sentenc.errors import DataMismatchWarning
from sentenc.evaluation.embedder import CachedEmbedder, Embedder, as_embedder
from sentenc.evaluation.probes.base import LogisticProbe, Probe
from sentenc.evaluation.probes.senteval import SentEvalProbe
from sentenc.evaluation.protocols.base import Aggregation, EncodedPart, ProtocolConfig
from sentenc.evaluation.readers import Examples
from sentenc.evaluation.results import Results, Score, versions
from sentenc.evaluation.senteval_tasks import select_tasks
from sentenc.evaluation.tasks import Task, file_checksum
from sentenc.io.progress import Bar, progress_bar


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
    alpha: float | None = None,
    language: str | None = None,
    name: str | None = None,
    batch_size: int = 64,
    normalize_embeddings: bool = False,
    truncate_dim: int | None = None,
    cache: str | os.PathLike[str] | None = None,
    output: str | os.PathLike[str] | None = None,
    show_progress_bar: bool = False,
    on_score: Callable[[Score], None] | None = None,
) -> Results:
    """Returns the scores of an encoder on SentEval's tasks or on a user's own, in the order of the tasks.

    Args:
        encoder: An ``Encoder``, a sentence-transformers model, or a function from n str to (n, dim).
        tasks: "transfer", "sts", "all", "probing", a name, the path of a CSV, TSV or JSONL file
            (``clustering:`` or ``pair-classification:`` before it chooses that protocol) or of a folder in
            BEIR's layout (``FOLDER`` or ``FOLDER:SPLIT``), a ``Task``, or a list.
        data: Folder in SentEval's layout (``downstream/...``); not used for a user's own files.
        probe: ``"logistic"`` (trained to convergence), ``"senteval"`` (as published scores), or a ``Probe``.
        seed: Seed of the folds, and of probes that draw; 1111 produces SentEval's folds.
        folds: Number of cross-validation folds; published scores use 10.
        aggregation: How to combine the sets of an STS year: ``"all"``, ``"mean"`` or ``"wmean"``.
        raw: True for raw text, False for SentEval's tokenized text, None for raw text in cosine tasks only.
        alpha: Weight of the vectors in hybrid search, 0 to 1; None for the model's own.
        language: Code of ISO 639 of the texts of search tasks, which chooses the stemmer; None for the model's.
        name: Name of the encoder in reports and file names.
        batch_size: Number of texts per batch; changes no vector.
        normalize_embeddings: Whether to scale the vectors to unit norm.
        truncate_dim: Number of leading dimensions to keep; None keeps all.
        cache: Folder in which vectors are stored between runs.
        output: Folder of ``<name>.json``, written after every task; matching scores in it are reused.
        show_progress_bar: Whether to draw a progress bar for every task on standard error.
        on_score: Function that is called with every score.

    Raises:
        DataError: A file is missing or malformed; the message contains its path and line.
        MissingExtraError: A package of ``sentenc[eval]`` is not installed.
        ValueError: An option is out of range, or a task is unknown.

    Warns:
        DataMismatchWarning: The files of a task differ from the published ones; the score lists how.
    """
    embedder = as_embedder(
        encoder,
        name=name,
        batch_size=batch_size,
        normalize_embeddings=normalize_embeddings,
        truncate_dim=truncate_dim,
        language=language,
    )
    config = ProtocolConfig(
        probe=_as_probe(probe),
        seed=seed,
        folds=folds,
        aggregation=aggregation,
        raw=raw,
        words=embedder.words if alpha is None else {**embedder.words, "alpha": alpha},
    )
    run = _Run(embedder, config, Path(data), cache, output, show_progress_bar)
    return run.scores(select_tasks(tasks), on_score)


def file_stem(name: str) -> str:
    """Returns a file name for an encoder: characters that file systems reject become hyphens."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "encoder"


def _as_probe(probe: str | Probe) -> Probe:
    if probe == "logistic":
        return LogisticProbe()
    if probe == "senteval":
        return SentEvalProbe()
    if isinstance(probe, str) or not hasattr(probe, "search"):
        raise ValueError(f"probe is {probe!r}, expected 'logistic', 'senteval' or a probe object")
    return probe


class _Run:
    """One call of :func:`evaluate`: the encoder, the configuration, and what earlier runs have stored."""

    def __init__(
        self,
        embedder: Embedder,
        config: ProtocolConfig,
        data: Path,
        cache: str | os.PathLike[str] | None,
        output: str | os.PathLike[str] | None,
        show_progress_bar: bool,
    ) -> None:
        self._embedder = embedder
        self._config = config
        self._data = data
        self._cache = cache
        self._by_role: dict[Role | None, CachedEmbedder] = {None: CachedEmbedder(embedder, cache)}
        self._show_progress_bar = show_progress_bar
        self._checksums: dict[str, str] = {}
        self._results_file = None if output is None else Path(output, file_stem(embedder.name) + ".json")
        self._stored: dict[str, Score] = {}
        if self._results_file is not None and self._results_file.exists():
            self._stored = Results.from_json(self._results_file).records

    def scores(self, tasks: Sequence[Task], on_score: Callable[[Score], None] | None) -> Results:
        """Scores the tasks one after the other, and stores every new score at once."""
        scores: dict[str, Score] = {}
        for task in tasks:
            identity = self._identity(task)
            score = self._stored.get(task.name)
            # A plain function may have changed: only a fingerprint proves that the vectors are the same.
            if score is None or self._embedder.fingerprint is None or score.identity() != identity:
                score = self._score(task, identity)
                self._stored[task.name] = score
                if self._results_file is not None:
                    Results(self._embedder.name, self._stored).to_json(self._results_file)
            scores[task.name] = score
            if on_score is not None:
                on_score(score)
        return Results(self._embedder.name, scores)

    def _identity(self, task: Task) -> dict[str, Any]:
        """Returns the fields that a score of this run has in :meth:`Score.identity`."""
        variant = task.text_variant(self._config.raw)
        return {
            "task": task.name,
            "protocol": task.protocol.name,
            **task.protocol.settings(self._config),
            "text": variant,
            "data": {file: self._checksum(file) for file in task.files(variant)},
            "versions": versions(),
            "encoder": {"fingerprint": self._embedder.fingerprint, "settings": self._settings(task)},
        }

    def _settings(self, task: Task) -> dict[str, Any]:
        """Returns the encode settings of a score. Cosine tasks are truncated to the columns of similarity."""
        columns = self._columns(task)
        settings = self._embedder.settings
        return settings if columns is None else {**settings, "truncate_dim": columns}

    def _columns(self, task: Task) -> int | None:
        return self._embedder.similarity_dim if task.protocol.compares_similarity else None

    def _checksum(self, file: str) -> str:
        """Returns the SHA-256 of a file, which is computed once even if several tasks share the file."""
        if file not in self._checksums:
            self._checksums[file] = file_checksum(self._data / file)
        return self._checksums[file]

    def _score(self, task: Task, identity: dict[str, Any]) -> Score:
        examples = task.read(self._data, identity["text"])
        mismatches = task.mismatches(identity["text"], examples, identity["data"])
        for mismatch in mismatches:
            # The caller of evaluate() is four frames up.
            warnings.warn(f"{task.name}: {mismatch}", DataMismatchWarning, stacklevel=4)
        texts = self._texts(task, examples)
        # The last step of the bar is the scoring.
        n_steps = sum(embedder.count_missing(own) for embedder, own in texts.items()) + 1
        label = f"{self._embedder.name}: {task.name}"
        with progress_bar(n_steps, label, self._show_progress_bar) as bar:
            started = time.perf_counter()
            parts = self._encode(task, examples, texts, bar)
            encoded = time.perf_counter()
            # Each task draws from a generator of its own, so that the order of tasks changes no score.
            rng = np.random.default_rng([self._config.seed, zlib.crc32(task.name.encode())])
            outcome = task.protocol.score(parts, self._config, rng)
            scored = time.perf_counter()
            bar.update(1)
        encoder = {
            "name": self._embedder.name,
            "fingerprint": self._embedder.fingerprint,
            "dim": next(iter(parts.values())).vectors.shape[1],
            "settings": self._settings(task),
        }
        return Score(
            **{**identity, "encoder": encoder},
            value=round(outcome.metrics[task.protocol.metric], 2),
            metric=task.protocol.metric,
            mismatches=mismatches,
            sizes={name: len(part) for name, part in examples.items()},
            metrics=outcome.metrics,
            details=outcome.details,
            seconds={"encode": round(encoded - started, 3), "score": round(scored - encoded, 3)},
        )

    def _encode(
        self,
        task: Task,
        examples: Mapping[str, Examples],
        texts: Mapping[CachedEmbedder, Sequence[str]],
        bar: Bar,
    ) -> dict[str, EncodedPart]:
        # All texts of a role in one call: a text that several parts share is encoded once.
        for embedder, own in texts.items():
            embedder.encode(own, bar)
        columns = self._columns(task)
        parts = {}
        for name, part in examples.items():
            embedder = self._embedder_of(task, name)
            partners = None if part.partners is None else embedder.encode(part.partners)[:, :columns]
            parts[name] = EncodedPart(part, embedder.encode(part.texts)[:, :columns], partners)
        return parts

    def _texts(self, task: Task, examples: Mapping[str, Examples]) -> dict[CachedEmbedder, list[str]]:
        """Returns all texts of a task by the embedder of their role."""
        texts: dict[CachedEmbedder, list[str]] = {}
        for name, part in examples.items():
            own = texts.setdefault(self._embedder_of(task, name), [])
            own += [*part.texts, *(part.partners or [])]
        return texts

    def _embedder_of(self, task: Task, part: str) -> CachedEmbedder:
        role = task.protocol.roles.get(part)
        if role not in self._by_role:
            embedder = self._embedder.for_role(role)
            # Without a prompt or an encoder of its own, a role shares the vectors of all other texts.
            is_shared = embedder is self._embedder
            self._by_role[role] = self._by_role[None] if is_shared else CachedEmbedder(embedder, self._cache)
        return self._by_role[role]
