"""An index on disk: what is committed stays, whatever is killed or damaged."""

import json
import os
import signal
import subprocess
import sys
import textwrap
import time

import numpy as np
import pytest
from conftest import make_cse

from sentenc import Index, IndexFormatError, IndexLockedError, ModelNotFoundError
from sentenc.retrieval import storage

from .test_index import assert_same, clustered

KINDS = ["exact", "ivf", "hnsw"]


def vectors_index(n=100, **options):
    index = Index(dim=16, **options)
    index.add(vectors=clustered(n), payloads=[{"i": i} for i in range(n)])
    return index


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("store", ["float32", "float16", "int8", "binary"])
def test_saved_is_what_was(tmp_path, kind, store):
    index = vectors_index(600, kind=kind, store=store)
    index.delete([5])
    index.optimize()
    index.save(tmp_path / "index")
    again = Index.open(tmp_path / "index")
    again.verify()
    queries = clustered(20, seed=3)
    # Both search what lies on disk, in the codes that lie there.
    assert_same(again.search(queries, 7), index.search(queries, 7))
    assert again.info() == index.info()
    assert list(again) == list(index)
    assert 5 not in again


def test_codes_cost_what_they_should(tmp_path):
    vectors = clustered(4000)
    exact = Index(dim=16)
    exact.add(vectors=vectors)
    right = [{hit.id for hit in hits} for hits in exact.search(vectors[:50], 10)]
    overlap, size = {}, {}
    for store in ("float32", "float16", "int8", "binary"):
        index = Index(dim=16, store=store)
        index.add(vectors=vectors)
        index.save(tmp_path / store)
        size[store] = (tmp_path / store / "segment-000001-0000" / "vectors.npy").stat().st_size
        answers = index.search(vectors[:50], 10)
        overlap[store] = np.mean(
            [len({h.id for h in a} & r) / 10 for a, r in zip(answers, right, strict=True)]
        )
    assert overlap["float32"] == 1.0
    assert overlap["float16"] > 0.97
    assert overlap["int8"] > 0.9
    assert overlap["binary"] > 0.1
    assert size["float32"] > 1.9 * size["float16"] > 3.6 * size["int8"] > 20 * size["binary"]


def test_appending_writes_only_what_is_new(tmp_path):
    index = vectors_index(500)
    index.save(tmp_path / "index")
    first = tmp_path / "index" / "segment-000001-0000" / "vectors.npy"
    before = first.stat().st_ino, first.stat().st_mtime_ns
    index.add(vectors=clustered(20, seed=1))
    index.save()
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == before
    again = Index.open(tmp_path / "index")
    assert len(again) == 520
    assert again.info()["segments"] == 2


def test_many_small_saves_make_few_segments(tmp_path):
    index = Index(dim=16)
    index.add(vectors=clustered(1))
    index.save(tmp_path / "index")
    for i in range(40):
        index.add(vectors=clustered(1, seed=i), ids=[f"n{i}"])
        index.save()
    again = Index.open(tmp_path / "index")
    assert len(again) == 41
    assert again.info()["segments"] < 8
    assert all(f"n{i}" in again for i in range(40))
    named = {path.name for path in (tmp_path / "index").iterdir()}
    assert len(named) == again.info()["segments"] + 2  # the manifest and the lock


def test_saving_elsewhere_copies_and_replaces_only_indexes(tmp_path):
    index = vectors_index(50, store="int8")
    index.save(tmp_path / "a")
    index.add(vectors=clustered(3, seed=1))
    index.save(tmp_path / "b")
    assert len(Index.open(tmp_path / "a")) == 50
    again = Index.open(tmp_path / "b")
    again.verify()
    assert len(again) == 53
    index.save(tmp_path / "a")
    assert len(Index.open(tmp_path / "a")) == 53
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious.txt").write_text("x")
    with pytest.raises(IndexFormatError, match="exists and is not an index"):
        index.save(tmp_path / "other")
    assert (tmp_path / "other" / "precious.txt").exists()


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
    with pytest.raises(
        IndexLockedError, match=r"was written to since it was opened \(commit 2, expected 1\)"
    ):
        second.delete([0])
    third = Index.open(tmp_path / "index")
    third.add(vectors=clustered(1))
    third.close()
    Index.open(tmp_path / "index").delete([0])


