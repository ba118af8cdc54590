"""``sentenc fit``: from a file to a classifier's folder with a report."""

import csv
import gzip
import json
import sys

import numpy as np
import pytest

from sentenc.splits import train_test_split
from tests.support.labeled import labeled, run, scored_pairs, write_csv, write_jsonl
from tests.support.models import make_cse

pytest.importorskip("sklearn")
pytest.importorskip("matplotlib")

from sentenc import SentenceClassifier, SentencePairClassifier, SentencePairRegressor, downstream

ROWS = labeled()


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fit") / "tiny"
    make_cse().save(folder)
    return folder


@pytest.fixture
def fit(model, tmp_path):
    def call(*arguments, code=0):
        return run("fit", *arguments, "-o", tmp_path / "out", "-m", model, code=code)

    return call


@pytest.fixture
def data(tmp_path):
    return write_csv(tmp_path / "data.csv", ["text", "label"], ROWS)


def report_of(tmp_path):
    return json.loads((tmp_path / "out" / "report" / "report.json").read_text(encoding="utf-8"))


def test_the_report_is_of_the_saved_classifier_on_the_test_examples(fit, data, tmp_path):
    out, err = fit(data)
    assert "60 examples, texts in 'text', 3 labels in 'label'" in err
    assert "fitting on 48 examples, testing on 12" in err
    assert "macro average" in out
    report = report_of(tmp_path)
    _, test_rows = train_test_split([label for _, label in ROWS], 0.2, 1)
    texts, labels = zip(*[ROWS[i] for i in test_rows], strict=True)
    classifier = downstream.load(tmp_path / "out")
    assert isinstance(classifier, SentenceClassifier)
    assert report["scores"]["accuracy"] == pytest.approx(classifier.score(list(texts), list(labels)))
    assert report["scores"]["accuracy"] > 0.7
    assert report["n_examples"] == 12
    assert report["settings"]["columns"] == "text, label"


def test_files_of_the_report(fit, data, tmp_path):
    noisy = [(text, "pets" if i % 4 == 0 else label) for i, (text, label) in enumerate(ROWS)]
    out, _ = fit(write_csv(tmp_path / "noisy.csv", ["text", "label"], noisy), "-q")
    folder = tmp_path / "out" / "report"
    assert {path.name for path in folder.iterdir()} == {
        "report.md",
        "report.json",
        "errors.tsv",
        "confusion_matrix.png",
    }
    with open(folder / "errors.tsv", encoding="utf-8", newline="") as file:
        head, *errors = csv.reader(file, delimiter="\t")
    assert head == ["text", "label", "predicted", "probability", "where"]
    assert errors
    for text, label, predicted, probability, where in errors:
        # The header is line 1.
        assert noisy[int(where.rpartition(":")[2]) - 2] == (text, label)
        assert predicted != label
        assert 0 < float(probability) <= 1
        assert where in (folder / "report.md").read_text(encoding="utf-8")
    assert "most confident errors" in out


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([[0, 1, 0], [0, 0, 1]], "data.jsonl, line 1: 'label' is [0, 1, 0], which contains a label twice"),
        ([[0, 1], [1, 0]], "data.jsonl: all of 'label' are lists of 0 and 1"),
    ],
)
def test_rows_of_a_matrix_are_no_labels(fit, tmp_path, labels, message):
    rows = [{"text": text, "label": labels[i % 2]} for i, (text, _) in enumerate(ROWS)]
    _, err = fit(write_jsonl(tmp_path / "data.jsonl", rows), code=1)
    assert message in err


def test_repeated_labels_count_once(fit, tmp_path):
    rows = [{"text": text, "label": [label, label]} for text, label in ROWS]
    fit(write_jsonl(tmp_path / "data.jsonl", rows))
    assert downstream.load(tmp_path / "out").classes_.tolist() == sorted({label for _, label in ROWS})


