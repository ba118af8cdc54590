"""Arrow in, Arrow out: ``encode_table``, and arrays of Arrow as texts of every method."""

import json
import warnings

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sentenc
from sentenc import TextTooLongError, TruncationWarning
from sentenc.arrow_texts import ArrowTexts
from sentenc.encoders.table_encoder import TableEncoder
from sentenc.io.vector_reading import read_vector_file
from tests.support.models import make_bert, make_cse, make_static, word_spec, wordpiece_spec
from tests.support.pairs import make_pair, with_prompts

TEXTS = ["a man is playing the guitar", "", None, "Crème, NAÏVE straße", "dog", "dog", None, "東京 is new"]

# Every kind of array of strings, from a list of texts and None.
KINDS = {
    "string": lambda texts: pa.array(texts, pa.string()),
    "large_string": lambda texts: pa.array(texts, pa.large_string()),
    "string_view": lambda texts: pa.array(texts, pa.string_view()),
    "dictionary": lambda texts: pa.array(texts, pa.string()).dictionary_encode(),
    "dictionary-large": lambda texts: pa.array(texts, pa.large_string()).dictionary_encode(),
    "dictionary-view": lambda texts: pa.DictionaryArray.from_arrays(
        pa.array([None if text is None else i for i, text in enumerate(texts)], pa.int32()),
        pa.array([text or "" for text in texts], pa.string_view()),
    ),
    "dictionary-null-value": lambda texts: pa.DictionaryArray.from_arrays(
        pa.array(range(len(texts)), pa.int16()), pa.array(texts, pa.string())
    ),
    "bytes-below-nulls": lambda texts: _with_bytes_below_nulls(texts),
    "sliced": lambda texts: pa.array(["é", None, *texts, "after", None], pa.string())[2 : 2 + len(texts)],
    "sliced-large": lambda texts: pa.array(["x", *texts, "é"], pa.large_string())[1 : 1 + len(texts)],
    "sliced-dictionary": lambda texts: pa.array(["x", *texts, "é"]).dictionary_encode()[1 : 1 + len(texts)],
    "chunked": lambda texts: pa.chunked_array([texts[:2], [], texts[2:3], texts[3:]], pa.string()),
    "chunked-dictionary": lambda texts: pa.chunked_array(
        [pa.array(part, pa.string()).dictionary_encode() for part in (texts[:2], texts[2:])],
        pa.dictionary(pa.int32(), pa.string()),
    ),
    "no-chunks": lambda texts: pa.chunked_array([pa.array(texts, pa.string())] if texts else [], pa.string()),
}  # fmt: skip


def _with_bytes_below_nulls(texts):
    # Arrow says nothing of the bytes of a null. These are no UTF-8.
    array = pa.array([b"\xff[SEP]" if text is None else text.encode() for text in texts], pa.binary())
    is_valid = pa.py_buffer(
        np.packbits(np.array([text is not None for text in texts], bool), bitorder="little")
    )
    return pa.Array.from_buffers(pa.string(), len(texts), [is_valid, *array.buffers()[1:]])


@pytest.fixture(params=KINDS)
def kind(request):
    return KINDS[request.param]


@pytest.fixture(scope="module")
def cse():
    return make_cse("int8", combine="both", average_dim=6).compressed()


def matrix(column):
    """The vectors of a column (n, dim), with NaN or -128 where it is null."""
    column = column.combine_chunks()
    dim = column.type.list_size
    values = column.values.to_numpy(zero_copy_only=False)[column.offset * dim :][: len(column) * dim]
    vectors = np.array(values.reshape(len(column), dim))
    is_null = column.is_null().to_numpy(zero_copy_only=False)
    vectors[is_null] = np.nan if vectors.dtype.kind == "f" else -128
    return vectors


def expected(encoder, texts, **options):
    vectors = encoder.encode([text or "" for text in texts], **options)
    vectors[[text is None for text in texts]] = np.nan
    return vectors


def assert_equal_bits(vectors, other):
    assert vectors.dtype == other.dtype
    np.testing.assert_array_equal(vectors, other)


