"""A remote file system for fsspec whose files are read in small blocks, and which counts what it sends."""

from contextlib import contextmanager

import fsspec
from fsspec.spec import AbstractBufferedFile, AbstractFileSystem

BLOCK = 4096


class BlockFile(AbstractBufferedFile):
    def _fetch_range(self, start, end):
        self.fs.n_sent += end - start
        if self.fs.broken_at is not None and end > self.fs.broken_at:
            raise OSError("the connection was closed")
        return self.fs.files[self.path][start:end]


class BlockFileSystem(AbstractFileSystem):
    """Files of a dict: their names without the protocol, and their content.

    Attributes:
        files: The files.
        n_sent: The number of bytes that were read.
        broken_at: A position from which on files cannot be read.
    """

    protocol = "blocks"
    cachable = False
    files: dict[str, bytes] = {}  # noqa: RUF012 (shared by all objects)
    n_sent = 0
    broken_at: int | None = None
    has_versions = True

    def _open(self, path, mode="rb", block_size=None, **_):
        if path not in self.files:
            raise FileNotFoundError(path)
        return BlockFile(
            type(self), path, size=len(self.files[path]), block_size=BLOCK, cache_type="readahead"
        )

    def info(self, path, **_):
        path = self._strip_protocol(path)
        if path in self.files:
            version = {"ETag": f"v{hash(self.files[path])}"} if self.has_versions else {}
            return {"name": path, "size": len(self.files[path]), "type": "file"} | version
        if any(name.startswith(f"{path}/") for name in self.files):
            return {"name": path, "size": 0, "type": "directory"}
        raise FileNotFoundError(path)

    def ls(self, path, detail=True, **_):
        path = self._strip_protocol(path)
        inside = {name[len(path) + 1 :].split("/")[0] for name in self.files if name.startswith(f"{path}/")}
        infos = [self.info(f"{path}/{name}") for name in sorted(inside)]
        return infos if detail else [info["name"] for info in infos]


@contextmanager
def block_files(files):
    """Registers the protocol ``blocks://`` with some files; yields the class with its counts."""
    fsspec.register_implementation("blocks", BlockFileSystem, clobber=True)
    BlockFileSystem.files = {name: bytes(content) for name, content in files.items()}
    BlockFileSystem.n_sent, BlockFileSystem.broken_at, BlockFileSystem.has_versions = 0, None, True
    try:
        yield BlockFileSystem
    finally:
        BlockFileSystem.files = {}
