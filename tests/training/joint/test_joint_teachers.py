"""Joint teachers: one space of several teachers, with roles, prompts and shared axes."""

import json

import numpy as np
import pytest

pytest.importorskip("sentence_transformers")
torch = pytest.importorskip("torch")

import sentenc  # noqa: E402 (needs the extra)
from sentenc.embedding_cache import EmbeddingCache  # noqa: E402
from sentenc.encoders.comparison import unit_rows  # noqa: E402
from sentenc.errors import CacheError  # noqa: E402
from sentenc.training.config.pretraining import parse_run  # noqa: E402
from sentenc.training.data.corpus import Corpus  # noqa: E402
from sentenc.training.engine.trainer import Trainer  # noqa: E402
from sentenc.training.recipes.pretraining import pretrain  # noqa: E402
from sentenc.training.students.bert import BertStudent  # noqa: E402
from sentenc.training.students.cse import CSEStudent  # noqa: E402
from tests.training.joint.runs import PROMPT, joined, lines, table, train  # noqa: E402


def test_targets_are_the_reduced_vectors_of_each_role(folder, monkeypatch):
    terms = {}
    run_to_the_end = Trainer.run

    def run(trainer):
        terms.update({term.name: term for term in trainer.loss_terms})
        return run_to_the_end(trainer)

    monkeypatch.setattr(Trainer, "run", run)
    model = train(folder, table("roles"))
    axes = np.load(folder / "axes.npy")
    assert axes.shape == (24 + 16, 24)
    np.testing.assert_allclose(axes.T @ axes, np.eye(24), atol=1e-5)
    for number, (name, prompt) in enumerate((("sentences", ""), ("queries", PROMPT), ("passages", "")), 1):
        texts = (folder / f"{name}.txt").read_text().split("\n")[:20]
        targets = terms[f"embedding_distillation-{number}"].targets(texts)
        np.testing.assert_allclose(targets, joined(folder, texts, prompt) @ axes, atol=2e-3)
    # A teacher without a prompt has one folder for all roles. The keys are the texts without prompts.
    assert {path.name for path in (folder / "vectors").iterdir()} == {"bert", "second", "second-query"}
    queries = (folder / "queries.txt").read_text().split("\n")
    assert EmbeddingCache(folder / "vectors/second-query", dtype="float16").has(queries).all()
    # The axes are those with the most energy in a sample of all corpora.
    sample = np.concatenate(
        [
            joined(folder, (folder / f"{name}.txt").read_text().split("\n"), prompt)
            for name, prompt in (("sentences", ""), ("queries", PROMPT), ("passages", ""))
        ]
    )
    kept = ((sample @ axes) ** 2).sum() / (sample**2).sum()
    best = np.sort(np.linalg.eigvalsh(sample.T @ sample))[::-1]
    assert kept == pytest.approx(best[:24].sum() / best.sum(), abs=1e-3)
    encoder = sentenc.load(model)
    assert dict(encoder.prompts) == {"query": "hello "}
    assert encoder.space == json.loads((model / "metadata.json").read_text())["space"]
    assert len(encoder.space) == 16


def test_the_student_reads_its_query_prompt_before_queries_only(folder, monkeypatch):
    seen = []
    tokenize = BertStudent.tokenize
    monkeypatch.setattr(
        BertStudent, "tokenize", lambda student, texts: seen.extend(texts) or tokenize(student, texts)
    )
    train(folder, table("prompt"))
    queries = set((folder / "queries.txt").read_text().split("\n"))
    others = {
        line
        for name in ("sentences", "passages")
        for line in (folder / f"{name}.txt").read_text().split("\n")
    }
    prompted = {text.removeprefix("hello ") for text in seen if text.removeprefix("hello ") in queries}
    assert prompted
    assert all("hello " + text in seen for text in prompted)
    assert not any(text in seen for text in queries - others)
    assert others & set(seen)