def assert_same(encoder, vectors, other):
    """Compares bit by bit, but for encoders whose sums depend on the texts that are computed together."""
    if isinstance(encoder, TableEncoder):
        assert_equal_bits(vectors, other)
    else:
        assert vectors.dtype == other.dtype
        np.testing.assert_allclose(vectors, other, rtol=0, atol=1e-3 if other.dtype == np.float16 else 1e-5)


def test_kinds_of_arrays_have_the_vectors_of_the_list(cse, kind):
    table = pa.table({"id": range(len(TEXTS)), "text": kind(TEXTS), "n": [0.5] * len(TEXTS)})
    result = cse.encode_table(table)
    assert_equal_bits(matrix(result["embedding"]), expected(cse, TEXTS))
    assert result.drop_columns("embedding").equals(table)
    assert result.schema.field("embedding").type == pa.list_(pa.float32(), cse.dim)
    assert result.column_names[-1] == "embedding"
    assert result["embedding"].null_count == 2
    result.validate(full=True)


def test_arrays_are_texts_of_every_method(encoder, kind):
    texts = [text for text in TEXTS if text is not None]
    array = kind(texts)
    options = {"normalize_embeddings": True, "truncate_dim": 5}
    vectors = encoder.encode(texts, **options)
    assert_same(encoder, encoder.encode(array, **options), vectors)
    assert_same(encoder, encoder.encode(array), encoder.encode(texts))
    for name in ("encode_query", "encode_document"):
        assert_same(encoder, getattr(encoder, name)(array), getattr(encoder, name)(texts))
    assert_same(encoder, np.concatenate(list(encoder.encode_iter(array, **options))), vectors)
    np.testing.assert_array_equal(encoder.count_tokens(array), encoder.count_tokens(texts))
    pairs = zip(encoder.encode_with_token_counts(array), encoder.encode_with_token_counts(texts), strict=True)
    for one, other in pairs:
        assert_same(encoder, one, other)
    assert_same(encoder, encoder.similarity(array, array), encoder.similarity(texts, texts))


def test_a_null_is_refused_by_its_index_outside_of_tables(cse, kind):
    for method in (cse.encode, cse.count_tokens, cse.encode_query, cse.encode_document,
                   cse.encode_with_token_counts, lambda texts: list(cse.encode_iter(texts))):  # fmt: skip
        with pytest.raises(TypeError, match=r"texts\[2\] is NoneType \(None\), expected str"):
            method(kind(TEXTS))


def test_every_encoder_refuses_nulls_outside_of_tables(encoder):
    for method in (encoder.encode, encoder.count_tokens):
        with pytest.raises(TypeError, match=r"texts\[1\] is NoneType \(None\), expected str"):
            method(pa.array(["dog", None]))


def test_every_encoder_encodes_tables(encoder):
    table = pa.table({"text": pa.array(TEXTS, pa.string())})
    for options in ({}, {"normalize_embeddings": True, "truncate_dim": 5, "batch_size": 2}):
        result = encoder.encode_table(table, **options)
        assert_same(encoder, matrix(result["embedding"]), expected(encoder, TEXTS, **options))
    metadata = {key.decode(): value.decode() for key, value in result.schema.metadata.items()}
    assert metadata["fingerprint"] == encoder.fingerprint()
    assert metadata["space"] == encoder.space
    assert metadata["model"]


@pytest.mark.parametrize("values", [[], ["", ""], [None], [None, None, "dog"]])
def test_small_tables(encoder, values):
    for kind in KINDS.values():
        result = encoder.encode_table(pa.table({"text": kind(values)}))
        assert_same(encoder, matrix(result["embedding"]), expected(encoder, values))
        assert encoder.encode(kind([])).shape == (0, encoder.dim)


def test_columns_of_type_null(cse):
    assert cse.encode(pa.array([])).shape == (0, cse.dim)
    result = cse.encode_table(pa.table({"text": pa.nulls(3)}))
    assert result["embedding"].null_count == 3


