import subprocess
import sys
from pathlib import Path

import pytest

from sentenc.errors import ModelNotFoundError
from sentenc.registry import resolve_model
from sentenc.training.config.pretraining import load_run
from sentenc.training.config.trainer import TrainerConfig
from sentenc.training.data.corpus import Source

RUN = """
output = "out/model"
seed = 7

[student]
init = "words.txt"
ngram_warmup = 0.5
config = { embedding_dim = 24, widths = [2] }

[teacher]
models = ["cse-en"]
max_minutes = 2

[corpora.text]
sources = [
    { files = ["a.txt", "more/*.txt"], form = "sentences", limit = 10 },
    { files = ["hf:owner/name"], form = "sentences" },
]
max_words = 60

[[losses]]
kind = "embedding_distillation"
corpus = "text"
batch_size = 32
temperature = 0.1
matryoshka = [8, 16]

[training]
epochs = 2.5
learning_rates = { ngrams = 1e-3 }
betas = [0.9, 0.98]
clip = 0.5

[evaluation]
sts = "dev.tsv"
every = 20
"""


@pytest.fixture
def run_file(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text(RUN, encoding="utf-8")
    return path


def test_paths_are_relative_to_the_run_file(run_file):
    folder = run_file.parent
    (folder / "words.txt").touch()
    run = load_run(run_file)
    assert (run.output, run.work, run.seed) == (str(folder / "out/model"), str(folder / "work"), 7)
    assert run.student.init == str(folder / "words.txt")
    assert run.student.config == {"embedding_dim": 24, "widths": [2]}
    assert run.teacher is not None
    # There is no such file next to the run file, so it is a name.
    assert (run.teacher.models, run.teacher.cache, run.teacher.max_minutes) == (
        ("cse-en",),
        str(folder / "teacher-embeddings"),
        2,
    )
    assert run.corpora["text"].sources == (
        Source(files=(str(folder / "a.txt"), str(folder / "more/*.txt")), form="sentences", limit=10),
        Source(files=("hf:owner/name",), form="sentences"),
    )
    assert (run.corpora["text"].max_words, run.corpora["text"].min_words) == (60, 1)
    (loss,) = run.losses
    assert (loss.kind, loss.corpus, loss.batch_size, loss.weight) == (
        "embedding_distillation",
        "text",
        32,
        1.0,
    )
    assert loss.options == {"temperature": 0.1, "matryoshka": [8, 16]}
    assert run.epochs == 2.5
    expected = TrainerConfig(
        steps=1, seed=7, learning_rates={"ngrams": 1e-3}, betas=(0.9, 0.98), clip=0.5, evaluate_every=20
    )
    assert run.training == expected
    assert run.evaluation is not None
    assert (run.evaluation.sts, run.evaluation.metric) == (str(folder / "dev.tsv"), None)
    assert [entry.chosen_metric for entry in run.evaluation.entries] == ["spearman"]


def test_overrides_change_and_add_values(run_file):
    run = load_run(
        run_file,
        [
            "seed=9",
            "losses.0.batch_size = 64",
            'losses.0.space="principal"',
            "student.config.num_filters=3",
            "training.clip=2.0",
            "corpora.text.sources.0.files=['b.txt']",
        ],
    )
    assert (run.seed, run.training.seed, run.training.clip) == (9, 9, 2.0)
    assert (run.losses[0].batch_size, run.losses[0].options["space"]) == (64, "principal")
    assert run.student.config["num_filters"] == 3
    assert run.corpora["text"].sources[0].files == (str(run_file.parent / "b.txt"),)
    # The table that is written with the model has the overrides.
    assert run.table["losses"][0]["batch_size"] == 64


def test_teachers_are_folders_or_names(run_file):
    folder = run_file.parent
    (folder / "large").mkdir()
    teacher = load_run(
        run_file, ['teacher.models=["cse-en", "large", "owner/name"]', "teacher.weights=[1, 2, 3]"]
    ).teacher
    assert teacher is not None
    assert teacher.models == ("cse-en", str(folder / "large"), "owner/name")


def test_a_missing_folder_is_no_hub_id(run_file, monkeypatch):
    folder = run_file.parent
    for value in ("./models/mine", "../models/mine"):
        run = load_run(run_file, [f'student.init="{value}"', f'teacher.models=["{value}"]'])
        assert run.teacher is not None
        assert run.student.init == run.teacher.models[0] == str(folder / value)
    monkeypatch.setenv("HOME", str(folder / "home"))
    assert load_run(run_file, ['student.init="~/mine"']).student.init == str(folder / "home/mine")
    # Relative to the folder of the command, a run file in it also has paths, and neither ids nor keywords.
    monkeypatch.chdir(folder)
    (folder / "teacher").mkdir()
    here = Path(run_file.name)
    assert load_run(here, ['student.init="./teacher"']).student.init not in ("teacher", "random")
    missing = load_run(here, ['student.init="./models/mine"']).student.init
    with pytest.raises(ModelNotFoundError, match="models/mine"):
        resolve_model(missing)


@pytest.mark.parametrize(
    ("override", "error", "message"),
    [
        ("outptu='x'", ValueError, r"unknown key 'outptu'; known keys are output, work, seed, student,"),
        ("student.kidn='cse'", ValueError, r"unknown key student\.kidn; known keys are kind, init,"),
        ("student.kind='lstm'", TypeError, r"student\.kind is 'lstm', expected one of 'cse', 'bert'"),
        ("student.dropout='much'", TypeError, r"student\.dropout is 'much', expected a number"),
        ("student.config=1", TypeError, r"student\.config is 1, expected a table"),
        ("teacher.max_minutes=true", TypeError, r"teacher\.max_minutes is True, expected a number"),
        ("teacher.weights=[1, 2]", ValueError, r"teacher\.weights is \[1, 2\], expected 1 positive"),
        ("teacher.models=[1]", TypeError, r"teacher\.models is \[1\], expected a list"),
        ("corpora.text.sources=[]", ValueError, r"corpora\.text\.sources is \[\], expected a list of tables"),
        (
            "corpora.text.sources.0.files='a'",
            TypeError,
            r"corpora\.text\.sources\.0\.files is 'a', expected a list",
        ),
        (
            "corpora.text.sources.0.fom='a'",
            ValueError,
            r"unknown key corpora\.text\.sources\.0\.fom; known keys are files",
        ),
        (
            "corpora.text.sources.0.form='lines'",
            TypeError,
            r"sources\.0\.form is 'lines', expected one of 'sentences'",
        ),
        ("losses.0.corpus='txet'", ValueError, r"losses\.0\.corpus is 'txet', expected one of text"),
        ("losses.0.batch_size=0", ValueError, r"losses\.0.*batch_size.*0"),
        ("losses=[]", ValueError, r"losses (is|are) missing"),
        ("losses.1.weight=2", ValueError, r"losses\.1\.weight=2.*entry is 1, expected 0 to 0"),
        ("training.steps=5", ValueError, r"steps.*epochs"),
        ("training.epochs=0", ValueError, r"training\.epochs is 0, expected .*> 0"),
        ("training.seed=5", ValueError, r"training\.seed .*seed"),
        ("training.evaluate_every=5", ValueError, r"training\.evaluate_every .*evaluation\.every"),
        ("training.clip=0", ValueError, r"training: clip is 0, expected .*> 0"),
        ("training.betas=[0.9, 'a']", TypeError, r"training\.betas is .*, expected a list of numbers"),
        ("training.learning_rates={ngrams='a'}", TypeError, r"expected a table of numbers"),
        ("evaluation.every=0", ValueError, r"evaluation\.every is 0, expected .*>= 1"),
        ("seed=-1", ValueError, r"toml: seed is -1, expected .*>= 0"),
        ("teacher.max_minutes=-1", ValueError, r"teacher\.max_minutes is -1, expected .*>= 0"),
        ("training.warmup=0.5", TypeError, r"training\.warmup is 0\.5, expected an integer"),
        ("training.betas=[0.9, 1.5]", ValueError, r"betas is 1\.5, expected .*< 1"),
        ("evaluation.metric='kendall'", TypeError, r"evaluation\.metric is 'kendall', expected one of"),
        ("seed", ValueError, r"'seed' has no value, expected section\.key=value"),
        ("student.init=cse-en", ValueError, r"student\.init=cse-en.*needs quotes"),
        ("seed.x=1", ValueError, r"seed is 7, expected a table"),
        ("losses.0=1", ValueError, r"losses\.0=1.*entry of a list"),
    ],
)
def test_an_error_names_the_key_and_the_value(run_file, override, error, message):
    with pytest.raises(error, match=message):
        load_run(run_file, [override])


@pytest.mark.parametrize("section", ["[corpora", "[training]", "[[losses]]", "output"])
def test_a_missing_section_is_named(run_file, section):
    lines = RUN.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(section))
    end = next(
        (i for i, line in enumerate(lines[start + 1 :], start + 1) if line.startswith("[")), len(lines)
    )
    end = start + 1 if section == "output" else end
    run_file.write_text("\n".join(lines[:start] + lines[end:]), encoding="utf-8")
    name = section.strip("[]")
    with pytest.raises((TypeError, ValueError), match=rf"run\.toml: {name} (is|are) missing"):
        load_run(run_file)


