"""BERT students pruned from a teacher: layers, tokens, neurons and hidden size."""

import json

import numpy as np
import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from sentenc import SentenceTransformerEncoder  # noqa: E402
from sentenc.training.initialization.bert_layers import fitting_batches, prune_bert  # noqa: E402
from sentenc.training.initialization.build_bert import pruned_tokenizer  # noqa: E402
from sentenc.training.teachers.ensemble import first_transformer  # noqa: E402
from tests.support.models import make_sentence_transformer, wordpiece_spec  # noqa: E402 (needs the extra)

TEXTS = [
    "a man is playing the guitar",
    "someone plays an instrument",
    "the stock market fell",
    "the dog runs in the park",
    "hello world",
    "you and the cat",
    "one year in new york",
    "people have time",
    "it was not good at all",
]


def bert(seed=0, **shape):
    values = {
        "vocab_size": 60,
        "hidden_size": 24,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "intermediate_size": 48,
        "max_position_embeddings": 32,
    } | shape
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        model = transformers.BertModel(transformers.BertConfig(**values), add_pooling_layer=False).eval()
        # Weights of the size of a trained model's. New ones are negligible compared with the residuals.
        for name, parameter in model.named_parameters():
            if name.endswith("dense.weight") or ".self." in name:
                parameter.data *= 10
    return model


def batches(n=40, length=10, vocab=60, seed=0):
    rng = np.random.default_rng(seed)
    pairs = []
    for _ in range(4):
        ids = torch.from_numpy(rng.integers(1, vocab, (n, length)))
        mask = torch.ones(n, length, dtype=torch.int64)
        mask[::2, 7:] = 0
        pairs.append((ids, mask))
    return pairs


def states(model, batches):
    with torch.inference_mode():
        return torch.cat(
            [model(input_ids=i, attention_mask=m).last_hidden_state[m.bool()] for i, m in batches]
        )


def error(model, other, batches):
    a, b = states(model, batches), states(other, batches)
    return float(((a - b) ** 2).mean() / (b**2).mean())


def test_all_layers_together_are_the_teacher():
    model = bert()
    student = prune_bert(model, layers=[0, 1, 2, 3], batches=[])
    assert error(student, model, batches()) == 0
    assert student is not model
    assert not student.training


def test_layers_are_the_teachers_own():
    model = bert()
    student = prune_bert(model, layers=[0, 3], batches=[])
    assert student.config.num_hidden_layers == 2
    torch.testing.assert_close(
        student.encoder.layer[1].output.dense.weight, model.encoder.layer[3].output.dense.weight
    )
    assert student.encoder.layer[1].output.dense.weight is not model.encoder.layer[3].output.dense.weight


def test_a_smaller_vocabulary_keeps_its_embeddings():
    model = bert()
    rows = np.array([0, 5, 59, 7])
    student = prune_bert(model, layers=[0, 1, 2, 3], batches=[], token_ids=rows)
    assert student.config.vocab_size == 4
    ids, mask = torch.tensor([[1, 2, 3]]), torch.ones(1, 3, dtype=torch.int64)
    assert error(student, student, [(ids, mask)]) == 0
    torch.testing.assert_close(
        student(input_ids=ids).last_hidden_state,
        model(input_ids=torch.tensor([[5, 59, 7]])).last_hidden_state,
    )
    with pytest.raises(ValueError, match="ids below 60"):
        prune_bert(model, layers=[0], batches=[], token_ids=np.array([60]))


def test_neurons_without_effect_are_removed_without_loss():
    model = bert()
    for layer in model.encoder.layer:
        layer.output.dense.weight.data[:, 10:20] = 0
        # Constant neurons can be removed too, because the bias can contain their part.
        layer.intermediate.dense.weight.data[30:36] = 0
    student = prune_bert(model, layers=[0, 1, 2, 3], batches=batches(), intermediate_size=32)
    assert student.encoder.layer[0].intermediate.dense.weight.shape == (32, 24)
    assert student.config.intermediate_size == 32
    assert error(student, model, batches(seed=1)) < 1e-5


def test_fitted_layers_are_better_than_cut_ones():
    model = bert()
    fitted = prune_bert(model, layers=[0, 1, 2, 3], batches=batches(200), intermediate_size=36)
    cut = prune_bert(model, layers=[0, 1, 2, 3], batches=batches(200), intermediate_size=36)
    for layer, old in zip(cut.encoder.layer, model.encoder.layer, strict=True):
        first = old.intermediate.dense.weight
        kept = [int((first == row).all(1).nonzero()[0]) for row in layer.intermediate.dense.weight]
        layer.output.dense.weight.data = old.output.dense.weight.data[:, kept]
        layer.output.dense.bias.data = old.output.dense.bias.data
    unseen = batches(seed=5)
    assert error(fitted, model, unseen) < 0.7 * error(cut, model, unseen)


