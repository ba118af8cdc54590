"""Checks of the arguments that the native library cannot check: types, shapes and memory layouts of arrays."""

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

_INT64 = np.dtype(np.int64)
# The type is Any because numpy's arrays are buffers for mypy only from Python 3.12 on.
_first_byte: Any = ctypes.c_char.from_buffer


def checked_bytes(name: str, value: bytes) -> bytes:
    """Returns the value.

    Raises:
        TypeError: It is no ``bytes`` object. A subclass is refused too, because it may state another length.
    """
    if type(value) is not bytes:
        raise TypeError(f"{name} is {type(value).__name__}, expected bytes")
    return value


def checked_offsets(offsets: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """Returns offsets, (n + 1,), contiguous. The native library checks their values.

    Raises:
        ValueError: They are no integers, or have another shape.
    """
    array = np.asarray(offsets)
    # The first test decides nearly all calls and is quick.
    is_integer = array.dtype == _INT64 or np.can_cast(array.dtype, np.int64)
    if array.ndim != 1 or len(array) == 0 or not is_integer:
        raise ValueError(
            f"offsets are {array.dtype} with shape {array.shape}, expected int64 with shape (n + 1,)"
        )
    return readable(array, _INT64)


def readable(array: npt.NDArray[Any], dtype: Any) -> npt.NDArray[Any]:
    """Returns the array itself, or a copy if it is not contiguous or not aligned, or has another type."""
    if array.dtype == dtype and array.flags.c_contiguous and array.flags.aligned:
        return array
    return np.require(array, dtype, ("C", "A"))


def check_shape(name: str, array: npt.NDArray[Any], shape: tuple[int, ...]) -> None:
    """Raises ValueError if an array has another shape."""
    if array.shape != shape:
        raise ValueError(f"{name} has shape {array.shape}, expected {shape}")


def address_of_output(name: str, array: npt.NDArray[Any], dtype: Any, shape: tuple[int, ...]) -> int:
    """Returns the address of an array into which the native library may write.

    Raises:
        ValueError: The array has another type or shape, or is not contiguous, not aligned or read-only.
    """
    flags = array.flags
    # This test decides nearly all calls and is quick: carray means contiguous, aligned and writeable.
    if flags.carray and array.dtype is dtype and array.shape == shape and array.size:
        return ctypes.addressof(_first_byte(array))
    check_shape(name, array, shape)
    if array.dtype != dtype or not (flags.c_contiguous and flags.aligned):
        raise ValueError(f"{name} is {_layout(array)}, expected {np.dtype(dtype)} and contiguous")
    if not flags.writeable:
        raise ValueError(f"{name} is read-only, expected an array that can be written")
    return address_of(array)


def address_of(array: npt.NDArray[Any]) -> int:
    """Returns the address of a contiguous array."""
    # `array.ctypes.data` takes a microsecond, which counts for one short text.
    if array.flags.writeable and array.size:
        return ctypes.addressof(_first_byte(array))
    return array.ctypes.data


def _layout(array: npt.NDArray[Any]) -> str:
    flags = array.flags
    return f"{array.dtype}, {'' if flags.c_contiguous else 'not '}contiguous, {'' if flags.aligned else 'not '}aligned"
