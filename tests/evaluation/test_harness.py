import json
import warnings
from pathlib import Path

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from sentenc.errors import DataError
from sentenc.evaluation import DataMismatchWarning, Results, SentEvalProbe, Task, evaluate
from sentenc.metrics import paired_cosine, pearson, spearman
from tests.evaluation.conftest import WordAverage
from tests.support.models import make_cse

SMALL = ["MR", "SST2", "TREC", "MRPC", "SICK-E", "SICK-R-supervised", "STS16", "STS-B-dev"]
# Made-up files differ from the published ones. The first test checks the warning.
pytestmark = pytest.mark.filterwarnings("ignore::sentenc.evaluation.DataMismatchWarning")


def run(data, tasks="MR", encoder=None, **options):
    options = {"data": data, "folds": 3, "raw": None, **options}
    return evaluate(encoder or WordAverage(), tasks, **options)


def test_differing_files_are_warned_of_and_recorded(made_up):
    with pytest.warns(DataMismatchWarning, match="MR: .*120 examples, expected 10662"):
        results = run(made_up)
    assert len(results.records["MR"].mismatches) == 3


def test_a_file_that_several_tasks_share_is_hashed_once(made_up, monkeypatch):
    hashed = []
    monkeypatch.setattr(
        "sentenc.evaluation.harness.file_checksum", lambda path: hashed.append(path.name) or "checksum"
    )
    results = run(made_up, ["SICK-E", "SICK-R-supervised"])
    files = ["SICK_train.txt", "SICK_trial.txt", "SICK_test_annotated.txt"]
    assert hashed == files
    assert [Path(file).name for file in results.records["SICK-R-supervised"].data] == files


def test_every_protocol_runs_and_its_score_contains_the_settings(made_up):
    tasks = [task for task in SMALL if task != "STS-B-dev"]
    results = run(made_up, tasks)
    assert list(results.scores) == tasks
    assert all(0 <= value <= 100 for value in results.scores.values())
    # Ten words decide the made-up sentiment, so that few dimensions suffice.
    assert results.scores["MR"] > 80
    protocols = {name: score.protocol for name, score in results.records.items()}
    assert protocols == {
        "MR": "nested-k-fold",
        "SST2": "split",
        "TREC": "k-fold",
        "MRPC": "k-fold",
        "SICK-E": "split",
        "SICK-R-supervised": "relatedness",
        "STS16": "cosine",
    }
    score = results.records["TREC"]
    assert (score.folds, score.seed, score.aggregation, score.text) == (3, 1111, None, "senteval")
    assert score.probe["name"] == "logistic"
    assert score.encoder == {
        "name": "word-average",
        "fingerprint": "word-average-16-0",
        "dim": 16,
        "settings": {"normalize_embeddings": False, "truncate_dim": None},
    }
    assert score.sizes == {"train": 72, "test": 24}
    assert set(score.versions) == {"python", "sentenc", "numpy", "scipy", "scikit-learn"}
    assert set(score.seconds) == {"encode", "score"}
    cosine = results.records["STS16"]
    assert (cosine.folds, cosine.seed, cosine.probe, cosine.text) == (None, None, None, "raw")


def test_a_split_score_is_that_of_scikit_learn_on_the_encoders_vectors(made_up, encoder):
    def part(name):
        lines = (made_up / f"downstream/SST/binary/sentiment-{name}").read_text().splitlines()
        texts, labels = zip(*(line.split("\t") for line in lines), strict=True)
        return encoder.encode([text.strip() for text in texts]).astype(np.float64), np.array(labels)

    train, dev, test = part("train"), part("dev"), part("test")
    models = [LogisticRegression(C=2.0**c, tol=1e-8, max_iter=9999).fit(*train) for c in range(-2, 4)]
    best = max(models, key=lambda model: model.score(*dev))
    assert run(made_up, "SST2").scores["SST2"] == round(100 * best.score(*test), 2)


def test_cosine_tasks_score_the_columns_that_similarity_compares(made_up):
    encoder = make_cse(combine="both", average_dim=6)
    scores = run(made_up, ["STS16", "MR"], encoder).records
    truncated = run(made_up, "STS16", encoder, truncate_dim=encoder.similarity_dim).records["STS16"]
    assert scores["STS16"].metrics == truncated.metrics
    assert scores["STS16"].encoder == truncated.encoder
    assert (
        scores["STS16"].encoder["dim"] == encoder.similarity_dim < encoder.dim == scores["MR"].encoder["dim"]
    )


