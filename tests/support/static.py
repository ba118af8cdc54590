"""Modules of sentence-transformers for static models."""

import json

import numpy as np

from tests.support.models import wordpiece_spec


def tokenizer_and_rows(spec=None, dim=24, added=()):
    from tokenizers import Tokenizer

    content = json.loads(spec or wordpiece_spec())
    content["added_tokens"] = [
        {"id": index, "content": name, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False,
         "special": True}
        for name, index in added
    ]  # fmt: skip
    tokenizer = Tokenizer.from_str(json.dumps(content))
    rows = np.random.default_rng(3).normal(size=(tokenizer.get_vocab_size(), dim)).astype(np.float32)
    return tokenizer, rows


def static_embedding(spec=None, dim=24, added=()):
    from sentence_transformers.sentence_transformer.modules import StaticEmbedding

    tokenizer, rows = tokenizer_and_rows(spec, dim, added)
    return StaticEmbedding(tokenizer, embedding_weights=rows)


def normalize():
    from sentence_transformers.sentence_transformer.modules import Normalize

    return Normalize()


def dense(inner, outer):
    import torch
    from sentence_transformers.sentence_transformer.modules import Dense

    with torch.random.fork_rng():
        torch.manual_seed(0)
        return Dense(inner, outer, bias=False, activation_function=torch.nn.Identity())
