"""Imports ONNX Runtime with its usage reports switched off."""

import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

_SWITCH = "ORT_DISABLE_TELEMETRY"
_lock = threading.Lock()


def import_onnxruntime() -> Any:
    """Returns the module ``onnxruntime``; every other module imports it by this function.

    Since version 1.29, ONNX Runtime reports usage from Linux too. It writes a device id and a database of
    events to the user's cache folder, and sends the events to Microsoft. An environment variable prevents
    this, but it is read during the import only. It is therefore set until the import ends, and then restored.
    If the program has already imported ONNX Runtime, only the events that follow are switched off.
    """
    with _lock:
        if "onnxruntime" in sys.modules:
            import onnxruntime
        else:
            with _switched_off():
                import onnxruntime
        # Builds for Windows report to the operating system, whatever the variable contains.
        if hasattr(onnxruntime, "disable_telemetry_events"):
            onnxruntime.disable_telemetry_events()
        return onnxruntime


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
