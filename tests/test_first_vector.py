"""The first vector of a new process where programs often fail: nothing can be written, or the process is forked."""

import json
import os
import subprocess
import sys

import pytest

posix_only = pytest.mark.skipif(os.name != "posix", reason="POSIX only")
ENCODE = "import sentenc; vector = sentenc.load('cse-en-tiny', threads=2).encode('a man plays the guitar')\n"
PRINT = "import json; print(json.dumps(vector.tolist()))\n"

# Records every file that is opened for writing, and every folder that is made, but for /dev/null.
WATCH = """
import os, sys
written = []
def watch(event, arguments):
    if event == "open" and (arguments[2] or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
        if arguments[0] != os.devnull:
            written.append(str(arguments[0]))
    elif event in ("os.mkdir", "os.rename", "os.symlink"):
        written.append(f"{event} {arguments[0]}")
sys.addaudithook(watch)
"""

FORK = """
import os, sys
pid = os.fork()
if pid == 0:
    again = sentenc.load("cse-en-tiny", threads=2).encode("a man plays the guitar")
    shared = encoder.encode(["a man plays the guitar"] * 5000)
    os._exit(0 if (again == vector).all() and (shared == vector).all() else 3)
sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
"""


def run(code: str, **options) -> str:
    result = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        **options,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.fixture(scope="module")
def expected():
    return json.loads(run(ENCODE + PRINT))


def test_encoding_writes_no_file():
    code = WATCH + ENCODE + "import json; print(json.dumps(written))"
    assert json.loads(run(code, env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"})) == []


@posix_only
def test_nothing_can_be_written(expected, tmp_path):
    """A limit of 0 bytes on the size of files simulates a full disk; HOME is a folder that does not exist."""
    import resource

    environment = os.environ | {
        "HOME": str(tmp_path / "missing"),
        "XDG_CACHE_HOME": str(tmp_path / "missing"),
    }
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))  # noqa: E731
    vector = json.loads(run(ENCODE + PRINT, env=environment, cwd="/", preexec_fn=limit))
    assert vector == expected


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
@pytest.mark.parametrize("threads", [1, 2])
def test_a_forked_process_encodes(threads):
    code = f"import sentenc\nencoder = sentenc.load('cse-en-tiny', threads={threads})\n"
    code += "vector = encoder.encode('a man plays the guitar')\nencoder.encode(['b'] * 5000)\n" + FORK
    run(code)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_the_first_vector_after_a_fork():
    code = "import sentenc\nencoder = sentenc.load('cse-en-tiny', threads=2)\n"
    code += "pid = __import__('os').fork()\nvector = encoder.encode('a man plays the guitar')\n"
    code += "if pid:\n    import os, sys; sys.exit(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))\n"
    run(code)
