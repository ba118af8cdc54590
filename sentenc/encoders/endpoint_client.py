"""A client of ``POST /v1/embeddings`` in the format of OpenAI, with the standard library alone."""

import base64
import email.utils
import http.client
import json
import os
import random
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit, urlunsplit

import numpy as np
import numpy.typing as npt

from sentenc.errors import EndpointError
from sentenc.forking import lock_before_fork

EncodingFormat = Literal["base64", "float"]

# Answers after which the same request may succeed later.
_TEMPORARY = (408, 409, 425, 429, 500, 502, 503, 504, 529)
# Answers that may mean that one of the texts is too long, or that there are too many.
_TOO_MUCH = (400, 413, 422)
# Seconds: the first and the longest wait between two tries, and the longest that a server may ask for.
_FIRST_WAIT, _LONGEST_WAIT, _LONGEST_RETRY_AFTER = 0.5, 30.0, 120.0
_MOST_CHARACTERS = 300


class Usage(NamedTuple):
    """Counts of what an endpoint has answered.

    Attributes:
        requests: Number of answered requests.
        texts: Number of texts in them.
        tokens: Number of tokens in them, as the endpoint counted them; 0 if it does not count.
    """

    requests: int
    texts: int
    tokens: int


class EmbeddingsClient:
    """Sends texts to an endpoint and returns their vectors; threads may share it.

    Args:
        url: The address to which requests are sent, see :func:`embeddings_url`.
        model: Name of the model at the endpoint.
        api_key_env: Name of the environment variable with the key, which is read for every request.
        dimensions: Number of dimensions that the endpoint is asked for; None for those of the model.
        encoding_format: The format that the endpoint is asked for. It may answer with either.
        timeout: Seconds after which a silent endpoint is given up.
        max_retries: Number of times that a request is repeated after a temporary failure.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key_env: str,
        dimensions: int | None,
        encoding_format: EncodingFormat,
        timeout: float,
        max_retries: int,
    ) -> None:
        self.url, self.model, self.api_key_env = url, model, api_key_env
        self.dimensions, self.timeout, self.max_retries = dimensions, timeout, max_retries
        self.dim = dimensions
        self.encoding_format: EncodingFormat | None = encoding_format
        self.usage = Usage(0, 0, 0)
        self._lock = lock_before_fork()

    def embed(self, texts: list[str], fields: Mapping[str, str], stop: threading.Event) -> npt.NDArray[Any]:
        """Returns the vectors (n, dim) float32 of n texts, in one request if the endpoint accepts it.

        If the endpoint refuses the request, which may be too large, its halves are sent.

        Args:
            texts: n texts.
            fields: More fields of the request.
            stop: Ends the wait for another try.

        Raises:
            EndpointError: The endpoint has failed or refused; with the position of the text if it is known.
        """
        try:
            return self._embed_once(texts, fields, stop)
        except EndpointError as error:
            if error.status not in _TOO_MUCH:
                raise
            if len(texts) == 1:
                raise error.at(0, texts[0]) from None
        half = len(texts) // 2
        first = self.embed(texts[:half], fields, stop)
        try:
            return np.concatenate([first, self.embed(texts[half:], fields, stop)])
        except EndpointError as error:
            error.shift(half)
            raise

    def _embed_once(
        self, texts: list[str], fields: Mapping[str, str], stop: threading.Event
    ) -> npt.NDArray[Any]:
        request: dict[str, Any] = {"model": self.model, "input": texts, **fields}
        if self.dimensions is not None:
            request["dimensions"] = self.dimensions
        asked = self.encoding_format
        if asked is None:
            return self._read(self._post(request, stop), texts)
        try:
            return self._read(self._post(request | {"encoding_format": asked}, stop), texts)
        except EndpointError as error:
            # Some servers do not know the field, or only one of its values.
            if error.status not in _TOO_MUCH or "encoding_format" not in str(error):
                raise
        self.encoding_format = None
        return self._read(self._post(request, stop), texts)

    def _post(self, request: Mapping[str, Any], stop: threading.Event) -> bytes:
        body = json.dumps(request).encode()
        for attempt in count():
            try:
                return self._send(body)
            except _TryAgain as failure:
                wait = failure.retry_after
                if wait is None:
                    # A generator of its own, because the global one belongs to the user.
                    spread = random.Random().uniform(0.75, 1.25)
                    wait = spread * min(_FIRST_WAIT * 2.0**attempt, _LONGEST_WAIT)
                if wait > _LONGEST_RETRY_AFTER:
                    raise self._error(
                        f"{failure.reason}; it asks for a wait of {wait:.0f} s", failure.status
                    ) from None
                if attempt >= self.max_retries:
                    tries = f"{attempt + 1} {'try' if attempt == 0 else 'tries'}"
                    raise self._error(f"{failure.reason} (after {tries})", failure.status) from None
                if stop.wait(wait):
                    raise self._error(failure.reason, failure.status) from None
        raise AssertionError("the loop has no end")

    def _send(self, body: bytes) -> bytes:
        headers = {"Content-Type": "application/json", "Accept": "application/json"}
        if key := self._key():
            headers["Authorization"] = f"Bearer {key}"
        request = urllib.request.Request(self.url, body, headers, method="POST")
        try:
            with _OPENER.open(request, timeout=self.timeout) as response:
                answer: bytes = response.read()
                return answer
        except urllib.error.HTTPError as error:
            with error:
                raise self._http_error(error) from None
        except (OSError, http.client.HTTPException) as error:
            raise self._connection_error(error) from None

    def _key(self) -> str:
        key = os.environ.get(self.api_key_env, "").strip()
        if not key.isascii() or not key.isprintable():
            # The message of the standard library would contain the key.
            raise self._error(
                f"the environment variable {self.api_key_env} has characters that no key can have"
            )
        return key

    def _http_error(self, error: urllib.error.HTTPError) -> Exception:
        status = error.code
        try:
            body = error.read(1 << 16)
        except (OSError, http.client.HTTPException):
            body = b""
        message, code = _message(body)
        message = self._without_key(message)
        reason = f"HTTP {status}" + (f": {message}" if message else "")
        if status in _TEMPORARY and code != "insufficient_quota":
            return _TryAgain(reason, status, _retry_after(error.headers))
        if status in (301, 302, 303, 307, 308):
            reason = (
                f"HTTP {status}: redirects to {error.headers.get('Location')}: pass the URL of the endpoint"
            )
        elif status in (401, 403):
            reason += f"; {self._key_advice()}"
        elif status == 404:
            reason += f"; check the URL and the name of the model, {self.model!r}"
        return self._error(reason, status)

    def _connection_error(self, error: Exception) -> Exception:
        cause = error.reason if isinstance(error, urllib.error.URLError) else error
        reason = f"{type(cause).__name__}: {cause}" if isinstance(cause, Exception) else str(cause)
        # An endpoint that has never answered may have a wrong address: a user should not wait for the message.
        never = self.usage.requests == 0 and isinstance(cause, ConnectionRefusedError | socket.gaierror)
        if never or isinstance(cause, ssl.SSLCertVerificationError):
            return self._error(reason)
        return _TryAgain(reason, None, None)

    def _key_advice(self) -> str:
        if os.environ.get(self.api_key_env):
            return f"the key in the environment variable {self.api_key_env} was refused"
        return f"no key was sent: set the environment variable {self.api_key_env}"

    def _without_key(self, message: str) -> str:
        key = os.environ.get(self.api_key_env, "").strip()
        return message.replace(key, "***") if key else message

    def _error(self, reason: str, status: int | None = None) -> EndpointError:
        return EndpointError(self.url, reason, status)

    def _read(self, body: bytes, texts: list[str]) -> npt.NDArray[np.float32]:
        try:
            answer = json.loads(body)
        except (ValueError, RecursionError):
            start = self._without_key(body[:80].decode("utf-8", "replace"))
            raise self._error(f"the answer is not JSON, it begins with {start!r}") from None
        data = answer.get("data") if isinstance(answer, dict) else None
        if isinstance(answer, dict):
            self._count(len(texts), answer.get("usage"))
        if not isinstance(data, list) or not all(isinstance(item, dict) for item in data):
            raise self._error('the answer has no list "data" of objects')
        if len(data) != len(texts):
            raise self._error(f"got {len(data)} vectors for {len(texts)} texts, expected one each")
        places = [item.get("index", place) for place, item in enumerate(data)]
        if set(map(str, places)) != set(map(str, range(len(texts)))):
            raise self._error(f'the values of "index" are not the numbers from 0 to {len(texts) - 1}')
        rows: list[npt.NDArray[np.float32] | None] = [None] * len(texts)
        for place, item in zip(map(int, places), data, strict=True):
            rows[place] = self._vector(item.get("embedding"), place, texts)
        return np.stack([row for row in rows if row is not None])

    def _vector(self, embedding: Any, place: int, texts: list[str]) -> npt.NDArray[np.float32]:
        try:
            if isinstance(embedding, str):
                vector = np.frombuffer(base64.b64decode(embedding, validate=True), "<f4").astype(np.float32)
            else:
                vector = np.array(embedding, np.float32)
        except (ValueError, TypeError, OverflowError):
            vector = np.zeros((0, 0), np.float32)
        if vector.ndim != 1 or not len(vector):
            reason = "the embedding is neither a list of numbers nor base64 of float32"
            raise self._error(reason).at(place, texts[place])
        with self._lock:
            self.dim = self.dim or len(vector)
        if len(vector) != self.dim:
            reason = f"the vector has {len(vector)} dimensions, expected {self.dim}"
            raise self._error(reason).at(place, texts[place])
        if not np.isfinite(vector).all():
            raise self._error("the vector has NaN or infinity").at(place, texts[place])
        return vector

    def _count(self, n_texts: int, usage: Any) -> None:
        values = usage if isinstance(usage, dict) else {}
        tokens = values.get("prompt_tokens", values.get("total_tokens"))
        tokens = tokens if isinstance(tokens, int) else 0
        with self._lock:
            requests, texts, before = self.usage
            self.usage = Usage(requests + 1, texts + n_texts, before + tokens)

    def __getstate__(self) -> dict[str, Any]:
        """Returns all attributes but the lock, which cannot be pickled."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores the attributes and creates a new lock."""
        self.__dict__.update(state)
        self._lock = lock_before_fork()


