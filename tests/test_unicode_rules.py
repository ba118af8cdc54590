"""The Unicode rules that ship with the package are those of the tokenizers library."""

import itertools
import json
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import normalizers, pre_tokenizers

from sentenc.errors import CheckpointError
from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.tokenization.unicode_rules import UnicodeRules
from tests.support.models import wordpiece_spec

# Most planes have few rules or none. Every character would take half a minute.
POINTS = [*range(0xD800), *range(0xE000, 0x1F000), *range(0x1F000, 0xE0000, 61), *range(0xE0000, 0xE1000)]
BORDERS = [
    end + n for end in (0x2A6DE, 0x2B734, 0x2CEA0, 0x2F800, 0x2FA1E, 0xF0000, 0x10FFFE) for n in range(-2, 2)
]
EVERY_CHARACTER = [chr(point) for point in sorted({*POINTS, *BORDERS})]
STEPS = ("clean_text", "handle_chinese_chars", "strip_accents", "lowercase")
BERT = {"type": "BertPreTokenizer"}
# All characters that move among their neighbors, and some that stop them or have parts.
MARKS = [c for c in EVERY_CHARACTER if unicodedata.combining(c)] + [*"aé가\u0344\U00011938\U0001109a"]
CLASSES = ["word", "space", "punctuation", "removed"]


def bert_normalizer(*steps: str) -> dict[str, object]:
    return {"type": "BertNormalizer"} | {name: name in steps for name in STEPS}


def assert_same(ours, theirs):
    # Letters keep the characters from changing each other. Short texts keep a message of pytest short.
    for start in range(0, len(EVERY_CHARACTER), 1000):
        text = "x".join(EVERY_CHARACTER[start : start + 1000])
        assert ours(text) == theirs(text)


@pytest.mark.parametrize("steps", [*((step,) for step in STEPS), STEPS], ids="-".join)
def test_every_character_is_normalized_alike(steps):
    expected = normalizers.BertNormalizer(**{name: name in steps for name in STEPS})
    assert_same(UnicodeRules(bert_normalizer(*steps), BERT).normalize, expected.normalize_str)


def test_lowercase_is_that_of_the_library():
    assert_same(UnicodeRules({"type": "Lowercase"}, BERT).normalize, normalizers.Lowercase().normalize_str)
    assert_same(UnicodeRules(None, BERT).normalize, lambda text: text)


@pytest.mark.parametrize("name", ["BertPreTokenizer", "WhitespaceSplit"])
def test_every_character_has_the_class_of_the_library(name):
    rules, splitter = UnicodeRules(None, {"type": name}), getattr(pre_tokenizers, name)()
    shown = {"word": "{}", "space": " ", "punctuation": " {} "}

    def split(text):
        return [piece for piece, _ in splitter.pre_tokenize_str(text)]

    def split_at_spaces(text):
        spaced = "".join(shown[rules.classify(c)].format(c) for c in text)
        return list(filter(None, spaced.split(" ")))

    assert_same(split_at_spaces, split)


@settings(deadline=None, max_examples=300)
@given(st.lists(st.sampled_from(MARKS), max_size=8).map("".join))
def test_marks_are_put_into_the_order_of_the_library(text):
    expected = normalizers.BertNormalizer(False, False, True, False).normalize_str(text)
    assert UnicodeRules(bert_normalizer("strip_accents"), BERT).normalize(text) == expected


@pytest.mark.parametrize("splitter", ["BertPreTokenizer", "WhitespaceSplit"])
@pytest.mark.parametrize("n", range(5))
def test_the_rules_of_ascii_agree_with_those_of_all_characters(splitter, n):
    for steps in itertools.combinations(STEPS, n):
        rules = UnicodeRules(bert_normalizer(*steps), {"type": splitter})
        classes, lower = rules.ascii_rules()
        assert (classes[128:] == 0).all()
        assert np.array_equal(lower[128:], np.arange(128, 256))
        for byte in range(128):
            normal = rules.normalize(chr(byte))
            assert CLASSES[classes[byte]] == (rules.classify(normal) if normal else "removed")
            assert not normal or chr(lower[byte]) == normal


def test_accents_are_stripped_in_lower_case_unless_the_file_says_otherwise():
    for lowercase, strips, expected in [
        (True, None, "e"), (True, False, "é"), (False, None, "É"), (False, True, "E")
    ]:  # fmt: skip
        options = bert_normalizer() | {"lowercase": lowercase, "strip_accents": strips}
        assert UnicodeRules(options, BERT).normalize("É") == expected
        assert normalizers.BertNormalizer(False, False, strips, lowercase).normalize_str("É") == expected


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("normalizer", {"clean_text": None}, "normalizer.clean_text None, expected true or false"),
        ("normalizer", {"handle_chinese_chars": 1}, "normalizer.handle_chinese_chars 1, expected"),
        ("normalizer", {"lowercase": "yes"}, "normalizer.lowercase 'yes', expected true or false"),
        ("normalizer", {"strip_accents": 0}, "normalizer.strip_accents 0, expected true, false or null"),
        ("normalizer", {"type": None}, "normalizer of type None"),
        ("model", {"unk_token": None}, "model.unk_token None, expected a string"),
        ("model", {"continuing_subword_prefix": 1}, "model.continuing_subword_prefix 1, expected a string"),
        ("model", {"continuing_subword_prefix": ""}, "empty continuing_subword_prefix"),
        ("model", {"max_input_chars_per_word": -1}, "model.max_input_chars_per_word -1, expected"),
        ("model", {"max_input_chars_per_word": 2.5}, "model.max_input_chars_per_word 2.5, expected"),
        (None, {"version": "2.0"}, "version '2.0', expected '1.0'"),
        (None, {"zzz": 1}, "tokenizer.json has zzz, expected only added_tokens, decoder,"),
        (None, {"normalizer": 1}, "not a tokenizer"),
    ],
)
def test_damaged_parts_are_refused(part, change, message):
    spec = json.loads(wordpiece_spec())
    (spec[part] if part else spec).update(change)
    with pytest.raises(CheckpointError, match=message):
        Tokenizer(json.dumps(spec))
