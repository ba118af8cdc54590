"""``sentenc classify``: the rows of a file with predictions added."""

import csv
import gzip
import io
import json

import numpy as np
import pytest

from tests.support.labeled import labeled, run, scored_pairs, write_csv, write_jsonl
from tests.support.models import make_cse

pytest.importorskip("sklearn")

from sentenc import SentenceClassifier, SentencePairClassifier, SentencePairRegressor

TEXTS = ["dog cat", "the stock market fell", "a man plays", "dog\tmarket"]


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    folder = tmp_path_factory.mktemp("classify")
    texts, labels = map(list, zip(*labeled(), strict=True))
    pairs = [(a, b) for a, b, _ in scored_pairs()]
    scores = [score for _, _, score in scored_pairs()]
    options = {"C": 4.0, "random_state": 0}
    fitted = {
        "topics": SentenceClassifier(make_cse(), **options).fit(texts, labels),
        "numbers": SentenceClassifier(make_cse(), **options).fit(texts, [len(label) for label in labels]),
        "several": SentenceClassifier(make_cse(), **options).fit(
            [f"{a} {b}" for a, b in zip(texts, texts[7:] + texts[:7], strict=True)],
            [[a, b] for a, b in zip(labels, labels[7:] + labels[:7], strict=True)],
        ),
        "pairs": SentencePairClassifier(make_cse(), **options).fit(pairs, [f"s{score}" for score in scores]),
        "scores": SentencePairRegressor(make_cse(), **options).fit(pairs, scores),
    }
    for name, estimator in fitted.items():
        estimator.save(folder / name)
    return folder, fitted


def table(text, delimiter="\t"):
    return list(csv.DictReader(io.StringIO(text), delimiter=delimiter))


def test_lines_of_standard_input(saved):
    folder, fitted = saved
    out, err = run("classify", folder / "topics", "-", stdin="\n".join(TEXTS) + "\n\n")
    rows = table(out)
    # A TSV has no quotes: a tab in a text becomes a space.
    assert [row["text"] for row in rows] == [text.replace("\t", " ") for text in TEXTS]
    assert [row["predicted"] for row in rows] == fitted["topics"].predict(TEXTS).tolist()
    best = fitted["topics"].predict_proba(TEXTS).max(axis=1)
    np.testing.assert_allclose([float(row["probability"]) for row in rows], best, atol=1e-6)
    assert "4 rows" in err


@pytest.mark.parametrize(
    ("name", "content", "options", "message"),
    [
        ("a.csv", "text,probability\ndog,\n", [], "a.csv: the field 'probability'"),
        (
            "a.jsonl",
            '{"text": "dog"}\n{"text": "cat", "predicted": "x"}\n',
            [],
            "line 2: the field 'predicted'",
        ),
        ("a.jsonl", '{"text": "dog", "top": 1}\n', ["-k", "2"], "the field 'top'"),
        ("a.jsonl", '{"text": "dog", "probabilities": 1}\n', ["--proba"], "the field 'probabilities'"),
        ("a.csv", "text,predicted_2\ndog,x\n", ["-k", "2"], "the field 'predicted_2'"),
    ],
)
def test_a_field_that_predictions_would_replace_is_an_error(saved, tmp_path, name, content, options, message):
    path, out = tmp_path / name, tmp_path / f"out{name[1:]}"
    path.write_text(content)
    _, err = run("classify", saved[0] / "topics", path, "-o", out, *options, code=1)
    assert message in err
    assert not out.exists()


@pytest.mark.parametrize("suffix", ["csv", "tsv"])
def test_table_keeps_all_its_columns(saved, tmp_path, suffix):
    folder, fitted = saved
    rows = [("1", TEXTS[0], "x"), ("2", "", "y"), ("3", TEXTS[1], "")]
    data = write_csv(tmp_path / "in.csv", ["id", "message", "label"], rows)
    _, err = run("classify", folder / "topics", data, "-o", tmp_path / f"out.{suffix}")
    assert "3 rows" in err
    written = table(
        (tmp_path / f"out.{suffix}").read_text(encoding="utf-8"), "," if suffix == "csv" else "\t"
    )
    assert list(written[0]) == ["id", "message", "label", "predicted", "probability"]
    assert [(row["id"], row["message"], row["label"]) for row in written] == rows
    expected = fitted["topics"].predict([row[1] for row in rows])
    assert [row["predicted"] for row in written] == expected.tolist()


def test_top_k_and_all_probabilities(saved, tmp_path):
    folder, fitted = saved
    out, _ = run("classify", folder / "topics", "-", "-k", 2, "--proba", "-q", stdin="dog\n")
    (row,) = table(out)
    proba = dict(zip(fitted["topics"].classes_, fitted["topics"].predict_proba(["dog"])[0], strict=True))
    order = sorted(proba, key=proba.get, reverse=True)
    assert [row["predicted"], row["predicted_2"]] == order[:2]
    assert float(row["probability_2"]) == pytest.approx(proba[order[1]], abs=1e-6)
    assert {name: float(row[f"p_{name}"]) for name in proba} == pytest.approx(proba, abs=1e-6)
    run("classify", folder / "topics", "-", "-k", 9, "--proba", "-o", tmp_path / "o.jsonl", stdin="dog\n")
    body = json.loads((tmp_path / "o.jsonl").read_text())
    assert [entry["label"] for entry in body["top"]] == order
    assert body["probabilities"] == pytest.approx(proba, abs=1e-6)


