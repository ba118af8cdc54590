"""Serves the page's files from memory."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from sentenc.serving.api_errors import ApiError
from sentenc.serving.endpoint import send_error

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

FOLDER = Path(__file__).parents[1] / "page"

_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".json": "application/json",
    ".png": "image/png",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
    ".webmanifest": "application/manifest+json",
    ".woff2": "font/woff2",
}
_HEADERS = [
    (
        b"content-security-policy",
        b"default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'",
    ),
    (b"referrer-policy", b"no-referrer"),
    # Browsers revalidate every time, and get 304 while the file is unchanged.
    (b"cache-control", b"no-cache"),
]


class _File(NamedTuple):
    body: bytes
    content_type: bytes
    etag: bytes


class PageFiles:
    """An ASGI application that serves ``index.html`` at ``/`` and every file by its name under ``/page/``.

    The files are read when the server starts. No path of a request ever reaches the file system.
    """

    def __init__(self, folder: Path = FOLDER) -> None:
        self._files: dict[str, _File] = {}
        for path in sorted(folder.rglob("*")) if folder.is_dir() else []:
            if path.is_file() and path.suffix in _TYPES:
                body = path.read_bytes()
                etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'.encode()
                name = f"/page/{path.relative_to(folder).as_posix()}"
                self._files[name] = _File(body, _TYPES[path.suffix].encode(), etag)
        if "/page/index.html" in self._files:
            self._files["/"] = self._files["/page/index.html"]

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        """Answers GET and HEAD."""
        if scope["method"] not in ("GET", "HEAD"):
            allow = {"allow": "GET, HEAD"}
            await send_error(
                send,
                ApiError(405, f"{scope['method']} is not allowed here, expected GET or HEAD", headers=allow),
            )
            return
        file = self._files.get(scope["path"].removeprefix(scope.get("root_path", "")))
        if file is None:
            await send_error(send, ApiError(404, f"there is no file {scope['path']}", code="not_found"))
            return
        known = any(name == b"if-none-match" and file.etag in value for name, value in scope["headers"])
        headers = [(b"etag", file.etag), *_HEADERS]
        if not known:
            headers += [
                (b"content-type", file.content_type),
                (b"content-length", b"%d" % len(file.body)),
            ]
        await send({"type": "http.response.start", "status": 304 if known else 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if known else file.body})
