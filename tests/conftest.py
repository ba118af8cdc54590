"""Tiny models and tokenizers, made here; no test can open a connection."""

import csv
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from sentenc import CSE, BertEncoder, CSEConfig, Encoder
from sentenc.encoders.bert.config import BertConfig
from sentenc.tokenization.tokenizer import Tokenizer

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

WORDS = [
    "a",
    "man",
    "is",
    "playing",
    "the",
    "guitar",
    "someone",
    "plays",
    "an",
    "instrument",
    "stock",
    "market",
    "fell",
    "not",
    "good",
    "at",
    "all",
    "dog",
    "cat",
    "runs",
    "in",
    "park",
    "of",
    "and",
    "to",
    "he",
    "she",
    "it",
    "was",
    "on",
    "for",
    "with",
    "as",
    "you",
    "that",
    "this",
    "be",
    "have",
    "from",
    "or",
    "by",
    "one",
    "had",
    "but",
    "word",
    "words",
    "hello",
    "world",
    "new",
    "york",
    "time",
    "year",
    "people",
    "way",
    "day",
    "thing",
    "tokyo",
    "crème",
    "naïve",
    "straße",
    "привет",
    "мир",
    "東",
    "京",
    "日",
    "本",
    "한",
]
CHARACTERS = "abcdefghijklmnopqrstuvwxyz0123456789!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~éñßäöüабвгд。、—…₂"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    def refuse(*_args, **_options):
        raise AssertionError("a test tried to open a connection")

    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture(autouse=True)
def _csv_as_it_was():
    # The commands raise the limit on fields, for the process that they have to themselves elsewhere.
    limit = csv.field_size_limit()
    yield
    csv.field_size_limit(limit)


def wordpiece_spec(lowercase: bool = True, unknown: str = "[UNK]") -> str:
    tokens = ["[PAD]", unknown, "[CLS]", "[SEP]", "[MASK]", *dict.fromkeys(WORDS), *CHARACTERS]
    tokens += [f"##{c}" for c in CHARACTERS] + [
        "##ing",
        "##s",
        "##ed",
        "##er",
        "##tion",
        "##гд",
        "un",
        "play",
    ]
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(tokens))}
    return json.dumps(
        {
            "version": "1.0",
            "added_tokens": [
                {"id": 3, "content": "[SEP]", "single_word": False, "lstrip": False, "rstrip": False,
                 "normalized": False, "special": True}
            ],
            "normalizer": {
                "type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True,
                "strip_accents": None, "lowercase": lowercase,
            },
            "pre_tokenizer": {"type": "BertPreTokenizer"},
            "model": {
                "type": "WordPiece", "unk_token": unknown, "continuing_subword_prefix": "##",
                "max_input_chars_per_word": 100, "vocab": vocabulary,
            },
        }
    )  # fmt: skip


def word_spec() -> str:
    vocabulary = {token: index for index, token in enumerate(dict.fromkeys(["<unk>", *WORDS, "!", "."]))}
    return json.dumps(
        {
            "version": "1.0",
            "normalizer": {"type": "Lowercase"},
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "model": {"type": "WordLevel", "unk_token": "<unk>", "vocab": vocabulary},
        }
    )


