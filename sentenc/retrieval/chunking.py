"""Divides long texts into passages of a limited number of tokens, with their character spans.

The tokens are those that the encoder counts. A passage ends where a sentence or a paragraph does, if there is
such a place in its second half, and between two words otherwise. Consecutive passages share a few words, so
that a statement across a boundary is complete in one of them.
"""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.validation import check_integer

Span = tuple[int, int]
Ints = npt.NDArray[np.int64]

DEFAULT_TOKENS = 256
# With fewer tokens, passages would be parts of sentences.
_MIN_TOKENS = 16
# One token in eight is shared with the previous passage by default. A word of more than one token in eight is
# divided, because some languages have no spaces.
_SHARED_PART = 8
# Other tokenizers count the tokens of a passage and of its words differently. Their passages are then made
# shorter until they fit.
_SHORTER, _TRIALS = 0.85, 12

_WORD_PART = re.compile(r"\w+|\W")
# The end of a sentence, after which no lower-case letter follows, or of a paragraph. The full stop of an
# initial ("J. Smith") ends no sentence, and Chinese and Japanese sentences are not separated by spaces.
_SENTENCE_END = re.compile(
    r"[.!?…](?<!\b[A-Z]\.)[\"'”’)\]»]*(?=\s+[^\sa-z]|\s*\Z)|[。！？][\"'”’)\]»」』]*|\n(?=[^\S\n]*\n)"
)
# str.split() divides at these characters. None has a higher code.
_SPACES = np.array([chr(code).isspace() for code in range(0x3002)])


@dataclass(frozen=True, kw_only=True)
class Chunking:
    """The settings by which an index divides texts.

    Attributes:
        tokens: Maximum number of tokens of a passage, special tokens included.
        overlap: Maximum number of tokens that two consecutive passages share.
    """

    tokens: int
    overlap: int

    def to_dict(self) -> dict[str, Any]:
        """Returns the attributes as a dict of JSON values."""
        return asdict(self)


