"""Files by path or address: opened, sized, identified and listed alike."""

import os
import sys

import pytest

from sentenc.errors import MissingExtraError, TextFileError
from sentenc.io.files import file_identity, file_size, files_below, is_folder, matching_files, open_file

pytest.importorskip("fsspec")
from tests.support.remote import block_files

FILES = {"b/a.txt": b"one\n", "b/deep/c.txt": b"three", "b/d.csv": b"x,y\n", "b/[1].txt": b"1"}


@pytest.fixture(params=["local", "blocks", "memory", "file"])
def root(request, tmp_path):
    """A folder with the files, as a path or an address."""
    if request.param == "blocks":
        with block_files(FILES):
            yield "blocks://b"
        return
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if request.param == "memory":
        import fsspec

        memory = fsspec.filesystem("memory")
        for name, content in FILES.items():
            memory.pipe(f"/{name}", content)
        yield "memory://b"
        memory.rm("/b", recursive=True)
    else:
        yield f"{'file://' if request.param == 'file' else ''}{tmp_path}/b"


def test_a_file_is_read_and_sized(root):
    with open_file(f"{root}/a.txt") as file:
        assert file.read() == b"one\n"
    assert file_size(f"{root}/d.csv") == 4
    name, size, version = file_identity(f"{root}/deep/c.txt")
    assert (name, size) == ("c.txt", 5)
    assert version
    assert is_folder(f"{root}/deep")
    assert not is_folder(f"{root}/a.txt")


def test_globs_match_files_in_order(root):
    assert [read(name) for name in matching_files(f"{root}/*.txt")] == [b"1", b"one\n"]
    assert [read(name) for name in matching_files(f"{root}/**/*.txt")] == [b"1", b"one\n", b"three"]
    assert [read(name) for name in matching_files(f"{root}/d.csv")] == [b"x,y\n"]


def read(name):
    with open_file(name) as file:
        return file.read()


def test_what_does_not_match_is_named(root):
    for name, fact in (
        (f"{root}/e.txt", "no such file"),
        (f"{root}/*.parquet", "no file matches"),
        (f"{root}/deep", "is a folder"),
    ):
        with pytest.raises(TextFileError, match=fact) as error:
            matching_files(name)
        assert name in str(error.value)


def test_a_file_without_a_version_is_identified_by_its_ends():
    with block_files({"a": b"x" * 10, "b": b"x" * 9 + b"y"}) as system:
        assert file_identity("blocks://a")[2] != file_identity("blocks://b")[2]
        system.has_versions = False
        one, other = file_identity("blocks://a")[2], file_identity("blocks://b")[2]
        assert len(one) == len(other) == 64
        assert one != other


def test_a_remote_file_is_not_read_whole():
    with block_files({"a": bytes(1 << 20)}) as system, open_file("blocks://a") as file:
        file.read(10)
        assert 0 < system.n_sent < 20_000


def test_errors_name_the_address_and_the_package(monkeypatch):
    with block_files({}), pytest.raises(TextFileError, match=r"blocks://x: FileNotFoundError"):
        open_file("blocks://x")
    with pytest.raises(TextFileError, match=r"nowhere://x: .*nowhere"):
        open_file("nowhere://x")
    for package, address in (("s3fs", "s3://bucket/x"), ("huggingface_hub", "hf://datasets/a/b/c")):
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(MissingExtraError) as error:
            open_file(address)
        assert (error.value.extra, error.value.package) == ("remote", package)
        assert address in str(error.value)
    # gcsfs is not part of the extra.
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    with pytest.raises(TextFileError, match=r"gs://bucket/x: .*gcsfs"):
        open_file("gs://bucket/x")
    monkeypatch.setitem(sys.modules, "fsspec.core", None)
    with pytest.raises(MissingExtraError) as error:
        matching_files("s3://bucket/*")
    assert (error.value.extra, error.value.package) == ("remote", "fsspec")


def test_files_below_a_folder_are_those_of_linked_folders_too(tmp_path):
    folder, disk = tmp_path / "folder", tmp_path / "disk"
    for path in (folder / "b" / "one.txt", disk / "deep" / "two.txt", disk / "three.txt"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("a text\n")
    (folder / "a").symlink_to(disk)
    (folder / "file.txt").symlink_to(disk / "three.txt")
    (folder / "gone.txt").symlink_to(disk / "absent.txt")
    # Neither a second way to a folder nor a cycle adds files.
    (folder / "again").symlink_to(folder / "b")
    (disk / "deep" / "cycle").symlink_to(folder)
    expected = ["a/deep/two.txt", "a/three.txt", "b/one.txt", "file.txt"]
    assert [path.relative_to(folder).as_posix() for path in files_below(folder)] == expected


@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() == 0, reason="root reads every folder")
def test_a_folder_that_cannot_be_read_is_an_error(tmp_path):
    (tmp_path / "closed").mkdir(mode=0)
    with pytest.raises(PermissionError, match="closed"):
        files_below(tmp_path)
