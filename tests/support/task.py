"""A BERT of two tiny layers and a task that it learns in a second."""

import json

import numpy as np
import torch
import transformers

from tests.support.models import wordpiece_spec

ANIMALS, MONEY = ["dog", "cat", "park", "runs", "plays"], ["stock", "market", "fell", "new", "york"]
OTHER = ["the", "a", "in", "of", "and", "is", "was", "on"]


def make_tokenizer():
    from tokenizers import Tokenizer as Reference

    spec = json.loads(wordpiece_spec())
    spec["added_tokens"] = []
    # Like the tokenizers of BERT, it sets token types for pairs.
    spec["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                   {"SpecialToken": {"id": "[SEP]", "type_id": 0}}],
        "pair": [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                 {"SpecialToken": {"id": "[SEP]", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}},
                 {"SpecialToken": {"id": "[SEP]", "type_id": 1}}],
        "special_tokens": {"[CLS]": {"id": "[CLS]", "ids": [2], "tokens": ["[CLS]"]},
                           "[SEP]": {"id": "[SEP]", "ids": [3], "tokens": ["[SEP]"]}},
    }  # fmt: skip
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=Reference.from_str(json.dumps(spec)),
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=40,
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def make_config(**changes):
    return transformers.BertConfig(
        **{
            "vocab_size": len(make_tokenizer()),
            "hidden_size": 16,
            "num_hidden_layers": 3,
            "num_attention_heads": 2,
            "intermediate_size": 32,
            "max_position_embeddings": 40,
        }
        | changes
    )


def make_model(kind=transformers.BertForSequenceClassification, **changes):
    with torch.random.fork_rng([]):
        torch.manual_seed(0)
        model = kind(make_config(**changes))
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    return model.eval()


def save_base(folder):
    make_model(transformers.BertModel).save_pretrained(folder)
    make_tokenizer().save_pretrained(folder)
    return folder


def sentence(rng, words):
    return " ".join(rng.permutation([*rng.choice(words, 3), *rng.choice(OTHER, 3)]))


def write_task(folder, *, pairs=False, scores=False, n=48):
    """Writes a task: the topics of texts, whether two texts have the same topic, or similarity scores."""
    rng = np.random.default_rng(0)
    for name, size in (("train", n), ("dev", 24)):
        lines = ["a\tb\tlabel"]
        for _ in range(size):
            topics = rng.integers(0, 2, 2)
            a, b = (sentence(rng, (ANIMALS, MONEY)[topic]) for topic in topics)
            label = str(topics[0]) if not pairs else ("same" if topics[0] == topics[1] else "other")
            lines.append(f"{a}\t{b}\t{2.0 * topics[0] + rng.random() if scores else label}")
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
