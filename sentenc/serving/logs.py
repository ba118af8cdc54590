"""Logging of a server to standard error, as plain text or JSON lines."""

import json
import logging
import sys
from datetime import UTC, datetime

# The package's own logger, and that of the HTTP server.
_LOGGERS = ("sentenc", "uvicorn")


class JsonFormatter(logging.Formatter):
    """Formats a record as a JSON object: time, level, logger, message, and the traceback if there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Returns the record as one line of JSON."""
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
    """Sends the log of sentenc and of the HTTP server to standard error; the root logger is not changed."""
    handler = logging.StreamHandler(sys.stderr)
    plain = logging.Formatter("%(asctime)s %(levelname)s %(message)s", "%Y-%m-%d %H:%M:%S")
    handler.setFormatter(JsonFormatter() if as_json else plain)
    for name in _LOGGERS:
        logger = logging.getLogger(name)
        logger.handlers[:] = [handler]
        logger.propagate = False
    logging.getLogger("sentenc").setLevel(logging.INFO)
    # It logs every start and stop, which sentenc reports itself.
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