def low_rank_bert():
    """A teacher whose states have little energy in some directions, as those of trained models do."""
    model = bert()
    mixing = torch.from_numpy(np.random.default_rng(0).normal(size=(14, 24))).float() / 4
    for name, parameter in model.named_parameters():
        if name.endswith(("output.dense.weight", "embeddings.weight")) and parameter.ndim == 2:
            out = parameter if "embeddings" in name else parameter.T
            out.data = (out[:, :14] @ mixing).contiguous()
    return model


def test_reducing_to_the_same_width_loses_only_the_weakest_direction():
    from sentenc.training.initialization.bert_width import reduce_width

    model, fitting = low_rank_bert(), batches(100)
    student = reduce_width(model, 24, fitting)
    a, b = states(student, batches(seed=3)).double(), states(model, batches(seed=3)).double()
    assert np.corrcoef((a @ a.T).flatten(), (b @ b.T).flatten())[0, 1] > 0.98


def test_reducing_the_width_keeps_more_than_chance():
    model, fitting, unseen = low_rank_bert(), batches(200), batches(seed=4)
    student = prune_bert(model, layers=[0, 1, 2, 3], batches=fitting, hidden_size=20)
    assert student.config.hidden_size == 20
    assert student.encoder.layer[0].attention.self.attention_head_size == 5
    random = bert(7, hidden_size=20)

    def kept(other):
        a, b = states(other, unseen).double(), states(model, unseen).double()
        a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
        return np.corrcoef((a @ a.T).flatten(), (b @ b.T).flatten())[0, 1]

    assert kept(student) > 0.8
    assert kept(student) > kept(random) + 0.3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layers": []}, r"layers is \[\], expected .* 0 to 3"),
        ({"layers": [1, 0]}, r"layers is \[1, 0\]"),
        ({"layers": [0, 4]}, r"layers is \[0, 4\], expected .* 0 to 3"),
        ({"layers": [0], "intermediate_size": 49}, "intermediate_size is 49, expected 1 to 48"),
        ({"layers": [0], "hidden_size": 22}, "hidden_size is 22, expected a multiple of the 4 heads"),
        ({"layers": [0], "hidden_size": 20, "batches": []}, "batches is empty.*hidden_size"),
    ],
)
def test_wrong_arguments_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        prune_bert(bert(), **({"batches": batches()} | options))


def test_another_model_is_refused():
    with pytest.raises(TypeError, match=r"Linear.*BertModel"):
        prune_bert(torch.nn.Linear(2, 2), layers=[0], batches=[])


@pytest.mark.parametrize("processor", ["BertProcessing", "TemplateProcessing"])
def test_pruned_tokenizer(processor):
    from tokenizers import Tokenizer as Reference
    from tokenizers.processors import BertProcessing, TemplateProcessing

    reference = Reference.from_str(json.dumps(json.loads(wordpiece_spec()) | {"added_tokens": []}))
    special = [("[CLS]", 2), ("[SEP]", 3)]
    reference.post_processor = (
        BertProcessing(special[1], special[0])
        if processor == "BertProcessing"
        else TemplateProcessing(
            single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=special
        )
    )
    tokenizer = transformers.PreTrainedTokenizerFast(
        tokenizer_object=reference,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=48,
    )
    size = len(tokenizer) - 15
    rows, smaller = pruned_tokenizer(tokenizer, TEXTS, size)
    assert len(smaller) == len(rows) == size
    old, new = tokenizer(TEXTS)["input_ids"], smaller(TEXTS)["input_ids"]
    assert [[int(rows[i]) for i in ids] for ids in new] == old
    assert smaller.model_max_length == 48
    assert smaller.mask_token_id == smaller.get_vocab()["[MASK]"]
    # A word that was removed is split into pieces.
    assert smaller.tokenize("tokyo") == ["to", "##k", "##y", "##o"]


def test_fitting_batches_and_parts(tmp_path):
    encoder = SentenceTransformerEncoder(make_sentence_transformer(tmp_path))
    model, tokenizer = first_transformer(encoder).torch_model()
    text_batches = fitting_batches(tokenizer, TEXTS * 20)
    assert sum(len(ids) for ids, _ in text_batches) == len(TEXTS) * 20
    student = prune_bert(model, layers=[1], batches=text_batches, intermediate_size=30, hidden_size=20)
    assert torch.isfinite(states(student, text_batches)).all()
    with pytest.raises(ValueError, match="object, expected a transformer"):
        first_transformer(object())
