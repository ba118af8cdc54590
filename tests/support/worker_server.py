"""A server of several workers, each with the encoder of ``gated_server``.

If the file FILE.broken exists, every worker fails before it is ready. CONSTANTS are seconds by their names in the
modules of the server, such as ``{"restarting._FIRST_DELAY": 0.01}``.

python -m tests.support.worker_server FILE WORKERS CONFIG_AS_JSON CONSTANTS_AS_JSON
"""

import json
import os
import sys
from importlib import import_module
from pathlib import Path

from sentenc.serving import ServerConfig, create_app, serve_workers
from sentenc.serving.logs import log_to_stderr
from tests.support.gated_server import FileGated
from tests.support.models import make_cse


def main() -> None:
    gate, config = Path(sys.argv[1]), ServerConfig(**json.loads(sys.argv[3]))
    for name, seconds in json.loads(sys.argv[4]).items():
        module, constant = name.split(".")
        module = import_module(f"sentenc.serving.{module}")
        assert hasattr(module, constant)
        setattr(module, constant, seconds)
    log_to_stderr(config.log_json)
    encoder, supervisor = FileGated(make_cse(), gate), os.getpid()

    def make_app():
        if os.getpid() != supervisor and gate.with_name(f"{gate.name}.broken").exists():
            raise RuntimeError("this worker is broken")
        return create_app({"tiny": encoder}, {}, config)

    serve_workers(make_app, int(sys.argv[2]), config, on_listening=lambda url: print(url, flush=True))


if __name__ == "__main__":
    main()
