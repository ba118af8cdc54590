"""The manifest of a folder of encoded files, and the check of the files that are there already."""

import json
import math
import time
from collections.abc import Iterable
from typing import Any, NamedTuple

from sentenc._version import __version__
from sentenc.errors import ShardError
from sentenc.shards.footers import Footer, read_footer
from sentenc.shards.options import difference
from sentenc.shards.sources import Source
from sentenc.shards.storage import Folder

#: The name of the manifest. Readers of folders of Parquet ignore names that begin with an underscore.
MANIFEST = "_manifest.json"
_FORMAT = "sentenc-vectors"
_VERSION = 1
# A manifest of a hundred thousand files has 30 MB, so it is not written after each of them.
_SECONDS_BETWEEN_WRITES = 5.0


class Shard(NamedTuple):
    """An entry of the manifest: the number of rows of a file, and its source."""

    rows: int
    source: Source


class Manifest:
    """The manifest of a folder: the model and options of its vectors, and its files.

    Every file also has its own entry in its footer. So a manifest that misses the last files of a killed run, or is
    deleted, costs no work.

    Args:
        folder: The folder.
        described: The model and options of this run; see :meth:`EncodingOptions.described`.

    Raises:
        ShardError: The folder was written with another model or other options, or its manifest is damaged.
    """

    def __init__(self, folder: Folder, described: dict[str, Any]) -> None:
        self._folder, self._described = folder, described
        self._names = folder.names()
        self._shards: dict[str, dict[str, Any]] = {}
        # The time of the last write, by the monotonic clock. Before the first call of ``write``, ``add`` writes nothing.
        self._written = math.inf
        if MANIFEST in self._names:
            self._shards = self._read()

    def state_of(self, source: Source) -> "Shard | str | None":
        """Checks the file that belongs to a source.

        Returns:
            Its entry if it is whole. A reason if it must be written again. None if there is none.

        Raises:
            ShardError: The file was not written by sentenc, or from another source, or with other options.
        """
        if source.target not in self._names:
            return None
        path = self._folder.path_of(source.target)
        advice = "choose another folder, or delete the file"
        footer = read_footer(path)
        if footer is None:
            if MANIFEST in self._names:
                return f"{source.target} is damaged"
            raise ShardError(f"{path} exists, and is not Parquet: {advice}")
        if footer.described is None:
            raise ShardError(f"{path} exists, and was not written by this command: {advice}")
        other = difference(self._described, footer.described)
        if other is not None:
            raise ShardError(f"{path} was written otherwise: {other}: {advice}")
        return self._checked(path, footer, source, advice)

    def _checked(self, path: str, footer: Footer, source: Source, advice: str) -> "Shard | str":
        is_same = (footer.source.size, footer.source.version) == (source.size, source.version)
        if footer.source.path != source.path and not (is_same and _identifies(source.version)):
            raise ShardError(
                f"{path} has the vectors of {footer.source.path}, expected {source.path}: {advice}"
            )
        if is_same and source.version:
            return Shard(footer.rows, source)
        return f"{source.path} has changed"

    def add(self, shards: Iterable[Shard]) -> None:
        """Adds entries, and writes the manifest unless it was written a moment ago."""
        for shard in shards:
            self._shards[shard.source.target] = {"rows": shard.rows, "source": shard.source._asdict()}
        if time.monotonic() - self._written > _SECONDS_BETWEEN_WRITES:
            self.write()

    def write(self) -> None:
        """Writes the manifest."""
        content = {
            "format": _FORMAT,
            "version": _VERSION,
            "sentenc": __version__,
            **self._described,
            "rows": sum(shard["rows"] for shard in self._shards.values()),
            "shards": dict(sorted(self._shards.items())),
        }
        with self._folder.writing(MANIFEST) as path:
            path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8", newline="\n")
        self._written = time.monotonic()

    def _read(self) -> dict[str, dict[str, Any]]:
        path = self._folder.path_of(MANIFEST)
        try:
            content = json.loads(self._folder.read(MANIFEST))
            if (content["format"], content["version"]) != (_FORMAT, _VERSION):
                raise ShardError(
                    f"{path} has format {content['format']!r} and version {content['version']!r}, expected "
                    f"{_FORMAT!r} and {_VERSION}: choose another folder"
                )
            shards: dict[str, dict[str, Any]] = content["shards"]
            other = difference(self._described, content)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ShardError(f"{path} is damaged: delete it, and it is written again") from error
        if other is not None:
            raise ShardError(
                f"{self._folder} was written with another model or other options: {other}. Repeat these, or choose "
                "another folder"
            )
        return {name: shard for name, shard in shards.items() if name in self._names}


def _identifies(version: str) -> bool:
    # Whether hardly two files have it: an entity tag, or a time with a fraction of a second. Files from an archive have
    # whole seconds, often the same for all.
    return bool(version) and not (version.isdigit() and int(version) % 10**9 == 0)
