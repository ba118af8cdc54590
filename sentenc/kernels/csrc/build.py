"""Compiles the native library with a C compiler. It needs the standard library alone.

``kernels.c`` is compiled once for each instruction set of the target's architecture, and every other C file once. The
build hook of the package, ``make kernels``, ``make wheels`` and the builds with sanitizers use this module::

    python sentenc/kernels/csrc/build.py [--target aarch64-linux-gnu.2.17] [--sanitize address,undefined] [-o FILE]

The compiler is ``$CC`` or the system's C compiler. Without one that works, and for another target than this machine,
it is ``zig cc`` of the package ziglang.
"""

import argparse
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

SOURCES = Path(__file__).resolve().parent

# zig renames options and targets between its minor versions.
ZIG_REQUIREMENT = "ziglang>=0.17,<0.18"

# The targets that have wheels, as zig names them, and the platform tags of their wheels. The number after gnu and
# macos is the oldest version of glibc or macOS that can load the library.
WHEEL_PLATFORMS = {
    "x86_64-linux-gnu.2.17": "manylinux_2_17_x86_64",
    "aarch64-linux-gnu.2.17": "manylinux_2_17_aarch64",
    "x86_64-linux-musl": "musllinux_1_2_x86_64",
    "aarch64-linux-musl": "musllinux_1_2_aarch64",
    "x86_64-macos.11.0": "macosx_11_0_x86_64",
    "aarch64-macos.11.0": "macosx_11_0_arm64",
    "x86_64-windows-gnu": "win_amd64",
}

# The flags of each instruction set. Every machine of the architecture runs the baseline, which has no flags. The
# others contain what dispatch.c asks the processor for before it chooses them, and no more.
_AVX2 = ("-mavx2", "-mfma", "-mbmi", "-mbmi2")
_AVX512 = ("-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512dq", "-mavx512vbmi", "-mavx512vnni")
INSTRUCTION_SETS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {"baseline": (), "avx2": _AVX2, "avx512": (*_AVX2, *_AVX512)},
}

# Without -ffp-contract=off, clang joins a product and a sum where GCC does not, and results differ in the last bits.
_FLAGS = ("-std=c11", "-ffp-contract=off", "-fPIC", "-fvisibility=hidden", "-Wall", "-Wextra")
_OPTIMIZED = ("-O3", "-DNDEBUG")
_CHECKED = ("-O1", "-g", "-fno-omit-frame-pointer", "-fno-sanitize-recover=all")
_MACHINES = {"amd64": "x86_64", "x64": "x86_64", "arm64": "aarch64"}
_PROBE = "#include <math.h>\n#include <stdint.h>\n#include <string.h>\nint probe(void) { return 1; }\n"


class CompileError(RuntimeError):
    """Raised if no compiler is found, or if the compiler reports an error."""


def native_target() -> str:
    """Returns the target of this machine and this Python, as zig names it."""
    machine = platform.machine().lower()
    machine = _MACHINES.get(machine, machine)
    system = platform.system().lower()
    if system == "darwin":
        return f"{machine}-macos.11.0"
    if system == "windows":
        return f"{machine}-windows-gnu"
    if "musl" in str(sysconfig.get_config_var("HOST_GNU_TYPE")):
        return f"{machine}-linux-musl"
    portable = f"{machine}-linux-gnu.2.17"
    return portable if portable in WHEEL_PLATFORMS else f"{machine}-linux-gnu"


def wheel_platform(target: str | None = None) -> str:
    """Returns the platform tag of a wheel for a target.

    A wheel for this machine on Linux has the tag that pip accepts on this machine alone, because the system's
    compiler may need a newer libc than the portable tags promise.
    """
    if target is not None:
        return WHEEL_PLATFORMS[checked_target(target)]
    if platform.system() in ("Darwin", "Windows") and native_target() in WHEEL_PLATFORMS:
        return WHEEL_PLATFORMS[native_target()]
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def checked_target(target: str) -> str:
    """Returns the target; raises CompileError if it has no wheel."""
    if target not in WHEEL_PLATFORMS:
        raise CompileError(f"got target {target!r}, expected one of {', '.join(WHEEL_PLATFORMS)}")
    return target


