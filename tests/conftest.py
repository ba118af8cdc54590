"""Fixtures of all tests. No test can open a connection."""

import csv
import os
import socket
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import settings

import sentenc
from sentenc import Encoder, HybridEncoder
from tests.support.models import (
    make_bag_of_words,
    make_bert,
    make_cse,
    make_mpnet,
    make_sentence_transformer,
    make_static,
    package_spec,
    word_spec,
    wordpiece_spec,
)
from tests.support.pairs import make_pair

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

# No example has a time limit, because a busy machine would exceed it. `pytest --hypothesis-profile=thorough` runs more
# examples of the tests that do not state a number.
settings.register_profile("default", deadline=None)
settings.register_profile("thorough", deadline=None, max_examples=1000)
settings.load_profile("default")


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("a test tried to open a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True)
def _csv_as_it_was():
    # The commands raise the limit on fields for the whole process, which tests share.
    limit = csv.field_size_limit()
    yield
    csv.field_size_limit(limit)


def _external(tmp_path_factory) -> Encoder:
    pytest.importorskip("sentence_transformers")
    from sentenc import SentenceTransformerEncoder

    return SentenceTransformerEncoder(make_sentence_transformer(tmp_path_factory.mktemp("external")))


def _by_package(_) -> Encoder:
    pytest.importorskip("tokenizers")
    return make_static(package_spec(), splitting="tokenizers")


ENCODERS = {
    "cse-residual": lambda _: make_cse(),
    "cse-int8": lambda _: make_cse("int8"),
    "cse-compressed": lambda _: make_cse("int8").compressed(),
    "cse-concat-max": lambda _: make_cse(combine="concat", pooling="max", phi="tanh"),
    "cse-both-average": lambda _: make_cse("int8", combine="both", average_dim=6).compressed(),
    "cse-words": lambda _: make_cse(widths=()),
    "cse-paper": lambda _: make_cse(
        embedding_dim=24,
        widths=(1, 2, 3),
        num_filters=8,
        combine="concat",
        phi="identity",
        pooling="sum",
        windows="padded",
        word_path=False,
    ),
    "cse-whole-words": lambda _: make_cse(spec=word_spec()),
    "tinybert": lambda _: make_bert(),
    "tinybert-int8-weights": lambda _: make_bert(normalize=False).compressed(),
    "tinybert-int8": lambda _: make_bert("int8"),
    "tinybert-int8-throughout": lambda _: make_bert("int8", hidden_act="relu").compressed(),
    "tinybert-linear": lambda _: make_bert(linear=True),
    "tinybert-cls": lambda _: make_bert(pooling="cls", normalize=False),
    "tinybert-cased": lambda _: make_bert(spec=wordpiece_spec(lowercase=False), normalize=False),
    "mpnet": lambda _: make_mpnet(),
    "mpnet-int8-throughout": lambda _: make_mpnet("int8").compressed(),
    "external": _external,
    "static": lambda _: make_static(normalize=True, max_characters=320),
    "static-int8-unknown-row": lambda _: make_static(word_spec(), dtype="int8", unknown="row"),
    "static-by-package": _by_package,
    "bag-of-words": lambda _: make_bag_of_words(),
    "hybrid": lambda _: HybridEncoder(make_cse(), columns=64),
    "hybrid-tinybert": lambda _: HybridEncoder(make_bert("int8"), columns=128),
    "hybrid-pair": lambda _: sentenc.hybrid(make_pair(), columns=64),
    "pair": lambda _: make_pair(),
    "pair-of-sentence-vectors": lambda _: make_pair(widths=(2,), combine="both", average_dim=6),
}


@pytest.fixture(scope="session", params=ENCODERS)
def encoder(request, tmp_path_factory) -> Encoder:
    """Every kind of encoder. The contract tests run with each of them."""
    return ENCODERS[request.param](tmp_path_factory)


@pytest.fixture
def random_problem() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Draws features (n, d) and labels (n,) that a linear model can partly separate."""

    def draw(n: int, d: int, n_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        features = rng.standard_normal((n, d)).astype(np.float32)
        scores = features @ rng.standard_normal((d, n_classes)) + rng.gumbel(size=(n, n_classes))
        return features, scores.argmax(axis=1)

    return draw
