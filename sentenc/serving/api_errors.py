"""Errors that are sent to clients: a status, and a body in OpenAI's format."""

import json
from typing import Any

from sentenc.errors import ServerError

_TYPES = {
    401: "invalid_request_error",
    429: "rate_limit_error",
    500: "server_error",
    503: "server_error",
    504: "timeout_error",
}


class ApiError(ServerError):
    """An error that is answered to the client.

    Args:
        status: HTTP status.
        message: The message for the reader, with the value and the expected one.
        param: The field of the request that is wrong, if it is a field.
        code: A machine-readable code.
        headers: Further headers, with lower-case names.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        headers: dict[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.param = param
        self.code = code
        self.headers = headers or {}

    def body(self) -> bytes:
        """Returns the body: ``{"error": {"message", "type", "param", "code"}}``."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()


def overloaded(seconds: int) -> ApiError:
    """Returns the error of a full queue, with the number of seconds to wait."""
    return ApiError(
        429,
        f"the server is busy: its queue is full; try again in {seconds} s",
        code="queue_full",
        headers={"retry-after": str(seconds)},
    )


def stopping() -> ApiError:
    """Returns the error of a server that takes no more requests."""
    return ApiError(
        503,
        "the server is stopping and takes no more requests",
        code="stopping",
        headers={"retry-after": "1", "connection": "close"},
    )


def timed_out(seconds: float) -> ApiError:
    """Returns the error of a request that took longer than the timeout in seconds."""
    return ApiError(504, f"the request took longer than {seconds:g} s, the server's timeout", code="timeout")


def internal(request_id: str) -> ApiError:
    """Returns the error of an unexpected exception, whose details are only logged."""
    return ApiError(
        500,
        f"internal error; the details of request {request_id} are in the server's log",
        code="internal_error",
    )


def shown(value: Any) -> str:
    """Formats a value of a request for an error message, cut to 80 characters."""
    text = repr(value) if isinstance(value, str) else f"{type(value).__name__} ({value!r})"
    return text if len(text) <= 80 else f"{text[:79]}…"
