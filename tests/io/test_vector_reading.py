"""Texts with vectors from files: every format, other names, and rows that cannot be used."""

import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from sentenc import TextFileError
from sentenc.io import text_vectors
from sentenc.io.vector_reading import read_vector_file
from sentenc.io.vectors import write_vectors

TEXTS = ["a man", "two dogs", "die Straße", "東京", "last"]
VECTORS = np.random.default_rng(0).standard_normal((5, 6)).astype(np.float32)
UNIT = VECTORS / np.linalg.norm(VECTORS, axis=1, keepdims=True)


def write_npz(path, texts, vectors, names=("text", "embedding"), write=np.savez):
    write(path, **{names[0]: np.array(texts), names[1]: vectors})


def write_parquet(path, texts, vectors, names=("text", "embedding"), kind=None):
    kind = kind or pa.list_(pa.float32())
    columns = [
        pa.array(texts, pa.string()),
        pa.array([None if v is None else list(v) for v in vectors], kind),
    ]
    pq.write_table(pa.table(dict(zip(names, columns, strict=True))), path)


def write_jsonl(path, texts, vectors, names=("text", "embedding")):
    with open(path, "w") as file:
        for text, vector in zip(texts, vectors, strict=True):
            row = {names[0]: text, names[1]: None if vector is None else [float(x) for x in vector]}
            file.write(json.dumps(row) + "\n")


WRITERS = {".npz": write_npz, ".parquet": write_parquet, ".jsonl": write_jsonl}


@pytest.fixture(params=WRITERS)
def suffix(request):
    return request.param


def check(read, expected_texts=TEXTS, expected=UNIT):
    assert read.texts == expected_texts
    assert (len(read), read.dim) == (len(expected_texts), expected.shape[1])
    # Vectors that are copied are stored in float16.
    np.testing.assert_allclose(read.vectors(np.arange(len(read))), expected, rtol=0, atol=1e-3)
    np.testing.assert_allclose(read.vectors([1, 0]), expected[[1, 0]], rtol=0, atol=1e-3)
    blocks = list(read.blocks())
    assert [text for texts, _ in blocks for text in texts] == expected_texts
    np.testing.assert_allclose(
        np.concatenate([vectors for _, vectors in blocks]), expected, rtol=0, atol=1e-3
    )


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_files_of_sentenc_encode_are_read(tmp_path, suffix, dtype):
    path = tmp_path / f"vectors{suffix}"
    blocks = iter([(TEXTS[:2], VECTORS[:2].astype(dtype)), (TEXTS[2:], VECTORS[2:].astype(dtype))])
    write_vectors(path, blocks, 6, dtype, {"model": "cse-en", "fingerprint": "0123"})
    read = read_vector_file(path)
    check(read)
    if suffix == ".parquet":
        assert (read.described["model"], read.described["fingerprint"]) == ("cse-en", "0123")


def test_every_format_with_other_names(tmp_path, suffix):
    path = tmp_path / f"v{suffix}"
    WRITERS[suffix](path, TEXTS, VECTORS, ("title", "emb"))
    check(read_vector_file(path, text_field="title", vector_field="emb"))
    with pytest.raises(TextFileError, match=r"v\.\w+ has no \w+ 'text', 'texts', only 'title', 'emb'"):
        read_vector_file(path)
    with pytest.raises(TextFileError, match=r"has no \w+ 'nonsense', only 'title', 'emb'"):
        read_vector_file(path, text_field="title", vector_field="nonsense")


def test_common_names_are_known(tmp_path, suffix):
    WRITERS[suffix](tmp_path / f"v{suffix}", TEXTS, VECTORS, ("texts", "vectors"))
    check(read_vector_file(tmp_path / f"v{suffix}"))


@pytest.mark.parametrize(
    "kind",
    [
        pa.list_(pa.float64()),
        pa.large_list(pa.float32()),
        pa.list_(pa.float32(), 6),
        pa.list_(pa.float16(), 6),
    ],
)
def test_every_type_of_a_parquet_column(tmp_path, kind):
    vectors = VECTORS.astype(np.float16) if pa.types.is_float16(kind.value_type) else VECTORS
    write_parquet(tmp_path / "v.parquet", [*TEXTS, "null"], [*vectors, None], kind=kind)
    read = read_vector_file(tmp_path / "v.parquet")
    check(read)
    assert read.left_out == {"no vector": 1}


