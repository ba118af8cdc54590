"""Reads the texts of Arrow arrays from their buffers, without a Python string for each of them."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt

# Texts that are Python strings at one time where an array is iterated over.
_TEXTS_PER_BLOCK = 8192

Utf8 = tuple[bytes, npt.NDArray[np.int64]]


class ArrowTexts:
    """A sequence of n texts in an Arrow array. A slice of it copies nothing. A null is an empty text.

    Args:
        array: A ``pa.Array`` or ``pa.ChunkedArray`` of strings: string, large string, string view, a dictionary of
            one of them, or the type null.
        name: The name of the array, for messages.

    Raises:
        TypeError: The array has another type.
    """

    def __init__(self, array: Any, name: str = "texts") -> None:
        import pyarrow as pa

        if not is_text_type(array.type):
            raise TypeError(f"{name} is an Arrow array of {array.type}, expected one of strings")
        chunked = array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])
        self._set(_without_dictionary_of_views(chunked))

    def _set(self, array: Any) -> None:
        self._array = array
        self._utf8: Utf8 | None = None

    def __len__(self) -> int:
        return len(self._array)

    def __getitem__(self, part: slice) -> "ArrowTexts":
        start, stop, _ = part.indices(len(self))
        sliced = ArrowTexts.__new__(ArrowTexts)
        sliced._set(self._array.slice(start, max(stop - start, 0)))
        return sliced

    def __iter__(self) -> Iterator[str]:
        for start in range(0, len(self), _TEXTS_PER_BLOCK):
            yield from self[start : start + _TEXTS_PER_BLOCK].to_list()

    def or_none(self) -> Iterator[str | None]:
        """Yields the texts, and None for a null."""
        for start in range(0, len(self), _TEXTS_PER_BLOCK):
            yield from self._array.slice(start, _TEXTS_PER_BLOCK).to_pylist()

    def to_list(self) -> list[str]:
        """Returns the texts as Python strings."""
        texts = self._array.to_pylist()
        return texts if None not in texts else ["" if text is None else text for text in texts]

    def is_valid(self) -> npt.NDArray[np.bool_]:
        """Returns whether each text is not null: shape (n,)."""
        parts = [_is_valid(chunk) for chunk in self._array.chunks]
        return np.concatenate([np.zeros(0, np.bool_), *parts])

    def utf8(self) -> Utf8:
        """Returns the UTF-8 bytes of all texts, and where each text begins and ends in them, (n + 1,).

        Raises:
            ValueError: A text is not UTF-8.
        """
        if self._utf8 is None:
            parts = [_utf8(chunk) for chunk in self._array.chunks]
            self._utf8 = parts[0] if len(parts) == 1 else _joined(parts)
        return self._utf8

    def distinct(self) -> "tuple[ArrowTexts, npt.NDArray[np.int64]] | None":
        """Returns m distinct texts, and the number of the text of each row, (n,), from 0 to m - 1.

        Returns None if the array is no dictionary, or if it has as many distinct texts as rows. A null is an empty
        text here, too.
        """
        import pyarrow as pa

        if not pa.types.is_dictionary(self._array.type) or len(self) == 0:
            return None
        unified = self._array.unify_dictionaries()
        values = unified.chunk(0).dictionary
        empty = len(values)
        rows = np.concatenate([_indices(chunk, empty) for chunk in unified.chunks])
        is_used = np.zeros(empty + 1, np.bool_)
        is_used[rows] = True
        used = np.flatnonzero(is_used)
        if len(used) == len(rows):
            return None
        # A null at the end is the text of rows that are null.
        values = pa.concat_arrays([values, pa.nulls(1, values.type)])
        return ArrowTexts(values.take(pa.array(used))), np.cumsum(is_used)[rows] - 1


def is_arrow(value: Any) -> bool:
    """Returns whether a value is an Arrow array, chunked or not. It does not import pyarrow."""
    if type(value).__module__.partition(".")[0] != "pyarrow":
        return False
    import pyarrow as pa

    return isinstance(value, pa.Array | pa.ChunkedArray)


def is_text_type(kind: Any) -> bool:
    """Returns whether an Arrow type is one of strings, or null."""
    from pyarrow import types

    if types.is_dictionary(kind):
        kind = kind.value_type
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_null(kind)
    return bool(is_text or _is_view(types, kind))


def _is_view(types: Any, kind: Any) -> bool:
    # Views exist in pyarrow since version 16.
    return bool(getattr(types, "is_string_view", lambda _: False)(kind))


def _without_dictionary_of_views(array: Any) -> Any:
    # No function of Arrow takes values from an array of views.
    import pyarrow as pa

    if not pa.types.is_dictionary(array.type) or not _is_view(pa.types, array.type.value_type):
        return array
    chunks = [
        pa.DictionaryArray.from_arrays(chunk.indices, _as_large(chunk.dictionary)) for chunk in array.chunks
    ]
    return pa.chunked_array(chunks, pa.dictionary(array.type.index_type, pa.large_string()))


def _as_large(array: Any) -> Any:
    import pyarrow as pa

    try:
        return array.cast(pa.large_string())
    except pa.ArrowNotImplementedError:  # views in pyarrow 16 and 17
        return pa.array(array.to_pylist(), pa.large_string())


def _is_valid(array: Any) -> npt.NDArray[np.bool_]:
    # The value of a dictionary may be null, too.
    if hasattr(array, "dictionary") and array.dictionary.null_count:
        array = array.dictionary_decode()
    return _valid_bits(array)


def _valid_bits(array: Any) -> npt.NDArray[np.bool_]:
    # ``array.is_valid().to_numpy()`` would import pandas, which takes longer than thousands of texts.
    if array.null_count in (0, len(array)):
        return np.full(len(array), not array.null_count)
    begin, end = array.offset // 8, (array.offset + len(array) + 7) // 8
    octets = np.frombuffer(array.buffers()[0], np.uint8, end - begin, begin)
    bits = np.unpackbits(octets, bitorder="little")[array.offset % 8 :][: len(array)]
    return bits.view(np.bool_)


def _indices(array: Any, null: int) -> npt.NDArray[np.int64]:
    indices: npt.NDArray[np.int64] = (
        array.indices.fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64)
    )
    if array.indices.null_count:
        indices[array.indices.is_null().to_numpy(zero_copy_only=False)] = null
    return indices


def _utf8(array: Any) -> Utf8:
    # Returns the bytes of one array. It is one block, so a copy of it takes little memory.
    import pyarrow as pa

    if pa.types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if _is_view(pa.types, array.type) or pa.types.is_null(array.type):
        array = _as_large(array)
    offsets = _offsets(array, pa.types.is_large_string(array.type))
    # The bytes of a null may be anything.
    if array.null_count and np.diff(offsets)[~_valid_bits(array)].any():
        array = array.fill_null("")
        offsets = _offsets(array, pa.types.is_large_string(array.type))
    begin, end = int(offsets[0]), int(offsets[-1])
    data: bytes = array.buffers()[2][begin:end].to_pybytes() if end > begin else b""
    if not data.isascii():
        array.validate(full=True)
    return data, offsets - begin


def _offsets(array: Any, is_large: bool) -> npt.NDArray[np.int64]:
    dtype = np.dtype(np.int64 if is_large else np.int32)
    if len(array) == 0:
        return np.zeros(1, np.int64)
    begin = array.offset * dtype.itemsize
    return np.frombuffer(array.buffers()[1], dtype, len(array) + 1, begin).astype(np.int64)


def _joined(parts: list[Utf8]) -> Utf8:
    starts = np.cumsum([0, *(len(data) for data, _ in parts)])
    offsets = [offsets[1:] + start for (_, offsets), start in zip(parts, starts[:-1].tolist(), strict=True)]
    return b"".join(data for data, _ in parts), np.concatenate([np.zeros(1, np.int64), *offsets])
