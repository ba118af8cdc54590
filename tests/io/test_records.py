"""Readers of records: all formats contain the same records, and errors name the file and line."""

import csv
import datetime
import decimal
import gzip
import io
import json
import lzma
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentenc.errors import MissingExtraError, SentencError, TextFileError
from sentenc.io.parquet import json_value
from sentenc.io.records import Record, read_records

ROWS = [
    {"text": "one, two", "key": "a", "year": "2020"},
    {"text": 'he said "no" and "yes"', "key": "b", "year": "2021"},
    {"text": "crème \u2028 東京", "key": "c"},
]


def write_csv(path, rows=ROWS, delimiter=","):
    with open(path, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def write_tsv(path, rows=ROWS):
    lines = [list(rows[0]), *([row.get(name, "") for name in rows[0]] for row in rows)]
    path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8", newline="")


def write_jsonl(path, rows=ROWS):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def write_parquet(path, rows=ROWS):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=2)


WRITERS = {
    "csv": write_csv,
    "tsv": lambda path: write_tsv(path),
    "jsonl": write_jsonl,
    "parquet": write_parquet,
}
LINES = {"csv": [2, 3, 4], "tsv": [2, 3, 4], "jsonl": [1, 2, 3], "parquet": [1, 2, 3]}


def written(folder, name, content):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return str(path)


@pytest.mark.parametrize("suffix", WRITERS)
def test_every_format_gives_the_same_records(tmp_path, suffix):
    path = tmp_path / f"rows.{suffix}"
    WRITERS[suffix](path)
    records = list(read_records(path, id_field="key"))
    assert records == [
        Record(row["text"], row["key"], {"year": row["year"]} if "year" in row else None, str(path), line)
        for row, line in zip(ROWS, LINES[suffix], strict=True)
    ]
    without = list(read_records([str(path)]))
    assert [record.id for record in without] == [None] * 3
    assert without[2].payload == {"key": "c"}


def test_lines_of_text(tmp_path):
    path = written(tmp_path, "a.txt", b"\xef\xbb\xbfone\r\n\r\n  \ntwo \xe2\x80\xa8 parts\nlast")
    lines = [(record.text, record.line) for record in read_records(path)]
    assert lines == [("one", 1), ("two \u2028 parts", 4), ("last", 5)]
    assert next(read_records(path)) == Record("one", None, None, path, 1)


def test_standard_input_and_explicit_formats(tmp_path, monkeypatch):
    write_csv(tmp_path / "rows")
    content = (tmp_path / "rows").read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
    records = list(read_records("-", format="csv"))
    assert [record.text for record in records] == [row["text"] for row in ROWS]
    assert records[0].path == "-"
    assert [r.text for r in read_records(tmp_path / "rows", format="csv")] == [r["text"] for r in ROWS]
    with pytest.raises(ValueError, match="twice"):
        read_records(["-", "-"])
    with pytest.raises(ValueError, match="format is 'xml'"):
        read_records("-", format="xml")
    with pytest.raises(TextFileError, match="standard input"):
        read_records("-", format="parquet")


def test_files_one_after_another_choose_their_own_fields(tmp_path):
    write_csv(tmp_path / "a.csv", [{"Title": "x", "other": "y"}])
    write_jsonl(tmp_path / "b.jsonl", [{"n": 3, "headline": "z"}, {"n": 4, "headline": "w", "text": "v"}])
    records = list(read_records([tmp_path / "a.csv", tmp_path / "b.jsonl"]))
    assert [(r.text, r.payload) for r in records] == [
        ("x", {"other": "y"}),
        ("z", {"n": 3}),
        ("w", {"n": 4, "text": "v"}),
    ]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (["title", "sentence"], "sentence"),
        (["TEXT", "sentence"], "TEXT"),
        (["label"], "label"),
        (["Text", "text"], "Text"),
        (["key", "review"], "review"),
    ],
)
def test_text_field_is_chosen_by_its_name(tmp_path, fields, expected):
    write_csv(tmp_path / "a.csv", [{name: f"the {name}" for name in fields}])
    records = list(read_records(tmp_path / "a.csv", id_field="key" if "key" in fields else None))
    assert records[0].text == f"the {expected}"


