"""The folder of temporary files of an output on an object store."""

import os
import tempfile

import pytest

from sentenc.errors import ShardError
from sentenc.shards.storage import RemoteFolder


@pytest.fixture
def folder(tmp_path, monkeypatch):
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    return RemoteFolder("memory://bucket/out")


def lock(folder):
    with folder.locked():
        pass


def test_nothing_is_deleted_behind_a_link(folder, tmp_path):
    victim = tmp_path / "victim"
    victim.mkdir()
    # Even a name like one of ours is out of reach.
    for name in ("thesis.txt", ".copy.abc123.tmp"):
        (victim / name).write_text("mine")
    folder.staging().symlink_to(victim)
    with pytest.raises(
        ShardError, match=r"sentenc-\w+ is a link, expected a folder: delete it, or set TMPDIR"
    ):
        lock(folder)
    assert sorted(os.listdir(victim)) == [".copy.abc123.tmp", "thesis.txt"]


def test_a_dangling_link_and_a_file_are_refused(folder, tmp_path):
    folder.staging().symlink_to(tmp_path / "nowhere")
    with pytest.raises(ShardError, match="is a link, expected a folder"):
        lock(folder)
    assert not (tmp_path / "nowhere").exists()
    folder.staging().unlink()
    folder.staging().write_text("")
    with pytest.raises(ShardError, match="is a file, expected a folder"):
        lock(folder)


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="a system without user ids")
def test_the_folder_of_another_user_is_refused(folder, monkeypatch):
    folder.staging().mkdir()
    owner = os.getuid()
    monkeypatch.setattr(os, "getuid", lambda: owner + 1)
    with pytest.raises(ShardError, match=f"belongs to the user {owner}, expected {owner + 1}: set TMPDIR"):
        lock(folder)


def test_only_temporary_files_of_this_package_are_deleted(folder):
    staging = folder.staging()
    (staging / ".copy.abc123.tmp").mkdir(parents=True)
    (staging / ".copy.abc123.tmp" / "part.parquet").write_text("half")
    (staging / "notes.txt").write_text("mine")
    lock(folder)
    assert os.listdir(staging) == ["notes.txt"]


def test_what_a_killed_run_leaves_is_deleted_by_the_next_run(folder):
    lock(folder)
    folder.staging().mkdir(mode=0o700)
    with folder.temporary() as used:
        (used / "part.parquet").write_text("half")
        lock(folder)
        assert not used.exists()
        # The end of the block expects its folder.
        used.mkdir(parents=True)
    folder.staging().rmdir()