def library_name(target: str | None = None) -> str:
    """Returns the file name of the library for a target; ``.so`` also on macOS."""
    return "_native.dll" if "windows" in (target or native_target()) else "_native.so"


def instruction_sets(target: str | None = None) -> dict[str, tuple[str, ...]]:
    """Returns the instruction sets that the target's library contains, each with its compiler flags."""
    return INSTRUCTION_SETS.get((target or native_target()).split("-")[0], {"baseline": ()})


def find_compiler(target: str | None = None, *, installed_zig: bool = True) -> list[str] | None:
    """Returns the command of a C compiler for the target, or None if there is none.

    For this machine it is the first of ``$CC``, cc, gcc and clang that compiles and links a small library. Otherwise
    it is zig: the command of that name, or the package ziglang if ``installed_zig``.
    """
    if target is None:
        for command in _system_compilers():
            if _works(command):
                return command
    if zig := shutil.which("zig"):
        return [zig, "cc"]
    if installed_zig and importlib.util.find_spec("ziglang"):
        return [sys.executable, "-m", "ziglang", "cc"]
    return None


def compile_library(
    output: Path,
    *,
    compiler: Sequence[str] | None = None,
    target: str | None = None,
    sanitize: str = "",
    flags: Sequence[str] = (),
) -> Path:
    """Compiles the library and writes it atomically.

    Args:
        output: the file to write.
        compiler: the command of the compiler. By default, :func:`find_compiler` chooses.
        target: a key of ``WHEEL_PLATFORMS``. By default, the library is for this machine.
        sanitize: the argument of ``-fsanitize``, such as ``address,undefined``. The code is then not optimized.
        flags: more flags of the compiler.

    Returns:
        ``output``.

    Raises:
        CompileError: if no compiler is found, or if it reports an error.
    """
    command = _command(compiler, target)
    output = output.absolute()
    output.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        objects = compile_objects(folder, compiler=command, target=target, sanitize=sanitize, flags=flags)
        options = [*_link_flags(command, target, sanitize), *flags]
        library = folder / output.name
        inputs = [*map(str, objects), *_libraries(target)]
        _run([*command, "-shared", *options, "-o", str(library), *inputs])
        # The temporary folder may be on another file system, where os.replace cannot move a file from.
        copy = output.with_name(f".{output.name}.{os.getpid()}.tmp")
        try:
            shutil.copy(library, copy)
            os.replace(copy, output)
        finally:
            copy.unlink(missing_ok=True)
    return output


def compile_objects(
    folder: Path,
    *,
    compiler: Sequence[str] | None = None,
    target: str | None = None,
    sanitize: str = "",
    flags: Sequence[str] = (),
) -> list[Path]:
    """Compiles all C files into ``folder`` and returns the object files; for the arguments see compile_library."""
    command = _command(compiler, target)
    options = [*_target_flags(command, target), *_FLAGS, *_optimization(sanitize), *flags]

    def compile_one(job: tuple[Path, str, Sequence[str]]) -> Path:
        source, name, variant = job
        _run([*command, *options, *variant, "-c", str(source), "-o", str(folder / name)])
        return folder / name

    with ThreadPoolExecutor(os.cpu_count()) as pool:
        return list(pool.map(compile_one, _jobs(target)))


def _jobs(target: str | None) -> Iterator[tuple[Path, str, Sequence[str]]]:
    """Yields source, name of the object file and flags of every call of the compiler; the longest come first."""
    sources = sorted(SOURCES.glob("*.c"))
    if SOURCES / "kernels.c" not in sources:
        raise CompileError(f"{SOURCES} has no kernels.c: the sources of the library are incomplete")
    for name, variant in reversed(instruction_sets(target).items()):
        yield SOURCES / "kernels.c", f"kernels_{name}.o", (f"-DSENTENC_ISA={name}", *variant)
    for source in sources:
        if source.name != "kernels.c":
            yield source, f"{source.stem}.o", ()