def test_a_file_that_is_no_toml_is_refused(tmp_path):
    path = tmp_path / "run.toml"
    path.write_text("output = \n")
    with pytest.raises(ValueError, match=r"run\.toml is not a TOML file: .*line 1"):
        load_run(path)
    path.write_bytes(b'output = "\xff"')
    with pytest.raises(ValueError, match=r"run\.toml is not a TOML file"):
        load_run(path)


def test_reading_needs_no_torch():
    code = "import sys, sentenc.training.config.pretraining; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_rate_rises_and_falls():
    cosine = TrainerConfig(steps=100, warmup=4)
    assert [cosine.rate(step, 0.0) for step in range(5)] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert cosine.rate(50, 0.5) == pytest.approx(0.5)
    assert cosine.rate(50, 0.25) == pytest.approx(0.853553, abs=1e-6)
    assert cosine.rate(100, 1.0) == 0.0
    linear = TrainerConfig(steps=100, warmup=0, schedule="linear")
    assert [linear.rate(0, share) for share in (0.0, 0.25, 1.0)] == [1.0, 0.75, 0.0]
    constant = TrainerConfig(steps=100, warmup=2, schedule="constant")
    assert [constant.rate(step, step / 100) for step in (0, 1, 99)] == [0.5, 1.0, 1.0]