def test_whole_numbers_become_directions(tmp_path, suffix):
    vectors = np.arange(12, dtype=np.int64).reshape(4, 3)
    path = tmp_path / f"v{suffix}"
    options = {"kind": pa.list_(pa.int64())} if suffix == ".parquet" else {}
    WRITERS[suffix](path, TEXTS[:4], vectors, **options)
    check(read_vector_file(path), TEXTS[:4], vectors / np.linalg.norm(vectors, axis=1, keepdims=True))


def test_rows_that_cannot_be_used_are_left_out_and_counted(tmp_path, suffix):
    vectors = VECTORS.copy()
    vectors[0], vectors[1, 3], vectors[2, 0] = 0, np.nan, -np.inf
    texts = ["zero", "nan", "infinite", " \t", "good"]
    path = tmp_path / f"v{suffix}"
    WRITERS[suffix](path, texts, vectors)
    read = read_vector_file(path)
    assert read.texts == ["good"]
    np.testing.assert_allclose(read.vectors([0]), UNIT[4:], atol=1e-3)
    assert read.left_out == {"no text": 1, "zero vector": 1, "vector with NaN or infinity": 2}


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_nulls_are_left_out_and_counted(tmp_path, suffix):
    path = tmp_path / f"v{suffix}"
    WRITERS[suffix](path, ["a", None, "c", "d"], [VECTORS[0], VECTORS[1], None, VECTORS[3]])
    read = read_vector_file(path)
    assert read.texts == ["a", "d"]
    assert read.left_out == {"no text": 1, "no vector": 1}
    np.testing.assert_allclose(read.vectors([0, 1]), UNIT[[0, 3]], atol=1e-3)


def test_a_null_within_a_vector_is_not_a_number(tmp_path):
    write_parquet(tmp_path / "v.parquet", ["a", "b"], [[1.0, None], [1.0, 0.0]])
    read = read_vector_file(tmp_path / "v.parquet")
    assert (read.texts, read.left_out) == (["b"], {"vector with NaN or infinity": 1})


def test_huge_and_tiny_vectors_are_scaled(tmp_path, suffix):
    vectors = np.array([[3e30, 4e30], [3e-30, 4e-30]], np.float32)
    WRITERS[suffix](tmp_path / f"v{suffix}", TEXTS[:2], vectors)
    check(read_vector_file(tmp_path / f"v{suffix}"), TEXTS[:2], np.array([[0.6, 0.8], [0.6, 0.8]]))


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_vectors_of_different_lengths_are_an_error_with_the_row(tmp_path, suffix):
    path = tmp_path / f"v{suffix}"
    WRITERS[suffix](path, TEXTS[:3], [[1.0, 2.0], [1.0, 2.0], [1.0, 2.0, 3.0]])
    with pytest.raises(TextFileError, match=r"(row|line) 3: the vector has 3 numbers, expected 2"):
        read_vector_file(path)


def test_arrays_of_different_lengths_are_an_error(tmp_path):
    write_npz(tmp_path / "v.npz", TEXTS, VECTORS[:4])
    with pytest.raises(TextFileError, match=r"v\.npz has 5 texts and 4 vectors, expected one each"):
        read_vector_file(tmp_path / "v.npz")


@pytest.mark.parametrize("dim", [1536, 4096])
def test_wide_vectors_and_no_wider_ones(tmp_path, suffix, dim):
    vectors = np.random.default_rng(1).standard_normal((3, dim)).astype(np.float32)
    WRITERS[suffix](tmp_path / f"v{suffix}", TEXTS[:3], vectors)
    expected = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    check(read_vector_file(tmp_path / f"v{suffix}"), TEXTS[:3], expected)
    WRITERS[suffix](tmp_path / f"w{suffix}", TEXTS[:1], np.ones((1, 4097), np.float32))
    with pytest.raises(TextFileError, match=r"the vectors have 4097 dimensions, expected 1 to 4096"):
        read_vector_file(tmp_path / f"w{suffix}")