def test_objects_keep_their_fields_and_labels_their_type(saved, tmp_path):
    folder, fitted = saved
    rows = [{"n": [1, {"a": 2}], "text": "dog", "none": None}, {"text": "market", "more": True}]
    data = write_jsonl(tmp_path / "in.jsonl", rows)
    run("classify", folder / "numbers", data, "-o", tmp_path / "out.jsonl")
    written = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert written[0].pop("n") == [1, {"a": 2}]
    assert written[1]["more"] is True
    assert [row["predicted"] for row in written] == fitted["numbers"].predict(["dog", "market"]).tolist()
    assert isinstance(written[0]["predicted"], int)
    _, err = run("classify", folder / "numbers", data, code=1)
    assert "row 2" in err
    assert "'more'" in err
    assert ".jsonl" in err


def test_several_labels(saved, tmp_path):
    folder, fitted = saved
    texts = ["dog cat stock market", "the", "dog dog dog"]
    expected = fitted["several"].predict(texts)
    out, _ = run("classify", folder / "several", "-", "--labels-separator", "+", stdin="\n".join(texts))
    rows = table(out)
    assert [set(row["predicted"].split("+")) - {""} for row in rows] == [set(labels) for labels in expected]
    assert len(rows[0]["probability"].split("+")) == len(expected[0])
    run("classify", folder / "several", "-", "-o", tmp_path / "o.jsonl", stdin="\n".join(texts))
    first = json.loads((tmp_path / "o.jsonl").read_text().splitlines()[0])
    assert set(first["predicted"]) == set(expected[0])
    assert first["probability"] == sorted(first["probability"], reverse=True)
    _, err = run("classify", folder / "several", "-", "-k", 2, stdin="dog", code=2)
    assert "--top-k" in err


@pytest.mark.parametrize("name", ["pairs", "scores"])
def test_pairs(saved, tmp_path, name):
    folder, fitted = saved
    pairs = [("dog cat park", "dog cat park"), ("dog", "market")]
    expected = fitted[name].predict(pairs).tolist()
    lines = "".join(f"{a}\t{b}\n" for a, b in pairs)
    data = write_csv(tmp_path / "in.csv", ["sentence1", "sentence2", "score"], [(*pair, 1) for pair in pairs])
    named = write_csv(tmp_path / "n.csv", ["x", "y"], pairs)
    outputs = [
        run("classify", folder / name, "-", stdin=lines)[0],
        run("classify", folder / name, data)[0],
        run("classify", folder / name, named, "--text-column", "x", "--text2-column", "y")[0],
        run("classify", folder / name, "-", "--format", "csv", stdin=data.read_text(encoding="utf-8"))[0],
    ]
    for out in outputs:
        written = [row["predicted"] for row in table(out)]
        if name == "pairs":
            assert written == expected
        else:
            np.testing.assert_allclose([float(value) for value in written], expected, atol=1e-5)
    assert list(table(outputs[1])[0])[:3] == ["sentence1", "sentence2", "score"]
    _, err = run("classify", folder / name, "-", stdin="a\tb\nonly one\n", code=1)
    assert "line 2: 1 parts" in err
    single = write_csv(tmp_path / "one.csv", ["text"], [("dog",)])
    _, err = run("classify", folder / name, single, code=2)
    assert "which columns are the two texts?" in err


def test_a_stream_longer_than_a_block(saved, tmp_path):
    folder, fitted = saved
    texts = [f"{TEXTS[i % 3]} {i}" for i in range(5000)]
    (tmp_path / "many.txt.gz").write_bytes(gzip.compress("\n".join(texts).encode()))
    run("classify", folder / "topics", tmp_path / "many.txt.gz", "-o", tmp_path / "o.csv")
    rows = table((tmp_path / "o.csv").read_text(encoding="utf-8"), ",")
    assert [row["text"] for row in rows] == texts
    assert [row["predicted"] for row in rows] == fitted["topics"].predict(texts).tolist()


def test_failure_leaves_the_older_file(saved, tmp_path):
    folder, _ = saved
    (tmp_path / "bad.jsonl").write_text('{"text": "dog"}\n' * 3000 + '{"text": 3}\n')
    (tmp_path / "out.csv").write_bytes(b"older")
    _, err = run("classify", folder / "topics", tmp_path / "bad.jsonl", "-o", tmp_path / "out.csv", code=1)
    assert "bad.jsonl, line 3001" in err
    assert (tmp_path / "out.csv").read_bytes() == b"older"
    assert {path.name for path in tmp_path.iterdir()} == {"bad.jsonl", "out.csv"}


def test_nothing_to_classify(saved):
    out, err = run("classify", saved[0] / "topics", "-", stdin="")
    assert out == "text\tpredicted\tprobability\n"
    assert "0 rows" in err


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere", "-"], 2, "does not exist"),
        (["{}/topics", "nowhere.csv"], 1, "nowhere.csv"),
        (["{}/topics", "-", "-o", "out.npy"], 2, "expected one of .csv, .tsv, .jsonl"),
        (["{}/topics", "-", "-o", "no/such/out.csv"], 2, "does not exist"),
        (["{}/topics", "-", "--text-column", "a"], 2, "plain text"),
        (["{}/scores", "-", "-k", "2"], 2, "--top-k"),
        (["{}/topics/encoder", "-"], 1, "classifier"),
    ],
)
def test_wrong_arguments_are_refused(saved, arguments, code, words):
    _, err = run("classify", *[part.replace("{}", str(saved[0])) for part in arguments], stdin="", code=code)
    assert words in err


def test_single_texts_refuse_a_second_column(saved, tmp_path):
    data = write_csv(tmp_path / "in.csv", ["text", "b"], [("dog", "cat")])
    _, err = run(
        "classify", saved[0] / "topics", data, "--text-column", "text", "--text2-column", "b", code=2
    )
    assert "--text2-column" in err
