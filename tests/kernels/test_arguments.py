"""Every function returns a result or an error for any argument that Python can pass."""

import itertools
from contextlib import nullcontext
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from sentenc.kernels.encode import CSEKernel, NgramTable, WordTable
from sentenc.kernels.folding import FoldPages, fold
from sentenc.kernels.top_k import add_block, empty_heaps
from sentenc.kernels.vocabulary import Vocabulary
from tests.support.kernel_cases import ascii_rules, untimed, vocabulary

TEXT = b"ab cd ef"
VOCABULARY = vocabulary([(b"ab", False), (b"c", False), (b"d", True)], *ascii_rules(), 100, True, -1)
WORDS = WordTable(np.ones((3, 6), np.float32), *np.ones((3, 3), np.float32), 4)
NGRAMS = NgramTable(
    np.ones((3, 9), np.float32), np.ones(6, np.float32), np.ones(6, np.float32), np.zeros(0, np.int16),
    np.array([1, 2]), 3, 2, 0, False, np.ones((6, 4), np.float32),
)  # fmt: skip
KERNEL = CSEKernel(VOCABULARY, WORDS, NGRAMS, 12)
PAGES = FoldPages(np.zeros(0x1100, np.int32), np.zeros(256, np.int64), np.ones(256, np.int8), b"x")

HUGE = [0, 1, 3, 8, 9, -1, 2**31, 2**62, 2**63 - 1, -(2**63)]
any_offsets = st.one_of(
    st.lists(st.one_of(st.integers(-2, 12), st.sampled_from(HUGE)), max_size=6).map(lambda x: np.array(x, np.int64)),
    arrays.arrays(
        st.sampled_from([bool, np.int8, np.int32, np.uint8, np.int64, np.uint64, np.float32, np.complex64, object]),
        arrays.array_shapes(min_dims=0, max_dims=3, min_side=0, max_side=4),
        elements=st.booleans(),
    ),
    st.sampled_from([
        np.array([0, 9, 3, 9, 8, 9])[::2], np.array([0, 8], ">i8"), np.array([0, 8], np.uint64), np.array([[0, 8]]),
        np.zeros((3, 0), np.int64), np.array(0), np.frombuffer(b"x" + bytes(24), np.int64, 3, 1), np.zeros(0, np.int64),
        np.broadcast_to(np.int64(0), (5,)), np.array([True, True]), np.array([0, 2.5]), np.array(["0", "8"]),
    ]),
)  # fmt: skip
any_limit = st.one_of(st.integers(-1, 5), st.sampled_from([*HUGE, 2**63, 2**64, 2**64 + 1]))


@untimed
@given(st.one_of(st.just(TEXT), st.binary(max_size=9)), any_offsets, any_limit)
def test_any_offsets_give_a_result_or_an_error(text, offsets, max_tokens):
    def encode():
        n = max(0, offsets.size - 1)
        out, counts = np.full((n, 12), np.nan, np.float32), np.zeros(n, np.int64)
        KERNEL.encode(text, offsets, max_tokens, out, counts)
        assert np.isfinite(out).all()

    is_valid = (
        offsets.ndim == 1 and offsets.size > 0 and np.can_cast(offsets.dtype, np.int64)
        and int(offsets[0]) >= 0 and int(offsets[-1]) <= len(text) and (offsets[1:] >= offsets[:-1]).all()
    )  # fmt: skip
    is_limit = 0 <= max_tokens < 2**63
    for call, succeeds in (
        (encode, is_valid and is_limit),
        (lambda: VOCABULARY.tokenize(text, offsets, max_tokens), is_valid and is_limit),
        (lambda: fold(PAGES, text, offsets, True), is_valid),
    ):
        if succeeds:
            call()
        else:
            with pytest.raises(ValueError, match=r"offsets|max_tokens"):
                call()


class LongBytes(bytes):
    def __len__(self):
        return 10**9


@pytest.mark.parametrize("text", [LongBytes(TEXT), "ab", bytearray(TEXT), memoryview(TEXT), None, 4096])
def test_a_text_that_is_not_bytes_is_refused(text):
    offsets, counts = np.array([0, 2]), np.zeros(1, np.int64)
    for call in (
        lambda: VOCABULARY.tokenize(text, offsets, 5),
        lambda: KERNEL.encode(text, offsets, 5, np.zeros((1, 12), np.float32), counts),
        lambda: fold(PAGES, text, offsets, True),
    ):
        with pytest.raises(TypeError, match=r"text is .*, expected bytes"):
            call()


