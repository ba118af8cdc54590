"""The command in processes of its own that are killed: the same command ends with one vector for every row."""

import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from tests.shards.conftest import write_parquet
from tests.support.processes import COMMAND, REPOSITORY

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
FILES, ROWS = 10, 6000
SECONDS = 120


@pytest.fixture(scope="module")
def many(tmp_path_factory):
    folder = tmp_path_factory.mktemp("many")
    for number in range(FILES):
        write_parquet(folder / f"part-{number}.parquet", number, ROWS)
    return folder


class Command:
    """A run of the command, by default with two processes."""

    def __init__(self, inputs, out, model, processes=2):
        path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
        arguments = [
            "encode",
            f"{inputs}/*.parquet",
            "-o",
            f"{out}/",
            "-m",
            model,
            "--processes",
            str(processes),
        ]
        self._out = out
        self.process = subprocess.Popen(
            [*COMMAND, *arguments], env={**os.environ, "PYTHONPATH": path}, stderr=subprocess.PIPE, text=True,
            start_new_session=True,
            # A shell that runs the tests in the background ignores the signal, which processes inherit.
            preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
        )  # fmt: skip

    def wait_for(self, condition):
        """Waits until a condition is true, or the command has ended."""
        end = time.monotonic() + SECONDS
        while self.process.poll() is None and not condition() and time.monotonic() < end:
            time.sleep(0.002)

    def workers(self):
        """The processes that the command has started."""
        try:
            text = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text()
        except OSError:
            return []
        return [int(pid) for pid in text.split()]

    def ended(self):
        _, errors = self.process.communicate(timeout=SECONDS)
        assert "Traceback" not in errors
        return self.process.returncode, errors


def shards(out):
    return [name for name in (os.listdir(out) if out.exists() else []) if name.endswith(".parquet")]


def temporaries(out):
    return [name for name in os.listdir(out) if name.endswith(".tmp")]


def is_running(pid):
    try:
        # A process that has ended, but was not waited for, has no command line.
        return Path(f"/proc/{pid}/cmdline").read_bytes() != b""
    except OSError:
        return False


def check_all(many, out, encoder):
    """Every row of every source has exactly one vector, that of its text."""
    assert len(shards(out)) == FILES
    for number in range(FILES):
        table = pq.read_table(out / f"part-{number}.parquet")
        texts = pq.read_table(many / f"part-{number}.parquet")["text"].to_pylist()
        assert table["text"].to_pylist() == texts
        known = [text for text in texts if text is not None]
        vectors = table["embedding"].drop_null().combine_chunks().flatten().to_numpy()
        np.testing.assert_array_equal(vectors.reshape(len(known), -1), encoder.encode(known))
    assert temporaries(out) == []


def test_a_run_that_is_killed_several_times(many, tmp_path, model, encoder):
    out = tmp_path / "out"
    moments = random.Random(0)
    for _ in range(4):
        command = Command(many, out, model)
        at_least = len(shards(out)) + moments.randrange(3)
        command.wait_for(lambda run=command, n=at_least: run.workers() and len(shards(out)) >= n)
        workers = command.workers()
        time.sleep(moments.random() * 0.05)
        command.process.kill()
        command.ended()
        # Workers that lose their parent end by themselves.
        end = time.monotonic() + SECONDS
        while any(map(is_running, workers)) and time.monotonic() < end:
            time.sleep(0.01)
        assert not any(map(is_running, workers))
        for name in shards(out):
            assert pq.ParquetFile(out / name).metadata.num_rows == ROWS
    code, errors = Command(many, out, model).ended()
    assert code == 0, errors
    check_all(many, out, encoder)


def test_a_single_process_leaves_a_temporary_file_that_the_next_run_removes(many, tmp_path, model, encoder):
    out = tmp_path / "out"
    command = Command(many, out, model, processes=1)
    command.wait_for(lambda: shards(out) and any("parquet" in name for name in temporaries(out)))
    command.process.kill()
    command.ended()
    assert len(shards(out)) < FILES
    assert Command(many, out, model, processes=1).ended()[0] == 0
    check_all(many, out, encoder)


def test_a_new_run_while_workers_of_a_killed_one_end(many, tmp_path, model, encoder):
    out = tmp_path / "out"
    command = Command(many, out, model)
    command.wait_for(lambda: shards(out))
    command.process.kill()
    code, errors = Command(many, out, model).ended()
    command.ended()
    assert code == 0, errors
    check_all(many, out, encoder)


def test_a_worker_that_is_killed_is_replaced(many, tmp_path, model, encoder):
    out = tmp_path / "out"
    command = Command(many, out, model)
    for at_least in (0, 3):
        command.wait_for(
            lambda at_least=at_least: len(command.workers()) == 2 and len(shards(out)) >= at_least
        )
        if workers := command.workers():
            os.kill(workers[0], signal.SIGKILL)
            command.wait_for(lambda killed=workers[0]: killed not in command.workers())
    code, errors = command.ended()
    assert code == 0, errors
    check_all(many, out, encoder)


@pytest.mark.parametrize(("processes", "to_all"), [(2, True), (2, False), (1, False)])
def test_ctrl_c_ends_all_processes(many, tmp_path, model, encoder, processes, to_all):
    out = tmp_path / "out"
    command = Command(many, out, model, processes)
    command.wait_for(lambda: len(command.workers()) == 2 or (processes == 1 and shards(out)))
    workers = command.workers()
    # A terminal sends the signal to all processes of the command.
    (os.killpg if to_all else os.kill)(command.process.pid, signal.SIGINT)
    code, errors = command.ended()
    assert (code, "interrupted" in errors) == (130, True), errors
    assert len(workers) == (processes if processes > 1 else 0)
    assert not any(map(is_running, workers))
    assert temporaries(out) == []
    assert Command(many, out, model).ended()[0] == 0
    check_all(many, out, encoder)