def _command(compiler: Sequence[str] | None, target: str | None) -> list[str]:
    command = list(compiler) if compiler else find_compiler(target)
    if command is None:
        raise CompileError(
            "no C compiler was found: install one (gcc or clang), name it in the environment variable CC, "
            f'or run: pip install "{ZIG_REQUIREMENT}"'
        )
    return command


def _system_compilers() -> Iterator[list[str]]:
    names = [*filter(None, [os.environ.get("CC")]), "cc", "gcc", "clang"]
    for name in names:
        command = shlex.split(name)
        if shutil.which(command[0]):
            yield command


def _works(command: Sequence[str]) -> bool:
    """Compiles and links a small library with the flags of all instruction sets; old compilers lack some."""
    with tempfile.TemporaryDirectory() as folder:
        source, library = Path(folder) / "probe.c", Path(folder) / library_name()
        source.write_text(_PROBE)
        variants = [flag for variant in instruction_sets().values() for flag in variant]
        options = [*_target_flags(command, None), *_FLAGS, *variants]
        try:
            _run([*command, "-shared", *options, str(source), "-o", str(library), *_libraries(None)])
        except CompileError:
            return False
        return library.exists()


def _is_zig(command: Sequence[str]) -> bool:
    return "ziglang" in command or Path(command[0]).stem == "zig"


def _target_flags(command: Sequence[str], target: str | None) -> list[str]:
    if _is_zig(command):
        # Without a target zig compiles for the CPU of this machine, and for its libc.
        return ["-target", target or native_target(), "-mcpu=baseline"]
    if target is None and platform.system() == "Darwin":
        return ["-mmacosx-version-min=11.0"]
    return []


def _optimization(sanitize: str) -> Sequence[str]:
    return (f"-fsanitize={sanitize}", *_CHECKED) if sanitize else _OPTIMIZED


def _link_flags(command: Sequence[str], target: str | None, sanitize: str) -> list[str]:
    flags = _target_flags(command, target)
    if sanitize:
        return [*flags, f"-fsanitize={sanitize}"]
    # zig links a library for debugging, with its checks, unless the linker has the option -O too.
    flags.append("-O3")
    system = target or native_target()
    if "macos" in system:
        # The name that the library has for those that link it. By default, it is the path of a temporary folder.
        return [*flags, "-Wl,-install_name,@rpath/_native.so"]
    # -s removes the symbol table but not the exported names. With -z defs, an undefined function is an error.
    return [*flags, "-s", "-Wl,-z,defs"] if "linux" in system else [*flags, "-s"]


def _libraries(target: str | None) -> list[str]:
    return ["-lm"] if "linux" in (target or native_target()) else []


def _run(command: Sequence[str]) -> None:
    try:
        result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        raise CompileError(f"cannot run {command[0]}: {error}") from error
    if result.returncode:
        raise CompileError(f"{shlex.join(command)} failed:\n{result.stderr or result.stdout}")
    sys.stderr.write(result.stderr)


def main() -> None:
    """Compiles the library as the options state, by default next to the Python modules of the kernels."""
    parser = argparse.ArgumentParser(description="Compiles the native library of sentenc.")
    parser.add_argument("--target", choices=WHEEL_PLATFORMS, help="a platform with wheels; needs ziglang")
    parser.add_argument("--sanitize", default="", help="for example address,undefined")
    parser.add_argument("--flags", default="", help="more flags of the compiler, for example '-Werror'")
    parser.add_argument("-o", "--output", type=Path, help="the file to write")
    arguments = parser.parse_args()
    output = arguments.output or SOURCES.parent / library_name(arguments.target)
    try:
        compile_library(
            output,
            target=arguments.target,
            sanitize=arguments.sanitize,
            flags=shlex.split(arguments.flags),
        )
    except CompileError as error:
        raise SystemExit(str(error)) from None
    print(output)


if __name__ == "__main__":
    main()
