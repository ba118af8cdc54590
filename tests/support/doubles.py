"""Encoders that behave like another one, except where tests change them."""

import threading

from sentenc import Encoder


class Wrapper(Encoder):
    """Another encoder."""

    def __init__(self, inner):
        self.inner = inner

    @property
    def dim(self):
        return self.inner.dim

    @property
    def max_tokens(self):
        return self.inner.max_tokens

    def count_tokens(self, texts):
        return self.inner.count_tokens(texts)

    def save(self, folder):
        self.inner.save(folder)

    def fingerprint(self):
        return self.inner.fingerprint()

    def _encode_block(self, texts, batch_size, out):
        return self.inner._encode_block(texts, batch_size, out)


class Gated(Wrapper):
    """Another encoder behind a gate; encoding fails if a text contains "poison"."""

    def __init__(self, inner):
        super().__init__(inner)
        self.open = threading.Event()
        self.open.set()
        self.entered = threading.Event()
        self.batches = []

    def _encode_block(self, texts, batch_size, out):
        self.batches.append(list(texts))
        self.entered.set()
        if not self.open.wait(60):
            raise RuntimeError("the gate was never opened")
        if any("poison" in text for text in texts):
            raise RuntimeError("secret of the inside")
        return super()._encode_block(texts, batch_size, out)
