"""Compares joint spaces of three teachers by similarity and search, for several shares of their cosines.

    python benchmarks/joint_shares.py --arctic-xs FOLDER --mpnet FOLDER --sts FILE ... --data FOLDER ... \
        --cache FOLDER [--texts FILE]

The third teacher is all-MiniLM-L6-v2. The cosine in a joint space is the mean of the teachers' cosines, weighted
by their shares. Each FILE has a score and two texts a line, and each FOLDER of --data has BEIR's layout. All must be
development sets, because a share is chosen on them. With --texts, the chosen space is also reduced to 384 and 256
components by the principal axes of these texts, one a line. Vectors are kept in the cache folder, so that the
command continues when it is called again.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import machine
import numpy as np
import numpy.typing as npt
import torch
from retrieval import DataSet
from teachers import add_options, teachers

from sentenc.encoders.comparison import unit_rows
from sentenc.encoders.roles import Role
from sentenc.metrics.correlation import spearman
from sentenc.metrics.ranking import ranking_metrics
from sentenc.registry import load
from sentenc.training.alignment.teacher_vectors import TeacherVectors
from sentenc.training.losses import principal_axes

ARCTIC, MINILM, MPNET = "snowflake-arctic-embed-xs", "all-MiniLM-L6-v2", "all-mpnet-base-v2"
# The shares of arctic, MiniLM and mpnet.
SHARES = [
    (1, 0, 0), (0, 1, 0), (0, 0, 1),
    (0.3, 0.7, 0), (0.5, 0.5, 0), (0.7, 0.3, 0),
    (0.3, 0, 0.7), (0.5, 0, 0.5), (0.7, 0, 0.3),
    (0.5, 0.2, 0.3), (0.6, 0.1, 0.3),
]  # fmt: skip
CHOSEN = (0.7, 0.3, 0)
Vectors = npt.NDArray[np.float32]


class Joint:
    """The unit vectors of texts by each teacher, from its cache."""

    def __init__(self, encoders: dict[str, Any], folder: Path) -> None:
        self._teachers = [
            TeacherVectors(encoders[name], folder / name, show_progress_bar=True)
            for name in (ARCTIC, MINILM, MPNET)
        ]

    def parts(self, texts: Sequence[str], role: Role, label: str, shares: Sequence[float]) -> list[Vectors]:
        """Returns the vectors of the teachers that have a share, each scaled by the root of its share."""
        scaled = []
        for teacher, share in zip(self._teachers, shares, strict=True):
            if share:
                teacher.fill(texts, role, label)
                scaled.append(teacher.read(texts, role) * np.float32(share**0.5))
        return scaled


class Task:
    """A development set: its texts by role, and its score from the cosines in a space."""

    def __init__(self, name: str) -> None:
        self.name = name

    def score(self, joint: Joint, shares: Sequence[float], axes: Vectors | None) -> float:
        """Returns the score in points. The vectors are reduced by the axes (t, dim), if there are any."""
        raise NotImplementedError

    def _vectors(
        self, joint: Joint, texts: Sequence[str], role: Role, shares: Sequence[float], axes: Vectors | None
    ) -> Vectors:
        joined = np.concatenate(joint.parts(texts, role, f"{self.name}, {role}", shares), axis=1)
        return unit_rows(joined if axes is None else joined @ axes, "vectors")


class Similarity(Task):
    """Scored pairs of texts. Its score is Spearman's correlation."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.stem)
        rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()]
        self._scores = [float(row[0]) for row in rows]
        self._first, self._second = ([row[i] for row in rows] for i in (1, 2))

    def score(self, joint: Joint, shares: Sequence[float], axes: Vectors | None) -> float:
        """Returns Spearman's correlation x 100."""
        first = self._vectors(joint, self._first, "document", shares, axes)
        second = self._vectors(joint, self._second, "document", shares, axes)
        return 100 * spearman((first * second).sum(1), np.array(self._scores))


class Search(Task):
    """A collection with judged queries. Its score is nDCG@10."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder.name)
        self._data = DataSet(folder)

    def score(self, joint: Joint, shares: Sequence[float], axes: Vectors | None) -> float:
        """Returns nDCG@10 x 100."""
        data = self._data
        queries = self._vectors(joint, list(data.queries.texts), "query", shares, axes)
        documents = self._vectors(joint, list(data.documents.texts), "document", shares, axes)
        best = np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, :10]
        rankings = {
            name: [data.documents.ids[i] for i in row]
            for name, row in zip(data.queries.ids, best, strict=True)
        }
        return 100 * float(np.mean(ranking_metrics(rankings, data.judgments)["nDCG@10"]))


def axes_of(joint: Joint, texts: Sequence[str], shares: Sequence[float], dim: int) -> Vectors:
    """Returns the principal axes (t, dim) of texts in a joint space."""
    joined = np.concatenate(joint.parts(texts, "document", "texts of the axes", shares), axis=1)
    axes: Vectors = principal_axes(torch.from_numpy(joined), dim).numpy()
    return axes


def report(rows: list[dict[str, Any]], tasks: Sequence[Task]) -> str:
    """Returns the table in Markdown."""
    searches = [task.name for task in tasks if isinstance(task, Search)]
    names = [task.name for task in tasks]
    lines = [
        f"| share of arctic-xs | of MiniLM | of mpnet | dimensions | {' | '.join(names)} | mean of the searches |",
        "|---" * (len(names) + 5) + "|",
    ]
    for row in rows:
        values = [f"{share:g}" for share in row["shares"]] + [str(row["dim"])]
        values += [f"{row['scores'][name]:.1f}" for name in names]
        mean = np.mean([row["scores"][name] for name in searches])
        lines.append(f"| {' | '.join(values)} | {mean:.1f} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add_options(parser)
    parser.add_argument("--sts", type=Path, nargs="+", required=True, help="files of scored pairs")
    parser.add_argument("--data", type=Path, nargs="+", required=True, help="folders in BEIR's layout")
    parser.add_argument("--cache", type=Path, required=True, help="folder of the teachers' vectors")
    parser.add_argument("--texts", type=Path, help="texts, one a line, whose principal axes reduce the space")
    arguments = parser.parse_args()
    encoders = teachers(arguments) | {MINILM: load(machine.minilm_folder())}
    joint = Joint(encoders, arguments.cache)
    tasks: list[Task] = [*map(Similarity, arguments.sts), *map(Search, arguments.data)]
    spaces: list[tuple[Sequence[float], int, Vectors | None]] = []
    for chosen in SHARES:
        used = [name for name, share in zip((ARCTIC, MINILM, MPNET), chosen, strict=True) if share]
        spaces.append((chosen, sum(encoders[name].dim for name in used), None))
    if arguments.texts is not None:
        texts = arguments.texts.read_text(encoding="utf-8").splitlines()
        spaces += [(CHOSEN, dim, axes_of(joint, texts, CHOSEN, dim)) for dim in (384, 256)]
    rows = []
    for shares, dim, axes in spaces:
        scores = {task.name: round(task.score(joint, shares, axes), 2) for task in tasks}
        rows.append({"shares": list(shares), "dim": dim, "scores": scores})
        print(json.dumps(rows[-1]), flush=True)
    path = machine.write("joint_shares", {**machine.circumstances(), "rows": rows})
    path.with_suffix(".md").write_text(report(rows, tasks) + "\n")
    print(report(rows, tasks))


if __name__ == "__main__":
    main()
