"""Checks that several losses share."""

from collections.abc import Sequence

from torch import Tensor

from sentenc.validation import check_number


def check_temperature(value: object) -> float:
    """Returns the temperature of a softmax as a float.

    Raises:
        TypeError: The value is not a number.
        ValueError: The value is below 0.001, where rounding errors of float32 cosines dominate.
    """
    return check_number("temperature", value, at_least=1e-3)


def check_columns(loss: str, vectors: Sequence[Tensor], count: int, min_batch: int = 1) -> list[Tensor]:
    """Returns the columns if there are ``count`` of them, all of one shape (B, d).

    Args:
        loss: The name of the loss, for the message.
        vectors: A (B, d) tensor for each column.
        count: The expected number of columns.
        min_batch: The smallest B.

    Raises:
        ValueError: The number of columns, a shape or the batch size differs.
    """
    shapes = [tuple(column.shape) for column in vectors]
    if len(shapes) != count or len(set(shapes)) != 1 or len(shapes[0]) != 2:
        raise ValueError(f"the vectors of {loss} have shapes {shapes}, expected {count} equal shapes (B, d)")
    if shapes[0][0] < min_batch:
        raise ValueError(f"the batch size of {loss} is {shapes[0][0]}, expected at least {min_batch}")
    return list(vectors)
