"""Corpus sources: text files and Hugging Face data sets."""

import glob
import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, get_args

from sentenc.errors import CorpusError, MissingExtraError, TextFileError
from sentenc.io.formats import file_format
from sentenc.io.tables import estimate_rows, open_columns
from sentenc.io.text import Malformed, open_lines

Form = Literal["sentences", "ordered", "pairs", "triplets"]
# Number of texts in a row of a file; a pair of the form "ordered" consists of two consecutive rows.
N_TEXTS: dict[str, int] = {"sentences": 1, "ordered": 1, "pairs": 2, "triplets": 3}
# Number of texts in an example.
COLUMNS: dict[str, int] = {"sentences": 1, "ordered": 2, "pairs": 2, "triplets": 3}
_DATASET = "hf:"
_ROWS_PER_SLICE = 1024
_MIB = 1 << 20
# A longer line is no text to train on.
_MOST_BYTES_PER_LINE = _MIB

# The texts of a row, stripped; () if the row is blank.
Row = tuple[str, ...] | Malformed


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source of a corpus: files of one form, and how examples are drawn from them.

    The suffix of a file determines its format: .tsv, .csv, .jsonl, .parquet, and plain text for any other.
    Plain text has one text a line. TSV has no quotes, and a header only if ``fields`` are set. CSV has a
    header. JSON lines, Parquet and data sets have named fields. All formats but Parquet may be compressed by
    gzip, bzip2, xz or Zstandard. The files of a source are read one after another; make each file a source of
    its own to mix large files.

    Attributes:
        files: Paths or globs. The matches of a glob are sorted, and ``**`` matches nested folders.
            Alternatively one data set: ``hf:NAME`` for a data set of the Hugging Face Hub, ``hf:NAME:CONFIG``
            for one of its configurations, or ``hf:FOLDER`` for a folder that ``save_to_disk`` wrote.
        form: The texts in a row. "sentences": one text. "pairs": two texts with a similar meaning. "triplets":
            a pair, and a third text that is a hard negative of the first. "ordered": one text of a document.
            Two adjacent texts of a document form an example; a blank line or the end of a file ends it.
        weight: Relative probability of a draw. The default, None, is the estimated number of examples, so
            that all sources end at about the same time.
        limit: Largest number of examples in a pass: the first ones that pass the filters of the corpus.
        repeat: Start the source again when it ends, until every other source has ended too.
        fields: Names of the columns with the texts; by default "text", or "text1", "text2" and "text3".
        split: Name of the split of a data set.

    Raises:
        TypeError: ``files`` or ``fields`` is not a list of strings.
        ValueError: A value is out of its range.
    """

    files: tuple[str, ...]
    form: Form
    weight: float | None = None
    limit: int | None = None
    repeat: bool = False
    fields: tuple[str, ...] = ()
    split: str = "train"

    def __post_init__(self) -> None:
        for name in ("files", "fields"):
            value: Any = getattr(self, name)
            if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
                raise TypeError(f"{name} is {value!r}, expected a list of strings")
            object.__setattr__(self, name, tuple(value))
        if not self.files:
            raise ValueError("files is empty, expected at least one path")
        if self.form not in get_args(Form):
            raise ValueError(f"form is {self.form!r}, expected one of {', '.join(get_args(Form))}")
        if self.weight is not None and not 0 < self.weight < float("inf"):
            raise ValueError(f"weight is {self.weight}, expected a positive number, or None")
        if self.limit is not None and self.limit < 1:
            raise ValueError(f"limit is {self.limit}, expected at least 1, or None")
        n_texts = N_TEXTS[self.form]
        if self.fields and len(set(self.fields)) != n_texts:
            raise ValueError(f"fields is {list(self.fields)}, expected {n_texts} different for {self.form}")
        if len(self.files) > 1 and any(name.startswith(_DATASET) for name in self.files):
            raise ValueError(f"files is {list(self.files)}, expected a data set ({_DATASET}...) to be alone")


class Reader(Protocol):
    """The rows of a source, in parts. The end of a part also ends a document.

    Attributes:
        name: Name of the source in reports.
        parts: Names of the parts.
    """

    name: str
    parts: tuple[str, ...]

    def rows(self, part: str) -> Iterator[tuple[int, Row]]:
        """Yields the rows of a part with their numbers, from 1."""

    def estimate(self) -> float:
        """Estimates the number of rows."""

    def identity(self) -> list[Any]:
        """Returns JSON values that change if the content changes."""


def open_source(source: Source) -> Reader:
    """Finds the files or loads the data set of a source.

    Raises:
        CorpusError: A path or glob matches no file, the format of a file cannot contain the form of the
            source, or the data set cannot be loaded or lacks the split or the fields.
        MissingExtraError: The source is a data set, and ``datasets`` is not installed.
    """
    return _Dataset(source) if source.files[0].startswith(_DATASET) else _Files(source)


class _Files:
    def __init__(self, source: Source) -> None:
        # A dict keeps the order of the files. A file that two globs match is read once.
        self.parts = tuple(dict.fromkeys(path for name in source.files for path in _matches(name)))
        self.name = ", ".join(source.files)
        self._n_texts = N_TEXTS[source.form]
        self._fields = source.fields
        for path in self.parts:
            with _corpus_errors():
                kind = file_format(path)
            if kind == "text" and self._n_texts > 1:
                raise CorpusError(
                    f"{path} is plain text, a text a line: {source.form} need "
                    f"{self._n_texts} columns, in .tsv, .csv, .jsonl or .parquet"
                )
            if kind == "text" and source.fields:
                raise CorpusError(f"{path} is plain text, which has no field {source.fields[0]!r}")

    def rows(self, part: str) -> Iterator[tuple[int, Row]]:
        kind = file_format(part)
        return _text_rows(part) if kind == "text" else self._table_rows(part, kind)

    def _table_rows(self, part: str, kind: str) -> Iterator[tuple[int, Row]]:
        has_header = kind != "tsv" or bool(self._fields)
        columns = [f"column {i}" for i in range(1, self._n_texts + 1)]
        if has_header:
            columns = list(self._fields or _default_fields(self._n_texts))
        names = None if has_header else columns
        # Of a TSV without a header, sentences are the first column.
        is_first = self._n_texts == 1
        with (
            _corpus_errors(),
            open_columns(
                part,
                columns,
                format=kind,
                names=names,
                ignore_extra=is_first,
                max_line_bytes=_MOST_BYTES_PER_LINE,
            ) as rows,
        ):
            for number, row in rows:
                if row is None or isinstance(row, Malformed):
                    yield number, row or ()
                else:
                    yield number, checked_row(row, columns)

    def estimate(self) -> float:
        with _corpus_errors():
            return sum(map(estimate_rows, self.parts))

    def identity(self) -> list[Any]:
        # Without the folders: a corpus that was moved is the same corpus.
        return [[os.path.basename(path), os.path.getsize(path), _ends(path)] for path in self.parts]


class _Dataset:
    def __init__(self, source: Source) -> None:
        self.name = source.files[0]
        self.parts: tuple[str, ...] = (f"{self.name}, split {source.split}",)
        self._fields = source.fields or _default_fields(N_TEXTS[source.form])
        self._data: Any = _load_dataset(self.name.removeprefix(_DATASET), source.split)
        for name in self._fields:
            if name not in self._data.column_names:
                raise CorpusError(
                    f"{self.parts[0]} has no column {name!r}, its columns are "
                    f"{', '.join(map(repr, self._data.column_names))}"
                )
        self._data = self._data.select_columns(list(self._fields))

    def rows(self, part: str) -> Iterator[tuple[int, Row]]:
        return self._rows(0, len(self._data))

    def estimate(self) -> float:
        return float(len(self._data))

    def identity(self) -> list[Any]:
        n_rows = len(self._data)
        digest = hashlib.sha256()
        for begin in (0, max(0, n_rows - _ROWS_PER_SLICE)):
            for number, row in self._rows(begin, min(n_rows, begin + _ROWS_PER_SLICE)):
                digest.update(repr((number, row)).encode())
        return [[n_rows, digest.hexdigest()]]

    def _rows(self, begin: int, end: int) -> Iterator[tuple[int, Row]]:
        # In slices, because reading a memory-mapped table row by row is slow.
        for start in range(begin, end, _ROWS_PER_SLICE):
            batch = self._data[start : min(start + _ROWS_PER_SLICE, end)]
            for number, values in enumerate(zip(*map(batch.get, self._fields), strict=True), start + 1):
                yield number, checked_row(values, self._fields)


def settings_of(source: Source) -> dict[str, Any]:
    """Returns the settings of a source that determine its examples, as JSON values, except for its files."""
    return {key: value for key, value in asdict(source).items() if key != "files"}


@contextmanager
def _corpus_errors() -> Iterator[None]:
    try:
        yield
    except TextFileError as error:
        raise CorpusError(str(error)) from error


def _text_rows(path: str) -> Iterator[tuple[int, Row]]:
    with _corpus_errors(), open_lines(path, max_line_bytes=_MOST_BYTES_PER_LINE) as lines:
        for number, line in lines:
            if isinstance(line, Malformed):
                yield number, line
            else:
                text = line.strip()
                yield number, (text,) if text else ()


def checked_row(values: Sequence[Any], names: Sequence[str]) -> Row:
    """Returns the texts of a row, stripped; malformed if one is not a string, or the third one is empty."""
    try:
        # One check of all values: escapes of JSON may be lone surrogates, which are not UTF-8.
        joined = "".join(values)
        if not joined.isascii():
            joined.encode()
    except (TypeError, UnicodeEncodeError):
        return _first_malformed(values, names)
    texts = tuple([value.strip() for value in values])
    if len(texts) == 3 and not texts[2]:
        return Malformed(f"{names[2]} is empty, expected the text of a negative")
    return texts


def _first_malformed(values: Sequence[Any], names: Sequence[str]) -> Malformed:
    for name, value in zip(names, values, strict=True):
        if not isinstance(value, str):
            return Malformed(f"{name} is {type(value).__name__}, expected a string")
        if any("\ud800" <= character <= "\udfff" for character in value):
            return Malformed(f"{name} is not UTF-8")
    raise ValueError(f"no value of {list(names)} is malformed")


def _default_fields(n_texts: int) -> tuple[str, ...]:
    return ("text",) if n_texts == 1 else tuple(f"text{i}" for i in range(1, n_texts + 1))


def _matches(name: str) -> list[str]:
    path = os.path.expanduser(name)
    if os.path.isdir(path):
        raise CorpusError(f"{name} is a folder, expected a file or a glob such as {os.path.join(name, '*')}")
    if os.path.exists(path):
        return [path]
    if not glob.has_magic(path):
        raise CorpusError(f"{name}: no such file")
    matches = sorted(match for match in glob.glob(path, recursive=True) if os.path.isfile(match))
    if not matches:
        raise CorpusError(f"{name}: no file matches")
    return matches


def _ends(path: str) -> str:
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        digest.update(file.read(_MIB))
        file.seek(max(0, os.path.getsize(path) - _MIB))
        digest.update(file.read(_MIB))
    return digest.hexdigest()


def _load_dataset(name: str, split: str) -> Any:
    try:
        datasets: Any = import_module("datasets")
    except ImportError as error:
        raise MissingExtraError("datasets", "datasets", f"reading {_DATASET}{name}") from error
    folder = Path(name).expanduser()
    try:
        if (folder / "state.json").exists() or (folder / "dataset_dict.json").exists():
            dataset: Any = datasets.load_from_disk(str(folder))
            if isinstance(dataset, datasets.DatasetDict):
                if split not in dataset:
                    raise CorpusError(
                        f"{_DATASET}{name} has no split {split!r}, only {', '.join(map(repr, dataset))}"
                    )
                dataset = dataset[split]
        else:
            hub_name, _, configuration = name.partition(":")
            dataset = datasets.load_dataset(hub_name, configuration or None, split=split)
    except (OSError, ValueError, KeyError) as error:
        if isinstance(error, CorpusError):
            raise
        raise CorpusError(f"{_DATASET}{name}, split {split}: {error}") from error
    return dataset
