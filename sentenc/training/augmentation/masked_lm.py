"""The words that a masked language model expects in place of a word (Devlin et al., NAACL 2019)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sentenc.texts import replace_lone_surrogates

# How vocabularies mark a piece that begins a word (byte-level BPE, SentencePiece), or one that does not.
_BEGINNINGS = ("Ġ", "▁")
_CONTINUATION = "##"
# What a byte-level piece leaves out of a word's span: the space before it.
_SPACE = " "


class Place(NamedTuple):
    """A word in a text: number of the text, and the span of the word's characters."""

    text: int
    start: int
    end: int


class MaskedLanguageModel:
    """A masked language model that proposes words for places in texts.

    The word at the place is masked, and stands nowhere else in the input unless the text repeats it.

    Args:
        model: Of ``transformers``, with a head for masked tokens; it is put in evaluation mode.
        tokenizer: Its fast tokenizer.
        batch_size: Places that go through the model together.
        max_tokens: A longer text is seen through a window of so many tokens about the place.

    Raises:
        ValueError: The tokenizer has no mask, or no piece of its vocabulary is a word.
    """

    def __init__(
        self, model: nn.Module, tokenizer: Any, *, batch_size: int = 64, max_tokens: int = 128
    ) -> None:
        if tokenizer.mask_token_id is None:
            raise ValueError("the tokenizer has no mask token, expected that of a masked language model")
        for name, value, least in (("batch_size", batch_size, 1), ("max_tokens", max_tokens, 3)):
            if value < least:
                raise ValueError(f"{name} is {value}, expected at least {least}")
        self.model, self.tokenizer = model.eval(), tokenizer
        self.batch_size = batch_size
        config: Any = model.config
        self.max_tokens = min(max_tokens, int(getattr(config, "max_position_embeddings", max_tokens)))
        self.words = _words(tokenizer)
        if not self.words:
            raise ValueError(f"none of {len(tokenizer)} pieces is a word of letters, expected some")
        self._word_ids = torch.tensor(sorted(self.words), dtype=torch.int64)
        self._before, self._after = _around(tokenizer)

    @classmethod
    def from_folder(cls, model: str, **options: Any) -> "MaskedLanguageModel":
        """Loads a model: a folder, or the name of one in the local cache of the Hub; options as above.

        Raises:
            MissingExtraError: transformers is not installed.
            ModelNotFoundError: There is no such model.
        """
        from sentenc.errors import MissingExtraError, ModelNotFoundError

        try:
            from transformers import AutoModelForMaskedLM, AutoTokenizer
        except ImportError as error:
            raise MissingExtraError("train", "transformers", "a masked language model") from error
        try:
            found = AutoModelForMaskedLM.from_pretrained(model, local_files_only=True)
            tokenizer = AutoTokenizer.from_pretrained(model, local_files_only=True)
        except (OSError, ValueError) as error:
            raise ModelNotFoundError(f"{model} is no masked language model: {error}") from error
        return cls(found, tokenizer, **options)

    def candidates(self, texts: Sequence[str], places: Sequence[Place], count: int) -> list[list[str] | None]:
        """The ``count`` most probable other words at each place, the most probable first.

        Args:
            texts: What the places are in.
            places: Spans of words.
            count: Words wanted; fewer where the vocabulary has no more.

        Returns:
            For each place its words, or None where the word is not one piece of the vocabulary.
        """
        found: list[list[str] | None] = [None] * len(places)
        needed = list(dict.fromkeys(place.text for place in places))
        encoded = dict(zip(needed, self._encoded([texts[number] for number in needed]), strict=True))
        rows: list[tuple[int, list[int], int, str]] = []
        for number, place in enumerate(places):
            ids, spans = encoded[place.text]
            text = texts[place.text]
            at = spans.get((place.start, place.end))
            if at is not None:
                rows.append((number, *self._masked(ids, at), text[place.start : place.end]))
        # Rows of one length together: padding is paid for.
        rows.sort(key=lambda row: len(row[1]))
        for start in range(0, len(rows), self.batch_size):
            batch = rows[start : start + self.batch_size]
            for row, words in zip(batch, self._most_probable(batch, count), strict=True):
                found[row[0]] = words
        return found

    def _encoded(self, texts: list[str]) -> list[tuple[list[int], dict[tuple[int, int], int]]]:
        # Of each text its ids without special tokens, and which piece is a whole span of characters.
        if not texts:
            return []
        clean = [replace_lone_surrogates(text) for text in texts]
        batch = self.tokenizer(
            clean, add_special_tokens=False, return_offsets_mapping=True, truncation=False, verbose=False
        )
        found = []
        for text, ids, offsets in zip(clean, batch["input_ids"], batch["offset_mapping"], strict=True):
            spans = {}
            for at, (start, end) in enumerate(offsets):
                start += len(text[start:end]) - len(text[start:end].lstrip(_SPACE))
                spans[start, end] = at
            found.append((ids, spans if self.tokenizer.unk_token_id is None else self._known(ids, spans)))
        return found

    def _known(self, ids: list[int], spans: dict[tuple[int, int], int]) -> dict[tuple[int, int], int]:
        return {span: at for span, at in spans.items() if ids[at] != self.tokenizer.unk_token_id}

    def _masked(self, ids: list[int], at: int) -> tuple[list[int], int]:
        # The input with the mask, special tokens around it, and where the mask is.
        most = self.max_tokens - len(self._before) - len(self._after)
        first = max(0, min(at - most // 2, len(ids) - most))
        window = ids[first : first + most]
        window[at - first] = self.tokenizer.mask_token_id
        return [*self._before, *window, *self._after], len(self._before) + at - first

    @torch.inference_mode()
    def _most_probable(self, rows: Sequence[tuple[int, list[int], int, str]], count: int) -> list[list[str]]:
        longest = max(len(ids) for _, ids, _, _ in rows)
        table = torch.full((len(rows), longest), self.tokenizer.pad_token_id or 0)
        mask = torch.zeros(len(rows), longest, dtype=torch.int64)
        for target, kept, (_, ids, _, _) in zip(table, mask, rows, strict=True):
            target[: len(ids)] = torch.tensor(ids)
            kept[: len(ids)] = 1
        places = torch.tensor([at for _, _, at, _ in rows])
        logits = self._logits(table, mask, places)[:, self._word_ids.to(self._device)]
        # Some more than asked for, lest the word itself or another spelling of one takes a place.
        top = logits.topk(min(2 * count + 2, len(self._word_ids)), dim=1).indices.cpu()
        found = []
        for (_, _, _, word), best in zip(rows, self._word_ids[top].tolist(), strict=True):
            distinct = {word.lower(): ""}
            for index in best:
                distinct.setdefault(self.words[index].lower(), self.words[index])
            found.append(list(distinct.values())[1 : count + 1])
        return found

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    def _logits(self, ids: Tensor, mask: Tensor, places: Tensor) -> Tensor:
        # Logits (B, V) at one place of each row. The head is most of the cost, and works place by place: it is
        # given the state of that place alone.
        rows = torch.arange(len(ids), device=self._device)

        def one_place(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            output["last_hidden_state"] = output["last_hidden_state"][rows, places.to(self._device)][:, None]
            return output

        base: Any = self.model.base_model
        handle = base.register_forward_hook(one_place)
        try:
            output = self.model(
                input_ids=ids.to(self._device), attention_mask=mask.to(self._device), return_dict=True
            )
        finally:
            handle.remove()
        logits: Tensor = output.logits[:, 0]
        return logits


def _around(tokenizer: Any) -> tuple[list[int], list[int]]:
    # The special tokens before and after a text.
    whole, bare = (tokenizer("a", add_special_tokens=added)["input_ids"] for added in (True, False))
    start = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
    return whole[:start], whole[start + len(bare) :]


def _words(tokenizer: Any) -> dict[int, str]:
    # Ids of the pieces that are whole words of letters.
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    special = set(tokenizer.all_special_ids)
    beginning = next(
        (mark for mark in _BEGINNINGS if sum(piece.startswith(mark) for piece in vocabulary) > 1), ""
    )
    found = {}
    for piece, index in vocabulary.items():
        if index in special or piece.startswith(_CONTINUATION) or not piece.startswith(beginning):
            continue
        word = piece.removeprefix(beginning)
        # One letter is hardly ever the word that is meant.
        if len(word) > 1 and word.isalpha():
            found[index] = word
    return found
