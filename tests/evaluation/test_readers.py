import numpy as np
import pytest

from sentenc.errors import DataError
from sentenc.evaluation.readers import (
    read_columns,
    read_label_space_text,
    read_lines,
    read_mrpc,
    read_one_file_per_class,
    read_probing,
    read_sick_entailment,
    read_sick_relatedness,
    read_sts_benchmark,
    read_sts_input_and_gold,
    read_text_tab_label,
    read_trec,
)


def put(folder, name, content, encoding="utf-8"):
    path = folder / name
    path.write_bytes(content.encode(encoding))
    return path


def test_only_newlines_end_a_line(tmp_path):
    path = put(tmp_path, "f", "a\x85b\u2028c\x0cd\r\ne\n")
    assert read_lines(path, "utf-8") == ["a\x85b\u2028c\x0cd", "e"]


def test_a_byte_order_mark_is_no_text(tmp_path):
    assert read_lines(put(tmp_path, "f", "\ufeffx\n"), "utf-8") == ["x"]


def test_a_last_line_without_newline_counts(tmp_path):
    assert read_lines(put(tmp_path, "f", "a\n\nb"), "utf-8") == ["a", "", "b"]


def test_an_undecodable_byte_is_reported_with_its_line(tmp_path):
    path = put(tmp_path, "f", "a\nb\ncaf\xe9\n", "latin-1")
    with pytest.raises(DataError, match=r"f, line 3: byte 0xe9 .*utf-8"):
        read_lines(path, "utf-8")


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(DataError, match=r"absent: no such file"):
        read_lines(tmp_path / "absent", "utf-8")


def test_one_file_per_class_gives_the_first_file_label_1_and_keeps_empty_lines(tmp_path):
    paths = [put(tmp_path, "pos", "caf\xe9 \n\n", "latin-1"), put(tmp_path, "neg", "bad\n")]
    examples = read_one_file_per_class(paths, "latin-1", ("0", "1"))
    assert examples.texts == ["café", "", "bad"]
    assert examples.targets.tolist() == [1, 1, 0]
    assert examples.partners is None


def test_text_tab_label(tmp_path):
    examples = read_text_tab_label([put(tmp_path, "f", "a film \t0\nb\t1\n")], "utf-8", ("0", "1"))
    assert examples.texts == ["a film", "b"]
    assert examples.targets.tolist() == [0, 1]


def test_label_space_text(tmp_path):
    examples = read_label_space_text([put(tmp_path, "f", "3 a film .\n0 b\n")], "utf-8", tuple("01234"))
    assert examples.texts == ["a film .", "b"]
    assert examples.targets.tolist() == [3, 0]


def test_trec_takes_the_coarse_label_and_a_colon_in_the_text(tmp_path):
    path = put(tmp_path, "f", "NUM:dist How far : Denver ?\nHUM:ind Who ?\n")
    examples = read_trec([path], "latin-1", ("HUM", "NUM"))
    assert examples.texts == ["How far : Denver ?", "Who ?"]
    assert examples.targets.tolist() == [1, 0]


def test_mrpc_skips_its_header(tmp_path):
    path = put(tmp_path, "f", '\ufeffQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t9\t8\tOne .\tTwo "x .\n')
    examples = read_mrpc([path], "utf-8", ("0", "1"))
    assert (examples.texts, examples.partners, examples.targets.tolist()) == (["One ."], ['Two "x .'], [1])


def test_sick_reads_both_targets_from_one_file(tmp_path):
    path = put(tmp_path, "f", "id\ta\tb\tscore\tlabel\r\n1\tOne\tTwo\t3.6\tNEUTRAL\r\n")
    entailment = read_sick_entailment([path], "utf-8", ("CONTRADICTION", "NEUTRAL", "ENTAILMENT"))
    relatedness = read_sick_relatedness([path], "utf-8", ())
    assert (
        (entailment.texts, entailment.partners)
        == (["One"], ["Two"])
        == (relatedness.texts, relatedness.partners)
    )
    assert entailment.targets.tolist() == [1]
    assert relatedness.targets.tolist() == [3.6]


def test_sts_benchmark_ignores_license_columns_and_quotes(tmp_path):
    path = put(tmp_path, "f", 'g\tf\ty\t1\t4.750\tA "b\tC\ng\tf\ty\t2\t0.5\tD\tE\tl1\tl2\n')
    examples = read_sts_benchmark([path], "utf-8", ())
    assert (examples.texts, examples.partners) == (['A "b', "D"], ["C", "E"])
    assert examples.targets.tolist() == [4.75, 0.5]


def test_sts_leaves_out_pairs_without_a_score(tmp_path):
    paths = [put(tmp_path, "in", "a\tb\nc\td\tsrc\tsrc\ne\tf\n"), put(tmp_path, "gs", "1.5\n\n0\n")]
    examples = read_sts_input_and_gold(paths, "utf-8", ())
    assert (examples.texts, examples.partners) == (["a", "e"], ["b", "f"])
    assert examples.targets.tolist() == [1.5, 0.0]


