"""Runs the application: binds a port, handles signals, and shuts down in order."""

import errno
import importlib.util
import logging
import os
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType
from typing import TYPE_CHECKING, Any

from sentenc.errors import MissingExtraError
from sentenc.serving.config import ServerConfig
from sentenc.serving.lifecycle import Lifecycle

if TYPE_CHECKING:
    from starlette.applications import Starlette

_logger = logging.getLogger("sentenc.serving")

# Longer than load balancers keep idle connections, so that the balancers close them.
_KEEP_ALIVE_SECONDS = 75
# uvloop accepts one new connection each time it polls a socket. Under load it polls rarely, and the last
# clients would wait for seconds. So it gets several duplicates of the socket.
_LISTENERS = 16


def bind(config: ServerConfig) -> socket.socket:
    """Binds the server's socket; called before models are loaded, to fail early.

    Raises:
        OSError: The address is in use, unknown or not permitted; the message has the reason.
    """
    host, port = config.host, config.port
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise OSError(f"host is {host!r}, expected an address of this machine: {error}") from error
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        # Only a listening socket keeps other processes from the port.
        listener.listen(2048)
    except OSError as error:
        listener.close()
        reasons = {
            errno.EADDRINUSE: "it is in use: choose another port, or 0 for a free one",
            errno.EACCES: "permission denied: choose a port of 1024 or above",
            errno.EADDRNOTAVAIL: "the host is not an address of this machine",
        }
        reason = reasons.get(error.errno or 0, str(error))
        raise OSError(f"cannot listen on port {port} of {host}: {reason}") from error
    return listener


def address(listener: socket.socket, host: str) -> str:
    """Returns the URL of a bound socket."""
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    app: "Starlette",
    config: ServerConfig | None = None,
    *,
    listener: socket.socket | None = None,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Runs an application of :func:`create_app` until SIGTERM or SIGINT.

    After the signal, ``/ready`` and new requests get 503, requests in flight are finished within
    ``config.grace`` seconds, and the call returns. A second signal ends it at once.

    Args:
        app: The application.
        config: Its address and grace period.
        listener: A socket of :func:`bind`; bound here if it is None.
        on_listening: Called with the URL when the server accepts requests.

    Raises:
        MissingExtraError: The extra ``serve`` is not installed.
        OSError: The address cannot be bound.
    """
    config = config or ServerConfig()
    server = _draining_server(app, config.grace, None)
    listener = listener or bind(config)
    if on_listening is not None:
        url = address(listener, config.host)
        server.on_started = lambda: on_listening(url)
    _run(server, listener)


def serve_in_worker(app: "Starlette", config: ServerConfig, listener: socket.socket, supervisor: int) -> None:
    """Runs an application until the first signal, or until the process ``supervisor`` does not exist any more.

    Further signals change nothing: a terminal or a service manager sends one to every process of the server, and the
    supervisor sends another one.
    """
    _run(_draining_server(app, config.grace, supervisor), listener)


def import_server(app: "Starlette") -> None:
    """Imports what a worker needs to run an application, so that forked workers share it.

    Raises:
        MissingExtraError: The extra ``serve`` is not installed.
    """
    _draining_server(app, 0, None).config.load()


def _run(server: Any, listener: socket.socket) -> None:
    with ExitStack() as stack:
        sockets = [stack.enter_context(listener)]
        if importlib.util.find_spec("uvloop") is not None:
            sockets += [stack.enter_context(listener.dup()) for _ in range(_LISTENERS - 1)]
        server.run(sockets=sockets)


def _draining_server(app: "Starlette", grace: float, supervisor: int | None) -> Any:
    """Creates a server that finishes the requests in flight before it ends; uvicorn's own ends at a signal."""
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtraError("serve", "uvicorn", "the server") from error
    lifecycle: Lifecycle = app.state.sentenc

    class DrainingServer(uvicorn.Server):
        on_started: Callable[[], None] | None = None
        _deadline: float | None = None

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started and self.on_started is not None:
                self.on_started()

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # uvicorn would raise the signal again at the end, and the exit code would not be 0.
            if self._deadline is None:
                lifecycle.draining = True
                self._deadline = time.monotonic() + grace
                _logger.info(
                    "%s: finishing %d requests in flight", signal.Signals(sig).name, lifecycle.in_flight
                )
            elif supervisor is None:
                self.should_exit = self.force_exit = True

        async def on_tick(self, counter: int) -> bool:
            if supervisor is not None and self._deadline is None and os.getppid() != supervisor:
                self.handle_exit(signal.SIGTERM, None)
            if self._deadline is not None and (lifecycle.in_flight == 0 or time.monotonic() > self._deadline):
                self.should_exit = True
            return await super().on_tick(counter)

    config = uvicorn.Config(
        app,
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        ws="none",
        lifespan="on",
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        # Requests have had their grace period; only answers that clients read slowly are left.
        timeout_graceful_shutdown=1,
    )
    return DrainingServer(config)
