"""An encoder that is loaded when it is first used."""

from collections.abc import Callable
from typing import Protocol

from sentenc.encoders.base import Encoder
from sentenc.forking import cached_value


class EncoderSource(Protocol):
    """Anything with an encoder, which may be loaded by the access."""

    @property
    def encoder(self) -> Encoder:
        """The encoder."""


class LazyEncoder:
    """An encoder that is loaded when it is first used.

    Args:
        load: Loads the encoder. It can be pickled.
    """

    def __init__(self, load: Callable[[], Encoder]) -> None:
        self._load = load

    @cached_value
    def encoder(self) -> Encoder:
        """The encoder."""
        return self._load()

    @property
    def is_loaded(self) -> bool:
        """Whether the encoder has been used, or was loaded from the start."""
        return isinstance(self._load, Loaded) or "encoder" in vars(self)


class Loaded:
    """Returns an encoder that is loaded already; a lambda could not be pickled."""

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder

    def __call__(self) -> Encoder:
        """Returns the encoder."""
        return self._encoder
