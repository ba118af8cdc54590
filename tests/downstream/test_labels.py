"""Parsing of labels, scores, pairs and texts, and errors that contain an index."""

import json
from enum import Enum, IntEnum

import numpy as np
import pandas as pd
import pytest
from scipy import sparse
from sklearn.exceptions import DataConversionWarning

from sentenc.downstream.labels import Labels, parse_labels, parse_pairs, parse_scores, parse_texts


class Color(str, Enum):  # noqa: UP042
    RED = "red"
    BLUE = "blue"


class Level(IntEnum):
    LOW = 1
    HIGH = 2


@pytest.mark.parametrize(
    ("y", "classes"),
    [
        (["b", "a", "b"], ["a", "b"]),
        ([10, 9, 10], [9, 10]),
        ([True, False, True], [False, True]),
        ([2.0, 1.0, 2.0], [1.0, 2.0]),
        (np.array(["b", "a", "b"]), ["a", "b"]),
        (np.array([7, -7, 7], np.int8), [-7, 7]),
        (np.array([True, False, True]), [False, True]),
        (pd.Series(["b", "a", "b"], index=[5, 3, 1]), ["a", "b"]),
        (pd.Series(["b", "a", "b"], dtype="category"), ["a", "b"]),
        (iter(["b", "a", "b"]), ["a", "b"]),
        ([np.str_("b"), "a", "b"], ["a", "b"]),
        ([Color.RED, Color.BLUE, Color.RED], ["blue", "red"]),
        ([Level.HIGH, Level.LOW, Level.HIGH], [1, 2]),
        ([2**63, -1, 2**63], [-1, 2**63]),
        ([2**80, -1, 2**80], [-1, 2**80]),
        (["a\0", "a", "a\0"], ["a", "a\0"]),
        (["東", "", "東"], ["", "東"]),
    ],
)
def test_one_label_per_text(y, classes):
    parsed = parse_labels(y)
    assert parsed.classes.tolist() == classes
    assert [type(label) for label in parsed.classes.tolist()] == [type(label) for label in classes]
    np.testing.assert_array_equal(parsed.targets, [[0, 1], [1, 0], [0, 1]])
    assert parsed.targets.dtype == np.float32
    assert (parsed.multi_label, parsed.indicator) == (False, False)
    # Labels are saved in this form.
    again = Labels.from_json(json.loads(json.dumps(parsed.to_json())))
    assert again.classes.tolist() == classes
    assert [type(label) for label in again.classes.tolist()] == [type(label) for label in classes]
    assert again.classes.dtype == parsed.classes.dtype


@pytest.mark.parametrize(
    "y",
    [
        [["b", "a"], [], ["c"]],
        [("b", "a", "a"), (), ("c",)],
        [{"a", "b"}, set(), frozenset("c")],
        [np.array(["b", "a"]), np.array([]), np.array(["c"])],
        pd.Series([["a", "b"], [], ["c"]]),
    ],
)
def test_several_labels_per_text(y):
    parsed = parse_labels(y)
    assert parsed.classes.tolist() == ["a", "b", "c"]
    np.testing.assert_array_equal(parsed.targets, [[1, 1, 0], [0, 0, 0], [0, 0, 1]])
    assert (parsed.multi_label, parsed.indicator) == (True, False)
    assert parsed.decoded(np.array([[0.6, 0.7, 0.1], [0.5, 0.5, 0.5]])) == [("a", "b"), ()]


@pytest.mark.parametrize(
    "form", [np.array, list, sparse.csr_matrix, sparse.csr_array, pd.DataFrame, lambda y: np.array(y, bool)]
)
def test_matrix_of_labels(form):
    matrix = [[1, 1, 0], [0, 0, 0], [0, 0, 1]]
    parsed = parse_labels(form(matrix))
    assert parsed.classes.tolist() == [0, 1, 2]
    np.testing.assert_array_equal(parsed.targets, matrix)
    assert (parsed.multi_label, parsed.indicator) == (True, True)
    decoded = parsed.decoded(np.array([[0.6, 0.7, 0.5]]))
    np.testing.assert_array_equal(decoded, [[1, 1, 0]])
    assert decoded.dtype == np.int64
    np.testing.assert_array_equal(parsed.encoded(form(matrix)), matrix)
    with pytest.raises(ValueError, match="y has 2 columns, expected 3"):
        parsed.encoded(np.eye(2))
    with pytest.raises(ValueError, match="another form"):
        parsed.encoded([[0], [1]])


def test_ties_are_predicted_as_the_first_class():
    parsed = parse_labels(["b", "a"]).decoded(np.array([[0.5, 0.5], [0.2, 0.8]]))
    assert parsed.tolist() == ["a", "b"]


