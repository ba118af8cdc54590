"""Students that start from an encoder and are turned back into an encoder of the same kind."""

import copy
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.encoders.bert.config import Pooling
from sentenc.encoders.bert.encoder import BertEncoder
from sentenc.encoders.cse.encoder import CSE
from sentenc.encoders.cse.tables import ROWS, quantized_rows
from sentenc.encoders.static.encoder import StaticEncoder
from sentenc.encoders.transformer import TransformerEncoder, has_known_tokens
from sentenc.errors import MissingExtraError

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise MissingExtraError("train", "torch", "fine-tuning an encoder") from error

from sentenc.nn.cse import CSEModule
from sentenc.nn.seeding import seeded
from sentenc.training.students.base import Student
from sentenc.training.students.bert import BertStudent

Init = Literal["pretrained", "random"]

# Weights that have a row for each token.
_TOKEN_ROWS = (*ROWS, "token_weights")
_WORD_PATH = ("embeddings", "token_weights", "projection", "bias", "average")


class TrainableEncoder(Student):
    """A student that starts from an encoder and is turned back into an encoder of the same kind."""

    @abstractmethod
    def finished(self) -> Encoder:
        """Returns an encoder of the original kind, with the current weights."""


class TrainableCSE(TrainableEncoder):
    """A CSE of which only the rows of tokens in given texts are trained, together with all other weights.

    The rows of other tokens would have neither gradient nor penalty. Leaving them out only saves time.

    Args:
        encoder: The encoder to start from; not modified.
        texts: All texts of the training.
        init: "random" starts from random weights of the same shapes.
        generator: Source of the random weights.
        dropout: Share of the elements of token embeddings that are dropped in training.
        word_dropout: Share of the tokens that are dropped in training.
    """

    def __init__(
        self,
        encoder: CSE,
        texts: Sequence[str],
        *,
        init: Init = "pretrained",
        generator: torch.Generator | None = None,
        dropout: float = 0.0,
        word_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self._source = encoder
        config = encoder.config
        self._is_random = init == "random"
        if self._is_random:
            whole = CSEModule(config, generator)
            self._weights = {name: whole[name].detach().numpy() for name in config.shapes()}
        else:
            self._weights = {name: encoder.weight(name) for name in config.shapes()}
        # Token 0 is included because a vocabulary must not be empty.
        self._used = np.unique(np.append(self._token_ids(texts)[0], 0))
        used_config = replace(config, vocab_size=len(self._used))
        self.module = CSEModule(used_config, torch.Generator(), dropout=dropout, word_dropout=word_dropout)
        with torch.no_grad():
            for name in config.shapes():
                weight = self._weights[name]
                rows = weight[self._used] if name in _TOKEN_ROWS else weight
                self.module[name].copy_(torch.from_numpy(np.ascontiguousarray(rows)))

    @property
    def dim(self) -> int:
        """Number of components of a vector."""
        return self._source.dim

    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Returns padded ids (B, L) int64 among the trained rows, and token counts (B,) int64.

        Tokens that occur in no training text are left out.
        """
        ids, ends = self._token_ids(texts)
        rows = np.searchsorted(self._used, ids)
        is_known = rows < len(self._used)
        is_known[is_known] = self._used[rows[is_known]] == ids[is_known]
        counts = np.append(0, np.cumsum(is_known))[ends]
        lengths = np.diff(counts, prepend=0)
        table = np.zeros((len(texts), max(1, int(lengths.max(initial=0)))), np.int64)
        table[np.arange(table.shape[1]) < lengths[:, None]] = rows[is_known]
        return torch.from_numpy(table), torch.from_numpy(lengths)

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Returns vectors (B, dim) for the output of :meth:`tokenize`."""
        vectors: Tensor = self.module(ids, lengths)
        return vectors

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Returns the groups ``"embeddings"`` (the word path) and, if there are n-grams, ``"ngrams"``."""
        groups: dict[str, list[nn.Parameter]] = {"embeddings": []}
        for name, parameter in self.module.weights.items():
            groups.setdefault("embeddings" if name in _WORD_PATH else "ngrams", []).append(parameter)
        return groups

    def finished(self) -> CSE:
        """Returns the whole encoder with int8 rows and float16 weights, as shipped models are stored.

        If the original encoder stores int8 rows, those of other tokens keep their exact values.
        """
        source = self._source
        weights: dict[str, npt.NDArray[Any]] = {}
        for name in source.config.shapes():
            value = self.module[name].detach().float().cpu().numpy()
            if name in ROWS:
                rows, scales = self._quantized(name)
                rows[self._used], scales[self._used] = quantized_rows(value)
                weights[name], weights[f"{name}.scale"] = rows, scales
            elif name == "token_weights":
                weights[name] = self._weights[name].astype(np.float16)
                weights[name][self._used] = value
            else:
                weights[name] = value.astype(np.float16)
        return CSE(source.config, weights, source.tokenizer, tables=source.tables, threads=source.threads)

    def _quantized(self, name: str) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
        # Quantizing the dequantized rows again would change the last bit of some scales.
        stored = self._source._weights
        if not self._is_random and stored[name].dtype == np.int8:
            return stored[name].copy(), stored[f"{name}.scale"].astype(np.float32)
        return quantized_rows(self._weights[name])

    def _token_ids(self, texts: Sequence[str]) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        # The ids of all texts in one array, and where each text ends.
        if not texts:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        ids, ends, _ = self._source.tokenizer.encode(list(texts), self._source.config.max_tokens)
        return np.asarray(ids, np.int64), np.asarray(ends, np.int64)


class TrainableBert(BertStudent, TrainableEncoder):
    """A copy of the BERT of an encoder with mean or cls pooling.

    Args:
        encoder: The encoder to start from; not modified.
        init: "random" starts from random weights of the same shape.
        seed: Seed of the random weights.

    Raises:
        ValueError: The encoder is not a BERT, or has another pooling.
    """

    def __init__(self, encoder: Encoder, *, init: Init = "pretrained", seed: int = 0) -> None:
        source, pooling = _pooled(encoder)
        model, tokenizer = source.torch_model()
        if init == "random":
            with seeded(seed):
                model = type(model)(model.config)
        else:
            model = copy.deepcopy(model)
        # A wrapped model may have fewer positions than the maximum length that it states.
        max_tokens = min(source.max_tokens, int(model.config.max_position_embeddings))
        model = model.float().requires_grad_(True)
        super().__init__(model, tokenizer, max_tokens=max_tokens, normalize=source.normalize, pooling=pooling)
        self._source = encoder
        self._special_ids = np.array(sorted(tokenizer.all_special_ids), np.int64)

    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Returns padded ids (B, L) int64 with special tokens, and token counts (B,) int64.

        A text without known tokens has a count of 0, so that its vector is zero, as with every encoder.
        """
        ids, lengths = super().tokenize(texts)
        for row, length in enumerate(lengths.tolist()):
            if not has_known_tokens(ids[row, :length].numpy(), self._special_ids):
                lengths[row] = 0
        return ids, lengths

    def finished(self, output_map: Tensor | None = None, rotate_on: list[str] | None = None) -> Encoder:
        """Returns a :class:`~sentenc.BertEncoder` if the original is one, else the torch model on the CPU.

        Both write folders that sentence-transformers reads, too. An output map or a rotation requires the
        torch model.
        """
        if isinstance(self._source, BertEncoder) and output_map is None and rotate_on is None:
            return self._source.with_torch_weights(self.module.model)
        self.to("cpu")
        return super().finished(output_map, rotate_on)


def make_trainable(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    init: Init = "pretrained",
    rng: np.random.Generator,
    dropout: float = 0.0,
    word_dropout: float = 0.0,
) -> TrainableEncoder:
    """Returns a student that starts from an encoder.

    Args:
        encoder: A CSE, or a BERT with mean or cls pooling; not modified.
        texts: All texts of the training.
        init: "random" starts from random weights of the same shape.
        rng: Source of the random weights.
        dropout: Share of the elements of token embeddings that are dropped in training. CSE only: a BERT has
            its own.
        word_dropout: Share of the tokens that are dropped in training. CSE only.

    Raises:
        ValueError: Encoders of this kind cannot be fine-tuned.
    """
    seed = int(rng.integers(2**31))
    if isinstance(encoder, CSE):
        generator = torch.Generator().manual_seed(seed)
        return TrainableCSE(
            encoder, texts, init=init, generator=generator, dropout=dropout, word_dropout=word_dropout
        )
    if isinstance(encoder, StaticEncoder):
        raise ValueError(
            "a static model cannot be fine-tuned, expected a CSE or a BERT: use sentenc.convert first"
        )
    return TrainableBert(encoder, init=init, seed=seed)


def random_encoder(encoder: Encoder, rng: np.random.Generator) -> Encoder:
    """Returns an encoder with the shape and the tokenizer of another one, and with random weights."""
    return make_trainable(encoder, [], init="random", rng=rng).finished()


def _pooled(encoder: Encoder) -> tuple[TransformerEncoder, Pooling]:
    if not isinstance(encoder, TransformerEncoder):
        raise ValueError(
            f"{type(encoder).__name__} cannot be fine-tuned, expected a CSE or a BERT with mean or cls pooling"
        )
    try:
        return encoder, encoder.pooling()
    except ValueError as error:
        raise ValueError(f"{type(encoder).__name__} cannot be fine-tuned: {error}") from error
