"""Scores and results, with all the settings that decide whether two scores are comparable."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sentenc._version import __version__
from sentenc.errors import DataError
from sentenc.evaluation.senteval_tasks import STS, TASKS, TRANSFER
from sentenc.installed import installed_versions
from sentenc.io.atomic import write_text

FORMAT_VERSION = 1
AVERAGES: Mapping[str, tuple[str, ...]] = {"STS avg": STS, "transfer avg": TRANSFER}


@dataclass(frozen=True, kw_only=True)
class Score:
    """The score of one encoder on one task, with the settings it was made with.

    Attributes:
        task: Name of the task.
        value: The main metric, in points (0 to 100).
        metric: Name of the main metric: accuracy, pearson, spearman, nDCG@10, v_measure or cosine_ap.
        protocol: nested-k-fold, k-fold, split, relatedness, cosine, search, clustering or
            pair-classification.
        aggregation: all, mean or wmean over the task's sets; None for trained protocols.
        text: The text variant that was encoded: raw, senteval (tokenized), or own (a user's file).
        folds: Number of cross-validation folds; None without cross-validation.
        seed: Seed of the folds and the probe; None if the protocol draws nothing.
        probe: Name and parameters of the trained probe, of k-means, or of the search by words; None if there
            is none.
        encoder: Name, fingerprint, dim and encode settings of the encoder.
        data: SHA-256 of every file that was read, by its path below the data folder.
        mismatches: The differences of these files from the published ones; empty if there are none.
        sizes: Number of examples in each part.
        metrics: All metrics, in points (``mse`` in squared gold units).
        details: Metrics by fold, set, run or search mode, and the chosen regularization.
        versions: Versions of the software that can change a score.
        seconds: Wall-clock time: ``encode`` (0 if all vectors were cached) and ``score``.
    """

    task: str
    value: float
    metric: str
    protocol: str
    aggregation: str | None
    text: str
    folds: int | None
    seed: int | None
    probe: dict[str, Any] | None
    encoder: dict[str, Any]
    data: dict[str, str]
    mismatches: list[str]
    sizes: dict[str, int]
    metrics: dict[str, float]
    details: dict[str, Any]
    versions: dict[str, str]
    seconds: dict[str, float]

    def identity(self) -> dict[str, Any]:
        """Returns the settings, data and versions; runs that agree in all of them have the same score."""
        keys = ("task", "protocol", "aggregation", "text", "folds", "seed", "probe", "data", "versions")
        identity = {key: getattr(self, key) for key in keys}
        return {**identity, "encoder": {key: self.encoder[key] for key in ("fingerprint", "settings")}}


@dataclass(frozen=True)
class Results:
    """The scores of one encoder.

    :func:`~sentenc.evaluation.to_markdown` and :func:`~sentenc.evaluation.plot` show them, alone or
    together with those of other encoders.

    Attributes:
        encoder: Name of the encoder.
        records: The scores with their settings, by task, in the order of the tasks.
    """

    encoder: str
    records: dict[str, Score]

    @property
    def scores(self) -> dict[str, float]:
        """The main metric of each task, in points."""
        return {name: score.value for name, score in self.records.items()}

    @property
    def averages(self) -> dict[str, float]:
        """``STS avg`` and ``transfer avg``: each the mean of seven tasks, present if all seven are.

        There is no average of scores that were made by different encoders or with different settings, as in a
        results file that several runs have extended, or of a user's own files with the names of these tasks.
        """
        scores = self.scores
        return {
            name: sum(scores[task] for task in tasks) / len(tasks)
            for name, tasks in AVERAGES.items()
            if all(task in scores for task in tasks)
            and _are_comparable([self.records[task] for task in tasks])
        }

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Returns the results as JSON.

        Args:
            path: JSON file to write atomically as well.
        """
        content = {
            "format_version": FORMAT_VERSION,
            "encoder": self.encoder,
            "averages": self.averages,
            "scores": [asdict(score) for score in self.records.values()],
        }
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        if path is not None:
            write_text(Path(path), text)
        return text

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> "Results":
        """Reads a file written by :meth:`to_json`.

        Raises:
            DataError: The file is not a results file of this format version.
        """
        try:
            content = json.loads(Path(path).read_text("utf-8"))
            if content["format_version"] != FORMAT_VERSION:
                raise ValueError(
                    f"format_version is {content['format_version']!r}, expected {FORMAT_VERSION}"
                )
            scores = [Score(**score) for score in content["scores"]]
            return cls(content["encoder"], {score.task: score for score in scores})
        except (KeyError, TypeError, ValueError) as error:
            raise DataError(f"{path}: not a results file of sentenc ({error})") from error


def _are_comparable(scores: Sequence[Score]) -> bool:
    """Returns whether scores of built-in tasks were made by one encoder with one choice of settings."""
    conditions = set()
    for score in scores:
        # The number of folds depends on the protocol, and some tasks exist only in tokenized form.
        probe = score.probe or {}
        settings = {**score.encoder["settings"], "aggregation": score.aggregation, "seed": score.seed}
        settings |= {"probe": probe.get("name"), "hidden": probe.get("nhid")}
        conditions.add(json.dumps([score.encoder["fingerprint"], settings], sort_keys=True))
    folds = {score.folds for score in scores} - {None}
    texts = {score.text for score in scores if TASKS[score.task].raw is not None or score.text == "own"}
    return len(conditions) == 1 and len(folds) <= 1 and len(texts) <= 1 and "own" not in texts


def versions(packages: Sequence[str] = ("sentenc", "numpy", "scipy", "scikit-learn")) -> dict[str, str]:
    """Returns the version of Python and of each installed package in ``packages``."""
    own = {"python": platform.python_version(), "sentenc": __version__}
    return own | installed_versions(package for package in packages if package not in own)
