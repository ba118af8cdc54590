"""Reports of predictions: numbers computed by hand, and the contents of texts and plots."""

import json
import math

import numpy as np
import pytest

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from sentenc.downstream.report import classification_report, multi_label_report, regression_report
from sentenc.downstream.report_plot import plot_confusion, plot_history, plot_label_scores, plot_scores
from sentenc.downstream.report_text import to_markdown, to_text

CLASSES = np.array(["cat", "dog", "owl"])
GOLD = ["cat", "cat", "cat", "dog", "dog"]
PREDICTED = np.array(["cat", "cat", "dog", "dog", "cat"])
PROBA = np.array([[0.5, 0.3, 0.2], [0.8, 0.1, 0.1], [0.2, 0.7, 0.1], [0.25, 0.5, 0.25], [0.9, 0.1, 0.0]])
TEXTS = ["a", "b", "c | * _", "d", "e\n"]
PLACES = [f"data.csv:{i + 2}" for i in range(5)]


@pytest.fixture
def report():
    return classification_report(GOLD, PREDICTED, PROBA, CLASSES, TEXTS, PLACES)


def many(n_classes, n=400, seed=0):
    rng = np.random.default_rng(seed)
    gold = rng.integers(0, n_classes, n)
    logits = rng.normal(size=(n, n_classes))
    logits[np.arange(n), gold] += 2
    proba = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    names = [f"label {i}" for i in range(n_classes)]
    predicted = [names[i] for i in proba.argmax(axis=1)]
    return classification_report([names[i] for i in gold], predicted, proba, names, ["text"] * n)


def test_scores_of_one_label_per_text(report):
    assert report.scores == {
        "accuracy": pytest.approx(3 / 5),
        "majority accuracy": pytest.approx(3 / 5),
        "log loss": pytest.approx(-(math.log(0.5 * 0.8 * 0.2 * 0.5 * 0.1)) / 5),
    }
    cat, dog, owl = report.labels
    assert cat == ("cat", pytest.approx(2 / 3), pytest.approx(2 / 3), pytest.approx(2 / 3), 3)
    assert dog == ("dog", 0.5, 0.5, 0.5, 2)
    assert owl == ("owl", 0, 0, 0, 0)
    # The owl has no examples and was not predicted, so it does not count.
    assert report.averages["macro"] == pytest.approx(((2 / 3 + 1 / 2) / 2,) * 3)
    assert report.averages["weighted"] == pytest.approx(((3 * 2 / 3 + 2 / 2) / 5,) * 3)
    np.testing.assert_array_equal(report.confusion, [[2, 1, 0], [1, 1, 0], [0, 0, 0]])
    assert report.confusions() == [("cat", "dog", 1), ("dog", "cat", 1)]


def test_mistakes_are_sorted_by_confidence(report):
    assert [tuple(mistake) for mistake in report.mistakes] == [
        ("e\n", "dog", "cat", 0.9, "data.csv:6"),
        ("c | * _", "cat", "dog", 0.7, "data.csv:4"),
    ]


def test_label_unknown_to_training():
    report = classification_report(
        ["cat", "emu"], ["cat", "dog"], [[0.5, 0.5], [0.25, 0.75]], ["cat", "dog"], ["a", "b"]
    )
    assert report.unknown == ["emu"]
    assert [entry.label for entry in report.labels] == ["cat", "dog", "emu"]
    assert report.labels[2] == ("emu", 0, 0, 0, 1)
    assert report.scores["log loss"] == pytest.approx(math.log(2))
    np.testing.assert_array_equal(report.confusion, [[1, 0, 0], [0, 0, 0], [0, 1, 0]])
    assert "had no training example" in to_text(report)
    only = classification_report(["emu"], ["cat"], [[1.0]], ["cat"], ["a"])
    assert math.isnan(only.scores["log loss"])
    assert only.to_dict()["scores"]["log loss"] is None
    assert "not defined" in to_text(only)


@pytest.mark.parametrize("classes", [[0, 1], [False, True]])
def test_labels_that_are_not_strings(classes):
    report = classification_report(
        np.array(classes), np.array(classes)[::-1], 1 - np.eye(2), classes, ["a", "b"]
    )
    assert json.loads(json.dumps(report.to_dict()))["labels"][1]["label"] == classes[1]
    assert type(report.labels[1].label) is type(classes[1])
    # The label has probability 0; the loss is large but finite.
    assert report.scores["log loss"] == pytest.approx(-math.log(1e-15))


