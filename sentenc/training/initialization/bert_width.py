"""Reduces the hidden size of a BERT by principal components of its hidden states.

The axes U (d, d') are the directions in which the hidden states of all layers have the most energy. The
student's hidden states approximate U^T times the teacher's. Embeddings and inner matrices are projected.
Every head's product of queries and keys, and its values, are replaced by their best approximations of lower
rank. A layer normalization does not commute with a projection. Therefore each output matrix and normalization
is fitted by least squares to the teacher's states, from the first layer to the last, given the student's
states below it.
"""

from typing import Any

import torch
from torch import Tensor, nn

# Token ids (B, L) and attention masks (B, L).
Batches = list[tuple[Tensor, Tensor]]
# Ridge penalty, relative to the mean energy of an input.
_RIDGE = 1e-4


def solve_ridge(gram: Tensor, target: Tensor) -> Tensor:
    """Solves a least-squares problem with a small ridge penalty.

    Args:
        gram: Second moments X^T X of the inputs, (n, n).
        target: Products X^T Y of inputs and targets, (n, m).

    Returns:
        Weights (n, m).
    """
    ridge = _RIDGE * gram.diagonal().mean()
    weights: Tensor = torch.linalg.solve(gram + ridge * torch.eye(len(gram), dtype=gram.dtype), target)
    return weights


@torch.no_grad()
def reduce_width(model: Any, hidden_size: int, batches: Batches) -> Any:
    """Returns a ``BertModel`` with a smaller hidden size, otherwise of the shape of ``model``.

    Args:
        model: A ``transformers.BertModel`` in evaluation mode; not changed.
        hidden_size: The new size d', a multiple of the number of heads, at most the model's d.
        batches: Token ids (B, L) and attention masks (B, L) of texts to fit on.
    """
    from transformers import BertConfig, BertModel

    norms = [model.embeddings.LayerNorm]
    for layer in model.encoder.layer:
        norms += [layer.attention.output.LayerNorm, layer.output.LayerNorm]
    recorded = _record_norms(model, norms, batches)
    axes = _axes([outputs for _, outputs in recorded], hidden_size)
    config = BertConfig.from_dict(model.config.to_dict() | {"hidden_size": hidden_size})
    student = BertModel(config, add_pooling_layer=model.pooler is not None).float().eval()
    if model.pooler is not None:
        # The student's pooler computes the first d' components of the teacher's pooler output.
        dense = model.pooler.dense
        _set(student.pooler.dense, dense.weight[:hidden_size].double() @ axes, dense.bias[:hidden_size])
    masks = [mask.bool() for _, mask in batches]
    targets = [
        _NormTarget(norm, inputs, outputs, below, axes, masks)
        for norm, (inputs, outputs), (_, below) in zip(
            norms, recorded, [recorded[0], *recorded], strict=False
        )
    ]
    states = _embed(model, student, axes, batches, targets[0])
    for number, layer in enumerate(student.encoder.layer):
        old = model.encoder.layer[number]
        _project_attention(old.attention.self, layer.attention.self, axes)
        contexts = [
            _contexts(layer.attention.self, state, mask) for state, mask in zip(states, masks, strict=True)
        ]
        states = targets[2 * number + 1].fit(layer.attention.output, contexts, states)
        first = old.intermediate.dense
        _set(layer.intermediate.dense, first.weight.double() @ axes, first.bias)
        neurons = [layer.intermediate(state) for state in states]
        states = targets[2 * number + 2].fit(layer.output, neurons, states)
    return student


def _record_norms(model: Any, norms: list[Any], batches: Batches) -> list[tuple[list[Tensor], list[Tensor]]]:
    # The inputs and outputs of each normalization, (B, L, d) for each batch.
    recorded: list[tuple[list[Tensor], list[Tensor]]] = [([], []) for _ in norms]

    def recorder(inputs_and_outputs: tuple[list[Tensor], list[Tensor]]) -> Any:
        def record(_module: Any, inputs: Any, output: Tensor) -> None:
            inputs_and_outputs[0].append(inputs[0])
            inputs_and_outputs[1].append(output)

        return record

    handles = [norm.register_forward_hook(recorder(r)) for norm, r in zip(norms, recorded, strict=True)]
    try:
        for ids, mask in batches:
            model(input_ids=ids, attention_mask=mask)
    finally:
        for handle in handles:
            handle.remove()
    return recorded