def test_students_of_one_file_of_axes_share_a_space(folder):
    models = [train(folder, table(name)) for name in ("first", "again")]
    spaces = {json.loads((model / "metadata.json").read_text())["space"] for model in models}
    assert len(spaces) == 1
    changed = table("changed")
    changed["teacher"]["models"][0]["weight"] = 2.0
    with pytest.raises(CacheError, match=r"axes\.npy, which was computed for the teachers"):
        train(folder, changed)
    description = (folder / "axes.json").read_text()
    (folder / "axes.json").write_text("{")
    with pytest.raises(CacheError, match=r"axes\.json is damaged, expected JSON .* delete it and axes\.npy"):
        train(folder, changed)
    (folder / "axes.json").write_text(description)
    # Other weights need no new vectors: the caches stay as they are.
    changed["teacher"]["axes"] = "other.npy"
    files = sorted(path.name for path in (folder / "vectors").rglob("*"))
    other = json.loads((train(folder, changed) / "metadata.json").read_text())["space"]
    assert other not in spaces
    assert sorted(path.name for path in (folder / "vectors").rglob("*")) == files


def test_a_cse_starts_and_ends_in_the_space_of_a_bert(folder, monkeypatch):
    bert = train(folder, table("space-bert", axes="space.npy"))
    axes = np.load(folder / "space.npy")
    starts = []
    run_to_the_end = Trainer.run
    texts = (folder / "queries.txt").read_text().split("\n")

    def run(trainer):
        vectors = unit_rows(trainer.student.encoder().encode(texts)[:, :24], "vectors")
        targets = unit_rows(joined(folder, texts, PROMPT) @ axes, "targets")
        starts.append((vectors * targets).sum(1).mean())
        return run_to_the_end(trainer)

    monkeypatch.setattr(Trainer, "run", run)
    content = table("space-cse", axes="space.npy")
    content["student"] = {"kind": "cse", "init": "teacher", "config": {"embedding_dim": 24, "num_filters": 4}}
    content["training"] |= {"steps": 2, "learning_rate": 1e-5}
    with monkeypatch.context() as patch:
        patch.setattr(CSEStudent, "rotate", lambda _student, _matrix: False)
        train(folder, content | {"output": "model-unrotated", "work": "work-unrotated"})
    cse = train(folder, content)
    # Untrained, but rotated to the teacher's vectors.
    assert starts[1] > starts[0] + 0.3
    encoders = [sentenc.load(model) for model in (bert, cse)]
    assert encoders[0].space == encoders[1].space == sentenc.load(bert).metadata["space"]
    assert encoders[0].prompts == {"query": "hello "}
    vectors = unit_rows(encoders[1].encode(texts), "vectors")
    assert (vectors * unit_rows(joined(folder, texts, PROMPT) @ axes, "targets")).sum(1).mean() > starts[
        1
    ] - 0.05
    # A model that is in the space already is not rotated again.
    content["student"] = {"kind": "cse", "init": str(cse)}
    content |= {"output": "model-space-more", "work": "work-space-more"}
    train(folder, content)
    kept = (vectors * unit_rows(sentenc.load(folder / "model-space-more").encode(texts), "more")).sum(1)
    assert kept.min() > 0.99


def test_stopped_and_resumed_is_uninterrupted(folder, monkeypatch):
    def content(name):
        changed = table(name, axes=f"axes-{name}.npy")
        changed["student"] = {
            "kind": "cse",
            "init": "teacher",
            "config": {"embedding_dim": 24, "num_filters": 4},
        }
        return changed

    whole = train(folder, content("whole"))
    run_to_the_end = Trainer.run
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "run", lambda trainer: run_to_the_end(trainer, stop_at=2))
        train(folder, content("parts"))
    resumed = train(folder, content("parts"))
    texts = lines(4, 8)
    assert np.array_equal(sentenc.load(whole).encode(texts), sentenc.load(resumed).encode(texts))
    assert sentenc.load(whole).space == sentenc.load(resumed).space


def test_aligned_axes_start_near_the_student(folder):
    losses = {}
    for aligned in (False, True):
        content = table(f"aligned-{aligned}", axes=f"aligned-{aligned}.npy", align_axes=aligned)
        content["training"] |= {"steps": 1, "log_every": 1}
        model = train(folder, content)
        losses[aligned] = json.loads((model / "log.jsonl").read_text().split("\n")[0])["loss"]
    plain, turned = (np.load(folder / f"aligned-{aligned}.npy") for aligned in (False, True))
    # The same subspace, and other axes in it.
    np.testing.assert_allclose(plain @ plain.T, turned @ turned.T, atol=1e-4)
    assert np.abs(plain - turned).max() > 0.01
    assert losses[True] < losses[False] - 0.1


