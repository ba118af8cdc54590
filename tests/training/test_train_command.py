"""``sentenc train`` from a run's file to a model folder, on a synthetic corpus with a synthetic teacher."""

import json
import re
import signal
import tomllib

import numpy as np
import pytest
from click.testing import CliRunner

import sentenc
from sentenc.cli import cli
from sentenc.errors import SentencError
from sentenc.metrics import spearman
from sentenc.training.config.pretraining import parse_run
from sentenc.training.data.corpus import Corpus
from sentenc.training.recipes import pretraining as run_module
from sentenc.training.recipes import pretraining_data
from sentenc.training.students.cse import CSEStudent
from sentenc.training.teachers.teacher_cache import fill_teacher_cache, open_teacher_cache
from tests.evaluation.test_beir import beir_folder
from tests.support.models import WORDS, make_cse, wordpiece_spec

RUN = """
output = "model"
work = "work"
seed = 3

[student]
init = "teacher"
ngram_warmup = 0.5
word_dropout = 0.1
config = { embedding_dim = 12, num_filters = 4 }

[teacher]
models = ["teacher"]
cache = "vectors"

[corpora.text]
sources = [{ files = ["sentences.txt"], form = "sentences" }]

[corpora.pairs]
sources = [{ files = ["pairs.tsv"], form = "pairs" }]

[[losses]]
kind = "embedding_distillation"
corpus = "text"
batch_size = 32

[[losses]]
kind = "paraphrase_margin"
corpus = "pairs"
batch_size = 16
weight = 0.1
mega_batch = 2

[training]
epochs = 3
warmup = 4
log_every = 5
learning_rate = 1e-2
device = "cpu"

[evaluation]
sts = "dev.tsv"
every = 10
"""


def sentences(seed, n):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS[:60], rng.integers(3, 8))) for _ in range(n)]


@pytest.fixture(scope="module")
def teacher():
    return make_cse(embedding_dim=16)


@pytest.fixture
def folder(tmp_path, teacher):
    teacher.save(tmp_path / "teacher")
    (tmp_path / "run.toml").write_text(RUN, encoding="utf-8")
    (tmp_path / "sentences.txt").write_text("\n".join([*sentences(1, 300), "the dog runs\ta\tb"]) + "\n")
    left = sentences(2, 80)
    (tmp_path / "pairs.tsv").write_text("".join(f"{text}\t{text} not\n" for text in left))
    pairs = list(zip(sentences(3, 60), sentences(4, 60), strict=True))
    a, b = (teacher.encode(list(side), normalize_embeddings=True) for side in zip(*pairs, strict=True))
    scores = (a * b).sum(1)
    rows = [f"{score}\t{one}\t{two}\n" for score, (one, two) in zip(scores, pairs, strict=True)]
    (tmp_path / "dev.tsv").write_text("".join(rows))
    return tmp_path


@pytest.fixture(autouse=True)
def _no_curves(request, monkeypatch):
    """Replaces the plots in all tests but one, because drawing takes longer than training here."""
    if "curves" not in request.node.name:
        monkeypatch.setattr(run_module, "draw_curves", lambda _log, _folder: None)


def train(folder, *arguments):
    return CliRunner().invoke(cli, ["train", str(folder / "run.toml"), *arguments])


def interrupt_at(monkeypatch, evaluation):
    """Presses Ctrl-C during an evaluation, counted from 1."""
    original, calls = pretraining_data.dev_score, []

    def dev_score(config):
        score = original(config)

        def counted(encoder):
            calls.append(0)
            if len(calls) == evaluation:
                signal.raise_signal(signal.SIGINT)
            return score(encoder)

        return counted

    monkeypatch.setattr(pretraining_data, "dev_score", dev_score)