def test_labels_of_a_test_set():
    single, several = parse_labels(["a", "b"]), parse_labels([["a"], ["b"]])
    np.testing.assert_array_equal(single.encoded(["b", "new", "b"]), [[0, 1], [0, 0], [0, 1]])
    np.testing.assert_array_equal(several.encoded([["b", "a"], ["new"], []]), [[1, 1], [0, 0], [0, 0]])
    assert single.encoded([]).shape == (0, 2)
    assert several.encoded([]).shape == (0, 2)
    with pytest.raises(TypeError, match=r"y\[0\] is str \('a'\), expected a collection of labels"):
        several.encoded(["a", "b"])
    with pytest.raises(TypeError, match=r"y\[0\] is list \(\['a'\]\), expected a label"):
        single.encoded([["a"], ["b"]])


@pytest.mark.parametrize(
    ("y", "error", "words"),
    [
        ("ab", TypeError, "y is str, expected a sequence of labels"),
        (b"ab", TypeError, "y is bytes"),
        ({"a": 1}, TypeError, "y is dict"),
        ({"a", "b"}, TypeError, "y is set"),
        (None, ValueError, "the target y is None: expected labels"),
        (3, TypeError, "y is int"),
        (["a", None], TypeError, r"y\[1\] is NoneType \(None\), expected a label"),
        (["a", float("nan")], ValueError, r"y\[1\] is nan, expected a label"),
        (["a", np.nan, "b"], ValueError, r"y\[1\] is nan, expected a label"),
        (pd.Series(["a", None], dtype="str"), ValueError, r"y\[1\] is nan, expected a label"),
        (pd.Series([1, None], dtype="Int64"), TypeError, r"y\[1\] is NAType"),
        (["a", pd.NaT], TypeError, r"y\[1\] is NaTType"),
        (["a", b"b"], TypeError, r"y\[1\] is bytes"),
        (["a", ["b"]], TypeError, r"y\[1\] is list \(\['b'\]\), expected a label"),
        (["1", 1], TypeError, r"y\[1\] is int \(1\), but y\[0\] is str \('1'\)"),
        ([1, 2, True], TypeError, r"y\[2\] is bool \(True\), but y\[0\] is int \(1\)"),
        ([1, 2.0], TypeError, r"y\[1\] is float \(2.0\), but y\[0\] is int"),
        ([1.0, 1.5], ValueError, r"y\[1\] is 1.5, expected classes, not continuous values"),
        ([1.0, float("inf")], ValueError, r"y\[1\] is inf, expected classes"),
        ([("a",), None], TypeError, r"y\[1\] is NoneType \(None\), expected a collection of labels"),
        ([("a",), "b"], TypeError, r"y\[1\] is str \('b'\), expected a collection of labels"),
        ([("a",), ("b", None)], TypeError, r"y\[1\] is NoneType"),
        ([("a",), ("b", 1)], TypeError, r"y\[1\] is int \(1\), but y\[0\] is str \('a'\)"),
        (np.array([[0, 2]]), ValueError, r"y\[0, 1\] is 2, expected 0 or 1"),
        (np.array([[0, 1], [np.nan, 1]]), ValueError, r"y\[1, 0\] is nan, expected 0 or 1"),
        (np.array([["a", "b"]]), ValueError, "expected 0 or 1"),
        (["x" * 1000, 1], TypeError, r"'xxxxx.*\.\.\.\)"),
    ],
)
def test_wrong_labels_are_refused(y, error, words):
    with pytest.raises(error, match=words) as caught:
        parse_labels(y)
    assert len(str(caught.value)) < 250


def test_collections_of_numbers_are_sets_of_labels():
    # The labels 0 and 1, not an indicator matrix.
    assert parse_labels([(0, 1), (1, 1)]).indicator is False
    assert parse_labels([[0], [0, 1], []]).classes.tolist() == [0, 1]
    assert parse_labels([[3, 3], [4]]).targets.tolist() == [[1, 0], [0, 1]]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"type": "list"}, KeyError),
        ({"type": "bool"}, TypeError),
        ({"type": "int", "classes": [1, 2.0]}, TypeError),
        ({"classes": ["b", "a"]}, ValueError),
        ({"classes": ["a", "a"]}, ValueError),
        ({"classes": "ab"}, TypeError),
        ({"multi_label": "false"}, TypeError),
        ({"indicator": None}, TypeError),
    ],
)
def test_labels_in_json_are_read_strictly(change, error):
    good = parse_labels(["a", "b"]).to_json()
    assert Labels.from_json(good).classes.tolist() == ["a", "b"]
    with pytest.raises(error):
        Labels.from_json(good | change)
    del good["type"]
    with pytest.raises(KeyError):
        Labels.from_json(good)


