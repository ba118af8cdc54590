"""Running the application: a port, signals, and an orderly end."""

import errno
import importlib.util
import logging
import signal
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from types import FrameType
from typing import TYPE_CHECKING

from sentenc.errors import MissingExtraError
from sentenc.serving.lifecycle import State
from sentenc.serving.settings import ServerConfig

if TYPE_CHECKING:
    import uvicorn
    from fastapi import FastAPI

_logger = logging.getLogger("sentenc.serving")

# Longer than load balancers keep idle connections, so that it is they who close them.
_KEEP_ALIVE_SECONDS = 75
# uvloop takes one new connection for each time that it looks at a socket. Under load it looks rarely, and
# clients that come last would wait for seconds: so it is given the same socket several times.
_ACCEPTED_AT_ONCE = 16


def bind(settings: ServerConfig) -> socket.socket:
    """The socket that a server is to listen at; taken before models are loaded, to fail at once.

    Raises:
        OSError: The address is in use, unknown, or not ours to take; the message says which.
    """
    host, port = settings.host, settings.port
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
        # Only a listening socket keeps others from the port.
        listener.listen(2048)
    except OSError as error:
        listener.close()
        reasons = {
            errno.EADDRINUSE: "something listens there already: choose another with --port, or 0 for a free one",
            errno.EACCES: "only an administrator may take it: choose one of 1024 or above with --port",
            errno.EADDRNOTAVAIL: "it is not an address of this machine",
        }
        reason = reasons.get(error.errno or 0, str(error))
        raise OSError(f"cannot listen at port {port} of {host}: {reason}") from error
    return listener


def address(listener: socket.socket, host: str) -> str:
    """The URL of a bound socket."""
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    app: "FastAPI",
    settings: ServerConfig | None = None,
    *,
    listener: socket.socket | None = None,
    on_listening: Callable[[str], None] | None = None,
) -> None:
    """Runs an application of :func:`create_app` until SIGTERM or SIGINT.

    Then ``/ready`` turns 503, new requests get 503, those in flight are finished within
    ``settings.grace`` seconds, and the call returns. A second signal ends it at once.

    Args:
        app: The application.
        settings: Its address and grace.
        listener: What :func:`bind` gave; bound here otherwise.
        on_listening: Called with the URL once requests are taken.

    Raises:
        MissingExtraError: The extra ``serve`` is not installed.
        OSError: The address cannot be taken.
    """
    try:
        import uvicorn
    except ImportError as error:
        raise MissingExtraError("serve", "uvicorn", "the server") from error
    settings = settings or ServerConfig()
    grace = settings.grace
    listener = listener or bind(settings)
    url = address(listener, settings.host)
    state: State = app.state.sentenc

    class Server(uvicorn.Server):
        # uvicorn ends when it is told to; this one first finishes what it has.

        _deadline: float | None = None

        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            if self.started and on_listening is not None:
                on_listening(url)

        def handle_exit(self, sig: int, frame: FrameType | None) -> None:
            # Not passed on: it would be raised again at the end, and the exit code not be 0.
            if self._deadline is None:
                state.draining = True
                self._deadline = time.monotonic() + grace
                _logger.info("%s: finishing %d requests", signal.Signals(sig).name, state.in_flight)
            else:
                self.should_exit = self.force_exit = True

        async def on_tick(self, counter: int) -> bool:
            if self._deadline is not None and (state.in_flight == 0 or time.monotonic() > self._deadline):
                self.should_exit = True
            return await super().on_tick(counter)

    config = _config(uvicorn.Config, app)
    with ExitStack() as stack:
        sockets = [stack.enter_context(listener)]
        if importlib.util.find_spec("uvloop") is not None:
            sockets += [stack.enter_context(listener.dup()) for _ in range(_ACCEPTED_AT_ONCE - 1)]
        Server(config).run(sockets=sockets)


def _config(make: "type[uvicorn.Config]", app: "FastAPI") -> "uvicorn.Config":
    return make(
        app, log_config=None, access_log=False, server_header=False, proxy_headers=False, ws="none",
        lifespan="on", timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        # Requests had their time before: what is left is answers that clients are slow to take.
        timeout_graceful_shutdown=1,
    )  # fmt: skip
