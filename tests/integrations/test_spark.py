"""Spark: the column of vectors, and a run whose Python worker is killed in the middle."""

import shutil
import socket
import sys

import numpy as np
import pytest

pytest.importorskip("pyspark")
if shutil.which("java") is None:
    pytest.skip("Spark needs a Java runtime", allow_module_level=True)

from pyspark.sql import SparkSession, types

import sentenc
from sentenc.integrations.spark import encode_column
from tests.integrations.engines import MODEL, REPOSITORY, assert_one_vector_a_row, read_rows, write_texts
from tests.support.embeddings_server import loopback_only
from tests.support.faulty import FaultyEncoder

# It works with pandas 3, which Spark only needs to be installed.
pytestmark = [
    pytest.mark.filterwarnings("ignore:PySpark does not yet fully support pandas:FutureWarning"),
    pytest.mark.timeout(900),
]
CONNECT = socket.socket.connect


@pytest.fixture(autouse=True)
def _driver_talks_to_its_jvm(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", loopback_only(CONNECT))


@pytest.fixture(scope="module")
def spark(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYSPARK_PYTHON", sys.executable)
        patch.setenv("PYTHONPATH", str(REPOSITORY))
        patch.setenv("SPARK_LOCAL_IP", "127.0.0.1")
        session = (
            SparkSession.builder.master("local[2,4]")
            .config("spark.ui.enabled", "false")
            .config("spark.driver.memory", "1g")
            .config("spark.sql.shuffle.partitions", "2")
            .config("spark.sql.execution.arrow.maxRecordsPerBatch", "200")
            .config("spark.sql.warehouse.dir", str(tmp_path_factory.mktemp("warehouse")))
            .getOrCreate()
        )
        yield session
        session.stop()


@pytest.fixture
def texts(tmp_path):
    return write_texts(tmp_path / "texts")


def test_a_column_of_vectors_is_added(spark, texts, tmp_path):
    frame = spark.read.parquet(str(tmp_path / "texts"))
    before = frame.schema.simpleString()
    options = {"truncate_dim": 24, "normalize_embeddings": True}
    encoded = encode_column(frame, "text", "embedding", model=MODEL, **options)
    assert frame.schema.simpleString() == before
    assert encoded.columns == ["id", "text", "rank", "embedding"]
    field = encoded.schema["embedding"]
    assert field.dataType == types.ArrayType(types.FloatType(), False)
    assert field.metadata["dim"] == 24
    assert field.metadata["fingerprint"] == sentenc.load(MODEL).fingerprint()
    encoded.write.parquet(str(tmp_path / "vectors"))
    assert_one_vector_a_row(read_rows(tmp_path / "vectors"), texts, **options)


def test_a_killed_worker_loses_and_doubles_no_row(spark, texts, tmp_path):
    killed = tmp_path / "killed"
    model = FaultyEncoder(MODEL, killed, kill_at=3)
    frame = spark.read.parquet(str(tmp_path / "texts"))
    encode_column(frame, model=model, truncate_dim=32).write.parquet(str(tmp_path / "vectors"))
    assert killed.exists()
    assert_one_vector_a_row(read_rows(tmp_path / "vectors"), texts, truncate_dim=32)


def test_int8_has_a_column_of_scales(spark):
    frame = spark.createDataFrame([(1, "a man plays the guitar"), (2, None)], "id long, body string")
    rows = encode_column(frame, "body", "v", model=MODEL, dtype="int8").orderBy("id").collect()
    vector = np.array(rows[0]["v"], np.float32) * rows[0]["v_scale"]
    expected = sentenc.load(MODEL).encode(rows[0]["body"])
    np.testing.assert_allclose(vector, expected, atol=rows[0]["v_scale"])
    assert rows[1]["v"] is None


def test_wrong_columns_and_options_are_errors_in_the_driver(spark):
    frame = spark.createDataFrame([(1, "a man")], "id long, text string")
    for arguments, options, error, fact in (
        (("body",), {}, ValueError, "body"),
        (("id",), {}, TypeError, "bigint"),
        (("text", "id"), {}, ValueError, "id"),
        ((), {"dtype": "float16"}, ValueError, "float16"),
        ((), {"truncate_dim": 0}, ValueError, "truncate_dim"),
        ((), {"model": "no-such-model"}, sentenc.ModelNotFoundError, "no-such-model"),
    ):
        with pytest.raises(error, match=fact):
            encode_column(frame, *arguments, **{"model": MODEL, **options})
