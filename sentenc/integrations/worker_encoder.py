"""Encodes a column of Arrow tables with one model a process, for the adapters of engines."""

import os
import pickle
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from hashlib import blake2b
from pathlib import Path
from typing import Any

from sentenc.encoders.base import Encoder
from sentenc.encoders.lazy import LazyEncoder
from sentenc.errors import MissingExtraError
from sentenc.integrations.embedder import Model
from sentenc.io.files import files_below
from sentenc.registry import available_models, load


class WorkerEncoder:
    """Adds vectors to Arrow tables with fixed options; engines pickle it to send it to their workers.

    A name, a folder or a Hub id is sent as such, and every process loads the model once, and again for a
    ``WorkerEncoder`` that is made after the files of the folder have changed. An encoder is sent with its
    weights, and every process unpickles it once. It keeps its own number of threads.

    Args:
        model: An encoder, or an argument of :func:`sentenc.load`.
        threads: The number of threads of a model that is not an encoder yet. By default all cores.
        options: The options of :meth:`sentenc.Encoder.encode_table`.
    """

    def __init__(self, model: Model, *, threads: int | None, **options: Any) -> None:
        self._model: Encoder | _Named | _Pickled
        self._model = model if isinstance(model, Encoder) else _named(model, threads)
        self.options: Mapping[str, Any] = options

    @property
    def encoder(self) -> Encoder:
        """The encoder, which is loaded when this process first uses it."""
        return self._model if isinstance(self._model, Encoder) else _loaded(self._model)

    def __call__(self, table: Any) -> Any:
        """Returns a ``pyarrow.Table`` or ``RecordBatch`` as a table with the vectors."""
        return self.encoder.encode_table(table, **self.options)

    def batches(self, batches: Iterator[Any]) -> Iterator[Any]:
        """Yields record batches with the vectors, in the order of the input."""
        for batch in batches:
            yield from self(batch).to_batches()

    def empty(self) -> Any:
        """Returns the table of no text, whose last columns and metadata are those of every result.

        Raises:
            ValueError: An option is out of range.
            TypeError: An option is of the wrong type.
        """
        pyarrow = import_pyarrow()
        return self(pyarrow.table({self.options["text"]: pyarrow.array([], pyarrow.string())}))

    def __getstate__(self) -> dict[str, Any]:
        model = self._model
        if isinstance(model, Encoder):
            data = pickle.dumps(model, protocol=pickle.HIGHEST_PROTOCOL)
            model = _Pickled(blake2b(data, digest_size=16).hexdigest(), data)
        return {"_model": model, "options": self.options}


@dataclass(frozen=True)
class _Named:
    model: str
    threads: int | None
    # Changes with the files of a folder, so that a process which has loaded it before loads it again.
    version: str = ""


@dataclass(frozen=True)
class _Pickled:
    digest: str
    data: bytes = field(compare=False, repr=False)


# The encoders of this process.
_sources: "dict[_Named | _Pickled, LazyEncoder]" = {}


def _loaded(model: _Named | _Pickled) -> Encoder:
    # The threads of an engine may use the model first at the same time; one of them loads it.
    return _sources.setdefault(model, LazyEncoder(partial(_load, model))).encoder


def _load(model: _Named | _Pickled) -> Encoder:
    if isinstance(model, _Named):
        return load(model.model, threads=model.threads)
    encoder: Encoder = pickle.loads(model.data)
    return encoder


def _named(model: str | os.PathLike[str], threads: int | None) -> _Named:
    # Workers have another working folder, so a path is absolute.
    name = os.fspath(model)
    path = Path(name).expanduser()
    if name in available_models() or not path.exists():
        return _Named(name, threads)
    path = path.absolute()
    files = files_below(path) if path.is_dir() else [path]
    states = [(str(file), file.stat()) for file in files]
    version = repr([(file, state.st_size, state.st_mtime_ns, state.st_ino) for file, state in states])
    return _Named(str(path), threads, blake2b(version.encode(), digest_size=16).hexdigest())


def import_pyarrow() -> Any:
    """Returns the module pyarrow.

    Raises:
        MissingExtraError: pyarrow is not installed.
    """
    try:
        import pyarrow
    except ImportError as error:
        raise MissingExtraError("parquet", "pyarrow", "an adapter of an engine") from error
    return pyarrow
