"""Servers as processes of their own, on a free port."""

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
    """Starts a server; gives the process, which has its address as ``url``. Ended in any case."""
    path = os.pathsep.join([str(REPOSITORY), *filter(None, [os.environ.get("PYTHONPATH")])])
    process = subprocess.Popen(
        list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": path, **options.pop("env", {})}, **options,
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        found = re.search(r"http://\S+", line)
        assert found, line + process.stderr.read()
        process.url = found[0]
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def ended(process, seconds=60):
    """What a server wrote to standard error until its end; its exit code must be 0."""
    _, errors = process.communicate(timeout=seconds)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    return errors
