"""The base class of encoders that look up the rows of tokens in tables: a CSE and a static model."""

import json
import os
from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, Protocol

import numpy as np
import numpy.typing as npt

from sentenc.checkpoint import Checkpoint, write_checkpoint
from sentenc.encoders.base import Encoder
from sentenc.encoders.encode_options import Finish, Vectors
from sentenc.encoders.fingerprints import digest, prompted_fingerprint
from sentenc.encoders.golden import golden_vectors
from sentenc.encoders.roles import stated_space
from sentenc.encoders.weights import Weights
from sentenc.texts import Texts, as_texts
from sentenc.threads import Threads, thread_count

Counts = npt.NDArray[np.int64]

# Texts that a thread encodes at a time. Fewer than twice as many are not worth a second thread.
_TEXTS_PER_SLICE = 512
_TEXTS_PER_BLOCK = 16 * _TEXTS_PER_SLICE
# The largest block of vectors, 256 MB of float32, which only bags of words reach.
_NUMBERS_PER_BLOCK = 1 << 26


class _Tokenizer(Protocol):
    @property
    def spec(self) -> str:
        """The content of the file that defines the tokenizer."""


class _Config(Protocol):
    def to_dict(self) -> dict[str, Any]:
        """Returns the configuration as JSON has it."""


class TableEncoder(Encoder):
    """An encoder whose vectors are sums of rows of tables, one row or more for each token.

    Texts are neither padded nor dependent on their neighbors. They are encoded in slices, in several threads,
    whose number does not change a vector.

    Args:
        weights: The weights by name.
        tokenizer: The tokenizer.
        threads: The number of threads that encode. By default (``"auto"``) all cores that the process may use.
        metadata: Name, sources and scores of the model.
        card: The model card, Markdown.

    Raises:
        TypeError: ``threads`` is neither an integer nor ``"auto"``.
        ValueError: ``threads`` is out of range.
    """

    kind: ClassVar[str]
    config: _Config
    tokenizer: _Tokenizer
    _reads_utf8 = True

    def __init__(
        self,
        weights: Weights,
        tokenizer: _Tokenizer,
        threads: Threads | None,
        metadata: dict[str, Any] | None,
        card: str | None,
    ) -> None:
        self.tokenizer = tokenizer
        self.threads = thread_count(threads)
        self.metadata: dict[str, Any] = metadata or {}
        self.card = card
        self._weights = dict(weights)
        self._digests: dict[str, str] = {}

    @abstractmethod
    def _encode_slice(self, texts: Texts, out: npt.NDArray[np.float32], counts: Counts) -> None:
        """Writes the raw vectors (n, dim) and the token counts (n,) of n texts. It does not hold the GIL."""

    @abstractmethod
    def _count_slice(self, texts: Texts) -> Counts:
        """Returns the token counts of n texts before any cut: (n,)."""

    def count_tokens(self, texts: Any) -> npt.NDArray[np.int64]:
        """Counts the tokens of each text before any cut: shape (n,), int64.

        Unknown words count, unless the tokenizer leaves them out.
        """
        items = [texts] if isinstance(texts, str) else as_texts(texts)
        counts = np.zeros(len(items), np.int64)
        for start in range(0, len(items), _TEXTS_PER_BLOCK):
            part = slice(start, start + _TEXTS_PER_BLOCK)
            counts[part] = self._count_slice(items[part])
        return counts

    def fingerprint(self) -> str:
        """Returns a short hash of configuration, tokenizer and weights, as they are stored, and of prompts."""
        return prompted_fingerprint(self._unprompted_fingerprint(), self.prompts)

    @property
    def space(self) -> str:
        """The identifier of the space of the vectors; see :attr:`Encoder.space`."""
        return stated_space(self.metadata) or self._digest(max_tokens=None)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes a model folder with golden vectors. It is replaced completely or not at all.

        Raises:
            CheckpointError: ``folder`` exists and is not a model folder.
        """
        write_checkpoint(
            folder,
            Checkpoint(
                kind=self.kind, config=self._settings(), tensors=self._weights, tokenizer=self.tokenizer.spec,
                golden=golden_vectors(self), metadata=self.metadata, card=self.card,
            ),
        )  # fmt: skip

    def _settings(self) -> dict[str, Any]:
        return self.config.to_dict()

    def _options(self) -> dict[str, Any]:
        return {"threads": self.threads, "metadata": self.metadata, "card": self.card}

    def _unprompted_fingerprint(self) -> str:
        return self._digest()

    def _digest(self, **changes: Any) -> str:
        # The digest of the settings with changes, the tokenizer and the weights. It is stored in every table of
        # vectors, and hashing the weights can take longer than encoding a table.
        key = ",".join(changes)
        if key not in self._digests:
            settings = json.dumps(self._settings() | changes, sort_keys=True)
            parts = [settings.encode(), self.tokenizer.spec.encode()]
            for name in sorted(self._weights):
                value = self._weights[name]
                parts += [
                    f"{name} {value.dtype} {value.shape}".encode(),
                    np.ascontiguousarray(value).tobytes(),
                ]
            self._digests[key] = digest(parts)
        return self._digests[key]

    def _block_size(self, batch_size: int) -> int:
        # Texts do not depend on their neighbors, so small batches would only cost time.
        return max(batch_size, min(_TEXTS_PER_BLOCK, max(1, _NUMBERS_PER_BLOCK // self.dim)))

    def _encode_block(self, texts: Texts, batch_size: int, out: npt.NDArray[np.float32]) -> Counts:
        counts = np.empty(len(texts), np.int64)
        if self.threads == 1 or len(texts) < 2 * _TEXTS_PER_SLICE:
            self._encode_slice(texts, out, counts)
            return counts
        self._in_slices(len(texts), lambda part: self._encode_slice(texts[part], out[part], counts[part]))
        return counts

    def _encode_part(
        self, items: Texts, batch_size: int, finish: Finish, out: Vectors, prompt: str | None
    ) -> Counts:
        if prompt is not None or len(items) <= _TEXTS_PER_SLICE or (finish.is_raw and out.flags.c_contiguous):
            return super()._encode_part(items, batch_size, finish, out, prompt)
        # The vectors of a slice are finished while they are in the cache of the core.
        counts = np.empty(len(items), np.int64)

        def encode(part: slice) -> None:
            raw = np.empty((len(counts[part]), self.dim), np.float32)
            self._encode_slice(items[part], raw, counts[part])
            finish(raw, out[part])

        self._in_slices(len(items), encode)
        return counts

    def _in_slices(self, n_texts: int, encode: Callable[[slice], None]) -> None:
        slices = [slice(i, min(i + _TEXTS_PER_SLICE, n_texts)) for i in range(0, n_texts, _TEXTS_PER_SLICE)]
        if self.threads == 1 or len(slices) == 1:
            for part in slices:
                encode(part)
            return
        # The import takes as long as thousands of texts, and one text needs no second thread.
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(self.threads, len(slices))) as pool:
            for _ in pool.map(encode, slices):
                pass  # raises the exception of a thread, if there is one

    def __reduce__(self) -> tuple[Any, ...]:
        # Tables and native structures are larger than the weights, and quickly made again.
        make = partial(type(self), **self._options())
        return make, (self.config, self._weights, self.tokenizer), {"loaded_as": self.loaded_as}