def check_chunking(
    chunk_tokens: int | Literal["auto"], overlap: int | None, encoder: Encoder | None
) -> Chunking | None:
    """Returns the settings that a caller passed; None if texts are not divided.

    Args:
        chunk_tokens: Maximum number of tokens of a passage; 0 divides no text. ``"auto"`` is 256, or the
            most that the encoder reads after its document prompt if that is less.
        overlap: Maximum number of tokens that consecutive passages share; by default an eighth of a passage.
        encoder: Its ``max_tokens``, less the tokens of its document prompt, is the greatest length of a passage.

    Raises:
        TypeError: An argument is no integer.
        ValueError: An argument is out of range, or there is no encoder to count tokens.
    """
    if chunk_tokens == 0 and not isinstance(chunk_tokens, bool):
        if overlap:
            raise ValueError(f"overlap is {overlap} and chunk_tokens is 0, expected both or neither")
        return None
    if encoder is None:
        raise ValueError("the index has no encoder, expected one that counts the tokens of passages")
    longest = longest_passage(encoder)
    if chunk_tokens == "auto":
        tokens = min(DEFAULT_TOKENS, longest)
    else:
        tokens = check_integer("chunk_tokens", chunk_tokens, at_least=_MIN_TOKENS, at_most=longest)
    if overlap is None:
        overlap = tokens // _SHARED_PART
    return Chunking(tokens=tokens, overlap=check_integer("overlap", overlap, at_least=0, at_most=tokens // 2))


def longest_passage(encoder: Encoder) -> int:
    """Returns the most tokens of a passage, special tokens included, before which the document prompt has room."""
    own, prompt_name = encoder.for_role("document")
    prompt = "" if prompt_name is None else own.prompts[prompt_name]
    of_prompt = int(np.subtract(*own.count_tokens([prompt, ""]))) if prompt else 0
    return max(_MIN_TOKENS, own.max_tokens - of_prompt)


def passage_spans(texts: Sequence[str], encoder: Encoder, chunking: Chunking) -> list[list[Span]]:
    """Divides texts into passages.

    Args:
        texts: n texts.
        encoder: Counts the tokens.
        chunking: Maximum number of tokens of a passage, and of the tokens that passages share.

    Returns:
        The spans (start, end) of every text's passages in order: ``text[start:end]`` is a passage. Together they
        cover all words of the text. A text that fits into one passage has the span of the whole text.
    """
    spans: list[list[Span]] = [[(0, len(text))] for text in texts]
    long = np.flatnonzero(encoder.count_tokens(texts) > chunking.tokens).tolist()
    # Some tokenizers count white space, which has no place between two words to divide it.
    long = [i for i in long if texts[i].strip()]
    counter = _WordCounter(encoder)
    budget = dict.fromkeys(long, max(1, chunking.tokens - counter.added))
    for _ in range(_TRIALS):
        if not long:
            break
        for i, units in zip(long, counter.units([texts[i] for i in long], chunking.tokens), strict=True):
            spans[i] = _plan(units, budget[i], chunking.overlap)
        passages = [texts[i][start:end] for i in long for start, end in spans[i]]
        owner = np.repeat(long, [len(spans[i]) for i in long])
        long = np.unique(owner[encoder.count_tokens(passages) > chunking.tokens]).tolist()
        for i in long:
            budget[i] = max(1, int(budget[i] * _SHORTER))
    return spans


def split_sentences(text: str) -> list[str]:
    """Divides a text at the ends of sentences and paragraphs, without the spaces around them."""
    ends = [match.end() for match in _SENTENCE_END.finditer(text)]
    parts = (text[start:end].strip() for start, end in pairwise([0, *ends, len(text)]))
    return [part for part in parts if part]


@dataclass(frozen=True)
class _Units:
    # The parts of a text between which it may be divided: words, or parts of very long ones.
    starts: Ints  # (n,) first character
    ends: Ints  # (n,) character after the last one
    total: Ints  # (n + 1,) number of tokens before each unit
    ends_sentence: npt.NDArray[np.bool_]  # (n + 1,) whether unit i - 1 is the last one of a sentence


class _WordCounter:
    # Counts the tokens of words. Most words occur often, so each is counted once.

    def __init__(self, encoder: Encoder) -> None:
        self._encoder = encoder
        self._known: dict[str, int] = {}
        self.added = int(encoder.count_tokens([""])[0])

    def units(self, texts: list[str], tokens: int) -> list[_Units]:
        words = [text.split() for text in texts]
        self._count(word for row in words for word in row)
        longest = max(1, tokens // _SHARED_PART)
        return [self._of_text(text, row, longest) for text, row in zip(texts, words, strict=True)]

    def _of_text(self, text: str, words: list[str], longest: int) -> _Units:
        starts, ends = _word_bounds(text)
        counts = list(map(self._known.__getitem__, words))
        if max(counts, default=0) > longest:
            spans = zip(starts.tolist(), ends.tolist(), strict=True)
            parts = [part for word in spans for part in self._parts(text, word, longest)]
            counts = [self._known[text[a:b]] for a, b in parts]
            starts, ends = np.array(parts, np.int64).T
        total = np.zeros(len(counts) + 1, np.int64)
        np.cumsum(counts, out=total[1:])
        sentence_ends = np.array([match.end() for match in _SENTENCE_END.finditer(text)], np.int64)
        # The end of a sentence within a unit is no place to divide the text.
        places = np.searchsorted(starts, sentence_ends)
        ends_sentence = np.zeros(len(counts) + 1, np.bool_)
        ends_sentence[places] = np.append(0, ends)[places] <= sentence_ends
        ends_sentence[0] = True
        return _Units(starts, ends, total, ends_sentence)

    def _parts(self, text: str, word: Span, longest: int) -> list[Span]:
        # First at punctuation, then in halves.
        start, end = word
        if self._known[text[start:end]] <= longest:
            return [word]
        places = [start + match.start() for match in _WORD_PART.finditer(text[start:end])]
        places = [place for place in places if not _is_mark(text[place])]
        if len(places) < 2:
            middle = (start + end) // 2
            while middle > start and _is_mark(text[middle]):
                middle -= 1
            if middle == start:
                return [word]
            places = [start, middle]
        parts = list(zip([start, *places[1:]], [*places[1:], end], strict=True))
        self._count(text[a:b] for a, b in parts)
        return [part for piece in parts for part in self._parts(text, piece, longest)]

    def _count(self, words: Iterable[str]) -> None:
        new = [word for word in dict.fromkeys(words) if word not in self._known]
        counts = self._encoder.count_tokens(new) - self.added
        self._known.update(zip(new, counts.tolist(), strict=True))


def _word_bounds(text: str) -> tuple[Ints, Ints]:
    """Returns the first character of each of n words of ``text.split()``, (n,), and the one after its last."""
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    is_space = np.ones(len(codes) + 2, np.bool_)
    is_space[1:-1] = _SPACES[np.minimum(codes, len(_SPACES) - 1)]
    changes = np.flatnonzero(is_space[1:] != is_space[:-1])
    return changes[::2], changes[1::2]


def _is_mark(character: str) -> bool:
    # An accent or vowel sign belongs to the character before it.
    return not character.isascii() and unicodedata.category(character).startswith("M")


def _plan(units: _Units, budget: int, overlap: int) -> list[Span]:
    """Returns the spans of passages of at most ``budget`` tokens, unless a single unit has more."""
    spans, total, first, n = [], units.total, 0, len(units.starts)
    overlap = min(overlap, budget // 2)
    while total[n] - total[first] > budget:
        here, rest = total[first], total[n] - total[first]
        low, target = here + budget // 2, here + budget
        if rest <= 2 * budget - overlap:
            # Two passages are left. Both have about the same length.
            low, target = max(low, total[n] - budget + overlap), here + (rest + overlap) // 2
        end = _nearest(units, low, here + budget, target, first + 1)
        if end >= n:
            break
        spans.append((int(units.starts[first]), int(units.ends[end - 1])))
        start = max(first + 1, int(np.searchsorted(total, total[end] - overlap)))
        sentences = np.flatnonzero(units.ends_sentence[start : end + 1])
        first = start + int(sentences[0]) if len(sentences) else min(start, end)
    spans.append((int(units.starts[first]), int(units.ends[n - 1])))
    return spans


def _nearest(units: _Units, low: int, high: int, target: int, least: int) -> int:
    """Returns the end of a sentence, or else of a unit, between two numbers of tokens and nearest to a third."""
    last = max(least, int(np.searchsorted(units.total, high, "right")) - 1)
    first = min(max(least, int(np.searchsorted(units.total, low))), last)
    places = np.arange(first, last + 1)
    sentences = places[units.ends_sentence[places]]
    places = sentences if len(sentences) else places
    # Of equally near places, the last one: words without tokens belong to the passage before them.
    distances = np.abs(units.total[places] - target)[::-1]
    return int(places[::-1][distances.argmin()])
