"""Runs of a student in the joint space of two small teachers."""

import numpy as np
import pytest

from tests.support.models import WORDS

pytest.importorskip("sentence_transformers")
pytest.importorskip("torch")

import sentenc
from sentenc.encoders.comparison import unit_rows
from sentenc.training.config.pretraining import parse_run
from sentenc.training.recipes.pretraining import pretrain

PROMPT = "people hello "


def lines(seed, n):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(3, 9))) for _ in range(n)]


def table(name, **teacher):
    """A run of a BERT student in the space of two teachers; the second one has prompts."""
    return {
        "output": f"model-{name}",
        "work": f"work-{name}",
        "seed": 1,
        "student": {
            "kind": "bert",
            "init": "teacher",
            "layers": [1],
            "normalize": True,
            "max_tokens": 48,
            "query_prompt": "hello ",
        },
        "teacher": {
            "models": [
                {"model": "bert", "weight": 1.0},
                {"model": "cse", "weight": 3, "query_prompt": PROMPT, "name": "second"},
            ],
            "dim": 24,
            "axes": "axes.npy",
            "cache": "vectors",
        }
        | teacher,
        "corpora": {
            "text": {"sources": [{"files": ["sentences.txt"], "form": "sentences"}]},
            "queries": {
                "sources": [{"files": ["queries.txt"], "form": "sentences"}],
                "role": "query",
            },
            "passages": {
                "sources": [{"files": ["passages.txt"], "form": "sentences"}],
                "role": "document",
            },
        },
        "losses": [
            {"kind": "embedding_distillation", "corpus": corpus, "batch_size": 16, "space": "same"}
            for corpus in ("text", "queries", "passages")
        ],
        "training": {"steps": 4, "learning_rate": 1e-3, "device": "cpu", "keep": "last"},
    }


def train(folder, content):
    return pretrain(parse_run(content, folder), show_progress_bar=False)


def joined(folder, texts, prompt=""):
    """The space's vectors before the reduction."""
    parts = [
        unit_rows(sentenc.load(folder / name).encode([before + text for text in texts]), "vectors")
        for name, before in (("bert", ""), ("cse", prompt))
    ]
    return np.concatenate([parts[0] * 0.5, parts[1] * 0.75**0.5], axis=1)
