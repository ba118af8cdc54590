"""An encoder that kills its process, or waits, in the workers of an engine."""

import os
import signal
import time
from pathlib import Path

import sentenc
from tests.support.doubles import Wrapper


class FaultyEncoder(Wrapper):
    """Another encoder that kills its process at its n-th block, once for all processes that share a file.

    Args:
        model: The name of the encoder that computes the vectors.
        killed: The file that states that a process was killed. It must not exist at the start.
        kill_at: The number of the block at which the first process is killed; 0 for none.
        seconds: The time that each block takes.
    """

    def __init__(self, model, killed, kill_at=0, seconds=0.0):
        super().__init__(sentenc.load(model, threads=1))
        self.killed, self.kill_at, self.seconds = str(killed), kill_at, seconds
        self.blocks = 0

    def _encode_block(self, texts, batch_size, out):
        self.blocks += 1
        time.sleep(self.seconds)
        if self.blocks == self.kill_at and not Path(self.killed).exists():
            Path(self.killed).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super()._encode_block(texts, batch_size, out)
