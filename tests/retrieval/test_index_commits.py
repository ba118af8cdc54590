"""Commits of an index: one writer, concurrent readers, and kills at any moment."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time

import numpy as np
import pytest

from sentenc import Index, IndexFormatError, IndexLockedError
from sentenc.retrieval import manifest, persistence
from tests.retrieval.test_index import assert_same, clustered
from tests.retrieval.test_index_folder import vectors_index


def test_an_index_that_was_replaced_is_not_appended_to(tmp_path):
    vectors_index(5).save(tmp_path / "index")
    opened_before = Index.open(tmp_path / "index")
    other = Index(dim=16)
    other.add(vectors=clustered(5, seed=9))
    shutil.rmtree(tmp_path / "index")
    other.save(tmp_path / "index")  # the same number of commits, and the same names
    with pytest.raises(IndexLockedError, match="written to since"):
        opened_before.add(vectors=clustered(1))
    vectors_index(7).save(tmp_path / "index")
    with pytest.raises(IndexLockedError):
        other.delete([0])
    assert len(Index.open(tmp_path / "index")) == 7


def test_a_save_interrupted_after_its_commit_counts(tmp_path, monkeypatch):
    index = vectors_index(50)
    index.save(tmp_path / "index")
    index.add(vectors=clustered(7, seed=1))

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(persistence, "remove_unnamed", interrupt)
        with pytest.raises(KeyboardInterrupt):
            index.save()
    assert len(Index.open(tmp_path / "index")) == 57
    index.add(vectors=clustered(3, seed=2))
    index.save()
    again = Index.open(tmp_path / "index")
    again.verify()
    assert len(again) == 60


def test_optimizing_without_changes_blocks_no_other_writer(tmp_path):
    vectors_index(50).save(tmp_path / "index")
    first = Index.open(tmp_path / "index")
    first.optimize()
    Index.open(tmp_path / "index").delete([0])


def test_a_reader_opens_while_a_writer_commits(tmp_path):
    folder = tmp_path / "index"
    vectors_index(600, kind="ivf").save(folder)
    stop = threading.Event()
    failures = []

    def read():
        while not stop.is_set():
            try:
                index = Index.open(folder)
                if len(index.search(clustered(1), 5)[0]) != 5:
                    failures.append("short")
            except Exception as error:
                failures.append(repr(error))

    reader = threading.Thread(target=read)
    reader.start()
    try:
        writer = Index.open(folder)
        for i in range(12):
            writer.add(vectors=clustered(100, seed=i))
            writer.optimize()
            writer.save()
    finally:
        stop.set()
        reader.join()
    assert failures == []


def test_a_reader_keeps_what_it_opened(tmp_path):
    index = vectors_index(50)
    index.save(tmp_path / "index")
    reader = Index.open(tmp_path / "index")
    before = reader.search(clustered(1), 60)
    index.delete(list(range(40)))
    index.optimize()
    index.save()
    assert_same(reader.search(clustered(1), 60), before)
    assert len(Index.open(tmp_path / "index")) == 10


def test_one_writer_at_a_time(tmp_path):
    vectors_index(5).save(tmp_path / "index")
    first, second = Index.open(tmp_path / "index"), Index.open(tmp_path / "index")
    first.add(vectors=clustered(1))
    with pytest.raises(IndexLockedError, match="being written to"):
        second.add(vectors=clustered(1))
    assert len(second) == 5
    first.save()
    with pytest.raises(IndexLockedError, match=r"commit 2, expected 1"):
        second.delete([0])
    third = Index.open(tmp_path / "index")
    third.add(vectors=clustered(1))
    third.close()
    Index.open(tmp_path / "index").delete([0])


def test_a_failed_save_changes_nothing(tmp_path, monkeypatch):
    index = vectors_index(50)
    index.save(tmp_path / "index")
    index.add(vectors=clustered(7, seed=1))

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(persistence, "write_manifest", fail)
        with pytest.raises(OSError, match="disk full"):
            index.save()
    assert len(Index.open(tmp_path / "index")) == 50
    index.save()
    again = Index.open(tmp_path / "index")
    again.verify()
    assert len(again) == 57


WRITER = """
    import sys, numpy as np
    from sentenc.retrieval import Index
    index = Index.open(sys.argv[1])
    rng = np.random.default_rng(0)
    print("ready", flush=True)
    for i in range(10_000):
        index.add(vectors=rng.normal(size=(50, 16)), ids=[f"{i}-{j}" for j in range(50)])
        index.delete([f"{i - 1}-{j}" for j in range(3)])
        if i % 4 == 3:
            index.optimize()
        index.save()
        print(i, flush=True)
"""


@pytest.mark.parametrize("patience", [0.05, 0.15, 0.3])
def test_kill_loses_nothing_committed(tmp_path, patience):
    folder = tmp_path / "index"
    vectors_index(50).save(folder)
    writer = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(WRITER), str(folder)], stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout.readline() == "ready\n"
    writer.stdout.readline()
    time.sleep(patience)
    os.kill(writer.pid, signal.SIGKILL)
    lines = [int(line) for line in writer.communicate()[0].split()]
    committed = lines[-1] if lines else 0
    index = Index.open(folder)
    index.verify()
    # Saves that returned are complete. The save that was killed is complete or absent.
    for i in range(committed + 1):
        assert f"{i}-49" in index
    assert len([item for item in index if str(item.id).startswith(f"{committed + 1}-")]) in (0, 50)
    assert all(name in index for name in range(50))
    # The lock ended with its process, and the next commit removes leftover files.
    index.add(vectors=np.ones((1, 16)), ids=["after"])
    index.save()
    again = Index.open(folder)
    again.verify()
    assert "after" in again
    listed = set(json.loads((folder / "index.json").read_text(encoding="utf-8"))["files"])
    on_disk = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert on_disk == listed | {"index.json", "lock"}


def test_a_check_and_a_commit_at_the_same_time(tmp_path, monkeypatch):
    index = vectors_index(50)
    index.save(tmp_path / "index")
    reader, describe = Index.open(tmp_path / "index"), manifest.describe_files

    def commit_first(*arguments):
        # The commit writes one segment instead of the one that is being read.
        monkeypatch.setattr(manifest, "describe_files", describe)
        index.add(vectors=clustered(40, seed=1))
        index.save()
        return describe(*arguments)

    monkeypatch.setattr(manifest, "describe_files", commit_first)
    reader.verify()
    assert manifest.describe_files is describe

    def unreadable(folder, name):
        raise PermissionError(13, "Permission denied", name)

    monkeypatch.setattr(manifest, "describe_files", unreadable)
    with pytest.raises(IndexFormatError, match=r"segment-.*Permission denied"):
        reader.verify()