@pytest.mark.parametrize("aggregation", ["all", "mean", "wmean"])
def test_the_aggregation_option_decides_a_years_score(made_up, encoder, aggregation):
    predictions, golds = [], []
    for gold_path in sorted((made_up / "sts_raw/STS16").glob("STS.gs.*")):
        pairs = (gold_path.parent / gold_path.name.replace("gs", "input")).read_text().splitlines()
        scored = [
            (pair.split("\t"), g)
            for pair, g in zip(pairs, gold_path.read_text().splitlines(), strict=True)
            if g
        ]
        left = encoder.encode([pair[0] for pair, _ in scored])
        predictions.append(paired_cosine(left, encoder.encode([pair[1] for pair, _ in scored])))
        golds.append([float(g) for _, g in scored])
    each = [100 * spearman(p, g) for p, g in zip(predictions, golds, strict=True)]
    # All sets have nine scored pairs, so that the two means are equal.
    expected = (
        np.mean(each)
        if aggregation != "all"
        else 100 * spearman(np.concatenate(predictions), np.concatenate(golds))
    )
    score = run(made_up, "STS16", aggregation=aggregation).records["STS16"]
    assert score.value == round(expected, 2)
    assert score.metrics["spearman"] == pytest.approx(expected)
    assert score.details["pearson"]["headlines"] == pytest.approx(100 * pearson(predictions[1], golds[1]))
    assert score.aggregation == aggregation


@pytest.mark.parametrize("probe", ["logistic", SentEvalProbe(max_epoch=4)], ids=["logistic", "senteval"])
def test_results_repeat_themselves_in_any_order_of_tasks(made_up, probe):
    tasks = ["MR", "TREC", "SICK-R-supervised"]
    first, second = run(made_up, tasks, probe=probe), run(made_up, tasks[::-1], probe=probe)
    for task in tasks:
        assert first.records[task].metrics == second.records[task].metrics
        assert first.records[task].details == second.records[task].details


def test_the_seed_decides_the_folds(made_up):
    first, second = run(made_up, "MR"), run(made_up, "MR", seed=2)
    assert first.records["MR"].details != second.records["MR"].details


def test_a_function_and_an_encoder_score_the_same(made_up, encoder):
    def function(texts):
        assert type(texts) is list
        return encoder.encode(texts).tolist()

    assert run(made_up, SMALL[:3], function).scores == run(made_up, SMALL[:3]).scores
    assert run(made_up, "MR", function).records["MR"].encoder["fingerprint"] is None


class TestResuming:
    def computed(self, data, output, encoder=None, tasks=("MR", "STS16"), **options):
        """Returns the tasks whose scores were computed, not read from the output folder."""
        for path in output.glob("*.json"):
            content = json.loads(path.read_text("utf-8"))
            for score in content["scores"]:
                # No task has this score, so it comes from the file.
                score["value"] = -1.0
            path.write_text(json.dumps(content), "utf-8")
        results = run(data, list(tasks), encoder or WordAverage(), output=output, **options)
        assert list(results.records) == list(tasks)
        return [task for task, value in results.scores.items() if value != -1.0]

    def test_finished_tasks_are_not_done_again(self, made_up, tmp_path):
        assert self.computed(made_up, tmp_path, tasks=["MR"]) == ["MR"]
        assert self.computed(made_up, tmp_path) == ["STS16"]
        assert self.computed(made_up, tmp_path) == []

    @pytest.mark.parametrize(
        ("change", "expected"),
        [
            ({"seed": 5}, ["MR"]),
            ({"folds": 4}, ["MR"]),
            ({"probe": SentEvalProbe(max_epoch=2)}, ["MR"]),
            ({"aggregation": "mean"}, ["STS16"]),
            ({"encoder": WordAverage(seed=3)}, ["MR", "STS16"]),
            ({"normalize_embeddings": True}, ["MR", "STS16"]),
            ({"truncate_dim": 5}, ["MR", "STS16"]),
            ({"batch_size": 3}, []),
        ],
        ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
    )
    def test_another_setting_is_another_score(self, made_up, tmp_path, change, expected):
        self.computed(made_up, tmp_path)
        assert self.computed(made_up, tmp_path, **change) == expected

    def test_other_data_are_another_score(self, made_up, tmp_path):
        self.computed(made_up, tmp_path)
        with (made_up / "downstream/MR/rt-polarity.pos").open("a") as file:
            file.write("good\n")
        assert self.computed(made_up, tmp_path) == ["MR"]

    def test_another_version_is_another_score(self, made_up, tmp_path, monkeypatch):
        self.computed(made_up, tmp_path)
        monkeypatch.setattr("sentenc.evaluation.results.__version__", "0.0.0")
        assert self.computed(made_up, tmp_path) == ["MR", "STS16"]

    def test_a_plain_function_may_have_changed(self, made_up, tmp_path, encoder):
        assert self.computed(made_up, tmp_path, encoder.encode) == ["MR", "STS16"]
        assert self.computed(made_up, tmp_path, encoder.encode) == ["MR", "STS16"]

    def test_an_interrupted_run_keeps_its_finished_tasks(self, made_up, tmp_path):
        def interrupt(score):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            run(made_up, ["MR", "STS16"], output=tmp_path, on_score=interrupt)
        assert self.computed(made_up, tmp_path) == ["STS16"]

    def test_other_tasks_stay_in_the_file(self, made_up, tmp_path):
        self.computed(made_up, tmp_path)
        self.computed(made_up, tmp_path, tasks=["SST2"])
        assert set(Results.from_json(tmp_path / "word-average.json").records) == {"MR", "STS16", "SST2"}


