"""Files encoded into a folder: the vectors, the columns, and the files that fail."""

import gzip
import os
import sys
import warnings
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import sentenc
from sentenc import ShardError, TextFileError, TruncationWarning
from sentenc.io.vector_reading import read_vector_folder
from sentenc.shards import encode_files, encoding
from sentenc.shards.manifest import MANIFEST
from tests.shards.conftest import files_in, hidden_in, vectors_of, write_json, write_parquet


@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_every_row_has_the_vector_of_its_text(inputs, tmp_path, model, processes, dtype):
    options = {"normalize_embeddings": True, "truncate_dim": 6, "dtype": dtype}
    report = encode_files([inputs], tmp_path / "out", model=model, processes=processes, **options)
    assert report == (3, 120, 0, 6)
    assert files_in(tmp_path / "out") == [MANIFEST, "part-0.parquet", "part-1.parquet", "part-2.parquet"]
    for number in range(3):
        table = pq.read_table(tmp_path / "out" / f"part-{number}.parquet")
        source = pq.read_table(inputs / f"part-{number}.parquet")
        assert table.drop_columns(["embedding"]).equals(source)
        assert table.column_names[-1] == "embedding"
        texts = source["text"].to_pylist()
        assert table["embedding"].is_null().to_pylist() == [text is None for text in texts]
        expected = sentenc.load(model).encode([text or "" for text in texts], **options)
        np.testing.assert_array_equal(vectors_of(table), expected)
        assert (
            str(table.schema.field("embedding").type.value_type)
            == {"float32": "float", "float16": "halffloat"}[dtype]
        )


def test_the_folder_can_be_read_as_one_table(inputs, tmp_path, encoder):
    encode_files(inputs, tmp_path / "out", model=encoder)
    table = pq.read_table(tmp_path / "out")
    assert len(table) == len(set(table["id"].to_pylist())) == 120


def test_int8_has_a_column_of_scales(inputs, tmp_path, encoder):
    encode_files(inputs, tmp_path / "out", model=encoder, dtype="int8", column="v")
    table = pq.read_table(tmp_path / "out" / "part-0.parquet")
    scales = np.array(table["v_scale"].fill_null(0))
    texts = [text or "" for text in table["text"].to_pylist()]
    np.testing.assert_allclose(vectors_of(table, "v") * scales[:, None], encoder.encode(texts), atol=0.02)


def test_only_vectors_have_no_dictionary(inputs, tmp_path, encoder):
    encode_files(inputs, tmp_path / "out", model=encoder, dtype="int8")
    group = pq.ParquetFile(tmp_path / "out" / "part-0.parquet").metadata.row_group(0)
    columns = [group.column(number) for number in range(group.num_columns)]
    assert {column.path_in_schema: column.has_dictionary_page for column in columns} == {
        "id": True, "text": True, "tags.list.element": True, "embedding.list.element": False,
        "embedding_scale": True,
    }  # fmt: skip


def test_equal_names_are_refused_with_both(inputs, tmp_path, encoder):
    (tmp_path / "more").mkdir()
    write_json(tmp_path / "more" / "part-1.jsonl", [{"text": "dog"}])
    with pytest.raises(ShardError) as error:
        encode_files([inputs, tmp_path / "more"], tmp_path / "out", model=encoder)
    for path in (inputs / "part-1.parquet", tmp_path / "more" / "part-1.jsonl"):
        assert str(path) in str(error.value)
    with pytest.raises(ShardError, match="twice"):
        encode_files([inputs, inputs / "part-1.parquet"], tmp_path / "out", model=encoder)
    assert not (tmp_path / "out").exists()


