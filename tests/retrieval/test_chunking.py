"""Tests of the division of texts into passages."""

import itertools
import warnings
from functools import cache
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sentenc
from sentenc.encoders.base import Encoder
from sentenc.retrieval.chunking import Chunking, check_chunking, passage_spans, split_sentences
from tests.support.models import make_cse

SENTENCE = "The quick brown fox jumps over the lazy dog near the river bank."


load = cache(sentenc.load)


@cache
def short_bert() -> Encoder:
    return sentenc.load("tinybert4-en", max_tokens=128)


@pytest.fixture(params=["cse-en", "tinybert4-en"])
def encoder(request: pytest.FixtureRequest) -> Encoder:
    return load(request.param)


def passages(text: str, encoder: Encoder, tokens: int, overlap: int) -> list[str]:
    (spans,) = passage_spans([text], encoder, Chunking(tokens=tokens, overlap=overlap))
    return [text[start:end] for start, end in spans]


def check_contract(text: str, encoder: Encoder, chunking: Chunking) -> None:
    (spans,) = passage_spans([text], encoder, chunking)
    covered = np.zeros(len(text), np.bool_)
    for start, end in spans:
        covered[start:end] = True
    assert all(covered[i] or text[i].isspace() for i in range(len(text)))
    assert spans == sorted(spans)
    assert len({start for start, _ in spans}) == len({end for _, end in spans}) == len(spans)
    counts = encoder.count_tokens([text[start:end] for start, end in spans])
    assert counts.max() <= chunking.tokens
    added = encoder.count_tokens([""])[0]
    shared = [text[b:a] for (_, a), (b, _) in itertools.pairwise(spans) if a > b]
    words = encoder.count_tokens(text.split()) - added
    # The parts of a divided word may have more tokens than the word.
    if words.max(initial=0) <= chunking.tokens // 8:
        assert (encoder.count_tokens(shared) - added <= chunking.overlap).all()


def test_white_space_that_a_tokenizer_counts_is_one_passage(monkeypatch: pytest.MonkeyPatch) -> None:
    encoder = make_cse()
    monkeypatch.setattr(encoder, "count_tokens", lambda texts: np.array([2 + len(text) for text in texts]))
    texts = [" " * 1000, "a" + " " * 1000, "ab " * 100]
    blank, short, long = passage_spans(texts, encoder, Chunking(tokens=64, overlap=8))
    assert blank == [(0, 1000)]
    assert short == [(0, 1)]
    assert len(long) > 4


@pytest.mark.parametrize("blank", ["\n", " \n", "\n \t"])
def test_blank_lines_take_linear_time(blank: str) -> None:
    # With a time that grows with the square, this would take hours.
    text = "One line" + blank * 1_000_000 + "\nanother."
    assert split_sentences(text) == ["One line", "another."]


