"""Compressed files: all kinds contain the same records, and other kinds of files are refused by name."""

import bz2
import gzip
import lzma
import sys

import pytest

from sentenc.errors import MissingExtraError, TextFileError
from sentenc.io.records import read_records
from sentenc.io.tables import estimate_rows
from tests.io.test_records import write_csv, write_jsonl, written


def pack_zstd(content):
    return pytest.importorskip("pyarrow").compress(content, codec="zstd", asbytes=True)


PACKERS = {"gz": gzip.compress, "bz2": bz2.compress, "xz": lzma.compress, "ZST": pack_zstd}


@pytest.mark.parametrize("ending", PACKERS)
@pytest.mark.parametrize("suffix", ["csv", "jsonl", "txt"])
def test_compressed(tmp_path, ending, suffix):
    plain = tmp_path / f"rows.{suffix}"
    write_csv(plain) if suffix != "jsonl" else write_jsonl(plain)
    packed = written(tmp_path, f"rows.{suffix}.{ending}", PACKERS[ending](plain.read_bytes()))
    assert [r[:3] for r in read_records(packed)] == [r[:3] for r in read_records(plain)]


@pytest.mark.parametrize("ending", PACKERS)
def test_rows_of_compressed_files_are_estimated(tmp_path, ending):
    content = "".join(f"line {i * i % 9973}\n" for i in range(20_000)).encode()
    packed = PACKERS[ending](content)
    assert estimate_rows(written(tmp_path, f"a.txt.{ending}", packed)) == 20_000
    # A file may be a series of compressed parts.
    assert estimate_rows(written(tmp_path, f"b.txt.{ending}", packed * 3)) == pytest.approx(60_000)


def test_zstandard_without_pyarrow(tmp_path, monkeypatch):
    path = written(tmp_path, "a.txt.zst", pack_zstd(b"one\n"))
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"Zstandard .*sentenc\[parquet\]"):
        list(read_records(path))


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.txt.bz2", bz2.compress(b"fine\n" * 99)[:-20], {}, "after line"),
        (
            "a.txt.zst",
            b"\x28\xb5\x2f\xfd" + b"\xff" * 20,
            {},
            "after line 0: the compressed content is damaged",
        ),
        ("a.csv", "text\none\n".encode("utf-16"), {}, "line 1: not UTF-8 but UTF-16: convert it"),
        ("a.csv", "text;n\ncaf\xe9;1\n".encode("cp1252"), {}, "line 2: not UTF-8: byte 0xe9 .*CP1252"),
        ("a.csv.zip", b"PK\x03\x04" + bytes(9), {"format": "csv"}, "a compressed archive .*unpack it first"),
        ("a.txt.lz4", b"\x04\x22\x4d\x18" + bytes(9), {}, "compressed by LZ4, expected .* Zstandard"),
        ("a.txt", b"PAR1" + bytes(9), {}, "Parquet, .*name it .parquet"),
    ],
)
def test_other_files_are_refused_by_their_kind(tmp_path, name, content, options, message):
    if name.endswith("zst"):
        pytest.importorskip("pyarrow")
    path = written(tmp_path, name, content)
    with pytest.raises(TextFileError, match=message) as caught:
        list(read_records(path, **options))
    assert path in str(caught.value)