def read_only(array: np.ndarray) -> np.ndarray:
    array.flags.writeable = False
    return array


def misaligned(shape: tuple[int, ...], dtype: type) -> np.ndarray:
    size = int(np.prod(shape)) * np.dtype(dtype).itemsize
    return np.frombuffer(bytearray(size + 1), dtype, offset=1, count=int(np.prod(shape))).reshape(shape)


@pytest.mark.parametrize(
    ("out", "counts", "message"),
    [
        (read_only(np.zeros((2, 12), np.float32)), np.zeros(2, np.int64), "out is read-only"),
        (np.zeros((2, 12), np.float32), read_only(np.zeros(2, np.int64)), "counts is read-only"),
        (np.broadcast_to(np.float32(0), (2, 12)), np.zeros(2, np.int64), "out is .*not contiguous"),
        (np.zeros((2, 12)), np.zeros(2, np.int64), "out is float64"),
        (np.zeros((2, 12), ">f4"), np.zeros(2, np.int64), "out is >f4"),
        (np.zeros((12, 2), np.float32).T, np.zeros(2, np.int64), "out is .*not contiguous"),
        (np.zeros((2, 24), np.float32)[:, ::2], np.zeros(2, np.int64), "out is .*not contiguous"),
        (misaligned((2, 12), np.float32), np.zeros(2, np.int64), "out is .*not aligned"),
        (np.zeros((3, 12), np.float32), np.zeros(2, np.int64), r"out has shape \(3, 12\)"),
        (np.zeros((2, 11), np.float32), np.zeros(2, np.int64), r"out has shape \(2, 11\)"),
        (np.zeros(24, np.float32), np.zeros(2, np.int64), r"out has shape \(24,\)"),
        (np.zeros((2, 12), np.float32), np.zeros(1, np.int64), r"counts has shape \(1,\)"),
        (np.zeros((2, 12), np.float32), np.zeros(4, np.int64)[::2], "counts is .*not contiguous"),
        (np.zeros((2, 12), np.float32), np.zeros(2, np.int32), "counts is int32"),
    ],
)
def test_outputs_that_cannot_be_written_are_refused(out, counts, message):
    with pytest.raises(ValueError, match=message):
        KERNEL.encode(TEXT, np.array([0, 2, 5]), 5, out, counts)
    assert not np.asarray(out).any()


def test_outputs_may_share_the_memory_of_the_offsets():
    # The offsets of later texts are overwritten by the counts and vectors of the first ones.
    items = np.array([0, *range(9)])
    expected, counts = np.zeros((9, 12), np.float32), np.zeros(9, np.int64)
    KERNEL.encode(TEXT, items, 5, expected, counts)
    offsets, out = items.copy(), np.zeros((9, 12), np.float32)
    KERNEL.encode(TEXT, offsets, 5, out, offsets[:9])
    assert (out == expected).all()
    assert (offsets[:9] == counts).all()
    memory = np.zeros(9 * 12, np.float32)
    offsets = memory[40:60].view(np.int64)
    offsets[:] = items
    KERNEL.encode(TEXT, offsets, 5, memory.reshape(9, 12), counts)
    assert (memory.reshape(9, 12) == expected).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"pool": b"", "offsets": np.zeros(1, np.int64), "continues": np.zeros(0, bool)},
            "number of tokens is 0",
        ),
        ({"pool": bytes(2**20 + 1), "offsets": np.array([0, 2**20 + 1])}, "token is longer than"),
        ({"offsets": np.array([0, 2])}, "outside"),
        ({"offsets": np.array([-1, 1])}, "outside"),
        ({"offsets": np.array([1, 0])}, "fall"),
        ({"offsets": np.array([0.0, 1.0])}, "offsets are float64"),
        ({"offsets": np.array([0, 1, 1])}, "continues has shape"),
        ({"continues": np.zeros((1, 1), bool)}, "continues has shape"),
        ({"unknown": 1}, "unknown is 1"),
        ({"unknown": -2}, "unknown is -2"),
        ({"unknown": 2**32}, "unknown is 4294967296"),
        ({"max_chars": -1}, "max_chars is -1"),
        ({"max_chars": 2**64}, "max_chars is 18446744073709551616"),
        ({"classes": np.zeros(255, np.uint8)}, "classes has shape"),
        ({"classes": np.full(256, 4, np.uint8)}, "byte 0 has class 4"),
        ({"classes": np.full(256, 1, np.uint8)}, "byte 128 has class 1"),
        ({"lower": np.zeros((16, 16), np.uint8)}, "lower has shape"),
        ({"lower": np.full(256, ord(" "), np.uint8)}, r"lower\[33\] is 32"),
    ],
)
def test_bad_vocabularies_are_refused(change, message):
    classes, lower = ascii_rules()
    options = {
        "pool": b"a", "offsets": np.array([0, 1]), "continues": np.zeros(1, bool), "classes": classes, "lower": lower,
        "max_chars": 5, "splits_words": True, "unknown": 0,
    }  # fmt: skip
    Vocabulary(**options)
    with pytest.raises(ValueError, match=message):
        Vocabulary(**options | change)


