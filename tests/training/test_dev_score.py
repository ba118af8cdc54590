"""The scores of a run: similarity, search, classification, and their weighted mean."""

import json

import numpy as np
import pytest

from sentenc.errors import DataError
from sentenc.evaluation import evaluate
from sentenc.evaluation.tasks import Task
from sentenc.training.config.evaluation import EvaluationConfig, ScoreConfig, parse_evaluation
from sentenc.training.engine.dev_score import DevScore
from sentenc.training.engine.run_log import plot_curve
from sentenc.training.recipes import dev_score as module
from sentenc.training.recipes.dev_score import dev_score, search_score
from tests.evaluation.test_beir import beir_folder
from tests.support.models import WORDS, make_bert, make_cse
from tests.support.training import trainer


def sentences(n, seed=0):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS[:60], rng.integers(3, 9))) for _ in range(n)]


@pytest.fixture(scope="module")
def encoder():
    return make_cse(combine="both", average_dim=8)


@pytest.fixture(scope="module")
def search_folder(tmp_path_factory):
    """Thirty documents with texts of many lengths, and twelve queries with one or two relevant ones."""
    texts = [" ".join(sentences(1 + i % 5, i)) for i in range(30)]
    documents = [
        {"_id": f"d{i}", "title": "", "text": text} for i, text in enumerate([*texts[:29], texts[3]])
    ]
    queries = [{"_id": f"q{i}", "text": text} for i, text in enumerate(sentences(12, seed=99))]
    judgments = [(f"q{i}", f"d{2 * i}", 1) for i in range(12)] + [("q3", "d29", 2), ("q4", "d1", 0)]
    return beir_folder(tmp_path_factory.mktemp("beir") / "drinks.v1", documents, queries, dev=judgments)


class Recorder:
    """An encoder that records the texts of each role."""

    def __init__(self, inner):
        self.inner, self.similarity_dim = inner, inner.similarity_dim
        self.documents, self.queries = [], []

    def encode_document(self, texts, **options):
        self.documents += texts
        return self.inner.encode(texts, **options)

    def encode_query(self, texts, **options):
        self.queries += texts
        return self.inner.encode(texts, **options)


@pytest.mark.parametrize("metric", ["nDCG@10", "recall@100", "MRR@10", "MAP"])
def test_the_score_of_a_search_is_that_of_an_evaluation(search_folder, encoder, metric):
    score = search_score(ScoreConfig(kind="search", path=str(search_folder), metric=metric))
    (record,) = evaluate(encoder, Task.from_beir(search_folder)).records.values()
    expected = record.details["vector"][metric]
    assert score(encoder) == pytest.approx(expected, abs=1e-6)
    assert expected > 0


def test_a_bert_is_scored_with_its_prompts(search_folder):
    bert = make_bert()
    bert.metadata["prompts"] = {"query": "the dog "}
    score = search_score(ScoreConfig(kind="search", path=str(search_folder)))
    plain = make_bert()
    assert bert.encode_query("cat") == pytest.approx(plain.encode("the dog cat"), abs=1e-5)
    assert score(bert) != pytest.approx(score(plain))


def test_a_limited_search_keeps_what_is_relevant(search_folder, encoder):
    entry = ScoreConfig(kind="search", path=str(search_folder), max_queries=5, max_documents=10)
    recorder = Recorder(encoder)
    score = search_score(entry)
    assert score(recorder) > 0
    assert (len(recorder.documents), len(recorder.queries)) == (10, 5)
    # The same sample in another run.
    again = Recorder(encoder)
    assert search_score(entry)(again) == score(again)
    assert (again.documents[:10], again.queries[:5]) == (recorder.documents, recorder.queries)
    # Relevant documents are kept even if they are more.
    few = Recorder(encoder)
    search_score(ScoreConfig(kind="search", path=str(search_folder), max_documents=2))(few)
    assert len(few.documents) == 13
    # A search among fewer documents is easier.
    assert search_score(entry)(encoder) >= search_score(
        ScoreConfig(kind="search", path=str(search_folder), max_queries=5)
    )(encoder)


def test_a_collection_without_relevant_documents_is_refused(tmp_path):
    folder = beir_folder(
        tmp_path / "a", [{"_id": "x", "text": "a"}], [{"_id": "q", "text": "a"}], test=[("q", "y", 1)]
    )
    with pytest.raises(DataError, match=r"none of the 1 documents that are relevant"):
        search_score(ScoreConfig(kind="search", path=str(folder)))
    with pytest.raises(DataError, match=r"split is 'dev', expected one of test"):
        search_score(ScoreConfig(kind="search", path=str(folder), split="dev"))


def labeled_file(path, labels, pairs=False):
    rows = [
        {"text1": text, "text2": text, "label": label}
        if pairs
        else {"text": f"{label} {label} {label} {label} {text}", "label": label}
        for text, label in zip(sentences(len(labels)), labels, strict=True)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize("options", [{}, {"max_examples": 40, "folds": 3}])
def test_classification_is_cross_validated(tmp_path, encoder, options):
    labels = [("guitar", "market", "dog")[i % 3] for i in range(90)]
    path = labeled_file(tmp_path / "learnable.jsonl", labels)
    score = module.classification_score(ScoreConfig(kind="classification", path=path, **options))
    assert score(encoder) > 90
    assert score(encoder) == score(encoder)
    chance = np.random.default_rng(1).permutation([0, 1] * 45).tolist()
    path = labeled_file(tmp_path / "chance.jsonl", chance, pairs=True)
    score = module.classification_score(ScoreConfig(kind="classification", path=path, **options))
    # Texts that say nothing of their labels: an accuracy on the training rows would be higher.
    assert 25 < score(encoder) < 70


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("text,label\na,1\nb,1\n", "1 labels, expected at least 2"),
        ("text,label\na,1\nb,2\n", "2 labels, .* 2 examples each"),
        ("text1,text2,score\na,b,1\n", "has scores, expected labels"),
        ("a,b\n", "columns are a,b"),
    ],
)
def test_a_file_without_two_labels_is_refused(tmp_path, content, message):
    (tmp_path / "a.csv").write_text(content)
    with pytest.raises(DataError, match=message):
        module.classification_score(ScoreConfig(kind="classification", path=str(tmp_path / "a.csv")))