def test_results_survive_a_round_trip_through_json(made_up, tmp_path):
    results = run(made_up, ["MR", "STS16", "SICK-R-supervised"])
    text = results.to_json(tmp_path / "x" / "r.json")
    assert (tmp_path / "x" / "r.json").read_text("utf-8") == text
    assert Results.from_json(tmp_path / "x" / "r.json") == results
    assert json.loads(text)["format_version"] == 1


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", '{"format_version": 9}', '{"format_version": 1, "encoder": "a"}']
)
def test_other_json_files_are_refused_as_results(tmp_path, content):
    (tmp_path / "r.json").write_text(content)
    with pytest.raises(DataError, match=r"r\.json"):
        Results.from_json(tmp_path / "r.json")


def test_a_users_own_files_are_tasks(made_up, tmp_path, encoder):
    rows = (made_up / "downstream/SST/binary/sentiment-train").read_text().splitlines()
    (tmp_path / "mine.tsv").write_text("text\tlabel\n" + "\n".join(rows) + "\n")
    (tmp_path / "pairs.csv").write_text(
        'text1,text2,score\n"good, film",good film,5\nbad,a film,1\nfine,fine film,3\n'
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = evaluate(
            encoder, [str(tmp_path / "pairs.csv"), Task.from_file(tmp_path / "mine.tsv")], folds=3
        )
    assert list(results.scores) == ["pairs", "mine"]
    assert (results.records["mine"].text, results.records["mine"].protocol) == ("own", "nested-k-fold")
    vectors = (
        encoder.encode(["good, film", "bad", "fine"]),
        encoder.encode(["good film", "a film", "fine film"]),
    )
    assert results.scores["pairs"] == round(100 * spearman(paired_cosine(*vectors), [5, 1, 3]), 2)


def test_a_probing_task_is_read_from_its_file(made_up, encoder):
    lines = [
        f"{part}\t{label}\t{word} film number {number}"
        for part, size in (("tr", 20), ("va", 8), ("te", 8))
        for label, word in (("PAST", "was"), ("PRES", "is"))
        for number in range(size)
    ]
    (made_up / "probing").mkdir()
    (made_up / "probing/past_present.txt").write_text("\n".join(lines) + "\n")
    score = run(made_up, "Tense", encoder).records["Tense"]
    assert (score.value, score.protocol, score.sizes) == (
        100.0,
        "split",
        {"train": 40, "dev": 16, "test": 16},
    )


def test_word_content_has_no_hidden_layer_as_in_senteval(made_up, encoder):
    lines = [
        f"{part}\t{word}\tthe {word} film {number}"
        for part in ("tr", "va", "te")
        for word in ("good", "bad")
        for number in range(8)
    ]
    (made_up / "probing").mkdir()
    for file in ("word_content", "past_present"):
        (made_up / f"probing/{file}.txt").write_text("\n".join(lines) + "\n")
    scores = {
        hidden: run(
            made_up, ["WordContent", "Tense"], encoder, probe=SentEvalProbe(hidden=hidden, max_epoch=4)
        ).records
        for hidden in (0, 3)
    }
    assert scores[3]["WordContent"].probe["nhid"] == 0
    assert scores[3]["WordContent"].metrics == scores[0]["WordContent"].metrics
    assert scores[3]["WordContent"].identity() == scores[0]["WordContent"].identity()
    assert scores[3]["Tense"].probe["nhid"] == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregation": "median"}, "aggregation is 'median', expected .*wmean"),
        ({"folds": 1}, "folds is 1, expected .* 2"),
        ({"seed": -1}, "seed is -1"),
        ({"probe": "svm"}, "probe is 'svm', expected .*senteval"),
        ({"tasks": "SNLI"}, "'SNLI'"),
    ],
)
def test_bad_options_are_refused_before_anything_is_read(encoder, options, message):
    with pytest.raises(ValueError, match=message):
        evaluate(encoder, **{"data": "nowhere", **options})
