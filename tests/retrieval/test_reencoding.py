"""Replacing all vectors of an index by those of another encoder."""

import re
import shutil
import signal
import subprocess
import sys
import threading

import numpy as np
import pytest

from sentenc import Index, IndexMismatchError, TruncationWarning
from sentenc.encoders.comparison import unit_rows
from sentenc.retrieval import reencoding
from tests.retrieval.conftest import LINES, TEXTS, run
from tests.support.models import make_bert, make_cse

LONG = " ".join(TEXTS * 4)
# The rows of an index of make_index, with deleted ones.
N_ROWS = 115


@pytest.fixture(scope="module")
def old():
    return make_cse()


@pytest.fixture(scope="module")
def new():
    """An encoder with fewer dimensions than the old one."""
    return make_cse(embedding_dim=16, num_filters=4)


def make_index(encoder, folder=None, **options):
    """An index of two segments with deleted, updated and divided items."""
    index = Index(encoder, chunk_tokens=16, overlap=4, **options)
    index.add([*LINES, LONG], payloads=[{"n": i} for i in range(len(LINES) + 1)])
    if folder is not None:
        index.save(folder)
    index.add([f"{LONG} hello", "hello world", ""], ids=["long", "short", "empty"])
    index.delete([3, "short"])
    index.update([5], ["new york"], payloads=[{"n": -1}])
    if folder is not None:
        index.save()
    return index


def passages(index):
    """The passage of every live row, and its vector."""
    snapshot = index._snapshot
    texts = [text for segment in snapshot.segments for text in segment.passage_texts()]
    rows = np.flatnonzero(~snapshot.deleted)
    return [texts[row] for row in rows.tolist()], snapshot.vectors(rows)


def contents(index):
    spans = [(hit.id, hit.span) for hit in index.search("hello dog guitar", 200, mode="lexical")]
    return list(index), spans, index.info()["passages"]


@pytest.mark.parametrize("is_saved", [False, True])
@pytest.mark.parametrize("store", ["float32", "float16"])
def test_every_passage_gets_the_vector_of_the_new_encoder(tmp_path, old, new, store, is_saved):
    index = make_index(old, tmp_path / "index" if is_saved else None, store=store)
    before = contents(index)
    index.reencode(new)
    for reencoded in (index, index):
        assert contents(reencoded) == before
        assert reencoded.dim == 16
        texts, vectors = passages(reencoded)
        np.testing.assert_allclose(vectors, unit_rows(new.encode(texts), "texts"), atol=1e-3)
        index.save(tmp_path / "index")
    opened = Index.open(tmp_path / "index", new)
    opened.verify()
    assert contents(opened) == before
    assert opened.info()["fingerprint"] == new.fingerprint()
    assert opened.search("hello dog", 5) == index.search("hello dog", 5)
    opened.add(["word " * 40])
    assert opened.info()["passages"] > before[-1] + 1
    assert sorted(path.name for path in (tmp_path / "index").glob("reencode-*")) == []


@pytest.mark.parametrize("store", ["int8", "binary"])
def test_codes_are_calibrated_on_the_new_vectors(tmp_path, old, new, store):
    texts = [f"{a} {b}" for a in LINES[:40] for b in LINES[60:90]]
    index = Index(old, store=store)
    index.add(texts)
    index.delete(list(range(50)))
    index.save(tmp_path / "index")
    index.reencode(new)
    index.save()
    fresh = Index(new, store=store)
    fresh.add(texts[50:], ids=list(range(50, len(texts))))
    fresh.save(tmp_path / "fresh")
    np.testing.assert_array_equal(passages(index)[1], passages(fresh)[1])
    # The moments that hybrid scores need are those of the new vectors.
    hits, expected = index.search("dog guitar", 5), fresh.search("dog guitar", 5)
    assert [hit.id for hit in hits] == [hit.id for hit in expected]
    np.testing.assert_allclose([h.score for h in hits], [h.score for h in expected], rtol=1e-4)