class _NormTarget:
    # The inputs and outputs of a teacher's normalization, projected: what the student's is fitted to.

    def __init__(
        self,
        norm: Any,
        inputs: list[Tensor],
        outputs: list[Tensor],
        below: list[Tensor],
        axes: Tensor,
        masks: list[Tensor],
    ) -> None:
        self.masks = masks
        sums = _tokens(inputs, masks)
        # Center and scale the residual sums as LayerNorm does. Their overall magnitude is free, so choose it
        # such that the lower layers need the smallest possible correction.
        self.sums = self._scaled(sums, norm, axes)
        states = _tokens(below, masks)
        passed = self._scaled(states, norm, axes)
        self.sums *= ((states @ axes) * passed).sum() / (passed * passed).sum()
        self.outputs = _tokens(outputs, masks) @ axes

    @staticmethod
    def _scaled(sums: Tensor, norm: Any, axes: Tensor) -> Tensor:
        scaled: Tensor = (sums - sums.mean(1, keepdim=True)) * norm.weight.double()
        return scaled @ axes

    def fit(self, part: Any, inputs: list[Tensor], states: list[Tensor]) -> list[Tensor]:
        """Fits the student's LayerNorm(state + W input + b) and returns its outputs, (B, L, d') per batch."""
        below, x = _tokens(states, self.masks), _tokens(inputs, self.masks)
        x = torch.cat([x, torch.ones(len(x), 1, dtype=x.dtype)], 1)
        weight = solve_ridge(x.T @ x, x.T @ (self.sums - below))
        _set(part.dense, weight[:-1].T, weight[-1])
        sums = [part.dense(i) + s for i, s in zip(inputs, states, strict=True)]
        return self.normalize(part.LayerNorm, sums)

    def normalize(self, norm: nn.LayerNorm, sums: list[Tensor]) -> list[Tensor]:
        """Fits the scale and shift of each component to the teacher's outputs; returns the outputs."""
        norm.weight.data.fill_(1.0)
        norm.bias.data.zero_()
        plain = _tokens([norm(s) for s in sums], self.masks)
        center, target = plain.mean(0), self.outputs.mean(0)
        spread = ((plain - center) ** 2).mean(0).clamp(min=1e-12)
        slope = ((plain - center) * (self.outputs - target)).mean(0) / spread
        norm.weight.data = slope.float()
        norm.bias.data = (target - slope * center).float()
        return [norm(s) for s in sums]


def _tokens(batches: list[Tensor], masks: list[Tensor]) -> Tensor:
    # (tokens, d) float64, without padding.
    return torch.cat([batch[mask] for batch, mask in zip(batches, masks, strict=True)]).double()


def _axes(states: list[list[Tensor]], hidden_size: int) -> Tensor:
    # (d, d') float64. The hidden states of padding are included; they change the axes little.
    moments = sum((flat := batch.flatten(0, 1).double()).T @ flat for layer in states for batch in layer)
    _, directions = torch.linalg.eigh(torch.as_tensor(moments))
    axes: Tensor = directions.flip(1)[:, :hidden_size]
    # A normalization removes the mean over components. A reflection maps the direction of least energy to
    # this mean, so that the normalization removes nothing else.
    mirror = torch.full((hidden_size,), hidden_size**-0.5, dtype=axes.dtype)
    mirror[-1] -= 1
    if hidden_size > 1:
        axes = axes - 2 * (axes @ mirror)[:, None] * mirror / (mirror @ mirror)
    return axes.contiguous()


def _embed(model: Any, student: Any, axes: Tensor, batches: Batches, target: _NormTarget) -> list[Tensor]:
    # Each embedding table is centered and scaled as LayerNorm does with their sum.
    old, new = model.embeddings, student.embeddings
    scale = old.LayerNorm.weight.double()
    for name in ("word_embeddings", "position_embeddings", "token_type_embeddings"):
        table = getattr(old, name).weight.double()
        getattr(new, name).weight.data = (((table - table.mean(1, keepdim=True)) * scale) @ axes).float()
    sums = []
    for ids, _ in batches:
        places = torch.arange(ids.shape[1])
        sums.append(
            new.word_embeddings(ids)
            + new.position_embeddings(places)[None]
            + new.token_type_embeddings(torch.zeros_like(ids))
        )
    return target.normalize(new.LayerNorm, sums)


def _project_attention(old: Any, new: Any, axes: Tensor) -> None:
    # Per head: approximates the product of queries and keys, biases included, and the values at lower rank.
    heads = int(old.num_attention_heads)
    wide, narrow = old.attention_head_size, new.attention_head_size
    parts = {}
    for name in ("query", "key", "value"):
        layer = getattr(old, name)
        whole = torch.cat([layer.weight.double() @ axes, layer.bias.double()[:, None]], 1)
        parts[name] = whole.view(heads, wide, -1)
    projected: dict[str, list[Tensor]] = {name: [] for name in parts}
    for head in range(heads):
        query, key = _factors(parts["query"][head].T @ parts["key"][head], narrow)
        # Attention divides its scores by the square root of the head's size, which is smaller now.
        root = (narrow / wide) ** 0.25
        projected["query"].append(root * query)
        projected["key"].append(root * key)
        _, sizes, right = torch.linalg.svd(parts["value"][head], full_matrices=False)
        projected["value"].append(sizes[:narrow, None] * right[:narrow])
    for name, blocks in projected.items():
        whole = torch.cat(blocks)
        _set(getattr(new, name), whole[:, :-1], whole[:, -1])


def _factors(product: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    # Two factors (rank, m) of a product (m, m), such that first^T second is closest to it.
    left, sizes, right = torch.linalg.svd(product, full_matrices=False)
    root = sizes[:rank].sqrt()
    return (left[:, :rank] * root).T, root[:, None] * right[:rank]


def _contexts(attention: Any, states: Tensor, mask: Tensor) -> Tensor:
    # The attended values (B, L, d') of a layer's attention.
    heads = int(attention.num_attention_heads)

    def split(values: Tensor) -> Tensor:
        return values.view(*values.shape[:2], heads, -1).transpose(1, 2)

    query, key, value = (split(getattr(attention, name)(states)) for name in ("query", "key", "value"))
    attended = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask[:, None, None].bool()
    )
    return attended.transpose(1, 2).flatten(2)


def _set(linear: Any, weight: Tensor, bias: Tensor) -> None:
    linear.weight.data = weight.float().contiguous().clone()
    linear.bias.data = bias.float().contiguous().clone()