WORDS = st.sampled_from(
    ["dog", "a man", "Crème", "NAÏVE", "東京", "e\u0301\u0327", "한국", "\U0001f600", "[SEP]", "[UNK]", "xyzzy", "\0",
     "\u200b", " ", "\t", "not good", "!", "ſ", "İ"]
)  # fmt: skip
RANDOM_TEXTS = st.one_of(
    st.none(), st.just(""), st.lists(WORDS, max_size=8).map(" ".join),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=20), st.text(st.characters(max_codepoint=127)),
)  # fmt: skip
FAMILIES = {
    "cse": lambda: make_cse("int8", combine="both", average_dim=6).compressed(),
    "cse-words": lambda: make_cse(widths=()),
    "cse-float32": make_cse,
    "static": lambda: make_static(normalize=True, max_characters=12),
    "static-row": lambda: make_static(word_spec(), dtype="int8", unknown="row"),
}


@pytest.fixture(scope="module", params=FAMILIES)
def table_encoder(request):
    return FAMILIES[request.param]()


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(RANDOM_TEXTS, max_size=30),
    name=st.sampled_from(sorted(KINDS)),
    begin=st.integers(0, 10),
    options=st.sampled_from([{}, {"normalize_embeddings": True}, {"truncate_dim": 7}]),
)
def test_random_texts(table_encoder, texts, name, begin, options):
    array = KINDS[name](texts)[begin:]
    rest = texts[begin:]
    result = table_encoder.encode_table(pa.table({"text": array}), on_overflow="ignore", **options)
    assert_equal_bits(
        matrix(result["embedding"]), expected(table_encoder, rest, on_overflow="ignore", **options)
    )
    counts = table_encoder.count_tokens([text or "" for text in rest])
    np.testing.assert_array_equal(table_encoder.count_tokens(ArrowTexts(array)), counts)


@pytest.mark.parametrize("threads", [1, 3])
def test_many_rows_in_threads(threads, kind):
    rng = np.random.default_rng(0)
    words = np.array(["dog", "cat", "a man", "the park", "Crème", "東京", "unknown word", ""])
    texts = [" ".join(row) for row in words[rng.integers(0, len(words), (9000, 3))]]
    texts[17] = texts[5000] = texts[8999] = None
    encoder = make_cse("int8")
    encoder.threads = threads
    for options in ({}, {"normalize_embeddings": True, "truncate_dim": 8}):
        result = encoder.encode_table(pa.table({"text": kind(texts)}), **options)
        assert_equal_bits(matrix(result["embedding"]), expected(encoder, texts, **options))


def test_names_of_added_tokens_are_these_tokens():
    content = json.loads(wordpiece_spec())
    vocabulary = content["model"]["vocab"]
    content["added_tokens"] = [{"id": vocabulary[name], "content": name} for name in ("[SEP]", "[CLS]")]
    encoder = make_static(json.dumps(content))
    texts = ["dog [SEP] cat", "dog", "[SE", "P]", "[CLS]"]
    result = encoder.encode_table(pa.table({"text": texts}))
    assert_equal_bits(matrix(result["embedding"]), encoder.encode(texts))


def test_float16(encoder):
    result = encoder.encode_table(pa.table({"text": TEXTS}), dtype="float16")
    assert result.schema.field("embedding").type == pa.list_(pa.float16(), encoder.dim)
    assert_same(encoder, matrix(result["embedding"]), expected(encoder, TEXTS, dtype="float16"))


@pytest.mark.parametrize("normalize", [False, True])
def test_int8_is_within_half_a_step(encoder, normalize):
    options = {"normalize_embeddings": normalize, "truncate_dim": 6}
    result = encoder.encode_table(pa.table({"text": TEXTS}), dtype="int8", **options)
    assert result.column_names == ["text", "embedding", "embedding_scale"]
    assert result.schema.field("embedding").type == pa.list_(pa.int8(), 6)
    assert result.schema.field("embedding_scale").type == pa.float32()
    assert result["embedding"].null_count == result["embedding_scale"].null_count == 2
    scales = result["embedding_scale"].to_numpy()[:, None]
    vectors = matrix(result["embedding"]).astype(np.float32) * scales
    wanted = expected(encoder, TEXTS, **options)
    valid = [text is not None for text in TEXTS]
    assert (np.abs(vectors - wanted)[valid] <= 0.5001 * scales[valid]).all()
    assert (np.abs(matrix(result["embedding"])[valid]).max(axis=1) == 127 * wanted[valid].any(axis=1)).all()
    np.testing.assert_allclose(scales[valid, 0], np.abs(wanted[valid]).max(axis=1) / 127, rtol=1e-6)