def test_sts_files_of_different_lengths_are_refused(tmp_path):
    paths = [put(tmp_path, "in", "a\tb\nc\td\n"), put(tmp_path, "gs", "1.5\n")]
    with pytest.raises(DataError, match=r"gs: 1 lines, expected 2 as in in"):
        read_sts_input_and_gold(paths, "utf-8", ())


def test_probing_files_hold_all_parts(tmp_path):
    path = put(tmp_path, "f", "tr\tPAST\ta b\ntr\tPRES\tc\nva\tPRES\td\nte\tPAST\te f\n")
    parts = {part: read_probing([path], "utf-8", (), part) for part in ("tr", "va", "te")}
    assert {part: examples.texts for part, examples in parts.items()} == {
        "tr": ["a b", "c"],
        "va": ["d"],
        "te": ["e f"],
    }
    assert [examples.targets.tolist() for examples in parts.values()] == [[0, 1], [1], [0]]


def test_probing_labels_are_those_of_the_training_lines(tmp_path):
    path = put(tmp_path, "f", "tr\tPAST\ta b\nte\tNEVER\te f\n")
    with pytest.raises(DataError, match=r"line 2: label is 'NEVER', expected one of 'PAST'"):
        read_probing([path], "utf-8", (), "te")
    with pytest.raises(DataError, match=r"line 1: part is 'xx'"):
        read_probing([put(tmp_path, "g", "xx\tPAST\ta\n")], "utf-8", (), "te")


def test_csv_has_quotes_and_tsv_has_none(tmp_path):
    comma = put(tmp_path, "a.csv", 'text,label\n"one, ""two""",x\n')
    tab = put(tmp_path, "a.tsv", 'id\tlabel\ttext\n1\tx\t"one, two\n')
    assert read_columns([comma], "utf-8", ("x",)).texts == ['one, "two"']
    assert read_columns([tab], "utf-8", ("x",)).texts == ['"one, two']


def test_a_json_file_is_no_table(tmp_path):
    with pytest.raises(DataError, match=r"task\.json"):
        read_columns([put(tmp_path, "task.json", "{}")], "utf-8", ("0", "1"))


def test_json_lines_have_the_columns_of_their_first_object_and_numbers_as_labels(tmp_path):
    lines = '{"Text": "a", "label": 1, "id": null}\n\n{"label": "0", "text": "b", "other": [1]}\n'
    examples = read_columns([put(tmp_path, "a.jsonl", lines)], "utf-8", ("0", "1"))
    assert examples.texts == ["a", "b"]
    assert examples.targets.tolist() == [1, 0]
    scored = put(tmp_path, "b.jsonl", '{"text1": "a", "text2": "b", "score": 2.5}\n')
    assert read_columns([scored], "utf-8", ()).targets.tolist() == [2.5]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        ('{"text": 5, "label": "1"}', "line 2: text is 5, expected text"),
        ('{"text": "a"}', "line 2: label is None, expected text"),
        ('{"text": "a", "label": true}', "line 2: label is True, expected text"),
        ('{"text": "a"', "line 2"),
    ],
)
def test_json_lines_with_other_values_are_errors(tmp_path, second, message):
    path = put(tmp_path, "a.jsonl", '{"text": "a", "label": "1"}\n' + second)
    with pytest.raises(DataError, match=rf"a\.jsonl, {message}"):
        read_columns([path], "utf-8", ("1",))


def test_csv_pairs_with_scores(tmp_path):
    path = put(tmp_path, "a.csv", "text1,text2,score\na,b,1.5\nc,d,-2\n")
    examples = read_columns([path], "utf-8", ())
    assert (examples.texts, examples.partners) == (["a", "c"], ["b", "d"])
    np.testing.assert_array_equal(examples.targets, [1.5, -2.0])


@pytest.mark.parametrize(
    ("reader", "content", "message"),
    [
        (read_text_tab_label, "fine\t0\nno label\n", r"line 2: .*'no label'.*'text<TAB>label'"),
        (read_text_tab_label, "fine\t0\nx\t7\n", r"line 2: label is '7', expected one of '0', '1'"),
        (read_label_space_text, "0 a\nword\n", r"line 2: .*'word'.*'label<SPACE>text'"),
        (read_trec, "0:x a\nno colon here\n", r"line 2: .*'no colon here'.*'COARSE:fine question'"),
        (read_mrpc, "h\n1\t2\t3\tonly\n", r"line 2: 4 .*expected 5"),
        (read_sick_relatedness, "h\n1\ta\tb\thigh\tx\n", r"line 2: score is 'high', expected a number"),
        (read_sts_benchmark, "a\tb\tc\td\tnan\tx\ty\n", r"line 1: score is 'nan', expected a number"),
        (read_columns, "sentence,label\na,0\n", r"line 1: columns are sentence,label, expected text,label"),
        (read_columns, "text,label\na,0\nb\n", r"line 3: .*1, expected 2"),
        (read_columns, "text,label\na,0\nb,2\n", r"line 3: label is '2'"),
    ],
)
def test_errors_name_file_and_line(tmp_path, reader, content, message):
    path = put(tmp_path, "broken.csv", content)
    with pytest.raises(DataError, match=rf"broken\.csv, {message}"):
        reader([path], "utf-8", ("0", "1"))
