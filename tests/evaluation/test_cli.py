import json

import pytest
from click.testing import CliRunner

import sentenc
from sentenc.cli.evaluate import evaluate_command
from sentenc.errors import ModelNotFoundError
from tests.evaluation.conftest import WordAverage
from tests.evaluation.test_beir import beir_folder

pytestmark = pytest.mark.filterwarnings("ignore::sentenc.evaluation.DataMismatchWarning")


@pytest.fixture(autouse=True)
def registry(monkeypatch):
    """Two models that exist, and none besides."""
    loaded = []

    def load(name, **options):
        if not name.startswith("model"):
            raise ModelNotFoundError(f"no model {name}")
        loaded.append(name)
        return WordAverage(seed=int(name.removeprefix("model")))

    monkeypatch.setattr(sentenc, "load", load)
    return loaded


def invoke(*arguments):
    return CliRunner().invoke(evaluate_command, [str(argument) for argument in arguments])


def test_models_are_evaluated_side_by_side(made_up, tmp_path):
    out = tmp_path / "results"
    result = invoke("model1", "model2", "--data", made_up, "--tasks", "mr, sts16", "--folds", 3, "-o", out)
    assert result.exit_code == 0, result.output
    assert {path.name for path in out.iterdir()} == {
        "model1.json",
        "model2.json",
        "results.md",
        "results.png",
        "vectors",
    }
    table = (out / "results.md").read_text()
    assert "| model1 | " in table
    assert "| model2 | " in table
    assert table in result.output
    assert [score["task"] for score in json.loads((out / "model2.json").read_text())["scores"]] == [
        "MR",
        "STS16",
    ]
    assert json.loads((out / "model1.json").read_text())["scores"][0]["folds"] == 3


def test_a_second_run_reads_the_scores_of_the_first(made_up, tmp_path):
    arguments = ("model1", "--data", made_up, "--tasks", "MR", "--folds", 3, "-o", tmp_path)
    invoke(*arguments)
    path = tmp_path / "model1.json"
    content = json.loads(path.read_text())
    content["scores"][0]["value"] = 12.34
    path.write_text(json.dumps(content))
    second = invoke(*arguments)
    assert second.exit_code == 0, second.output
    assert "| model1 | 12.34* |" in second.output


def test_options_reach_the_scores(made_up, tmp_path):
    options = "--probe senteval --hidden 3 --aggregation wmean --raw --seed 4 --normalize --truncate-dim 7"
    result = invoke("model1", "--data", made_up, "--tasks", "SST2,STS16", "-o", tmp_path, *options.split())
    assert result.exit_code == 0, result.output
    sst, sts = json.loads((tmp_path / "model1.json").read_text())["scores"]
    assert (sst["probe"]["name"], sst["probe"]["nhid"], sst["seed"]) == ("senteval", 3, 4)
    assert (sts["aggregation"], sts["text"]) == ("wmean", "raw")
    assert sst["encoder"]["settings"] == {"normalize_embeddings": True, "truncate_dim": 7}
    assert sst["encoder"]["dim"] == 7


def test_own_files_are_tasks(tmp_path):
    path = tmp_path / "pairs.csv"
    path.write_text("text1,text2,score\na b,a b,5\na b,c d,1\na b,a c,3\n")
    result = invoke("model1", "--tasks", path, "-o", tmp_path / "r")
    assert result.exit_code == 0, result.output
    assert "| encoder | pairs |" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent", "--tasks", "MR"], "no model absent"),
        (["model1", "--tasks", "SNLI"], "'SNLI'"),
        (["model1", "--tasks", "CR,STS12"], "no such file"),
        (["model1", "--tasks", "STS12"], "--data"),
        (["model1", "--tasks", "MR", "--hidden", "3"], "--probe senteval"),
        (["model1", "model1", "--tasks", "MR"], "'model1'"),
        ([], "Missing argument 'MODEL...'"),
    ],
)
def test_errors_are_one_line_without_a_traceback(made_up, tmp_path, arguments, message):
    data = ["--data", made_up, "--folds", 3, "-o", tmp_path / "r"]
    result = invoke(*arguments, *data)
    assert result.exit_code != 0
    assert message in result.output
    assert result.exception is None or isinstance(result.exception, SystemExit)


def test_models_with_the_same_last_name_get_their_full_names(made_up, tmp_path, monkeypatch):
    monkeypatch.setattr(sentenc, "load", lambda name, **options: WordAverage(seed=len(name)))
    result = invoke("a/model", "bb/model", "--data", made_up, "--tasks", "STS16", "-o", tmp_path)
    assert result.exit_code == 0, result.output
    assert (tmp_path / "a-model.json").exists()
    assert (tmp_path / "bb-model.json").exists()


def test_own_files_and_beir_folders_need_no_data_folder(tmp_path):
    documents = [{"_id": "d1", "text": "good film"}, {"_id": "d2", "text": "bad plot"}]
    folder = beir_folder(tmp_path / "films", documents, [{"_id": "q", "text": "good"}], dev=[("q", "d1", 1)])
    (tmp_path / "topics.csv").write_text("text,label\ngood film,a\nbad plot,b\ndull plot,b\n")
    tasks = f"{folder}:dev,clustering:{tmp_path / 'topics.csv'}"
    result = invoke("model1", "--tasks", tasks, "-o", tmp_path / "results")
    assert result.exit_code == 0, result.output
    assert "| films-dev | model1 | vector | 100.00 | 100.00 | 100.00 | 100.00 |" in result.output
    assert "films-dev            100.00, lexical 100.00, hybrid 100.00  (" in result.output
    assert "| encoder | topics-clustering |" in result.output
