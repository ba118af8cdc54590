"""The ASGI application of one path: parses a request within limits, calls its handler, sends the answer."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import parse_qsl

from sentenc.errors import ServerError
from sentenc.serving.api_errors import ApiError, shown, stopping, timed_out

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

Handler = Callable[[dict[str, Any]], Awaitable[bytes]]

# Only for requests that take this long, a task watches whether the client disconnects.
_WATCH_AFTER_SECONDS = 0.1
# The rest of a refused request is read and discarded within these limits, so that the client sees the
# answer rather than a broken connection.
_LINGER_SECONDS, _LINGER_BYTES = 2.0, 1 << 25
_MAX_QUERY_FIELDS = 100


class ClientGoneError(ServerError):
    """The client has disconnected and waits for no answer."""


class Endpoint:
    """An ASGI application for one path. Its handlers map the fields of a request to the bytes of an answer.

    Args:
        get: Handles GET and HEAD, with the fields of the query string.
        post: Handles POST, with the fields of a JSON object.
        max_body_bytes: Maximum number of bytes in a body; larger ones get 413.
        timeout: Seconds for reading and answering a request; after that it gets 504.
        content_type: Content type of the answers.
    """

    def __init__(
        self,
        *,
        get: Handler | None = None,
        post: Handler | None = None,
        max_body_bytes: int = 0,
        timeout: float = 30.0,
        content_type: str = "application/json",
    ) -> None:
        self._handlers = {"GET": get, "HEAD": get, "POST": post}
        self._allowed = ", ".join(method for method, handler in self._handlers.items() if handler)
        self._max_body_bytes, self._timeout = max_body_bytes, timeout
        self._content_type = content_type.encode()

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answers one request."""
        watch = _DisconnectWatch(receive)
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._answer(scope, receive, watch)
        except ApiError as error:
            # The body has not been read.
            lingers = error.headers.get("connection") == "close"
            await send_error(send, error, more=lingers)
            if lingers:
                await _linger(receive)
                await send({"type": "http.response.body"})
        except TimeoutError:
            await send_error(send, timed_out(self._timeout))
        except ClientGoneError:
            return
        except asyncio.CancelledError:
            if not watch.gone:
                # The server's grace period is over.
                await send_error(send, stopping())
        else:
            await send_bytes(send, 200, answer, self._content_type)

    async def _answer(self, scope: "Scope", receive: "Receive", watch: "_DisconnectWatch") -> bytes:
        handler = self._handlers.get(scope["method"])
        if handler is None:
            raise ApiError(
                405,
                f"{scope['method']} is not allowed here, expected {self._allowed}",
                code="method_not_allowed",
                headers={"allow": self._allowed},
            )
        if scope["method"] == "POST":
            fields = parse_json(await read_body(scope, receive, self._max_body_bytes))
        else:
            fields = parse_query(scope["query_string"])
        with watch:
            return await handler(fields)


async def send_bytes(
    send: "Send", status: int, body: bytes, content_type: bytes, headers: tuple[tuple[bytes, bytes], ...] = ()
) -> None:
    """Sends an answer in one piece."""
    head = [(b"content-type", content_type), (b"content-length", b"%d" % len(body)), *headers]
    await send({"type": "http.response.start", "status": status, "headers": head})
    await send({"type": "http.response.body", "body": body})


