"""Errors as a client sees them: a status, and a body in OpenAI's shape."""

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
    """An answer other than the one that was asked for.

    Args:
        status: HTTP status.
        message: What was got and what was expected.
        param: The field of the request that is wrong, if one is.
        code: A word for programs, if there is one.
        headers: Further headers, lower-case names.
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
        """``{"error": {"message", "type", "param", "code"}}``."""
        kind = _TYPES.get(self.status, "invalid_request_error")
        error = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return json.dumps({"error": error}).encode()


def overloaded(seconds: int) -> ApiError:
    """The queue is full; try again in so many seconds."""
    return ApiError(
        429, f"the server is busy: its queue is full; try again in {seconds} s", code="queue_full",
        headers={"retry-after": str(seconds)},
    )  # fmt: skip


def stopping() -> ApiError:
    """The server takes no more requests."""
    return ApiError(
        503, "the server is stopping and takes no more requests", code="stopping",
        headers={"retry-after": "1", "connection": "close"},
    )  # fmt: skip


def timed_out(seconds: float) -> ApiError:
    """The request has taken longer than is allowed."""
    return ApiError(504, f"the request took longer than {seconds:g} s, the server's timeout", code="timeout")


def internal(request_id: str) -> ApiError:
    """Something failed here; what, is in the log."""
    return ApiError(
        500, f"the server failed at this; its log says more (request {request_id})", code="internal_error"
    )


def shown(value: Any) -> str:
    """A value of a request for an error message, no longer than a line."""
    text = repr(value) if isinstance(value, str) else f"{type(value).__name__} ({value!r})"
    return text if len(text) <= 80 else f"{text[:79]}…"
