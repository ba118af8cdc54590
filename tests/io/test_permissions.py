"""The permissions of written files and folders: those that the umask leaves to new ones."""

import os
import stat
import tempfile
from pathlib import Path

import numpy as np
import pytest

import sentenc
from sentenc.io import atomic
from sentenc.io.atomic import open_to_others, replacing_file, replacing_folder
from tests.support.models import make_bert, make_cse
from tests.support.pairs import make_pair

pytestmark = pytest.mark.skipif(os.name == "nt", reason="Windows has no umask of this kind")
UMASKS = [0o022, 0o077, 0o002]
STATUS = Path("/proc/self/status")


@pytest.fixture(params=UMASKS, ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def mode(path):
    return stat.S_IMODE(path.stat().st_mode)


def check_tree(folder, umask):
    paths = [folder, *folder.rglob("*")]
    expected = {path: (0o777 if path.is_dir() else 0o666) & ~umask for path in paths}
    assert {path: oct(mode(path)) for path in paths} == {path: oct(own) for path, own in expected.items()}


def test_a_folder_with_its_content_honors_the_umask(tmp_path, umask):
    with replacing_folder(tmp_path / "new", "marker", ValueError, "a folder") as staging:
        (staging / "marker").touch(mode=0o600)
        (staging / "inner").mkdir(mode=0o700)
        (staging / "inner" / "file").touch(mode=0o644)
    check_tree(tmp_path / "new", umask)


@pytest.mark.parametrize("make", [make_cse, make_bert, make_pair])
def test_a_saved_model_honors_the_umask(make, tmp_path, umask):
    make().save(tmp_path / "model")
    check_tree(tmp_path / "model", umask)


def test_an_index_with_a_structure_honors_the_umask(tmp_path, umask):
    encoder = make_cse()
    index = sentenc.Index(encoder, kind="hnsw")
    vectors = np.random.default_rng(0).normal(size=(600, encoder.similarity_dim)).astype(np.float32)
    index.add([f"dog {i}" for i in range(len(vectors))], vectors=vectors)
    index.optimize()
    index.save(tmp_path / "index")
    structures = list((tmp_path / "index").glob("structure-*"))
    assert structures
    assert {mode(path) for path in structures} == {0o777 & ~umask}


def test_the_bit_of_a_group_is_kept(tmp_path):
    tmp_path.chmod(0o2755)
    if not mode(tmp_path) & stat.S_ISGID:
        pytest.skip("a user of another group")
    (tmp_path / "plain").mkdir()
    with replacing_folder(tmp_path / "new", "marker", ValueError, "a folder") as staging:
        (staging / "marker").touch()
        (staging / "inner").mkdir()
    assert mode(tmp_path / "new") == mode(tmp_path / "new" / "inner") == mode(tmp_path / "plain")


def test_without_proc_the_umask_is_read_and_put_back(tmp_path, umask, monkeypatch):
    expected = atomic._umask()
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "Name:\tpython\n")
    assert atomic._umask() == expected == umask
    assert os.umask(umask) == umask
    with replacing_file(tmp_path / "file") as temporary:
        temporary.touch()
    assert mode(tmp_path / "file") == 0o666 & ~umask


@pytest.mark.skipif(not STATUS.exists() or "Umask:" not in STATUS.read_text(), reason="only Linux states it")
def test_the_umask_is_read_without_a_change(tmp_path, monkeypatch):
    monkeypatch.setattr(os, "umask", lambda _: pytest.fail("another thread would see another umask"))
    folder = Path(tempfile.mkdtemp(dir=tmp_path))
    open_to_others(folder)
    assert mode(folder) != 0o700