def test_lone_surrogates_do_not_lose_the_classifier(fit, tmp_path):
    # A text that was cut within an emoji ends in half of it. UTF-8 cannot encode it.
    rows = [{"text": f"{text} \ud83d", "label": f"{label} \ud83d"} for text, label in ROWS]
    for row in rows[::3]:
        row["label"] = "other \ud83d"
    path = tmp_path / "data.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    out, _ = fit(path)
    assert "\ufffd" in out
    report = report_of(tmp_path)
    assert report["mistakes"]
    assert all(mistake["text"].endswith("\ufffd") for mistake in report["mistakes"])
    assert "\ufffd" in (tmp_path / "out/report/errors.tsv").read_text(encoding="utf-8")
    for suffix in ("csv", "tsv", "jsonl"):
        target = tmp_path / f"labeled.{suffix}"
        run("classify", tmp_path / "out", path, "--proba", "-o", target, "-q")
        assert f"{ROWS[0][0]} \ufffd" in target.read_text(encoding="utf-8")


def test_quiet_prints_the_report_alone(fit, data):
    out, err = fit(data, "-q")
    assert "accuracy" in out
    assert err == ""


def test_test_file(fit, data, tmp_path):
    other = write_csv(tmp_path / "test.csv", ["label", "text"], [("pets", "dog cat"), ("emu", "runs")])
    out, err = fit(data, "--test", other)
    assert "fitting on 60 examples, testing on 2" in err
    assert "had no training example" in out
    assert "'emu'" in out
    assert report_of(tmp_path)["unknown_labels"] == ["emu"]


def test_the_report_can_be_omitted(fit, data, tmp_path):
    out, err = fit(data, "--test-fraction", 0)
    assert (out, (tmp_path / "out" / "report").exists()) == ("", False)
    assert "fitting on 60 examples" in err
    assert "there is no report" in err


def test_refit_saves_a_classifier_of_all_examples(fit, data, tmp_path):
    _, err = fit(data, "--refit", "-C", 1)
    assert "fitted again on all 60 examples" in err
    everything = SentenceClassifier(make_cse(), C=1.0, random_state=1)
    everything.fit(*map(list, zip(*ROWS, strict=True)))
    texts = [text for text, _ in ROWS]
    probabilities = downstream.load(tmp_path / "out").predict_proba(texts)
    np.testing.assert_allclose(probabilities, everything.predict_proba(texts), atol=1e-6)
    assert report_of(tmp_path)["n_examples"] == 12


def test_same_seed_same_classifier(fit, data, tmp_path):
    probabilities = []
    for seed in (5, 5, 6):
        fit(data, "--seed", seed, "--overwrite")
        probabilities.append(downstream.load(tmp_path / "out").predict_proba(["dog market"]))
    np.testing.assert_array_equal(probabilities[0], probabilities[1])
    assert (probabilities[0] != probabilities[2]).any()


@pytest.mark.parametrize("kind", ["tsv", "jsonl", "csv.gz", "parquet"])
def test_several_file_formats_are_read(fit, tmp_path, kind):
    path = tmp_path / f"data.{kind}"
    if kind == "jsonl":
        write_jsonl(path, [{"Category": label, "n": 1, "Sentence": text} for text, label in ROWS])
    elif kind == "parquet":
        pa, pq = pytest.importorskip("pyarrow"), pytest.importorskip("pyarrow.parquet")
        texts, labels = zip(*ROWS, strict=True)
        pq.write_table(pa.table({"n": range(60), "Sentence": texts, "Category": labels}), path)
    else:
        write_csv(tmp_path / "plain", ["Sentence", "Category"], ROWS, "\t" if kind == "tsv" else ",")
        content = (tmp_path / "plain").read_bytes()
        path.write_bytes(gzip.compress(content) if kind == "csv.gz" else content)
    _, err = fit(path)
    assert "60 examples, texts in 'Sentence', 3 labels in 'Category'" in err


def test_several_files_and_named_columns(fit, tmp_path):
    first = write_csv(tmp_path / "a.csv", ["a", "b", "c"], [("x", *row) for row in ROWS[::2]])
    second = write_csv(tmp_path / "b.csv", ["c", "b"], [row[::-1] for row in ROWS[1::2]])
    _, err = fit(first, second, "--text-column", "b", "--label-column", "c")
    assert "60 examples" in err
    third = write_csv(tmp_path / "third.csv", ["b"], [("x",)])
    _, err = fit(first, third, "--text-column", "b", "--label-column", "c", "--overwrite", code=1)
    assert "third.csv" in err
    assert "'c'" in err


