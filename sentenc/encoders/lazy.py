"""An encoder that is loaded when it is first used."""

import threading
from collections.abc import Callable
from typing import Any, Protocol

from sentenc.encoders.base import Encoder
from sentenc.forking import after_fork


class EncoderSource(Protocol):
    """Anything with an encoder, which may be loaded by the access."""

    @property
    def encoder(self) -> Encoder:
        """The encoder."""


class LazyEncoder:
    """An encoder that is loaded when it is first used, once for all threads.

    Args:
        load: Loads the encoder. It can be pickled.
    """

    def __init__(self, load: Callable[[], Encoder]) -> None:
        self._load = load
        self._encoder: Encoder | None = None
        self._replace_lock()
        after_fork(self, LazyEncoder._replace_lock)

    @property
    def encoder(self) -> Encoder:
        """The encoder. If several threads use it first, one loads it and the others wait."""
        if self._encoder is None:
            with self._lock:
                if self._encoder is None:
                    self._encoder = self._load()
        return self._encoder

    @property
    def is_loaded(self) -> bool:
        """Whether the encoder has been used, or was loaded from the start."""
        return isinstance(self._load, Loaded) or self._encoder is not None

    def _replace_lock(self) -> None:
        # A load takes long and uses other locks, so a fork does not wait for it: the child loads again.
        self._lock = threading.RLock()

    def __getstate__(self) -> dict[str, Any]:
        """Returns the attributes without the lock."""
        return {name: value for name, value in vars(self).items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores the attributes, with a new lock."""
        vars(self).update(state)
        self._replace_lock()
        after_fork(self, LazyEncoder._replace_lock)


class Loaded:
    """Returns an encoder that is loaded already; a lambda could not be pickled."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def __call__(self) -> Encoder:
        """Returns the encoder."""
        return self._encoder
