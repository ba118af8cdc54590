"""Corpus sources: text files, local or in an object store, and Hugging Face data sets."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from sentenc.errors import CorpusError, TextFileError
from sentenc.io.files import file_identity, file_size, matching_files
from sentenc.io.formats import file_format
from sentenc.io.remote import is_remote
from sentenc.io.tables import estimate_rows, open_columns
from sentenc.io.text import Malformed, open_lines
from sentenc.training.data.data_sets import DataSet, StreamedDataSet
from sentenc.training.data.rows import Reader, Row, checked_row, default_fields

Form = Literal["sentences", "ordered", "pairs", "triplets"]
# Number of texts in a row of a file; a pair of the form "ordered" consists of two consecutive rows.
N_TEXTS: dict[str, int] = {"sentences": 1, "ordered": 1, "pairs": 2, "triplets": 3}
# Number of texts in an example.
COLUMNS: dict[str, int] = {"sentences": 1, "ordered": 2, "pairs": 2, "triplets": 3}
_DATASET = "hf:"
# Settings that came later. Corpora without them keep their fingerprints.
_LATER_SETTINGS: dict[str, Any] = {"streaming": False, "revision": None}
# The remote files of a source that its number of rows is estimated from.
_MOST_ESTIMATES = 16
# A longer line is no text to train on.
_MOST_BYTES_PER_LINE = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Source:
    """A source of a corpus: files of one form, and how examples are drawn from them.

    The suffix of a file determines its format: .tsv, .csv, .jsonl, .parquet, and plain text for any other.
    Plain text has one text a line. TSV has no quotes, and a header only if ``fields`` are set. CSV has a
    header. JSON lines, Parquet and data sets have named fields. All formats but Parquet may be compressed by
    gzip, bzip2, xz or Zstandard. The files of a source are read one after another; make each file a source of
    its own to mix large files.

    Attributes:
        files: Paths or globs. The matches of a glob are sorted, and ``**`` matches nested folders. Addresses of
            fsspec, such as ``s3://BUCKET/FOLDER/*.parquet``, are read as streams (extra ``remote``).
            Alternatively one data set: ``hf:NAME`` for a data set of the Hugging Face Hub, ``hf:NAME:CONFIG``
            for one of its configurations, or ``hf:FOLDER`` for a folder of data files, or one that
            ``save_to_disk`` wrote.
        form: The texts in a row. "sentences": one text. "pairs": two texts with a similar meaning. "triplets":
            a pair, and a third text that is a hard negative of the first. "ordered": one text of a document.
            Two adjacent texts of a document form an example; a blank line or the end of a file ends it.
        weight: Relative probability of a draw. The default, None, is the estimated number of examples, so
            that all sources end at about the same time.
        limit: Largest number of examples in a pass: the first ones that pass the filters of the corpus.
        repeat: Start the source again when it ends, until every other source has ended too.
        fields: Names of the columns with the texts; by default "text", or "text1", "text2" and "text3".
        split: Name of the split of a data set.
        streaming: Read a data set as a stream instead of downloading it first. Its files then change their
            order from epoch to epoch.
        revision: The version of a data set on the Hub: a commit, a tag or a branch.

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
    streaming: bool = False
    revision: str | None = None

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
        if len(self.files) > 1 and any(map(is_data_set, self.files)):
            raise ValueError(f"files is {list(self.files)}, expected a data set ({_DATASET}...) to be alone")
        for key, default in _LATER_SETTINGS.items():
            if getattr(self, key) != default and not is_data_set(self.files[0]):
                raise ValueError(
                    f"{key} is {getattr(self, key)!r}, but files is {list(self.files)}: it belongs to a data set "
                    f"({_DATASET}...)"
                )


def is_data_set(name: str) -> bool:
    """Returns whether an entry of ``files`` names a Hugging Face data set; ``hf://`` begins the URL of a file."""
    return name.startswith(_DATASET) and not name.startswith(f"{_DATASET}//")


def open_source(source: Source) -> Reader:
    """Finds the files or loads the data set of a source.

    Raises:
        CorpusError: A path or glob matches no file, the format of a file cannot contain the form of the
            source, or the data set cannot be loaded or lacks the split or the fields.
        MissingExtraError: The source is a data set, and ``datasets`` is not installed.
    """
    if not is_data_set(source.files[0]):
        return _Files(source)
    fields = source.fields or default_fields(N_TEXTS[source.form])
    name = source.files[0].removeprefix(_DATASET)
    if source.streaming:
        return StreamedDataSet(name, source.split, fields, source.revision)
    return DataSet(name, source.split, fields, source.revision)


class _Files:
    def __init__(self, source: Source) -> None:
        # A dict keeps the order of the files. A file that two globs match is read once.
        with _corpus_errors():
            self.parts = tuple(dict.fromkeys(path for name in source.files for path in matching_files(name)))
        self.name = ", ".join(source.files)
        self._n_texts = N_TEXTS[source.form]
        self._fields = source.fields
        self._identity: list[Any] | None = None
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
            columns = list(self._fields or default_fields(self._n_texts))
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

    def estimate(self) -> float | None:
        with _corpus_errors():
            # Each estimate of a remote file is a request.
            step = -(-len(self.parts) // _MOST_ESTIMATES) if any(map(is_remote, self.parts)) else 1
            if step == 1:
                return sum(map(estimate_rows, self.parts))
            sample = self.parts[::step]
            share = sum(map(file_size, sample)) / max(1, sum(map(file_size, self.parts)))
            return sum(map(estimate_rows, sample)) / max(share, 1e-9)

    def identity(self) -> list[Any]:
        # Without the folders: a corpus that was moved is the same corpus.
        if self._identity is None:
            with _corpus_errors():
                self._identity = [file_identity(path) for path in self.parts]
        return self._identity


def settings_of(source: Source) -> dict[str, Any]:
    """Returns the settings of a source that determine its examples, as JSON values, except for its files."""
    settings = {key: value for key, value in asdict(source).items() if key != "files"}
    return {
        key: value
        for key, value in settings.items()
        if key not in _LATER_SETTINGS or value != _LATER_SETTINGS[key]
    }


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
