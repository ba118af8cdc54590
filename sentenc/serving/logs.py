"""Log lines of a server on standard error, for people or for programs."""

import json
import logging
import sys
from datetime import UTC, datetime

# Ours, and the HTTP server's own.
_LOGGERS = ("sentenc", "uvicorn")


class JsonFormatter(logging.Formatter):
    """A JSON object for each record: time, level, logger, message, and a traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """The record as a line."""
        content = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            content["traceback"] = self.formatException(record.exc_info)
        return json.dumps(content)


def log_to_stderr(as_json: bool) -> None:
    """Sends our log and the HTTP server's to standard error; leaves the root logger alone."""
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")
    handler.setFormatter(JsonFormatter() if as_json else plain)
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
    logging.getLogger("sentenc").setLevel(logging.INFO)
    # It tells of every start and stop; we say that ourselves.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
