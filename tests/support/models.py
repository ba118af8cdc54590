"""Tiny tokenizers and encoders, made from random weights."""

import json
from pathlib import Path

import numpy as np

from sentenc import CSE, BertEncoder, CSEConfig
from sentenc.encoders.bert.config import BertConfig
from sentenc.encoders.static.config import StaticConfig
from sentenc.encoders.static.encoder import StaticEncoder
from sentenc.encoders.static.token_ids import make_token_ids
from sentenc.tokenization.tokenizer import Tokenizer

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
    """Weights of ordinary size, none of them zero, so that every path of the model matters."""
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


def unigram_spec() -> str:
    """A tokenizer that only the package ``tokenizers`` computes."""
    pieces = ["<unk>", *(f"▁{word}" for word in dict.fromkeys(WORDS)), *"!.,", *"abcdefghijklmnopqrstuvwxyz"]
    return json.dumps(
        {
            "version": "1.0",
            "normalizer": {
                "type": "Sequence",
                "normalizers": [
                    {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": False,
                     "strip_accents": False, "lowercase": True},
                    {"type": "Strip", "strip_left": True, "strip_right": True},
                ],
            },
            "pre_tokenizer": {
                "type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True,
            },
            "model": {
                "type": "Unigram", "unk_id": 0, "byte_fallback": False,
                "vocab": [[piece, -float(len(piece) == 1) - 1] for piece in pieces],
            },
        }
    )  # fmt: skip


def package_spec() -> str:
    """Whole words whose pre-tokenizer only the package ``tokenizers`` has."""
    return json.dumps(json.loads(word_spec()) | {"pre_tokenizer": {"type": "Whitespace"}})


def whitespace_spec() -> str:
    """The tokenizer of ``WordEmbeddings``, which leaves out some stop words."""
    words = [*dict.fromkeys(WORDS), "東京", "instrument!", "New"]
    return json.dumps({"vocab": words, "stop_words": ["with", "for"], "do_lower_case": False})


def make_static(spec: str | None = None, dtype: str = "float32", **shape) -> StaticEncoder:
    """A static model with random rows; its tokenizer is that of ``splitting``."""
    tokenizer = make_token_ids(spec or wordpiece_spec(), shape.get("splitting", "native"))
    config = StaticConfig(**{"vocab_size": tokenizer.size, "embedding_dim": 24, "max_tokens": 64} | shape)
    rng = np.random.default_rng(0)
    if not config.has_rows:
        weights = {"weights": rng.uniform(0.5, 2, tokenizer.size).astype(np.float32)}
    elif dtype == "int8":
        weights = {
            "embeddings": rng.integers(-127, 128, (tokenizer.size, config.embedding_dim)).astype(np.int8),
            "embeddings.scale": rng.uniform(0.001, 0.01, tokenizer.size).astype(np.float32),
        }
    else:
        weights = {
            "embeddings": rng.normal(0, 0.5, (tokenizer.size, config.embedding_dim)).astype(np.float32)
        }
    return StaticEncoder(config, weights, tokenizer)


def make_bag_of_words() -> StaticEncoder:
    """A bag of words, whose vectors have a component for every word."""
    size = len(json.loads(whitespace_spec())["vocab"])
    return make_static(whitespace_spec(), splitting="whitespace", pooling="count", embedding_dim=size)


def random_bert_weights(config: BertConfig, seed: int = 0) -> dict[str, np.ndarray]:
    """Weights that are large enough for attention and positions to matter."""
    rng = np.random.default_rng(seed)
    weights = {}
    for name, shape in config.shapes().items():
        spread = 0.1 if len(shape) == 1 else 0.5 if name.startswith("embeddings") else shape[1] ** -0.5
        around = 1.0 if name.endswith("LayerNorm.weight") else 0.0
        weights[name] = rng.normal(around, spread, shape).astype(np.float32)
    return weights


def make_bert(compute: str = "float32", spec: str | None = None, **shape) -> BertEncoder:
    tokenizer = Tokenizer(spec or wordpiece_spec(), skip_unknown=False)
    options = {
        "hidden_size": 24,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 64,
        "max_tokens": 48,
    } | shape
    config = BertConfig(vocab_size=tokenizer.vocab_size, **options)
    return BertEncoder(config, random_bert_weights(config), tokenizer, compute=compute)


def mpnet_spec() -> dict:
    """The ``tokenizer.json`` of an MPNet, as values."""
    spec = json.loads(wordpiece_spec())
    tokens = ["<s>", "<pad>", "</s>", "<unk>", *spec["model"]["vocab"], "<mask>"]
    spec["model"]["vocab"] = {token: i for i, token in enumerate(tokens)}
    special = ["<s>", "<pad>", "</s>", "<unk>", "[UNK]", "<mask>"]
    spec["added_tokens"] = [
        {"id": tokens.index(token), "content": token, "single_word": False, "lstrip": token == "<mask>",
         "rstrip": False, "normalized": False, "special": True}
        for token in special
    ]  # fmt: skip
    return spec | {"post_processor": {"type": "RobertaProcessing", "sep": ["</s>", 2], "cls": ["<s>", 0],
                                      "trim_offsets": True, "add_prefix_space": False}}  # fmt: skip


def make_mpnet(compute: str = "float32", **shape) -> BertEncoder:
    return make_bert(compute, json.dumps(mpnet_spec()), model_type="mpnet", type_vocab_size=0, **shape)


def dense_weights(encoder: CSE | BertEncoder) -> dict[str, np.ndarray]:
    """Copies of all weights of an encoder, in float32."""
    return {name: encoder.weight(name).copy() for name in encoder.config.shapes()}


def make_sentence_transformer(folder: Path):
    """A BERT of two small layers with mean pooling, as a ``SentenceTransformer``."""
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from tokenizers import Tokenizer as Reference
    from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

    spec = json.loads(wordpiece_spec())
    spec["added_tokens"] = []
    spec["post_processor"] = {"type": "BertProcessing", "sep": ["[SEP]", 3], "cls": ["[CLS]", 2]}
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Reference.from_str(json.dumps(spec)),
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=48,
    )
    generator_state = torch.random.get_rng_state()
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(tokenizer),
        hidden_size=24,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=64,
    )
    BertModel(config).save_pretrained(folder / "bert")
    torch.random.set_rng_state(generator_state)
    tokenizer.save_pretrained(folder / "bert")
    transformer = Transformer(str(folder / "bert"), max_seq_length=48)
    return SentenceTransformer(modules=[transformer, Pooling(24)], device="cpu")
