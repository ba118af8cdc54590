"""Evaluation tasks: built-in ones and those made from a user's own files."""

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files as package_files
from pathlib import Path
from typing import Literal

from sentenc.errors import DataError
from sentenc.evaluation.beir import CORPUS, QUERIES, judgments_file, read_documents, read_queries
from sentenc.evaluation.protocols.base import EvaluationProtocol
from sentenc.evaluation.protocols.classification import FixedSplit, KFold, NestedKFold
from sentenc.evaluation.protocols.clustering import Clustering
from sentenc.evaluation.protocols.pair_classification import PairClassification
from sentenc.evaluation.protocols.search import Search
from sentenc.evaluation.protocols.similarity import CosineSimilarity
from sentenc.evaluation.readers import (
    Classes,
    Examples,
    Reader,
    read_columns,
    read_table,
)
from sentenc.io.compression import without_compression
from sentenc.validation import check_choice

# Kinds of a user's own file that have the same columns as classification.
FileKind = Literal["clustering", "pair-classification"]
FILE_KINDS: tuple[FileKind, ...] = ("clustering", "pair-classification")


@dataclass(frozen=True)
class Part:
    """One part of a task's data: a split, or one of the sets of an STS year.

    Attributes:
        read: Reader of the file format.
        files: Paths below the data folder.
        size: Number of examples in the published files; None if unknown.
        encoding: Character encoding of the files.
    """

    read: Reader
    files: tuple[str, ...]
    size: int | None = None
    encoding: str = "utf-8"


@dataclass(frozen=True, kw_only=True)
class Task:
    """An evaluation task: the files to read and the protocol that scores them.

    Attributes:
        name: Name of the task in the literature.
        protocol: The protocol. Its ``part_names`` are the parts that the task must have.
        senteval: The parts as SentEval distributes them: tokenized, and in STS also lower-cased.
        raw: The parts before SentEval's tokenization; None if no such files exist.
        classes: Labels in the order of SentEval's indices; empty if they come from the data.
    """

    name: str
    protocol: EvaluationProtocol
    senteval: Mapping[str, Part]
    raw: Mapping[str, Part] | None = None
    classes: Classes = ()

    def __post_init__(self) -> None:
        required = self.protocol.part_names
        for parts in (self.senteval, self.raw):
            if required is not None and parts is not None and set(parts) != set(required):
                raise ValueError(
                    f"the parts of {self.name} are {', '.join(parts)}, "
                    f"expected {', '.join(required)} for the protocol {self.protocol.name!r}"
                )

    def text_variant(self, raw: bool | None) -> str:
        """Returns the text variant to encode: ``raw``, ``senteval``, or ``own`` for a user's file.

        Args:
            raw: True for raw text if the task has it, False for SentEval's. None chooses raw text for
                cosine tasks, as current papers do, and SentEval's for tasks that train a probe.
        """
        if any(Path(file).is_absolute() for file in self.files("senteval")):
            return "own"
        prefers_raw = self.protocol.raw_by_default if raw is None else raw
        return "raw" if prefers_raw and self.raw is not None else "senteval"

    def parts(self, variant: str) -> Mapping[str, Part]:
        """Returns the parts of a text variant."""
        return self.raw if variant == "raw" and self.raw is not None else self.senteval

    def files(self, variant: str) -> tuple[str, ...]:
        """Returns all files of a text variant, in order, each once."""
        return tuple(dict.fromkeys(file for part in self.parts(variant).values() for file in part.files))

    def read(self, data: str | os.PathLike[str], variant: str) -> dict[str, Examples]:
        """Reads the examples of each part.

        Args:
            data: Folder in SentEval's layout (``downstream/MR/...``).
            variant: A text variant of the task.

        Raises:
            DataError: A file is missing or malformed; the message contains its path and line.
        """
        examples: dict[str, Examples] = {}
        for name, part in self.parts(variant).items():
            examples[name] = part.read([Path(data, file) for file in part.files], part.encoding, self.classes)
            if not len(examples[name]):
                raise DataError(
                    f"{Path(data, part.files[0])}: no examples for the part {name!r} of {self.name}"
                )
        return examples

    def mismatches(
        self, variant: str, examples: Mapping[str, Examples], checksums: Mapping[str, str]
    ) -> list[str]:
        """Returns a message for every number of examples and every checksum that is not the published one.

        Args:
            variant: The text variant that was read.
            examples: The examples of each part.
            checksums: SHA-256 of each file, by its path below the data folder.
        """
        messages = []
        for name, part in self.parts(variant).items():
            if part.size is not None and len(examples[name]) != part.size:
                files = ", ".join(part.files)
                messages.append(f"{files}: {len(examples[name])} examples, expected {part.size}")
        published = published_checksums()
        for file, checksum in checksums.items():
            if file in published and checksum != published[file]:
                messages.append(f"{file}: SHA-256 is {checksum[:12]}..., expected {published[file][:12]}...")
        return messages

    @classmethod
    def from_file(
        cls,
        path: str | os.PathLike[str],
        *,
        kind: FileKind | None = None,
        dev: str | os.PathLike[str] | None = None,
        test: str | os.PathLike[str] | None = None,
        name: str | None = None,
    ) -> "Task":
        """Makes a task from a user's own CSV, TSV or JSONL file.

        Files with labels are scored by nested k-fold cross-validation. With ``test``, they are scored on
        that file after k-fold cross-validation on ``path``, or after tuning on ``dev`` if it is given. Files
        with scores are scored by cosine similarity.

        Args:
            path: A UTF-8 file with the columns ``text,label``, ``text1,text2,label`` (classification)
                or ``text1,text2,score`` (similarity). Other columns are ignored. The delimiter is a tab
                if the name ends in ``.tsv``, and a comma with the usual double quotes otherwise. A file
                named ``.jsonl`` has one JSON object per line.
            kind: ``"clustering"`` compares k-means clusters of ``text`` with ``label``.
                ``"pair-classification"`` orders ``text1,text2`` by cosine and computes the average precision
                of the label 1; the labels are 0 and 1. Both train no probe. None chooses by the columns.
            dev: Development file for tuning the regularization.
            test: Test file.
            name: Name of the task; by default the name of the file without its suffix, followed by ``kind``
                if it is given.

        Raises:
            DataError: The file is missing or malformed, has an empty label, or lacks the columns of ``kind``.
            ValueError: ``dev`` is given without ``test``, or either with a file that trains nothing.
        """
        source = Path(path).resolve()
        header, rows = read_table(source, "utf-8")
        if not rows:
            raise DataError(f"{source}: no rows after the header")
        if name is None:
            name = _file_stem(source) if kind is None else f"{_file_stem(source)}-{kind}"
        classes = () if "score" in header else tuple(sorted({row["label"].strip() for _, row in rows}))
        if "" in classes:
            empty = next(number for number, row in rows if not row["label"].strip())
            raise DataError(f"{source}, line {empty}: label is empty, expected a label")
        if kind is not None or "score" in header:
            if dev is not None or test is not None:
                raise ValueError(f"dev and test are given, but {source} is scored without training")
            protocol, classes = _untrained_protocol(source, kind, header, classes)
            part = Part(read_columns, (str(source),))
            return cls(name=name, protocol=protocol, senteval={"test": part}, classes=classes)
        if dev is not None and test is None:
            raise ValueError("dev requires test")
        if test is None:
            protocol = NestedKFold()
            paths = {"all": path}
        elif dev is None:
            protocol, paths = KFold(), {"train": path, "test": test}
        else:
            protocol, paths = FixedSplit(), {"train": path, "dev": dev, "test": test}
        parts = {
            part_name: Part(read_columns, (str(Path(file).resolve()),)) for part_name, file in paths.items()
        }
        return cls(name=name, protocol=protocol, senteval=parts, classes=classes)

    @classmethod
    def from_beir(
        cls, folder: str | os.PathLike[str], split: str | None = None, *, name: str | None = None
    ) -> "Task":
        """Makes a search task from a folder in BEIR's layout.

        Args:
            folder: A folder with ``corpus.jsonl``, ``queries.jsonl`` and ``qrels/SPLIT.tsv``.
            split: The judgments to use; by default ``test``, ``dev`` if there is no ``test``, or else the
                only ones.
            name: Name of the task; by default the name of the folder, followed by the split if it is given.

        Raises:
            DataError: There are no judgments of this split.
        """
        path = Path(folder).resolve()
        corpus, queries = str(path / CORPUS), (str(path / QUERIES), str(judgments_file(path, split)))
        parts = {"corpus": Part(read_documents, (corpus,)), "queries": Part(read_queries, queries)}
        default = path.name if split is None else f"{path.name}-{split}"
        return cls(name=default if name is None else name, protocol=Search(), senteval=parts)


