"""A stand-in for an OpenAI-compatible embedding endpoint, on this machine only.

The vectors are those of an encoder, or sums of random vectors of words, so that a model can be fitted to them.
"""

import base64
import json
import re
import socket
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np

from tests.support.http_server import QuietHandler, running

KEY = "sk-of-the-tests"


class Refusal(Exception):
    """An answer other than 200."""

    def __init__(self, status: int, message: str = "", code: str | None = None, **headers: str) -> None:
        super().__init__(message)
        self.status, self.code = status, code
        self.headers = headers


def word_vectors(dim: int) -> Callable[[list[str]], np.ndarray]:
    """Returns a function from n texts to the unit sums (n, dim) of random vectors of their words."""

    @lru_cache(maxsize=4096)
    def vector(word: str) -> np.ndarray:
        return np.random.default_rng(zlib.crc32(word.encode())).standard_normal(dim, np.float32)

    def encode(texts: list[str]) -> np.ndarray:
        rows = np.zeros((len(texts), dim), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in re.findall(r"\w+", text.lower()):
                row += vector(word)
            row /= np.linalg.norm(row) or 1.0
        return rows

    return encode


class StandIn:
    """The state of a stand-in server, which tests read and change.

    Attributes:
        encode: Returns the vectors of texts.
        before: Called with each request's JSON before it is answered; it may raise :class:`Refusal`.
        change: Changes the answer, a JSON object, before it is sent; a str or bytes is sent as it is.
        base64: Whether the format that is asked for is kept; otherwise lists of numbers are sent.
        requests: The JSON of the answered requests.
        headers: The headers of every request.
    """

    def __init__(self, encode: Callable[[list[str]], np.ndarray]) -> None:
        self.encode = encode
        self.before: Callable[[dict], None] = lambda request: None
        self.change: Callable[[dict], object] = lambda answer: answer
        self.base64 = True
        self.key = KEY
        self.url = ""
        self.requests: list[dict] = []
        self.headers: list[dict[str, str]] = []
        self._lock = threading.Lock()

    @property
    def texts(self) -> list[str]:
        """The texts that were answered, repeated ones included."""
        return [text for request in self.requests for text in request["input"]]

    def answer(self, request: dict, headers: dict[str, str]) -> object:
        """Returns the answer to a request."""
        with self._lock:
            self.headers.append(headers)
            if headers.get("Authorization") != f"Bearer {self.key}":
                raise Refusal(401, f"Incorrect API key provided: {headers.get('Authorization', '')[7:]}")
            self.before(request)
            self.requests.append(request)
        vectors = np.asarray(self.encode(request["input"]), "<f4")[:, : request.get("dimensions")]
        as_base64 = self.base64 and request.get("encoding_format") == "base64"
        data = [
            {
                "object": "embedding",
                "index": place,
                "embedding": base64.b64encode(vector.tobytes()).decode() if as_base64 else vector.tolist(),
            }
            for place, vector in enumerate(vectors)
        ]
        tokens = sum(len(text.split()) for text in request["input"])
        usage = {"prompt_tokens": tokens, "total_tokens": tokens}
        return self.change({"object": "list", "data": data, "model": request["model"], "usage": usage})


@contextmanager
def stand_in_server(encode: Callable[[list[str]], np.ndarray]) -> Iterator[StandIn]:
    """Runs a stand-in server in a thread; its ``url`` ends in /v1."""
    stand_in = StandIn(encode)

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            body = self.body()
            try:
                if self.path.partition("?")[0] != "/v1/embeddings":
                    raise Refusal(404, f"no such path: {self.path}")
                answer, status, more = stand_in.answer(json.loads(body), dict(self.headers)), 200, {}
            except Refusal as refusal:
                error = {"error": {"message": str(refusal), "code": refusal.code}}
                answer, status, more = error, refusal.status, refusal.headers
            self.answer(status, answer if isinstance(answer, bytes) else json.dumps(answer).encode(), **more)

    with running(Handler) as url:
        stand_in.url = f"{url}/v1"
        yield stand_in


def loopback_only(connect: Callable[..., object]) -> Callable[..., object]:
    """Returns ``socket.socket.connect``, restricted to this machine."""

    def only_loopback(self, address):
        if self.family != socket.AF_UNIX and address[0] not in ("127.0.0.1", "::1"):
            raise AssertionError(f"a test tried to open a connection to {address}")
        return connect(self, address)

    return only_loopback
