"""The files to encode: from names, folders and patterns, on this machine or on an object store."""

import glob
import os
import re
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from sentenc.errors import ShardError
from sentenc.io.columns import listed
from sentenc.io.compression import without_compression
from sentenc.io.files import files_below
from sentenc.io.formats import SUFFIXES
from sentenc.io.remote import is_remote, remote_errors, remote_file_system, remote_version

# Text is read from a file with any suffix, but from a folder only if it has this one.
_TEXT = ".txt"
# The folder of a partition, as Hive, Spark and Arrow name it.
_PARTITION = re.compile(r"([A-Za-z_]\w*)=.*")


class Source(NamedTuple):
    """A file to encode.

    Attributes:
        path: Its path, absolute, or its address.
        size: Its number of bytes.
        version: Another value that changes with the content: the time of the last change, or an entity tag.
    """

    path: str
    size: int
    version: str

    @property
    def target(self) -> str:
        """The name of the file that is written for it."""
        name = without_compression(os.path.basename(self.path.rstrip("/")))
        stem, suffix = os.path.splitext(name)
        return (stem if suffix.lower() in (*SUFFIXES, _TEXT) else name) + ".parquet"


def list_sources(inputs: Iterable[str | os.PathLike[str]], output: str | os.PathLike[str]) -> list[Source]:
    """Returns the files that are meant by names, folders, patterns (``*``, ``?``, ``[...]``) and addresses.

    Of a folder, the files in it and below it are taken that have the suffix of a table or of text. Names that begin
    with a dot or an underscore are left out, as readers of Parquet do.

    Args:
        inputs: The names.
        output: The folder of the output. Its files are left out if it is in a folder of ``inputs``.

    Raises:
        ShardError: A folder or pattern has no file, a file is meant twice, or two files would have the same name
            in the output.
        TextFileError: A remote file does not exist, or its store cannot be read.
        OSError: A file does not exist.
    """
    sources: list[Source] = []
    below = _below(output)
    for value in inputs:
        path = os.fspath(value)
        if path == "-":
            raise ShardError("standard input (-) has no name for its output, expected files")
        known = _remote_sources(path) if is_remote(path) else _local_sources(path)
        if not known:
            raise ShardError(
                f"{path} contains no file to encode: expected .parquet, .csv, .tsv, .jsonl or .txt"
            )
        new = [source for source in known if not source.path.startswith(below)]
        if not new:
            raise ShardError(f"{path} is in the output {output}: choose another folder")
        sources += new
    _check_names(sources)
    _warn_of_partitions(sources)
    return sources


@contextmanager
def open_source(path: str) -> Iterator[Any]:
    """Opens a file to read bytes at any position. Of a remote file, only these bytes are transferred."""
    if not is_remote(path):
        with open(path, "rb") as file:
            yield file
        return
    with remote_errors(path):
        file_system, inside = remote_file_system(path)
        remote = file_system.open(inside, "rb", cache_type="none")
    with remote as file:
        yield file


def local_copy(path: str, folder: Path) -> str:
    """Returns the path of a file on this machine: of the file itself, or of a copy of a remote one in ``folder``."""
    if not is_remote(path):
        return path
    with remote_errors(path):
        file_system, inside = remote_file_system(path)
        copy = str(folder / os.path.basename(inside))
        file_system.get_file(inside, copy)
    return copy


def _below(folder: str | os.PathLike[str]) -> str:
    # The beginning of the paths in a folder.
    path = os.fspath(folder)
    if is_remote(path):
        return path.rstrip("/") + "/"
    return os.path.join(os.path.abspath(os.path.expanduser(path)), "")


def _local_sources(path: str) -> list[Source]:
    path = os.path.expanduser(path)
    if os.path.isdir(path):
        inside = files_below(path)
        files = [str(file) for file in inside if _is_data(file.relative_to(path).parts)]
    elif not os.path.exists(path) and glob.has_magic(path):
        files = sorted(file for file in glob.glob(path, recursive=True) if os.path.isfile(file))
    else:
        files = [path]
    return [_local_source(os.path.abspath(file)) for file in files]


def _local_source(path: str) -> Source:
    status = os.stat(path)
    return Source(path, status.st_size, str(status.st_mtime_ns))


def _remote_sources(path: str) -> list[Source]:
    with remote_errors(path):
        return _listed(*remote_file_system(path))


def _listed(file_system: Any, inside: str) -> list[Source]:
    # What an earlier call of this process has listed may have changed.
    file_system.invalidate_cache()
    # A "?" may begin the options of an address of HTTP.
    if glob.has_magic(inside) and not inside.startswith(("http://", "https://")):
        known = file_system.glob(inside, detail=True)
    elif (info := file_system.info(inside))["type"] == "file":
        known = {inside: info}
    else:
        root = inside.rstrip("/") + "/"
        below = file_system.find(inside, detail=True)
        known = {name: info for name, info in below.items() if _is_data(name.removeprefix(root).split("/"))}
    return [
        Source(file_system.unstrip_protocol(name), int(info["size"]), remote_version(info))
        for name, info in sorted(known.items())
        if info["type"] == "file"
    ]


def _is_data(parts: Sequence[str]) -> bool:
    suffix = os.path.splitext(without_compression(parts[-1].lower()))[1]
    return suffix in (*SUFFIXES, _TEXT) and not any(part.startswith((".", "_")) for part in parts)


def _warn_of_partitions(sources: list[Source]) -> None:
    # Writers of partitioned tables leave these columns out of the files.
    folders = {folder for source in sources for folder in source.path.replace(os.sep, "/").split("/")[:-1]}
    keys = sorted({match[1] for match in map(_PARTITION.fullmatch, folders) if match})
    if keys:
        warnings.warn(
            f"the columns {listed(keys)} are in the names of folders, such as {keys[0]}=..., and not in the files: "
            "the output will not contain them",
            stacklevel=4,
        )


def _check_names(sources: list[Source]) -> None:
    by_name: dict[str, str] = {}
    for source in sources:
        if source.target.startswith((".", "_")):
            raise ShardError(
                f"{source.path} would be written to {source.target}, which readers of a folder of Parquet leave out: "
                "rename it"
            )
        # Some file systems do not distinguish upper and lower case.
        other = by_name.get(source.target.lower())
        if other == source.path:
            raise ShardError(f"{source.path} is passed twice, expected each file once")
        if other is not None:
            raise ShardError(
                f"{other} and {source.path} would both be written to {source.target}: encode them into two "
                "folders, or rename one"
            )
        by_name[source.target.lower()] = source.path