def test_folders_and_patterns(inputs, tmp_path, encoder):
    below = inputs / "below"
    below.mkdir()
    (below / "more.txt").write_text("dog\n")
    for name in ("_SUCCESS", ".hidden.parquet", "_metadata.parquet", "README.md"):
        (inputs / name).write_text("nothing to encode")
    # The output is in the input.
    for _ in range(2):
        assert encode_files(inputs, inputs / "out", model=encoder).files == 4
    report = encode_files(str(inputs / "part-[01].parquet"), tmp_path / "out", model=encoder)
    assert files_in(tmp_path / "out") == [MANIFEST, "part-0.parquet", "part-1.parquet"]
    assert report.files == 2
    for nothing in (str(inputs / "*.csv"), inputs / "empty"):
        (inputs / "empty").mkdir(exist_ok=True)
        with pytest.raises(ShardError, match=r"csv|empty"):
            encode_files(nothing, tmp_path / "out", model=encoder)
    with pytest.raises(FileNotFoundError):
        encode_files(inputs / "none.parquet", tmp_path / "out", model=encoder)


@pytest.mark.parametrize("processes", [1, 2])
def test_a_damaged_file_fails_alone(inputs, tmp_path, encoder, processes):
    (inputs / "bad.parquet").write_bytes(b"PAR1 nothing")
    write_json(inputs / "worse.jsonl", [{"text": "dog"}, {"text": 3}])
    out = tmp_path / "out"
    with pytest.raises(ShardError) as error:
        encode_files(inputs, out, model=encoder, processes=processes)
    assert set(error.value.failures) == {str(inputs / "bad.parquet"), str(inputs / "worse.jsonl")}
    assert "line 2" in error.value.failures[str(inputs / "worse.jsonl")]
    for name in ("bad.parquet", "worse.jsonl", "2 of 5"):
        assert name in str(error.value)
    assert files_in(out) == [MANIFEST, "part-0.parquet", "part-1.parquet", "part-2.parquet"]
    assert not [name for name in hidden_in(out) if name.endswith(".tmp")]
    write_parquet(inputs / "bad.parquet", 1, 5)
    (inputs / "worse.jsonl").unlink()
    assert encode_files(inputs, out, model=encoder, processes=processes) == (4, 125, 3, encoder.dim)


@pytest.mark.skipif(sys.platform != "linux", reason="the change of the class must be in forked processes")
def test_a_file_that_ends_its_process_is_named(inputs, tmp_path, encoder, monkeypatch):
    # Threads of the tests' own runner would keep the processes from being forked.
    monkeypatch.setattr("threading.active_count", lambda: 1)

    def ends(self, source, on_rows, original=encoding.Job.__call__):
        if source.target == "part-1.parquet":
            os.kill(os.getpid(), 9)
        return original(self, source, on_rows)

    monkeypatch.setattr(encoding.Job, "__call__", ends)
    with pytest.raises(ShardError, match="SIGKILL") as error:
        encode_files(inputs, tmp_path / "out", model=encoder, processes=2)
    assert set(error.value.failures) == {str(inputs / "part-1.parquet")}
    assert files_in(tmp_path / "out") == [MANIFEST, "part-0.parquet", "part-2.parquet"]


def test_a_full_disk_ends_the_run(inputs, tmp_path, encoder, monkeypatch):
    tried = []

    def full(self, source, on_rows):
        tried.append(source.target)
        raise OSError(28, "No space left on device", source.target)

    monkeypatch.setattr(encoding.Job, "__call__", full)
    with pytest.raises(ShardError, match="No space"):
        encode_files(inputs, tmp_path / "out", model=encoder)
    assert len(tried) == 1


def test_columns_are_chosen(inputs, tmp_path, encoder):
    encode_files(inputs, tmp_path / "one", model=encoder, columns=["tags", "id"])
    table = pq.read_table(tmp_path / "one" / "part-0.parquet")
    assert table.column_names == ["tags", "id", "embedding"]
    encode_files(inputs, tmp_path / "two", model=encoder, columns=["text"])
    assert pq.read_table(tmp_path / "two" / "part-0.parquet").column_names == ["text", "embedding"]
    encode_files(inputs, tmp_path / "three", model=encoder, columns=[], text="id")
    ids = pq.read_table(inputs / "part-0.parquet")["id"].to_pylist()
    table = pq.read_table(tmp_path / "three" / "part-0.parquet")
    assert table.column_names == ["embedding"]
    np.testing.assert_array_equal(vectors_of(table), encoder.encode(ids))
    with pytest.raises(ShardError, match="'absent'"):
        encode_files(inputs, tmp_path / "four", model=encoder, columns=["absent"])


