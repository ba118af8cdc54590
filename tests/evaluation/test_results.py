import dataclasses
import sys

import pytest

from sentenc.errors import MissingExtraError
from sentenc.evaluation import GROUPS, Results, Score, plot, to_markdown
from sentenc.evaluation.published_results import STS_ROWS, TRANSFER_ROWS


def score(task, value, protocol="cosine", **changes):
    fields = {
        "task": task,
        "value": value,
        "metric": "spearman",
        "protocol": protocol,
        "aggregation": "all",
        "text": "raw",
        "folds": None,
        "seed": None,
        "probe": None,
        "encoder": {"name": "e", "fingerprint": "abc", "dim": 8, "settings": {}},
        "data": {},
        "mismatches": [],
        "sizes": {},
        "metrics": {"spearman": value},
        "details": {},
        "versions": {"sentenc": "1"},
        "seconds": {"encode": 0.25, "score": 0.5},
    }
    return Score(**{**fields, **changes})


def results(name="mine", tasks=GROUPS["sts"], value=70.0, **changes):
    scores = [score(task, value + at, **changes) for at, task in enumerate(tasks)]
    return Results(name, {item.task: item for item in scores})


def test_averages_need_all_seven():
    assert results().averages == {"STS avg": 73.0}
    assert results(tasks=GROUPS["sts"][:6]).averages == {}
    assert results(tasks=GROUPS["transfer"]).averages == {"transfer avg": 73.0}


@pytest.mark.parametrize(
    "change",
    [
        {"encoder": {"name": "e", "fingerprint": "other", "dim": 8, "settings": {}}},
        {"encoder": {"name": "e", "fingerprint": "abc", "dim": 8, "settings": {"truncate_dim": 8}}},
        {"aggregation": "mean"},
        {"text": "senteval"},
        {"seed": 2},
        {"folds": 5},
        {"probe": {"name": "senteval", "nhid": 50}},
    ],
)
def test_scores_that_are_not_comparable_have_no_average(change):
    common = {"folds": 10, "seed": 1, "probe": {"name": "senteval", "nhid": 0}}
    mixed = results(**common)
    assert mixed.averages
    mixed.records["STS14"] = dataclasses.replace(mixed.records["STS14"], **change)
    assert mixed.averages == {}


def test_folds_and_text_may_depend_on_the_task():
    transfer = results(tasks=GROUPS["transfer"], folds=10)
    transfer.records["SST2"] = dataclasses.replace(transfer.records["SST2"], folds=None, text="senteval")
    assert transfer.averages == {"transfer avg": 73.0}


def test_a_users_own_files_have_no_average():
    assert results(text="own").averages == {}


def test_table_has_all_encoders_and_published_rows_with_their_protocol():
    text = to_markdown([results(), results("other|one", GROUPS["sts"][1:], 60.0)])
    assert "| mine | 70.00 | 71.00 | 72.00 | 73.00 | 74.00 | 75.00 | 76.00 | 73.00 |" in text
    assert "| other\\|one |  | 60.00 | 61.00 | 62.00 | 63.00 | 64.00 | 65.00 |  |" in text
    assert "Published, for comparison. Protocol: Spearman of the cosine, aggregation `all`" in text
    assert "| USE | 64.49 | 67.80 | 64.61 | 76.83 | 73.18 | 74.92 | 76.69 | 71.22 |" in text
    assert "## Transfer" not in text
    assert (
        "STS12, STS13, STS14, STS15, STS16, STS-B, SICK-R: spearman of cosine, aggregation all, raw text"
        in text
    )
    assert "- mine: 8 dimensions, fingerprint abc, 1.8 s encoding and 3.5 s scoring; sentenc 1" in text


def test_the_dimensions_of_cosine_tasks_are_stated_if_they_are_fewer():
    cosine = score("STS12", 70.0, encoder={"fingerprint": "abc", "dim": 5, "settings": {"truncate_dim": 5}})
    trained = score("MR", 80.0, protocol="nested-k-fold")
    text = to_markdown(Results("mine", {"STS12": cosine, "MR": trained}))
    assert "- mine: 8 dimensions (5 in cosine tasks), fingerprint abc, 0.5 s" in text


def test_transfer_and_other_tasks_have_tables_of_their_own():
    probe = {"name": "senteval", "nhid": 50}
    changes = {
        "protocol": "nested-k-fold",
        "metric": "accuracy",
        "aggregation": None,
        "folds": 10,
        "seed": 1111,
    }
    text = to_markdown(results(tasks=[*GROUPS["transfer"], "mine"], probe=probe, text="senteval", **changes))
    assert "| InferSent-GloVe | 81.57 | 86.54 | 92.50 | 90.38 | 84.18 | 88.20 | 75.77 | 85.59 |" in text
    assert "## Other tasks\n\n| encoder | mine |" in text
    assert "10 folds, seed 1111, probe senteval with 50 hidden units, SentEval's tokenized text" in text


def test_numbers_from_other_files_are_marked():
    text = to_markdown([results(tasks=["STS12"], mismatches=["a: 3 examples, expected 4"])])
    assert "| mine | 70.00* |" in text
    assert "(*)\n\n- STS12: a: 3 examples, expected 4\n" in text
    assert "*" not in to_markdown([results(tasks=["STS12"])])


