"""The separator of a CSV file: that of the header, of a first line that states it, or of the most columns."""

import csv
import io

import pytest

from sentenc.io.records import Record, read_records
from sentenc.io.tables import open_columns
from sentenc.io.text import Malformed
from tests.io.test_records import written


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("start", ["", "\ufeff", "\n", "sep=SEPARATOR\n", "\ufeffsep=SEPARATOR\r\n"])
def test_separators_of_csv(tmp_path, separator, start):
    rows = [
        ["id", "text", "a,b|c;d"],
        ["1", "one; two, three | four\tfive", "x"],
        ["", "", ""],
        ["2", "six", ""],
    ]
    content = io.StringIO()
    csv.writer(content, delimiter=separator).writerows(rows)
    path = written(tmp_path, "a.csv", start.replace("SEPARATOR", separator) + content.getvalue())
    records = [(r.text, r.id, r.payload) for r in read_records(path, id_field="id")]
    assert records == [(rows[1][1], "1", {"a,b|c;d": "x"}), ("six", "2", None)]
    assert [r.line for r in read_records(path)] == [line + start.count("\n") for line in (2, 4)]


def test_separator_of_csv_without_header(tmp_path):
    path = written(tmp_path, "a.csv", "Yes; it is, I think;positive\nNo;negative\n")
    with open_columns(path, ["label", "text"], names=["text", "extra", "label"]) as rows:
        kept = list(rows)
    # Three columns: the first line is divided by semicolons, not by its comma.
    assert kept[0] == (1, ("positive", "Yes"))
    assert isinstance(kept[1][1], Malformed)


def test_separators_in_quotes_are_not_counted(tmp_path):
    path = written(tmp_path, "a.csv", 'text;"a, b, c, d"\none;two\n')
    assert list(read_records(path)) == [Record("one", None, {"a, b, c, d": "two"}, path, 2)]


@pytest.mark.parametrize("name", ["sep=a", "sep=", "sep=comma"])
def test_other_names_state_no_separator(tmp_path, name):
    path = written(tmp_path, "a.csv", f"{name}\none\n")
    assert [record.text for record in read_records(path)] == ["one"]


def test_a_single_column_of_csv_keeps_its_semicolons(tmp_path):
    path = written(tmp_path, "a.csv", "text\none; two | three\n")
    assert [record.text for record in read_records(path)] == ["one; two | three"]
