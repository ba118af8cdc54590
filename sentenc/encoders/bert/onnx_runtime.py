"""Imports ONNX Runtime with its usage reports switched off, and opens its sessions."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from sentenc.forking import lock_before_fork

_SWITCH = "ORT_DISABLE_TELEMETRY"
# Held while ONNX Runtime is imported or a session is opened. A fork waits for it: a child with half an import,
# or with a lock of the runtime that was held at the moment of the fork, would wait for ever.
opening = lock_before_fork()


def import_onnxruntime() -> Any:
    """Returns the module ``onnxruntime``; every other module imports it by this function.

    Since version 1.29, ONNX Runtime reports usage from Linux too. It writes a device id and a database of
    events to the user's cache folder, and sends the events to Microsoft. An environment variable prevents
    this, but it is read during the import only. It is therefore set until the import ends, and then restored.
    If the program has already imported ONNX Runtime, only the events that follow are switched off.
    """
    with opening:
        if "onnxruntime" in sys.modules:
            import onnxruntime
        else:
            with _switched_off():
                import onnxruntime
        # Builds for Windows report to the operating system, whatever the variable contains.
        if hasattr(onnxruntime, "disable_telemetry_events"):
            onnxruntime.disable_telemetry_events()
        return onnxruntime


def open_session(model: bytes) -> Any:
    """Returns an ``InferenceSession`` of a serialized model, on one thread of the processor."""
    with opening:
        onnxruntime = import_onnxruntime()
        options = onnxruntime.SessionOptions()
        # Each of the encoder's own threads runs a batch, so a sum is split the same way for any number of them.
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        # Log only errors, which the runtime raises as well.
        options.log_severity_level = 3
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


@contextmanager
def _switched_off() -> Iterator[None]:
    before = os.environ.get(_SWITCH)
    os.environ[_SWITCH] = "1"
    try:
        yield
    finally:
        if before is None:
            os.environ.pop(_SWITCH, None)
        else:
            os.environ[_SWITCH] = before
