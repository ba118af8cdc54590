"""Vocabularies: token counts, and pruning without new unknown words."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.training.data import vocabulary
from sentenc.training.data.vocabulary import prune_vocabulary, token_frequencies
from tests.support.models import CHARACTERS, WORDS, word_spec, wordpiece_spec

WHOLE = Tokenizer(wordpiece_spec(), skip_unknown=False)


def pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    by_id = {index: token for token, index in tokenizer.vocabulary.items()}
    return [by_id[i] for i in tokenizer.encode([text])[0]]


def test_frequencies_by_hand(monkeypatch):
    monkeypatch.setattr(vocabulary, "_TEXTS_PER_CALL", 2)
    tokenizer = Tokenizer(word_spec())
    counts = token_frequencies(tokenizer, iter(["dog dog cat", "", "cat unheard", "dog"]))
    assert counts.shape == (tokenizer.vocab_size,)
    assert counts[[tokenizer.vocabulary["dog"], tokenizer.vocabulary["cat"]]].tolist() == [3, 2]
    assert counts.sum() == 5


def fewest() -> int:
    with pytest.raises(ValueError, match=r"keep is 1, expected \d+") as error:
        prune_vocabulary(WHOLE, np.zeros(WHOLE.vocab_size, np.int64), 1)
    return int(str(error.value).split("expected ")[1].split()[0])


def test_the_most_frequent_tokens_and_all_characters_are_kept():
    frequencies = np.zeros(WHOLE.vocab_size, np.int64)
    for rank, token in enumerate(["##ing", "guitar", "dog"]):
        frequencies[WHOLE.vocabulary[token]] = 30 - rank
    pruned, ids = prune_vocabulary(WHOLE, frequencies, fewest() + 2)
    tokens = pruned.vocabulary
    assert len(tokens) == len(ids) == pruned.vocab_size == fewest() + 2
    assert {"##ing", "guitar", "q", "##q", "[UNK]", "[CLS]"} <= set(tokens)
    assert not {"dog", "play", "##tion"} & set(tokens)
    assert (np.diff(ids) > 0).all()
    # Row i of a pruned embedding matrix is row ids[i] of the whole one.
    assert all(WHOLE.vocabulary[token] == ids[index] for token, index in tokens.items())
    assert pieces(pruned, "the dog guitar playing") == [
        "t", "##h", "##e", "d", "##o", "##g", "guitar", "p", "##l", "##a", "##y", "##ing",
    ]  # fmt: skip
    assert pruned.unknown_id == tokens["[UNK]"]
    assert not pruned.skip_unknown


@settings(deadline=None, max_examples=200)
@given(
    st.lists(st.sampled_from([*WORDS, "un", "ing", *CHARACTERS, " ", "☃"]), max_size=8).map("".join),
    st.integers(0, 1 << 30),
    st.floats(0, 1),
)
def test_pruning_makes_no_word_unknown(text, seed, share):
    frequencies = np.random.default_rng(seed).integers(0, 100, WHOLE.vocab_size)
    least = fewest()
    pruned, _ = prune_vocabulary(WHOLE, frequencies, least + round(share * (WHOLE.vocab_size - least)))
    before, after = pieces(WHOLE, text), pieces(pruned, text)
    # The same characters in at least as many pieces, and no word that is newly unknown.
    assert "".join(before).replace("##", "") == "".join(after).replace("##", "")
    assert len(after) >= len(before)


def test_the_whole_vocabulary_does_not_change():
    pruned, ids = prune_vocabulary(WHOLE, np.zeros(WHOLE.vocab_size, np.int64), WHOLE.vocab_size)
    assert pruned.vocabulary == WHOLE.vocabulary
    assert ids.tolist() == list(range(WHOLE.vocab_size))


def test_a_token_with_a_character_of_no_token_of_its_own_stays():
    spec = json.loads(wordpiece_spec())
    spec["model"]["vocab"] |= {
        "ωμ": WHOLE.vocab_size,
        "##ωo": WHOLE.vocab_size + 1,
        "[unused1]": WHOLE.vocab_size + 2,
    }
    tokenizer = Tokenizer(json.dumps(spec))
    pruned, _ = prune_vocabulary(tokenizer, np.zeros(tokenizer.vocab_size, np.int64), fewest() + 2)
    assert {"ωμ", "##ωo"} <= set(pruned.vocabulary)
    assert "[unused1]" not in pruned.vocabulary


def test_refusals():
    zeros = np.zeros(WHOLE.vocab_size, np.int64)
    with pytest.raises(ValueError, match=f"to {WHOLE.vocab_size} \\("):
        prune_vocabulary(WHOLE, zeros, WHOLE.vocab_size + 1)
    with pytest.raises(ValueError, match=r"frequencies has shape \(3,\)"):
        prune_vocabulary(WHOLE, zeros[:3], 200)
    with pytest.raises(ValueError, match="the tokenizer is WordLevel, expected WordPiece"):
        prune_vocabulary(Tokenizer(word_spec()), np.zeros(99, np.int64), 50)