async def send_error(send: "Send", error: ApiError, *, more: bool = False) -> None:
    """Sends an error in OpenAI's format; with ``more``, the caller must end the answer."""
    body = error.body()
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    headers += [(name.encode(), value.encode()) for name, value in error.headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": more})


async def read_body(scope: "Scope", receive: "Receive", limit: int) -> bytes:
    """Reads the body of a JSON request.

    Raises:
        ApiError: The content type is not JSON or the body is compressed (415), or the body is larger than
            ``limit`` bytes (413). The size is checked in the headers, and again while the body arrives.
        ClientGoneError: The client has closed the connection.
    """
    content_type, coding, length = b"", b"", None
    for name, value in scope["headers"]:
        if name == b"content-type":
            content_type = value
        elif name == b"content-encoding":
            coding = value
        elif name == b"content-length":
            length = value
    media_type = content_type.split(b";", 1)[0].strip().lower()
    if media_type != b"application/json":
        raise ApiError(
            415,
            f"the content type is {shown(content_type.decode('latin-1'))}, expected 'application/json'",
            code="unsupported_media_type",
            headers={"connection": "close"},
        )
    if coding.strip().lower() not in (b"", b"identity"):
        raise ApiError(
            415,
            f"the content encoding is {shown(coding.decode('latin-1'))}: send the body without compression",
            code="unsupported_content_encoding",
            headers={"connection": "close", "accept-encoding": "identity"},
        )
    if length is not None and (not length.isdigit() or int(length) > limit):
        raise _too_large(f"{length.decode('latin-1')} bytes", limit)
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        part = message.get("body", b"")
        size += len(part)
        if size > limit:
            raise _too_large(f"more than {limit} bytes", limit)
        parts.append(part)
        if not message.get("more_body", False):
            return parts[0] if len(parts) == 1 else b"".join(parts)


def parse_json(body: bytes) -> dict[str, Any]:
    """Parses the fields of a JSON object.

    Raises:
        ApiError: The body is not a JSON object (400).
    """
    try:
        fields = json.loads(body.decode("utf-8"), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise ApiError(400, f"the body is not JSON: {reason}", code="invalid_json") from None
    if not isinstance(fields, dict):
        raise ApiError(
            400, f"the body is a JSON {_json_type(fields)}, expected an object", code="invalid_json"
        )
    return fields


def parse_query(query: bytes) -> dict[str, Any]:
    """Parses the fields of a query string; the last value counts if a name is repeated.

    All values of a repeated ``where`` count, as a list.

    Raises:
        ApiError: The query string has more than 100 fields (400).
    """
    try:
        pairs = parse_qsl(query.decode("latin-1"), keep_blank_values=True, max_num_fields=_MAX_QUERY_FIELDS)
    except ValueError as error:
        raise ApiError(400, f"the query string is not well-formed: {error}") from None
    fields: dict[str, Any] = dict(pairs)
    filters = [value for name, value in pairs if name == "where"]
    return fields if len(filters) < 2 else {**fields, "where": filters}


class _DisconnectWatch:
    # Cancels the running task if the client of a long request disconnects.

    def __init__(self, receive: "Receive") -> None:
        self.gone = False
        self._receive = receive
        self._watcher: asyncio.Task[None] | None = None

    def __enter__(self) -> Self:
        self._task = asyncio.current_task()
        self._timer = asyncio.get_running_loop().call_later(_WATCH_AFTER_SECONDS, self._start)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._timer.cancel()
        if self._watcher is not None:
            self._watcher.cancel()

    def _start(self) -> None:
        self._watcher = asyncio.get_running_loop().create_task(self._watch())

    async def _watch(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            continue
        self.gone = True
        if self._task is not None:
            self._task.cancel()


async def _linger(receive: "Receive") -> None:
    size = 0
    try:
        async with asyncio.timeout(_LINGER_SECONDS):
            while size < _LINGER_BYTES:
                message = await receive()
                size += len(message.get("body", b""))
                if not message.get("more_body", False):
                    return
    except TimeoutError:
        return


def _too_large(got: str, limit: int) -> ApiError:
    return ApiError(
        413,
        f"the body has {got}, expected at most {limit} (--max-body-bytes)",
        code="request_too_large",
        headers={"connection": "close"},
    )


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON number")


def _json_type(value: Any) -> str:
    names = {
        list: "array",
        str: "string",
        bool: "boolean",
        int: "number",
        float: "number",
        type(None): "null",
    }
    return names[type(value)]