def test_columns_without_a_name_are_left_out(tmp_path):
    for suffix, separator in ((".csv", ","), (".tsv", "\t")):
        path = tmp_path / f"a{suffix}"
        path.write_text(separator.join(["", "text", " ", "label"]) + "\n" + separator.join("0x-y") + "\n")
        assert [(r.text, r.payload) for r in read_records(path)] == [("x", {"label": "y"})]
        path.write_text(separator.join(["", "text", "", "label"]) + "\nx\n")
        with pytest.raises(TextFileError, match="line 2: number of columns is 1, expected 4"):
            list(read_records(path))


def test_rows_without_a_text_can_be_left_out(tmp_path):
    rows = [{"text": None, "k": "a"}, {"text": "x", "k": "b"}, {"k": "c"}, {"text": " \n", "k": "d"}]
    write_jsonl(tmp_path / "a.jsonl", rows)
    places = []

    def leave_out(place, is_missing):
        places.append((place, is_missing))
        return True

    records = list(read_records(tmp_path / "a.jsonl", on_empty=leave_out))
    # The text is null in the first row, and is the text nevertheless.
    assert [(record.text, record.line) for record in records] == [("x", 2)]
    path = str(tmp_path / "a.jsonl")
    assert places == [
        (f"{path}, line 1: field 'text' is null", True),
        (f"{path}, line 3: no field 'text'", True),
        (f"{path}, line 4: field 'text' is empty", False),
    ]
    with pytest.raises(TextFileError, match="line 1: field 'text' is null, expected a string"):
        list(read_records(path, on_empty=lambda place, is_missing: False))
    write_jsonl(tmp_path / "a.jsonl", rows[3:])
    assert [record.text for record in read_records(path)] == [" \n"]
    write_jsonl(tmp_path / "a.jsonl", [{"text": 3}])
    with pytest.raises(TextFileError, match=r"field 'text' is a number \(3\)"):
        list(read_records(path, text_field="text", on_empty=leave_out))


def test_named_fields_and_ids(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "x", "other": "y", "n": 3}, {"other": "z", "n": 2**63 - 1}])
    records = list(read_records(tmp_path / "a.jsonl", text_field="other", id_field="n"))
    assert [r[:3] for r in records] == [("y", 3, {"text": "x"}), ("z", 2**63 - 1, None)]
    both = list(read_records(tmp_path / "a.jsonl", text_field="other", id_field="other"))
    assert [(r.text, r.id) for r in both] == [("y", "y"), ("z", "z")]


def test_json_payloads_are_json(tmp_path):
    content = '\n{"text": "a", "x": null, "y": NaN, "z": [1, Infinity, {"q": 1.5}], "t": true}\n  \n'
    (record,) = read_records(written(tmp_path, "a.jsonl", content))
    assert record.payload == {"z": [1, None, {"q": 1.5}], "t": True}
    assert record.line == 2


def test_parquet_values_become_json(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    moment = datetime.datetime(2024, 2, 3, 4, 5, 6, 7)
    columns = {
        "text": pa.array(["a"]).dictionary_encode(),
        "day": pa.array([moment.date()]),
        "moment": pa.array([1_706_933_106_000_007_123], pa.timestamp("ns", "UTC")),
        "clock": pa.array([1_000_000_001], pa.time64("ns")),
        "took": pa.array([1_500_000_001], pa.duration("ns")),
        "nan": pa.array([float("nan")]),
        "none": pa.array([None], pa.int32()),
        "half": pa.array([1.5], pa.float32()),
        "price": pa.array([decimal.Decimal("1.50")]),
        "bytes": pa.array([b"\xff"]),
        "image": pa.array([{"bytes": b"\xff", "path": "p"}]),
        "list": pa.array([[1.0, float("inf")]]),
        "map": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int8())),
    }
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    (record,) = read_records(tmp_path / "a.parquet")
    assert record.text == "a"
    assert record.payload == {
        "day": "2024-02-03",
        "moment": "2024-02-03T04:05:06.000007+00:00",
        "clock": "00:00:01",
        "took": 1.5,
        "half": 1.5,
        "price": "1.50",
        "image": {"bytes": None, "path": "p"},
        "list": [1.0, None],
        "map": [["k", 1]],
    }
    assert json_value({1: (datetime.timedelta(seconds=2), 2**70)}) == {"1": [2.0, 2**70]}


