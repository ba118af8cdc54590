"""A second run into a folder: the files that it skips, writes again, or refuses to replace."""

import json
import os

import pyarrow.parquet as pq
import pytest

import sentenc
from sentenc import ShardError
from sentenc.shards import encode_files
from sentenc.shards.manifest import MANIFEST
from sentenc.shards.storage import LocalFolder
from tests.shards.conftest import files_in, hidden_in, write_parquet
from tests.support.models import make_cse
from tests.support.pairs import make_pair


def test_a_second_run_reads_no_file_again(inputs, tmp_path, encoder, encoded):
    encode_files(inputs, tmp_path / "out", model=encoder)
    assert sorted(encoded) == ["part-0.parquet", "part-1.parquet", "part-2.parquet"]
    before = {name: os.stat(tmp_path / "out" / name).st_mtime_ns for name in files_in(tmp_path / "out")}
    encoded.clear()
    assert encode_files(inputs, tmp_path / "out", model=encoder) == (3, 120, 3, encoder.dim)
    assert encoded == []
    after = {name: os.stat(tmp_path / "out" / name).st_mtime_ns for name in before}
    assert {name for name in before if before[name] != after[name]} <= {MANIFEST}


@pytest.mark.parametrize("missing", ["part-1.parquet", MANIFEST])
def test_a_missing_file_is_written_again(inputs, tmp_path, encoder, encoded, missing):
    out = tmp_path / "out"
    encode_files(inputs, out, model=encoder)
    manifest = (out / MANIFEST).read_text()
    encoded.clear()
    (out / missing).unlink()
    encode_files(inputs, out, model=encoder)
    assert encoded == ([] if missing == MANIFEST else [missing])
    assert (out / MANIFEST).read_text() == manifest


def test_a_source_that_changed_is_encoded_again(inputs, tmp_path, encoder, encoded):
    encode_files(inputs, tmp_path / "out", model=encoder)
    encoded.clear()
    write_parquet(inputs / "part-1.parquet", 8, 30)
    with pytest.warns(UserWarning, match=r"part-1.parquet has changed"):
        report = encode_files(inputs, tmp_path / "out", model=encoder)
    assert encoded == ["part-1.parquet"]
    assert report.rows == 110
    assert pq.read_table(tmp_path / "out" / "part-1.parquet")["id"][0].as_py() == "8-0"
    assert json.loads((tmp_path / "out" / MANIFEST).read_text())["rows"] == 110


def test_a_damaged_file_is_written_again(inputs, tmp_path, encoder, encoded):
    encode_files(inputs, tmp_path / "out", model=encoder)
    encoded.clear()
    path = tmp_path / "out" / "part-2.parquet"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.warns(UserWarning, match=r"part-2.parquet is damaged"):
        encode_files(inputs, tmp_path / "out", model=encoder)
    assert encoded == ["part-2.parquet"]
    assert len(pq.read_table(path)) == 40


def test_moved_sources_are_not_encoded_again(inputs, tmp_path, encoder, encoded):
    encode_files(inputs, tmp_path / "out", model=encoder)
    encoded.clear()
    inputs.rename(tmp_path / "moved")
    encode_files(tmp_path / "moved", tmp_path / "out", model=encoder)
    assert encoded == []


@pytest.mark.parametrize("without_manifest", [False, True])
def test_another_model_or_other_options_are_refused(inputs, tmp_path, encoder, without_manifest):
    out = tmp_path / "out"
    encode_files(inputs, out, model=encoder)
    if without_manifest:
        (out / MANIFEST).unlink()
    before = {name: (out / name).read_bytes() for name in files_in(out)}
    for options, facts in [
        ({"dtype": "float16"}, ["'float16'", "'float32'"]),
        ({"columns": ["id"]}, ["'id'", "None"]),
        ({"model": make_cse()}, [make_cse().fingerprint(), encoder.fingerprint()]),
    ]:
        with pytest.raises(ShardError) as error:
            encode_files(inputs, out, **{"model": encoder, **options})
        for fact in [str(out), *facts]:
            assert fact in str(error.value)
    assert {name: (out / name).read_bytes() for name in before} == before


