"""Data augmentation of TinyBERT: copies of examples in which similar words replace some words.

Algorithm 1 of Jiao et al. (Findings of EMNLP 2020), "TinyBERT: Distilling BERT for Natural Language
Understanding". Each example has N_a copies, in which every word is replaced with probability p_t by one of
its K candidates. If the word is a single token of a masked language model, the candidates are the model's
predictions for the masked word. Otherwise they are the word's nearest neighbors among word vectors.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from sentenc.io.progress import progress_bar
from sentenc.training.augmentation.masked_lm import MaskedLanguageModel, WordSpan
from sentenc.training.augmentation.word_neighbors import WordNeighbors
from sentenc.training.data.examples import Example
from sentenc.validation import check_integer, check_number

# Letters, with apostrophes between them, not adjacent to a digit or an underscore.
_WORD = re.compile(r"(?<!\w)[^\W\d_]+(?:['’][^\W\d_]+)*(?!\w)")
# Function words. Replacing one seldom yields a grammatical sentence.
_STOP_WORDS = """
    a an the this that these those i me my mine you your yours he him his she her hers it its we us our ours
    they them their theirs who whom whose which what myself yourself himself herself itself ourselves
    themselves am is are was were be been being do does did doing done have has had having will would shall
    should can could may might must ought not no nor neither never and or but if then than so as because while
    although though unless until since whether of in on at by for from to with without into onto upon over
    under about above below between among through during before after against off out up down again further
    once here there where when why how all any both each few more most other some such only own same too very
    just also s t d ll m re ve isn't aren't wasn't weren't don't doesn't didn't haven't hasn't hadn't won't
    wouldn't shan't shouldn't can't couldn't mustn't n't i'm you're he's she's it's we're they're i've you've
    we've they've i'll you'll he'll she'll we'll they'll i'd you'd he'd she'd we'd they'd that's there's who's
    what's let's
    """
STOP_WORDS = frozenset(_STOP_WORDS.split())


class _Plan(NamedTuple):
    # The random choices for an example.
    texts: Example
    # For each text the spans of its w replaceable words.
    spans: list[list[tuple[int, int]]]
    # For each text (copies, w): whether the copy replaces the word.
    replaces: list[npt.NDArray[np.bool_]]
    # For each text (copies, w) in [0, 1): the position of the replacement among the candidates.
    positions: list[npt.NDArray[np.float64]]


def augment(
    examples: Iterable[Example],
    *,
    masked_lm: MaskedLanguageModel | None = None,
    word_neighbors: WordNeighbors | None = None,
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
    """Yields every example and its distinct copies.

    A copy changes one text of its example. The copies of a pair change its two texts in turn. A copy that
    equals the example or an earlier copy of it is omitted. Punctuation, numbers and stop words are not
    replaced. A replacement has the case of the word that it replaces. The random choices depend only on
    ``seed`` and the number of the example.

    Args:
        examples: Tuples with the same number of texts, one or more.
        masked_lm: Source of candidates for words that are a single token of a masked language model.
        word_neighbors: Source of candidates for the other words, or for all words without ``masked_lm``.
        copies: N_a, the number of copies of an example. With 0 only the examples are yielded.
        p: p_t, the probability that a word is replaced.
        candidates: K, the number of candidates of a word.
        seed: Seed of the random choices.
        stop_words: Words in lower case that are not replaced.
        first: Number of the first example. A call that was stopped is resumed by passing the remaining
            examples and their first number.
        chunk: The number of examples whose candidates are computed together.
        total: The number of examples, for the bar; by default ``len(examples)``, if it is defined.
        show_progress_bar: Draw a bar on standard error.

    Yields:
        The number of the example, and its texts or those of a copy.

    Raises:
        ValueError: An argument is out of range, or there is no source of candidates.
        TypeError: An example is not a tuple of texts; raised during the iteration, with its number.
    """
    if masked_lm is None and word_neighbors is None:
        raise ValueError("pass masked_lm or word_neighbors as the source of candidates, or both")
    check_integer("copies", copies, at_least=0)
    check_integer("candidates", candidates)
    check_integer("seed", seed, at_least=0)
    check_integer("first", first, at_least=0)
    check_integer("chunk", chunk)
    check_number("p", p, at_least=0, at_most=1)
    if total is None and isinstance(examples, Sequence):
        total = len(examples)
    plan = partial(_plan, copies=copies, p=p, seed=seed, stop_words=frozenset(stop_words))
    source = _CandidateSource(masked_lm, word_neighbors, candidates)
    return _stream(enumerate(examples, first), plan, copies, source, chunk, total, show_progress_bar)


def _stream(
    numbered: Iterator[tuple[int, Example]],
    plan: Callable[[int, Example], _Plan],
    copies: int,
    source: "_CandidateSource",
    chunk: int,
    total: int | None,
    show_progress_bar: bool,
) -> Iterator[tuple[int, Example]]:
    # A function of its own, so that ``augment`` checks its arguments before the first example is drawn.
    with progress_bar(total, "augmenting", show_progress_bar) as bar:
        while block := list(islice(numbered, chunk)):
            plans = [plan(number, example) for number, example in block]
            versions = _versions(plans, copies, source)
            for (number, _), distinct in zip(block, versions, strict=True):
                yield from ((number, example) for example in distinct)
            bar.update(len(block))


def words_of(texts: Iterable[str]) -> list[str]:
    """Returns the distinct words that augmentation may replace, in lower case, in order of appearance."""
    return list(dict.fromkeys(word.group().lower() for text in texts for word in _WORD.finditer(text)))


def _plan(
    number: int, example: Example, copies: int, p: float, seed: int, stop_words: Collection[str]
) -> _Plan:
    if not isinstance(example, tuple) or not all(isinstance(text, str) for text in example) or not example:
        raise TypeError(f"examples[{number}] is {example!r}, expected a tuple of texts")
    rng = np.random.default_rng([seed, number])
    plan = _Plan(example, [], [], [])
    for index, text in enumerate(example):
        spans = [m.span() for m in _WORD.finditer(text) if _normalized(m.group()) not in stop_words]
        replaces = rng.random((copies, len(spans))) < p
        # A copy changes one text. The numbers drawn for its other texts are not used.
        replaces[np.arange(copies) % len(example) != index] = False
        plan.spans.append(spans)
        plan.replaces.append(replaces)
        plan.positions.append(rng.random((copies, len(spans))))
    return plan


def _normalized(word: str) -> str:
    return word.lower().replace("’", "'")


class _CandidateSource:
    # Combines a masked language model and word neighbors.

    def __init__(
        self, masked_lm: MaskedLanguageModel | None, word_neighbors: WordNeighbors | None, count: int
    ) -> None:
        self.masked_lm, self.word_neighbors, self.count = masked_lm, word_neighbors, count

    def candidates(self, texts: list[str], spans: list[WordSpan]) -> list[list[str]]:
        words: list[list[str] | None] = [None] * len(spans)
        if self.masked_lm is not None:
            words = self.masked_lm.candidates(texts, spans, self.count)
        missing = [i for i, candidates in enumerate(words) if candidates is None]
        if self.word_neighbors is not None:
            originals = [texts[span.text][span.start : span.end] for span in (spans[i] for i in missing)]
            neighbors = self.word_neighbors.candidates(originals, self.count)
            for i, candidates in zip(missing, neighbors, strict=True):
                words[i] = candidates
        return [candidates or [] for candidates in words]


def _versions(plans: list[_Plan], copies: int, source: _CandidateSource) -> Iterator[list[Example]]:
    # Yields for each plan the example and its distinct copies.
    texts = [text for plan in plans for text in plan.texts]
    replaces = [table for plan in plans for table in plan.replaces]
    spans = [text_spans for plan in plans for text_spans in plan.spans]
    # Only words that some copy replaces, because the model takes most of the time.
    needed = [
        WordSpan(number, *spans[number][word])
        for number, table in enumerate(replaces)
        for word in np.flatnonzero(table.any(axis=0))
    ]
    candidates = dict(zip(needed, source.candidates(texts, needed), strict=True))
    first = 0
    for plan in plans:
        # A dict keeps the order.
        versions = {plan.texts: None}
        for copy in range(copies):
            changed = copy % len(plan.texts)
            text = _replace_words(plan, changed, copy, first + changed, candidates)
            versions[*plan.texts[:changed], text, *plan.texts[changed + 1 :]] = None
        yield list(versions)
        first += len(plan.texts)


def _replace_words(
    plan: _Plan, index: int, copy: int, number: int, candidates: dict[WordSpan, list[str]]
) -> str:
    # ``index`` is the text's position in its example, ``number`` its position in the block.
    text, parts, end = plan.texts[index], [], 0
    for word in np.flatnonzero(plan.replaces[index][copy]):
        start, stop = plan.spans[index][word]
        words = candidates[WordSpan(number, start, stop)]
        if words:
            replacement = words[int(plan.positions[index][copy, word] * len(words))]
            parts += [text[end:start], _in_case_of(text[start:stop], replacement)]
            end = stop
    return "".join([*parts, text[end:]])


def _in_case_of(original: str, word: str) -> str:
    if len(original) > 1 and original.isupper():
        return word.upper()
    return word[:1].upper() + word[1:] if original[:1].isupper() else word