def test_int8_of_a_row_does_not_depend_on_the_others(cse):
    texts = ["dog", "a man is playing the guitar", "the cat in the park"]
    whole = cse.encode_table(pa.table({"text": texts}), dtype="int8")
    for i, text in enumerate(texts):
        one = cse.encode_table(pa.table({"text": [text]}), dtype="int8")
        assert one["embedding"][0] == whole["embedding"][i]
        assert one["embedding_scale"][0] == whole["embedding_scale"][i]


def test_metadata_and_columns_are_kept(cse):
    fields = [
        pa.field("embedding_old", pa.list_(pa.float32()), metadata={"k": "v"}),
        pa.field("text", pa.string(), nullable=False),
    ]
    schema = pa.schema(fields, metadata={"pandas": "{}", "space": "an older one"})
    table = pa.table([[[1.0], [2.0]], ["dog", "cat"]], schema=schema)
    result = cse.encode_table(table, column="vector")
    assert result.schema.metadata[b"pandas"] == b"{}"
    assert result.schema.metadata[b"space"].decode() == cse.space
    assert [result.schema.field(i) for i in range(2)] == fields
    assert result.schema.field("embedding_old").metadata == {b"k": b"v"}


def test_the_name_of_a_model_can_load_it():
    encoder = sentenc.load("cse-en-tiny")
    result = encoder.encode_table(pa.table({"text": ["dog"]}))
    assert result.schema.metadata[b"model"] == b"cse-en-tiny"


def test_record_batches_are_tables(cse):
    batch = pa.record_batch({"passage": TEXTS})
    result = cse.encode_table(batch, text="passage")
    assert isinstance(result, pa.Table)
    assert_equal_bits(matrix(result["embedding"]), expected(cse, TEXTS))


def test_values_of_a_dictionary_are_encoded_once(cse, monkeypatch):
    seen = []
    encode_slice = type(cse)._encode_slice

    def spy(self, texts, out, counts):
        seen.extend(texts)
        encode_slice(self, texts, out, counts)

    monkeypatch.setattr(type(cse), "_encode_slice", spy)
    dictionary = pa.array(["dog", "never used", "cat", "dog"])
    array = pa.DictionaryArray.from_arrays(pa.array([0, 2, None, 0, 0, 2]), dictionary)
    cse.encode_table(pa.table({"text": array}))
    assert sorted(seen) == ["", "cat", "dog"]


def test_overflow(cse):
    long = "dog " * (cse.max_tokens + 5)
    unused = "dog " * (cse.max_tokens + 9)
    array = pa.DictionaryArray.from_arrays(pa.array([0, 0, 1]), pa.array([long, "dog", unused]))
    for texts in (array, pa.array([long, long, "dog"])):
        table = pa.table({"text": texts})
        with pytest.warns(
            TruncationWarning, match=rf"2 texts .*the longest has {cse.max_tokens + 5}"
        ) as seen:
            cse.encode_table(table, batch_size=1)
        assert len(seen) == 1
        assert seen[0].filename == __file__
        with pytest.raises(TextTooLongError, match="longer than max_tokens"):
            cse.encode_table(table, on_overflow="error")
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            cse.encode_table(table, on_overflow="ignore")
            cse.encode_table(table.slice(2), on_overflow="error")