def test_a_run_writes_the_model_with_its_card_log_and_curves(folder, monkeypatch):
    monkeypatch.setattr("sys.argv", ["sentenc", "train", "run.toml"])
    result = train(folder)
    assert result.exit_code == 0, result.output
    assert f"the model is in {folder / 'model'}" in result.output
    names = {path.name for path in (folder / "model").iterdir()}
    assert names >= {"README.md", "run.toml", "log.jsonl", "curve.png", "curve.svg", "model.safetensors"}
    model = sentenc.load(folder / "model")
    assert model.dim == 12
    rows = [json.loads(line) for line in (folder / "model/log.jsonl").read_text().splitlines()]
    # 301 sentences: 9 batches of 32 in each of 3 epochs.
    assert [row["step"] for row in rows] == [0, 5, 10, 15, 20, 25, 27]
    assert rows[-1]["losses"].keys() == {"embedding_distillation", "paraphrase_margin"}
    assert rows[-1]["losses"]["embedding_distillation"] < 0.7 * rows[1]["losses"]["embedding_distillation"]
    scores = [row["dev"] for row in rows if "dev" in row]
    assert max(scores) > scores[0] + 5
    card = (folder / "model/README.md").read_text()
    best = max(rows, key=lambda row: row.get("dev", -100))
    for part in (
        "# model",
        "27 steps",
        f"those of step {best['step']}",
        "sentenc train run.toml",
        'kind = "embedding_distillation"',
        "| sentences.txt | sentences | 301 | 301 |",
        "| pairs.tsv | pairs |",
        "embeddings of 301 texts",
        "torch ",
    ):
        assert part in card, part
    assert str(folder) not in card
    # The run file is stored as it was written: paths stay relative.
    assert tomllib.loads((folder / "model/run.toml").read_text(encoding="utf-8")) == tomllib.loads(RUN)
    again = train(folder, "-q")
    assert (again.exit_code, again.output) == (0, "")


def test_the_card_has_the_score_of_the_saved_model(folder):
    assert train(folder, "--set", "training.epochs=1").exit_code == 0
    model = sentenc.load(folder / "model")
    rows = [line.split("\t") for line in (folder / "dev.tsv").read_text().splitlines()]
    a, b = (model.encode([row[i] for row in rows], normalize_embeddings=True) for i in (1, 2))
    score = 100 * spearman((a * b).sum(1), [float(row[0]) for row in rows])
    assert f": {score:.2f}." in (folder / "model/README.md").read_text()
    assert sentenc.load(folder / "model").metadata["outcome"]["score"] == pytest.approx(score)


def test_the_finished_model_is_computed_once(folder, monkeypatch):
    finished = []
    original = CSEStudent.finished

    def counted(student, *arguments):
        finished.append(student)
        return original(student, *arguments)

    monkeypatch.setattr(CSEStudent, "finished", counted)
    assert train(folder, "--set", "training.epochs=1").exit_code == 0
    assert len(finished) == 1


def test_a_resumed_run_without_its_embeddings_says_how_to_start_again(folder):
    assert train(folder, "--set", "training.epochs=1").exit_code == 0
    for path in (folder / "vectors").glob("*.npy"):
        path.unlink()
    result = train(folder, "--set", "training.epochs=1")
    assert isinstance(result.exception, ValueError)
    assert re.search(r"teacher\.cache is .*lacks .*--fresh", str(result.exception))


def test_an_interrupted_run_ends_as_an_uninterrupted_one(folder, monkeypatch):
    assert train(folder).exit_code == 0
    whole = (folder / "model/model.safetensors").read_bytes()
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        result = train(folder, "--fresh", "--set", "output='second'")
    assert result.exit_code != 0
    assert "stopped at step 11 of 27; the state is in" in result.output
    assert not (folder / "second").exists()
    # The teacher is not used again.
    result = train(folder, "--set", "output='second'")
    assert result.exit_code == 0, result.output
    assert (folder / "second/model.safetensors").read_bytes() == whole


def test_a_changed_corpus_or_rate_is_refused_but_not_more_epochs(folder, monkeypatch):
    with monkeypatch.context() as patch:
        interrupt_at(patch, 2)
        assert train(folder).exit_code != 0
    result = train(folder, "--set", "training.learning_rate=0.5")
    assert isinstance(result.exception, ValueError)
    assert "training.learning_rate was 0.01 and is 0.5" in str(result.exception)
    result = train(folder, "--set", "training.epochs=4")
    assert result.exit_code == 0, result.output
    assert "36 steps" in (folder / "model/README.md").read_text()
    (folder / "sentences.txt").write_text("\n".join(sentences(9, 300)))
    result = train(folder, "--set", "training.epochs=4")
    assert isinstance(result.exception, ValueError)
    assert "corpora.text was" in str(result.exception)


