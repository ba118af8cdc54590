"""Settings of the libraries, so that none of them sends reports of its use."""

import os
import shutil
import tempfile

import pytest

for name, value in (
    ("ANONYMIZED_TELEMETRY", "False"),
    ("HAYSTACK_TELEMETRY_ENABLED", "False"),
    ("LANGSMITH_TRACING", "false"),
    ("NUMBA_NUM_THREADS", "1"),
):
    os.environ[name] = value


@pytest.fixture
def short_folder():
    """A folder for the sockets of Ray, whose paths have at most 107 characters."""
    folder = tempfile.mkdtemp(prefix="ray")
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
