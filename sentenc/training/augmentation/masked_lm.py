"""Predicts words for masked words of texts with a masked language model (Devlin et al., NAACL 2019)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sentenc.errors import MissingExtraError, ModelNotFoundError
from sentenc.texts import replace_lone_surrogates
from sentenc.validation import check_integer

# The marks of tokens that begin a word (byte-level BPE, SentencePiece), and of WordPiece tokens that do not.
_BEGIN_MARKS = ("Ġ", "▁")
_CONTINUATION_MARK = "##"


class WordSpan(NamedTuple):
    """A word in a text: the index of the text, and the span of the word's characters."""

    text: int
    start: int
    end: int


class _MaskedInput(NamedTuple):
    # The number of the span, the token ids with a mask, the position of the mask, and the word.
    number: int
    ids: list[int]
    mask_position: int
    word: str


class MaskedLanguageModel:
    """A masked language model that proposes replacements for words of texts.

    Args:
        model: A model of ``transformers`` with a masked language modeling head. It is put into evaluation
            mode.
        tokenizer: The model's fast tokenizer.
        batch_size: The number of words that go through the model together.
        max_tokens: The length of the input. Of a longer text, the model sees a window around the word.

    Raises:
        TypeError: A number is not an integer.
        ValueError: The tokenizer has no mask token, no token of its vocabulary is a word, or a number is out
            of range.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Any, *, batch_size: int = 64, max_tokens: int = 128
    ) -> None:
        if tokenizer.mask_token_id is None:
            raise ValueError(
                "the tokenizer has no mask token, expected the tokenizer of a masked language model"
            )
        self.model, self.tokenizer = model.eval(), tokenizer
        self.batch_size = check_integer("batch_size", batch_size)
        check_integer("max_tokens", max_tokens, at_least=3)
        config: Any = model.config
        self.max_tokens = min(max_tokens, int(getattr(config, "max_position_embeddings", max_tokens)))
        self.words = _words(tokenizer)
        if not self.words:
            raise ValueError(
                f"none of the {len(tokenizer)} tokens is a word of letters, expected at least one"
            )
        self._word_ids = torch.tensor(sorted(self.words), dtype=torch.int64)
        self._prefix, self._suffix = _special_tokens(tokenizer)

    @classmethod
    def from_folder(cls, model: str, **options: Any) -> "MaskedLanguageModel":
        """Loads a model from a folder, or by its Hub id from the local cache of the Hub.

        Args:
            model: The folder or the id.
            options: ``batch_size`` and ``max_tokens``.

        Raises:
            MissingExtraError: transformers is not installed.
            ModelNotFoundError: There is no such model.
        """
        try:
            from transformers import AutoModelForMaskedLM, AutoTokenizer
        except ImportError as error:
            raise MissingExtraError("train", "transformers", "a masked language model") from error
        try:
            loaded = AutoModelForMaskedLM.from_pretrained(model, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ModelNotFoundError(f"{model} is not a masked language model: {error}") from error
        return cls(loaded, tokenizer, **options)

    def candidates(
        self, texts: Sequence[str], spans: Sequence[WordSpan], count: int
    ) -> list[list[str] | None]:
        """Returns the ``count`` most probable other words for each span, the most probable first.

        Each word is masked in turn; the model sees it only where the text repeats it.

        Args:
            texts: The texts.
            spans: Words of the texts.
            count: The number of words; fewer are returned if the vocabulary has no more.

        Returns:
            A list of words for each span, or None if the word is not a single known token.
        """
        words: list[list[str] | None] = [None] * len(spans)
        needed = list(dict.fromkeys(span.text for span in spans))
        tokenized = dict(zip(needed, self._tokenize([texts[number] for number in needed]), strict=True))
        inputs = []
        for number, span in enumerate(spans):
            ids, positions = tokenized[span.text]
            position = positions.get((span.start, span.end))
            if position is not None:
                word = texts[span.text][span.start : span.end]
                inputs.append(_MaskedInput(number, *self._mask(ids, position), word))
        # Inputs of similar length share a batch, because padding takes time.
        inputs.sort(key=lambda item: len(item.ids))
        for start in range(0, len(inputs), self.batch_size):
            batch = inputs[start : start + self.batch_size]
            for item, predicted in zip(batch, self._most_probable(batch, count), strict=True):
                words[item.number] = predicted
        return words

    def _tokenize(self, texts: list[str]) -> list[tuple[list[int], dict[tuple[int, int], int]]]:
        # Returns for each text its ids without special tokens, and the positions of the known tokens by their
        # spans of characters.
        if not texts:
            return []
        clean = [replace_lone_surrogates(text) for text in texts]
        encoded = self.tokenizer(
            clean, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False
        )
        tokenized = []
        for text, ids, offsets in zip(clean, encoded["input_ids"], encoded["offset_mapping"], strict=True):
            positions = {}
            for position, (start, end) in enumerate(offsets):
                # A byte-level token includes the space before the word.
                start += len(text[start:end]) - len(text[start:end].lstrip(" "))
                if ids[position] != self.tokenizer.unk_token_id:
                    positions[start, end] = position
            tokenized.append((ids, positions))
        return tokenized

    def _mask(self, ids: list[int], position: int) -> tuple[list[int], int]:
        # Returns the input with the mask, between special tokens, and the position of the mask.
        size = self.max_tokens - len(self._prefix) - len(self._suffix)
        first = max(0, min(position - size // 2, len(ids) - size))
        window = ids[first : first + size]
        window[position - first] = self.tokenizer.mask_token_id
        return [*self._prefix, *window, *self._suffix], len(self._prefix) + position - first

    @torch.inference_mode()
    def _most_probable(self, batch: Sequence[_MaskedInput], count: int) -> list[list[str]]:
        longest = max(len(item.ids) for item in batch)
        table = torch.full((len(batch), longest), self.tokenizer.pad_token_id or 0)
        mask = torch.zeros(len(batch), longest, dtype=torch.int64)
        for row, mask_row, item in zip(table, mask, batch, strict=True):
            row[: len(item.ids)] = torch.tensor(item.ids)
            mask_row[: len(item.ids)] = 1
        positions = torch.tensor([item.mask_position for item in batch])
        logits = self._logits(table, mask, positions)[:, self._word_ids.to(self._device)]
        # More than ``count``, because the word itself and spellings that differ only in case are removed.
        top = logits.topk(min(2 * count + 2, len(self._word_ids)), dim=1).indices.cpu()
        words = []
        for item, best in zip(batch, self._word_ids[top].tolist(), strict=True):
            distinct = {item.word.lower(): ""}
            for index in best:
                distinct.setdefault(self.words[index].lower(), self.words[index])
            words.append(list(distinct.values())[1 : count + 1])
        return words

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _logits(self, ids: Tensor, mask: Tensor, positions: Tensor) -> Tensor:
        # Returns the logits (B, V) at one position of each row. The head takes most of the time and computes
        # each position on its own: it gets only the state of that position.
        rows = torch.arange(len(ids), device=self._device)

        def select_position(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            states = output["last_hidden_state"]
            output["last_hidden_state"] = states[rows, positions.to(self._device)][:, None]
            return output

        base: Any = self.model.base_model
        handle = base.register_forward_hook(select_position)
        try:
            output = self.model(
                input_ids=ids.to(self._device), attention_mask=mask.to(self._device), return_dict=True
            )
        finally:
            handle.remove()
        logits: Tensor = output.logits[:, 0]
        return logits


def _special_tokens(tokenizer: Any) -> tuple[list[int], list[int]]:
    # The special tokens before and after a text.
    with_special, without = (tokenizer("a", add_special_tokens=add)["input_ids"] for add in (True, False))
    start = next(i for i in range(len(with_special)) if with_special[i : i + len(without)] == without)
    return with_special[:start], with_special[start + len(without) :]


def _words(tokenizer: Any) -> dict[int, str]:
    # The words of letters among the tokens, by their ids.
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    special = set(tokenizer.all_special_ids)
    begin_mark = next(
        (mark for mark in _BEGIN_MARKS if sum(token.startswith(mark) for token in vocabulary) > 1), ""
    )
    words = {}
    for token, index in vocabulary.items():
        if index in special or token.startswith(_CONTINUATION_MARK) or not token.startswith(begin_mark):
            continue
        word = token.removeprefix(begin_mark)
        # A single letter is rarely a plausible word.
        if len(word) > 1 and word.isalpha():
            words[index] = word
    return words
