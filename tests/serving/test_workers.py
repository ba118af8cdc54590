"""A server of several processes behind one port."""

import errno
import json
import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import click
import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sentenc
from sentenc.cli import cli
from sentenc.serving import ServerConfig, create_app, serve_workers
from sentenc.serving.restarting import Restarts
from sentenc.serving.workers import _Supervisor
from sentenc.threads import usable_cores
from tests.serving.conftest import SENTENCES, wait_until
from tests.serving.test_embeddings import vectors
from tests.serving.test_processes import get, metric, post
from tests.support.doubles import Gated
from tests.support.models import make_bert, make_cse
from tests.support.pairs import make_pair
from tests.support.processes import COMMAND, ended, running

SERVER = [sys.executable, "-m", "tests.support.worker_server"]
needs_proc = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="reads processes from /proc")


def server_command(folder, workers=2, constants=None, **config):
    config = {"port": 0, **config}
    return [*SERVER, folder / "gate", workers, json.dumps(config), json.dumps(constants or {})]


@contextmanager
def server(folder, workers=2, constants=None, **config):
    """A server of workers whose files of metrics are below ``folder``."""
    (folder / "files").mkdir()
    with running(
        server_command(folder, workers, constants, **config), env={"TMPDIR": folder / "files"}
    ) as process:
        yield process