def test_texts_without_a_cached_embedding_are_left_out(folder):
    assert train(folder).exit_code == 0
    more = sentences(7, 200)
    with open(folder / "sentences.txt", "a") as file:
        file.write("\n".join(more) + "\n")
    result = train(folder, "--set", "teacher.max_minutes=0", "--set", "output='partial'", "--fresh")
    assert result.exit_code == 0, result.output
    rows = (folder / "partial/log.jsonl").read_text().splitlines()
    # An epoch still has 9 batches, made of the sentences that have vectors.
    assert json.loads(rows[-1])["step"] == 27


@pytest.mark.parametrize(
    "changes",
    [
        ["student.init='random'", "student.vocabulary=200"],
        ["student.init='vectors.txt'", "student.config={num_filters=3, unknown='row'}"],
        ["student.init='vectors.txt'", "student.config={embedding_dim=4, num_filters=3}"],
        ["student.init='teacher'", "training.sparse_embeddings=true", "training.accumulate=2"],
        ["student={init='./teacher'}"],
        ["losses.0.space='principal'", "losses.0.matryoshka=[4, 12]"],
        ["losses.0.corpus='pairs'"],
    ],
    ids=["random", "words", "fewer dimensions", "sparse", "model", "matryoshka", "pairs"],
)
def test_starts_and_options(folder, changes):
    rng = np.random.default_rng(0)
    lines = [f"{word} {' '.join(f'{x:.4f}' for x in rng.normal(size=8))}" for word in WORDS]
    (folder / "vectors.txt").write_text("\n".join(lines))
    arguments = [argument for change in changes for argument in ("--set", change)]
    result = train(folder, *arguments, "--set", "training.epochs=1")
    assert result.exit_code == 0, (result.output, result.exception)
    assert np.isfinite(sentenc.load(folder / "model").encode("the dog runs")).all()


def test_a_bert_is_trained(folder):
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    spec = json.loads(wordpiece_spec()) | {"added_tokens": []}
    spec["post_processor"] = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizers.Tokenizer.from_str(json.dumps(spec)),
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=48,
    ).save_pretrained(folder / "tokenizer")
    student = (
        "student={kind='bert', init='random', tokenizer='tokenizer', max_tokens=24, config={hidden_size=16, "
        "num_hidden_layers=1, num_attention_heads=2, intermediate_size=32, max_position_embeddings=32}}"
    )
    result = train(folder, "--set", student, "--set", "training.epochs=1")
    assert result.exit_code == 0, (result.output, result.exception)
    assert (folder / "model/modules.json").exists()
    assert "A BERT sentence encoder of 16 dimensions" in (folder / "model/README.md").read_text()


@pytest.mark.parametrize(
    ("changes", "error", "message"),
    [
        (["student.config.filters=3"], ValueError, r"unknown key student\.config\.filters; .*embedding_dim"),
        (["student.init='nowhere'"], SentencError, r"'nowhere'"),
        (
            ["student.init='random'", "teacher={cache='full'}"],
            ValueError,
            r"student\.init is .random.*student\.tokenizer",
        ),
        (
            ["teacher={cache='nothing'}", "student.init='random'", "student.tokenizer='teacher'"],
            ValueError,
            r"nothing.*no embeddings",
        ),
        (
            ["losses=[{kind='simcse', corpus='pairs', batch_size=8}]"],
            ValueError,
            r"simcse .*1 .*pairs .*2",
        ),
        (
            ["losses.0.batch_size=400", "training.epochs=1"],
            ValueError,
            r"corpus text has 301 examples.*batch_size, 400",
        ),
        (["losses.0.margin=1"], ValueError, r"'margin' of .*embedding_distillation"),
        (["evaluation.sts='none.tsv'"], OSError, r"none\.tsv"),
        (
            ["student={kind='bert', init='teacher-folder', dropout=0.1}"],
            ValueError,
            r"student\.dropout is 0\.1",
        ),
    ],
)
def test_an_error_names_what_does_not_fit(folder, teacher, changes, error, message):
    fill_teacher_cache(open_teacher_cache(folder / "full", teacher), teacher, ["the dog runs"])
    result = train(folder, *[argument for change in changes for argument in ("--set", change)])
    assert isinstance(result.exception, error), repr(result.exception)
    with pytest.raises(error, match=message):
        raise result.exception