@pytest.mark.parametrize(
    ("words", "ngrams", "dim", "message"),
    [
        (
            {"rows": np.ones((2, 6), np.float32)},
            {"rows": np.ones((2, 9), np.float32)},
            12,
            "words.rows has 2 rows",
        ),
        ({"rows": np.ones(3, np.float32)}, {}, 12, "words.rows have shape"),
        ({"rows": np.ones((3, 6), np.int8)}, {}, 12, "rows are int8 and float32"),
        ({"rows": np.ones((3, 6), ">f4")}, {"rows": np.ones((3, 9), ">f4")}, 12, "rows are >f4"),
        ({"dim": 7}, {}, 12, "words.dim is 7"),
        ({"dim": -1}, {}, 12, "words.dim is -1"),
        ({"scales": np.ones(2, np.float32)}, {}, 12, "words.scales has shape"),
        ({"weights": np.ones((3, 1), np.float32)}, {}, 12, "words.weights has shape"),
        ({}, {"rows": np.ones((3, 8), np.float32)}, 12, "ngrams.rows has shape"),
        ({}, {"widths": np.zeros((2, 0), np.int64)}, 12, "ngrams.widths are"),
        ({}, {"widths": np.array([1.0, 2.0])}, 12, "ngrams.widths are float64"),
        ({}, {"widths": np.array([0, 3])}, 12, "a width is 0"),
        ({}, {"widths": np.array([2**62, 2**62])}, 12, "a width is 4611686018427387904"),
        ({}, {"widths": np.array([-1, 4])}, 12, "a width is -1"),
        ({}, {"filters": -3}, 12, "ngrams.filters is -3"),
        ({}, {"filters": 2**64 + 3}, 12, "ngrams.filters is 18446744073709551619"),
        ({}, {"phi": 4}, 12, "ngrams.phi is 4"),
        ({}, {"pooling": 2**32}, 12, "ngrams.pooling is 4294967296"),
        ({}, {"scales": np.ones(5, np.float32)}, 12, "ngrams.scales has shape"),
        ({}, {"steps": np.ones(5, np.int16)}, 12, "ngrams.steps has shape"),
        ({}, {"projection": np.ones((4, 6), np.float32)}, 12, "ngrams.projection has shape"),
        ({}, {}, 11, "dim is 11"),
        ({}, {}, 2**64 + 12, "dim is 18446744073709551628"),
    ],
)
def test_tables_that_do_not_fit_are_refused(words, ngrams, dim, message):
    with pytest.raises(ValueError, match=message):
        CSEKernel(VOCABULARY, WORDS._replace(**words), NGRAMS._replace(**ngrams), dim)


