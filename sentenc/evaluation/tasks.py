"""What a task is, how it is read and checked, and how a user's own file becomes one."""

import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path
from typing import Literal

from sentenc.errors import DataError
from sentenc.evaluation.readers import (
    Classes,
    Examples,
    Reader,
    read_columns,
    table_with_header,
)

Protocol = Literal["nested-k-fold", "k-fold", "split", "relatedness", "cosine"]
METRICS: Mapping[Protocol, str] = {
    "nested-k-fold": "accuracy",
    "k-fold": "accuracy",
    "split": "accuracy",
    "relatedness": "pearson",
    "cosine": "spearman",
}


@dataclass(frozen=True)
class Part:
    """One part of a task's data: a split, or one of the sets that a year of STS consists of.

    Attributes:
        read: Reader of the file format.
        files: Paths below the data folder.
        size: Examples that the part is known to have, or None.
        encoding: Of the files.
    """

    read: Reader
    files: tuple[str, ...]
    size: int | None = None
    encoding: str = "utf-8"


@dataclass(frozen=True, kw_only=True)
class Task:
    """A task: what to read and which protocol scores it.

    Attributes:
        name: As the literature writes it.
        protocol: ``nested-k-fold`` takes the part "all"; ``k-fold`` "train" and "test"; ``split`` and
            ``relatedness`` "train", "dev" and "test"; ``cosine`` as many parts as there are sets.
        senteval: The parts as SentEval distributes them: tokenized, STS also lower-cased.
        raw: The parts before SentEval's tokenization, or None where no such files exist.
        classes: Labels in the order of SentEval's indices; empty where they come from the data.
    """

    name: str
    protocol: Protocol
    senteval: Mapping[str, Part]
    raw: Mapping[str, Part] | None = None
    classes: Classes = ()

    @property
    def metric(self) -> str:
        """Name of the main metric."""
        return METRICS[self.protocol]

    def text_variant(self, raw: bool | None) -> str:
        """Name of the text that ``raw`` asks for: ``raw``, ``senteval``, or ``own`` for a user's file.

        None is raw for cosine tasks, as current papers report them, and SentEval's for trained ones.
        """
        if self.senteval.keys() == {"own"} or any(Path(f).is_absolute() for f in self.files("senteval")):
            return "own"
        wanted = self.protocol == "cosine" if raw is None else raw
        return "raw" if wanted and self.raw is not None else "senteval"

    def parts(self, variant: str) -> Mapping[str, Part]:
        """The parts of a text variant."""
        return self.raw if variant == "raw" and self.raw is not None else self.senteval

    def files(self, variant: str) -> tuple[str, ...]:
        """All files of a text variant, in order, each once."""
        return tuple(dict.fromkeys(file for part in self.parts(variant).values() for file in part.files))

    def read(self, data: str | os.PathLike[str], variant: str) -> tuple[dict[str, Examples], list[str]]:
        """Reads the task.

        Args:
            data: Folder with SentEval's layout (``downstream/MR/...``).
            variant: A text variant that the task has.

        Returns:
            The examples of each part, and one sentence for every way in which the files are not the
            published ones: a count or a checksum that differs.

        Raises:
            DataError: A file is missing or malformed; the message has its path and line.
        """
        found: dict[str, Examples] = {}
        mismatches: list[str] = []
        for name, part in self.parts(variant).items():
            found[name] = part.read([Path(data, file) for file in part.files], part.encoding, self.classes)
            if not len(found[name]):
                raise DataError(
                    f"{Path(data, part.files[0])}: no examples for the part {name!r} of {self.name}"
                )
            if part.size is not None and len(found[name]) != part.size:
                where = ", ".join(part.files)
                mismatches.append(f"{where}: {len(found[name])} examples, expected {part.size}")
        known = known_checksums()
        for file, digest in self.checksums(data, variant).items():
            if file in known and digest != known[file]:
                mismatches.append(f"{file}: SHA-256 is {digest[:12]}..., expected {known[file][:12]}...")
        return found, mismatches

    def checksums(self, data: str | os.PathLike[str], variant: str) -> dict[str, str]:
        """SHA-256 of every file of the variant, by its path below the data folder."""
        sums = {}
        for file in self.files(variant):
            try:
                sums[file] = hashlib.sha256(Path(data, file).read_bytes()).hexdigest()
            except FileNotFoundError:
                raise DataError(f"{Path(data, file)}: no such file (task {self.name})") from None
        return sums

    @classmethod
    def from_csv(
        cls,
        path: str | os.PathLike[str],
        *,
        dev: str | os.PathLike[str] | None = None,
        test: str | os.PathLike[str] | None = None,
        name: str | None = None,
    ) -> "Task":
        """Makes a task of one's own CSV or TSV file.

        Args:
            path: A file whose header is ``text,label``, ``text1,text2,label`` (classification) or
                ``text1,text2,score`` (similarity). More columns are ignored. The delimiter is a tab
                if the name ends in ``.tsv``, else a comma with the usual double quotes. UTF-8.
            dev: Another such file, for choosing the regularization.
            test: Another such file, to report on.
            name: Of the task; by default the file's, without its suffix.

        Returns:
            With labels: nested k-fold without ``test``, k-fold on ``path`` with ``test``, a split with
            both ``dev`` and ``test``. With scores: cosine similarity on ``path``.

        Raises:
            DataError: The file is missing or malformed.
        """
        source = Path(path).resolve()
        header, rows = table_with_header(source, "utf-8")
        if not rows:
            raise DataError(f"{source}: no rows after the header")
        name = source.stem if name is None else name
        if "score" in header:
            if dev is not None or test is not None:
                raise ValueError("dev and test are for files with labels: similarity needs no training")
            return cls(name=name, protocol="cosine", senteval={"test": Part(read_columns, (str(source),))})
        if dev is not None and test is None:
            raise ValueError("dev was given without test")
        protocol: Protocol = "nested-k-fold" if test is None else "k-fold" if dev is None else "split"
        paths = {"all" if test is None else "train": path, "dev": dev, "test": test}
        parts = {
            part: Part(read_columns, (str(Path(file).resolve()),))
            for part, file in paths.items()
            if file is not None
        }
        label = header.index("label")
        classes = tuple(sorted({row[label].strip() for _, row in rows}))
        return cls(name=name, protocol=protocol, senteval=parts, classes=classes)


@cache
def known_checksums() -> dict[str, str]:
    """SHA-256 of the published files, by path below the data folder."""
    text = package_files("sentenc.evaluation").joinpath("SHA256SUMS").read_text("ascii")
    return {path: digest for digest, path in (line.split("  ") for line in text.splitlines())}
