"""Server configuration."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field

# As browsers send it: scheme, host and port in lower case, and nothing after them.
_ORIGIN = re.compile(r"[a-z][a-z0-9+.-]*://[^/?#@\sA-Z]+")


@dataclass(frozen=True, kw_only=True)
class ServerConfig:
    """Address, key and limits of a server.

    Attributes:
        host: Address to listen on; the default can be reached from this machine only.
        port: Port to listen on; 0 takes a free one.
        api_key: The key that clients must send as ``Authorization: Bearer KEY``; None admits all clients. White
            space at its ends, such as the last line break of a file, is no part of it.
        cors_origins: Origins whose pages may read the answers in a browser, such as ``http://localhost:3000``;
            ``*`` admits the pages of all origins. By default only the server's own page may.
        max_batch_tokens: Tokens that are encoded together, estimated at four bytes each.
        max_inputs: Maximum number of texts in a request.
        max_queue: Maximum number of requests that wait for an encoder (or an index); further ones get 429.
        max_body_bytes: Maximum number of bytes in a request's body.
        timeout: Seconds that a request may take, including reading its body.
        grace: Seconds in which requests in flight must finish when the server is stopped.
        truncate: Cut texts that are longer than the encoder's ``max_tokens``, rather than refuse them.
        log_json: Log one JSON object per line.

    Raises:
        TypeError: The key or the host is no str, or a number of seconds is no number.
        ValueError: A value is out of range.
    """

    host: str = "127.0.0.1"
    port: int = 8000
    api_key: str | None = field(default=None, repr=False)
    cors_origins: Sequence[str] = ()
    max_batch_tokens: int = 16_384
    max_inputs: int = 2048
    max_queue: int = 512
    max_body_bytes: int = 4 * 1024 * 1024
    timeout: float = 30.0
    grace: float = 30.0
    truncate: bool = False
    log_json: bool = False

    def __post_init__(self) -> None:
        for name in ("max_batch_tokens", "max_inputs", "max_queue", "max_body_bytes"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is {value!r}, expected an integer of 1 or more")
        if not isinstance(self.port, int) or isinstance(self.port, bool) or not 0 <= self.port <= 65_535:
            raise ValueError(f"port is {self.port!r}, expected an integer from 0 to 65535")
        for name in ("timeout", "grace"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool):
                raise TypeError(f"{name} is {value!r}, expected a number of seconds")
        if not self.timeout > 0:
            raise ValueError(f"timeout is {self.timeout!r}, expected seconds above 0")
        if not self.grace >= 0:
            raise ValueError(f"grace is {self.grace!r}, expected seconds, 0 or more")
        self._check_key()
        if isinstance(self.cors_origins, str):
            raise ValueError(f"cors_origins is {self.cors_origins!r}, expected a list of origins")
        for origin in self.cors_origins:
            if origin != "*" and not (isinstance(origin, str) and _ORIGIN.fullmatch(origin)):
                raise ValueError(
                    f"cors_origins contains {origin!r}, expected '*' or SCHEME://HOST[:PORT] in lower case, "
                    "such as http://localhost:3000, without a path"
                )
        if not isinstance(self.host, str):
            raise TypeError(f"host is {self.host!r}, expected a str")
        if not self.host:
            raise ValueError("host is empty, expected an address such as 127.0.0.1")

    def _check_key(self) -> None:
        if self.api_key is None:
            return
        # The value of a key must not be in a message.
        if not isinstance(self.api_key, str):
            raise TypeError(f"api_key is {type(self.api_key).__name__}, expected a str or None")
        if not self.api_key.strip():
            raise ValueError("api_key is empty, expected a key, or None for a server without one")
        object.__setattr__(self, "api_key", self.api_key.strip())
