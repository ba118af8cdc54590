"""A BERT classifier as a student: maps texts, or pairs of texts, to logits."""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sentenc.errors import CheckpointError
from sentenc.io.atomic import replacing_folder
from sentenc.nn.bert_states import BertStates, bert_states
from sentenc.texts import replace_lone_surrogates
from sentenc.training.data.labeled import SEPARATOR
from sentenc.training.students.base import TransformerStudent
from sentenc.training.students.bert import check_tokenizer_fits, pad_ids, weights_fingerprint

# A folder with this file may be replaced by another model.
MARKER = "task.json"
# Texts that are sorted by length together.
_TEXTS_PER_BLOCK = 2048


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Silences progress bars of transformers, and its warnings about new or unused layers."""
    from transformers.utils import logging

    before, bars = logging.get_verbosity(), logging.is_progress_bar_enabled()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(before)
        if bars:
            logging.enable_progress_bar()


class BertClassifierStudent(TransformerStudent):
    """A ``BertForSequenceClassification`` to train, with its own fast tokenizer.

    Its output vectors are logits (B, C). A pair is one string with a tab between its two texts. It becomes
    [CLS] a [SEP] b [SEP] with token types 0 and 1. A string without a tab has an empty second text.

    Args:
        model: The classifier. Its own configuration sets the dropout of training.
        tokenizer: A ``PreTrainedTokenizerFast`` with [CLS] and [SEP].
        pairs: Whether the texts are pairs.
        max_tokens: Longer texts are cut to this number of tokens, special tokens included. Of a pair, the
            longer text is cut first.

    Raises:
        TypeError: ``model`` is another kind of model.
        ValueError: ``max_tokens`` exceeds the model's positions, or the tokenizer does not fit the model.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Any, *, pairs: bool = False, max_tokens: int = 128
    ) -> None:
        from transformers import BertForSequenceClassification

        super().__init__()
        if not isinstance(model, BertForSequenceClassification):
            raise TypeError(f"model is {type(model).__name__}, expected BertForSequenceClassification")
        check_tokenizer_fits(model, tokenizer, max_tokens, min_tokens=5)
        if None in (tokenizer.cls_token_id, tokenizer.sep_token_id):
            raise ValueError("the tokenizer lacks [CLS] or [SEP], expected a tokenizer with both")
        self.module: Any = model
        if pairs:
            # Callers that run the BERT for its states pass no token types.
            self.bert.register_forward_pre_hook(_TokenTypes(tokenizer.sep_token_id), with_kwargs=True)
        self.tokenizer = tokenizer
        self.pairs = pairs
        self.max_tokens = max_tokens

    @property
    def bert(self) -> Any:
        """The ``BertModel`` of the classifier. For pairs it derives the token types from the ids."""
        return self.module.bert

    @property
    def dim(self) -> int:
        """Number of logits C."""
        return int(self.module.config.num_labels)

    def tokenize(self, texts: list[str]) -> tuple[Tensor, Tensor]:
        """Returns padded token ids (B, L) int64 with special tokens, and token counts (B,) int64."""
        return pad_ids([row for row, _ in self._token_ids(texts)])

    def inputs(self, ids: Tensor, lengths: Tensor) -> dict[str, Tensor]:
        """Returns the inputs of the ``BertModel`` for the output of :meth:`tokenize`, without token types.

        At least one token of each text is attended to.
        """
        mask = torch.arange(ids.shape[1], device=ids.device) < lengths.clamp(min=1)[:, None]
        return {"input_ids": ids.masked_fill(~mask, 0), "attention_mask": mask.long()}

    def forward(self, ids: Tensor, lengths: Tensor) -> Tensor:
        """Returns logits (B, C)."""
        logits: Tensor = self.module(**self.inputs(ids, lengths)).logits
        return logits

    def states(self, ids: Tensor, lengths: Tensor) -> BertStates:
        """Returns embeddings, hidden states and attention scores of every layer, without logits."""
        inputs = self.inputs(ids, lengths)
        return bert_states(self.bert, inputs, inputs["attention_mask"].bool())

    def groups(self) -> dict[str, list[nn.Parameter]]:
        """Returns the groups ``"bert"`` and ``"classifier"``."""
        return {"bert": list(self.bert.parameters()), "classifier": list(self.module.classifier.parameters())}

    def logits(self, texts: Sequence[str], *, batch_size: int = 64) -> npt.NDArray[np.float32]:
        """Computes logits without dropout and without gradients.

        Args:
            texts: n texts, or pairs with a tab between their two texts.
            batch_size: Number of texts that go through the model together.

        Returns:
            Logits (n, C), float32.
        """
        out = np.empty((len(texts), self.dim), np.float32)
        device = next(self.parameters()).device
        training = self.training
        self.eval()
        try:
            for start in range(0, len(texts), _TEXTS_PER_BLOCK):
                rows = [row for row, _ in self._token_ids(texts[start : start + _TEXTS_PER_BLOCK])]
                order = np.argsort([len(row) for row in rows], kind="stable")
                for first in range(0, len(order), batch_size):
                    chosen = order[first : first + batch_size]
                    ids, lengths = pad_ids([rows[row] for row in chosen])
                    with torch.inference_mode():
                        logits = self(ids.to(device), lengths.to(device)).float().cpu().numpy()
                    out[start + chosen] = logits
        finally:
            self.train(training)
        return out

    def count_tokens(self, texts: Sequence[str]) -> npt.NDArray[np.int64]:
        """Counts the tokens of n texts or pairs before any cut, special tokens included: (n,) int64."""
        return np.array([count for _, count in self._token_ids(texts)], np.int64)

    def fingerprint(self) -> str:
        """Returns a short hash of weights, tokenizer and settings."""
        return weights_fingerprint(f"{self.max_tokens} {self.pairs}", self.tokenizer, self.module)

    def save(
        self,
        folder: str | os.PathLike[str],
        *,
        metadata: dict[str, Any] | None = None,
        card: str | None = None,
        files: Mapping[str, str] | None = None,
    ) -> None:
        """Writes a Hugging Face folder with a sequence classifier, atomically.

        Args:
            folder: The model folder. A model of this kind that is there is replaced.
            metadata: JSON values, stored in ``task.json``.
            card: Content of ``README.md``.
            files: Content of other text files, by name.

        Raises:
            CheckpointError: The folder contains something else.
        """
        with replacing_folder(Path(folder), MARKER, CheckpointError, "a folder of a task's model") as staging:
            with quiet_transformers():
                self.module.save_pretrained(staging)
            self.tokenizer.save_pretrained(staging)
            values = {"pairs": self.pairs, "max_tokens": self.max_tokens} | (metadata or {})
            (staging / MARKER).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
            for name, text in {"README.md": card, **(files or {})}.items():
                if text is not None:
                    (staging / name).write_text(text, encoding="utf-8")

    def _token_ids(self, texts: Sequence[str]) -> list[tuple[list[int], int]]:
        # The ids of each text, cut, and its number of tokens before the cut.
        if not texts:
            return []
        clean = [replace_lone_surrogates(text) for text in texts]
        parts = [text.partition(SEPARATOR)[::2] if self.pairs else (text,) for text in clean]
        flat = [part for group in parts for part in group]
        coded = self.tokenizer(flat, add_special_tokens=False, truncation=False, verbose=False)["input_ids"]
        width = 2 if self.pairs else 1
        start, end = self.tokenizer.cls_token_id, self.tokenizer.sep_token_id
        rows = []
        for place in range(0, len(coded), width):
            group = coded[place : place + width]
            lengths = [len(ids) for ids in group]
            kept = cut_lengths(lengths, self.max_tokens - width - 1)
            row = [start]
            for ids, count in zip(group, kept, strict=True):
                row += [*ids[:count], end]
            rows.append((row, sum(lengths) + width + 1))
        return rows