BAD = [
    ("a.txt", b"fine\n\xff\n", {}, "line 2: not UTF-8"),
    ("a.txt", b"\xef\xbb\xbfb\xe9d\n", {}, "line 1: not UTF-8: byte 0xe9 in column 2"),
    ("a.txt.gz", gzip.compress(b"fine\n" * 99, mtime=0)[:-9], {}, "after line"),
    ("a.txt.gz", gzip.compress(b"fine\n", mtime=0)[:12] + b"\xff" * 20, {}, "after line 0"),
    ("a.txt.xz", lzma.compress(b"fine\n" * 99)[:-20], {}, "after line"),
    ("a.txt", "x\n", {"text_field": "text"}, "'text'"),
    ("a.json", "[]", {}, "JSON lines"),
    (
        "a.jsonl",
        '{"text": "a"}\n{"text": 3}\n',
        {},
        r"line 2: field 'text' is a number \(3\)",
    ),
    ("a.jsonl", '{"text": "a"}\n{"text": null}\n', {}, "line 2: field 'text' is null"),
    ("a.jsonl", '{"text": "a"}\n{"body": "b"}\n', {}, "line 2: no field 'text', only 'body'"),
    ("a.jsonl", '{"text": "a"}\n["b"]\n', {}, "line 2: .* a list"),
    ("a.jsonl", "nonsense\n", {}, "line 1: not JSON"),
    ("a.jsonl", "[" * 200_000, {}, "line 1: not JSON"),
    ("a.jsonl", '{"a": "x", "b": "y"}', {}, "line 1: .*'a', 'b'"),
    ("a.jsonl", '{"a": 1}', {}, "text.*'a'"),
    ("a.jsonl", "{}", {}, "text.*none"),
    ("a.jsonl", '{"text": "x"}', {"id_field": "k"}, "has no field 'k', only 'text'"),
    (
        "a.jsonl",
        '{"text": "x", "k": 1.5}',
        {"id_field": "k"},
        r"field 'k' is a number \(1.5\)",
    ),
    ("a.jsonl", '{"text": "x", "k": true}', {"id_field": "k"}, "field 'k' is true or false"),
    ("a.jsonl", '{"text": "x", "k": 1' + "0" * 40 + "}", {"id_field": "k"}, "a large number"),
    ("a.csv", "text,k\nx,\n", {"id_field": "k"}, "line 2: field 'k' is empty"),
    ("a.csv", "text,k\nx,1\ny\n", {}, "line 3: .*1, expected 2"),
    ("a.csv", "text,k,text\nx,1,2\n", {}, "'text' more than once"),
    ("a.csv", "a,b\nx,y\n", {}, "text.*'a', 'b'"),
    ("a.csv", "a,b\nx,y\n", {"text_field": "c"}, "has no field 'c', only 'a', 'b'"),
    ("a.csv", 'text,k\nx,1\n"y" z,2\n', {}, "line 3: bad CSV"),
    ("a.csv", 'text,k\nx,1\n"y\nz,2\n\n', {}, "line 3: .*lines 3 to 5"),
    ("a.csv", b"text,k\nx,1\n\xff,2\n", {}, "line 3: not UTF-8"),
    ("a.csv", "text\n" + "x" * 200_000, {}, "line 2: bad CSV"),
    ("a.parquet", "nonsense", {}, "not a Parquet file"),
]


@pytest.mark.parametrize(("name", "content", "options", "message"), BAD)
def test_errors_name_file_line_and_field(tmp_path, name, content, options, message):
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow")
    path = written(tmp_path, name, content)
    with pytest.raises(TextFileError, match=message) as caught:
        list(read_records(path, **options))
    assert path in str(caught.value)
    assert isinstance(caught.value, SentencError)


