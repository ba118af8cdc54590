"""Scores that carry everything needed to tell whether two of them may be compared."""

import json
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from sentenc.evaluation.senteval_tasks import STS, TRANSFER
from sentenc.io.atomic import replacing_file

FORMAT_VERSION = 1
AVERAGES: Mapping[str, tuple[str, ...]] = {"STS avg": STS, "transfer avg": TRANSFER}


@dataclass(frozen=True, kw_only=True)
class Score:
    """One task's result and how it came about.

    Attributes:
        task: Name of the task.
        value: The main metric, in points (0 to 100).
        metric: Its name: accuracy, pearson or spearman.
        protocol: nested-k-fold, k-fold, split, relatedness or cosine.
        aggregation: all, mean or wmean over the task's sets; None for other protocols.
        text: Which text was encoded: raw, senteval (tokenized), or own (a user's file).
        folds: Of the cross-validation; None where there is none.
        seed: Of the folds and the probe; None where nothing is drawn.
        probe: Name and parameters of what was trained; None where nothing was.
        encoder: Name, fingerprint, dim and encode settings.
        data: SHA-256 of every file that was read.
        mismatches: How these differ from the published files: empty means not at all.
        sizes: Examples in each part.
        metrics: All metrics.
        details: Numbers by fold or set, regularization chosen.
        versions: Of the software that can change a number.
        seconds: ``encode`` (0 if all vectors were cached) and ``score``.
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
        """What must be equal for this score to stand for another run."""
        keys = ("task", "protocol", "aggregation", "text", "folds", "seed", "probe", "data", "versions")
        found = {key: getattr(self, key) for key in keys}
        return {**found, "encoder": {key: self.encoder[key] for key in ("fingerprint", "settings")}}


@dataclass(frozen=True)
class Results:
    """The scores of one encoder.

    Attributes:
        encoder: Its name.
        records: The scores with all their circumstances, by task, in the order they were asked for.
    """

    encoder: str
    records: dict[str, Score]

    @property
    def scores(self) -> dict[str, float]:
        """Main score of each task, in points."""
        return {name: score.value for name, score in self.records.items()}

    @property
    def averages(self) -> dict[str, float]:
        """``STS avg`` and ``transfer avg``, of seven tasks each, if all seven are there."""
        scores = self.scores
        return {
            name: sum(scores[task] for task in tasks) / len(tasks)
            for name, tasks in AVERAGES.items()
            if all(task in scores for task in tasks)
        }

    def to_json(self, path: str | os.PathLike[str] | None = None) -> str:
        """Returns the results as JSON; writes them to ``path`` too, all or nothing, if one is given."""
        content = {
            "format_version": FORMAT_VERSION,
            "encoder": self.encoder,
            "averages": self.averages,
            "scores": [asdict(score) for score in self.records.values()],
        }
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
        if path is not None:
            write_atomically(Path(path), text)
        return text

    @classmethod
    def from_json(cls, path: str | os.PathLike[str]) -> "Results":
        """Reads what :meth:`to_json` wrote.

        Raises:
            ValueError: The file is something else; the message has its path.
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
            raise ValueError(f"{path}: not a results file of sentenc ({error})") from error

    def to_markdown(self, path: str | os.PathLike[str] | None = None) -> str:
        """Returns tables of the scores, with published rows beneath; writes them to ``path`` if given."""
        from sentenc.evaluation.report import markdown

        text = markdown([self])
        if path is not None:
            write_atomically(Path(path), text)
        return text

    def plot(self, path: str | os.PathLike[str]) -> None:
        """Draws the scores into an image file (PNG, SVG or PDF, by its suffix)."""
        from sentenc.evaluation.plot import plot

        plot([self], path)


def write_atomically(path: Path, text: str) -> None:
    """Writes a text file so that there is never half of one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with replacing_file(path) as staging:
        staging.write_text(text, encoding="utf-8", newline="\n")


def versions(packages: Sequence[str] = ("sentenc", "numpy", "scipy", "scikit-learn")) -> dict[str, str]:
    """Versions of Python and of what is installed of ``packages``."""
    from sentenc._version import __version__

    found = {"python": platform.python_version(), "sentenc": __version__}
    for package in packages:
        if package not in found:
            try:
                found[package] = version(package)
            except PackageNotFoundError:
                continue
    return found
