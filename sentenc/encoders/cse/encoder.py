"""The CSE sentence encoder, an n-gram CNN that computes by table look-up, without torch."""

from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from sentenc.checkpoint import Checkpoint
from sentenc.encoders.cse.config import CSEConfig
from sentenc.encoders.cse.tables import ROWS, fold_tables, quantized_rows
from sentenc.encoders.table_encoder import TableEncoder
from sentenc.encoders.weights import Weights, check_weights, dense_weight
from sentenc.errors import CheckpointError
from sentenc.io.int4 import GROUP, Bits, check_bits, fits_int4, rounded_to_int4
from sentenc.kernels.encode import CSEKernel, NgramTable, WordTable
from sentenc.texts import Texts
from sentenc.threads import Threads, run_together
from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.validation import check_choice

Tables = Literal["int8", "float32"]


class CSE(TableEncoder):
    """The n-gram CNN sentence encoder of Jiao, Wang and Feng (COLING 2018), computed by table look-up.

    A token's embedding has no context. Its part in every filter is therefore a row of a table that is
    computed once (T_{h,j} = E W_h^(j)): an n-gram is h look-ups, an addition and phi.

    Args:
        config: The model's shape.
        weights: Every weight of ``config.shapes()``, float16 or float32. ``embeddings`` and ``average`` may
            be int8 and then come with ``embeddings.scale`` and ``average.scale``, both (V,).
        tokenizer: A tokenizer whose ids are below ``config.vocab_size``.
        tables: ``"int8"`` (a scale per token and per filter; small and fast), or ``"float32"`` (equal to the
            dense form to 1e-5).
        threads: The number of threads that encode. By default (``"auto"``) all cores that the process may use.
        metadata: Name, sources and scores, and ``prompts`` and ``space`` if there are any, stored in the
            model folder.
        card: The model card, Markdown.

    Raises:
        CheckpointError: A weight is missing, unexpected, misshapen or not finite.
        TypeError: ``threads`` is neither an integer nor ``"auto"``.
        ValueError: An option is out of range, or the tokenizer treats unknown words in another way than
            ``config``.
    """

    kind = "cse"
    config: CSEConfig
    tokenizer: Tokenizer

    def __init__(
        self,
        config: CSEConfig,
        weights: Weights,
        tokenizer: Tokenizer,
        *,
        tables: Tables = "int8",
        threads: Threads | None = None,
        metadata: dict[str, Any] | None = None,
        card: str | None = None,
        _folded: tuple[WordTable, NgramTable] | None = None,  # the tables, if they are made already
    ) -> None:
        check_choice("tables", tables, get_args(Tables))
        if tokenizer.vocab_size > config.vocab_size:
            raise CheckpointError(
                f"tokenizer.json has ids up to {tokenizer.vocab_size - 1}, "
                f"expected ids below vocab_size {config.vocab_size}"
            )
        if tokenizer.skip_unknown != (config.unknown == "skip"):
            raise ValueError(
                f"tokenizer.skip_unknown is {tokenizer.skip_unknown}, "
                f"expected {config.unknown == 'skip'} for unknown={config.unknown!r}"
            )
        words, ngrams = _folded or _checked_tables(config, weights, tables)
        super().__init__(weights, tokenizer, threads, metadata, card)
        self.config = config
        self._dim = config.dim
        self.tables: Tables = tables
        self._bias = dense_weight(self._weights, "bias") if config.bias else None
        self._kernel = CSEKernel(tokenizer.native, words, ngrams, config.dim)

    @classmethod
    def from_checkpoint(cls, checkpoint: Checkpoint, *, threads: int | None = None) -> "CSE":
        """Creates the encoder from the content of a model folder.

        Raises:
            CheckpointError: The configuration or a weight is missing or damaged.
        """
        values = dict(checkpoint.config)
        try:
            tables = values.pop("tables")
            check_choice("tables", tables, get_args(Tables))
            config = CSEConfig.from_dict(values)
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"config.json has a bad config: {error}") from error
        folded, tokenizer = run_together(
            lambda: _checked_tables(config, checkpoint.tensors, tables),
            lambda: Tokenizer(checkpoint.tokenizer, skip_unknown=config.unknown == "skip"),
        )
        return cls(
            config, checkpoint.tensors, tokenizer, tables=tables, threads=threads,
            metadata=checkpoint.metadata, card=checkpoint.card, _folded=folded,
        )  # fmt: skip

    @property
    def dim(self) -> int:
        """The number of components of a vector."""
        return self._dim

    @property
    def similarity_dim(self) -> int:
        """The number of leading components without the plain average and the n-gram features."""
        return self.config.sentence_dim

    @property
    def max_tokens(self) -> int:
        """The number of tokens of a text that are used. No special tokens are added."""
        return self.config.max_tokens

    def weight(self, name: str) -> npt.NDArray[np.float32]:
        """Returns a weight of ``config.shapes()`` in float32."""
        return dense_weight(self._weights, name)

    def stored_weight(self, name: str) -> tuple[npt.NDArray[Any], npt.NDArray[np.floating] | None]:
        """Returns a weight as it is stored, and the scales of its rows (V,) if it is int8, or else None."""
        return self._weights[name], self._weights.get(f"{name}.scale")

    def compressed(self, bits: Bits = 8) -> "CSE":
        """Returns the same model with int8 rows of tokens and float16 elsewhere: a quarter of the size.

        Args:
            bits: 8, or 4 for int8 values that :meth:`save` writes in 4 bits, in about half of that. Rows whose number
                of components is no multiple of 32 keep 8 bits.

        Raises:
            ValueError: ``bits`` is neither 8 nor 4.
        """
        check_bits(bits)
        weights: dict[str, npt.NDArray[Any]] = {}
        for name, shape in self.config.shapes().items():
            stored, scale = self.stored_weight(name)
            if name not in ROWS:
                stored = self.weight(name).astype(np.float16)
            elif bits == 4 and shape[1] % GROUP == 0 and not fits_int4(stored):
                stored, scale = rounded_to_int4(self.weight(name))
            elif scale is None:
                stored, scale = quantized_rows(self.weight(name))
            weights[name] = stored
            if scale is not None:
                weights[f"{name}.scale"] = scale
        return CSE(
            self.config, weights, self.tokenizer, tables=self.tables, threads=self.threads,
            metadata=self.metadata, card=self.card,
        )  # fmt: skip

    def word_path(self) -> "CSE":
        """Returns the model without its n-gram path, which averages words.

        Raises:
            ValueError: The model has no word path.
        """
        if not self.config.word_path:
            raise ValueError("the model has no word path")
        names = {
            "embeddings",
            "embeddings.scale",
            "token_weights",
            "projection",
            "bias",
            "average",
            "average.scale",
        }
        config = CSEConfig.from_dict(self.config.to_dict() | {"widths": [], "combine": "residual"})
        weights = {name: value for name, value in self._weights.items() if name in names}
        return CSE(config, weights, self.tokenizer, tables=self.tables, threads=self.threads)

    def _settings(self) -> dict[str, Any]:
        return self.config.to_dict() | {"tables": self.tables}

    def _options(self) -> dict[str, Any]:
        return {"tables": self.tables, **super()._options()}

    def _count_slice(self, texts: Texts) -> npt.NDArray[np.int64]:
        return self.tokenizer.encode(texts)[2]

    def _encode_slice(
        self, texts: Texts, out: npt.NDArray[np.float32], counts: npt.NDArray[np.int64]
    ) -> None:
        data, offsets = self.tokenizer.bytes_and_offsets(texts)
        self._kernel.encode(data, offsets, self.config.max_tokens, out, counts)
        if self._bias is not None:
            self._add_bias(self._bias, out, counts)

    def _add_bias(
        self, bias: npt.NDArray[np.float32], out: npt.NDArray[np.float32], counts: npt.NDArray[np.int64]
    ) -> None:
        # The vector of a text without tokens is zero.
        words = out[:, : len(bias)]
        if len(counts) == 1:
            # For one text, the operations on arrays below take longer than the look-up.
            n = min(counts.item(), self.config.max_tokens)
            if n:
                words[0] += bias / np.float32(n)
            return
        n_tokens = np.minimum(counts, self.config.max_tokens)[:, None].astype(np.float32)
        words += np.where(n_tokens > 0, bias / np.maximum(n_tokens, 1), 0)


def _checked_tables(config: CSEConfig, weights: Weights, tables: str) -> tuple[WordTable, NgramTable]:
    shapes = config.shapes()
    check_weights(weights, shapes, {name for name in ROWS if name in shapes})
    return fold_tables(config, weights, tables)
