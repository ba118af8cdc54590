"""A BERT with a smaller hidden size, by principal components of its hidden states.

The directions U (d, d') are those in which the hidden states of all layers have most energy, and the student's
states stand for U^T times the teacher's. Embeddings and inner matrices are projected; every head's product of
queries and keys, and its values, become the best ones of lower rank. A layer normalization does not commute with
a projection: so, layer by layer from below, each output matrix and normalization is fitted by least squares to
the teacher's states, given what the student has below.
"""

from typing import Any

import torch
from torch import Tensor, nn

# Token ids (B, L) and attention masks (B, L).
Batches = list[tuple[Tensor, Tensor]]
# Ridge, as a share of the mean energy of an input.
_RIDGE = 1e-4


def solved(gram: Tensor, target: Tensor) -> Tensor:
    """Least squares with a small ridge: (n, n) second moments and (n, m) products to (n, m) weights."""
    ridge = _RIDGE * gram.diagonal().mean()
    found: Tensor = torch.linalg.solve(gram + ridge * torch.eye(len(gram), dtype=gram.dtype), target)
    return found


@torch.no_grad()
def narrowed(model: Any, hidden_size: int, batches: Batches) -> Any:
    """A ``BertModel`` of ``hidden_size``, otherwise of the shape of ``model``.

    Args:
        model: A ``transformers.BertModel`` in evaluation mode; not changed.
        hidden_size: d', a multiple of the number of heads, at most the model's d.
        batches: Token ids (B, L) and masks (B, L) of texts to fit on.
    """
    from transformers import BertConfig, BertModel

    norms = [model.embeddings.LayerNorm]
    for layer in model.encoder.layer:
        norms += [layer.attention.output.LayerNorm, layer.output.LayerNorm]
    taught = _normalized(model, norms, batches)
    axes = _axes([outputs for _, outputs in taught], hidden_size)
    config = BertConfig.from_dict(model.config.to_dict() | {"hidden_size": hidden_size})
    student = BertModel(config, add_pooling_layer=model.pooler is not None).float().eval()
    if model.pooler is not None:
        # The first d' components of what the teacher's pooler gives.
        dense = model.pooler.dense
        _set(student.pooler.dense, dense.weight[:hidden_size].double() @ axes, dense.bias[:hidden_size])
    masks = [mask.bool() for _, mask in batches]
    steps = [
        _Step(norm, inputs, outputs, below, axes, masks)
        for norm, (inputs, outputs), (_, below) in zip(norms, taught, [taught[0], *taught], strict=False)
    ]
    states = _embed(model, student, axes, batches, steps[0])
    for number, layer in enumerate(student.encoder.layer):
        old = model.encoder.layer[number]
        _project_attention(old.attention.self, layer.attention.self, axes)
        contexts = [
            _attended(layer.attention.self, state, mask) for state, mask in zip(states, masks, strict=True)
        ]
        states = steps[2 * number + 1].fit(layer.attention.output, contexts, states)
        first = old.intermediate.dense
        _set(layer.intermediate.dense, first.weight.double() @ axes, first.bias)
        neurons = [layer.intermediate(state) for state in states]
        states = steps[2 * number + 2].fit(layer.output, neurons, states)
    return student


def _normalized(model: Any, norms: list[Any], batches: Batches) -> list[tuple[list[Tensor], list[Tensor]]]:
    # Of each normalization what goes in and what comes out, (B, L, d) for each batch.
    seen: list[tuple[list[Tensor], list[Tensor]]] = [([], []) for _ in norms]

    def keeper(found: tuple[list[Tensor], list[Tensor]]) -> Any:
        def keep(_module: Any, inputs: Any, output: Tensor) -> None:
            found[0].append(inputs[0])
            found[1].append(output)

        return keep

    handles = [norm.register_forward_hook(keeper(found)) for norm, found in zip(norms, seen, strict=True)]
    try:
        for ids, mask in batches:
            model(input_ids=ids, attention_mask=mask)
    finally:
        for handle in handles:
            handle.remove()
    return seen


