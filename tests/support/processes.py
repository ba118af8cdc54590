"""Runs servers as processes, on a free port."""

import os
import re
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
COMMAND = [sys.executable, "-c", "from sentenc.cli import main; main()"]


@contextmanager
def running(command, **options):
    """Starts a server; yields the process with its address as ``url``, and ends it in any case."""
    path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        list(map(str, command)),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": path, **options.pop("env", {})},
        **options,
    )
    try:
        line = process.stdout.readline()
        address = re.search(r"http://\S+", line)
        assert address, line + process.stderr.read()
        process.url = address[0]
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(process, seconds=60):
    """Waits for a server to end with exit code 0; returns what it wrote to standard error."""
    _, errors = process.communicate(timeout=seconds)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    return errors
