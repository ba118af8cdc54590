"""CSE, the n-gram CNN sentence encoder, in the form that encodes: look-up tables and no torch."""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from sentenc.checkpoint import Checkpoint, write_checkpoint
from sentenc.encoders.base import Encoder, digest
from sentenc.encoders.cse.config import CSEConfig
from sentenc.encoders.cse.tables import ROWS, fold_tables, quantized_rows
from sentenc.encoders.golden import golden_vectors
from sentenc.encoders.weights import Weights, check_weights, dense_weight
from sentenc.errors import CheckpointError
from sentenc.texts import as_text_list
from sentenc.threads import usable_cores
from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.validation import check_choice, check_integer

Tables = Literal["int8", "float32"]

# Texts that a thread takes at a time; fewer than two such shares are not worth a second thread.
_SHARE = 512
_BLOCK = 16 * _SHARE


class CSE(Encoder):
    """The n-gram CNN sentence encoder of Jiao, Wang and Feng (COLING 2018), by table look-up.

    A token's embedding has no context, so its part in every filter is a row of a table computed
    once (T_{h,j} = E W_h^(j)): an n-gram is h look-ups, an addition and phi.

    Args:
        config: The model's shape.
        weights: Every weight of ``config.shapes()``, float16 or float32; ``embeddings`` and
            ``average`` may be int8 with ``embeddings.scale`` (V,) and ``average.scale`` beside them.
        tokenizer: Its vocabulary must fit ``config.vocab_size``.
        tables: ``"int8"`` (a scale per token and per filter; small and fast), or ``"float32"``
            (equal to the dense form to 1e-5).
        threads: Threads that encode; all cores that the process may use by default.
        metadata: Name, sources, scores; kept in the folder.
        card: The model card.

    Raises:
        CheckpointError: A weight is missing, unexpected, misshapen or not finite.
    """

    def __init__(
        self,
        config: CSEConfig,
        weights: Weights,
        tokenizer: Tokenizer,
        *,
        tables: Tables = "int8",
        threads: int | None = None,
        metadata: dict[str, Any] | None = None,
        card: str | None = None,
    ) -> None:
        check_choice("tables", tables, get_args(Tables))
        if tokenizer.vocab_size > config.vocab_size:
            raise CheckpointError(
                f"tokenizer.json has ids up to {tokenizer.vocab_size - 1}, "
                f"expected ids below vocab_size {config.vocab_size}"
            )
        if tokenizer.skip_unknown != (config.unknown == "skip"):
            raise ValueError(
                f"tokenizer.skip_unknown is {tokenizer.skip_unknown}, but unknown={config.unknown!r}"
            )
        shapes = config.shapes()
        check_weights(weights, shapes, {name for name in ROWS if name in shapes})
        self.config = config
        self.tokenizer = tokenizer
        self.tables: Tables = tables
        self.threads = usable_cores() if threads is None else check_integer("threads", threads)
        self.metadata = metadata or {}
        self.card = card
        self._weights = dict(weights)
        self._words, self._ngrams = fold_tables(config, self._weights, tables)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, *, threads: int | None = None) -> "CSE":
        """The model in a folder's content."""
        values = dict(checkpoint.config)
        try:
            tables = values.pop("tables")
            config = CSEConfig.from_dict(values)
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"config.json has a bad config: {error}") from error
        tokenizer = Tokenizer(checkpoint.tokenizer, skip_unknown=config.unknown == "skip")
        return cls(
            config, checkpoint.tensors, tokenizer, tables=tables, threads=threads,
            metadata=checkpoint.metadata, card=checkpoint.card,
        )  # fmt: skip

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self.config.dim

    @property
    def similarity_dim(self) -> int:
        """Dimensions of the sentence vector alone, without the plain average and the n-gram features."""
        return self.config.sentence_dim

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that are used; no special tokens are added."""
        return self.config.max_tokens

    def count_tokens(self, texts: Any) -> npt.NDArray[np.int64]:
        """Counts the tokens of each text, unknown words aside if they are skipped: (n,) int64."""
        items = [texts] if isinstance(texts, str) else as_text_list(texts)
        counts = [self.tokenizer.encode(items[i : i + _BLOCK])[2] for i in range(0, len(items), _BLOCK)]
        return np.concatenate(counts) if counts else np.zeros(0, np.int64)

    def fingerprint(self) -> str:
        """A short hash of configuration, tokenizer and weights."""
        parts = [json.dumps(self._settings(), sort_keys=True).encode(), self.tokenizer.spec.encode()]
        for name in sorted(self._weights):
            value = self._weights[name]
            parts += [f"{name} {value.dtype} {value.shape}".encode(), np.ascontiguousarray(value).tobytes()]
        return digest(parts)

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes a model folder, with golden vectors; all of it, or nothing."""
        write_checkpoint(
            folder,
            Checkpoint(
                kind="cse", config=self._settings(), tensors=self._weights, tokenizer=self.tokenizer.spec,
                golden=golden_vectors(self), metadata=self.metadata, card=self.card,
            ),
        )  # fmt: skip

    def weight(self, name: str) -> npt.NDArray[np.float32]:
        """A weight of ``config.shapes()`` in float32, whatever it is stored in."""
        return dense_weight(self._weights, name)

    def compressed(self) -> "CSE":
        """The same model with int8 rows of tokens (a scale each) and float16 elsewhere: a quarter the size."""
        weights: dict[str, npt.NDArray[Any]] = {}
        for name in self.config.shapes():
            if name in ROWS:
                weights[name], weights[f"{name}.scale"] = quantized_rows(self.weight(name))
            else:
                weights[name] = self.weight(name).astype(np.float16)
        return CSE(
            self.config, weights, self.tokenizer, tables=self.tables, threads=self.threads,
            metadata=self.metadata, card=self.card,
        )  # fmt: skip

    def word_path(self) -> "CSE":
        """The model without its n-gram path: the averages of words that are left."""
        if not self.config.word_path:
            raise ValueError("the model has no word path")
        kept = {"embeddings", "embeddings.scale", "token_weights", "projection", "average", "average.scale"}
        config = CSEConfig.from_dict(self.config.to_dict() | {"widths": [], "combine": "residual"})
        weights = {name: value for name, value in self._weights.items() if name in kept}
        return CSE(config, weights, self.tokenizer, tables=self.tables, threads=self.threads)

    def _settings(self) -> dict[str, Any]:
        return self.config.to_dict() | {"tables": self.tables}

    def _block_size(self, batch_size: int) -> int:
        # Nothing is padded and nothing depends on the neighbors: small batches would only cost time.
        return max(batch_size, _BLOCK)

    def _encode_block(
        self, texts: list[str], batch_size: int, out: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        counts = np.zeros(len(texts), np.int64)
        if self.threads == 1 or len(texts) < 2 * _SHARE:
            self._encode_share(texts, out, counts)
            return counts
        starts = range(0, len(texts), _SHARE)

        def encode_share(i: int) -> None:
            end = i + _SHARE
            self._encode_share(texts[i:end], out[i:end], counts[i:end])

        with ThreadPoolExecutor(min(self.threads, len(starts))) as pool:
            for _ in pool.map(encode_share, starts):
                pass  # pass on what a thread raised
        return counts

    def _encode_share(
        self, texts: list[str], out: npt.NDArray[np.float32], counts: npt.NDArray[np.int64]
    ) -> None:
        from sentenc.kernels.encode import encode

        tokenizer = self.tokenizer
        data, offsets = tokenizer.bytes_and_offsets(texts)
        encode(
            data, offsets, tokenizer.rules, tokenizer.table, tokenizer.powers,
            self._words, self._ngrams, self.config.max_tokens, out, counts,
        )  # fmt: skip

    def __reduce__(self) -> tuple[Any, ...]:
        # The folded tables are several times as large as the weights, and quickly made again.
        options: dict[str, Any] = {
            "tables": self.tables,
            "threads": self.threads,
            "metadata": self.metadata,
            "card": self.card,
        }
        return partial(CSE, **options), (self.config, self._weights, self.tokenizer)
