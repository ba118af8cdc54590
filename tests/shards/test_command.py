"""The command ``sentenc encode`` with a folder: when it is one, its options, messages and progress bar."""

import io
import subprocess
import sys

import click
import numpy as np
import pyarrow.parquet as pq
import pytest

from sentenc import ShardError
from sentenc.cli import cli, main
from sentenc.shards import encode_files
from sentenc.shards.manifest import MANIFEST
from tests.shards.conftest import write_json


def run(*arguments):
    cli([str(argument) for argument in ("encode", *arguments)], standalone_mode=False)


def names(folder):
    return sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("dog\n\na man\n")
    return path


def test_the_output_is_a_folder_by_its_name_or_for_several_files(texts, inputs, model, tmp_path, capsys):
    run(texts, "-o", f"{tmp_path}/new/", "-m", model)
    assert names(tmp_path / "new") == [MANIFEST, "texts.parquet"]
    assert "1 file, 3 rows" in capsys.readouterr().err
    (tmp_path / "there").mkdir()
    run(texts, "-o", tmp_path / "there", "-m", model, "-q")
    assert names(tmp_path / "there") == [MANIFEST, "texts.parquet"]
    run(texts, inputs / "part-0.parquet", "-o", tmp_path / "several", "-m", model, "--processes", 2)
    assert names(tmp_path / "several") == [MANIFEST, "part-0.parquet", "texts.parquet"]
    run(texts, inputs, "-o", tmp_path / "several", "-m", model)
    assert "4 files (2 were there), 123 rows" in capsys.readouterr().err


def test_a_single_file_stays_a_file(texts, encoder, model, tmp_path):
    run(texts, "-o", tmp_path / "v.npy", "-m", model)
    np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), encoder.encode(["dog", "", "a man"]))
    run(texts, "-o", tmp_path / "v.parquet", "-m", model)
    group = pq.ParquetFile(tmp_path / "v.parquet").metadata.row_group(0)
    assert [group.column(number).has_dictionary_page for number in range(2)] == [True, False]


def test_options_of_a_folder(inputs, model, tmp_path):
    run(
        inputs, "-o", f"{tmp_path}/out/", "-m", model, "--columns", "id,tags", "--column", "vector", "--dtype", "int8",
        "--normalize", "--truncate-dim", 5, "--text-field", "id", "--role", "document", "--on-overflow", "ignore",
    )  # fmt: skip
    table = pq.read_table(tmp_path / "out" / "part-1.parquet")
    assert table.column_names == ["id", "tags", "vector", "vector_scale"]
    assert table.schema.field("vector").type.list_size == 5


@pytest.mark.parametrize(
    ("arguments", "fact"),
    [
        (["{texts}", "{inputs}", "-o", "{tmp}/v.npy"], "v.npy"),
        (["{texts}", "-o", "{tmp}/v.npy", "--processes", "2"], "--processes"),
        (["{texts}", "-o", "{tmp}/v.npy", "--columns", "id"], "--columns"),
        (["{texts}", "-o", "{tmp}/v.parquet", "--column", "v"], "--column"),
        (["{texts}", "-o", "{tmp}/v.npy", "--dtype", "int8"], "int8"),
        (["-o", "{tmp}/out/"], "files"),
        (["{texts}", "-o", "{tmp}/out/", "--role", "query", "--prompt-name", "query"], "--prompt-name"),
        (["{texts}", "-o", "{tmp}/out/", "--prompt-name", "absent"], "absent"),
    ],
)
def test_wrong_usage(texts, inputs, model, tmp_path, arguments, fact):
    with pytest.raises(click.UsageError, match=fact):
        run(*(word.format(texts=texts, inputs=inputs, tmp=tmp_path) for word in arguments), "-m", model)
    assert not (tmp_path / "out").exists()


def test_files_that_fail_are_listed_at_the_end(inputs, model, tmp_path, capsys, monkeypatch):
    (inputs / "bad.parquet").write_bytes(b"nothing")
    write_json(inputs / "worse.jsonl", [{"text": 1}])
    monkeypatch.setattr(
        sys, "argv", ["sentenc", "encode", str(inputs), "-o", f"{tmp_path}/out/", "-m", model]
    )
    with pytest.raises(SystemExit) as error:
        main()
    assert error.value.code == 1
    lines = capsys.readouterr().err.splitlines()
    assert "2 of 5 files" in lines[-3]
    assert {path for path in ("bad.parquet", "worse.jsonl") for line in lines[-2:] if path in line} == {
        "bad.parquet", "worse.jsonl",
    }  # fmt: skip
    assert len(names(tmp_path / "out")) == 4


class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("processes", [1, 2])
def test_the_progress_bar_counts_rows(inputs, texts, encoder, tmp_path, monkeypatch, processes):
    (inputs / "bad.parquet").write_bytes(b"nothing")
    (inputs / "damaged.csv.gz").write_bytes(b"\x1f\x8b nothing")
    encode_files(inputs / "part-0.parquet", tmp_path / "out", model=encoder)
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    with pytest.raises(ShardError, match="2 of 6"):
        encode_files(
            [inputs, texts], tmp_path / "out", model=encoder, processes=processes, show_progress_bar=True
        )
    # The file that is there does not count.
    assert "83/83" in terminal.getvalue()
    terminal.truncate(0)
    (inputs / "bad.parquet").unlink()
    (inputs / "damaged.csv.gz").unlink()
    encode_files([inputs, texts], tmp_path / "out", model=encoder, show_progress_bar=True)
    assert "0/0" not in terminal.getvalue()


def test_pandas_is_not_imported(inputs, model, tmp_path):
    # Its import takes longer than thousands of texts, in every process.
    code = (
        "import sys\nfrom sentenc.shards import encode_files\n"
        f"encode_files({str(inputs)!r}, {str(tmp_path / 'out')!r}, model={model!r})\n"
        "print('pandas' in sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\n"
