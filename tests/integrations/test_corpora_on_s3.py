"""Corpora and teacher vectors in an S3 bucket, of a server in this process."""

import io
import socket

import numpy as np
import pytest

pytest.importorskip("s3fs")
pytest.importorskip("flask")
moto_server = pytest.importorskip("moto.server")
pa = pytest.importorskip("pyarrow")
import pyarrow.parquet as pq  # noqa: E402 (a part of pyarrow)
import s3fs  # noqa: E402

from sentenc.embedding_cache import EmbeddingCache  # noqa: E402
from sentenc.errors import CorpusError, TextFileError  # noqa: E402
from sentenc.training.config.teacher import TeacherConfig  # noqa: E402
from sentenc.training.data.corpus import Corpus, Source  # noqa: E402
from sentenc.training.teachers.parquet_vectors import import_vectors  # noqa: E402
from tests.support.embeddings_server import loopback_only  # noqa: E402

CONNECT = socket.socket.connect
TEXTS = [f"text {i} in a bucket" for i in range(2000)]


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", loopback_only(CONNECT))


@pytest.fixture(scope="module")
def bucket():
    """A bucket with a corpus of two files, and a file of vectors."""
    patch = pytest.MonkeyPatch()
    server = moto_server.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in (
        ("AWS_ENDPOINT_URL", f"http://{host}:{port}"),
        ("AWS_ACCESS_KEY_ID", "key"),
        ("AWS_SECRET_ACCESS_KEY", "secret"),
        ("AWS_DEFAULT_REGION", "us-east-1"),
    ):
        patch.setenv(name, value)
    store = s3fs.S3FileSystem()
    store.mkdir("corpora")
    for i in range(2):
        store.pipe(f"corpora/text/{i}.txt", "\n".join(TEXTS[i::2]).encode())
    file = io.BytesIO()
    pq.write_table(pa.table({"text": TEXTS, "embedding": np.ones((len(TEXTS), 4)).tolist()}), file)
    store.pipe("corpora/vectors/0.parquet", file.getvalue())
    yield store
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()
    patch.undo()


def corpus(name):
    return Corpus([Source(files=[name], form="sentences")], shuffle_buffer=100)


def test_a_corpus_is_read_from_a_bucket(bucket):
    remote = corpus("s3://corpora/text/*.txt")
    assert sorted(remote.epoch(0, 0)) == sorted((text,) for text in TEXTS)
    assert abs(remote.estimate() - len(TEXTS)) < 20
    assert remote.fingerprint() == corpus("s3://corpora/text/*.txt").fingerprint()
    before = corpus("s3://corpora/text/0.txt").fingerprint()
    bucket.pipe("corpora/text/0.txt", b"other")
    assert corpus("s3://corpora/text/0.txt").fingerprint() != before
    with pytest.raises(CorpusError, match=r"s3://corpora/none\.txt: no such file"):
        corpus("s3://corpora/none.txt")
    with pytest.raises(CorpusError, match=r"s3://elsewhere/\*\.txt"):
        corpus("s3://elsewhere/*.txt")


def test_vectors_are_imported_from_a_bucket(bucket, tmp_path):
    settings = TeacherConfig(vectors=("s3://corpora/vectors",), cache=str(tmp_path / "cache"))
    assert import_vectors(settings).added == len(TEXTS)
    assert import_vectors(settings).rows == 0
    assert EmbeddingCache(tmp_path / "cache", dtype="float16").has(TEXTS).all()
    with pytest.raises(TextFileError, match=r"s3://corpora/none: no such file"):
        import_vectors(TeacherConfig(vectors=("s3://corpora/none",), cache=str(tmp_path / "cache")))
