"""The part that the adapters of engines share: a model that every process loads once."""

import pickle
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

pytest.importorskip("pyarrow")

import pyarrow as pa

import sentenc
from sentenc.integrations.worker_encoder import WorkerEncoder
from tests.support.models import make_cse

TABLE = pa.table({"text": ["the dog runs", None, "a man is playing the guitar"]})


def worker_encoder(model, threads=1, **options):
    return WorkerEncoder(model, threads=threads, text="text", column="embedding", **options)


def test_a_name_is_pickled_as_a_name():
    encoder = worker_encoder("cse-en-tiny", truncate_dim=8)
    data = pickle.dumps(encoder)
    assert len(data) < 1000
    copy = pickle.loads(data)
    assert copy.encoder is encoder.encoder
    assert copy(TABLE).equals(encoder(TABLE))


def test_an_encoder_is_pickled_with_its_weights_and_unpickled_once():
    model = make_cse()
    data = pickle.dumps(worker_encoder(model))
    first, second = pickle.loads(data), pickle.loads(data)
    assert first.encoder is second.encoder
    assert first.encoder is not model
    assert first.encoder.fingerprint() == model.fingerprint()
    # A worker may send it to another one.
    assert pickle.loads(pickle.dumps(first)).encoder is first.encoder
    np.testing.assert_array_equal(
        first(TABLE)["embedding"].to_pylist()[0], model.encode(["the dog runs"], batch_size=64)[0]
    )


def test_a_relative_folder_is_that_of_the_driver(tmp_path, monkeypatch):
    make_cse().save(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(worker_encoder("model"))
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    assert pickle.loads(data).encoder.fingerprint() == make_cse().fingerprint()


def test_a_folder_does_not_hide_a_shipped_model(tmp_path, monkeypatch):
    make_cse().save(tmp_path / "cse-en-tiny")
    monkeypatch.chdir(tmp_path)
    assert worker_encoder("cse-en-tiny").encoder.fingerprint() == sentenc.load("cse-en-tiny").fingerprint()


def test_batches_keep_their_order_and_their_rows():
    texts = [f"word {i}" if i % 5 else None for i in range(100)]
    table = pa.table({"id": range(100), "text": texts})
    encoder = worker_encoder("cse-en-tiny")
    batches = list(encoder.batches(iter(table.to_batches(max_chunksize=7))))
    assert all(isinstance(batch, pa.RecordBatch) for batch in batches)
    assert pa.Table.from_batches(batches).select(["id", "text"]).equals(table)


def test_threads_load_a_model_once(tmp_path, monkeypatch):
    make_cse().save(tmp_path / "model")
    loads, barrier = [], threading.Barrier(4)

    def counted(*arguments, **options):
        loads.append(arguments)
        return sentenc.load(*arguments, **options)

    monkeypatch.setattr("sentenc.integrations.worker_encoder.load", counted)

    def encoder(_):
        barrier.wait(30)
        return worker_encoder(str(tmp_path / "model")).encoder

    with ThreadPoolExecutor(4) as pool:
        assert len({id(each) for each in pool.map(encoder, range(4))}) == 1
    assert len(loads) == 1


def test_a_folder_is_loaded_again_after_its_files_have_changed(tmp_path):
    folder = tmp_path / "model"
    first, second = make_cse("int8"), make_cse("float32")
    first.save(folder)
    before = worker_encoder(folder)
    assert before.encoder.fingerprint() == first.fingerprint()
    assert worker_encoder(folder).encoder is before.encoder
    second.save(folder)
    after = pickle.loads(pickle.dumps(worker_encoder(folder)))
    assert after.encoder.fingerprint() == second.fingerprint()
