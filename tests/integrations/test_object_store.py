"""Files encoded from a bucket of S3 into another folder of it, with a run that is killed; the server is moto's."""

import io
import os
import signal
import socket
import subprocess
import time

import numpy as np
import pytest

from sentenc import ShardError, TextFileError, encode_files
from tests.support.models import make_cse
from tests.support.processes import COMMAND, REPOSITORY

pytest.importorskip("s3fs")
boto3 = pytest.importorskip("boto3")
server = pytest.importorskip("moto.server")
pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

FILES, ROWS = 6, 3000
SECONDS = 120


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    connect = socket.socket.connect

    def only_loopback(self, address):
        assert address[0] == "127.0.0.1", f"a test tried to open a connection to {address}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", only_loopback)


@pytest.fixture
def bucket(monkeypatch, tmp_path):
    """A client of S3 whose bucket has files to encode, and the environment with which a command uses it."""
    store = server.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    store.start()
    host, port = store.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing", "AWS_DEFAULT_REGION": "us-east-1", "TMPDIR": str(tmp_path),
        "PYTHONPATH": os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }.items():  # fmt: skip
        monkeypatch.setenv(name, value)
    try:
        client = boto3.client("s3")
        client.create_bucket(Bucket="bucket")
        for number in range(FILES):
            file = io.BytesIO()
            pq.write_table(pa.table({"text": texts_of(number)}), file)
            client.put_object(Bucket="bucket", Key=f"in/part-{number}.parquet", Body=file.getvalue())
        yield client
    finally:
        store.stop()


def texts_of(number):
    return [None if row % 9 == 0 else f"word {number} dog {row}" for row in range(ROWS)]


def shards(client):
    objects = client.list_objects_v2(Bucket="bucket", Prefix="out/").get("Contents", [])
    return {entry["Key"]: entry["LastModified"] for entry in objects if entry["Key"].endswith(".parquet")}


def start(model, processes):
    options = ["-o", "s3://bucket/out", "-m", str(model), "--processes", str(processes)]
    command = [*COMMAND, "encode", "s3://bucket/in/*.parquet", *options]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def test_a_killed_run_continues(bucket, tmp_path):
    encoder = make_cse("int8")
    encoder.save(tmp_path / "model")
    command = start(tmp_path / "model", processes=2)
    end = time.monotonic() + SECONDS
    while not shards(bucket) and command.poll() is None and time.monotonic() < end:
        time.sleep(0.01)
    command.send_signal(signal.SIGKILL)
    command.communicate()
    before = shards(bucket)
    assert before
    # What is there is whole.
    for key in before:
        content = bucket.get_object(Bucket="bucket", Key=key)["Body"].read()
        assert pq.ParquetFile(io.BytesIO(content)).metadata.num_rows == ROWS
    command = start(tmp_path / "model", processes=1)
    _, errors = command.communicate(timeout=SECONDS)
    assert command.returncode == 0, errors
    assert "were there" in errors
    after = shards(bucket)
    assert before.items() <= after.items()
    assert len(after) == FILES
    for number in range(FILES):
        content = bucket.get_object(Bucket="bucket", Key=f"out/part-{number}.parquet")["Body"].read()
        table = pq.read_table(io.BytesIO(content))
        assert table["text"].to_pylist() == texts_of(number)
        known = [text for text in texts_of(number) if text is not None]
        vectors = table["embedding"].drop_null().combine_chunks().flatten().to_numpy()
        np.testing.assert_array_equal(vectors.reshape(len(known), -1), encoder.encode(known))
    assert bucket.list_multipart_uploads(Bucket="bucket").get("Uploads", []) == []
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("sentenc-")] == []


def test_a_store_that_refuses_is_named(bucket, tmp_path):
    (tmp_path / "a.txt").write_text("dog\n")
    with pytest.raises(TextFileError, match=r"s3://absent/in"):
        encode_files("s3://absent/in", tmp_path / "out", model=make_cse())
    with pytest.raises(ShardError, match=r"s3://absent/out"):
        encode_files(tmp_path / "a.txt", "s3://absent/out", model=make_cse())