def test_numbers_in_csv_are_names_and_numbers_in_json_are_numbers(fit, tmp_path):
    number = {"music": 1, "market": 2, "pets": 10}
    fit(write_csv(tmp_path / "n.csv", ["text", "label"], [(text, f" {number[x]} ") for text, x in ROWS]))
    assert downstream.load(tmp_path / "out").classes_.tolist() == ["1", "10", "2"]
    fit(write_jsonl(tmp_path / "n.jsonl", [{"text": t, "label": number[x]} for t, x in ROWS]), "--overwrite")
    assert downstream.load(tmp_path / "out").classes_.tolist() == [1, 2, 10]
    assert report_of(tmp_path)["labels"][2]["label"] == 10


def test_several_labels(fit, tmp_path):
    rows = [(f"{a} {b}", f"{x};{y}") for (a, x), (b, y) in zip(ROWS, ROWS[7:] + ROWS[:7], strict=True)]
    rows += [("the of to", ""), ("a is in", "")]
    _, err = fit(write_csv(tmp_path / "m.csv", ["text", "labels"], rows), "--labels-separator", ";")
    assert "62 examples, texts in 'text', 3 labels in 'labels'" in err
    report = report_of(tmp_path)
    assert report["kind"] == "multi"
    assert report["scores"]["hamming loss"] < 0.3
    assert (tmp_path / "out" / "report" / "labels.png").exists()
    lists = [{"text": text, "labels": labels.split(";") if labels else []} for text, labels in rows]
    fit(write_jsonl(tmp_path / "m.jsonl", lists), "--overwrite")
    again = report_of(tmp_path)
    assert again["scores"] == report["scores"]


def test_pairs_with_labels(fit, tmp_path):
    rows = [(a, b, "same" if score > 1 else "other") for a, b, score in scored_pairs()]
    out, err = fit(write_csv(tmp_path / "p.csv", ["premise", "hypothesis", "label"], rows))
    assert "texts in 'premise' and 'hypothesis', 2 labels" in err
    assert isinstance(downstream.load(tmp_path / "out"), SentencePairClassifier)
    assert "accuracy" in out


def test_pairs_with_scores(fit, tmp_path):
    data = write_csv(tmp_path / "p.csv", ["text1", "text2", "score"], scored_pairs(80))
    out, err = fit(data)
    assert "scores 'score'" in err
    assert isinstance(downstream.load(tmp_path / "out"), SentencePairRegressor)
    assert "pearson" in out
    assert report_of(tmp_path)["scores"]["pearson"] > 0.5
    assert (tmp_path / "out" / "report" / "scores.png").exists()
    named = write_csv(tmp_path / "q.csv", ["x", "y", "z"], scored_pairs(80))
    again, _ = fit(named, "--text-column", "x", "--text2-column", "y", "--score-column", "z", "--overwrite")
    assert again.replace("q.csv", "p.csv") == out


@pytest.mark.parametrize("n_bad", [1, 3])
def test_rows_without_text_or_label(fit, tmp_path, n_bad):
    rows = [*labeled(40), *[("", "pets"), ("dog", " "), ("  ", "pets")][:n_bad]]
    data = write_csv(tmp_path / "d.csv", ["text", "label"], rows)
    if n_bad == 1:
        _, err = fit(data)
        assert "120 examples" in err
        assert "without text or label: 1" in err
        return
    _, err = fit(data, code=1)
    assert "d.csv, line 122" in err
    assert "3 of 123 rows" in err
    assert not (tmp_path / "out").exists()
    _, err = fit(data, "--skip-empty")
    assert "without text or label: 3" in err
    rows = [{"text": text, "label": label} for text, label in labeled(40)]
    write_jsonl(tmp_path / "n.jsonl", [*rows, {"text": None, "label": "pets"}])
    _, err = fit(str(tmp_path / "n.jsonl"), "--overwrite")
    assert "without text or label: 1" in err


def test_columns_without_a_name_are_ignored(fit, tmp_path):
    rows = [(label, text, "", "") for text, label in ROWS]
    _, err = fit(
        write_csv(tmp_path / "d.csv", ["v1", "v2", "", ""], rows),
        "--text-column",
        "v2",
        "--label-column",
        "v1",
    )
    assert f"{len(ROWS)} examples" in err


def test_a_text_in_both_splits_is_a_warning(fit, tmp_path):
    _, err = fit(write_csv(tmp_path / "d.csv", ["text", "label"], ROWS * 2))
    assert "warning" in err
    assert "of the 24 test examples" in err