def embeddings_url(url: str) -> str:
    """Returns the address of the embeddings below a base URL such as ``https://api.openai.com/v1``.

    An address that ends in ``/embeddings`` is returned unchanged, and a query string is kept.

    Raises:
        ValueError: The URL is not one of http or https, or contains a password.
    """
    parts = urlsplit(url) if isinstance(url, str) else urlsplit("")
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"url is {url!r}, expected one such as 'https://api.openai.com/v1'")
    if "@" in parts.netloc:
        # Messages contain the URL, so it must not contain a secret.
        raise ValueError("url contains a user or password, expected the key in an environment variable")
    path = parts.path.rstrip("/")
    if not path.endswith("/embeddings"):
        path += "/embeddings"
    return urlunsplit(parts._replace(path=path, fragment=""))


class _TryAgain(Exception):
    # A failure after which the same request may succeed.

    def __init__(self, reason: str, status: int | None, retry_after: float | None) -> None:
        super().__init__(reason)
        self.reason, self.status, self.retry_after = reason, status, retry_after


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    # The standard handler would send the key to another host.

    def redirect_request(self, *_args: Any) -> None:
        return None


_OPENER = urllib.request.build_opener(_NoRedirect)


def _retry_after(headers: Any) -> float | None:
    # Seconds until the next try, which servers state in one of three forms.
    if (milliseconds := headers.get("retry-after-ms")) is not None:
        with suppress(ValueError):
            return max(0.0, float(milliseconds) / 1000)
    value = headers.get("Retry-After")
    try:
        return None if value is None else max(0.0, float(value))
    except ValueError:
        try:
            moment = email.utils.parsedate_to_datetime(value)
            return max(0.0, moment.timestamp() - time.time())
        except ValueError:
            return None


def _message(body: bytes) -> tuple[str, str | None]:
    # The message and the code of an error, from the forms that servers use.
    text = body.decode("utf-8", "replace").strip()
    code = None
    try:
        answer = json.loads(text)
    except (ValueError, RecursionError):
        answer = None
    if isinstance(answer, dict):
        error = answer.get("error", answer)
        if isinstance(error, dict):
            code = error.get("code")
            error = error.get("message", error.get("detail"))
        if error:
            text = error if isinstance(error, str) else json.dumps(error)
    text = " ".join(text.split())
    return text if len(text) <= _MOST_CHARACTERS else text[: _MOST_CHARACTERS - 3] + "...", code