def test_scores_of_several_labels_per_text():
    gold = [("a", "b"), (), ("b",), ("c",)]
    predicted = [("a",), ("a",), ("b",), ("c",)]
    proba = [[0.9, 0.4, 0.1], [0.8, 0.1, 0.2], [0.1, 0.9, 0.2], [0.3, 0.4, 0.6]]
    report = multi_label_report(gold, predicted, proba, ["a", "b", "c"], ["s", "t", "u", "v"])
    right = [0.9, 0.4, 0.9, 0.2, 0.9, 0.8, 0.9, 0.9, 0.8, 0.7, 0.6, 0.6]
    assert report.scores == {
        "subset accuracy": 0.5,
        "hamming loss": pytest.approx(2 / 12),
        "log loss": pytest.approx(-np.log(right).mean()),
    }
    assert report.labels[0] == ("a", 0.5, 1.0, pytest.approx(2 / 3), 1)
    assert report.labels[1] == ("b", 1.0, 0.5, pytest.approx(2 / 3), 2)
    assert report.averages["micro"] == pytest.approx((3 / 4, 3 / 4, 3 / 4))
    assert [
        (mistake.text, mistake.label, mistake.predicted, mistake.confidence) for mistake in report.mistakes
    ] == [
        ("t", (), ("a",), 0.8),
        ("s", ("a", "b"), ("a",), 0.6),
    ]
    assert "predicted a, labeled (none)" in to_text(report)
    with pytest.raises(ValueError, match="kind 'multi'"):
        plot_confusion(report, "never.png")


def test_no_labels_at_all():
    report = multi_label_report([(), ()], [(), ()], np.zeros((2, 1)), ["a"], ["s", "t"])
    assert report.averages == {}
    assert report.scores["subset accuracy"] == 1
    assert to_text(report)


def test_scores_of_a_regression(tmp_path):
    report = regression_report([1, 2, 3, 4], [1, 3, 2, 4], [("a", "b")] * 4, PLACES[:4])
    assert report.scores == {
        "pearson": pytest.approx(0.8),
        "spearman": pytest.approx(0.8),
        "mean squared error": 0.5,
        "mean absolute error": 0.5,
        "r2": pytest.approx(1 - 2 / 5),
    }
    assert report.mistakes[0] == (("a", "b"), 2.0, 3.0, 1.0, "data.csv:3")
    assert "1.00  predicted 3.00, labeled 2.00   (data.csv:3)" in to_text(report)
    plot_scores(report, tmp_path / "scores.png")
    assert is_picture(tmp_path / "scores.png")


@pytest.mark.parametrize(("gold", "predicted"), [([3.0], [2.0]), ([3, 3], [1, 2]), ([1, 2], [5, 5])])
def test_correlation_that_is_not_defined(gold, predicted, tmp_path):
    report = regression_report(gold, predicted, ["t"] * len(gold))
    assert math.isnan(report.scores["pearson"])
    assert json.loads(json.dumps(report.to_dict(), allow_nan=False))["scores"]["pearson"] is None
    plot_scores(report, tmp_path / "scores.png")


def test_text_lists_all_of_a_few_labels(report):
    text = to_text(report)
    assert "accuracy of the most frequent label  0.600" in text
    assert [line.split()[0] for line in text.splitlines() if line.startswith(("cat ", "dog ", "owl "))] == [
        "cat",
        "dog",
        "owl",
    ]
    assert "0.90  predicted cat, labeled dog   (data.csv:6)" in text
    assert all(len(line) <= 100 for line in text.splitlines())


def test_text_lists_the_weakest_of_many_labels():
    report = many(77)
    text = to_text(report)
    assert len(text.splitlines()) < 60
    weakest = min(report.labels, key=lambda entry: entry.f1)
    assert f"\n{weakest.label} " in text
    assert "the 12 weakest of 77 labels; 65 more" in text
    assert f"(6 of {len(report.mistakes)})" in text
    markdown = to_markdown(report)
    assert all(f"| {entry.label} |" in markdown for entry in report.labels)


def test_two_thousand_labels(tmp_path):
    report = many(2000, n=3000)
    assert len(to_text(report).splitlines()) < 60
    assert len(json.dumps(report.to_dict())) < 2_000_000
    plot_confusion(report, tmp_path / "c.png")
    assert is_picture(tmp_path / "c.png")


