"""The model of MTEB, on tasks whose data are made here."""

import importlib.util
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mteb")

import mteb
from datasets import Dataset, DatasetDict
from mteb import TaskMetadata
from mteb.abstasks import AbsTaskRetrieval
from mteb.abstasks.sts import AbsTaskSTS

from sentenc import metrics
from sentenc.integrations.mteb import SentencModel
from tests.support.models import make_bert, make_cse
from tests.support.pairs import make_pair, with_prompts

LEFT = ["a man is playing the guitar", "the stock market fell", "the dog runs", "a cat", "hello world"]
RIGHT = ["someone plays an instrument", "the stock market fell", "a dog in the park", "not good", "the man"]
SCORES = [4.0, 5.0, 3.0, 0.0, 1.0]


def metadata(name, kind, score, **other):
    return TaskMetadata(
        name=name, description="made here", reference=None, type=kind, category="t2t", modalities=["text"],
        eval_splits=["test"], eval_langs=["eng-Latn"], main_score=score, date=None, domains=None,
        task_subtypes=None, license=None, annotations_creators=None, dialect=None, sample_creation=None,
        bibtex_citation=None, dataset={"path": "made/here", "revision": "1"}, **other,
    )  # fmt: skip


class MadeSTS(AbsTaskSTS):
    metadata = metadata("MadeSTS", "STS", "cosine_spearman")
    min_score, max_score = 0, 5

    def load_data(self, *args, **options):
        rows = {"sentence1": LEFT, "sentence2": RIGHT, "score": SCORES}
        self.dataset = DatasetDict({"test": Dataset.from_dict(rows)})
        self.data_loaded = True


class MadeRetrieval(AbsTaskRetrieval):
    metadata = metadata("MadeRetrieval", "Retrieval", "ndcg_at_10")

    def load_data(self, *args, **options):
        corpus = [{"id": f"d{i}", "text": text, "title": ""} for i, text in enumerate(LEFT)]
        queries = [{"id": f"q{i}", "text": text} for i, text in enumerate(LEFT)]
        split = {
            "corpus": Dataset.from_list(corpus),
            "queries": Dataset.from_list(queries),
            "relevant_docs": {f"q{i}": {f"d{i}": 1} for i in range(len(LEFT))},
            "top_ranked": None,
        }
        self.dataset = {"default": {"test": split}}
        self.data_loaded = True


def evaluate(model, task):
    results = mteb.evaluate(model, task, cache=None, show_progress_bar=False)
    return results.task_results[0].scores["test"][0]


def test_sts_scores_are_those_of_the_encoder():
    encoder = make_cse(combine="both", average_dim=6)
    scores = evaluate(SentencModel(encoder), MadeSTS())
    cosines = np.diagonal(encoder.similarity(LEFT, RIGHT))
    assert scores["main_score"] == pytest.approx(metrics.spearman(cosines, np.array(SCORES)), abs=1e-4)


def test_retrieval_uses_the_roles():
    pair = make_pair()
    seen = []
    model = SentencModel(pair)
    for name in ("queries", "documents"):
        method = getattr(model.embedder, name)
        setattr(
            model.embedder,
            name,
            lambda texts, name=name, method=method: seen.append((name, len(texts))) or method(texts),
        )
    scores = evaluate(model, MadeRetrieval())
    assert 0 <= scores["ndcg_at_10"] <= 1
    assert set(seen) == {("queries", 5), ("documents", 5)}


def test_prompts_of_a_kind_of_task_are_used():
    encoder = with_prompts(make_bert(), STS="a man ")
    prompted = evaluate(SentencModel(encoder), MadeSTS())["main_score"]
    left, right = (
        encoder.encode(texts, prompt_name="STS", normalize_embeddings=True) for texts in (LEFT, RIGHT)
    )
    expected = metrics.spearman((left * right).sum(axis=1), np.array(SCORES))
    assert prompted == pytest.approx(expected, abs=1e-4)


def test_the_description_of_a_model():
    encoder = make_cse()
    meta = SentencModel(encoder, "me/mine").mteb_model_meta
    assert (meta.name, meta.revision, meta.embed_dim) == (
        "me/mine",
        encoder.fingerprint(),
        encoder.similarity_dim,
    )
    assert SentencModel("cse-en-tiny").mteb_model_meta.name == "sentenc/cse-en-tiny"


def test_the_benchmark_reports_main_scores(tmp_path, monkeypatch):
    # MTEB looks up the type of a task by its name.
    monkeypatch.setitem(importlib.import_module("mteb.get_tasks")._TASKS_REGISTRY, "MadeSTS", MadeSTS)
    path = Path(__file__).parents[2] / "benchmarks" / "mteb_benchmarks.py"
    spec = importlib.util.spec_from_file_location("mteb_benchmarks", path)
    benchmark = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(benchmark)
    model = SentencModel(make_cse(), "made/here")
    expected = 100 * evaluate(model, MadeSTS())["main_score"]
    scores = benchmark.main_scores(model, [MadeSTS()], tmp_path)
    assert scores["STS"]["MadeSTS"] == pytest.approx(expected, abs=0.01)
    # A second run reads the results of the first.
    assert benchmark.main_scores(model, [MadeSTS()], tmp_path) == scores
    assert f"MadeSTS: {scores['STS']['MadeSTS']:.2f}" in benchmark.report("made", scores)
    assert all(mteb.get_benchmark(name).tasks for name in benchmark.BENCHMARKS)


def test_the_cache_of_mteb_keeps_options_apart(tmp_path):
    encoder = make_cse(combine="both", average_dim=6)
    scores = []
    for options in ({}, {"truncate_dim": 4}, {"normalize_embeddings": True}):
        model = SentencModel(encoder, "made/here", **options)
        results = mteb.evaluate(model, MadeSTS(), cache=mteb.ResultCache(tmp_path), show_progress_bar=False)
        scores.append(results.task_results[0].scores["test"][0]["main_score"])
        assert scores[-1] == pytest.approx(evaluate(model, MadeSTS())["main_score"], abs=1e-4)
    assert scores[0] != pytest.approx(scores[1], abs=1e-4)
    assert len(list(tmp_path.rglob("MadeSTS.json"))) == 3
    # The number of components by default is no other option.
    same = SentencModel(encoder, truncate_dim=encoder.similarity_dim).mteb_model_meta
    assert same.experiment_name is None