def test_vectors_are_mapped_or_kept_in_a_temporary_file(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(text_vectors, "_MOST_BYTES_IN_MEMORY", 20)
    monkeypatch.setattr(text_vectors, "_BYTES_PER_BLOCK", 2 * 4 * 6)
    path = tmp_path / f"v{suffix}"
    WRITERS[suffix](path, TEXTS, VECTORS)
    monkeypatch.setattr(text_vectors.tempfile, "tempdir", str(tmp_path))
    check(read_vector_file(path))
    assert [file.name for file in tmp_path.iterdir()] == [f"v{suffix}"]


def test_a_compressed_npz_and_one_in_fortran_order(tmp_path):
    write_npz(tmp_path / "v.npz", TEXTS, VECTORS, write=np.savez_compressed)
    check(read_vector_file(tmp_path / "v.npz"))
    write_npz(tmp_path / "f.npz", TEXTS, np.asfortranarray(VECTORS))
    check(read_vector_file(tmp_path / "f.npz"))
    write_npz(tmp_path / "b.npz", [text.encode() for text in TEXTS], VECTORS)
    check(read_vector_file(tmp_path / "b.npz"))


def test_the_npz_of_sentenc_encode_has_no_texts(tmp_path):
    write_vectors(tmp_path / "v.npz", iter([(TEXTS, VECTORS)]), 6, "float32", {"model": "m"})
    with pytest.raises(TextFileError, match=r"has no array 'text', 'texts', only 'embeddings', 'model'"):
        read_vector_file(tmp_path / "v.npz")


@pytest.mark.parametrize(
    ("texts", "vectors", "message"),
    [
        (np.array(TEXTS, object), VECTORS, r"contains Python objects"),
        ([1, 2, 3, 4, 5], VECTORS, r"'text' is int64 of shape \(5,\), expected texts"),
        ([b"\xff"] * 5, VECTORS, r"'text' is not UTF-8"),
        (TEXTS, VECTORS[0], r"'embedding' is float32 of shape \(6,\), expected numbers of shape \(n, dim\)"),
        (TEXTS, VECTORS > 0, r"'embedding' is bool"),
        ([""] * 5, VECTORS, r"has no text with a vector"),
    ],
)
def test_arrays_of_other_types_are_named(tmp_path, texts, vectors, message):
    write_npz(tmp_path / "v.npz", texts, vectors)
    with pytest.raises(TextFileError, match=message):
        read_vector_file(tmp_path / "v.npz")


def test_columns_of_other_types_are_named(tmp_path):
    path = tmp_path / "v.parquet"
    pq.write_table(pa.table({"text": ["a"], "embedding": ["[1, 2]"]}), path)
    with pytest.raises(TextFileError, match=r"'embedding' has the type string, expected lists of numbers"):
        read_vector_file(path)
    pq.write_table(pa.table({"text": [1], "embedding": [[1.0]]}), path)
    with pytest.raises(TextFileError, match=r"'text' has the type int64, expected strings"):
        read_vector_file(path)
    write_jsonl(tmp_path / "v.jsonl", ["a"], [[1.0]])
    (tmp_path / "large.jsonl").write_text(f'{{"text": "a", "embedding": [{10**400}]}}\n')
    with pytest.raises(TextFileError, match=r"line 1: .* expected a list of numbers"):
        read_vector_file(tmp_path / "large.jsonl")
    (tmp_path / "v.jsonl").write_text('{"text": "a", "embedding": "[1, 2]"}\n')
    with pytest.raises(TextFileError, match=r"line 1: the vector is a string, expected a list of numbers"):
        read_vector_file(tmp_path / "v.jsonl")


def test_damaged_and_unknown_files_are_named(tmp_path, suffix):
    path = tmp_path / f"v{suffix}"
    path.write_bytes(b"\x00nonsense")
    with pytest.raises(TextFileError, match=rf"v\{suffix}"):
        read_vector_file(path)
    with pytest.raises(ValueError, match=r"v\.npy ends in '\.npy', expected \.parquet, \.npz or \.jsonl"):
        read_vector_file(tmp_path / "v.npy")
    with pytest.raises(FileNotFoundError):
        read_vector_file(tmp_path / f"missing{suffix}")


def test_a_single_array_is_no_archive(tmp_path):
    with open(tmp_path / "v.npz", "wb") as file:
        np.save(file, VECTORS)
    with pytest.raises(
        TextFileError, match=r"v\.npz is no \.npz archive, expected one as np\.savez writes it"
    ):
        read_vector_file(tmp_path / "v.npz")
