"""A child that is forked while a thread of the parent works must answer, or raise, and not wait for ever."""

import gc
import os
import signal
import subprocess
import sys
import threading
import traceback
import warnings
import weakref
from functools import partial

import numpy as np
import pytest

import sentenc
from sentenc.encoders.bert import onnx_runtime
from sentenc.encoders.lazy import LazyEncoder
from sentenc.encoders.sentence_transformer import SentenceTransformerEncoder
from sentenc.errors import IndexLockedError
from sentenc.forking import after_fork, cached_value, lock_before_fork
from sentenc.retrieval.columns import ColumnCache
from sentenc.tokenization.analysis import _Terms
from tests.support.models import make_bert

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
SECONDS = 30


def in_child(work):
    """Runs ``work`` in a forked child. Fails if it waits for ever or raises."""
    with warnings.catch_warnings():
        # Python 3.12 and later warn of a fork while threads run, which is what is tested.
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if child == 0:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.alarm(SECONDS)
        try:
            work()
        except BaseException:
            traceback.print_exc()
            os._exit(1)
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    assert not os.WIFSIGNALED(status), f"the child waited for {SECONDS} s"
    assert os.WEXITSTATUS(status) == 0


class Holding:
    """Holds a lock in another thread from entering the block until ``released`` is set, or its end."""

    def __init__(self, lock, seconds=SECONDS):
        self._lock, self._seconds = lock, seconds
        self.acquired, self.released = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._hold)

    def _hold(self):
        with self._lock:
            self.acquired.set()
            self.released.wait(self._seconds)

    def __enter__(self):
        self._thread.start()
        assert self.acquired.wait(SECONDS)
        return self

    def __exit__(self, *_):
        self.released.set()
        self._thread.join()


def check_free(lock):
    assert lock.acquire(timeout=SECONDS / 3)
    lock.release()


def test_a_fork_waits_for_a_lock_of_another_thread():
    lock = lock_before_fork()
    with Holding(lock, seconds=0.3) as holding:
        in_child(lambda: check_free(lock))
        assert holding.acquired.is_set()
    # The parent's locks are free again too.
    thread = threading.Thread(target=check_free, args=(lock,))
    thread.start()
    thread.join()


def test_a_thread_that_holds_a_lock_may_fork():
    lock = lock_before_fork()
    with lock:
        in_child(lambda: check_free(lock))


def test_objects_are_restored_in_the_child_only_and_not_kept_alive():
    class Owner:
        state = "parent"

    def restore(owner):
        owner.state = "child"

    def check():
        assert owners[0].state == "child"

    owners = [Owner()]
    reference = weakref.ref(owners[0])
    after_fork(owners[0], restore)
    in_child(check)
    assert owners[0].state == "parent"
    owners.clear()
    gc.collect()
    assert reference() is None


def test_a_child_loads_an_encoder_that_a_thread_of_the_parent_loads():
    encoder = make_bert()
    loading, released = threading.Event(), threading.Event()
    source = LazyEncoder(partial(_load_slowly, encoder, os.getpid(), loading, released))
    thread = threading.Thread(target=lambda: source.encoder)
    thread.start()
    assert loading.wait(SECONDS)

    def check():
        assert source.encoder is encoder

    in_child(check)
    assert not source.is_loaded
    released.set()
    thread.join()
    assert source.encoder is encoder


def _load_slowly(encoder, parent, loading, released):
    if os.getpid() == parent:
        loading.set()
        assert released.wait(SECONDS)
    return encoder


def test_a_cached_value_is_computed_once_and_has_no_lock():
    class Square:
        def __init__(self, side):
            self.side, self.calls = side, 0

        @cached_value
        def area(self):
            """The area."""
            self.calls += 1
            return self.side**2

    square = Square(3)
    assert (square.area, square.area, square.calls) == (9, 9, 1)
    assert Square(4).area == 16
    assert Square.area.__doc__ == "The area."
    assert not hasattr(Square.area, "lock")


def test_a_bert_that_a_thread_warms_up_answers_in_a_child(monkeypatch):
    encoder = make_bert().with_compute("float32", threads=1)
    expected = make_bert().encode("dog")
    building = threading.Event()
    original = onnx_runtime.open_session

    def slow(model):
        building.set()
        threading.Event().wait(0.3)
        return original(model)

    monkeypatch.setattr("sentenc.encoders.bert.encoder.open_session", slow)
    thread = threading.Thread(target=encoder.encode, args=("dog",))
    thread.start()
    assert building.wait(SECONDS)
    in_child(lambda: np.testing.assert_array_equal(encoder.encode("dog"), expected))
    thread.join()


@pytest.mark.parametrize("threads", [1, 3])
def test_a_bert_that_was_used_before_the_fork_answers_in_a_child(threads):
    encoder = make_bert().with_compute("float32", threads=threads)
    texts = ["dog", "the cat", "hello world"] * 20
    expected = encoder.encode(texts, batch_size=1)
    session = encoder._session

    def check():
        np.testing.assert_array_equal(encoder.encode(texts, batch_size=1), expected)

    in_child(check)
    # Runs are in progress during these forks.
    stop = threading.Event()
    busy = threading.Thread(
        target=lambda: [encoder.encode(texts, batch_size=1) for _ in iter(stop.is_set, True)]
    )
    busy.start()
    try:
        for _ in range(3):
            in_child(check)
    finally:
        stop.set()
        busy.join()
    assert encoder._session is session