def _untrained_protocol(
    path: Path, kind: FileKind | None, header: Sequence[str], classes: Classes
) -> tuple[EvaluationProtocol, Classes]:
    """Returns the protocol of a user's file that trains no probe, and the classes of the file."""
    if kind is None:
        return CosineSimilarity(), classes
    check_choice("kind", kind, FILE_KINDS)
    expected = {"text", "label"} if kind == "clustering" else {"text1", "text2", "label"}
    if not expected <= set(header):
        columns = ",".join(name for name in ("text", "text1", "text2", "label") if name in expected)
        raise DataError(f"{path}, line 1: columns are {','.join(header)}, expected {columns} for {kind}")
    # Average precision is that of the label 1, so that the file cannot name its labels.
    return (Clustering(), classes) if kind == "clustering" else (PairClassification(), ("0", "1"))


def _file_stem(path: Path) -> str:
    """Returns the name of a file without the suffixes of its format and of its compression."""
    return Path(without_compression(path.name)).stem


@cache
def published_checksums() -> dict[str, str]:
    """Returns the SHA-256 of the published files, by path below the data folder."""
    text = package_files("sentenc.evaluation").joinpath("SHA256SUMS").read_text("ascii")
    return {path: digest for digest, path in (line.split("  ") for line in text.splitlines())}


def file_checksum(path: Path) -> str:
    """Returns the SHA-256 of a file.

    Raises:
        DataError: The file is missing.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise DataError(f"{path}: no such file; pass the folder of the data as data (--data)") from None
