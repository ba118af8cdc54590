"""Loads the native library, which is built from ``csrc``, and translates its status codes."""

import ctypes
import os
import sys
from pathlib import Path
from typing import Any

_ABI_VERSION = 3
_FILE = Path(__file__).with_name("_native.dll" if sys.platform == "win32" else "_native.so")
# The names of the instruction sets. Their positions are the numbers in sentenc.h.
SIMD_LEVELS = ("baseline", "avx2", "avx512", "neon")

_ERRORS: dict[int, tuple[type[Exception], str]] = {
    -1: (MemoryError, "the native library cannot allocate memory"),
    -2: (ValueError, "the native library was called with a missing array or a number out of range"),
    -3: (ValueError, "offsets fall, lie outside of the bytes, or a token is longer than 2**20 bytes"),
    -4: (ValueError, "an output array is too small"),
}
NO_ERROR, TOO_SMALL = 0, -4

_POINTER, _INT, _LONG = ctypes.c_void_p, ctypes.c_int32, ctypes.c_int64
_TEXTS = [_POINTER, _LONG, _POINTER, _LONG]
_SIGNATURES: dict[str, tuple[Any, list[Any]]] = {
    "sentenc_abi_version": (_INT, []),
    "sentenc_simd": (_INT, []),
    "sentenc_simd_is_available": (_INT, [_INT]),
    "sentenc_set_simd": (_INT, [_INT]),
    "sentenc_vocabulary_new": (
        _INT,
        [_POINTER, _LONG, _POINTER, _LONG, _POINTER, _POINTER, _POINTER, _LONG, _INT, _INT, _POINTER],
    ),
    "sentenc_vocabulary_free": (None, [_POINTER]),
    "sentenc_tokenize": (_INT, [_POINTER, *_TEXTS, _LONG, _POINTER, _LONG, _POINTER, _POINTER]),
    "sentenc_encode": (_INT, [_POINTER, _POINTER, *_TEXTS, _LONG, _POINTER, _LONG, _POINTER]),
    "sentenc_fold": (_INT, [_POINTER, *_TEXTS, _INT, _POINTER, _LONG, _POINTER, _POINTER]),
    "sentenc_dot_int8": (_INT, [_POINTER, _LONG, _LONG, _LONG, _POINTER, _POINTER]),
    "sentenc_multiply": (
        _INT,
        [_POINTER, _POINTER, _LONG, _LONG, _POINTER, _LONG, _POINTER, _POINTER],
    ),
    "sentenc_quantize": (_INT, [_POINTER, _LONG, _LONG, _POINTER, _POINTER, _LONG]),
    "sentenc_select": (_INT, [_POINTER, _LONG, _LONG, _LONG, _POINTER, _POINTER, _POINTER, _LONG, _POINTER]),
}


def check(status: int) -> None:
    """Raises the error of a status below zero."""
    if status < 0:
        error, message = _ERRORS.get(status, (RuntimeError, f"the native library returned {status}"))
        raise error(message)


def simd_level() -> str:
    """Returns the name of the instruction set that the kernels use."""
    return SIMD_LEVELS[library.sentenc_simd()]


def available_simd_levels() -> list[str]:
    """Returns the names of the instruction sets that this processor and this library have."""
    return [name for i, name in enumerate(SIMD_LEVELS) if library.sentenc_simd_is_available(i)]


def set_simd_level(name: str) -> None:
    """Chooses the instruction set of the whole process.

    Raises:
        ValueError: The processor or the library does not have this set.
    """
    available = available_simd_levels()
    if name not in available:
        raise ValueError(f"SIMD level is {name!r}, expected one of {', '.join(available)} on this machine")
    library.sentenc_set_simd(SIMD_LEVELS.index(name))


def _load() -> ctypes.CDLL:
    try:
        loaded = ctypes.CDLL(str(_FILE))
    except OSError as error:
        raise ImportError(
            f"sentenc's native library cannot be loaded ({error}); install sentenc from a wheel or with "
            "`pip install .`, or compile the library in a source folder with `make kernels`"
        ) from error
    version = loaded.sentenc_abi_version()
    if version != _ABI_VERSION:
        raise ImportError(
            f"{_FILE} has ABI version {version}, expected {_ABI_VERSION}: compile it again with `make kernels`"
        )
    for name, (result, arguments) in _SIGNATURES.items():
        function = getattr(loaded, name)
        function.restype, function.argtypes = result, arguments
    return loaded


library = _load()
if os.environ.get("SENTENC_SIMD"):
    set_simd_level(os.environ["SENTENC_SIMD"])
