"""Teacher vectors from Parquet files, in the place of a teacher."""

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import sentenc
from sentenc.cli import cli
from sentenc.embedding_cache import EmbeddingCache
from sentenc.encoders.comparison import unit_rows
from sentenc.errors import CacheError, TextFileError
from sentenc.training.config.teacher import TeacherConfig, TeacherModel
from sentenc.training.recipes import pretraining as run_module
from sentenc.training.teachers.parquet_vectors import import_vectors
from tests.support.models import make_cse
from tests.support.training import sentences

pa = pytest.importorskip("pyarrow")
pq = pytest.importorskip("pyarrow.parquet")

RUN = """
output = "model"

[student]
init = "random"
tokenizer = "teacher"
config = { embedding_dim = 12, num_filters = 4 }

[teacher]
vectors = ["vectors/"]

[corpora.text]
sources = [{ files = ["sentences.txt"], form = "sentences" }]

[[losses]]
kind = "embedding_distillation"
corpus = "text"
batch_size = 32

[training]
epochs = 2
warmup = 2
learning_rate = 1e-2
device = "cpu"
keep = "last"
"""
TEXTS = list(dict.fromkeys(sentences(1, 300)))


@pytest.fixture(scope="module")
def teacher():
    return make_cse(embedding_dim=16)


@pytest.fixture(autouse=True)
def _no_curves(monkeypatch):
    monkeypatch.setattr(run_module, "draw_curves", lambda _log, _folder: None)


@pytest.fixture
def folder(tmp_path, teacher):
    teacher.save(tmp_path / "teacher")
    (tmp_path / "run.toml").write_text(RUN)
    (tmp_path / "sentences.txt").write_text("\n".join(TEXTS))
    write_shards(tmp_path / "vectors", teacher, TEXTS)
    return tmp_path


def column(vectors, dtype):
    """Vectors as lists of a fixed size; int8 with a scale for each row, as encode_table writes them."""
    if dtype == "int8":
        scales = np.abs(vectors).max(axis=1) / 127
        vectors = np.rint(vectors / np.where(scales > 0, scales, 1)[:, None])
    values = pa.array(vectors.astype(dtype).reshape(-1))
    lists = {"embedding": pa.FixedSizeListArray.from_arrays(values, vectors.shape[1])}
    return lists | ({"embedding_scale": pa.array(scales.astype(np.float32))} if dtype == "int8" else {})


def write(
    path, texts, vectors, *, dtype="float32", fingerprint="abc", options=None, names=("text", "embedding")
):
    """Writes a shard as ``sentenc encode`` does, with a column that is not needed."""
    metadata = {} if fingerprint is None else {"model": "a teacher", "fingerprint": fingerprint, "space": "s"}
    if options is not None:
        metadata["sentenc.shard"] = json.dumps({"source": {"path": "x"}, "options": options})
    columns = {"id": list(range(len(texts))), "text": texts} | column(np.asarray(vectors), dtype)
    table = pa.table(columns).rename_columns(
        [dict(zip(("text", "embedding"), names, strict=True)).get(name, name) for name in columns]
    )
    path.parent.mkdir(exist_ok=True)
    pq.write_table(table.replace_schema_metadata(metadata), path, row_group_size=40)


def write_shards(folder, teacher, texts, **options):
    for i in range(3):
        part = texts[i::3]
        options = {"fingerprint": teacher.fingerprint()} | options
        write(folder / f"{i}.parquet", part, teacher.encode(part), **options)


def settings(folder, *vectors, **more):
    return TeacherConfig(vectors=vectors or (str(folder / "vectors"),), cache=str(folder / "cache"), **more)


def train(folder, *changes):
    arguments = [argument for change in changes for argument in ("--set", change)]
    return CliRunner().invoke(cli, ["train", str(folder / "run.toml"), *arguments], catch_exceptions=False)


def weights(folder):
    return (folder / "model.safetensors").read_bytes()