class TestPassageSpans:
    @settings(deadline=None, max_examples=60)
    @given(
        text=st.text(
            st.sampled_from("aé ße.B?! \n\t中文。、x9-_\u0301ก็\U0001f600\u00a0"), min_size=0, max_size=600
        ),
        tokens=st.integers(16, 40),
        overlap=st.integers(0, 8),
    )
    def test_any_text(self, text: str, tokens: int, overlap: int) -> None:
        for name in ("cse-en", "tinybert4-en"):
            check_contract(text, load(name), Chunking(tokens=tokens, overlap=overlap))

    def test_a_text_that_fits_is_one_passage(self, encoder: Encoder) -> None:
        text = f"  {SENTENCE}\n"
        limit = int(encoder.count_tokens(text)[0])
        spans = passage_spans([text, "", " "], encoder, Chunking(tokens=limit, overlap=0))
        assert spans == [[(0, len(text))], [(0, 0)], [(0, 1)]]

    def test_passages_end_with_sentences(self, encoder: Encoder) -> None:
        text = " ".join([SENTENCE] * 10)
        parts = passages(text, encoder, 40, 0)
        assert len(parts) >= 4
        assert all(part.startswith("The quick") and part.endswith("bank.") for part in parts)

    def test_a_whole_sentence_is_shared(self, encoder: Encoder) -> None:
        text = " ".join([SENTENCE, "It barks at night.", SENTENCE, "It sleeps.", SENTENCE, "It eats."] * 3)
        parts = passages(text, encoder, 48, 10)
        assert any(
            later.startswith("It") and earlier.endswith(later[: later.index(".") + 1])
            for earlier, later in itertools.pairwise(parts)
        )

    def test_words_without_sentences_are_shared(self, encoder: Encoder) -> None:
        text = " ".join(["river"] * 100)
        spans = passage_spans([text], encoder, Chunking(tokens=32, overlap=8))[0]
        shared = [a - b for (_, a), (b, _) in itertools.pairwise(spans)]
        assert shared == [len(" ".join(["river"] * 8))] * (len(spans) - 1)

    def test_two_last_passages_are_about_equally_long(self, encoder: Encoder) -> None:
        added = int(encoder.count_tokens("")[0])
        parts = passages(" ".join(["river"] * 34), encoder, 32 + added, 0)
        assert [len(part.split()) for part in parts] == [17, 17]

    def test_paragraphs_and_initials(self, encoder: Encoder) -> None:
        heading, rest = " ".join(["river"] * 18) + "\n\n", " ".join(["bank"] * 18)
        added = int(encoder.count_tokens("")[0])
        assert passages(heading + rest, encoder, 30 + added, 0) == [heading.strip(), rest]
        named = " ".join(["river"] * 17) + " J. Smith " + " ".join(["bank"] * 15)
        assert not passages(named, encoder, 30 + added, 0)[0].endswith("J.")

    def test_text_without_spaces(self) -> None:
        bert = load("tinybert4-en")
        text = "狐狸跳过了懒狗。" * 30
        parts = passages(text, bert, 64, 0)
        assert len(parts) > 3
        assert "".join(parts) == text
        assert all(part.endswith("。") for part in parts)

    def test_counts_that_do_not_add_up(self) -> None:
        class Rough(type(load("cse-en"))):  # type: ignore[misc]
            # Two words have three tokens more than each of them alone.
            def count_tokens(self, texts: Any) -> Any:
                return np.array([max(4 * len(text.split()) - 3, 0) for text in texts], np.int64)

        rough = sentenc.load("cse-en")
        rough.__class__ = Rough
        check_contract(" ".join(["river"] * 60), rough, Chunking(tokens=32, overlap=0))


class TestCheckChunking:
    def test_defaults_follow_the_encoder(self) -> None:
        assert check_chunking("auto", None, load("cse-en")) == Chunking(tokens=256, overlap=32)
        assert check_chunking("auto", None, load("tinybert4-en")) == Chunking(tokens=256, overlap=32)
        bert = short_bert()
        assert check_chunking("auto", None, bert) == Chunking(tokens=bert.max_tokens, overlap=16)
        assert check_chunking(100, None, bert) == Chunking(tokens=100, overlap=12)
        assert check_chunking(0, None, None) is None

    def test_the_document_prompt_has_room(self) -> None:
        bert = short_bert()
        prompted = sentenc.load(
            "tinybert4-en", document_prompt="title: none | text: ", query_prompt="a " * 50, max_tokens=128
        )
        n_prompt = int(bert.count_tokens("title: none | text: ")[0]) - 2
        longest = bert.max_tokens - n_prompt
        assert n_prompt > 3
        assert check_chunking("auto", 0, prompted) == Chunking(tokens=longest, overlap=0)
        with pytest.raises(ValueError, match=f"chunk_tokens is {longest + 1}, expected .* to {longest}"):
            check_chunking(longest + 1, None, prompted)
        index = sentenc.Index(prompted)
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # nothing is cut
            index.add(["the river flows to the sea. " * 60], chunk_tokens="auto")

    @pytest.mark.parametrize(
        ("tokens", "overlap", "error", "message"),
        [
            (15, None, ValueError, "chunk_tokens is 15, expected an integer from 16 to 128"),
            (129, None, ValueError, "chunk_tokens is 129, expected an integer from 16 to 128"),
            (64, 33, ValueError, "overlap is 33, expected an integer from 0 to 32"),
            (64, -1, ValueError, "overlap is -1, expected an integer from 0 to 32"),
            (64.0, None, TypeError, "chunk_tokens is 64.0, expected an integer from 16 to 128"),
            (True, None, TypeError, "chunk_tokens is True"),
            (False, None, TypeError, "chunk_tokens is False"),
            ("all", None, TypeError, "chunk_tokens is 'all'"),
            (64, 1.5, TypeError, "overlap is 1.5"),
            (0, 8, ValueError, "overlap is 8 and chunk_tokens is 0"),
        ],
    )
    def test_bad_values(self, tokens: Any, overlap: Any, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            check_chunking(tokens, overlap, short_bert())

    def test_without_an_encoder(self) -> None:
        with pytest.raises(ValueError, match="the index has no encoder"):
            check_chunking(64, None, None)