def test_scores():
    for y in ([1, 2.5], np.array([1, 2.5], np.float32), pd.Series([1, 2.5], index=[3, 4]), iter([1, 2.5])):
        parsed = parse_scores(y)
        assert parsed.tolist() == [1.0, 2.5]
        assert parsed.dtype == np.float64


def test_column_is_one_value_for_each_row():
    values = np.array([[2], [1], [2]])
    for column in (values, pd.DataFrame(values)):
        with pytest.warns(DataConversionWarning, match="A column-vector y was passed"):
            labels = parse_labels(column)
        assert not labels.multi_label
        assert labels.classes.tolist() == [1, 2]
        assert labels.targets.argmax(axis=1).tolist() == [1, 0, 1]
        with pytest.warns(DataConversionWarning, match=r"\(3, 1\)"):
            assert parse_scores(column).tolist() == [2, 1, 2]
    with pytest.warns(DataConversionWarning):
        assert parse_labels(np.array([["b"], ["a"]])).classes.tolist() == ["a", "b"]


@pytest.mark.parametrize(
    ("y", "error", "words"),
    [
        ("12", TypeError, "y is str"),
        (None, ValueError, "the target y is None: expected numbers"),
        ([1, "2"], TypeError, r"y\[1\] is str \('2'\), expected a number"),
        ([1, None], TypeError, r"y\[1\] is NoneType"),
        ([1, True], TypeError, r"y\[1\] is bool"),
        ([1, np.nan], ValueError, r"y\[1\] is nan, expected a finite number"),
        ([np.inf], ValueError, r"y\[0\] is inf"),
        (np.ones((2, 2)), TypeError, r"y\[0\] is ndarray"),
    ],
)
def test_wrong_scores_are_refused(y, error, words):
    with pytest.raises(error, match=words):
        parse_scores(y)


PAIRS = [("a", "b"), ("c", "d")]


@pytest.mark.parametrize(
    "pairs",
    [
        PAIRS,
        [list(pair) for pair in PAIRS],
        tuple(PAIRS),
        np.array(PAIRS),
        np.array(PAIRS, object),
        iter(PAIRS),
        pd.DataFrame(PAIRS, index=[4, 2]),
        zip("ac", "bd", strict=True),
    ],
)
def test_pairs(pairs):
    parsed = parse_pairs(pairs)
    assert parsed == (["a", "c"], ["b", "d"])
    assert {type(text) for column in parsed for text in column} == {str}


@pytest.mark.parametrize(
    ("pairs", "words"),
    [
        ("ab", "pairs is str, expected a sequence of pairs"),
        ({"a": "b"}, "pairs is dict"),
        (None, "pairs is NoneType"),
        (["ab", "cd"], r"pairs\[0\] is str \('ab'\), expected two texts"),
        ([("a", "b"), ("a",)], r"pairs\[1\] is tuple \(\('a',\)\), expected two texts"),
        ([("a", "b"), {"a", "b"}], r"pairs\[1\] is set"),
        ([("a", "b"), None], r"pairs\[1\] is NoneType"),
        ([("a", "b"), ("a", None)], r"pairs\[1\]\[1\] is NoneType \(None\), expected str"),
        ([("a", "b"), (np.nan, "a")], r"pairs\[1\]\[0\] is float \(nan\), expected str"),
        (pd.DataFrame({"a": ["x"], "b": ["y"], "c": ["z"]}), r"pairs\[0\] is ndarray .*, expected two texts"),
        (pd.DataFrame({"a": ["x"], "b": [None]}), r"pairs\[0\]\[1\] is"),
    ],
)
def test_wrong_pairs_are_refused(pairs, words):
    with pytest.raises(TypeError, match=words):
        parse_pairs(pairs)


def test_texts():
    for texts in (["a", "b"], ("a", "b"), np.array(["a", "b"]), pd.Series(["a", "b"], index=[2, 7])):
        assert parse_texts(texts) == ["a", "b"]


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ("a text", "texts is a str, expected a sequence"),
        (None, "texts is NoneType"),
        (["a", None], r"texts\[1\] is NoneType"),
        (["a", np.nan], r"texts\[1\] is float \(nan\)"),
        ([("a", "b")], r"texts\[0\] is tuple"),
        # The names of the columns must not become texts.
        (pd.DataFrame({"text": ["a", "b"]}), "texts is DataFrame, expected .* single column"),
        (np.array([["a"], ["b"]]), r"array of shape \(2, 1\)"),
    ],
)
def test_wrong_texts_are_refused(texts, words):
    with pytest.raises(TypeError, match=words):
        parse_texts(texts)
