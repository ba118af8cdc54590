"""Records of JSON lines and CSV as columns: their types, and every row with its text."""

import json

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentenc import TextFileError
from sentenc.shards.records import open_records
from tests.shards.conftest import write_json

# Escapes of JSON may be surrogates without a partner.
TEXTS = st.text(st.sampled_from(["a", " ", '"', "é", "\ud800"]), max_size=4)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXTS
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=2)
)
RECORDS = st.lists(
    st.fixed_dictionaries({"text": st.none() | TEXTS}, optional={"a": VALUES, "b": st.integers() | st.floats(allow_nan=False, allow_infinity=False)}),
    max_size=12,
)  # fmt: skip


def read(path, kind="jsonl", text=None, columns=None):
    with open_records(str(path), "FILE", kind, text, columns) as (schema, name, tables):
        return pa.concat_tables([schema.empty_table(), *tables]), name


def types_of(path):
    schema = read(path)[0].schema
    return {name: str(schema.field(name).type) for name in schema.names}


@settings(deadline=None)
@given(records=RECORDS)
def test_every_record_is_a_row_with_its_text(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("records") / "a.jsonl"
    write_json(path, records)
    table, text = read(path, text="text")
    assert text == "text"
    assert table["text"].to_pylist() == [replaced(record["text"]) for record in records]
    for name in set(table.column_names) - {"text"}:
        for value, record in zip(table[name].to_pylist(), records, strict=True):
            assert value == expected(record.get(name), table.schema.field(name).type)


def replaced(text):
    return text if text is None else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def expected(value, kind):
    """The value of a cell: JSON text where the column has values of several types."""
    if pa.types.is_string(kind) and not isinstance(value, str | None):
        return replaced(json.dumps(value, ensure_ascii=False))
    if pa.types.is_floating(kind) and value is not None:
        return float(value)
    return (
        [expected(item, kind.value_type) for item in value]
        if isinstance(value, list)
        else replaced(value)
        if isinstance(value, str)
        else value
    )


def test_large_integers_are_exact(tmp_path):
    path = tmp_path / "a.jsonl"
    large = 2**53 + 1
    rows = [
        {"text": "a", "i": large, "f": large, "g": 1, "l": [large], "m": [large, 0.5], "s": 2**53, "t": [1]},
        {"text": "b", "i": 1, "f": 0.5, "g": 0.5, "l": [1, 2], "m": [1], "s": 0.5, "t": [0.5, -large]},
        {"text": "c", "i": -large, "f": 3, "g": 1, "l": [0.5], "m": [1], "s": 1, "t": [1]},
        {"text": "d", "g": -large},
    ]
    write_json(path, rows)
    types = types_of(path)
    assert {types[name] for name in "fglmt"} == {"string"}
    assert (types["i"], types["s"]) == ("int64", "double")
    table = read(path)[0]
    for name in "fglmt":
        values = [None if value is None else json.loads(value) for value in table[name].to_pylist()]
        assert values == [row.get(name) for row in rows]
    for name in "is":
        assert table[name].to_pylist() == [row.get(name) for row in rows]


def test_types_of_json(tmp_path):
    path = tmp_path / "a.jsonl"
    write_json(
        path,
        [
            {"text": "dog", "i": 1, "f": 1, "b": True, "l": [1], "e": [], "o": {"x": 1}, "m": 1, "n": None, "d": [[1]]},
            {"text": None, "i": None, "f": 0.5, "l": [2.5, None], "m": "one", "late": "x", "big": 2**64},
        ],
    )  # fmt: skip
    assert types_of(path) == {
        "text": "string", "i": "int64", "f": "double", "b": "bool", "l": "list<item: double>",
        "e": "list<item: string>", "o": "string", "m": "string", "n": "string", "d": "string", "late": "string",
        "big": "string",
    }  # fmt: skip
    table = read(path)[0].to_pydict()
    assert table["o"] == ['{"x": 1}', None]
    assert table["m"] == ["1", "one"]
    assert table["d"] == ["[[1]]", None]
    assert table["big"] == [None, str(2**64)]


def test_surrogates_without_a_partner_are_replaced(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a \\ud800 b", "l": ["\\ud800"]}\n')
    table = read(tmp_path / "a.jsonl")[0].to_pydict()
    assert table == {"text": ["a � b"], "l": [["�"]]}


@pytest.mark.parametrize(
    ("content", "facts"),
    [
        ('{"text": "dog"}\n\n{"text": 3}\n', ["line 3", "'text'", "3"]),
        ('{"text": "dog"}\n{"text"\n', ["line 2", "JSON"]),
        ('{"a": "dog", "b": "x"}\n', ["'a'", "'b'"]),
        ('{"a": 1}\n', ["'a'"]),
    ],
)
def test_bad_records_are_named(tmp_path, content, facts):
    (tmp_path / "a.jsonl").write_text(content)
    with pytest.raises(TextFileError) as error:
        read(tmp_path / "a.jsonl")
    for fact in ["FILE", *facts]:
        assert fact in str(error.value)


def test_files_without_rows(tmp_path):
    (tmp_path / "a").touch()
    for kind in ("jsonl", "csv", "tsv", "text"):
        table, text = read(tmp_path / "a", kind)
        assert (table.column_names, len(table), text) == (["text"], 0, "text")
    assert read(tmp_path / "a", "csv", "body", ["id"])[0].column_names == ["id", "body"]
    (tmp_path / "b").write_text("id;body\n")
    table, text = read(tmp_path / "b", "csv")
    assert (table.column_names, len(table), text) == (["id", "body"], 0, "body")


def test_text_has_one_column(tmp_path):
    (tmp_path / "a").write_text("dog\n")
    assert read(tmp_path / "a", "text", "text", ["text"])[0].to_pydict() == {"text": ["dog"]}
    for options in ({"text": "body"}, {"columns": ["id"]}):
        with pytest.raises(TextFileError):
            read(tmp_path / "a", "text", **options)


def test_blocks_are_bounded_by_rows_and_characters(tmp_path, monkeypatch):
    monkeypatch.setattr("sentenc.shards.records._ROWS_PER_TABLE", 4)
    monkeypatch.setattr("sentenc.shards.records._CHARACTERS_PER_TABLE", 100)
    path = tmp_path / "a.jsonl"
    write_json(path, [{"text": "x" * (70 if row > 5 else 1)} for row in range(9)])
    with open_records(str(path), "FILE", "jsonl", None, None) as (_, _, tables):
        assert [len(table) for table in tables] == [4, 4, 1]
