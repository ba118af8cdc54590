"""Too little memory raises MemoryError."""

import subprocess
import sys

import pytest

from sentenc.kernels import library

resource = pytest.importorskip("resource", reason="limits of memory exist on POSIX systems alone")

# The limit allows 300 MB more than what the process has after its imports.
START = """
import resource
import sys
import numpy as np
from pathlib import Path
from sentenc.kernels.folding import FoldPages, fold
from sentenc.kernels.vocabulary import Vocabulary
from tests.kernels.test_arguments import KERNEL, PAGES, VOCABULARY
from tests.support.kernel_cases import ascii_rules
MB = 1 << 20
size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (size + 300 * MB, size + 300 * MB))
counts = np.zeros(1, np.int64)
def offsets(text):
    return np.array([0, len(text)])
for line in sys.stdin:
    try:
        exec(line)
    except MemoryError as error:
        print("MemoryError", error)
    text = None
print(VOCABULARY.tokenize(b"ab c", np.array([0, 4]), 9)[0].tolist())
"""
# Too little memory for ids, for the ids of eight texts, for the bytes of a text, for folded bytes, and for a table.
CALLS = [
    "text = b'ab ' * (40 * MB); VOCABULARY.tokenize(text, offsets(text), 2**63 - 1)",
    "text = b'ab ' * (10 * MB); KERNEL.encode(text, offsets(text), 2**63 - 1, np.zeros((1, 12), np.float32), counts)",
    "text = b'ab ' * (60 * MB); KERNEL.encode(text, offsets(text), 5, np.zeros((1, 12), np.float32), counts)",
    "text = b'ab ' * (60 * MB); fold(PAGES, text, offsets(text), True)",
    "n = 6 * MB; Vocabulary(b'a' * n, np.arange(n + 1), np.zeros(n, bool), *ascii_rules(), 5, True, -1)",
]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc states the memory of a process on Linux")
@pytest.mark.skipif(
    b"__asan_init" in library._FILE.read_bytes(), reason="AddressSanitizer reserves terabytes of addresses"
)
def test_too_little_memory_is_an_error():
    result = subprocess.run(
        [sys.executable, "-c", START], input="\n".join(CALLS), capture_output=True, text=True, check=False
    )
    assert result.returncode == 0, result.stderr[-2000:]
    *errors, last = result.stdout.splitlines()
    assert [error.split()[0] for error in errors] == ["MemoryError"] * len(CALLS)
    assert last == "[0, 1]"