def test_an_ann_index_is_built_again(tmp_path, old, new):
    index = Index(old, kind="ivf")
    index.add([f"{a} {b}" for a in LINES[:20] for b in LINES[40:60]])
    index.optimize()
    index.save(tmp_path / "index")
    index.reencode(new)
    index.save()
    opened = Index.open(tmp_path / "index", new)
    assert opened.info()["structure"]["rows"] == 400
    best = opened.search(LINES[:20], 1, mode="vector")
    exact = unit_rows(new.encode(LINES[:20]), "a") @ passages(opened)[1].T
    np.testing.assert_allclose([hits[0].score for hits in best], exact.max(axis=1), atol=1e-5)


def test_the_vectors_of_a_reranker_are_kept(tmp_path, old, new):
    reranker = make_bert()
    index = make_index(old, tmp_path / "index", rerank_store=reranker)
    before = [hit.rerank for hit in index.search("dog", 10, mode="lexical", rerank=reranker)]
    index.reencode(new)
    index.save()
    opened = Index.open(tmp_path / "index", new)
    assert opened.info()["reranker"]["fingerprint"] == reranker.fingerprint()
    assert [hit.rerank for hit in opened.search("dog", 10, mode="lexical", rerank=reranker)] == before


def test_readers_have_the_old_vectors_until_the_save(tmp_path, old, new):
    index = make_index(old, tmp_path / "index")
    before = index.search("dog", 5)
    index.reencode(new)
    reader = Index.open(tmp_path / "index", old)
    assert reader.search("dog", 5) == before
    index.save()
    assert reader.search("dog", 5) == before
    with pytest.raises(IndexMismatchError):
        Index.open(tmp_path / "index", old)


def test_other_threads_search_meanwhile(old, new):
    index = make_index(old)
    expected = {encoder.dim: make_index(encoder).search("dog", 3, mode="vector") for encoder in (old, new)}
    expected = [[round(hit.score, 4) for hit in hits] for hits in expected.values()]
    stop, failures = threading.Event(), []

    def search():
        while not stop.is_set():
            try:
                scores = [round(hit.score, 4) for hit in index.search("dog", 3, mode="vector")]
                if scores not in expected:
                    failures.append(scores)
            except Exception as error:
                failures.append(error)

    reader = threading.Thread(target=search)
    reader.start()
    try:
        for encoder in (new, old) * 10:
            index.reencode(encoder)
    finally:
        stop.set()
        reader.join()
    assert failures == []


def test_an_item_without_a_text_is_refused(tmp_path, old, new):
    index = Index(old)
    index.add(["dog"])
    index.add(vectors=np.eye(3, 24), ids=["a", "b", "c"])
    index.save(tmp_path / "index")
    index.delete(["a"])
    index.save()
    with pytest.raises(ValueError, match=r"item 'b' .*no text"):
        index.reencode(new)
    # Nothing has changed, and another writer may write.
    assert index.dim == 24
    assert Index.open(tmp_path / "index", old).delete(["b", "c"]) == 2
    index = Index.open(tmp_path / "index", old)
    index.delete(["b", "c"])
    index.reencode(new)
    assert index.search("dog", 1)[0].id == 0
    with pytest.raises(TypeError, match="encoder is None"):
        index.reencode(None)
    with pytest.raises(ValueError, match=r"dim is 17, .*16"):
        index.reencode(new, dim=17)


def test_an_index_of_vectors_gets_an_encoder(new):
    index = Index(dim=4)
    index.add(["dog", "cat"], vectors=np.eye(2, 4))
    index.reencode(new, dim=8)
    assert index.dim == 8
    assert index.search("cat", 1, mode="vector")[0].score == pytest.approx(1)
    empty = Index(dim=4)
    empty.reencode(new)
    empty.add(["dog"])
    assert len(empty) == 1


def test_cut_passages_are_reported_once(old, monkeypatch):
    monkeypatch.setattr(reencoding, "_ROWS_PER_BLOCK", 2)
    index = Index(old)
    index.add([LONG[:150], "dog", LONG[:120], LONG[:100]], ids=["a", "b", "c", "d"])
    index.delete(["d"])
    with pytest.warns(TruncationWarning, match=r"2 of 3 passages .*max_tokens=16") as warned:
        index.reencode(make_cse(max_tokens=16))
    assert len(warned) == 1
    prompted = make_cse(max_tokens=16)
    prompted.metadata = {"prompts": {"document": "dog " * 16}}
    with pytest.warns(TruncationWarning, match=r"3 of 3 passages .*max_tokens=16"):
        index.reencode(prompted)
    # Texts that are added later are divided into passages that the encoder can read.
    chunked = Index(old, chunk_tokens=32, overlap=16)
    chunked.reencode(make_cse(max_tokens=20))
    assert chunked.info()["chunking"] == {"tokens": 20, "overlap": 10}