def test_columns_in_the_names_of_folders_are_left_out_with_a_warning(tmp_path, encoder):
    for year in (2019, 2020):
        folder = tmp_path / "table" / f"year={year}" / "month=1"
        folder.mkdir(parents=True)
        write_parquet(folder / f"part-{year}.parquet", year, 3)
    with pytest.warns(UserWarning, match="'month', 'year'"):
        report = encode_files(tmp_path / "table", tmp_path / "out", model=encoder)
    assert report.rows == 6
    assert not {"year", "month"} & set(pq.read_table(tmp_path / "out").column_names)


def test_files_in_a_linked_folder_are_encoded(inputs, tmp_path, encoder):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "link").symlink_to(inputs)
    names = sorted(path.name for path in inputs.glob("*.parquet"))
    report = encode_files(tmp_path / "texts", tmp_path / "out", model=encoder)
    assert report.files == len(names)
    (tmp_path / "vectors").mkdir()
    (tmp_path / "vectors" / "link").symlink_to(tmp_path / "out")
    assert len(read_vector_folder(tmp_path / "vectors")) == len(read_vector_folder(tmp_path / "out")) > 0


def test_a_column_that_is_named_twice_is_refused(inputs, tmp_path, encoder):
    with pytest.raises(ValueError, match="'id' twice"):
        encode_files(inputs, tmp_path / "out", model=encoder, columns=["id", "tags", "id"])
    assert not (tmp_path / "out").exists()


def test_text_columns_of_arrow_types(tmp_path, encoder):
    texts = ["dog", None, "", "a man"]
    (tmp_path / "in").mkdir()
    types = {
        "large": pa.large_string(),
        "words": pa.dictionary(pa.int8(), pa.string()),
        "all-null": pa.null(),
    }
    for name, kind in types.items():
        values = [None] * 4 if name == "all-null" else texts
        pq.write_table(pa.table({"text": pa.array(values).cast(kind)}), tmp_path / "in" / f"{name}.parquet")
    pq.write_table(pa.table({"text": pa.array([], pa.string())}), tmp_path / "in" / "no-rows.parquet")
    encode_files(tmp_path / "in", tmp_path / "out", model=encoder)
    for name in types:
        table = pq.read_table(tmp_path / "out" / f"{name}.parquet")
        values = [None] * 4 if name == "all-null" else texts
        assert table["text"].to_pylist() == values
        np.testing.assert_array_equal(
            vectors_of(table),
            encoder.encode([text or "" for text in values]) * [[text is not None] for text in values],
        )
    assert (
        pq.read_table(tmp_path / "out" / "no-rows.parquet").schema.field("embedding").type.list_size
        == encoder.dim
    )


def test_a_column_that_is_no_text_is_named(inputs, tmp_path, encoder):
    with pytest.raises(ShardError, match="'tags'"):
        encode_files(inputs, tmp_path / "out", model=encoder, text="tags")


def test_records_keep_all_fields(tmp_path, encoder):
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a.csv.gz").write_bytes(
        gzip.compress(b'id,text,note\n1,a dog,\n2,,"x, y"\n\n3,man,z\n')
    )
    (tmp_path / "in" / "b.txt").write_text("dog\n\na man")
    (tmp_path / "in" / "c.tsv").write_text('text\tn\n"dog\t1\n')
    encode_files(tmp_path / "in", tmp_path / "out", model=encoder)
    table = pq.read_table(tmp_path / "out" / "a.parquet")
    assert table.drop_columns(["embedding"]).to_pydict() == {
        "id": ["1", "2", "3"], "text": ["a dog", "", "man"], "note": [None, "x, y", "z"],
    }  # fmt: skip
    np.testing.assert_array_equal(vectors_of(table), encoder.encode(["a dog", "", "man"]))
    assert pq.read_table(tmp_path / "out" / "b.parquet")["text"].to_pylist() == ["dog", "", "a man"]
    assert pq.read_table(tmp_path / "out" / "c.parquet")["text"].to_pylist() == ['"dog']


