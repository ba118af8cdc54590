"""Prunes a BERT: fewer layers, tokens, neurons or hidden dimensions, as the initialization of a student.

Selected layers are copied unchanged. Rare tokens, neurons with little effect and hidden directions of little
energy can be removed. The remaining weights are then fitted by least squares on a sample of texts to
reproduce the output of the whole, so that the student is close to its teacher before any training.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from sentenc.training.initialization.bert_width import Batches, reduce_width, solve_ridge

# Number of texts that weights are fitted on; about 30,000 tokens.
FITTING_TEXTS = 1500
_TEXTS_PER_BATCH = 50
# Sizes that can be smaller than the teacher's.
SIZES = ("intermediate_size", "hidden_size")


def prune_bert(
    model: nn.Module,
    *,
    layers: Sequence[int],
    batches: Batches,
    token_ids: npt.NDArray[np.integer] | None = None,
    intermediate_size: int | None = None,
    hidden_size: int | None = None,
) -> Any:
    """Builds a smaller BERT from some of a teacher's layers.

    Args:
        model: A ``transformers.BertModel``; not changed.
        layers: The indices of the layers to keep, from 0, ascending; at least one. Keep the last layer,
            because its hidden states are pooled.
        batches: Token ids (B, L) and attention masks (B, L) of texts to fit on, in the teacher's ids; see
            :func:`fitting_batches`. May be empty if no size is reduced.
        token_ids: The old id of each token of a smaller vocabulary, (V',); None keeps all tokens.
        intermediate_size: Number of neurons of each feed-forward block; None keeps all.
        hidden_size: Hidden size, a multiple of the number of heads; None keeps it.

    Returns:
        A ``transformers.BertModel`` in evaluation mode.

    Raises:
        TypeError: The model is not a ``BertModel``.
        ValueError: A size or layer is not within the teacher's, or a size is reduced without batches.
    """
    from transformers import BertModel

    if not isinstance(model, BertModel):
        raise TypeError(f"the teacher is {type(model).__name__}, expected a transformers BertModel")
    config: Any = model.config
    _check(config, layers, intermediate_size, hidden_size, bool(batches))
    student = _with_layers(model, layers)
    if intermediate_size not in (None, config.intermediate_size):
        for layer in range(len(layers)):
            _prune_neurons(student, layer, int(intermediate_size or 0), batches)
        student.config.intermediate_size = intermediate_size
    if hidden_size not in (None, config.hidden_size):
        student = reduce_width(student, int(hidden_size or 0), batches)
    if token_ids is not None:
        _prune_tokens(student, token_ids)
    return student.eval()


def fitting_batches(tokenizer: Any, texts: Sequence[str], max_tokens: int = 64) -> Batches:
    """Returns the padded token ids and attention masks of texts; texts of similar length share a batch."""

    def encode(batch: list[str]) -> Mapping[str, Tensor]:
        inputs: Mapping[str, Tensor] = tokenizer(
            batch, padding=True, truncation=True, max_length=max_tokens, return_tensors="pt"
        )
        return inputs

    return batches_by_length(texts, encode)


def batches_by_length(texts: Sequence[str], encode: Callable[[list[str]], Mapping[str, Tensor]]) -> Batches:
    """Returns the token ids and attention masks of texts; texts of similar length share a batch.

    Args:
        texts: The texts.
        encode: Returns a model's ``input_ids`` and ``attention_mask`` for a list of texts.
    """
    ordered = sorted(texts, key=len)
    batches = []
    for start in range(0, len(ordered), _TEXTS_PER_BATCH):
        inputs = encode(ordered[start : start + _TEXTS_PER_BATCH])
        batches.append((inputs["input_ids"], inputs["attention_mask"]))
    return batches


def _check(
    config: Any, layers: Sequence[int], intermediate: int | None, hidden: int | None, has_texts: bool
) -> None:
    number = int(config.num_hidden_layers)
    if (
        not layers
        or list(layers) != sorted(set(layers))
        or not all(isinstance(i, int) and 0 <= i < number for i in layers)
    ):
        raise ValueError(f"layers is {list(layers)}, expected ascending numbers from 0 to {number - 1}")
    for name, value in (("intermediate_size", intermediate), ("hidden_size", hidden)):
        if value is not None and not 1 <= value <= getattr(config, name):
            raise ValueError(f"{name} is {value}, expected 1 to {getattr(config, name)}, the teacher's")
    if hidden is not None and hidden % config.num_attention_heads:
        raise ValueError(
            f"hidden_size is {hidden}, expected a multiple of the {config.num_attention_heads} heads"
        )
    fits = intermediate not in (None, config.intermediate_size) or hidden not in (None, config.hidden_size)
    if fits and not has_texts:
        raise ValueError(
            "batches is empty, but a smaller intermediate_size or hidden_size is fitted on texts"
        )


def _with_layers(model: Any, layers: Sequence[int]) -> Any:
    # A copy with these layers only, in evaluation mode, so that weights are fitted without dropout.
    from transformers import BertConfig, BertModel

    values = model.config.to_dict() | {"num_hidden_layers": len(layers)}
    student = BertModel(BertConfig.from_dict(values), add_pooling_layer=model.pooler is not None)
    student.embeddings.load_state_dict(model.embeddings.state_dict())
    if model.pooler is not None:
        student.pooler.load_state_dict(model.pooler.state_dict())
    for target, source in enumerate(layers):
        student.encoder.layer[target].load_state_dict(model.encoder.layer[source].state_dict())
    return student.float().eval()


def _prune_tokens(student: Any, token_ids: npt.NDArray[np.integer]) -> None:
    old = student.embeddings.word_embeddings
    is_valid = token_ids.ndim == 1 and len(token_ids) and token_ids.min() >= 0
    if not is_valid or token_ids.max() >= old.num_embeddings:
        raise ValueError(
            f"token_ids has shape {token_ids.shape}, expected (V,) ids below {old.num_embeddings}"
        )
    # The smaller vocabulary may lack a padding token. Its vector is masked wherever it matters.
    padding = np.flatnonzero(token_ids == old.padding_idx)
    new = nn.Embedding(
        len(token_ids), old.embedding_dim, padding_idx=int(padding[0]) if len(padding) else None
    )
    new.weight.data = old.weight.data[torch.from_numpy(np.asarray(token_ids, np.int64))].clone()
    student.embeddings.word_embeddings = new
    student.config.vocab_size = len(token_ids)
    student.config.pad_token_id = new.padding_idx


@torch.no_grad()
def _prune_neurons(student: Any, number: int, size: int, batches: Batches) -> None:
    """Keeps the ``size`` neurons of a layer that change its output most, and fits the output layer to them.

    The output layer of the feed-forward block computes W a + b from activations a, with W (d, n). It becomes
    W' a' + b', where a' are the kept activations, and W' and b' minimize the squared difference over all
    tokens. The second moments of [a; 1] determine the solution.
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
    solution = solve_ridge(gram, target)
    first = layer.intermediate.dense
    layer.intermediate.dense = _linear(first.weight[kept], first.bias[kept])
    layer.output.dense = _linear(solution[:-1].T, solution[-1])


def _linear(weight: Tensor, bias: Tensor) -> nn.Linear:
    layer = nn.Linear(weight.shape[1], weight.shape[0])
    layer.weight.data = weight.float().contiguous().clone()
    layer.bias.data = bias.float().contiguous().clone()
    return layer


def _moments(student: Any, linear: nn.Linear, batches: Batches) -> Tensor:
    # Sum over all tokens of x x^T, x = [inputs of a linear layer; 1]: (n + 1, n + 1) float64.
    captured: list[Tensor] = []
    handle = linear.register_forward_hook(lambda _module, inputs, _output: captured.append(inputs[0]))
    total = torch.zeros(linear.in_features + 1, linear.in_features + 1, dtype=torch.float64)
    try:
        for ids, mask in batches:
            student(input_ids=ids, attention_mask=mask)
            inputs = captured.pop()[mask.bool()].double()
            inputs = torch.cat([inputs, torch.ones(len(inputs), 1, dtype=torch.float64)], 1)
            total += inputs.T @ inputs
    finally:
        handle.remove()
    return total
