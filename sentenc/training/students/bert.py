"""A BERT with mean pooling as a student, and as an encoder made from one."""

import copy
import os
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sentenc.encoders.base import digest
from sentenc.encoders.bert.tokenizer_files import write_json
from sentenc.encoders.bert.writing import write_modules
from sentenc.encoders.transformer import TransformerEncoder, has_known_tokens, single_token_batch
from sentenc.errors import CheckpointError
from sentenc.io.atomic import replacing_folder
from sentenc.nn.bert import BertSentenceModule
from sentenc.nn.bert_states import BertStates
from sentenc.texts import as_text_list, replace_lone_surrogates
from sentenc.training.students.base import EncoderStudent, TransformerStudent
from sentenc.training.students.cse_rotation import map_root, principal_axes

# Single tokens that go through the model together.
_TOKENS_PER_BATCH = 256


class BertStudent(EncoderStudent, TransformerStudent):
    """A transformer of the ``transformers`` library to train, with its own fast tokenizer.

    Args:
        model: A ``BertModel`` or alike; its own dropout is what training uses.
        tokenizer: A ``PreTrainedTokenizerFast`` that puts special tokens around a text.
        max_tokens: Where a text is cut, special tokens included.
        normalize: Vectors of unit length.

    Raises:
        ValueError: ``max_tokens`` is not within the model's positions, or the vocabularies differ.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Any, *, max_tokens: int = 128, normalize: bool = False
    ) -> None:
        super().__init__()
        check_fit(model, tokenizer, max_tokens, 3)
        self.module = BertSentenceModule(model, normalize=normalize)
        self.tokenizer = tokenizer
        self.max_tokens = max_tokens

    @property
    def dim(self) -> int:
        """Length of the vectors: the hidden size."""
        return self.module.dim

    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Padded ids (B, L) int64 with special tokens, and tokens of each text (B,) int64."""
        return padded([_cut(ids, self.max_tokens) for ids in _token_ids(self.tokenizer, texts)])

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Sentence vectors (B, dim)."""
        vectors: Tensor = self.module(ids, lengths)
        return vectors

    def states(self, ids: Tensor, lengths: Tensor) -> BertStates:
        """Embeddings, hidden states and attention scores of every layer, and the sentence vectors."""
        return self.module.states(ids, lengths)

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """All parameters, under ``"all"``."""
        return {"all": list(self.parameters())}

    def encoder(
        self, output_map: Tensor | None = None, rotate_on: list[str] | None = None
    ) -> "TorchBertEncoder":
        """A copy of the student as it is now, in the form that encodes.

        Args:
            output_map: A linear map M (dim, t): vectors are multiplied by (M M^T)^(1/2).
            rotate_on: Texts on whose principal axes the output is turned.
        """
        if output_map is not None and len(output_map) != self.dim:
            raise ValueError(f"output_map has shape {tuple(output_map.shape)}, expected ({self.dim}, t)")
        turn = None if output_map is None else map_root(output_map.detach().double().cpu().numpy())
        module = copy.deepcopy(self.module).eval()
        found = TorchBertEncoder(module, self.tokenizer, self.max_tokens, turn)
        if rotate_on:
            axes = principal_axes(found.encode(rotate_on, on_overflow="ignore"))
            found = TorchBertEncoder(
                module, self.tokenizer, self.max_tokens, axes if turn is None else turn @ axes
            )
        return found

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        output_map: Tensor | None = None,
        rotate_on: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        card: str | None = None,
    ) -> None:
        """Writes a Hugging Face model folder that sentence-transformers and :func:`sentenc.load` take too.

        ``metadata`` goes to ``metadata.json``, ``card`` to ``README.md``.
        """
        self.encoder(output_map, rotate_on).save(folder, metadata=metadata, card=card)


class TorchBertEncoder(TransformerEncoder):
    """A trained :class:`BertSentenceModule` as an encoder.

    Args:
        module: In evaluation mode.
        tokenizer: Its fast tokenizer.
        max_tokens: Where a text is cut, special tokens included.
        turn: A matrix (dim, dim) after pooling, or None.
    """

    def __init__(
        self,
        module: BertSentenceModule,
        tokenizer: Any,
        max_tokens: int,
        turn: npt.NDArray[np.floating] | None = None,
    ) -> None:
        self.module, self.tokenizer, self._max_tokens = module, tokenizer, max_tokens
        self.turn = None if turn is None else np.asarray(turn, np.float32)
        self._special_ids = np.array(sorted(tokenizer.all_special_ids), np.int64)

    @property
    def dim(self) -> int:
        """Length of the vectors."""
        return self.module.dim

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that are used, special tokens included."""
        return self._max_tokens

    def count_tokens(self, texts: Any) -> npt.NDArray[np.int64]:
        """Counts tokens, special ones included: shape (n,), int64."""
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
        return out if self.turn is None else out @ self.turn

    def torch_model(self) -> tuple[Any, Any]:
        """Returns the encoder's own transformer, not a copy, and its tokenizer."""
        return self.module.model, self.tokenizer

    def check_mean_pooling(self) -> None:
        """Raises ``ValueError`` if there is a linear map after mean pooling."""
        if self.turn is not None:
            raise ValueError("the BERT has a linear map after pooling, expected mean pooling alone")

    def fingerprint(self) -> str:
        """A short hash of weights, tokenizer and settings."""
        settings = f"{self._max_tokens} {self.module.normalize}"
        turn = b"" if self.turn is None else self.turn.tobytes()
        return hashed(settings, self.tokenizer, self.module, turn)

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        metadata: dict[str, Any] | None = None,
        card: str | None = None,
    ) -> None:
        """Writes a Hugging Face folder with the modules of sentence-transformers beside it, all or nothing."""
        with replacing_folder(Path(folder), "modules.json", CheckpointError, "a model folder") as staging:
            model: Any = self.module.model
            model.save_pretrained(staging)
            self.tokenizer.save_pretrained(staging)
            turn = None if self.turn is None else self.turn.T
            write_modules(staging, self.dim, self._max_tokens, self.module.normalize, turn)
            if metadata is not None:
                write_json(staging / "metadata.json", metadata)
            if card is not None:
                (staging / "README.md").write_text(card, encoding="utf-8")

    def _encode_block(
        self, texts: list[str], batch_size: int, out: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        ids = _token_ids(self.tokenizer, texts)
        counts = np.array([len(row) for row in ids], np.int64)
        order = np.argsort(counts, kind="stable")
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            batch, lengths = padded([_cut(ids[row], self._max_tokens) for row in rows])
            out[rows] = self._pooled(batch, lengths)
        if self.turn is not None:
            out[...] = out @ self.turn
        for index, row in enumerate(ids):
            # A text without known tokens has the zero vector, as with every encoder.
            if not has_known_tokens(row, self._special_ids):
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
    # verbose=False: its own warning about length says less than ours.
    ids: list[list[int]] = tokenizer(clean, truncation=False, padding=False, verbose=False)["input_ids"]
    return ids


def _cut(ids: list[int], max_tokens: int) -> list[int]:
    # The special token at the end stays.
    return ids if len(ids) <= max_tokens else ids[: max_tokens - 1] + ids[-1:]


def check_fit(model: nn.Module, tokenizer: Any, max_tokens: int, least: int) -> None:
    """Raises ``ValueError`` unless a model has rows for all ids, and positions for ``max_tokens``, ``least`` or more."""
    config: Any = model.config
    positions = int(config.max_position_embeddings)
    if not least <= max_tokens <= positions:
        raise ValueError(
            f"max_tokens is {max_tokens}, expected {least} to {positions}, the model's positions"
        )
    if len(tokenizer) > config.vocab_size:
        raise ValueError(
            f"the tokenizer has {len(tokenizer)} ids, expected at most the model's {config.vocab_size}"
        )


def hashed(settings: str, tokenizer: Any, module: nn.Module, *more: bytes) -> str:
    """A short hash of settings, tokenizer and weights; ``more`` comes before the weights."""
    parts = [settings.encode(), tokenizer.backend_tokenizer.to_str().encode(), *more]
    for name, value in sorted(module.state_dict().items()):
        parts += [name.encode(), np.ascontiguousarray(value.float().cpu().numpy()).tobytes()]
    return digest(parts)


def padded(rows: list[list[int]]) -> tuple[Tensor, Tensor]:
    """Rows of ids as a table (B, L) int64, zeros behind them, L being 1 at least, and their lengths (B,) int64."""
    lengths = torch.tensor([len(row) for row in rows], dtype=torch.int64)
    table = torch.zeros(len(rows), max([1, *map(len, rows)]), dtype=torch.int64)
    for target, row in zip(table, rows, strict=True):
        target[: len(row)] = torch.tensor(row, dtype=torch.int64)
    return table, lengths