def test_axes_that_are_not_aligned_are_refused_where_they_must_be(folder, capsys):
    def content(name, **teacher):
        changed = table(f"order-{name}", axes="order.npy", **teacher)
        return changed | {"training": changed["training"] | {"steps": 1}}

    train(folder, content("plain"))
    with pytest.raises(CacheError, match=r"align_axes is true.*order\.npy.*delete this one and order\.json"):
        train(folder, content("aligned", align_axes=True))
    for path in folder.glob("order.*"):
        path.unlink()
    pretrain(parse_run(content("aligned", align_axes=True), folder))
    assert "using the axes" not in capsys.readouterr().err
    axes = np.load(folder / "order.npy")
    pretrain(parse_run(content("again", align_axes=True), folder))
    # A run without align_axes reads them too, and every run reports that it does.
    assert f"using the axes in {folder / 'order.npy'}" in capsys.readouterr().err
    train(folder, content("plain-again"))
    assert np.array_equal(np.load(folder / "order.npy"), axes)
    # Earlier descriptions are a list of teachers, and do not state it.
    description = json.loads((folder / "order.json").read_text())
    (folder / "order.json").write_text(json.dumps(description["teachers"]))
    train(folder, content("earlier", align_axes=True))


def test_a_student_takes_layers_and_pooling_from_a_plain_folder(folder):
    model, tokenizer = sentenc.load(folder / "bert").torch_model()
    model.save_pretrained(folder / "plain")
    tokenizer.save_pretrained(folder / "plain")
    content = table("plain", axes="plain.npy", cache="plain-vectors", align_axes=True)
    content["teacher"]["models"][0] = {"model": "plain", "pooling": "cls"}
    content["student"] |= {"pooling": "cls", "layers": [0, 1]}
    content["training"] |= {"steps": 1, "learning_rate": 1e-9}
    encoder = sentenc.load(train(folder, content))
    texts = lines(3, 5)
    expected = unit_rows(sentenc.load(folder / "plain", pooling="cls").encode(texts), "vectors")
    np.testing.assert_allclose(encoder.encode(texts), expected, atol=1e-3)
    # The second teacher is not needed any more: neither for its vectors nor for the layers.
    content["teacher"]["models"][1] |= {"model": "owner/unknown"}
    content["teacher"]["max_minutes"] = 0
    train(folder, content | {"work": "work-plain-again"})
    content["losses"].append({"kind": "transformer_distillation", "corpus": "text", "batch_size": 8})
    with pytest.raises(ValueError, match=r"teacher\.models has 2 models, expected 1"):
        train(folder, content | {"work": "work-plain-layers"})


def test_pairs_have_a_role_for_each_text(folder):
    content = table("pairs")
    rows = zip(lines(5, 64), lines(6, 64), strict=True)
    (folder / "pairs.tsv").write_text("\n".join(f"{a}\t{b}" for a, b in rows))
    source = {"sources": [{"files": ["pairs.tsv"], "form": "pairs"}]}
    content["corpora"]["pairs"] = source | {"roles": ["query", "document"]}
    content["losses"].append({"kind": "in_batch_softmax", "corpus": "pairs", "batch_size": 8})
    assert sentenc.load(train(folder, content)).dim == 24
    content["losses"][-1] |= {"kind": "paraphrase_margin"}
    with pytest.raises(ValueError, match=r"paraphrase_margin has the prompts \['hello ', ''\]"):
        train(folder, content)


