"""Runs a server as several processes behind one port, which share the memory of its models."""

import logging
import os
import selectors
import signal
import socket
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from sentenc.errors import ServerError
from sentenc.serving.config import ServerConfig
from sentenc.serving.lifecycle import Lifecycle
from sentenc.serving.metrics import forget_process, share_metrics
from sentenc.serving.restarting import LONGEST_DELAY, Restarts
from sentenc.serving.server import address, bind, import_server, serve_in_worker
from sentenc.validation import check_integer

if TYPE_CHECKING:
    from starlette.applications import Starlette

_logger = logging.getLogger("sentenc.serving")

_SIGNALS = (signal.SIGTERM, signal.SIGINT)
# Seconds in which a worker ends after its grace period, before it is killed.
_KILL_AFTER_SECONDS = 5.0
# The end of a worker is noticed at once, except if a process that it has started still runs.
_CHECK_SECONDS = 1.0


def check_workers(workers: int) -> int:
    """Returns a number of workers with which a server can run here.

    Raises:
        ServerError: Several workers need ``fork``, which the system does not have.
        TypeError: ``workers`` is no integer.
        ValueError: ``workers`` is below 1.
    """
    check_integer("workers", workers)
    if workers > 1 and not hasattr(os, "fork"):
        raise ServerError(
            f"workers is {workers}, expected 1: this system cannot fork processes; start several servers on "
            "different ports instead"
        )
    return workers