def test_a_text_of_the_test_file_in_the_training_examples_is_a_warning(fit, data, tmp_path):
    other = write_csv(tmp_path / "test.csv", ["text", "label"], [ROWS[0], ("a text of its own", "pets")])
    _, err = fit(data, "--test", other)
    assert "warning: 1 of the 2 test examples have a text that is in the training examples too" in err
    _, err = fit(
        data, "--test", write_csv(other, ["text", "label"], [("a text of its own", "pets")]), "--overwrite"
    )
    assert "warning" not in err


@pytest.mark.parametrize(
    ("content", "options", "code", "words"),
    [
        ("a,b\n1,2\n", [], 2, "'a', 'b'"),
        ("a,b,label\n1,2,3\n", [], 2, "'a', 'b', 'label'"),
        ("text,label\na,b\n", ["--text-column", "c"], 2, "no column 'c'"),
        ("text,label\na,b\n", ["--text-column", "label"], 2, "'label'"),
        ("text,label\na,b\n", ["--text2-column", "text"], 2, "--text-column"),
        (
            "text,label\na,b\n",
            ["--label-column", "label", "--score-column", "text"],
            2,
            "--score-column",
        ),
        ("text,score\na,1\n", [], 2, "--text2-column"),
        ("text1,text2,score\na,b,c\n", [], 1, "data.csv, line 2: 'score' is 'c'"),
        ("text1,text2,score\na,b,nan\n", [], 1, "'score' is 'nan'"),
        ("text1,text2,score\na,b,1\n", ["--balanced"], 2, "--balanced"),
        ("text,label\na,b\n", ["--epochs", "3"], 2, "--epochs requires --fine-tune all"),
        ("text,label\na,b\n", ["-C", "0"], 2, "'0' is neither 'auto' nor a number above 0"),
        ("text,label\n", [], 1, "data.csv"),
        ("", [], 1, "has no columns"),
        ("text,label\na\n", [], 1, "data.csv, line 2"),
        ("text,label\na,x\nb,x\nc,x\n", [], 1, "'x'"),
    ],
)
def test_wrong_input_is_refused(fit, tmp_path, content, options, code, words):
    path = tmp_path / "data.csv"
    path.write_text(content, encoding="utf-8")
    _, err = fit(path, *options, code=code)
    assert words in err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("label", "words"),
    [
        (1, "line 2: the label 1 is int"),
        (0.5, "line 2: 'label' is float"),
        ({"a": 1}, "line 2: 'label' is dict"),
    ],
)
def test_labels_of_json_that_are_refused(fit, tmp_path, label, words):
    rows = [{"text": "dog", "label": "pets"}, {"text": "cat", "label": label}]
    _, err = fit(write_jsonl(tmp_path / "d.jsonl", rows), code=1)
    assert words in err


def test_no_other_folder_is_replaced(fit, data, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "config.json").write_text("{}")
    _, err = fit(data, "--overwrite", code=1)
    assert "contains other files" in err
    (tmp_path / "out" / "config.json").unlink()
    fit(data)
    before = (tmp_path / "out" / "report" / "report.json").read_bytes()
    _, err = fit(data, code=1)
    assert "--overwrite" in err
    assert (tmp_path / "out" / "report" / "report.json").read_bytes() == before
    fit(data, "--overwrite", "--seed", 3)
    assert (tmp_path / "out" / "report" / "report.json").read_bytes() != before


def test_without_matplotlib_it_fails_before_it_fits(fit, data, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    _, err = fit(data, code=1)
    assert "'matplotlib'" in err
    assert "sentenc[downstream]" in err
    fit(data, "--test-fraction", 0)


@pytest.mark.parametrize("known", [True, False])
def test_epochs_are_drawn(tmp_path, known):
    from sentenc.cli.fit_report import write_report
    from sentenc.downstream.report import classification_report

    report = classification_report(["a", "b"], ["a", "a"], [[0.9, 0.1]] * 2, ["a", "b"], ["s", "t"])
    # A long run must not fail at its end because there is no loss to draw.
    rows = [{"epoch": 0, "validation_loss" if known else "other": 1.0}]
    write_report(report, tmp_path / "report", {"data": "some\nfile"}, rows)
    assert (tmp_path / "report" / "history.png").exists() == known
    text = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert ("(history.png)" in text) == known
    assert "- data: some file" in text
