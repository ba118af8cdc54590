"""Runs the blocks of the guide on scaling that need an engine, on fewer rows."""

import re
import shutil
import sys

import numpy as np
import pytest

pytest.importorskip("pyarrow")
import pyarrow.parquet as pq

import sentenc
from tests.docs.test_code_blocks import BLOCK, ROOT
from tests.integrations.engines import environment, read_rows, run_script, write_texts

PAGE = ROOT / "docs" / "guides" / "scaling.md"


def blocks_of(section):
    """The blocks of Python below a heading, up to the next one."""
    text = PAGE.read_text(encoding="utf-8")
    part = re.search(rf"^### .*{{ #{section} }}$(.*?)(?=^##|\Z)", text, re.M | re.S)[1]
    return [match["code"] for match in BLOCK.finditer(part) if match["language"] == "python"]


@pytest.fixture
def texts(tmp_path):
    return write_texts(tmp_path / "texts", files=3, rows=300)


def run(code, folder, **variables):
    return run_script(code, cwd=folder, env=environment(**variables))


def assert_vectors(table, texts):
    vectors = table["embedding"].to_pylist()
    known = [i for i in table["id"].to_pylist() if texts[i] is not None]
    expected = sentenc.load("cse-en").encode([texts[i] for i in known], truncate_dim=256)
    position = {row: vector for row, vector in zip(table["id"].to_pylist(), vectors, strict=True)}
    np.testing.assert_allclose([position[i] for i in known], expected, atol=1e-6)


@pytest.mark.timeout(900)
def test_ray(texts, tmp_path, short_folder):
    pytest.importorskip("ray")
    [code] = blocks_of("ray")
    code = code.replace("num_cpus=4", f"num_cpus=4, include_dashboard=False, _temp_dir={short_folder!r}")
    run(code, tmp_path, RAY_USAGE_STATS_ENABLED="0")
    files = sorted((tmp_path / "vectors-ray").iterdir())
    table = read_rows(tmp_path / "vectors-ray")
    assert table["id"].to_pylist() == list(range(900))
    assert_vectors(table, texts)
    # The checkpoint is kept, so the same script writes nothing.
    run(code, tmp_path, RAY_USAGE_STATS_ENABLED="0")
    assert sorted((tmp_path / "vectors-ray").iterdir()) == files


@pytest.mark.timeout(900)
def test_spark(texts, tmp_path):
    pytest.importorskip("pyspark")
    if shutil.which("java") is None:
        pytest.skip("Spark needs a Java runtime")
    [code] = blocks_of("spark")
    printed = run(code, tmp_path, PYSPARK_PYTHON=sys.executable, SPARK_LOCAL_IP="127.0.0.1")
    assert printed.split() == ["256", "900"]
    assert_vectors(read_rows(tmp_path / "vectors-spark"), texts)


def test_polars(texts, tmp_path):
    pytest.importorskip("polars")
    [code] = blocks_of("polars")
    run(code, tmp_path)
    assert_vectors(pq.read_table(tmp_path / "vectors.parquet"), texts)


def test_duckdb(texts, tmp_path):
    duckdb = pytest.importorskip("duckdb")
    batches, function = blocks_of("duckdb")
    run(batches, tmp_path)
    table = pq.read_table(tmp_path / "vectors-duckdb.parquet")
    assert sorted(table["id"].to_pylist()) == list(range(0, 900, 2))
    assert_vectors(table, texts)
    printed = run(function, tmp_path)
    with duckdb.connect(str(tmp_path / "vectors.duckdb"), read_only=True) as database:
        stored = database.sql("SELECT * FROM vectors ORDER BY id").to_arrow_table()
    assert stored["embedding"].null_count == texts.count(None)
    assert_vectors(stored, texts)
    assert len(re.findall(r"\d+", printed)) == 3