def test_notes_and_empty_indexes(tmp_path):
    index = Index(make_cse())
    index.notes["build"] = {"done": 0}
    index.save(tmp_path / "index")
    again = Index.open(tmp_path / "index", make_cse())
    assert again.notes == {"build": {"done": 0}}
    assert again.search("dog") == []
    again.optimize()
    again.add(["dog"])
    again.save()
    assert Index.open(tmp_path / "index", make_cse()).search("dog", 3)[0].text == "dog"


def test_no_encoder_where_none_is_needed(tmp_path):
    make_cse().save(tmp_path / "model")
    index = Index(tmp_path / "model")
    index.add(["dog", "cat"])
    index.save(tmp_path / "index")
    assert Index.open(tmp_path / "index").search("dog", 1)[0].id == 0
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    with pytest.raises(ModelNotFoundError):
        Index.open(tmp_path / "index")
    opened = Index.open(tmp_path / "index", encoder=False)
    assert opened.delete([0]) == 1
    with pytest.raises(ValueError, match="has no encoder"):
        opened.search("dog")
    opened.close()
    assert Index.open(tmp_path / "index", tmp_path / "elsewhere").search("cat", 1)[0].id == 1


def test_text_of_any_kind_comes_back(tmp_path):
    texts = ["naïve 東京 🎉", "two\nlines\u2028and more", "\ud800 lone", '"quotes" \\ and \x00 zero', ""]
    index = Index(make_cse())
    index.add(texts, ids=["é", "\udfff", "a\nb", "", " "])
    index.save(tmp_path / "index")
    again = Index.open(tmp_path / "index")
    assert [item.text for item in again] == texts
    assert again.get(["\udfff", ""])[0].text == texts[1]


@pytest.mark.parametrize("damage", ["vectors.npy", "items.jsonl", "offsets.npy"])
def test_damage_is_named(tmp_path, damage):
    vectors_index(50).save(tmp_path / "index")
    path = tmp_path / "index" / "segment-000001-0000" / damage
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(IndexFormatError, match=f"{damage} does not have the sha256"):
        Index.open(tmp_path / "index").verify()
    path.write_bytes(content[:-3])
    with pytest.raises(IndexFormatError, match=f"{damage} has .* bytes, expected"):
        Index.open(tmp_path / "index")
    path.unlink()
    with pytest.raises(IndexFormatError, match=f"{damage} cannot be read"):
        Index.open(tmp_path / "index")


def test_a_bad_manifest_is_named(tmp_path):
    vectors_index(5).save(tmp_path / "index")
    manifest = tmp_path / "index" / "index.json"
    content = json.loads(manifest.read_text())
    for change, message in [
        ({"format_version": 99}, "format_version 99, expected 1"),
        ({"surprise": 1}, r"unexpected: \['surprise'\]"),
    ]:
        manifest.write_text(json.dumps(content | change))
        with pytest.raises(IndexFormatError, match=message):
            Index.open(tmp_path / "index")
    manifest.write_text("{")
    with pytest.raises(IndexFormatError, match="not JSON"):
        Index.open(tmp_path / "index")
    vectors_index(3).save(tmp_path / "index")  # a damaged index can be replaced
    assert len(Index.open(tmp_path / "index")) == 3
    with pytest.raises(IndexFormatError, match="is not an index"):
        Index.open(tmp_path)


def test_a_failed_save_changes_nothing(tmp_path, monkeypatch):
    index = vectors_index(50)
    index.save(tmp_path / "index")
    index.add(vectors=clustered(7, seed=1))

    def fail(*_):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(storage, "write_manifest", fail)
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
    # Everything a save returned for is there; the save that was killed is there whole, or not at all.
    for i in range(committed + 1):
        assert f"{i}-49" in index
    assert len([item for item in index if str(item.id).startswith(f"{committed + 1}-")]) in (0, 50)
    assert all(name in index for name in range(50))
    # The lock died with its holder, and the next commit sweeps up.
    index.add(vectors=np.ones((1, 16)), ids=["after"])
    index.save()
    again = Index.open(folder)
    again.verify()
    assert "after" in again
    named = set(again._manifest.files)
    on_disk = {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}
    assert on_disk == named | {"index.json", "lock"}
