"""Runs the fuzz targets of the native library, tests/kernels/fuzz, with AddressSanitizer and UBSan.

``make fuzz SECONDS=600`` runs each target for that time. libFuzzer chooses the inputs if the compiler is clang. Another
compiler builds a program that mutates inputs at random. An input at which a target stops is written to build/fuzz.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FUZZ = ROOT / "tests" / "kernels" / "fuzz"
CSRC = ROOT / "sentenc" / "kernels" / "csrc"
FOUND = ROOT / "build" / "fuzz"
sys.path.insert(0, str(CSRC))

import build as native  # noqa: E402

TARGETS = ("tokenize", "fold", "encode", "select", "dot", "tables")
_COMMON = ("vocabulary.c", "model.c", "allocation.c")
_SANITIZERS = "address,undefined"


def main() -> None:
    """Runs the targets that the command line names, by default all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=5, help="for each target")
    parser.add_argument(
        "--compiler", help="by default clang if it has libFuzzer, otherwise the system's compiler"
    )
    options = parser.parse_args()
    compiler = [options.compiler] if options.compiler else find_libfuzzer() or native.find_compiler()
    if compiler is None:
        raise SystemExit("no C compiler was found: install gcc or clang")
    with tempfile.TemporaryDirectory() as folder:
        targets = compile_targets(
            Path(folder), options.targets or TARGETS, compiler=compiler, sanitize=_SANITIZERS
        )
        for name, program in targets.items():
            print(f"{name}: {run(name, program, options.seconds)}", flush=True)


def find_libfuzzer() -> list[str] | None:
    """Returns the command of a clang that has libFuzzer."""
    for name in ("clang", *(f"clang-{version}" for version in range(21, 13, -1))):
        with tempfile.TemporaryDirectory() as folder:
            program = Path(folder, "probe")
            source = (
                "#include <stddef.h>\nint LLVMFuzzerTestOneInput(const char *d, size_t n) { return d && !n; }"
            )
            command = [name, "-x", "c", "-", f"-fsanitize=fuzzer,{_SANITIZERS}", "-o", str(program)]
            try:
                subprocess.run(command, input=source, text=True, capture_output=True, check=True)
            except (OSError, subprocess.CalledProcessError):
                continue
            return [name]
    return None


def compile_targets(
    folder: Path,
    names: Sequence[str] = TARGETS,
    *,
    compiler: Sequence[str],
    target: str | None = None,
    sanitize: str = "",
    link: Sequence[str] = (),
) -> dict[str, Path]:
    """Compiles the library and the targets into ``folder``; for the arguments see build.compile_library."""
    is_clang = bool(sanitize) and "clang" in compiler[0]
    objects_of = f"fuzzer-no-link,{sanitize}" if is_clang else sanitize
    objects = native.compile_objects(folder, compiler=compiler, target=target, sanitize=objects_of)
    checks = [f"-fsanitize={'fuzzer,' if is_clang else ''}{sanitize}", "-fno-sanitize-recover=all"]
    flags = native._target_flags(list(compiler), target) + (checks if sanitize else [])
    common = [*_COMMON] if is_clang else [*_COMMON, "driver.c"]
    programs = {}
    for name in names:
        programs[name] = folder / name
        sources = [str(FUZZ / file) for file in (f"{name}.c", *common)]
        subprocess.run(
            [
                *compiler, "-std=c11", "-Wall", "-Wextra", "-g", "-O1", *flags, f"-I{CSRC}", *sources,
                *map(str, objects), "-Wl,--wrap=malloc,--wrap=calloc", *link, "-lm", "-o", str(programs[name]),
            ],
            check=True,
        )  # fmt: skip
    return programs


def run(name: str, program: Path, seconds: int) -> str:
    """Runs a target and returns its number of executions; ends the program if the target stops at an input."""
    FOUND.mkdir(parents=True, exist_ok=True)
    corpus = program.with_suffix(".corpus")
    corpus.mkdir()
    seeds = sorted(str(path) for path in (FUZZ / "seeds").iterdir())
    is_libfuzzer = b"LLVMFuzzerRunDriver" in program.read_bytes()
    if is_libfuzzer:
        arguments = [
            f"-max_total_time={seconds}", "-max_len=4096", "-timeout=60", "-print_final_stats=1",
            f"-artifact_prefix={FOUND}/{name}-", str(corpus), str(FUZZ / "seeds"),
        ]  # fmt: skip
    else:
        arguments = ["-seconds", str(seconds), "-last", f"{FOUND}/{name}-last", *seeds]
    environment = os.environ | {"ASAN_OPTIONS": "allocator_may_return_null=1"}
    result = subprocess.run(
        [str(program), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
    )
    if result.returncode:
        raise SystemExit(f"{name} stopped with {result.returncode}:\n{result.stderr[-6000:]}\nsee {FOUND}")
    if not is_libfuzzer:
        (FOUND / f"{name}-last").unlink(missing_ok=True)
        return result.stderr.strip()
    runs = re.findall(r"stat::number_of_executed_units:\s*(\d+)", result.stderr)[-1]
    coverage = re.findall(r"cov: (\d+) ft: (\d+) corp: (\d+)", result.stderr)[-1]
    return f"{runs} executions, {coverage[0]} edges, {coverage[1]} features, {coverage[2]} inputs kept"


if __name__ == "__main__":
    main()
