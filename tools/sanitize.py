"""Runs the tests of the kernels with a native library that AddressSanitizer and UBSan check.

``make sanitize`` runs it. The package and its tests are copied to a temporary folder, because the loader takes the
library in its own folder. Arguments are passed to pytest.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from fuzz import CSRC, ROOT, native

COPIED = ("pyproject.toml", "tests/__init__.py", "tests/conftest.py", "tests/support", "tests/kernels")
_WITHOUT = shutil.ignore_patterns("models", "_native.*", "__pycache__")


def main() -> None:
    """Builds the library, runs the tests and exits with their status."""
    compiler = native.find_compiler()
    if compiler is None:
        raise SystemExit("no C compiler was found: install gcc or clang")
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        shutil.copytree(ROOT / "sentenc", root / "sentenc", ignore=_WITHOUT)
        for name in COPIED:
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, root / name)
        library = root / CSRC.relative_to(ROOT).parent / native.library_name()
        native.compile_library(library, compiler=compiler, sanitize="address,undefined")
        environment = os.environ | {
            "PYTHONPATH": folder,
            "LD_PRELOAD": runtime(compiler),
            # Python itself leaves memory to the system when it ends.
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        }
        command = [sys.executable, "-m", "pytest", "-q", "tests/kernels", *sys.argv[1:]]
        raise SystemExit(subprocess.run(command, cwd=root, env=environment, check=False).returncode)


def runtime(compiler: list[str]) -> str:
    """Returns the path of the compiler's AddressSanitizer, which has to be loaded before everything else."""
    names = ["libasan.so", "libclang_rt.asan-x86_64.so", "libclang_rt.asan.so"]
    for name in names:
        command = [*compiler, f"-print-file-name={name}"]
        path = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        if Path(path).is_absolute():
            return os.path.realpath(path)
    raise SystemExit(f"{compiler[0]} has none of {', '.join(names)}: install its sanitizers")


if __name__ == "__main__":
    main()