def test_options_that_change_nothing_are_not_refused(inputs, tmp_path, encoder):
    encode_files(inputs, tmp_path / "out", model=encoder)
    report = encode_files(inputs, tmp_path / "out", model=encoder, batch_size=8, on_overflow="ignore")
    assert report.skipped == 3


def test_files_of_others_are_not_replaced(inputs, tmp_path, encoder):
    out = tmp_path / "out"
    out.mkdir()
    for write in (
        lambda path: write_parquet(path, 5, 3),
        lambda path: path.write_text("not Parquet"),
    ):
        write(out / "part-0.parquet")
        before = (out / "part-0.parquet").read_bytes()
        with pytest.raises(ShardError, match=r"out.part-0\.parquet"):
            encode_files(inputs, out, model=encoder)
        assert (out / "part-0.parquet").read_bytes() == before
    with pytest.raises(ShardError, match=r"part-0"):
        encode_files(inputs / "part-0.parquet", inputs, model=encoder)
    (tmp_path / "file").touch()
    with pytest.raises(ShardError, match="file"):
        encode_files(inputs, tmp_path / "file", model=encoder)


def test_vectors_of_another_source_are_not_replaced(inputs, tmp_path, encoder):
    encode_files(inputs, tmp_path / "out", model=encoder)
    (tmp_path / "other").mkdir()
    write_parquet(tmp_path / "other" / "part-0.parquet", 5, 3)
    with pytest.raises(ShardError) as error:
        encode_files(tmp_path / "other", tmp_path / "out", model=encoder)
    assert str(inputs / "part-0.parquet") in str(error.value)
    assert str(tmp_path / "other" / "part-0.parquet") in str(error.value)


def test_one_run_at_a_time_and_temporary_files_of_killed_runs(inputs, tmp_path, encoder):
    out = tmp_path / "out"
    encode_files(inputs, out, model=encoder)
    for name in (".part-0.parquet.abc.tmp", "._manifest.json.abc.tmp"):
        (out / name).write_bytes(b"half")
    (out / ".copy.abc.tmp").mkdir()
    (out / ".copy.abc.tmp" / "copy").touch()
    (out / ".notes.tmp").touch()
    with LocalFolder(out).locked(), pytest.raises(ShardError, match="another run"):
        encode_files(inputs, out, model=encoder)
    encode_files(inputs, out, model=encoder)
    assert [name for name in hidden_in(out) if name.endswith(".tmp")] == [".notes.tmp"]


def test_the_manifest_describes_the_folder(inputs, tmp_path, model):
    encode_files(inputs, tmp_path / "out", model=model, truncate_dim=4)
    content = json.loads((tmp_path / "out" / MANIFEST).read_text())
    loaded = sentenc.load(model)
    assert (content["model"], content["fingerprint"], content["space"]) == (
        model,
        loaded.fingerprint(),
        loaded.space,
    )
    assert (content["dim"], content["rows"], content["options"]["truncate_dim"]) == (4, 120, 4)
    shard = content["shards"]["part-1.parquet"]
    assert shard["rows"] == 40
    assert shard["source"]["path"] == str(inputs / "part-1.parquet")
    assert shard["source"]["size"] == os.path.getsize(inputs / "part-1.parquet")
    (tmp_path / "out" / MANIFEST).write_text("{")
    with pytest.raises(ShardError, match="damaged"):
        encode_files(inputs, tmp_path / "out", model=model, truncate_dim=4)


def test_vectors_of_another_compute_are_not_added(inputs, tmp_path):
    make_pair().save(tmp_path / "pair")
    first, second = inputs / "part-0.parquet", inputs / "part-1.parquet"
    encode_files(first, tmp_path / "out", model=sentenc.load(tmp_path / "pair", compute="int8"))
    with pytest.raises(ShardError, match="fingerprint"):
        encode_files([first, second], tmp_path / "out", model=sentenc.load(tmp_path / "pair"))
    encode_files([first, second], tmp_path / "out", model=sentenc.load(tmp_path / "pair", compute="int8"))
