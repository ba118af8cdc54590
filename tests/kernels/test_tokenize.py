"""Words and tokens of the native library are those of a plain Python reference, with every instruction set."""

import copy
import gc
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentenc.kernels.vocabulary import Vocabulary
from tests.kernels.conftest import every_simd_level
from tests.support.kernel_cases import ascii_rules, joined, native, texts, untimed, vocabularies
from tests.support.kernel_reference import ReferenceVocabulary


def tokens_of(vocabulary: Vocabulary, items: list[bytes], max_tokens: int = 2**63 - 1) -> list[list[int]]:
    ids, ends, counts = vocabulary.tokenize(*joined(items), max_tokens)
    starts = [0, *ends.tolist()]
    assert len(ids) == starts[-1]
    assert [min(count, max_tokens) for count in counts.tolist()] == np.diff(starts).tolist()
    return [ids[a:b].tolist() for a, b in zip(starts, ends.tolist(), strict=False)]


@untimed
@given(st.data(), st.lists(texts, max_size=5), st.integers(0, 12))
def test_tokens_are_those_of_the_reference(data, items, max_tokens):
    reference = data.draw(vocabularies(items))
    vocabulary = native(reference)
    expected = [reference.tokenize(item) for item in items]
    for _ in every_simd_level():
        assert tokens_of(vocabulary, items) == expected
        assert tokens_of(vocabulary, items, max_tokens) == [ids[:max_tokens] for ids in expected]


def word_pieces(*tokens: str, max_chars: int = 100, unknown: int = -1) -> ReferenceVocabulary:
    pairs = [(token.removeprefix("##").encode(), token.startswith("##")) for token in tokens]
    return ReferenceVocabulary(pairs, *ascii_rules(), max_chars, True, unknown)


@pytest.mark.parametrize("length", [1, 2, 15, 16, 17, 30, 31, 32, 63, 64, 65, 200])
@pytest.mark.parametrize("before", [0, 1, 47, 48, 49, 62, 63, 64, 65])
def test_tokens_of_any_length_are_found_at_any_place(length, before):
    # Blocks have 64 bytes, and a key has 16.
    reference = word_pieces("a" * length, "##" + "b" * length, "."[:1], max_chars=1000)
    text = b"." * before + b"A" * length + b"B" * length + b"."
    expected = [2] * before + [0, 1, 2]
    assert reference.tokenize(text) == expected
    for _ in every_simd_level():
        assert tokens_of(native(reference), [text]) == [expected]


def test_the_first_of_equal_tokens_is_found():
    reference = word_pieces("a", "a", "b" * 20, "b" * 20, "##c", "##c", "d" * 40, "d" * 40)
    for text in (b"a", b"b" * 20, b"ac", b"d" * 40 + b"c"):
        [ids] = tokens_of(native(reference), [text])
        assert ids == reference.tokenize(text)
        assert all(index % 2 == 0 for index in ids)


@pytest.mark.parametrize("start", ["", "a", "abc", "a" * 14, "a" * 15, "a" * 16, "a" * 40])
def test_a_token_does_not_end_inside_a_character(start):
    first, second = start.encode() + b"\xc3", b"\xa9"  # the two bytes of an é
    reference = ReferenceVocabulary([(first, False), (second, True)], *ascii_rules(), 100, True, -1)
    assert reference.tokenize(first + second) == []
    for _ in every_simd_level():
        assert tokens_of(native(reference), [first + second, first]) == [[], [0]]


def test_copies_share_the_native_structure():
    vocabulary = native(word_pieces("a"))
    duplicate = copy.copy(vocabulary)
    del vocabulary
    gc.collect()
    assert tokens_of(duplicate, [b"a a"]) == [[0, 0]]
    for duplicate_by in (copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="copied or pickled"):
            duplicate_by(duplicate)
    gc.collect()
    assert tokens_of(duplicate, [b"a a"]) == [[0, 0]]
