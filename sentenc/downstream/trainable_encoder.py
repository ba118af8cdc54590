"""Encoders in the form that can be tuned: texts to vectors with gradients, and back to the form that encodes."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.encoders.bert.encoder import BertEncoder
from sentenc.encoders.cse.encoder import CSE
from sentenc.encoders.cse.tables import ROWS, quantized_rows
from sentenc.encoders.transformer import TransformerEncoder, has_known_tokens
from sentenc.errors import MissingExtraError

try:
    import torch
    from torch import Tensor, nn
except ImportError as error:
    raise MissingExtraError("train", "torch", "tuning an encoder") from error

from sentenc.nn.cse import CSEModule
from sentenc.nn.seeding import seeded

Init = Literal["pretrained", "random"]
Ids = npt.NDArray[np.int64]

_WORDS = ("embeddings", "token_weights", "projection", "average")


class TrainableEncoder(ABC):
    """An encoder being tuned.

    Attributes:
        module: What is trained: ids (B, L) and lengths (B,) to vectors (B, dim).
    """

    module: Any

    @abstractmethod
    def prepare(self, texts: Sequence[str]) -> list[Ids]:
        """The token ids of every text, cut to what the encoder takes."""

    @abstractmethod
    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Every trained parameter of the encoder once, by the group that is regularized alike."""

    @abstractmethod
    def finished(self) -> Encoder:
        """The encoder as it is now, in the form that encodes."""

    def vectors(self, ids: Sequence[Ids]) -> Tensor:
        """Vectors (B, dim) of texts that were prepared."""
        device = next(self.module.parameters()).device
        lengths = np.array([len(row) for row in ids], np.int64)
        table = np.zeros((len(ids), max(1, int(lengths.max(initial=0)))), np.int64)
        if lengths.any():
            table[np.arange(table.shape[1]) < lengths[:, None]] = np.concatenate(ids)
        found: Tensor = self.module(torch.from_numpy(table).to(device), torch.from_numpy(lengths).to(device))
        return found