def serve_workers(
    make_app: "Callable[[], Starlette]",
    workers: int,
    config: ServerConfig | None = None,
    *,
    listener: socket.socket | None = None,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Runs an application in several processes behind one port until SIGTERM or SIGINT.

    This process loads all encoders, then forks the workers, and then only supervises them. A worker that ends is
    replaced. After a signal, every worker finishes its requests in flight, as with :func:`serve`; workers that have
    not ended some seconds after ``config.grace`` are killed. A second signal kills all workers at once.

    Call it in the main thread, without other threads, and before any text is encoded.

    Args:
        make_app: Returns an application of :func:`create_app`, whose encoders and indexes exist before the call. It
            is called once in this process and once in every worker.
        workers: The number of worker processes.
        config: The address and the grace period.
        listener: A socket of :func:`bind`; bound here if it is None.
        on_listening: Called with the URL when all workers are ready.

    Raises:
        MissingExtraError: The extra ``serve`` is not installed.
        OSError: The address cannot be bound, or there is no folder for temporary files, which the metrics need.
        ServerError: The system cannot fork, workers end again and again before they are ready, or a worker had to be
            killed in the end.
    """
    check_workers(workers)
    config = config or ServerConfig()
    # Errors in the names or files of models are raised here, not in every worker.
    app = make_app()
    app.state.sentenc.catalog.load()
    import_server(app)
    with ExitStack() as stack:
        listener = stack.enter_context(listener or bind(config))
        url = address(listener, config.host)
        folder = stack.enter_context(_temporary_folder())
        supervisor = _Supervisor(make_app, workers, config, listener, folder)
        supervisor.run((lambda: on_listening(url)) if on_listening else (lambda: None))


def _temporary_folder() -> "tempfile.TemporaryDirectory[str]":
    try:
        return tempfile.TemporaryDirectory(prefix="sentenc-serve-")
    except OSError as error:
        raise OSError(
            f"several workers need a folder for temporary files, where they write their metrics: set TMPDIR to one ({error})"
        ) from error


@dataclass
class _Worker:
    # The process of a worker. The pipe has a byte when it is ready, and is at its end when the process has ended.

    slot: int
    pid: int
    pipe: int
    started: float
    ready: bool = False


class _Supervisor:
    # Starts workers, replaces those that end, and stops them all.

    def __init__(
        self,
        make_app: "Callable[[], Starlette]",
        n_workers: int,
        config: ServerConfig,
        listener: socket.socket,
        folder: str,
    ) -> None:
        self._make_app, self._config, self._listener, self._folder = make_app, config, listener, folder
        self._n_workers = n_workers
        self._workers: dict[int, _Worker] = {}
        # When the worker of each slot starts. A slot numbers its workers' files of metrics, which a replacement
        # continues, so that no count is lost and the files do not become more.
        self._due = dict.fromkeys(range(n_workers), 0.0)
        self._restarts = Restarts()
        self._failure: str | None = None
        self._signals: list[int] = []
        self._selector = selectors.PollSelector()
        self._wake_reader, self._wake_writer = os.pipe()
        for end in (self._wake_reader, self._wake_writer):
            os.set_blocking(end, False)
        self._selector.register(self._wake_reader, selectors.EVENT_READ)

    def run(self, on_listening: Callable[[], None]) -> None:
        announced = False
        try:
            with self._handling_signals():
                while not self._signals and self._failure is None:
                    self._start_due()
                    self._wait(min([_CHECK_SECONDS, *(due - time.monotonic() for due in self._due.values())]))
                    if not announced and sum(w.ready for w in self._workers.values()) == self._n_workers:
                        announced = True
                        on_listening()
                self._stop()
        finally:
            # After an error, no worker may outlive this process.
            self._kill()
            self._selector.close()
            os.close(self._wake_reader)
            os.close(self._wake_writer)

    @contextmanager
    def _handling_signals(self) -> Iterator[None]:
        def note(number: int, frame: object) -> None:
            self._signals.append(number)
            self._wake()

        before = {number: signal.signal(number, note) for number in _SIGNALS}
        # If the signal is ignored, as some programs leave it, the exit code of a worker cannot be read.
        before[signal.SIGCHLD] = signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        try:
            yield
        finally:
            for number, handler in before.items():
                # A handler that Python has not set is None.
                signal.signal(number, signal.SIG_DFL if handler is None else handler)

    def _wake(self) -> None:
        try:
            os.write(self._wake_writer, b"s")
        except BlockingIOError:
            return

    def _start_due(self) -> None:
        now = time.monotonic()
        for slot in [slot for slot, due in self._due.items() if due <= now]:
            del self._due[slot]
            try:
                self._start(slot)
            except OSError as error:
                if self._workers:
                    # The system has no room for another process now. The workers that run continue.
                    _logger.warning("worker %d cannot be started: %s", slot, error)
                    self._due[slot] = time.monotonic() + LONGEST_DELAY
                else:
                    self._replace(slot, f"worker {slot}", f"an error of the system ({error})", False, 0)

    def _start(self, slot: int) -> None:
        for stream in (sys.stdout, sys.stderr):
            # Otherwise the worker would write the content of the buffer again. A program may have closed a stream.
            with suppress(OSError, AttributeError, ValueError):
                stream.flush()
        supervisor = os.getpid()
        reader, writer = os.pipe()
        # A signal that arrives before the worker has its own handlers waits until then.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            with warnings.catch_warnings():
                # Python 3.12 and later also warn of the threads of libraries. Those of NumPy allow forks.
                warnings.simplefilter("ignore", DeprecationWarning)
                pid = os.fork()
            if pid == 0:
                self._work(slot, writer, supervisor)
        except OSError:
            os.close(reader)
            raise
        finally:
            os.close(writer)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        worker = self._workers[slot] = _Worker(slot, pid, reader, time.monotonic())
        self._selector.register(reader, selectors.EVENT_READ, worker)

    def _work(self, slot: int, ready: int, supervisor: int) -> NoReturn:
        # The life of a worker process, which must never return into the code of its parent.
        code = 1
        try:
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
            share_metrics(self._folder, slot)
            app = self._make_app()
            lifecycle: Lifecycle = app.state.sentenc
            lifecycle.is_replacement = self._restarts.any
            lifecycle.on_ready = lambda: os.write(ready, b"r")
            serve_in_worker(app, self._config, self._listener, supervisor)
            code = 0
        except BaseException:
            _logger.exception("worker %d (process %d) failed", slot, os.getpid())
        finally:
            try:
                sys.stdout.flush()
                sys.stderr.flush()
            finally:
                os._exit(code)

    def _wait(self, seconds: float) -> None:
        """Waits for a signal, or for workers to be ready or to end; at most some seconds."""
        for key, _ in self._selector.select(max(seconds, 0)):
            content = os.read(key.fd, 64)
            worker: _Worker | None = key.data
            if worker is None:
                continue
            if content:
                worker.ready = True
                self._restarts.became_ready()
                _logger.info("worker %d (process %d) is ready", worker.slot, worker.pid)
            else:
                # The worker has closed its end of the pipe, which it does by ending.
                self._ended(worker, os.waitpid(worker.pid, 0)[1])
        for worker in list(self._workers.values()):
            pid, status = os.waitpid(worker.pid, os.WNOHANG)
            if pid:
                self._ended(worker, status)

    def _ended(self, worker: _Worker, status: int) -> None:
        del self._workers[worker.slot]
        self._selector.unregister(worker.pipe)
        os.close(worker.pipe)
        forget_process(self._folder, worker.slot)
        if self._signals or self._failure is not None:
            return
        seconds = time.monotonic() - worker.started
        self._replace(
            worker.slot,
            f"worker {worker.slot} (process {worker.pid})",
            _reason(status),
            worker.ready,
            seconds,
        )

    def _replace(self, slot: int, name: str, reason: str, was_ready: bool, seconds: float) -> None:
        """Notes when the next worker of a slot starts, or that there have been too many failures."""
        delay = self._restarts.delay(was_ready, seconds)
        if delay is None:
            self._failure = (
                f"{self._restarts.failed_starts} workers in a row ended before they were ready, the last one by "
                f"{reason}: the log has their errors"
            )
            return
        _logger.warning("%s ended by %s; another one starts in %.1f s", name, reason, delay)
        self._due[slot] = time.monotonic() + delay

    def _stop(self) -> None:
        """Lets all workers finish their requests; kills those that do not end, and all at another signal."""
        name = signal.Signals(self._signals[0]).name if self._signals else "giving up"
        _logger.info("%s: stopping %d workers", name, len(self._workers))
        n_signals = len(self._signals)
        self._send(signal.SIGTERM)
        deadline = time.monotonic() + self._config.grace + _KILL_AFTER_SECONDS
        while self._workers and len(self._signals) == n_signals and time.monotonic() < deadline:
            self._wait(min(_CHECK_SECONDS, deadline - time.monotonic()))
        late = len(self._workers)
        self._kill()
        if self._failure is not None:
            raise ServerError(self._failure)
        if late and len(self._signals) == n_signals:
            raise ServerError(
                f"{late} of the workers had to be killed: they did not end in the {self._config.grace:g} s of grace"
            )

    def _kill(self) -> None:
        self._send(signal.SIGKILL)
        for worker in list(self._workers.values()):
            os.waitpid(worker.pid, 0)
            del self._workers[worker.slot]
            os.close(worker.pipe)

    def _send(self, number: int) -> None:
        for worker in self._workers.values():
            os.kill(worker.pid, number)


def _reason(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"exit code {code}" if code >= 0 else f"signal {-code} ({signal.strsignal(-code)})"
