"""Data augmentation of TinyBERT: copies of examples in which words are replaced by words like them.

Algorithm 1 of Jiao et al. (Findings of EMNLP 2020), "TinyBERT: Distilling BERT for Natural Language
Understanding": in each of N_a copies of an example every word is replaced with probability p_t by one of
its K candidates. Those of a word that is one piece of a masked language model are the model's words for its
place, the word itself being masked; those of another word are its neighbors among word vectors.
"""

import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sentenc.io.progress import progress_bar
from sentenc.training.augmentation.masked_lm import MaskedLanguageModel, Place
from sentenc.training.augmentation.word_neighbors import WordNeighbors

Example = tuple[str, ...]

# Letters, with apostrophes between them; nothing that touches a digit or an underscore.
_WORD = re.compile(r"(?<!\w)[^\W\d_]+(?:['’][^\W\d_]+)*(?!\w)")
# Words that carry the grammar: another in their place seldom leaves a sentence.
_STOP_WORDS = """
    a an the this that these those i me my mine you your yours he him his she her hers it its we us our ours they
    them their theirs who whom whose which what myself yourself himself herself itself ourselves themselves
    am is are was were be been being do does did doing done have has had having will would shall should can could
    may might must ought not no nor neither never and or but if then than so as because while although though
    unless until since whether of in on at by for from to with without into onto upon over under about above below
    between among through during before after against off out up down again further once here there where when why
    how all any both each few more most other some such only own same too very just also s t d ll m re ve isn't
    aren't wasn't weren't don't doesn't didn't haven't hasn't hadn't won't wouldn't shan't shouldn't can't couldn't
    mustn't n't i'm you're he's she's it's we're they're i've you've we've they've i'll you'll he'll she'll we'll
    they'll i'd you'd he'd she'd we'd they'd that's there's who's what's let's
    """
STOP_WORDS = frozenset(_STOP_WORDS.split())


class _Plan(NamedTuple):
    # An example with the words of its texts, and what is drawn for copy, word: to replace or not, and by which.
    texts: Example
    words: list[list[tuple[int, int]]]
    replaces: list[npt.NDArray[np.bool_]]
    shares: list[npt.NDArray[np.float64]]


def augment(
    examples: Iterable[Example],
    *,
    masked_words: MaskedLanguageModel | None = None,
    nearest_words: WordNeighbors | None = None,
    copies: int = 20,
    p: float = 0.4,
    candidates: int = 15,
    seed: int = 1,
    stop_words: Collection[str] = STOP_WORDS,
    first: int = 0,
    chunk: int = 64,
    total: int | None = None,
    show_progress_bar: bool = False,
) -> Iterator[tuple[int, Example]]:
    """Streams every example followed by its copies, all with its number.

    A copy changes one text of its example; those of pairs take turns, and the other text is the original.
    Copies that are equal to the example or to an earlier copy of it are left out. Punctuation, numbers and
    stop words stay; a replacement has the case of the word it stands for. What is drawn depends on seed and
    number of the example alone.

    Args:
        examples: Of one or more texts each, all of as many.
        masked_words: Candidates of words that are one piece of a masked language model.
        nearest_words: Candidates of the others, or of all without ``masked_words``.
        copies: N_a, copies of an example; 0 gives the examples alone.
        p: p_t, the probability that a word is replaced.
        candidates: K, candidates of a word.
        seed: Of the choices.
        stop_words: Words in lower case that stay.
        first: Number of the first of the examples: what was stopped goes on with the examples that are left.
        chunk: Examples whose candidates are looked for together.
        total: Number of the examples, for the bar; by default ``len(examples)``, if it has one.
        show_progress_bar: Draw a bar on standard error.

    Yields:
        Number of the example, and its texts or those of a copy.

    Raises:
        ValueError: An argument is out of its range, or there is no source of candidates.
        TypeError: An example is no tuple of texts; while running, with its number.
    """
    _check(masked_words is None and nearest_words is None, p, copies=(copies, 0), candidates=(candidates, 1),
           seed=(seed, 0), first=(first, 0), chunk=(chunk, 1))  # fmt: skip
    if total is None and isinstance(examples, Sequence):
        total = len(examples)
    finder = _Candidates(masked_words, nearest_words, candidates)
    stops = frozenset(stop_words)

    def stream() -> Iterator[tuple[int, Example]]:
        numbered = enumerate(examples, first)
        with progress_bar(total, "augmenting", show_progress_bar) as bar:
            while block := list(islice(numbered, chunk)):
                plans = [_plan(index, example, copies, p, seed, stops) for index, example in block]
                for number, made in zip((n for n, _ in block), _made(plans, copies, finder), strict=True):
                    yield from ((number, example) for example in made)
                bar.update(len(block))

    return stream()


