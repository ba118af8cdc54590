"""Instruction sets for the tests of the native library."""

from collections.abc import Iterator

from sentenc.kernels.library import available_simd_levels, set_simd_level, simd_level


def every_simd_level() -> Iterator[str]:
    """Switches to each instruction set of this processor, and then back to the one before."""
    before = simd_level()
    try:
        for level in available_simd_levels():
            set_simd_level(level)
            yield level
    finally:
        set_simd_level(before)
