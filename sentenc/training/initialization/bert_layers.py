"""A smaller BERT made from a teacher's own weights: the start of a student.

Chosen layers are taken as they are; tokens that are rarely seen, neurons that do little and hidden
directions of little energy can be left out. What is left is fitted by least squares to do what all of it
did, on a sample of texts, so that the student is near its teacher before any training.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sentenc.training.initialization.bert_width import Batches, narrowed, solved

# Texts that weights are fitted on, unless more are given; some 30,000 tokens.
FITTED_TEXTS = 1500
_BATCH = 50
# What may be less than the teacher's.
SIZES = ("intermediate_size", "hidden_size")


def student_from_teacher(
    model: nn.Module,
    *,
    layers: Sequence[int],
    batches: Batches,
    rows: npt.NDArray[np.integer] | None = None,
    intermediate_size: int | None = None,
    hidden_size: int | None = None,
) -> Any:
    """A BERT of some of a teacher's layers.

    Args:
        model: A ``transformers.BertModel``; not changed.
        layers: The teacher's layers to keep, from 0, rising; at least one. The last one should be among
            them: it is what the pooled vectors come from.
        batches: Token ids (B, L) and attention masks (B, L) of texts to fit on, in the teacher's ids; see
            :func:`fitting_batches`. None are needed where only layers and tokens are left out.
        rows: Old id of each token of a smaller vocabulary, (V',); None keeps all.
        intermediate_size: Neurons of each feed-forward part; None keeps all.
        hidden_size: Hidden size, a multiple of the number of heads; None keeps it.

    Returns:
        A ``transformers.BertModel`` in evaluation mode.

    Raises:
        TypeError: The model is no ``BertModel``.
        ValueError: Sizes or layers are not within the teacher's, or there is nothing to fit on.
    """
    from transformers import BertModel

    if not isinstance(model, BertModel):
        raise TypeError(f"the teacher is {type(model).__name__}, expected a transformers BertModel")
    config: Any = model.config
    _check(config, layers, intermediate_size, hidden_size, bool(batches))
    student = _with_layers(model, layers)
    if intermediate_size not in (None, config.intermediate_size):
        for layer in range(len(layers)):
            _fewer_neurons(student, layer, int(intermediate_size or 0), batches)
        student.config.intermediate_size = intermediate_size
    if hidden_size not in (None, config.hidden_size):
        student = narrowed(student, int(hidden_size or 0), batches)
    if rows is not None:
        _fewer_tokens(student, rows)
    return student.eval()


def fitting_batches(tokenizer: Any, texts: Sequence[str], max_tokens: int = 64) -> Batches:
    """Texts as padded token ids and masks, those of similar length together."""

    def coded(some: list[str]) -> Mapping[str, Tensor]:
        found: Mapping[str, Tensor] = tokenizer(
            some, padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
        )
        return found

    return batches_by_length(texts, coded)


def batches_by_length(texts: Sequence[str], inputs: Callable[[list[str]], Mapping[str, Tensor]]) -> Batches:
    """The same for whatever makes a model's ``input_ids`` and ``attention_mask`` of a list of texts."""
    ordered = sorted(texts, key=len)
    found = (inputs(ordered[start : start + _BATCH]) for start in range(0, len(ordered), _BATCH))
    return [(batch["input_ids"], batch["attention_mask"]) for batch in found]


def _check(
    config: Any, layers: Sequence[int], intermediate: int | None, hidden: int | None, has_texts: bool
) -> None:
    number = int(config.num_hidden_layers)
    if (
        not layers
        or list(layers) != sorted(set(layers))
        or not all(isinstance(i, int) and 0 <= i < number for i in layers)
    ):
        raise ValueError(f"layers is {list(layers)}, expected rising numbers from 0 to {number - 1}")
    for name, value in (("intermediate_size", intermediate), ("hidden_size", hidden)):
        if value is not None and not 1 <= value <= getattr(config, name):
            raise ValueError(f"{name} is {value}, expected 1 to {getattr(config, name)}, the teacher's")
    if hidden is not None and hidden % config.num_attention_heads:
        raise ValueError(
            f"hidden_size is {hidden}, expected a multiple of the {config.num_attention_heads} heads"
        )
    fits = intermediate not in (None, config.intermediate_size) or hidden not in (None, config.hidden_size)
    if fits and not has_texts:
        raise ValueError("there are no texts to fit a narrower student on, expected some")


def _with_layers(model: Any, layers: Sequence[int]) -> Any:
    # A copy with those layers only, without dropout while it is fitted.
    from transformers import BertConfig, BertModel

    values = model.config.to_dict() | {"num_hidden_layers": len(layers)}
    student = BertModel(BertConfig.from_dict(values), add_pooling_layer=model.pooler is not None)
    student.embeddings.load_state_dict(model.embeddings.state_dict())
    if model.pooler is not None:
        student.pooler.load_state_dict(model.pooler.state_dict())
    for target, source in enumerate(layers):
        student.encoder.layer[target].load_state_dict(model.encoder.layer[source].state_dict())
    return student.float().eval()


def _fewer_tokens(student: Any, rows: npt.NDArray[np.integer]) -> None:
    old = student.embeddings.word_embeddings
    if rows.ndim != 1 or not len(rows) or rows.min() < 0 or rows.max() >= old.num_embeddings:
        raise ValueError(f"rows has shape {rows.shape}, expected (V,) ids below {old.num_embeddings}")
    # Padding is row zero or nothing: its vector is masked wherever it matters.
    padding = np.flatnonzero(rows == old.padding_idx)
    new = nn.Embedding(len(rows), old.embedding_dim, padding_idx=int(padding[0]) if len(padding) else None)
    new.weight.data = old.weight.data[torch.from_numpy(np.asarray(rows, np.int64))].clone()
    student.embeddings.word_embeddings = new
    student.config.vocab_size = len(rows)
    student.config.pad_token_id = new.padding_idx


@torch.no_grad()
def _fewer_neurons(student: Any, number: int, size: int, batches: Batches) -> None:
    """Keeps the ``size`` neurons of a layer that move its output most; the rest is fitted by least squares.

    The second layer of the feed-forward part, W (d, n) and b, becomes the W' and b' that bring W' a' + b'
    closest to W a + b over all tokens, a' being the kept ones of the activations a. Everything needed is
    in the second moments of [a; 1].
    """
    layer = student.encoder.layer[number]
    moments = _moments(student, layer.output.dense, batches)
    weight, bias = layer.output.dense.weight.double(), layer.output.dense.bias.double()
    count = moments[-1, -1]
    spread = (moments.diagonal()[:-1] / count - (moments[-1, :-1] / count) ** 2).clamp(min=0).sqrt()
    kept = torch.argsort(-spread * weight.norm(dim=0), stable=True)[:size].sort().values
    inputs = torch.cat([kept, torch.tensor([len(moments) - 1])])
    gram = moments[inputs][:, inputs]
    target = moments[inputs] @ torch.cat([weight, bias[:, None]], 1).T
    solution = solved(gram, target)
    first = layer.intermediate.dense
    layer.intermediate.dense = _linear(first.weight[kept], first.bias[kept])
    layer.output.dense = _linear(solution[:-1].T, solution[-1])


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data = weight.float().contiguous().clone()
    layer.bias.data = bias.float().contiguous().clone()
    return layer


def _moments(student: Any, linear: nn.Linear, batches: Batches) -> Tensor:
    # Sums of products of [inputs of a linear layer; 1] over all tokens: (n + 1, n + 1) float64.
    seen: list[Tensor] = []
    handle = linear.register_forward_hook(lambda _module, inputs, _output: seen.append(inputs[0]))
    total = torch.zeros(linear.in_features + 1, linear.in_features + 1, dtype=torch.float64)
    try:
        for ids, mask in batches:
            student(input_ids=ids, attention_mask=mask)
            inputs = seen.pop()[mask.bool()].double()
            inputs = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=torch.float64)], 1)
            total += inputs.T @ inputs
    finally:
        handle.remove()
    return total