def _check(has_no_source: bool, p: float, **counts: tuple[int, int]) -> None:
    # Counts with the least that they may be.
    if has_no_source:
        raise ValueError(
            "got neither masked_words nor nearest_words, expected at least one source of candidates"
        )
    for name, (value, least) in counts.items():
        if value < least:
            raise ValueError(f"{name} is {value}, expected at least {least}")
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"p is {p}, expected a probability from 0 to 1")


def words_of(texts: Iterable[str]) -> list[str]:
    """The distinct words of texts that augmentation would see, in lower case, in order of appearance."""
    return list(dict.fromkeys(word.group().lower() for text in texts for word in _WORD.finditer(text)))


def _plan(
    index: int, example: Example, copies: int, p: float, seed: int, stop_words: Collection[str]
) -> _Plan:
    if not isinstance(example, tuple) or not all(isinstance(text, str) for text in example) or not example:
        raise TypeError(f"examples[{index}] is {example!r}, expected a tuple of texts")
    rng = np.random.default_rng([seed, index])
    words, replaces, shares = [], [], []
    for text in example:
        found = [m.span() for m in _WORD.finditer(text) if _plain(m.group()) not in stop_words]
        words.append(found)
        replaces.append(rng.random((copies, len(found))) < p)
        shares.append(rng.random((copies, len(found))))
    # A copy changes one text; the draws of the others are not used.
    for number, table in enumerate(replaces):
        table[np.arange(copies) % len(example) != number] = False
    return _Plan(example, words, replaces, shares)


def _plain(word: str) -> str:
    return word.lower().replace("’", "'")


class _Candidates:
    # Candidates of words in their places.

    def __init__(self, masked: MaskedLanguageModel | None, nearest: WordNeighbors | None, count: int) -> None:
        self.masked, self.nearest, self.count = masked, nearest, count

    def find(self, texts: list[str], places: list[Place]) -> list[list[str]]:
        found: list[list[str] | None] = [None] * len(places)
        if self.masked is not None:
            found = self.masked.candidates(texts, places, self.count)
        left = [number for number, words in enumerate(found) if words is None]
        if self.nearest is not None:
            spelt = [texts[place.text][place.start : place.end] for place in (places[i] for i in left)]
            for number, words in zip(left, self.nearest.candidates(spelt, self.count), strict=True):
                found[number] = words
        return [words or [] for words in found]


def _made(plans: list[_Plan], copies: int, finder: _Candidates) -> Iterator[list[Example]]:
    # Of each example itself and its distinct copies.
    texts = [text for plan in plans for text in plan.texts]
    tables = [table for plan in plans for table in plan.replaces]
    spans = [span for plan in plans for span in plan.words]
    # Only words that some copy replaces: asking the model is what takes the time.
    places = [
        Place(number, *spans[number][word])
        for number, table in enumerate(tables)
        for word in np.flatnonzero(table.any(axis=0))
    ]
    found = dict(zip(places, finder.find(texts, places), strict=True))
    first = 0
    for plan in plans:
        made = {plan.texts: None}
        for copy in range(copies):
            side = copy % len(plan.texts)
            chosen = _replaced(plan, side, copy, first + side, found)
            made[*plan.texts[:side], chosen, *plan.texts[side + 1 :]] = None
        yield list(made)
        first += len(plan.texts)


def _replaced(plan: _Plan, side: int, copy: int, number: int, found: dict[Place, list[str]]) -> str:
    text, parts, end = plan.texts[side], [], 0
    for word in np.flatnonzero(plan.replaces[side][copy]):
        span = plan.words[side][word]
        words = found[Place(number, *span)]
        if words:
            chosen = words[int(plan.shares[side][copy, word] * len(words))]
            parts += [text[end : span[0]], _in_case_of(text[slice(*span)], chosen)]
            end = span[1]
    return "".join([*parts, text[end:]])


def _in_case_of(original: str, word: str) -> str:
    if len(original) > 1 and original.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if original[:1].isupper() else word