def state_and_parent(pid):
    """Returns the letter of a process's state, and its parent; None if there is no such process."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return fields[0], int(fields[1])


def is_alive(pid):
    # In a container, nobody may reap a process whose parent has ended.
    state = state_and_parent(pid)
    return state is not None and state[0] not in "ZX"


def workers_of(process):
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return sorted(pid for pid in pids if is_alive(pid) and (state_and_parent(pid) or "  ")[1] == process.pid)


@contextmanager
def stopped(pid):
    """A process does not run within this block, so that another worker answers."""
    os.kill(pid, signal.SIGSTOP)
    wait_until(lambda: state_and_parent(pid)[0] == "T")
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def stop(process, number=signal.SIGTERM):
    process.send_signal(number)
    return ended(process)


@needs_proc
def test_every_worker_answers_and_metrics_are_sums(tmp_path):
    expected = make_cse().encode(SENTENCES, normalize_embeddings=True)
    with server(tmp_path) as process:
        workers = workers_of(process)
        assert len(workers) == 2
        assert get(f"{process.url}/ready").json() == {"status": "ready"}
        before = metric(process.url, "sentenc_texts_total", model="tiny")
        # One worker gets three requests, and the other one five.
        for worker, n_requests in zip(workers, (3, 5), strict=True):
            with stopped(worker):
                for _ in range(n_requests):
                    assert np.array_equal(vectors(post(process.url, input=SENTENCES)), expected)
        for worker in workers:
            with stopped(worker):
                assert metric(process.url, "sentenc_texts_total", model="tiny") - before == 8 * len(SENTENCES)
                n_answers = metric(
                    process.url, "sentenc_requests_total", route="/v1/embeddings", status="200"
                )
                assert n_answers == 8
        assert stop(process).count("finishing 0 requests") == 2
    assert list((tmp_path / "files").iterdir()) == []


@needs_proc
def test_killed_worker_is_replaced_while_requests_continue(tmp_path):
    with server(tmp_path, constants={"restarting._FIRST_DELAY": 0.01}) as process:
        first, second = workers_of(process)
        post(process.url, input=SENTENCES)
        counted = metric(process.url, "sentenc_texts_total", model="tiny")
        errors, statuses, enough = [], [], threading.Event()

        def request_one_after_another():
            while not enough.is_set():
                try:
                    statuses.append(post(process.url, input="dog").status_code)
                except httpx.TransportError as error:
                    errors.append(error)

        with ThreadPoolExecutor(1) as pool:
            client = pool.submit(request_one_after_another)
            try:
                wait_until(lambda: statuses)
                os.kill(first, signal.SIGKILL)
                wait_until(lambda: len(workers_of(process)) == 2 and first not in workers_of(process))
                with stopped(second):
                    # The replacement alone can answer.
                    assert post(process.url, input="cat").status_code == 200
                n_answers = len(statuses)
                wait_until(lambda: len(statuses) > n_answers + 3)
            finally:
                enough.set()
            client.result(60)
        assert set(statuses) == {200}
        # The request that the killed worker was answering, if there was one.
        assert len(errors) <= 1
        # The counts of the killed worker remain.
        total = metric(process.url, "sentenc_texts_total", model="tiny")
        assert total >= counted + len(statuses) + 1
        log = stop(process)
    assert f"process {first}) ended by signal 9" in log
    assert list((tmp_path / "files").iterdir()) == []


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signal_finishes_requests_in_flight(tmp_path, number):
    with server(tmp_path) as process, ThreadPoolExecutor(1) as pool:
        workers = workers_of(process)
        slow = pool.submit(post, process.url, input="slow dog")
        wait_until((tmp_path / "gate.reached").exists)
        # A terminal and some service managers send a signal to all processes, and so does the supervisor.
        for pid in (*workers, process.pid):
            os.kill(pid, number)
        wait_until(lambda: len(workers_of(process)) == 1)
        assert get(f"{process.url}/ready").status_code == 503
        assert post(process.url, input="dog").status_code == 503
        (tmp_path / "gate").touch()
        assert np.array_equal(
            vectors(slow.result(60)), make_cse().encode(["slow dog"], normalize_embeddings=True)
        )
        log = ended(process)
    assert "stopping 2 workers" in log
    assert "finishing 1 requests in flight" in log
    assert list((tmp_path / "files").iterdir()) == []


@needs_proc
def test_second_signal_ends_the_server_at_once(tmp_path):
    with server(tmp_path) as process, ThreadPoolExecutor(1) as pool:
        slow = pool.submit(post, process.url, input="slow dog")
        wait_until((tmp_path / "gate.reached").exists)
        process.send_signal(signal.SIGTERM)
        # The worker without requests has ended: the supervisor has seen the first signal.
        wait_until(lambda: len(workers_of(process)) == 1)
        stop(process)
        with pytest.raises(httpx.TransportError):
            slow.result(60)


@needs_proc
def test_worker_that_does_not_end_is_killed(tmp_path):
    with server(tmp_path, constants={"workers._KILL_AFTER_SECONDS": 0.2}, grace=0.1) as process:
        os.kill(workers_of(process)[0], signal.SIGSTOP)
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
        assert process.returncode == 1
        assert "ServerError: 1 of the workers had to be killed" in log
    assert list((tmp_path / "files").iterdir()) == []


@needs_proc
def test_workers_end_when_the_supervisor_is_killed(tmp_path):
    with server(tmp_path) as process:
        workers = workers_of(process)
        process.kill()
        process.wait(60)
        wait_until(lambda: not any(map(is_alive, workers)))


def test_workers_that_never_start_are_given_up(tmp_path):
    (tmp_path / "gate.broken").touch()
    command = server_command(tmp_path, constants={"restarting._FIRST_DELAY": 0.001})
    result = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=120, check=False)
    assert result.returncode == 1
    assert result.stdout == ""
    assert (
        "ServerError: 5 workers in a row ended before they were ready, the last one by exit code 1"
        in result.stderr
    )
    assert "RuntimeError: this worker is broken" in result.stderr


@needs_proc
def test_command_with_a_transformer_and_an_index(tmp_path):
    """ONNX Runtime opens its sessions in the workers, and an index is searched in all of them."""
    make_bert().save(tmp_path / "bert")
    make_cse("int8").save(tmp_path / "tiny")
    index = sentenc.Index(str(tmp_path / "tiny"))
    index.add(SENTENCES)
    index.save(tmp_path / "texts")
    expected = sentenc.load(tmp_path / "bert").encode(SENTENCES, normalize_embeddings=True)
    command = [
        *COMMAND,
        "serve",
        tmp_path / "bert",
        "--index",
        tmp_path / "texts",
        "--workers",
        2,
        "--port",
        0,
    ]
    with running(command) as process:
        for worker in workers_of(process):
            with stopped(worker):
                answer = post(process.url, model="bert", input=SENTENCES)
                assert np.allclose(vectors(answer), expected, atol=1e-6)
                assert get(f"{process.url}/search?q=guitar").json()["results"][0]["text"] == SENTENCES[0]
                assert metric(process.url, "sentenc_index_items", index="texts") == len(SENTENCES)
        stop(process)


def test_replacement_takes_no_connection_before_it_is_ready(tiny):
    from starlette.testclient import TestClient

    encoder = Gated(tiny)
    encoder.open.clear()
    app = create_app({"tiny": encoder})
    app.state.sentenc.is_replacement = True
    opener = threading.Thread(target=lambda: encoder.entered.wait(60) and encoder.open.set())
    opener.start()
    with TestClient(app) as client:
        assert client.get("/ready").status_code == 200
    opener.join()


def test_errors_of_the_application_are_raised_before_a_fork(monkeypatch):
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    with pytest.raises(ValueError, match="nothing to serve"):
        serve_workers(lambda: create_app({}), 2, ServerConfig(port=0))
    for wrong, error in ((0, ValueError), (1.5, TypeError)):
        with pytest.raises(error, match=f"workers is {wrong}"):
            serve_workers(lambda: pytest.fail("called"), wrong)


def test_without_a_folder_for_metrics(monkeypatch, tiny, tmp_path):
    monkeypatch.setattr(os, "fork", lambda: pytest.fail("forked"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "missing"))
    with pytest.raises(OSError, match=r"metrics.*TMPDIR.*missing"):
        serve_workers(lambda: create_app({"tiny": tiny}), 2, ServerConfig(port=0))


@needs_proc
def test_errors_of_fork_are_failed_starts(monkeypatch, tiny):
    def fork():
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(os, "fork", fork)
    monkeypatch.setattr("sentenc.serving.restarting._FIRST_DELAY", 0.001)
    before = len(os.listdir("/proc/self/fd")), signal.getsignal(signal.SIGTERM)
    with pytest.raises(sentenc.ServerError, match=r"5 workers in a row.*no more processes"):
        serve_workers(lambda: create_app({"tiny": tiny}), 2, ServerConfig(port=0))
    assert (len(os.listdir("/proc/self/fd")), signal.getsignal(signal.SIGTERM)) == before


def test_workers_that_run_continue_if_another_cannot_be_started(monkeypatch, tmp_path):
    supervisor = _Supervisor(lambda: None, 2, ServerConfig(), None, str(tmp_path))

    def start(slot):
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(supervisor, "_start", start)
    supervisor._workers[0] = object()
    supervisor._due = {1: 0.0}
    for _ in range(10):
        supervisor._start_due()
        assert supervisor._failure is None
        assert supervisor._due[1] > time.monotonic()
        supervisor._due[1] = 0.0
    supervisor._workers.clear()
    supervisor._selector.close()
    for end in (supervisor._wake_reader, supervisor._wake_writer):
        os.close(end)


def test_without_fork(monkeypatch, tmp_path):
    monkeypatch.delattr(os, "fork")
    with pytest.raises(sentenc.ServerError, match="workers is 2, expected 1"):
        cli.main(["serve", "cse-en-tiny", "--workers", "2"], standalone_mode=False)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--workers", "2"], max(usable_cores() // 2, 1)),
        (["--workers", "2", "--threads", "auto"], max(usable_cores() // 2, 1)),
        (["--workers", "64"], 1),
        (["--workers", "2", "--threads", "5"], 5),
    ],
)
def test_threads_of_a_worker(monkeypatch, options, expected):
    served, of_blas = [], []
    monkeypatch.setattr("sentenc.cli.serve.limit_blas", of_blas.append)
    monkeypatch.setattr("sentenc.serving.serve_workers", lambda make, *_, **__: served.append(make()))
    monkeypatch.setattr("sentenc.serving.logs.log_to_stderr", lambda as_json: None)
    monkeypatch.setattr("gc.freeze", lambda: None)
    cli.main(["serve", "cse-en-tiny", "--port", "0", *options], standalone_mode=False)
    assert served[0].state.sentenc.catalog.model("cse-en-tiny").encoder.threads == expected
    assert of_blas == [expected]


def test_number_of_workers():
    with pytest.raises(click.BadParameter, match="0"):
        cli.main(["serve", "cse-en-tiny", "--workers", "0"], standalone_mode=False)


def test_encoders_are_loaded_before_the_fork(tmp_path, tiny):
    pair = make_pair()
    pair.documents.save(tmp_path / "documents")
    pair.queries.save(tmp_path / "queries")
    index = sentenc.Index(str(tmp_path / "documents"))
    index.add(SENTENCES)
    index.set_query_encoder(str(tmp_path / "queries"))
    index.save(tmp_path / "texts")
    opened = sentenc.Index.open(tmp_path / "texts")
    catalog = create_app({"other": tiny}, {"texts": opened}).state.sentenc.catalog
    assert not opened._state.encoders.items.is_loaded
    catalog.load()
    assert opened._state.encoders.items.is_loaded


def test_delays_grow_while_workers_end_soon():
    restarts = Restarts()
    assert [restarts.delay(True, 1) for _ in range(7)] == [0.5, 1, 2, 4, 8, 10, 10]
    # One that has run for long starts again at once.
    assert restarts.delay(True, 3600) == 0
    assert restarts.delay(True, 1) == 0.5


def test_failed_starts_are_given_up():
    restarts = Restarts()
    assert None not in [restarts.delay(False, 0.1) for _ in range(4)]
    restarts.became_ready()
    assert None not in [restarts.delay(False, 100) for _ in range(4)]
    assert restarts.delay(False, 0.1) is None
    assert restarts.failed_starts == 5


@given(st.lists(st.tuples(st.booleans(), st.floats(0, 1e6)), max_size=50))
def test_a_server_whose_workers_become_ready_is_never_given_up(ends):
    restarts = Restarts()
    for number, (was_ready, seconds) in enumerate(ends):
        if was_ready:
            restarts.became_ready()
        delay = restarts.delay(was_ready, seconds)
        in_a_row = [ready for ready, _ in ends[max(number - 4, 0) : number + 1]]
        assert (delay is None) == (len(in_a_row) == 5 and not any(in_a_row))
        if delay is None:
            return
        assert 0 <= delay <= 10
