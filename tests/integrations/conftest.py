"""Settings of the libraries, so that none of them sends reports of its use."""

import os

for name, value in (
    ("ANONYMIZED_TELEMETRY", "False"),
    ("HAYSTACK_TELEMETRY_ENABLED", "False"),
    ("LANGSMITH_TRACING", "false"),
    ("NUMBA_NUM_THREADS", "1"),
):
    os.environ[name] = value