def test_bad_parquet_is_named(tmp_path):
    pa = pytest.importorskip("pyarrow")
    pq = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"text": ["a", None], "n": [1, 2]}), path)
    with pytest.raises(TextFileError, match=r"row 2: field 'text' is null"):
        list(read_records(path))
    with pytest.raises(TextFileError, match=r"row 1: field 'n' is a number .* expected a string"):
        list(read_records(path, text_field="n"))
    with pytest.raises(TextFileError, match="has no field 'x', only 'text', 'n'"):
        list(read_records(path, text_field="x"))
    pq.write_table(pa.table([["a"], ["b"]], names=["text", "text"]), path)
    with pytest.raises(TextFileError, match="'text' more than once"):
        list(read_records(path))
    table = pa.table({"text": [f"{i} {i * i}" for i in range(20_000)]})
    pq.write_table(table, path, compression="none", use_dictionary=False)
    content = bytearray(path.read_bytes())
    content[8000:90_000] = b"\xff" * 82_000
    path.write_bytes(content)
    with pytest.raises(TextFileError, match=r"a\.parquet, after row \d+: "):
        list(read_records(path))


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"sentenc\[parquet\]"):
        list(read_records(tmp_path / "a.parquet"))


def test_missing_file(tmp_path):
    for name in ("none.txt", "none.csv"):
        with pytest.raises(FileNotFoundError):
            list(read_records(tmp_path / name))


def test_empty_files_have_no_records(tmp_path):
    for name in ("a.txt", "a.csv", "a.tsv", "a.jsonl"):
        assert list(read_records(written(tmp_path, name, ""))) == []
    assert list(read_records(written(tmp_path, "b.csv", "text,k\n\n"))) == []
    assert list(read_records([])) == []


def test_records_before_an_error_are_yielded(tmp_path):
    path = written(tmp_path, "a.jsonl", '{"text": "a"}\n' * 5000 + "nonsense\n")
    records = read_records(path)
    assert [next(records).line for _ in range(5000)] == list(range(1, 5001))
    with pytest.raises(TextFileError, match="line 5001"):
        next(records)


def test_a_stopped_reader_closes_its_file(tmp_path):
    # An open file would be a ResourceWarning, which is an error here.
    path = written(tmp_path, "a.txt", "a\nb\n")
    records = read_records(path)
    next(records)
    records.close()


@pytest.mark.parametrize("suffix", ["txt", "csv", "jsonl", "parquet", "txt.gz"])
def test_bytes_read_add_up(tmp_path, suffix):
    path = tmp_path / f"rows.{suffix}"
    rows = [{"text": f"line {i}"} for i in range(5000)]
    if suffix == "txt.gz":
        path.write_bytes(gzip.compress("".join(f"line {i}\n" for i in range(5000)).encode()))
    else:
        {"csv": write_csv, "jsonl": write_jsonl, "parquet": write_parquet}.get(suffix, write_csv)(path, rows)
    sizes = []
    records = list(read_records(path, on_bytes=sizes.append))
    assert len(records) == 5000 + (suffix == "txt")
    assert sum(sizes) == path.stat().st_size
    assert min(sizes) >= 0


cells = st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=12)


@settings(deadline=None)
@given(st.lists(st.fixed_dictionaries({"text": cells, "x": cells}), min_size=1, max_size=6))
def test_round_trip(rows):
    with tempfile.TemporaryDirectory() as name:
        write_csv(Path(name) / "a.csv", rows)
        # The cells of a TSV contain no tabs and no line ends.
        bare = [{key: "_".join(value.split()) for key, value in row.items()} for row in rows]
        write_tsv(Path(name) / "a.tsv", bare)
        write_jsonl(Path(name) / "a.jsonl", rows)
        plain = [(row["text"], {"x": row["x"]}) for row in rows]
        assert [(r.text, r.payload) for r in read_records(Path(name) / "a.jsonl")] == plain
        for suffix, written_rows in (("csv", rows), ("tsv", bare)):
            records = [(r.text, r.payload) for r in read_records(Path(name) / f"a.{suffix}")]
            filled = [row for row in written_rows if (row["text"] + row["x"]).strip()]
            assert records == [(row["text"], {"x": row["x"]} if row["x"] else None) for row in filled]