CODE = """
import os, signal, sys
from sentenc.retrieval import Index, index_maintenance, persistence, reencoding
reencoding._ROWS_PER_BLOCK, reencoding._SECONDS_PER_SYNC = 10, 0
module, name, calls = {place}
function, count = getattr(module, name), []
def die(*arguments, **options):
    count.append(1)
    if len(count) == calls:
        os.kill(os.getpid(), signal.SIGKILL)
    return function(*arguments, **options)
setattr(module, name, die)
index = Index.open(sys.argv[1], encoder=False)
index.reencode(sys.argv[2])
index.save()
"""


@pytest.mark.parametrize(
    ("place", "n_encoded"),
    [
        ("reencoding, 'item_vectors', 5", 40),
        ("persistence, 'write_manifest', 1", N_ROWS),
        ("persistence, 'remove_unnamed', 1", None),
    ],
)
def test_a_killed_process_loses_nothing(tmp_path, monkeypatch, old, new, place, n_encoded):
    new.save(tmp_path / "new")
    index = make_index(old, tmp_path / "index")
    assert len(index._snapshot.deleted) == N_ROWS
    before = index.search("dog", 5)
    command = [sys.executable, "-c", CODE.format(place=place), tmp_path / "index", tmp_path / "new"]
    result = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert result.returncode == -signal.SIGKILL, result.stderr
    if n_encoded is None:
        # The commit was complete.
        assert Index.open(tmp_path / "index").info()["fingerprint"] == new.fingerprint()
        return
    opened = Index.open(tmp_path / "index", old)
    opened.verify()
    assert opened.search("dog", 5) == before
    encoded = count_encoded(monkeypatch)
    opened.reencode(tmp_path / "new")
    assert len(encoded) == N_ROWS - n_encoded
    opened.save()
    fresh = make_index(old)
    fresh.reencode(new)
    np.testing.assert_allclose(passages(opened)[1], passages(fresh)[1], atol=1e-5)


def count_encoded(monkeypatch, stop_at=None):
    """Returns a list of the texts that are encoded from now on; ``stop_at`` texts are followed by Ctrl-C."""
    encoded, item_vectors = [], reencoding.item_vectors

    def counting(texts, *arguments, **options):
        if stop_at is not None and len(encoded) >= stop_at:
            raise KeyboardInterrupt
        encoded.extend(texts)
        return item_vectors(texts, *arguments, **options)

    monkeypatch.setattr(reencoding, "item_vectors", counting)
    return encoded


def interrupt(index, encoder, monkeypatch, stop_at):
    with monkeypatch.context() as patch:
        patch.setattr(reencoding, "_ROWS_PER_BLOCK", 10)
        count_encoded(patch, stop_at)
        with pytest.raises(KeyboardInterrupt):
            index.reencode(encoder)


def test_only_vectors_of_the_same_passages_and_encoder_are_resumed(tmp_path, monkeypatch, old, new):
    index = make_index(old, tmp_path / "index")
    interrupt(index, new, monkeypatch, 30)
    # An interrupted call leaves the folder to other writers.
    other = Index.open(tmp_path / "index", old)
    encoded = count_encoded(monkeypatch)
    other.reencode(new)
    other.close()
    assert len(encoded) == N_ROWS - 30
    index = Index.open(tmp_path / "index", old)
    index.update([0], ["cat"])
    encoded.clear()
    index.reencode(new)
    assert len(encoded) == N_ROWS + 1
    index.close()
    index = Index.open(tmp_path / "index", old)
    interrupt(index, new, monkeypatch, 30)
    encoded.clear()
    index.reencode(make_bert())
    assert len(encoded) == N_ROWS
    texts, vectors = passages(index)
    np.testing.assert_allclose(vectors, unit_rows(make_bert().encode(texts), "texts"), atol=1e-5)