def random_weights(config: CSEConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights of ordinary size, none of them zero, so that every path counts."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in config.shapes().items():
        scale = shape[-2] ** -0.5 if name.startswith(("filters", "output", "projection")) else 0.5
        weights[name] = rng.normal(0, scale, shape).astype(np.float32)
    return weights


def make_cse(tables: str = "float32", spec: str | None = None, **shape) -> CSE:
    tokenizer = Tokenizer(spec or wordpiece_spec(), skip_unknown=shape.get("unknown", "skip") == "skip")
    options = {"embedding_dim": 24, "num_filters": 8, "max_tokens": 64} | shape
    config = CSEConfig(vocab_size=tokenizer.vocab_size, **options)
    return CSE(config, random_weights(config), tokenizer, tables=tables)


def random_bert_weights(config: BertConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights large enough that attention and position count."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in config.shapes().items():
        spread = 0.1 if len(shape) == 1 else 0.5 if name.startswith("embeddings") else shape[1] ** -0.5
        around = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        weights[name] = rng.normal(around, spread, shape).astype(np.float32)
    return weights


def make_tinybert(compute: str = "float32", spec: str | None = None, **shape) -> BertEncoder:
    tokenizer = Tokenizer(spec or wordpiece_spec(), skip_unknown=False)
    options = {
        "hidden_size": 24, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48,
        "max_position_embeddings": 64, "max_tokens": 48,
    } | shape  # fmt: skip
    config = BertConfig(vocab_size=tokenizer.vocab_size, **options)
    return BertEncoder(config, random_bert_weights(config), tokenizer, compute=compute)


def make_sentence_transformer(folder: Path):
    """A BERT of two small layers with mean pooling, in sentence-transformers' clothes."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer as Reference
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    spec = json.loads(wordpiece_spec())
    spec["added_tokens"] = []
    spec["post_processor"] = {
        "type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2],
    }  # fmt: skip
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Reference.from_str(json.dumps(spec)), unk_token="[UNK]", pad_token="[PAD]",
        cls_token="[CLS]", sep_token="[SEP]", mask_token="[MASK]", model_max_length=48,
    )  # fmt: skip
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer), hidden_size=24, num_hidden_layers=2, num_attention_heads=4,
        intermediate_size=48, max_position_embeddings=64,
    )  # fmt: skip
    BertModel(config).save_pretrained(folder / "bert")
    torch.random.set_rng_state(generator_state)
    tokenizer.save_pretrained(folder / "bert")
    transformer = Transformer(str(folder / "bert"), max_seq_length=48)
    return SentenceTransformer(modules=[transformer, Pooling(24)], device="cpu")


def _external(tmp_path_factory) -> Encoder:
    pytest.importorskip("sentence_transformers")
    from sentenc import SentenceTransformerEncoder

    return SentenceTransformerEncoder(make_sentence_transformer(tmp_path_factory.mktemp("external")))


ENCODERS = {
    "cse-residual": lambda _: make_cse(),
    "cse-int8": lambda _: make_cse("int8"),
    "cse-compressed": lambda _: make_cse("int8").compressed(),
    "cse-concat-max": lambda _: make_cse(combine="concat", pooling="max", phi="tanh"),
    "cse-both-average": lambda _: make_cse("int8", combine="both", average_dim=6).compressed(),
    "cse-words": lambda _: make_cse(widths=()),
    "cse-paper": lambda _: make_cse(
        embedding_dim=24, widths=(1, 2, 3), num_filters=8, combine="concat", phi="identity", pooling="sum",
        windows="padded", word_path=False,
    ),
    "cse-whole-words": lambda _: make_cse(spec=word_spec()),
    "tinybert": lambda _: make_tinybert(),
    "tinybert-int8-weights": lambda _: make_tinybert(normalize=False).compressed(),
    "tinybert-int8": lambda _: make_tinybert("int8"),
    "tinybert-int8-throughout": lambda _: make_tinybert("int8", hidden_act="relu").compressed(),
    "tinybert-linear": lambda _: make_tinybert(linear=True),
    "tinybert-cased": lambda _: make_tinybert(spec=wordpiece_spec(lowercase=False), normalize=False),
    "external": _external,
}  # fmt: skip


@pytest.fixture(scope="session", params=ENCODERS)
def encoder(request, tmp_path_factory) -> Encoder:
    """Every kind of encoder: what passes the contract suite with this is an encoder."""
    return ENCODERS[request.param](tmp_path_factory)


@pytest.fixture
def random_problem() -> Callable[..., tuple[np.ndarray, np.ndarray]]:
    """Draws features (n, d) and labels (n,) that a linear model can partly tell."""

    def draw(n: int, d: int, n_classes: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(seed)
        features = rng.standard_normal((n, d)).astype(np.float32)
        scores = features @ rng.standard_normal((d, n_classes)) + rng.gumbel(size=(n, n_classes))
        return features, scores.argmax(axis=1)

    return draw