def test_row_groups_and_batches_are_bounded(tmp_path, encoder, monkeypatch):
    monkeypatch.setattr(encoding, "_ROWS_PER_GROUP", 1000)
    monkeypatch.setattr("sentenc.shards.reading._BYTES_PER_TABLE", 40_000)
    sizes = []
    original = encoding.Job.encode

    def sized(self, table, text):
        sizes.append(len(table))
        return original(self, table, text)

    monkeypatch.setattr(encoding.Job, "encode", sized)
    texts = [f"word {number} {'dog ' * 22}" for number in range(2500)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    encode_files(tmp_path / "a.parquet", tmp_path / "out", model=encoder)
    assert 100 < max(sizes) < 500
    file = pq.ParquetFile(tmp_path / "out" / "a.parquet")
    assert [file.metadata.row_group(i).num_rows >= 1000 for i in range(file.num_row_groups)][:-1] == [
        True
    ] * 2
    np.testing.assert_array_equal(vectors_of(file.read()), encoder.encode(texts))


def test_long_texts_warn_once(inputs, tmp_path, model):
    encoder = sentenc.load(model, max_tokens=2)
    with warnings.catch_warnings(record=True) as messages:
        warnings.simplefilter("always")
        encode_files(inputs, tmp_path / "out", model=encoder, processes=2)
    [message] = [m for m in messages if issubclass(m.category, TruncationWarning)]
    assert "part-0.parquet" in str(message.message)
    assert "max_tokens=2" in str(message.message)
    with pytest.raises(ShardError, match="max_tokens=2") as error:
        encode_files(inputs, tmp_path / "other", model=encoder, on_overflow="error")
    assert len(error.value.failures) == 3


def test_wrong_options_are_refused_before_any_file(inputs, tmp_path, encoder):
    for options, kind in [
        ({"dtype": "float64"}, ValueError), ({"truncate_dim": 1000}, ValueError), ({"processes": 0}, ValueError),
        ({"processes": "2"}, TypeError), ({"prompt_name": "absent"}, ValueError), ({"format": "json"}, ValueError),
        ({"on_overflow": "stop"}, ValueError),
    ]:  # fmt: skip
        with pytest.raises(kind):
            encode_files(inputs, tmp_path / "out", model=encoder, **options)
    assert not Path(tmp_path / "out").exists()
    with pytest.raises(ShardError, match="-"):
        encode_files("-", tmp_path / "out", model=encoder)


def test_a_role_has_its_prompt(inputs, tmp_path, model):
    encoder = sentenc.load(model, query_prompt="man ")
    encode_files(inputs / "part-0.parquet", tmp_path / "out", model=encoder, role="query")
    table = pq.read_table(tmp_path / "out" / "part-0.parquet")
    valid = table.filter(table["text"].is_valid())
    np.testing.assert_array_equal(vectors_of(valid), encoder.encode_query(valid["text"].to_pylist()))


def test_an_object_store_appears_file_by_file(inputs, tmp_path, encoder, encoded, monkeypatch):
    fsspec = pytest.importorskip("fsspec")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    store = fsspec.filesystem("memory")
    store.put(f"{inputs}/", "/bucket/in/", recursive=True)
    store.pipe_file("/bucket/in/more.csv", b"text\na dog\n")
    store.pipe_file("/bucket/in/_SUCCESS", b"")
    for skipped in (0, 4):
        report = encode_files("memory://bucket/in", "memory://bucket/out", model=encoder)
        assert report == (4, 121, skipped, encoder.dim)
    assert len(encoded) == 4
    names = {name.rpartition("/")[2] for name in store.ls("/bucket/out", detail=False)}
    assert names == {MANIFEST, "more.parquet", "part-0.parquet", "part-1.parquet", "part-2.parquet"}
    # From the store to this machine, and back.
    assert encode_files("memory://bucket/in/part-*.parquet", tmp_path / "out", model=encoder).files == 3
    assert encode_files(tmp_path / "out", "memory://bucket/back", model=encoder, column="again").files == 3
    for number in range(3):
        with store.open(f"/bucket/back/part-{number}.parquet") as file:
            table = pq.read_table(file)
        np.testing.assert_array_equal(vectors_of(table), vectors_of(table, "again"))
    with pytest.raises(ShardError, match="no file"):
        encode_files("memory://bucket/in/*.txt", tmp_path / "out", model=encoder)
    with pytest.raises(TextFileError, match="FileNotFoundError"):
        encode_files("memory://bucket/none.parquet", tmp_path / "out", model=encoder)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("sentenc-")] == []


