"""Hugging Face data sets as sources of a corpus: mapped into memory, or streamed."""

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from itertools import islice
from pathlib import Path
from typing import Any

from sentenc.errors import CorpusError, MissingExtraError
from sentenc.io.columns import listed
from sentenc.training.data.rows import Row, checked_row

_ROWS_PER_SLICE = 1024
# Files of a folder that ``save_to_disk`` wrote.
_SAVED = ("state.json", "dataset_dict.json")


class DataSet:
    """The rows of a data set on disk, which is downloaded if it is not there.

    Args:
        name: Name on the Hub, NAME:CONFIG for one of its configurations, or a folder: of data files, or one that
            ``save_to_disk`` wrote.
        split: Name of the split.
        fields: Names of the columns with the texts.
        revision: The version on the Hub; None for the newest.

    Raises:
        CorpusError: The data set cannot be loaded, or lacks the split or a field.
        MissingExtraError: ``datasets`` is not installed.
    """

    def __init__(self, name: str, split: str, fields: Sequence[str], revision: str | None = None) -> None:
        self.name = f"hf:{name}"
        self.parts: tuple[str, ...] = (f"{self.name}, split {split}",)
        self._fields = tuple(fields)
        data = _load(name, split, revision, streaming=False)
        _check_columns(self.parts[0], data.column_names, self._fields)
        self._data: Any = data.select_columns(list(self._fields))

    def rows(self, part: str) -> Iterator[tuple[int, Row]]:
        """Yields the rows with their numbers, from 1."""
        return self._rows(0, len(self._data))

    def estimate(self) -> float | None:
        """Returns the number of rows."""
        return float(len(self._data))

    def identity(self) -> list[Any]:
        """Returns the number of rows, and a hash of the first and the last ones."""
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


class StreamedDataSet:
    """The rows of a data set that is read as a stream, without a copy on disk or in memory.

    Its shards, which are mostly the files of the data set, are the parts of the source. Arguments and errors are
    those of :class:`DataSet`.
    """

    def __init__(self, name: str, split: str, fields: Sequence[str], revision: str | None = None) -> None:
        self.name = f"hf:{name}"
        self._place = f"{self.name}, split {split}"
        self._split, self._fields = split, tuple(fields)
        data = _load(name, split, revision, streaming=True)
        # A format without types, such as JSON lines, has no columns before its first row.
        columns = data.column_names or list(next(_reading(self._place, data), {}))
        _check_columns(self._place, columns, self._fields)
        self._data: Any = data.select_columns(list(self._fields)).with_format("arrow")
        n = int(data.num_shards)
        self.parts: tuple[str, ...] = tuple(f"{self._place}, shard {i} of {n}" for i in range(1, n + 1))
        self._identity: list[Any] | None = None

    def rows(self, part: str) -> Iterator[tuple[int, Row]]:
        """Yields the rows of a shard with their numbers, from 1.

        Raises:
            CorpusError: While the rows are read: they cannot be fetched, or a column is missing.
        """
        data = self._data
        if len(self.parts) > 1:
            data = data.shard(num_shards=len(self.parts), index=self.parts.index(part))
        number = 0
        batches = data.iter(batch_size=_ROWS_PER_SLICE)
        for table in _reading(part, batches):
            _check_columns(part, table.column_names, self._fields)
            for values in zip(*(table.column(name).to_pylist() for name in self._fields), strict=True):
                number += 1
                yield number, checked_row(values, self._fields)

    def estimate(self) -> float | None:
        """Returns the number of rows that the data set states, or None."""
        splits = self._data.info.splits or {}
        n_rows = splits[self._split].num_examples if self._split in splits else None
        return float(n_rows) if n_rows else None

    def identity(self) -> list[Any]:
        """Returns the numbers of shards and rows, and a hash of the first rows.

        The last rows are not read: they are at the end of a stream.
        """
        if self._identity is None:
            digest = hashlib.sha256()
            for item in islice(self.rows(self.parts[0]), _ROWS_PER_SLICE):
                digest.update(repr(item).encode())
            self._identity = [[len(self.parts), self.estimate(), digest.hexdigest()]]
        return self._identity


def _check_columns(place: str, columns: Sequence[str], fields: Sequence[str]) -> None:
    for name in fields:
        if name not in columns:
            raise CorpusError(f"{place} has no column {name!r}, its columns are {listed(columns)}")


def _reading(place: str, items: Iterable[Any]) -> Iterator[Any]:
    # Any exception of the library is one of reading: those of its HTTP client have no common base class.
    iterator, done = iter(items), 0
    while True:
        try:
            item = next(iterator)
        except StopIteration:
            return
        except Exception as error:
            raise CorpusError(f"{place}, after row {done}: {type(error).__name__}: {error}") from error
        yield item
        done += len(item) if hasattr(item, "column_names") else 1


def _load(name: str, split: str, revision: str | None, *, streaming: bool) -> Any:
    try:
        datasets: Any = import_module("datasets")
    except ImportError as error:
        raise MissingExtraError("datasets", "datasets", f"reading hf:{name}") from error
    folder = Path(name).expanduser()
    options: dict[str, Any] = {} if revision is None else {"revision": revision}
    if streaming:
        options["streaming"] = True
    try:
        if any((folder / marker).exists() for marker in _SAVED):
            if options:
                raise CorpusError(
                    f"hf:{name} is a folder that save_to_disk wrote, which is mapped into memory: remove "
                    f"{' and '.join(options)}"
                )
            return _saved(datasets, name, folder, split)
        hub_name, _, configuration = name.partition(":")
        return datasets.load_dataset(hub_name, configuration or None, split=split, **options)
    except (OSError, ValueError, KeyError, datasets.exceptions.DatasetsError) as error:
        if isinstance(error, CorpusError):
            raise
        raise CorpusError(f"hf:{name}, split {split}: {error}") from error


def _saved(datasets: Any, name: str, folder: Path, split: str) -> Any:
    data = datasets.load_from_disk(str(folder))
    if not isinstance(data, datasets.DatasetDict):
        return data
    if split not in data:
        raise CorpusError(f"hf:{name} has no split {split!r}, only {listed(list(data))}")
    return data[split]
