"""Builds the wheels of all platforms on one Linux machine with zig, and checks the native library in each.

``make wheels`` installs what this script needs and runs it. Names of targets restrict it to them.
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KERNELS = ROOT / "sentenc" / "kernels"
sys.path.insert(0, str(KERNELS / "csrc"))

import build as native  # noqa: E402

# The libraries that every machine of a platform has.
SYSTEM_LIBRARIES = {
    "linux-gnu": r"libc\.so\.6|libm\.so\.6|ld-linux-[\w-]+\.so\.[12]",
    "linux-musl": r"libc\.so",
    "macos": r"/usr/lib/libSystem\.B\.dylib|@rpath/_native\.so",
    "windows": r"(?i:kernel32\.dll|api-ms-win-crt-[\w-]+\.dll)",
}
# Names that Apple's and zig's linkers export from every library.
LINKER_NAMES = {"__mh_dylib_header", "___dso_handle"}


def main() -> None:
    """Builds and checks the wheels that the command line names, by default all."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", help=f"of {', '.join(native.WHEEL_PLATFORMS)}")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", help="the folder of the wheels")
    options = parser.parse_args()
    faults = []
    for target in options.targets or native.WHEEL_PLATFORMS:
        wheel = build_wheel(target, options.output)
        own_faults = list(wheel_faults(wheel, target))
        print(
            f"{wheel.name}: {wheel.stat().st_size / 1e6:.1f} MB, {'; '.join(own_faults) or 'checked'}",
            flush=True,
        )
        faults += own_faults
    if faults:
        raise SystemExit("the wheels have faults")


def build_wheel(target: str, output: Path) -> Path:
    """Builds one wheel in this environment, because another one for each target would take longer."""
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(output), str(ROOT)]
    environment = os.environ | {"SENTENC_TARGET": target}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise SystemExit(f"the wheel for {target} cannot be built:\n{result.stdout}{result.stderr}")
    (wheel,) = output.glob(f"sentenc-*-py3-none-{native.wheel_platform(target)}.whl")
    return wheel


def wheel_faults(wheel: Path, target: str) -> Iterator[str]:
    """Yields what is wrong with the files of a wheel and with its library."""
    name = native.library_name(target)
    with zipfile.ZipFile(wheel) as archive, tempfile.TemporaryDirectory() as folder:
        names = archive.namelist()
        if sources := [n for n in names if "csrc" in n]:
            yield f"it contains sources: {', '.join(sources)}"
        libraries = [n for n in names if "/_native" in n]
        if libraries != [f"sentenc/kernels/{name}"]:
            yield f"its libraries are {libraries}, expected one {name}"
            return
        yield from library_faults(Path(archive.extract(libraries[0], folder)), target)


def library_faults(library: Path, target: str) -> Iterator[str]:
    """Yields what is wrong with the exported names of a library and with the libraries that it needs."""
    import lief

    lief.logging.disable()
    binary = lief.parse(str(library))
    exported = {function.name for function in binary.exported_functions} - LINKER_NAMES
    if isinstance(binary, lief.MachO.Binary):
        exported = {name.removeprefix("_") for name in exported}
        needed = [command.name for command in binary.libraries]
    else:
        needed = list(binary.libraries)
    if missing := declared_functions() - exported:
        yield f"it does not export {', '.join(sorted(missing))}"
    if others := exported - declared_functions():
        yield f"it exports {', '.join(sorted(others))}, which sentenc.h does not declare"
    allowed = next(pattern for key, pattern in SYSTEM_LIBRARIES.items() if key in target)
    if foreign := [name for name in needed if not re.fullmatch(allowed, name)]:
        yield f"it needs {', '.join(foreign)}"
    if isinstance(binary, lief.ELF.Binary) and "gnu" in target:
        yield from glibc_faults(binary, target)


def glibc_faults(binary, target: str) -> Iterator[str]:
    """Yields the versions of glibc's symbols that are newer than the tag of the wheel promises."""
    oldest = version(target.partition("gnu.")[2])
    for requirement in binary.symbols_version_requirement:
        for symbol in requirement.get_auxiliary_symbols():
            if version(symbol.name.partition("_")[2]) > oldest:
                yield f"it needs {symbol.name} of {requirement.name}"


def version(text: str) -> tuple[int, ...]:
    """Returns the numbers of a version such as 2.17."""
    return tuple(int(part) for part in text.split("."))


def declared_functions() -> set[str]:
    """Returns the names of the functions that the header of the library declares."""
    header = (KERNELS / "csrc" / "sentenc.h").read_text("utf-8")
    return set(re.findall(r"^SENTENC_EXPORT \w+ \*?(sentenc_\w+)\(", header, re.M))


if __name__ == "__main__":
    main()