def test_published_rows_have_seven_numbers_and_the_published_means():
    means = {row.model: sum(row.values) / 7 for row in STS_ROWS}
    assert {len(row.values) for row in (*STS_ROWS, *TRANSFER_ROWS)} == {7}
    assert means["sup. SimCSE-BERT"] == pytest.approx(81.57, abs=0.006)
    assert means["Avg. GloVe"] == pytest.approx(61.32, abs=0.006)
    means = {row.model: sum(row.values) / 7 for row in TRANSFER_ROWS}
    assert means["InferSent-GloVe"] == pytest.approx(85.59, abs=0.006)
    assert means["sup. SimCSE-RoBERTa-large"] == pytest.approx(89.61, abs=0.006)


@pytest.mark.parametrize("suffix", ["png", "svg"])
def test_plot_is_an_image_of_every_encoder(tmp_path, suffix):
    path = tmp_path / "new" / f"plot.{suffix}"
    plot([results(), results("other", ["STS12", "SST5"], 50.0)], path)
    content = path.read_bytes()
    assert content[:8] == b"\x89PNG\r\n\x1a\n" if suffix == "png" else b"<svg" in content
    # It leaves pyplot, and with it the user's own figures, alone.
    assert "matplotlib.pyplot" not in sys.modules or not sys.modules["matplotlib.pyplot"].get_fignums()


def test_a_plot_without_scores_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no scores"):
        plot([Results("mine", {})], tmp_path / "plot.png")


def test_without_matplotlib_the_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingExtraError, match=r"sentenc\[eval\]"):
        plot(results(), tmp_path / "plot.png")


def test_identity_covers_everything_but_outcome_and_cost():
    outcome = {"value", "metric", "mismatches", "sizes", "metrics", "details", "seconds"}
    names = {field.name for field in dataclasses.fields(Score)}
    assert set(score("STS12", 1.0, encoder={"fingerprint": 1, "settings": {}}).identity()) == names - outcome


def own(task, value, protocol, metric, **changes):
    changes = {"metric": metric, "aggregation": None, "text": "own", **changes}
    return score(task, value, protocol, **changes)


def own_results(name="mine"):
    modes = {
        "vector": {"nDCG@10": 50.916, "recall@100": 80.0, "MRR@10": 48.1, "MAP": 47.25},
        "lexical": {"nDCG@10": 69.5, "recall@100": 90.0, "MRR@10": 66.0, "MAP": 65.0},
        "hybrid": {"nDCG@10": 70.8, "recall@100": 92.0, "MRR@10": 67.0, "MAP": 66.0},
    }
    words = {"name": "BM25 and z-scores", "k1": 1.2, "b": 0.75, "language": "en", "alpha": 0.4}
    k_means = {"name": "mini-batch k-means", "batch_size": 500, "runs": 10}
    scores = [
        own("scifact", 50.92, "search", "nDCG@10", details={"missing_documents": 0, **modes}, probe=words),
        own("topics", 40.5, "clustering", "v_measure", seed=1111, probe=k_means),
        own("doubles", 70.25, "pair-classification", "cosine_ap"),
        own("pairs", 60.0, "cosine", "spearman"),
    ]
    return Results(name, {item.task: item for item in scores})


def test_search_clustering_and_pair_classification_have_tables_of_their_own():
    text = to_markdown([own_results(), own_results("other")])
    assert "## Search\n\n| task | encoder | mode | nDCG@10 | recall@100 | MRR@10 | MAP |\n" in text
    assert "| --- | --- | --- | ---: | ---: | ---: | ---: |" in text
    assert (
        "| scifact | mine | vector | 50.92 | 80.00 | 48.10 | 47.25 |\n"
        "| scifact | mine | lexical | 69.50 | 90.00 | 66.00 | 65.00 |\n"
        "| scifact | mine | hybrid | 70.80 | 92.00 | 67.00 | 66.00 |\n"
        "| scifact | other | vector |"
    ) in text
    assert "## Clustering: V-measure\n\n| encoder | topics |\n| --- | ---: |\n| mine | 40.50 |" in text
    assert "## Pair classification: average precision of the cosine\n\n| encoder | doubles |" in text
    assert "## Other tasks\n\n| encoder | pairs |" in text
    words = "BM25 with k1 1.2, b 0.75 and language en, alpha 0.4"
    assert f"- scifact: nDCG@10 of search, {words}, the user's own text" in text
    assert (
        "- topics: v_measure of clustering, seed 1111, 10 runs of mini-batch k-means with batches of 500"
        in text
    )


def test_every_family_has_a_panel(tmp_path, monkeypatch):
    titles = []
    monkeypatch.setattr(
        "sentenc.evaluation.results_plot._draw_panel",
        lambda panel, title, tasks, _: titles.append((title, tasks)),
    )
    plot(own_results(), tmp_path / "plot.svg")
    assert titles == [
        ("Search: nDCG@10 of the vectors", ["scifact"]),
        ("Clustering: V-measure", ["topics"]),
        ("Pair classification: average precision of the cosine", ["doubles"]),
        ("Other tasks: their main metric", ["pairs"]),
    ]