@pytest.mark.parametrize("damage", ["progress.json", "vectors.f32"])
def test_damaged_progress_starts_again(tmp_path, monkeypatch, old, new, damage):
    index = make_index(old, tmp_path / "index")
    interrupt(index, new, monkeypatch, 30)
    (path,) = (tmp_path / "index").glob(f"reencode-*/{damage}")
    path.write_bytes(path.read_bytes()[:2])
    encoded = count_encoded(monkeypatch)
    index.reencode(new)
    assert len(encoded) == N_ROWS


def test_the_next_commit_removes_unfinished_vectors(tmp_path, monkeypatch, old, new):
    index = make_index(old, tmp_path / "index")
    interrupt(index, new, monkeypatch, 30)
    assert list((tmp_path / "index").glob("reencode-*"))
    index.delete([0])
    index.save()
    assert not list((tmp_path / "index").glob("reencode-*"))


def replace_model(folder, encoder):
    shutil.rmtree(folder)
    encoder.save(folder)


@pytest.mark.usefixtures("folder_of_its_own")
def test_an_index_of_a_replaced_model_is_refused_and_reencoded(tmp_path, lines, old, new):
    old.save(tmp_path / "model")
    run("index", "build", lines, "-o", "index", "-m", "model", "--rerank-store", "model")
    before = list(Index.open("index", encoder=False))
    replace_model(tmp_path / "model", new)
    for command in (["search", "index", "dog"], ["index", "add", "index", lines]):
        _, error = run(*command, code=1)
        assert f"sentenc index reencode {tmp_path / 'index'}`" in error
        assert re.search(r"model .*replaced .*intact", error)
    assert Index.open("index", force=True, encoder=old).search("dog", 1)
    _, error = run("index", "reencode", "index")
    assert re.search(r"100 items, 16 dimensions", error)
    opened = Index.open("index")
    opened.verify()
    assert list(opened) == before
    # The model of the reranker was replaced as well.
    assert opened.info()["reranker"]["fingerprint"] == new.fingerprint()
    run("index", "add", "index", lines)


@pytest.mark.usefixtures("folder_of_its_own")
def test_another_model_is_named_by_an_option(tmp_path, lines, old, new):
    old.save(tmp_path / "old")
    new.save(tmp_path / "new")
    run("index", "build", lines, "-o", "index", "-m", "old")
    with pytest.raises(IndexMismatchError, match=r"index reencode \S*index --model \S*new`"):
        Index.open("index", "new")
    assert run("index", "reencode", "index", "-m", "new", "--quiet") == ("", "")
    assert Index.open("index").info()["encoder"] == str(tmp_path / "new")
    nameless = Index(old)
    nameless.add(["dog"])
    nameless.save("nameless")
    assert "pass --model" in run("index", "reencode", "nameless", code=2)[1]
    with pytest.raises(
        IndexMismatchError, match=r"an encoder .*index reencode \S*nameless` or Index.reencode"
    ):
        Index.open("nameless", new)
    assert "is not an index" in run("index", "reencode", "new", code=1)[1]


@pytest.mark.usefixtures("folder_of_its_own")
def test_an_unfinished_build_is_resumed_with_the_new_model(tmp_path, lines, old, new, monkeypatch):
    old.save(tmp_path / "model")
    save, saves = Index.save, []

    def save_once(index, *arguments):
        if saves:
            raise KeyboardInterrupt
        saves.append(save(index, *arguments))

    with monkeypatch.context() as patch:
        patch.setattr(Index, "save", save_once)
        assert run("index", "build", lines, "-o", "index", "-m", "model", code=1)
    replace_model(tmp_path / "model", new)
    run("index", "reencode", "index")
    _, error = run("index", "build", lines, "-o", "index", "-m", "model")
    assert "resuming after 30 records" in error
    texts, vectors = passages(Index.open("index"))
    assert texts == LINES
    np.testing.assert_allclose(vectors, unit_rows(new.encode(texts), "texts"), atol=1e-5)