class Sentences:
    """A SentenceTransformer reduced to the parts that the encoder uses; a test can delay its encode."""

    max_seq_length = 16

    class tokenizer:
        all_special_ids = (0,)

        def __new__(cls, texts, **_):
            return {"input_ids": [[1] for _ in texts]}

    def __getitem__(self, place):
        return self

    def encode(self, texts, **_):
        if "slow" in texts:
            self.started.set()
            threading.Event().wait(0.3)
        return np.ones(2, np.float32) if isinstance(texts, str) else np.ones((len(texts), 2), np.float32)


def test_a_sentence_transformer_that_a_thread_uses_answers_in_a_child():
    model = Sentences()
    model.started = threading.Event()
    encoder = SentenceTransformerEncoder(model)
    thread = threading.Thread(target=encoder.encode, args=(["slow"],))
    thread.start()
    assert model.started.wait(SECONDS)
    in_child(lambda: encoder.encode(["dog"]))
    thread.join()


def test_columns_that_a_thread_reads_can_be_read_in_a_child():
    cache = ColumnCache()
    with Holding(cache._lock, seconds=0.3):
        in_child(lambda: cache.get(b"", np.zeros(1, np.int64), []))


def test_words_that_a_thread_stems_can_be_stemmed_in_a_child():
    terms = _Terms("en")
    with Holding(terms._lock, seconds=0.3):
        in_child(lambda: terms["walking"])


def test_faiss_answers_in_a_child():
    faiss = pytest.importorskip("faiss")
    before = faiss.omp_get_max_threads()
    rng = np.random.default_rng(0)
    index = sentenc.Index(dim=8, kind="ivf")
    index.add(vectors=rng.standard_normal((2000, 8)).astype(np.float32))
    try:
        faiss.omp_set_num_threads(2)
        index.optimize()
        queries = rng.standard_normal((50, 8)).astype(np.float32)
        expected = [[hit.id for hit in hits] for hits in index.search(queries, k=3)]

        def check():
            assert [[hit.id for hit in hits] for hits in index.search(queries, k=3)] == expected

        in_child(check)
        assert faiss.omp_get_max_threads() == 2
    finally:
        faiss.omp_set_num_threads(before)


def test_torch_answers_in_a_child(tmp_path):
    torch = pytest.importorskip("torch")
    pytest.importorskip("sentence_transformers")
    before = torch.get_num_threads()
    make_bert().save(tmp_path / "model")
    encoder = sentenc.load(tmp_path / "model", backend="torch")
    texts = ["dog cat " * 6] * 512
    try:
        torch.set_num_threads(2)
        expected = encoder.encode(texts)

        def check():
            np.testing.assert_allclose(encoder.encode(texts), expected, rtol=0, atol=1e-5)

        in_child(check)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def make_index(folder):
    index = sentenc.Index(dim=2)
    index.add(vectors=np.eye(2, dtype=np.float32))
    index.save(folder)
    return index


def test_an_index_to_which_a_thread_writes_can_be_used_in_a_child(tmp_path):
    index = make_index(tmp_path / "index")

    def work():
        assert [hit.id for hit in index.search(np.array([0, 1], np.float32), k=1)] == [1]
        index.add(vectors=np.ones((1, 2), np.float32))
        index.save()
        assert len(sentenc.Index.open(tmp_path / "index")) == 3

    with Holding(index._lock):
        in_child(work)
    assert len(index) == 2


def test_a_child_does_not_write_to_the_folder_that_its_parent_has_locked(tmp_path):
    index = make_index(tmp_path / "index")
    index.add(vectors=np.ones((1, 2), np.float32))

    def work():
        for refused in (index.save, lambda: index.delete([0])):
            with pytest.raises(IndexLockedError):
                refused()
        index.close()

    in_child(work)
    # The child's end has not unlocked the folder.
    with pytest.raises(IndexLockedError):
        sentenc.Index.open(tmp_path / "index").delete([0])
    index.save()
    assert len(sentenc.Index.open(tmp_path / "index")) == 3


def test_a_child_that_lives_on_does_not_keep_the_lock_of_a_folder(tmp_path):
    index = make_index(tmp_path / "index")
    index.add(vectors=np.ones((1, 2), np.float32))
    ready, wait = os.pipe(), os.pipe()

    def live_on():
        os.write(ready[1], b"x")
        os.close(wait[1])
        os.read(wait[0], 1)

    thread = threading.Thread(target=in_child, args=(live_on,))
    thread.start()
    os.read(ready[0], 1)
    index.save()
    sentenc.Index.open(tmp_path / "index").delete([0])
    os.close(wait[1])
    thread.join()
    for end in (ready[0], ready[1], wait[0]):
        os.close(end)


def test_a_text_of_any_script_needs_no_import():
    # A module lock that another thread holds at the moment of a fork is never released in the child.
    code = """
import sys, sentenc
encoder = sentenc.load("cse-en-tiny", threads=1)
before = set(sys.modules)
encoder.encode(["a man", "Ærøskøbing \\u6771\\u4eac"])
print(sorted(set(sys.modules) - before))
"""
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