def test_text_cannot_break_the_table_or_the_terminal(report):
    assert r"| c \| \* _ | cat | dog | 0.700 | data.csv:4 |" in to_markdown(report)
    assert "| e | dog | cat | 0.900 |" in to_markdown(report)
    ugly = classification_report(["a"], ["b"], [[0, 1]], ["a", "b"], ["x\x1b[31m " + "long " * 50])
    assert "\x1b" not in to_text(ugly)
    assert "…" in to_text(ugly)


def test_json_is_complete(report):
    body = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert body["n_examples"] == 5
    assert body["averages"]["macro"]["f1"] == pytest.approx(7 / 12)
    assert body["confusion"] == [["cat", "cat", 2], ["cat", "dog", 1], ["dog", "cat", 1], ["dog", "dog", 1]]
    assert body["mistakes"][0] == {
        "text": "e\n",
        "label": "dog",
        "predicted": "cat",
        "confidence": 0.9,
        "place": "data.csv:6",
    }


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"y_true": []}, "0 examples"),
        ({"y_pred": PREDICTED[:4]}, "y_pred has 4 rows, expected 5"),
        ({"proba": PROBA[:3]}, "proba has 3 rows, expected 5"),
        ({"texts": TEXTS[:2]}, "texts has 2 rows"),
        ({"places": PLACES * 2}, "places has 10 rows"),
    ],
)
def test_different_lengths_are_refused(change, words):
    arguments = {
        "y_true": GOLD,
        "y_pred": PREDICTED,
        "proba": PROBA,
        "classes": CLASSES,
        "texts": TEXTS,
        "places": PLACES,
    }
    with pytest.raises(ValueError, match=words):
        classification_report(**(arguments | change))


def drawn(monkeypatch, draw, *arguments):
    """The figure that is saved."""
    figures = []
    monkeypatch.setattr("matplotlib.figure.Figure.savefig", lambda figure, path, **_: figures.append(figure))
    draw(*arguments)
    return figures[0]


def test_confusion_picture(report, monkeypatch, tmp_path):
    panel = drawn(monkeypatch, plot_confusion, report, tmp_path / "c.png").axes[0]
    # The owl has no examples and is left out.
    assert [label.get_text() for label in panel.get_yticklabels()] == ["cat", "dog"]
    np.testing.assert_allclose(panel.images[0].get_array(), [[2 / 3, 1 / 3], [1 / 2, 1 / 2]])
    assert sorted(text.get_text() for text in panel.texts) == ["1", "1", "1", "2"]


def test_confusion_picture_of_many(monkeypatch, tmp_path):
    panel = drawn(monkeypatch, plot_confusion, many(77), tmp_path / "c.png").axes[0]
    assert panel.images[0].get_array().shape == (20, 20)
    assert panel.get_title(loc="left") == "the 20 most confused of 77 labels"


def is_picture(path):
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000


def test_pictures_on_disk(report, tmp_path):
    plot_confusion(report, tmp_path / "new" / "c.png")
    plot_label_scores(many(60), tmp_path / "l.png")
    assert is_picture(tmp_path / "new" / "c.png")
    assert is_picture(tmp_path / "l.png")


@pytest.mark.parametrize("label", ["$x", "a_b^c", "tab\there", "東京", "l" * 300])
def test_picture_of_awkward_labels(label, tmp_path):
    report = classification_report([label, "b"], ["b", "b"], np.full((2, 2), 0.5), [label, "b"], ["s", "t"])
    plot_confusion(report, tmp_path / "c.png")
    assert is_picture(tmp_path / "c.png")


def test_curve(monkeypatch, tmp_path):
    rows = [
        {"epoch": 0, "train_loss": None, "validation_loss": 1.0, "validation_score": 0.5},
        {"epoch": 1, "train_loss": 0.9, "validation_loss": 0.6, "validation_score": 0.7},
        {"epoch": 2, "train_loss": 0.4, "validation_loss": 0.8, "validation_score": 0.6},
    ]
    left, right = drawn(monkeypatch, plot_history, rows, tmp_path / "h.png").axes
    curves = {line.get_label(): line.get_xydata().tolist() for line in left.lines}
    assert curves == {
        "training loss": [[1, 0.9], [2, 0.4]],
        "validation loss": [[0, 1.0], [1, 0.6], [2, 0.8]],
    }
    assert left.collections[0].get_offsets().tolist() == [[1, 0.6]]
    assert right.lines[0].get_xydata().tolist() == [[0, 0.5], [1, 0.7], [2, 0.6]]
    with pytest.raises(ValueError, match="no row with a loss"):
        plot_history([{"epoch": 0}], tmp_path / "h.png")