def sts_file(path, n=20):
    pairs = zip(sentences(n, 1), sentences(n, 2), strict=True)
    path.write_text("".join(f"{i}\t{a}\t{b}\n" for i, (a, b) in enumerate(pairs)))
    return str(path)


def test_the_weighted_mean_selects(tmp_path, search_folder, encoder):
    sts = sts_file(tmp_path / "sts.dev.tsv")
    entries = (
        ScoreConfig(kind="sts", path=sts, weight=2),
        ScoreConfig(kind="sts", path=sts, name="ten pairs", weight=0, metric="pearson", max_examples=10),
        ScoreConfig(kind="search", path=str(search_folder), weight=1),
    )
    result = dev_score(EvaluationConfig(scores=entries))(encoder)
    assert list(result.parts) == ["sts.dev", "ten pairs", "drinks.v1"]
    assert result.mean == pytest.approx((2 * result.parts["sts.dev"] + result.parts["drinks.v1"]) / 3)
    assert result.parts["sts.dev"] == pytest.approx(dev_score(EvaluationConfig(sts=sts))(encoder).mean)
    assert str(DevScore(70.126, {"a": 80.0, "b": 60.252})) == "70.13 (a 80.00, b 60.25)"
    assert str(DevScore(70.126, {"a": 70.126})) == "70.13"


@pytest.mark.parametrize(
    ("section", "error", "message"),
    [
        ({}, ValueError, "neither sts nor scores"),
        (
            {"sts": "a", "scores": [{"kind": "sts", "path": "b"}]},
            ValueError,
            r"evaluation\.sts is '.*a', and evaluation\.scores has 1 entries",
        ),
        (
            {"metric": "pearson", "scores": [{"kind": "sts", "path": "b"}]},
            ValueError,
            r"evaluation\.metric is 'pearson', but applies to evaluation\.sts only",
        ),
        ({"scores": [{"kind": "sts"}]}, ValueError, r"scores\.0\.path is missing"),
        (
            {"scores": [{"kind": "st", "path": "b"}]},
            TypeError,
            r"scores\.0\.kind is 'st', expected one of 'sts'",
        ),
        ({"scores": [3]}, TypeError, r"scores\.0 is 3, expected a table"),
        ({"scores": {"kind": "sts"}}, TypeError, r"scores is .*, expected a list"),
        ({"scores": [{"kind": "sts", "path": "b", "weight": -1}]}, ValueError, r"scores\.0: weight is -1"),
        ({"scores": [{"kind": "sts", "path": "b", "weight": 0}]}, ValueError, "weights of all .* are 0"),
        ({"scores": [{"kind": "sts", "path": "b", "folds": 3}]}, ValueError, "folds is 3, but kind is 'sts'"),
        (
            {"scores": [{"kind": "search", "path": "b", "max_examples": 9}]},
            ValueError,
            "it belongs to 'sts' and 'classification'",
        ),
        ({"scores": [{"kind": "search", "path": "b", "max_queries": 0}]}, ValueError, r"max_queries is 0"),
        (
            {"scores": [{"kind": "search", "path": "b", "metric": "nDCG"}]},
            ValueError,
            r"metric is 'nDCG', .*nDCG@10",
        ),
        (
            {"scores": [{"kind": "sts", "path": "x/b.tsv"}, {"kind": "search", "path": "y/b"}]},
            ValueError,
            r"scores\.1 has the name 'b'",
        ),
    ],
)
def test_an_error_names_the_score(tmp_path, section, error, message):
    with pytest.raises(error, match=message):
        parse_evaluation(section, tmp_path)


def test_paths_are_relative_to_the_run_file(tmp_path):
    parsed = parse_evaluation({"scores": [{"kind": "search", "path": "dev/a"}], "every": 5}, tmp_path)
    assert parsed.entries[0].path == str(tmp_path / "dev/a")
    (old,) = parse_evaluation({"sts": "a.tsv", "metric": "pearson"}, tmp_path).entries
    assert (old.path, old.chosen_metric, old.label) == (str(tmp_path / "a.tsv"), "pearson", "a")


def test_the_log_has_every_part_and_the_mean_selects(tmp_path):
    scores = iter([(1.0, 9.0), (3.0, 1.0), (2.0, 7.0), (float("nan"), 8.0)])

    def evaluate_parts(encoder):
        a, b = next(scores)
        return DevScore((3 * a + b) / 4, {"a": a, "b": b})

    result = trainer(tmp_path, evaluate=evaluate_parts).run()
    assert (result.best_step, result.best_score) == (12, 3.25)
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["dev_scores"]["b"] for row in rows if "dev_scores" in row] == [9.0, 1.0, 7.0, 8.0]
    plot_curve(rows, tmp_path / "curve.svg")
    drawn = (tmp_path / "curve.svg").read_text()
    assert all(f"<!-- {label} -->" in drawn for label in ("dev score", "dev: a", "dev: b"))


def test_a_first_score_of_nan_is_no_best_score(tmp_path):
    scores = iter([float("nan"), -3.0, -5.0, -4.0])
    result = trainer(tmp_path, evaluate=lambda _: next(scores)).run()
    assert (result.best_step, result.best_score) == (6, -3.0)