def test_a_failing_loss_is_a_failure_of_the_command(folder, monkeypatch):
    monkeypatch.setattr(
        "sentenc.training.engine.trainer.Trainer._loss",
        lambda _self, _task, batch: batch.ids.sum() * float("nan"),
    )
    result = train(folder)
    assert result.exit_code == 1
    assert "Error: the loss of embedding_distillation is nan at step 0" in result.output
    assert (folder / "work/failed-step-0.json").exists()


def test_a_table_runs_without_a_file(folder):
    config = parse_run(tomllib.loads(RUN) | {"output": "other"}, folder)
    assert run_module.pretrain(config, show_progress_bar=False, command="made in a test") == folder / "other"
    assert "made in a test" in (folder / "other/README.md").read_text()


def test_a_run_reads_the_corpus_once_for_its_statistics(folder, monkeypatch):
    seen = []
    original = Corpus.epoch

    def counted(corpus, seed, epoch):
        seen.append((corpus.columns, seed, epoch))
        return original(corpus, seed, epoch)

    monkeypatch.setattr(Corpus, "epoch", counted)
    changes = ["student.vocabulary=200", "losses.0.space='principal'", "training.epochs=1", "work='counted'"]
    arguments = [argument for change in changes for argument in ("--set", change)]
    assert train(folder, *arguments).exit_code == 0
    # For the teacher's embeddings, the statistics and the training. Token counts, axes, the number of
    # examples and the texts of the rotation come from one pass.
    assert seen.count((1, 3, 0)) == 3
    seen.clear()
    assert train(folder, *arguments).exit_code == 0
    assert seen == []


def test_a_run_is_evaluated_by_several_scores(folder):
    documents = [{"_id": str(i), "text": text} for i, text in enumerate(sentences(7, 20))]
    queries = [{"_id": f"q{i}", "text": documents[i]["text"]} for i in range(5)]
    beir_folder(folder / "search", documents, queries, test=[(f"q{i}", str(i), 1) for i in range(5)])
    rows = "".join(f"{text},{i % 2}\n" for i, text in enumerate(sentences(8, 20)))
    (folder / "labels.csv").write_text(f"text,label\n{rows}")
    scores = """[[evaluation.scores]]
kind = "sts"
path = "dev.tsv"
weight = 2

[[evaluation.scores]]
kind = "search"
path = "search"
max_documents = 10

[[evaluation.scores]]
kind = "classification"
path = "labels.csv"
weight = 0
"""
    run = (folder / "run.toml").read_text().replace('sts = "dev.tsv"\n', "") + scores
    (folder / "run.toml").write_text(run)
    result = train(folder, "--set", "training.epochs=1")
    assert result.exit_code == 0, result.output
    logged = [json.loads(line) for line in (folder / "model/log.jsonl").read_text().splitlines()]
    for row in logged:
        if "dev" in row:
            parts = row["dev_scores"]
            assert row["dev"] == pytest.approx((2 * parts["dev"] + parts["search"]) / 3)
            assert parts.keys() == {"dev", "search", "labels"}
    outcome = sentenc.load(folder / "model").metadata["outcome"]
    assert outcome["scores"]["search"] == pytest.approx(100)
    card = (folder / "model/README.md").read_text()
    assert (
        "| search | nDCG@10 (x 100) of the search in `search` (at most 10 documents) | 100.00 | 1 |" in card
    )
    assert f"Weighted mean: {outcome['score']:.2f}. The weights were selected by this score." in card