def test_a_run_with_vectors_trains_the_model_of_a_run_with_the_teacher(folder):
    (folder / "teacher").rename(folder / "hidden")
    result = train(folder, "student.tokenizer='hidden'")
    assert result.exit_code == 0, result.output
    # The teacher fills a cache of its own.
    table = "teacher={models=['hidden'], cache='other'}"
    assert train(folder, "student.tokenizer='hidden'", table, "output='second'", "work='w'").exit_code == 0
    assert weights(folder / "model") == weights(folder / "second")
    card = (folder / "model/README.md").read_text()
    assert f"embeddings of {len(TEXTS):,} texts" in card


@pytest.mark.parametrize(("dtype", "tolerance"), [("float32", 1e-3), ("float16", 1e-3), ("int8", 2e-2)])
def test_every_type_of_number_becomes_unit_vectors(tmp_path, teacher, dtype, tolerance):
    write_shards(tmp_path / "vectors", teacher, TEXTS, dtype=dtype)
    result = import_vectors(settings(tmp_path))
    assert (result.rows, result.added, result.left_out) == (len(TEXTS), len(TEXTS), {})
    cache = EmbeddingCache(tmp_path / "cache", teacher.fingerprint(), dtype="float16")
    expected = unit_rows(teacher.encode(TEXTS), "vectors")
    np.testing.assert_allclose(cache.lookup(TEXTS), expected, atol=tolerance)


