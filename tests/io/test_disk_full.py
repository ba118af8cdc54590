"""A full disk is reported with the path. The tests limit the size of files instead of filling a disk."""

import errno
import re
import subprocess
import sys
from contextlib import contextmanager

import numpy as np
import pytest

import sentenc
from sentenc.io.disk_full import naming_full_disk, save_array
from tests.support.models import make_bert, make_cse

resource = pytest.importorskip("resource")


@pytest.fixture
def limit():
    """Limits the size of files to some bytes until the end of the test."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@contextmanager
def full(path):
    with pytest.raises(OSError, match=re.escape(str(path))) as caught:
        yield
    assert caught.value.errno == errno.EFBIG


def test_arrays_are_written_as_numpy_writes_them(tmp_path):
    for array in (np.arange(12.0).reshape(3, 4).T, np.zeros((0, 3), np.float16), np.arange(5, dtype=">i4")):
        np.save(tmp_path / "a.npy", array)
        with open(tmp_path / "b.npy", "wb") as file:
            save_array(file, array)
        assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


@pytest.mark.parametrize("make", [make_cse, make_bert])
def test_saving_a_model(tmp_path, limit, make):
    model = make()
    limit(2000)
    with full(tmp_path / "model"):
        model.save(tmp_path / "model")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("store", ["float32", "int8"])
def test_saving_an_index(tmp_path, limit, store):
    index = sentenc.Index(dim=8, store=store)
    index.add(vectors=np.random.default_rng(0).standard_normal((3000, 8)))
    limit(8000)
    with full(tmp_path / "index"):
        index.save(tmp_path / "index")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("suffix", [".npy", ".npz", ".jsonl", ".parquet"])
def test_writing_vectors(tmp_path, limit, suffix):
    from sentenc.io.vectors import write_vectors

    if suffix == ".parquet":
        pytest.importorskip("pyarrow")
    path = tmp_path / f"vectors{suffix}"
    vectors = np.random.default_rng(0).standard_normal((3000, 8)).astype(np.float32)
    limit(8000)
    with full(path):
        write_vectors(path, iter([([f"text {i}" for i in range(3000)], vectors)]), 8, "float32", {})
    assert list(tmp_path.iterdir()) == []


def test_state_of_a_training_run(tmp_path, limit):
    torch = pytest.importorskip("torch")
    from sentenc.training.engine.checkpointing import save_state

    limit(8000)
    with full(tmp_path / "state.pt"):
        save_state(tmp_path / "state.pt", {"weights": torch.rand(10_000)}, {})
    assert list(tmp_path.iterdir()) == []


def test_errors_that_quote_the_system(tmp_path):
    with full(tmp_path), naming_full_disk(tmp_path):
        raise RuntimeError("write error in x.faiss: 49955 != 400000 (File too large)")
    with pytest.raises(RuntimeError, match="other"), naming_full_disk(tmp_path):
        raise RuntimeError("other")
    with pytest.raises(OSError, match=r"named\.txt"), naming_full_disk(tmp_path):
        raise OSError(errno.ENOSPC, "No space left on device", "named.txt")


def test_command_line(tmp_path):
    (tmp_path / "texts.txt").write_text("".join(f"dog number {i}\n" for i in range(500)), encoding="utf-8")
    make_cse().save(tmp_path / "model")
    code = (
        "import resource\nresource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))\n"
        "from sentenc.cli import main\nmain()"
    )
    arguments = ["index", "build", "texts.txt", "-o", "ix", "-m", "model", "-q"]
    result = subprocess.run(
        [sys.executable, "-B", "-c", code, *arguments],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 1
    assert len(result.stderr.splitlines()) == 1
    assert "File too large" in result.stderr
    assert "ix" in result.stderr
