"""Positions of texts in the errors of an endpoint."""

from collections.abc import Iterator
from contextlib import contextmanager

from sentenc.errors import EndpointError


@contextmanager
def positions_from(start: int) -> Iterator[None]:
    """Adds ``start`` to the position in an ``EndpointError``, so that it counts from the first of all texts.

    Every encoder encodes its texts in parts, and an endpoint knows only the texts of one part. The encoder of the
    endpoint may be inside another one, such as a pair.

    Args:
        start: The number of texts before those of the part.
    """
    try:
        yield
    except EndpointError as error:
        error.shift(start)
        raise