def test_texts_without_a_vector_are_left_out_and_counted(folder, teacher):
    known = TEXTS[: len(TEXTS) // 2]
    for path in (folder / "vectors").iterdir():
        path.unlink()
    write_shards(folder / "vectors", teacher, known)
    result = train(folder)
    assert result.exit_code == 0, result.output
    assert json.loads((folder / "model/log.jsonl").read_text().splitlines()[-1])["step"] == 2 * (
        len(known) // 32
    )
    card = (folder / "model/README.md").read_text()
    assert f"embeddings of {len(known):,} texts" in card
    assert f"{len(known):,} of {len(TEXTS):,} examples have an embedding" in card
    assert f"corpus text: {len(known):,} of {len(TEXTS):,} examples have a teacher vector" in result.output


def test_rows_that_cannot_be_used_are_counted_by_reason(tmp_path):
    texts = ["a", None, "  ", "zero", "nan", "a", " padded\n", "null"]
    vectors = np.ones((8, 4), np.float32)
    vectors[3], vectors[4, 2], vectors[5] = 0, np.nan, 2
    write(tmp_path / "v.parquet", texts, vectors)
    table = pq.read_table(tmp_path / "v.parquet")
    lists = table.column("embedding").to_pylist()
    kind = table.schema.field("embedding").type
    embeddings = pa.array([*lists[:7], None], kind)
    pq.write_table(table.set_column(2, "embedding", embeddings), tmp_path / "v.parquet")
    result = import_vectors(settings(tmp_path, str(tmp_path / "v.parquet")))
    expected = {"no text": 2, "no vector": 1, "zero vector": 1, "vector with NaN or infinity": 1}
    assert result.left_out == expected
    cache = EmbeddingCache(tmp_path / "cache", dtype="float16")
    # Corpora have no white space around a text.
    assert cache.has(["a", "padded", "zero", "nan", "null"]).tolist() == [True, True, False, False, False]
    assert result.added == len(cache) == 2


def test_files_are_imported_once_and_an_interrupted_import_is_resumed(tmp_path, teacher, monkeypatch):
    write_shards(tmp_path / "vectors", teacher, TEXTS)
    add, calls = EmbeddingCache.add, []

    def interrupted(cache, *arguments, **options):
        calls.append(0)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return add(cache, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingCache, "add", interrupted)
        with pytest.raises(KeyboardInterrupt):
            import_vectors(settings(tmp_path))
    rest = import_vectors(settings(tmp_path))
    assert (rest.rows, rest.added) == (len(TEXTS[2::3]), len(TEXTS[2::3]))
    assert import_vectors(settings(tmp_path)).rows == 0
    # A new file is added. Its texts that are known already are not stored again.
    write(
        tmp_path / "vectors/9.parquet",
        [*TEXTS[:5], "new"],
        np.ones((6, 16)),
        fingerprint=teacher.fingerprint(),
    )
    more = import_vectors(settings(tmp_path))
    assert (more.rows, more.added) == (6, 1)
    assert len(EmbeddingCache(tmp_path / "cache", dtype="float16")) == len(TEXTS) + 1
    for path in (tmp_path / "cache").glob("vectors-*.npy"):
        path.unlink()
    assert import_vectors(settings(tmp_path)).added == len(TEXTS) + 1
    (tmp_path / "cache/imported.json").write_text("{")
    with pytest.raises(CacheError, match=r"imported\.json is damaged"):
        import_vectors(settings(tmp_path))


def test_memory_is_bounded_by_small_shards(tmp_path, teacher, monkeypatch):
    monkeypatch.setattr("sentenc.training.teachers.parquet_vectors._BYTES_PER_SHARD", 2 * 16 * 30)
    monkeypatch.setattr("sentenc.io.vector_reading.rows_per_block", lambda _dim: 10)
    write_shards(tmp_path / "vectors", teacher, TEXTS)
    import_vectors(settings(tmp_path))
    shards = [np.load(path, mmap_mode="r") for path in (tmp_path / "cache").glob("vectors-*.npy")]
    assert sum(map(len, shards)) == len(TEXTS)
    assert max(map(len, shards)) == 30


def test_columns_are_those_that_sentenc_encode_states(tmp_path):
    names = ("sentence", "vec")
    write(
        tmp_path / "a.parquet", ["x"], np.ones((1, 4)), options={"text": None, "column": "vec"}, names=names
    )
    write(
        tmp_path / "b.parquet",
        ["y"],
        np.ones((1, 4)),
        options={"text": "sentence", "column": "vec"},
        names=names,
    )
    assert import_vectors(settings(tmp_path, str(tmp_path / "*.parquet"))).added == 2
    write(tmp_path / "c.parquet", ["z"], np.ones((1, 4)), names=names)
    with pytest.raises(TextFileError, match=r"c\.parquet has no column 'text'"):
        import_vectors(settings(tmp_path, str(tmp_path / "c.parquet")))


def test_a_folder_that_sentenc_encode_writes_is_read(folder, teacher):
    (folder / "texts").mkdir()
    for i in range(2):
        table = pa.table({"n": [i] * len(TEXTS[i::2]), "review": [f" {text} " for text in TEXTS[i::2]]})
        pq.write_table(table, folder / f"texts/{i}.parquet")
    for name in ("float32", "int8"):
        for i in range(2):
            arguments = ["encode", str(folder / f"texts/{i}.parquet"), "-o", f"{folder}/{name}/{i}/", "-q"]
            arguments += ["-m", str(folder / "teacher"), "--dtype", name, "--column", "vec"]
            assert CliRunner().invoke(cli, arguments, catch_exceptions=False).exit_code == 0
        cache = str(folder / f"{name}-cache")
        imported = import_vectors(
            TeacherConfig(vectors=(str(folder / name),), cache=cache), teacher.fingerprint
        )
        assert imported.added == len(TEXTS)
        vectors = EmbeddingCache(cache, teacher.fingerprint(), dtype="float16").lookup(TEXTS)
        np.testing.assert_allclose(vectors, unit_rows(teacher.encode(TEXTS), "vectors"), atol=2e-2)


def test_vectors_of_another_encoder_are_refused_by_both_names(folder, teacher):
    vectors = np.ones((1, 16))
    own = teacher.fingerprint()
    write(folder / "vectors/other.parquet", ["x"], vectors, fingerprint="other")
    with pytest.raises(CacheError, match=rf"0\.parquet.*{own}.*other\.parquet.*other"):
        import_vectors(settings(folder))
    only = str(folder / "vectors/other.parquet")
    with pytest.raises(CacheError, match=rf"other\.parquet.*other.*teacher\.models \(teacher\) is {own}"):
        import_vectors(settings(folder, only, models=("teacher",)), lambda: own)
    import_vectors(settings(folder, str(folder / "vectors/0.parquet")))
    with pytest.raises(CacheError, match=rf"other\.parquet.*other.*cache.*{own}"):
        import_vectors(settings(folder, only))
    # Queries and documents of one model may have different vectors.
    write(folder / "query.parquet", ["x"], vectors, fingerprint=own, options={"role": "query"})
    with pytest.raises(CacheError, match=rf"query\.parquet.*cache.*{own}.*{own} query"):
        import_vectors(settings(folder, str(folder / "query.parquet")))
    write(folder / "wide.parquet", ["x"], np.ones((1, 17)), fingerprint=own)
    with pytest.raises(TextFileError, match=r"wide\.parquet, row 1: .*17 numbers, expected 16"):
        import_vectors(settings(folder, str(folder / "wide.parquet")))


def test_the_model_of_a_run_is_compared_with_its_vectors(folder):
    result = train(folder, "teacher.models=['teacher']", "student.init='teacher'")
    assert result.exit_code == 0, result.output
    make_cse(embedding_dim=16, num_filters=4).save(folder / "another")
    with pytest.raises(CacheError, match=r"teacher\.models .*another"):
        train(folder, "teacher.models=['another']", "teacher.cache='empty'", "work='w'")


def test_vectors_without_metadata_are_accepted_and_not_mixed(tmp_path, teacher):
    write(tmp_path / "a.parquet", ["x"], np.ones((1, 16)), fingerprint=None)
    assert import_vectors(settings(tmp_path, str(tmp_path / "a.parquet"))).added == 1
    write_shards(tmp_path / "vectors", teacher, TEXTS)
    with pytest.raises(CacheError, match="unstated"):
        import_vectors(settings(tmp_path))


def test_a_resumed_run_imports_nothing(folder, teacher):
    assert train(folder, "training.epochs=1").exit_code == 0
    write(folder / "vectors/9.parquet", ["new"], np.ones((1, 16)), fingerprint=teacher.fingerprint())
    result = train(folder, "training.epochs=1")
    assert result.exit_code == 0, result.output
    assert not EmbeddingCache(folder / "teacher-embeddings", dtype="float16").has(["new"]).any()


def test_settings_that_contradict_each_other_are_refused():
    with pytest.raises(ValueError, match=r"max_minutes is 3.*vectors is \['v'\]"):
        TeacherConfig(vectors=("v",), max_minutes=3)
    with pytest.raises(ValueError, match=r"vectors is \['v'\].*tables"):
        TeacherConfig(vectors=("v",), models=(TeacherModel(model="a"),))


def test_paths_of_vectors_start_at_the_run_file_and_addresses_do_not(folder):
    table = {"vectors": ["s3://bucket/v/", "v/*.parquet"]}
    config = run_module.RunConfig
    parsed = sentenc.training.config.pretraining.parse_run(
        {
            "output": "m", "student": {"init": "random"}, "teacher": table, "training": {"steps": 1},
            "corpora": {"t": {"sources": [{"files": ["a"], "form": "sentences"}]}},
            "losses": [{"kind": "embedding_distillation", "corpus": "t", "batch_size": 2}],
        },
        folder,
    )  # fmt: skip
    assert isinstance(parsed, config)
    assert parsed.teacher.vectors == ("s3://bucket/v/", str(folder / Path("v/*.parquet")))


def test_vectors_at_an_address_are_read(folder, teacher):
    pytest.importorskip("fsspec")
    from tests.support.remote import block_files

    files = {f"bucket/{path.name}": path.read_bytes() for path in (folder / "vectors").iterdir()}
    with block_files(files):
        result = train(folder, "teacher.vectors=['blocks://bucket/']")
        assert result.exit_code == 0, result.output
    assert len(EmbeddingCache(folder / "teacher-embeddings", dtype="float16")) == len(TEXTS)