class _Step:
    # A normalization of the teacher, and what the student's in the same place is fitted to.

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
        # The sums, centered and scaled as the normalization does it but for the length, which it takes as any:
        # so that what comes from below has to be changed least.
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
        """Fits LN(state + W input + b) of a part of the student; returns what it gives (B, L, d')."""
        below, given = _tokens(states, self.masks), _tokens(inputs, self.masks)
        given = torch.cat([given, torch.ones(len(given), 1, dtype=given.dtype)], 1)
        weight = solved(given.T @ given, given.T @ (self.sums - below))
        _set(part.dense, weight[:-1].T, weight[-1])
        sums = [part.dense(i) + s for i, s in zip(inputs, states, strict=True)]
        return self.normalize(part.LayerNorm, sums)

    def normalize(self, norm: nn.LayerNorm, sums: list[Tensor]) -> list[Tensor]:
        """Sets scale and shift of each component to those that bring it closest to the teacher's."""
        norm.weight.data.fill_(1.0)
        norm.bias.data.zero_()
        plain = _tokens([norm(s) for s in sums], self.masks)
        center, aim = plain.mean(0), self.outputs.mean(0)
        spread = ((plain - center) ** 2).mean(0).clamp(min=1e-12)
        slope = ((plain - center) * (self.outputs - aim)).mean(0) / spread
        norm.weight.data = slope.float()
        norm.bias.data = (aim - slope * center).float()
        return [norm(s) for s in sums]


def _tokens(batches: list[Tensor], masks: list[Tensor]) -> Tensor:
    # (tokens, d) float64, without padding.
    return torch.cat([batch[mask] for batch, mask in zip(batches, masks, strict=True)]).double()


def _axes(states: list[list[Tensor]], hidden_size: int) -> Tensor:
    # (d, d') float64. Padding is as good a sample as any of what the layers make of tokens: it may stay.
    moments = sum((flat := batch.flatten(0, 1).double()).T @ flat for layer in states for batch in layer)
    _, directions = torch.linalg.eigh(torch.as_tensor(moments))
    axes: Tensor = directions.flip(1)[:, :hidden_size]
    # A normalization takes away the mean over components. A reflection makes that the direction of least
    # energy, so that nothing else is lost by it.
    mirror = torch.full((hidden_size,), hidden_size**-0.5, dtype=axes.dtype)
    mirror[-1] -= 1
    if hidden_size > 1:
        axes = axes - 2 * (axes @ mirror)[:, None] * mirror / (mirror @ mirror)
    return axes.contiguous()


def _embed(model: Any, student: Any, axes: Tensor, batches: Batches, step: _Step) -> list[Tensor]:
    # What is added up before the normalization is centered and scaled first, as the normalization does it.
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
    return step.normalize(new.LayerNorm, sums)


def _project_attention(old: Any, new: Any, axes: Tensor) -> None:
    # Per head: the products of queries and keys, biases included, and the values, at lower rank.
    heads = int(old.num_attention_heads)
    wide, narrow = old.attention_head_size, new.attention_head_size
    parts = {}
    for name in ("query", "key", "value"):
        layer = getattr(old, name)
        whole = torch.cat([layer.weight.double() @ axes, layer.bias.double()[:, None]], 1)
        parts[name] = whole.view(heads, wide, -1)
    found: dict[str, list[Tensor]] = {name: [] for name in parts}
    for head in range(heads):
        query, key = _factors(parts["query"][head].T @ parts["key"][head], narrow)
        # Scores are divided by the root of the head's size.
        root = (narrow / wide) ** 0.25
        found["query"].append(root * query)
        found["key"].append(root * key)
        left, sizes, right = torch.linalg.svd(parts["value"][head], full_matrices=False)
        del left
        found["value"].append(sizes[:narrow, None] * right[:narrow])
    for name, blocks in found.items():
        whole = torch.cat(blocks)
        _set(getattr(new, name), whole[:, :-1], whole[:, -1])


def _factors(product: Tensor, rank: int) -> tuple[Tensor, Tensor]:
    # (m, m) to two of shape (rank, m) with the closest first^T second.
    left, sizes, right = torch.linalg.svd(product, full_matrices=False)
    root = sizes[:rank].sqrt()
    return (left[:, :rank] * root).T, root[:, None] * right[:rank]


def _attended(attention: Any, states: Tensor, mask: Tensor) -> Tensor:
    # Contexts (B, L, d') of a layer's attention.
    heads = int(attention.num_attention_heads)

    def split(values: Tensor) -> Tensor:
        return values.view(*values.shape[:2], heads, -1).transpose(1, 2)

    query, key, value = (split(getattr(attention, name)(states)) for name in ("query", "key", "value"))
    found = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=mask[:, None, None].bool()
    )
    return found.transpose(1, 2).flatten(2)


def _set(linear: Any, weight: Tensor, bias: Tensor) -> None:
    linear.weight.data = weight.float().contiguous().clone()
    linear.bias.data = bias.float().contiguous().clone()