def test_slow_models_report_progress_in_short_steps(tmp_path, encoder, monkeypatch):
    texts = [f"word {number}" for number in range(8000)]
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    clock = iter(range(10**6))
    monkeypatch.setattr(encoding.time, "monotonic", lambda: 3.0 * next(clock))
    sizes = []
    original = encoding.Job.encode

    def sized(self, table, text):
        sizes.append(len(table))
        return original(self, table, text)

    monkeypatch.setattr(encoding.Job, "encode", sized)
    encode_files(tmp_path / "a.parquet", tmp_path / "out", model=encoder)
    assert max(sizes) == 1024
    assert set(sizes[5:-1]) == {128}
    np.testing.assert_array_equal(
        vectors_of(pq.read_table(tmp_path / "out" / "a.parquet")), encoder.encode(texts)
    )


def test_one_file_of_many_rows(tmp_path, encoder):
    # A table of 8,192 rows takes so little time that the steps would grow without a limit.
    tables = [pa.table({"text": pa.nulls(8192, pa.string())})] * 70
    with pq.ParquetWriter(tmp_path / "many.parquet", tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
    assert encode_files(tmp_path / "many.parquet", tmp_path / "out", model=encoder).rows == 70 * 8192


def test_files_of_the_same_size_and_time_are_different_files(tmp_path, encoder):
    for folder, text in (("x", "dog\n"), ("y", "man\n")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text(text)
        os.utime(tmp_path / folder / "a.txt", (0, 0))
    encode_files(tmp_path / "x", tmp_path / "out", model=encoder)
    with pytest.raises(ShardError, match=r"x.a\.txt.*y.a\.txt"):
        encode_files(tmp_path / "y", tmp_path / "out", model=encoder)


def test_the_format_of_a_file_is_an_option_of_the_vectors(tmp_path, encoder):
    (tmp_path / "a.csv").write_text("id,text\n1,dog\n")
    encode_files(tmp_path / "a.csv", tmp_path / "out", model=encoder, format="text")
    with pytest.raises(ShardError, match="format is None, expected 'text'"):
        encode_files(tmp_path / "a.csv", tmp_path / "out", model=encoder)


def test_names_that_readers_leave_out_are_refused(tmp_path, encoder):
    (tmp_path / "_a.csv").write_text("text\ndog\n")
    with pytest.raises(ShardError, match=r"_a\.parquet"):
        encode_files(tmp_path / "_a.csv", tmp_path / "out", model=encoder)


def test_the_new_column_may_be_called_text(tmp_path, encoder):
    (tmp_path / "a.csv").write_text("sentence\ndog\n")
    encode_files(tmp_path / "a.csv", tmp_path / "out", model=encoder, column="text")
    assert pq.read_table(tmp_path / "out" / "a.parquet").column_names == ["sentence", "text"]


@pytest.mark.parametrize(
    ("inputs", "options", "words"),
    [
        (None, {}, r"inputs is NoneType \(None\), expected a path"),
        (b"a.txt", {}, "inputs is bytes, expected a path"),
        (["a.txt", 3], {}, r"inputs\[1\] is int \(3\), expected a path"),
        ([b"a.txt"], {}, r"inputs\[0\] is bytes, expected a path"),
        ("a.txt", {"columns": "text"}, "columns is 'text', expected a list of names"),
    ],
)
def test_arguments_of_other_types(inputs, options, words, tmp_path, encoder):
    with pytest.raises(TypeError, match=words):
        encode_files(inputs, tmp_path / "out", model=encoder, **options)
    assert not (tmp_path / "out").exists()