def test_all_texts_of_pairs_and_triplets_are_distilled(folder, monkeypatch, capsys):
    content = table("groups")
    for columns, form in ((2, "pairs"), (3, "triplets")):
        rows = list(zip(*(lines(seed, 64) for seed in range(10 * columns, 11 * columns)), strict=True))
        (folder / f"{form}.tsv").write_text("\n".join("\t".join(row) for row in rows))
        content["corpora"][form] = {"sources": [{"files": [f"{form}.tsv"], "form": form}]}
        content["losses"].append(content["losses"][0] | {"corpus": form, "batch_size": 8})
    collated = {}
    run_to_the_end = Trainer.run

    def run(trainer):
        for term in trainer.loss_terms:
            examples = next(term.batches(0, 0))[1]
            texts = [text for column in zip(*examples, strict=True) for text in column]
            collated[term.name] = len(examples), len(term.targets(texts))
        return run_to_the_end(trainer)

    monkeypatch.setattr(Trainer, "run", run)
    assert sentenc.load(train(folder, content)).dim == 24
    assert collated["embedding_distillation-4"] == (8, 16)
    assert collated["embedding_distillation-5"] == (8, 24)
    # An example of which one text has no vector is left out.
    content["corpora"]["pairs"]["sources"][0]["files"] = ["more.tsv"]
    known = lines(20, 64)
    (folder / "more.tsv").write_text(
        "\n".join(f"{a}\t{a if i % 2 else a + ' x y z'}" for i, a in enumerate(known))
    )
    content["teacher"]["max_minutes"] = 0
    pretrain(parse_run(content | {"work": "work-more"}, folder), show_progress_bar=True)
    assert "corpus pairs: 32 of 64 examples have a teacher vector" in capsys.readouterr().err


def test_texts_of_one_example_have_one_role(folder):
    content = table("roles-of-pairs")
    (folder / "pairs.tsv").write_text(
        "\n".join(f"{a}\t{b}" for a, b in zip(lines(5, 64), lines(6, 64), strict=True))
    )
    source = {"sources": [{"files": ["pairs.tsv"], "form": "pairs"}], "roles": ["query", "document"]}
    content["corpora"]["pairs"] = source
    content["losses"].append(content["losses"][0] | {"corpus": "pairs"})
    with pytest.raises(
        ValueError, match=r"roles of corpus pairs are \['query', 'document'\], expected one role"
    ):
        train(folder, content)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": ["bert"]}, r"teacher\.dim is 24, but requires tables"),
        ({"models": ["bert", {"model": "cse"}]}, "names and tables"),
        ({"weights": [1, 2]}, r"teacher\.weights is set"),
        ({"models": [{"model": "a/bert"}, {"model": "b/bert"}]}, "the folder 'bert'"),
        ({"models": [{"model": "bert", "name": "x/y"}]}, "'x/y'"),
        ({"models": [{"model": "bert", "weight": 0}]}, "weight is 0"),
        ({"models": [{"model": "bert", "pooling": "max"}]}, "pooling is 'max'"),
        ({"models": [{"model": "bert", "prompt": "q"}]}, r"unknown key teacher\.models\.0\.prompt"),
        ({"dim": None}, r"teacher\.axes requires teacher\.dim"),
        ({"dim": 0}, r"teacher\.dim is 0"),
        ({"dim": 41, "axes": "wide.npy"}, "dim is 41, expected 1 to 40"),
        ({"dim": 23, "axes": "narrow.npy"}, "dimension is 24, expected 23"),
    ],
)
def test_settings_that_do_not_fit_are_refused(folder, change, message):
    content = table("refused", **change)
    content["teacher"] = {key: value for key, value in content["teacher"].items() if value is not None}
    with pytest.raises((ValueError, TypeError), match=message):
        train(folder, content)


@pytest.mark.parametrize(
    "setting", [{"query_prompt": "q "}, {"pooling": "cls"}, {"max_tokens": 64}, {"normalize": True}]
)
def test_settings_of_a_bert_are_refused_for_a_cse(folder, setting):
    content = table("refused")
    content["student"] = {"kind": "cse", "init": "teacher", "config": {"embedding_dim": 24}} | setting
    with pytest.raises(ValueError, match=rf"student\.{next(iter(setting))} is .* kind 'bert' only"):
        train(folder, content)


@pytest.mark.parametrize(
    ("roles", "message"),
    [
        ({"role": "question"}, r"corpora\.text\.role is 'question'"),
        ({"roles": ["query", "document"]}, "expected 1 roles"),
        ({"role": "query", "roles": ["query"]}, "set only one of them"),
    ],
)
def test_roles_that_do_not_fit_are_refused(folder, roles, message):
    content = table("refused")
    content["corpora"]["text"] |= roles
    with pytest.raises((ValueError, TypeError), match=message):
        train(folder, content)


def test_a_role_is_no_argument_of_a_corpus(folder):
    config = parse_run(table("corpus"), folder).corpora["queries"]
    assert config.column_roles == ("query",)
    assert isinstance(config.open(), Corpus)
