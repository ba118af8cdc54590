"""ASGI middleware: API-key check, request metrics, and a handler for unexpected exceptions."""

import hmac
import logging
import os
import time
from itertools import count
from typing import TYPE_CHECKING

from sentenc.serving.api_errors import ApiError, internal, stopping
from sentenc.serving.endpoint import send_error
from sentenc.serving.lifecycle import Lifecycle

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

_logger = logging.getLogger("sentenc.serving")

_PROBES = ("/health", "/ready")
# These do no work: they do not count as in flight, and draining does not wait for them.
_MONITORING = (*_PROBES, "/metrics")
_DESCRIPTIONS = ("/openapi.json", "/docs")
_LABELED_PATHS = (
    "/v1/embeddings",
    "/v1/models",
    "/classify",
    "/classifiers",
    "/search",
    "/similarity",
    "/indexes",
    "/metrics",
    *_DESCRIPTIONS,
    "/",
    *_PROBES,
)
_NO_ANSWER = 499  # the status that nginx logs when the client has disconnected


class RequestMiddleware:
    """ASGI middleware around the whole application."""

    def __init__(self, app: "ASGIApp", lifecycle: Lifecycle, api_key: str | None) -> None:
        self._app, self._lifecycle = app, lifecycle
        self._key = None if api_key is None else api_key.encode()
        self._numbers = count(1)
        # Several processes of one server may begin within a millisecond.
        self._run = f"{time.time_ns() // 1_000_000:x}-{os.getpid():x}"

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Passes a request to the application, or refuses it."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        request_id = f"{self._run}-{next(self._numbers)}"
        status, is_counted = _NO_ANSWER, False

        def count_once() -> None:
            nonlocal is_counted
            if not is_counted:
                is_counted = True
                seconds = time.perf_counter() - started
                self._lifecycle.metrics.count_request(_label(path), status, seconds)

        async def observed(message: "Message") -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"x-content-type-options", b"nosniff"),
                ]
            elif message["type"] == "http.response.body" and not message.get("more_body"):
                # Before the end of the answer is sent: a client that has it finds its request in the metrics.
                count_once()
            await send(message)

        works = path not in _MONITORING
        self._lifecycle.in_flight += works
        try:
            await self._pass(path, scope, receive, observed)
        except Exception:
            _logger.exception("request %s to %s failed", request_id, _label(path))
            if status == _NO_ANSWER:
                await send_error(observed, internal(request_id))
            else:
                # Part of the answer has been sent: the client must not take that part for the whole.
                raise
        finally:
            self._lifecycle.in_flight -= works
            count_once()

    async def _pass(self, path: str, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if not self._lifecycle.started:
            # An application that is mounted in another one gets no startup event.
            self._lifecycle.start()
        if self._key is not None and not _is_public(path) and not self._has_key(scope):
            await send_error(send, _UNAUTHORIZED)
        elif self._lifecycle.draining and path not in _PROBES:
            await send_error(send, stopping())
        else:
            await self._app(scope, receive, send)

    def _has_key(self, scope: "Scope") -> bool:
        for name, value in scope["headers"]:
            if name == b"authorization":
                scheme, _, key = value.partition(b" ")
                # compare_digest takes as long for a wrong first byte as for a wrong last one.
                return scheme.lower() == b"bearer" and hmac.compare_digest(key.strip(), self._key or b"")
        return False


_UNAUTHORIZED = ApiError(
    401,
    "the API key is missing or wrong, expected the header Authorization: Bearer KEY",
    code="invalid_api_key",
    headers={"www-authenticate": "Bearer"},
)


def _is_public(path: str) -> bool:
    return path == "/" or path in (*_PROBES, *_DESCRIPTIONS) or path.startswith("/page/")


def _label(path: str) -> str:
    # There are few labels, whatever paths clients request.
    if path in _LABELED_PATHS:
        return path
    if path.startswith("/v1/models/"):
        return "/v1/models/{model}"
    return "/page" if path.startswith("/page/") else "other"