class TrainableCSE(TrainableEncoder):
    """A CSE of which the rows of the tokens that occur in some texts are trained, and all that is no row.

    Other rows would get no gradient and no penalty: leaving them out changes nothing but the time.

    Args:
        encoder: Where it starts, and whose tokenizer it has.
        texts: All texts it will be trained on.
        init: "random" starts from random weights of the same shapes instead.
        generator: Source of those.
        dropout: Share of the elements of token embeddings dropped while training.
        word_dropout: Share of whole tokens dropped while training.
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
        self.encoder = encoder
        config = encoder.config
        self._random = init == "random"
        if self._random:
            whole = CSEModule(config, generator)
            self._weights = {name: whole[name].detach().numpy() for name in config.shapes()}
        else:
            self._weights = {name: encoder.weight(name) for name in config.shapes()}
        # A vocabulary of at least one token, for texts without any.
        self._used = np.unique(np.concatenate([*self._ids(texts), np.zeros(1, np.int64)]))
        self._config = replace(config, vocab_size=len(self._used))
        self.module = CSEModule(self._config, torch.Generator(), dropout=dropout, word_dropout=word_dropout)
        with torch.no_grad():
            for name in config.shapes():
                self.module[name].copy_(torch.from_numpy(np.ascontiguousarray(self._rows(name))))

    def prepare(self, texts: Sequence[str]) -> list[Ids]:
        """Numbers of the tokens among those that are trained; tokens of no training text are left out."""
        found = []
        for ids in self._ids(texts):
            places = np.searchsorted(self._used, ids)
            known = places < len(self._used)
            known[known] = self._used[places[known]] == ids[known]
            found.append(places[known])
        return found

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """``"embeddings"`` (what belongs to words) and, if there are n-grams, ``"ngrams"``."""
        found: dict[str, list[nn.Parameter]] = {"embeddings": []}
        for name, parameter in self.module.weights.items():
            found.setdefault("embeddings" if name in _WORDS else "ngrams", []).append(parameter)
        return found

    def finished(self) -> CSE:
        """The whole model with int8 rows and float16 weights, as it is shipped and saved.

        Rows of other tokens are, to the last bit, those that the encoder has stored, if it stores int8.
        """
        encoder = self.encoder
        weights: dict[str, npt.NDArray[Any]] = {}
        for name in encoder.config.shapes():
            value = self.module[name].detach().float().cpu().numpy()
            if name in ROWS:
                rows, scales = self._compressed_rows(name)
                rows[self._used], scales[self._used] = quantized_rows(value)
                weights[name], weights[f"{name}.scale"] = rows, scales
            elif name == "token_weights":
                weights[name] = self._weights[name].astype(np.float16)
                weights[name][self._used] = value
            else:
                weights[name] = value.astype(np.float16)
        return CSE(encoder.config, weights, encoder.tokenizer, tables=encoder.tables, threads=encoder.threads)

    def _compressed_rows(self, name: str) -> tuple[npt.NDArray[np.int8], npt.NDArray[np.float32]]:
        # To make them again from float32 would change some scales by a bit.
        stored = self.encoder._weights
        if not self._random and stored[name].dtype == np.int8:
            return stored[name].copy(), stored[f"{name}.scale"].astype(np.float32)
        return quantized_rows(self._weights[name])

    def _rows(self, name: str) -> npt.NDArray[np.float32]:
        weight = self._weights[name]
        return weight[self._used] if name in ROWS or name == "token_weights" else weight

    def _ids(self, texts: Sequence[str]) -> list[Ids]:
        if not texts:
            return []
        ids, ends, _ = self.encoder.tokenizer.encode(list(texts), self.encoder.config.max_tokens)
        return np.split(np.asarray(ids, np.int64), ends[:-1])


class TrainableBert(TrainableEncoder):
    """A BERT with mean pooling, and whether its vectors are of unit length.

    Args:
        encoder: A :class:`~sentenc.BertEncoder`, an :class:`~sentenc.SentenceTransformerEncoder` around such a model, or
            what training one gave.
        init: "random" starts from random weights of the same shape instead.
        seed: Of those.

    Raises:
        ValueError: The encoder is another kind of model, or pools otherwise.
    """

    def __init__(self, encoder: Encoder, *, init: Init = "pretrained", seed: int = 0) -> None:
        from sentenc.training.students.bert import BertStudent

        self._encoder = encoder
        encoder = _mean_pooled(encoder)
        model, tokenizer = encoder.torch_model()
        if init == "random":
            with seeded(seed):
                model = type(model)(model.config)
        else:
            model = copy.deepcopy(model)
        # The positions of a wrapped model may be fewer than the length that it states.
        max_tokens = min(encoder.max_tokens, int(model.config.max_position_embeddings))
        model = model.float().requires_grad_(True)
        self._student = BertStudent(model, tokenizer, max_tokens=max_tokens, normalize=encoder.normalize)
        self._special_ids = np.array(sorted(tokenizer.all_special_ids), np.int64)
        self.module = self._student

    def prepare(self, texts: Sequence[str]) -> list[Ids]:
        """Token ids with special tokens; none for a text without a known token, whose vector is zero everywhere."""
        if not texts:
            return []
        table, lengths = self._student.tokenize(list(texts))
        found = [row[:length].numpy() for row, length in zip(table, lengths.tolist(), strict=True)]
        return [row if has_known_tokens(row, self._special_ids) else row[:0] for row in found]

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """All parameters, under ``"all"``."""
        return self._student.groups()

    def finished(self) -> Encoder:
        """A TinyBERT if it was one, and else the model in torch, on the CPU.

        The ``save`` of either writes a folder that sentence-transformers takes too.
        """
        if isinstance(self._encoder, BertEncoder):
            return self._encoder.with_torch_weights(self._student.module.model)
        self._student.to("cpu")
        return self._student.encoder()


def tunable(
    encoder: Encoder,
    texts: Sequence[str],
    *,
    init: Init = "pretrained",
    rng: np.random.Generator,
    dropout: float = 0.0,
    word_dropout: float = 0.0,
) -> TrainableEncoder:
    """An encoder in the form that can be tuned.

    Args:
        encoder: A CSE, or a BERT with mean pooling.
        texts: What it will be tuned on.
        init: "random" starts from random weights of the same shape instead.
        rng: Source of those.
        dropout: Share of the elements of token embeddings dropped while training; a BERT has its own.
        word_dropout: Share of whole tokens dropped while training; CSE only.

    Raises:
        ValueError: The encoder is of a kind that cannot be tuned.
    """
    seed = int(rng.integers(2**31))
    if isinstance(encoder, CSE):
        generator = torch.Generator().manual_seed(seed)
        return TrainableCSE(
            encoder, texts, init=init, generator=generator, dropout=dropout, word_dropout=word_dropout
        )
    return TrainableBert(encoder, init=init, seed=seed)


def random_encoder(encoder: Encoder, rng: np.random.Generator) -> Encoder:
    """An encoder of the same shape and tokenizer with random weights."""
    return tunable(encoder, [], init="random", rng=rng).finished()


def _mean_pooled(encoder: Encoder) -> TransformerEncoder:
    wanted = "expected a CSE, or a BERT with mean pooling"
    if not isinstance(encoder, TransformerEncoder):
        raise ValueError(f"{type(encoder).__name__} cannot be tuned, {wanted}")
    try:
        encoder.check_mean_pooling()
    except ValueError as error:
        raise ValueError(f"{type(encoder).__name__} cannot be tuned: {error}") from error
    return encoder