def test_prompts_and_roles(kind):
    encoder = with_prompts(make_bert(), query="the dog ", document="a cat ", other="not good ")
    table = pa.table({"text": kind(TEXTS)})
    for options, method in (
        ({"role": "query"}, encoder.encode_query),
        ({"role": "document"}, encoder.encode_document),
        ({"prompt_name": "other"}, lambda texts: encoder.encode(texts, prompt_name="other")),
    ):
        vectors = method([text or "" for text in TEXTS])
        vectors[[text is None for text in TEXTS]] = np.nan
        result = encoder.encode_table(table, **options)
        assert_equal_bits(matrix(result["embedding"]), vectors)
    with pytest.raises(ValueError, match="role is 'query' and prompt_name is 'other'"):
        encoder.encode_table(table, role="query", prompt_name="other")
    with pytest.raises(ValueError, match="role is 'passage'"):
        encoder.encode_table(table, role="passage")
    with pytest.raises(ValueError, match="prompt_name is 'another'"):
        encoder.encode_table(table, prompt_name="another")


def test_roles_of_a_pair():
    pair = make_pair(widths=(2,), combine="both", average_dim=6)
    texts = ["a dog", "", "the cat in the park"]
    for role, method in (("query", pair.encode_query), ("document", pair.encode_document)):
        result = pair.encode_table(pa.table({"text": texts}), role=role)
        assert_equal_bits(matrix(result["embedding"]), method(texts))
        assert result.schema.metadata[b"fingerprint"].decode() == pair.fingerprint()


def test_errors(cse):
    table = pa.table({"text": ["dog"], "n": [1], "embedding": ["taken"], "v_scale": [1.0]})
    for options, kind, message in (
        ({}, ValueError, "the table has a column 'embedding'"),
        ({"column": "v", "dtype": "int8"}, ValueError, "the table has a column 'v_scale'"),
        ({"text": "body", "column": "v"}, ValueError, "no column 'body', expected one of 'text', 'n', 'emb"),
        ({"text": "n", "column": "v"}, TypeError, "the column 'n' is an Arrow array of int64"),
        ({"column": "v", "dtype": "float64"}, ValueError, "dtype is 'float64'"),
        ({"column": "v", "truncate_dim": 1000}, ValueError, "truncate_dim is 1000"),
        ({"column": "v", "on_overflow": "no"}, ValueError, "on_overflow is 'no'"),
    ):
        with pytest.raises(kind, match=message):
            cse.encode_table(table, **options)
    twice = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    with pytest.raises(ValueError, match="several columns 'text'"):
        cse.encode_table(twice)
    for bad in (["dog"], {"text": ["dog"]}, pa.array(["dog"]), None):
        with pytest.raises(TypeError, match=r"table is \w+.*, expected a pyarrow.Table"):
            cse.encode_table(bad)
    for array in (pa.array([1]), pa.array([b"dog"]), pa.array([["dog"]]), pa.array([1]).dictionary_encode()):
        with pytest.raises(TypeError, match="texts is an Arrow array of"):
            cse.encode(array)
        with pytest.raises(TypeError, match="texts is an Arrow array of"):
            cse.encode_iter(array)


def test_texts_that_are_no_utf8_are_refused(cse):
    array = pa.array([b"dog", b"\xff\xfe"]).view(pa.string())
    with pytest.raises(ValueError, match=r"(?i)utf-?8"):
        cse.encode_table(pa.table({"text": array}))


@pytest.mark.parametrize("dtype", ["float32", "float16", "int8"])
def test_files_of_tables_are_read(cse, tmp_path, dtype):
    path = tmp_path / "table.parquet"
    pq.write_table(cse.encode_table(pa.table({"n": range(8), "text": TEXTS}), dtype=dtype), path)
    read = read_vector_file(path)
    kept = [text for text in TEXTS if text]
    assert read.texts == kept
    wanted = cse.encode(kept, normalize_embeddings=True)
    np.testing.assert_allclose(read.vectors(np.arange(len(kept))), wanted, rtol=0, atol=5e-3)
    assert read.described["fingerprint"] == cse.fingerprint()
    assert read.described["space"] == cse.space
    index = sentenc.Index(cse)
    index.add(pa.array(kept))
    assert len(index) == len(kept)