def test_widths_that_change_later_change_nothing():
    widths = np.array([1, 2])
    kernel = CSEKernel(VOCABULARY, WORDS, NGRAMS._replace(widths=widths), 12)
    widths[:] = 2**40
    out, expected, counts = *np.zeros((2, 1, 12), np.float32), np.zeros(1, np.int64)
    kernel.encode(TEXT, np.array([0, 8]), 5, out, counts)
    KERNEL.encode(TEXT, np.array([0, 8]), 5, expected, counts)
    assert (out == expected).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"page_of": np.zeros(0x10FF, np.int32)}, "page_of has shape"),
        ({"starts": np.zeros(255, np.int64)}, "starts has shape"),
        ({"lengths": np.ones(300, np.int8)}, "lengths has shape"),
        ({"starts": np.full(256, 2**62)}, "out of range"),
        ({"starts": np.full(256, -1)}, "out of range"),
        ({"lengths": np.full(256, -128, np.int8)}, "out of range"),
    ],
)
def test_damaged_folding_tables_are_refused(change, message):
    assert fold(PAGES, "é".encode(), np.array([0, 2]), True)[2] == b"x"
    with pytest.raises(ValueError, match=message):
        fold(replace(PAGES, **change), "é".encode(), np.array([0, 2]), True)


@pytest.mark.parametrize("page", [1, 2**31 - 1, -1, -(2**31)])
def test_a_page_that_is_not_there_is_reported(page):
    pages = replace(PAGES, page_of=np.full(0x1100, page, np.int32))
    assert fold(pages, "é".encode(), np.array([0, 2]), True)[:2] == (1, 0)


def block(**change):
    best_scores, best_rows, counts = empty_heaps(2, 3)
    arguments = {
        "scores": np.ones((2, 4), np.float32), "first_row": 0, "deleted": np.zeros(4, bool), "best_scores": best_scores,
        "best_rows": best_rows, "counts": counts,
    } | change  # fmt: skip
    add_block(**arguments)
    return arguments


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scores": np.ones((2, 4))}, "scores are float64"),
        ({"scores": np.ones(8, np.float32)}, "scores have shape"),
        ({"deleted": np.zeros(4, np.int8)}, "deleted are int8"),
        ({"deleted": np.zeros(3, bool)}, "deleted has shape"),
        ({"best_scores": read_only(np.zeros((2, 3), np.float32))}, "best_scores is read-only"),
        ({"best_rows": read_only(np.zeros((2, 3), np.int64))}, "best_rows is read-only"),
        ({"best_rows": np.zeros((2, 6), np.int64)[:, ::2]}, "best_rows is .*not contiguous"),
        ({"best_rows": np.zeros((2, 3), np.int32)}, "best_rows is int32"),
        ({"counts": read_only(np.zeros(2, np.int64))}, "counts is read-only"),
        ({"counts": np.array([0, 4])}, "out of range"),
        ({"counts": np.array([-1, 0])}, "out of range"),
        ({"counts": np.zeros(1, np.int64)}, "counts has shape"),
        ({"first_row": -1}, "first_row is -1"),
        ({"first_row": 2**63 - 4}, "first_row is"),
        ({"first_row": 2**64}, "first_row is"),
    ],
)
def test_blocks_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        block(**change)


def test_blocks_in_any_layout_are_accepted():
    scores = np.array([[1, 5, 3, 4], [2, 2, 9, 0]], np.float32)
    expected = block(scores=scores)["best_rows"].tolist()
    assert [sorted(rows) for rows in expected] == [[1, 2, 3], [0, 1, 2]]
    part = np.concatenate([misaligned((2, 4), np.float32), scores], axis=1)[:, 4:]
    shifted = misaligned((2, 4), np.float32)
    shifted[:] = scores
    for layout in (np.asfortranarray(scores), part, shifted):
        assert block(scores=layout)["best_rows"].tolist() == expected
    assert block(first_row=2**63 - 1 - 4)["best_rows"].max() < 2**63 - 1


def test_heaps_that_share_memory_do_no_harm():
    memory = np.zeros(8, np.int64)
    for start, k in itertools.product(range(4), (1, 2)):
        rows, counts = memory[: 2 * k].reshape(2, k), memory[start : start + 2]
        memory[:] = 0
        refused = pytest.raises(ValueError, match="out of range") if is_changed(start, k) else nullcontext()
        with refused:
            block(best_scores=np.zeros((2, k), np.float32), best_rows=rows, counts=counts, first_row=10**9)


def is_changed(start: int, k: int) -> bool:
    """Whether the rows of the first query are where the count of the second one is."""
    return start + 1 < k
