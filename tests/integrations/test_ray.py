"""Ray Data: the class for map_batches, and runs whose worker or driver is killed in the middle."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest

pytest.importorskip("pyarrow")

import pyarrow as pa
import pyarrow.parquet as pq

import sentenc
from sentenc.integrations.ray import EncodeBatch
from tests.integrations.engines import (
    MODEL,
    assert_one_vector_a_row,
    descendants,
    environment,
    is_running,
    make_texts,
    read_rows,
    run_script,
    write_texts,
)  # fmt: skip

SCRIPT = """
import sys
import ray
from sentenc.integrations.ray import EncodeBatch
from tests.support.faulty import FaultyEncoder

source, output, checkpoint, state, kill_at, seconds, temporary = sys.argv[1:]
ray.init(num_cpus=4, object_store_memory=100_000_000, include_dashboard=False, _temp_dir=temporary)
context = ray.data.DataContext.get_current()
# Several blocks for files of 30 kB. The reader of Parquet ignores override_num_blocks.
context.target_max_block_size = 50_000
if checkpoint:
    context.checkpoint_config = ray.data.checkpoint.CheckpointConfig(id_column="id", checkpoint_path=checkpoint)
model = FaultyEncoder("cse-en-tiny", state, int(kill_at), float(seconds))
dataset = ray.data.read_parquet(source).map_batches(
    EncodeBatch,
    fn_constructor_kwargs={"model": model, "truncate_dim": 32},
    batch_format="pyarrow",
    batch_size=200,
    compute=ray.data.ActorPoolStrategy(size=2),
)
dataset.write_parquet(output)
ray.shutdown()
"""


def ray_environment():
    return environment(RAY_USAGE_STATS_ENABLED="0", RAY_DATA_DISABLE_PROGRESS_BARS="1")


def test_a_batch_keeps_its_columns():
    texts = make_texts(120)
    table = pa.table({"id": range(120), "text": texts, "rank": [i % 7 for i in range(120)]})
    options = {"truncate_dim": 16, "normalize_embeddings": True}
    encoded = EncodeBatch(MODEL, **options)(table)
    assert encoded.schema.field("embedding").type == pa.list_(pa.float32(), 16)
    assert_one_vector_a_row(encoded, texts, **options)
    small = EncodeBatch(MODEL, dtype="int8", column="v", text="text")(table.slice(0, 3))
    assert small.column_names == ["id", "text", "rank", "v", "v_scale"]


def test_the_model_has_one_thread_and_is_loaded_once():
    first, second = EncodeBatch(MODEL), EncodeBatch(MODEL, truncate_dim=8)
    assert first._encoder.encoder is second._encoder.encoder
    assert first._encoder.encoder.threads == 1
    assert EncodeBatch(MODEL, threads=2)._encoder.encoder.threads == 2


def test_wrong_batches_and_options():
    with pytest.raises(TypeError, match="batch_format='pyarrow'"):
        EncodeBatch(MODEL)({"text": np.array(["a"])})
    with pytest.raises(ValueError, match="text"):
        EncodeBatch(MODEL)(pa.table({"body": ["a"]}))
    with pytest.raises(ValueError, match="truncate_dim"):
        EncodeBatch(MODEL, truncate_dim=100_000)
    with pytest.raises(sentenc.ModelNotFoundError):
        EncodeBatch("no-such-model")


@pytest.mark.timeout(900)
def test_a_killed_worker_loses_and_doubles_no_row(tmp_path, short_folder):
    pytest.importorskip("ray")
    texts = write_texts(tmp_path / "texts")
    killed = tmp_path / "killed"
    arguments = (tmp_path / "texts", tmp_path / "vectors", "", killed, 4, 0.0, short_folder)
    run_script(SCRIPT, *arguments, env=ray_environment())
    assert killed.exists()
    assert_one_vector_a_row(read_rows(tmp_path / "vectors"), texts, truncate_dim=32)


@pytest.mark.timeout(900)
def test_a_killed_driver_is_resumed(tmp_path, short_folder):
    pytest.importorskip("ray")
    texts = write_texts(tmp_path / "texts")
    output, checkpoint = tmp_path / "vectors", tmp_path / "checkpoint"
    arguments = (tmp_path / "texts", output, checkpoint, tmp_path / "killed", 0)
    command = [sys.executable, "-c", SCRIPT, *map(str, arguments), "0.5", short_folder]
    with (tmp_path / "log.txt").open("wb") as log:
        driver = subprocess.Popen(command, env=ray_environment(), stdout=log, stderr=log)
    try:
        wait_for_blocks(driver, checkpoint)
    finally:
        kill_with_descendants(driver)
    done = sum(pq.read_metadata(path).num_rows for path in committed_blocks(checkpoint))
    assert 0 < done < len(texts)
    before = set(output.iterdir())
    run_script(SCRIPT, *arguments, "0", short_folder, env=ray_environment())
    assert_one_vector_a_row(read_rows(output), texts, truncate_dim=32)
    added = [path for path in output.iterdir() if path not in before]
    assert sum(pq.read_metadata(path).num_rows for path in added) == len(texts) - done


def committed_blocks(checkpoint):
    """The files of the ids that are written. A file that is "pending" is renamed when its block is written."""
    return [path for path in checkpoint.rglob("*.parquet") if ".pending." not in path.name]


def wait_for_blocks(driver, checkpoint, seconds=300):
    for _ in range(seconds * 20):
        assert driver.poll() is None, "the driver has ended before it was killed"
        if len(committed_blocks(checkpoint)) >= 2:
            return
        time.sleep(0.05)
    raise AssertionError("no block was written")


def kill_with_descendants(process):
    """Kills a driver with the daemons and workers that it started."""
    processes = [process.pid, *descendants(process.pid)]
    for pid in processes:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    while any(is_running(pid) for pid in processes):
        time.sleep(0.05)
