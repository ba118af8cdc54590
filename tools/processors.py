"""Compares the results of the native library on emulated processors with those of this machine.

``make test-processors`` compiles the fuzz targets for each processor, runs them with the user emulation of
QEMU on the same random inputs, and compares what they print. The processors are aarch64 with NEON, s390x
(big-endian, and without explicit vectors), and x86-64 without AVX2, with AVX2, and with AVX2 but without
LZCNT. valgrind emulates x86-64 with AVX2 and stops at a read of memory that was never written. Processors for
which an emulator or the package ziglang is missing are skipped.
"""

import argparse
import importlib.util
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from fuzz import TARGETS, compile_targets, native

# The target of zig (None for this machine's compiler), the command of the emulator, and the instruction set that must run
# there (see sentenc.h).
PROCESSORS: dict[str, tuple[str | None, tuple[str, ...], int]] = {
    "x86-64 without AVX2": (None, ("qemu-x86_64", "-cpu", "Nehalem"), 0),
    "x86-64 with AVX2": (None, ("qemu-x86_64", "-cpu", "Haswell"), 1),
    "x86-64 with AVX2 but without LZCNT": (None, ("qemu-x86_64", "-cpu", "Haswell,-abm"), 0),
    "x86-64 in valgrind": (None, ("valgrind", "--quiet", "--error-exitcode=9"), 1),
    "aarch64": ("aarch64-linux-musl", ("qemu-aarch64",), 3),
    "s390x": ("s390x-linux-musl", ("qemu-s390x", "-cpu", "max"), 0),
}
# Rounding errors, relative to the terms of a number.
_TOLERANCE = 2e-6


def main() -> None:
    """Compares all processors, or those whose names contain a word of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("names", nargs="*", help=f"parts of {', '.join(PROCESSORS)}")
    parser.add_argument("--inputs", type=int, default=300, help="for each target")
    parser.add_argument("--require", action="store_true", help="end with an error if a processor is skipped")
    options = parser.parse_args()
    names = [n for n in PROCESSORS if not options.names or any(word in n for word in options.names)]
    with tempfile.TemporaryDirectory() as folder:
        here = compiled(Path(folder), None)
        expected = {name: report((str(here[name]), "-simd", "0"), options.inputs)[0] for name in TARGETS}
        skipped = [name for name in names if not compare(name, expected, options.inputs, Path(folder))]
    if options.require and skipped:
        raise SystemExit(f"skipped: {', '.join(skipped)}")


def compare(processor: str, expected: dict[str, str], inputs: int, folder: Path) -> bool:
    """Compares one processor; returns whether it could be emulated. A difference ends the program."""
    target, emulator, level = PROCESSORS[processor]
    if shutil.which(emulator[0]) is None or (target and importlib.util.find_spec("ziglang") is None):
        print(f"{processor}: skipped, {emulator[0]}{' or the package ziglang' if target else ''} is missing")
        return False
    programs = compiled(folder, target)
    for name in TARGETS:
        text, summary = report((*emulator, str(programs[name])), inputs)
        if f"instruction set {level}" not in summary:
            raise SystemExit(f"{processor}, {name}: got {summary!r}, expected instruction set {level}")
        largest = largest_difference(f"{processor}, {name}", expected[name], text)
        print(f"{processor}, {name}: equal, floats within {largest:.1e} of their terms", flush=True)
    return True


def compiled(folder: Path, target: str | None) -> dict[str, Path]:
    """Compiles the targets once for each processor family."""
    place = folder / (target or "here")
    if place.exists():
        return {name: place / name for name in TARGETS}
    place.mkdir()
    compiler = [sys.executable, "-m", "ziglang", "cc"] if target else native.find_compiler()
    if compiler is None:
        raise SystemExit("no C compiler was found")
    return compile_targets(place, compiler=compiler, target=target, link=["-static"] if target else [])


def report(command: Sequence[str], inputs: int) -> tuple[str, str]:
    """Returns what a target prints about its results and its summary."""
    result = subprocess.run([*command, "-report", str(inputs)], capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {result.returncode}:\n{result.stderr[-3000:]}")
    return result.stdout, result.stderr


def largest_difference(name: str, expected: str, got: str) -> float:
    """Returns the largest difference between two floats, relative to their terms, which are printed behind a ~.

    Everything else must be equal. Otherwise the program ends.
    """
    lines, others = expected.splitlines(), got.splitlines()
    if len(lines) != len(others) or not lines:
        raise SystemExit(f"{name}: got {len(others)} lines, expected {len(lines)}")
    worst = 0.0
    for number, (line, other) in enumerate(zip(lines, others, strict=True)):
        for word, other_word in zip(line.split(), other.split(), strict=True):
            value, is_float, terms = word.partition("~")
            if is_float:
                worst = max(worst, abs(float(value) - float(other_word.partition("~")[0])) / float(terms))
            if worst > _TOLERANCE or (word != other_word and not is_float):
                raise SystemExit(f"{name}, line {number}: got {other_word[:500]}, expected {word[:500]}")
    return worst


if __name__ == "__main__":
    main()
