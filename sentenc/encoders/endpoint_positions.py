"""Positions of texts in the errors of an endpoint."""

from collections.abc import Iterator
from contextlib import contextmanager

from sentenc.errors import EndpointError


@contextmanager
def positions_from(start: int) -> Iterator[None]:
    """Makes the position of a text in an ``EndpointError`` of the block one among all texts.

    Every encoder encodes its texts in parts, and an endpoint knows only the texts of one part. It may be inside of
    another encoder, such as a pair.

    Args:
        start: The number of texts before those of the part.
    """
    try:
        yield
    except EndpointError as error:
        error.shift(start)
        raise
