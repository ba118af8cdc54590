"""A BERT student, and the encoder made from it."""

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sentenc.encoders.base import Encoder
from sentenc.encoders.bert.config import Pooling
from sentenc.encoders.bert.writing import write_metadata, write_modules
from sentenc.encoders.fingerprints import digest, prompted_fingerprint
from sentenc.encoders.transformer import TransformerEncoder, has_known_tokens, single_token_batch
from sentenc.errors import CheckpointError
from sentenc.io.atomic import replacing_folder
from sentenc.nn.bert import BertSentenceModule
from sentenc.nn.bert_states import BertStates
from sentenc.texts import as_text_list, replace_lone_surrogates
from sentenc.training.data.examples import TextRole
from sentenc.training.students.base import EncoderStudent, TransformerStudent
from sentenc.training.students.cse_rotation import map_root, principal_rotation

# Single tokens that go through the model together.
_TOKENS_PER_BATCH = 256


class BertStudent(EncoderStudent, TransformerStudent):
    """A transformer of the ``transformers`` library to train, with its fast tokenizer and a pooling.

    Args:
        model: A ``BertModel`` or a similar model. Its own configuration sets the dropout of training.
        tokenizer: A ``PreTrainedTokenizerFast`` that puts special tokens around a text.
        max_tokens: Longer texts are cut to this number of tokens, special tokens included.
        normalize: Scale the vectors to unit length.
        query_prompt: Text before texts of the role "query".
        pooling: ``"mean"`` of all last hidden states, or ``"cls"``, the one of the first token.

    Raises:
        ValueError: ``max_tokens`` exceeds the model's positions, or the tokenizer has more ids than the
            model.
    """

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Any,
        *,
        max_tokens: int = 128,
        normalize: bool = False,
        query_prompt: str = "",
        pooling: Pooling = "mean",
    ) -> None:
        super().__init__()
        check_tokenizer_fits(model, tokenizer, max_tokens, min_tokens=3)
        self.module = BertSentenceModule(model, normalize=normalize, pooling=pooling)
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens
        self.query_prompt = query_prompt

    def prompt(self, role: TextRole) -> str:
        """Returns the text that is put before texts of a role: ``query_prompt`` before queries."""
        return self.query_prompt if role == "query" else ""

    @property
    def dim(self) -> int:
        """Number of components of a vector: the hidden size."""
        return self.module.dim

    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Returns padded token ids (B, L) int64 with special tokens, and token counts (B,) int64."""
        return pad_ids([_cut(ids, self.max_tokens) for ids in _token_ids(self.tokenizer, texts)])

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Returns sentence vectors (B, dim)."""
        vectors: Tensor = self.module(ids, lengths)
        return vectors

    def states(self, ids: Tensor, lengths: Tensor) -> BertStates:
        """Returns embeddings, hidden states and attention scores of every layer, and the sentence vectors."""
        return self.module.states(ids, lengths)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Returns all parameters as the group ``"all"``."""
        return {"all": list(self.parameters())}

    def encoder(
        self, output_map: Tensor | None = None, rotate_on: list[str] | None = None
    ) -> "TorchBertEncoder":
        """Returns an encoder with a copy of the current weights.

        Args:
            output_map: A linear map M (dim, t). The encoder multiplies its vectors by (M M^T)^(1/2).
            rotate_on: Texts whose principal axes become the axes of the output.

        Raises:
            ValueError: ``output_map`` has another shape.
        """
        if output_map is not None and len(output_map) != self.dim:
            raise ValueError(f"output_map has shape {tuple(output_map.shape)}, expected ({self.dim}, t)")
        linear = None if output_map is None else map_root(output_map.detach().double().cpu().numpy())
        module = copy.deepcopy(self.module).eval()
        metadata = {"prompts": {"query": self.query_prompt}} if self.query_prompt else {}
        encoder = TorchBertEncoder(module, self.tokenizer, self.max_tokens, linear, metadata)
        if rotate_on:
            rotation = principal_rotation(encoder.encode(rotate_on, on_overflow="ignore"))
            linear = rotation if linear is None else linear @ rotation
            encoder = TorchBertEncoder(module, self.tokenizer, self.max_tokens, linear, metadata)
        return encoder

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        output_map: Tensor | None = None,
        rotate_on: list[str] | None = None,
        encoder: Encoder | None = None,
        metadata: dict[str, Any] | None = None,
        card: str | None = None,
    ) -> None:
        """Writes a Hugging Face model folder that sentence-transformers and :func:`sentenc.load` read too.

        ``metadata`` is written to ``metadata.json``, with the student's prompts.
        """
        finished = encoder if isinstance(encoder, TorchBertEncoder) else self.encoder(output_map, rotate_on)
        finished.save(folder, metadata=finished.metadata | (metadata or {}), card=card)


class TorchBertEncoder(TransformerEncoder):
    """An encoder that computes with a trained :class:`BertSentenceModule` in PyTorch.

    Args:
        module: The module, in evaluation mode.
        tokenizer: Its fast tokenizer.
        max_tokens: Longer texts are cut to this number of tokens, special tokens included.
        linear: A matrix (dim, dim) that multiplies the pooled vectors, or None.
        metadata: Name, sources and scores, and ``prompts`` and ``space`` if there are any.
    """

    def __init__(
        self,
        module: BertSentenceModule,
        tokenizer: Any,
        max_tokens: int,
        linear: npt.NDArray[np.floating] | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.module, self.tokenizer, self._max_tokens = module, tokenizer, max_tokens
        self.metadata: dict[str, Any] = metadata or {}
        self.linear = None if linear is None else np.asarray(linear, np.float32)
        self._special_ids = np.array(sorted(tokenizer.all_special_ids), np.int64)

    @property
    def dim(self) -> int:
        """Number of components of a vector."""
        return self.module.dim

    @property
    def max_tokens(self) -> int:
        """Number of tokens of a text that are used, special tokens included."""
        return self._max_tokens

    def count_tokens(self, texts: Any) -> npt.NDArray[np.int64]:
        """Counts the tokens of each text before any cut, special tokens included: (n,) int64."""
        items = [texts] if isinstance(texts, str) else as_text_list(texts)
        return np.array([len(ids) for ids in _token_ids(self.tokenizer, items)], np.int64)

    @property
    def vocabulary(self) -> dict[str, int]:
        """The id of every token."""
        vocabulary: dict[str, int] = self.tokenizer.get_vocab()
        return vocabulary

    @property
    def normalize(self) -> bool:
        """Whether the vectors are scaled to unit length after pooling."""
        return self.module.normalize

    def token_embeddings(self) -> npt.NDArray[np.float32]:
        """Returns the input embeddings of V tokens, by id: shape (V, d), float32."""
        model: Any = self.module.model
        table: npt.NDArray[np.float32] = model.get_input_embeddings().weight.detach().float().cpu().numpy()
        return table

    def encode_tokens(self, ids: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Encodes n single tokens, each between the special tokens: shape (n, dim), float32."""
        tokens = torch.from_numpy(single_token_batch(self.tokenizer, ids))
        out = np.empty((len(tokens), self.dim), np.float32)
        for start in range(0, len(tokens), _TOKENS_PER_BATCH):
            batch = tokens[start : start + _TOKENS_PER_BATCH]
            out[start : start + len(batch)] = self._pooled(batch, torch.full((len(batch),), batch.shape[1]))
        return out if self.linear is None else out @ self.linear

    def torch_model(self) -> tuple[Any, Any]:
        """Returns the encoder's own transformer, not a copy, and its tokenizer."""
        return self.module.model, self.tokenizer

    def pooling(self) -> Pooling:
        """Returns the pooling, or raises ``ValueError`` if a linear map follows it."""
        if self.linear is not None:
            raise ValueError("the BERT has a linear map after pooling, expected pooling alone")
        return self.module.pooling

    def fingerprint(self) -> str:
        """Returns a short hash of weights, tokenizer, settings and prompts."""
        return prompted_fingerprint(self._unprompted_fingerprint(), self.prompts)

    def _unprompted_fingerprint(self) -> str:
        settings = f"{self._max_tokens} {self.module.normalize}"
        settings += "" if self.module.pooling == "mean" else f" {self.module.pooling}"
        linear = b"" if self.linear is None else self.linear.tobytes()
        return weights_fingerprint(settings, self.tokenizer, self.module, linear)

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        metadata: dict[str, Any] | None = None,
        card: str | None = None,
    ) -> None:
        """Writes a Hugging Face model folder with the modules of sentence-transformers, atomically.

        Args:
            folder: The folder to write or to replace.
            metadata: The content of ``metadata.json``, by default the encoder's own metadata.
            card: The model card, Markdown.
        """
        metadata = self.metadata if metadata is None else metadata
        with replacing_folder(Path(folder), "modules.json", CheckpointError, "a model folder") as staging:
            model: Any = self.module.model
            model.save_pretrained(staging)
            self.tokenizer.save_pretrained(staging)
            linear = None if self.linear is None else self.linear.T
            write_modules(
                staging, self.dim, self._max_tokens, self.module.normalize, linear, self.module.pooling
            )
            write_metadata(staging, metadata)
            if card is not None:
                (staging / "README.md").write_text(card, encoding="utf-8")

    def _encode_block(
        self, texts: list[str], batch_size: int, out: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        ids = _token_ids(self.tokenizer, texts)
        counts = np.array([len(text_ids) for text_ids in ids], np.int64)
        order = np.argsort(counts, kind="stable")
        for start in range(0, len(order), batch_size):
            indices = order[start : start + batch_size]
            batch, lengths = pad_ids([_cut(ids[index], self._max_tokens) for index in indices])
            out[indices] = self._pooled(batch, lengths)
        if self.linear is not None:
            out[...] = out @ self.linear
        for index, text_ids in enumerate(ids):
            # A text without known tokens has the zero vector, as with every encoder.
            if not has_known_tokens(text_ids, self._special_ids):
                out[index] = 0.0
        return counts

    def _pooled(self, ids: Tensor, lengths: Tensor) -> npt.NDArray[np.float32]:
        device = next(self.module.parameters()).device
        with torch.inference_mode():
            vectors: npt.NDArray[np.float32] = (
                self.module(ids.to(device), lengths.to(device)).float().cpu().numpy()
            )
        return vectors


def _token_ids(tokenizer: Any, texts: list[str]) -> list[list[int]]:
    if not texts:
        return []
    clean = [replace_lone_surrogates(text) for text in texts]
    # verbose=False: Encoder warns about long texts itself.
    ids: list[list[int]] = tokenizer(clean, truncation=False, padding=False, verbose=False)["input_ids"]
    return ids


def _cut(ids: list[int], max_tokens: int) -> list[int]:
    # Keeps the special token at the end.
    return ids if len(ids) <= max_tokens else ids[: max_tokens - 1] + ids[-1:]


def check_tokenizer_fits(model: nn.Module, tokenizer: Any, max_tokens: int, *, min_tokens: int) -> None:
    """Checks that a model has embeddings for all ids of a tokenizer and positions for all tokens of a text.

    Args:
        model: A model of the ``transformers`` library.
        tokenizer: Its fast tokenizer.
        max_tokens: Maximum number of tokens of a text.
        min_tokens: The smallest value that ``max_tokens`` can have.

    Raises:
        ValueError: There are too few embeddings or positions, or ``max_tokens`` is too small.
    """
    config: Any = model.config
    # The positions of RoBERTa and MPNet begin after that of the padding.
    embeddings = getattr(getattr(model, "base_model", model), "embeddings", None)
    padding = getattr(getattr(embeddings, "position_embeddings", None), "padding_idx", None)
    positions = int(config.max_position_embeddings) - (0 if padding is None else padding + 1)
    if not min_tokens <= max_tokens <= positions:
        raise ValueError(
            f"max_tokens is {max_tokens}, expected {min_tokens} to {positions}, the model's positions"
        )
    if len(tokenizer) > config.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} ids, expected at most the model's {config.vocab_size}"
        )


def weights_fingerprint(settings: str, tokenizer: Any, module: nn.Module, *extra: bytes) -> str:
    """Returns a short hash of settings, fast tokenizer, extra bytes and all weights of a module."""
    parts = [settings.encode(), tokenizer.backend_tokenizer.to_str().encode(), *extra]
    for name, value in sorted(module.state_dict().items()):
        parts += [name.encode(), np.ascontiguousarray(value.float().cpu().numpy()).tobytes()]
    return digest(parts)


def pad_ids(texts: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Pads the token ids of B texts with zeros: (B, L) int64, L at least 1, and token counts (B,) int64."""
    lengths = torch.tensor([len(ids) for ids in texts], dtype=torch.int64)
    padded = torch.zeros(len(texts), max([1, *map(len, texts)]), dtype=torch.int64)
    for row, ids in zip(padded, texts, strict=True):
        row[: len(ids)] = torch.tensor(ids, dtype=torch.int64)
    return padded, lengths
