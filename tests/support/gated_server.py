"""A server whose encoder waits for a file to exist before it encodes a text that begins with "slow".

When it begins to wait, it creates the file FILE.reached.

python -m tests.support.gated_server FILE CONFIG_AS_JSON
"""

import json
import sys
import time
from pathlib import Path

from sentenc.serving import ServerConfig, bind, create_app, serve
from sentenc.serving.logs import log_to_stderr
from tests.support.doubles import Gated
from tests.support.models import make_cse


class FileGated(Gated):
    def __init__(self, inner, gate):
        super().__init__(inner)
        self.gate = gate

    def _encode_block(self, texts, batch_size, out):
        if any(text.startswith("slow") for text in texts):
            self.gate.with_name(f"{self.gate.name}.reached").touch()
            while not self.gate.exists():
                time.sleep(0.005)
        return super()._encode_block(texts, batch_size, out)


def main() -> None:
    config = ServerConfig(**json.loads(sys.argv[2]))
    log_to_stderr(config.log_json)
    app = create_app({"tiny": FileGated(make_cse(), Path(sys.argv[1]))}, {}, config)
    serve(app, config, listener=bind(config), on_listening=lambda url: print(url, flush=True))


if __name__ == "__main__":
    main()