class _TokenTypes:
    # A hook that adds the token types of a pair: 1 after the first [SEP].

    def __init__(self, end: int) -> None:
        self.end = end

    def __call__(self, _module: nn.Module, arguments: Any, named: dict[str, Any]) -> Any:
        # The classifier passes the ids as a positional argument.
        ids = arguments[0] if arguments else named.get("input_ids")
        if ids is None or named.get("token_type_ids") is not None:
            return arguments, named
        ends = (ids == self.end).long()
        types = ((ends.cumsum(1) - ends) > 0).long()
        mask = named.get("attention_mask")
        return arguments, named | {"token_type_ids": types if mask is None else types * mask}


def cut_lengths(lengths: list[int], max_tokens: int) -> list[int]:
    """Returns the number of tokens to keep of each text of a pair, or of a single text.

    The longer text loses one token at a time; of equally long texts, the second.

    Example:
        Cut to 10 tokens, [9, 4] becomes [6, 4], and [9, 8] becomes [5, 5].
    """
    if sum(lengths) <= max_tokens:
        return lengths
    if len(lengths) == 1:
        return [max_tokens]
    first, second = lengths
    half = max_tokens // 2
    if second <= half:
        return [max_tokens - second, second]
    return [first, max_tokens - first] if first <= max_tokens - half else [max_tokens - half, half]
