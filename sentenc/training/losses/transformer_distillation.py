"""Transformer distillation: a student BERT learns its teacher's attention, hidden states and embeddings.

TinyBERT (Jiao et al., Findings of EMNLP 2020), equations 7 to 9, with every loss the mean over the tokens of
a text and then over the texts: padding has no part in any, so that neither the loss nor its gradient depends
on what else is in a batch.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sentenc.nn.bert_states import BertStates, attention_modules, bert_states
from sentenc.training.losses.base import Loss, unit
from sentenc.training.losses.checks import checked_number

_PARTS = ("attention", "hidden", "embeddings", "sentence")


def attention_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """The batch mean of sum_ij m_i m_j (A^S_ij - A^T_ij)^2 / (h sum_ij m_i m_j), summed over h heads.

    Args:
        student: (B, h, L, L) scores before the softmax.
        teacher: (B, h, L, L).
        mask: (B, L) bool, m.
    """
    pairs = (mask[:, :, None] & mask[:, None, :]).to(student.dtype)
    squares = ((student - teacher) ** 2).mean(1) * pairs
    return (squares.sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)).mean()


def state_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """The batch mean of sum_i m_i |s_i - t_i|^2 / (d sum_i m_i).

    Args:
        student: (B, L, d) states, in the teacher's space.
        teacher: (B, L, d).
        mask: (B, L) bool, m.
    """
    kept = mask.to(student.dtype)
    squares = ((student - teacher) ** 2).mean(2) * kept
    return (squares.sum(1) / kept.sum(1).clamp(min=1)).mean()


def layer_map(layers: int, teacher_layers: int, kind: str | Sequence[int]) -> tuple[int, ...]:
    """g(m) for the student's layers m = 1 to M: the teacher's layer that each learns from, 1 to N.

    Args:
        layers: M.
        teacher_layers: N.
        kind: "uniform" (m N / M, halves rounded up), "top" (m + N - M), "bottom" (m), or the M numbers.

    Raises:
        ValueError: The student has more layers, or the numbers are not M from 1 to N.
    """
    if not isinstance(kind, str):
        found = tuple(kind)
        if len(found) != layers or not all(isinstance(g, int) and 1 <= g <= teacher_layers for g in found):
            raise ValueError(
                f"layer_map is {list(found)}, expected {layers} numbers from 1 to {teacher_layers}, the teacher's layers"
            )
        return found
    if layers > teacher_layers:
        raise ValueError(
            f"the student has {layers} layers and the teacher {teacher_layers}: layer_map must list the teacher's"
        )
    maps = {
        "uniform": [(2 * m * teacher_layers + layers) // (2 * layers) for m in range(1, layers + 1)],
        "top": [m + teacher_layers - layers for m in range(1, layers + 1)],
        "bottom": list(range(1, layers + 1)),
    }
    if kind not in maps:
        raise ValueError(f"layer_map is {kind!r}, expected {', '.join(map(repr, maps))} or a list of numbers")
    return tuple(maps[kind])


class TransformerDistillation(Loss):
    """Single texts (or pairs in one sequence); the teacher computes its side of every batch.

    Args:
        student: The student's ``BertModel``; its shape is all that is used.
        teacher: A model built like BERT. It is put into evaluation mode and frozen; it is not part of this
            module's parameters or state.
        tokens: (V,) int64, the teacher's id of each of the student's tokens; None where they are the same.
        attention: Weight of the attention losses, summed over the student's layers.
        hidden: Weight of the hidden states' losses, summed over the layers.
        embeddings: Weight of the embedding loss.
        sentence: Weight of one minus the cosine of the student's vectors (through a projection, if its
            dimension is another) to the mean of the teacher's last hidden states.
        layer_map: See :func:`layer_map`.
        bias: Projections with a bias; the paper's have none.
        generator: Source of the projections' start.

    Every layer has a projection of its own, (d', d), which starts as the identity if d' = d, and orthogonal
    otherwise.

    Raises:
        TypeError: A model is not built like BERT.
        ValueError: The models do not fit, or no weight is above zero.
    """

    columns = 1
    needs_states = True
    tokens: Tensor | None

    def __init__(
        self,
        student: nn.Module,
        teacher: nn.Module,
        *,
        tokens: Tensor | None = None,
        attention: float = 1.0,
        hidden: float = 1.0,
        embeddings: float = 1.0,
        sentence: float = 0.0,
        layer_map: str | Sequence[int] = "uniform",
        bias: bool = False,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        given = dict(zip(_PARTS, (attention, hidden, embeddings, sentence), strict=True))
        self.weights = {name: checked_number(name, value, 0) for name, value in given.items()}
        if not any(self.weights.values()):
            raise ValueError(f"{', '.join(_PARTS)} are all 0: nothing to learn")
        small, large = attention_modules(student), attention_modules(teacher)
        self.map = _layer_map(len(small), len(large), layer_map)
        heads = small[0].num_attention_heads, large[0].num_attention_heads
        if self.weights["attention"] and heads[0] != heads[1]:
            raise ValueError(
                f"the student has {heads[0]} attention heads and the teacher {heads[1]}: expected as many, or "
                "attention = 0"
            )
        widths = _width(student), _width(teacher)
        self.projections = nn.ModuleList(_projection(*widths, bias, generator) for _ in range(len(small) + 1))
        self.sentence_projection = _projection(*widths, bias, generator)
        self._check_tokens(student, teacher, tokens)
        self.register_buffer("tokens", tokens, persistent=False)
        # In a tuple it is no submodule: not trained, not saved, not counted.
        self._teacher = (teacher.eval().requires_grad_(False),)
        self.parts: dict[str, float] = {}

    def loss(self, vectors: list[Tensor], teacher: Tensor | None) -> Tensor:
        """Never called: this objective needs states."""
        raise TypeError(
            "TransformerDistillation needs the student's states, expected state_loss to be called"
        )

    def state_loss(self, states: BertStates) -> Tensor:
        """The weighted sum of the losses of a batch; ``parts`` then has each of them, unweighted."""
        target = self._teach(states)
        losses: dict[str, Tensor] = {}
        if self.weights["attention"]:
            pairs = zip(states.scores, self.map, strict=True)
            losses["attention"] = torch.stack(
                [attention_loss(scores, target.scores[g - 1], states.mask) for scores, g in pairs]
            ).sum()
        if self.weights["hidden"]:
            triples = zip(self.projections[1:], states.hidden, self.map, strict=True)
            losses["hidden"] = torch.stack(
                [
                    state_loss(project(hidden), target.hidden[g - 1], states.mask)
                    for project, hidden, g in triples
                ]
            ).sum()
        if self.weights["embeddings"]:
            losses["embeddings"] = state_loss(
                self.projections[0](states.embeddings), target.embeddings, states.mask
            )
        if self.weights["sentence"]:
            losses["sentence"] = self._sentence_loss(states, target)
        self.parts = {name: float(value.detach()) for name, value in losses.items()}
        return torch.stack([self.weights[name] * value for name, value in losses.items()]).sum()

    def _teach(self, states: BertStates) -> BertStates:
        (teacher,) = self._teacher
        if teacher.training:
            raise ValueError("the teacher is in training mode, expected evaluation mode: no dropout")
        device = states.mask.device
        if next(teacher.parameters()).device != device:
            teacher.to(device)
        inputs = dict(states.inputs)
        if self.tokens is not None:
            inputs["input_ids"] = self.tokens[inputs["input_ids"]]
        with torch.no_grad():
            return bert_states(teacher, inputs, states.mask)

    def _sentence_loss(self, states: BertStates, target: BertStates) -> Tensor:
        if states.vectors is None:
            raise ValueError("sentence is above 0, but the student gives no sentence vectors")
        kept = states.mask[..., None].to(target.hidden[-1].dtype)
        mean = (target.hidden[-1] * kept).sum(1) / kept.sum(1).clamp(min=1)
        cosines = (unit(self.sentence_projection(states.vectors)) * unit(mean)).sum(1)
        return (1 - cosines).mean()

    def _check_tokens(self, student: Any, teacher: Any, tokens: Tensor | None) -> None:
        sizes = int(student.config.vocab_size), int(teacher.config.vocab_size)
        if tokens is None and sizes[0] > sizes[1]:
            raise ValueError(
                f"the student has {sizes[0]} tokens and the teacher {sizes[1]}: expected the teacher's, or a map"
            )
        if tokens is not None and (tokens.ndim != 1 or int(tokens.max()) >= sizes[1]):
            raise ValueError(
                f"tokens has shape {tuple(tokens.shape)} and goes up to {int(tokens.max())}, expected (V,) ids "
                f"below {sizes[1]}"
            )


def token_map(student: Any, teacher: Any) -> Tensor | None:
    """The teacher's id of each of a student's tokens, (V,) int64; None if the vocabularies are one.

    The teacher then reads the student's pieces of a text: position by position they are the same tokens.

    Args:
        student: The student's ``PreTrainedTokenizerFast``.
        teacher: The teacher's.

    Raises:
        ValueError: The student has a token that the teacher lacks.
    """
    small, large = student.get_vocab(), teacher.get_vocab()
    if small == large:
        return None
    missing = sorted(set(small) - set(large))
    if missing:
        raise ValueError(
            f"the teacher lacks {len(missing)} of the student's {len(small)} tokens, the first of them "
            f"{missing[0]!r}: expected the teacher's vocabulary, or a part of it"
        )
    found = torch.zeros(max(small.values()) + 1, dtype=torch.int64)
    for token, index in small.items():
        found[index] = large[token]
    return found


# The method's argument is called like the function.
_layer_map = layer_map


def _width(model: Any) -> int:
    return int(model.config.hidden_size)


def _projection(size: int, teacher: int, bias: bool, generator: torch.Generator | None) -> nn.Linear:
    layer = nn.Linear(size, teacher, bias=bias)
    if size == teacher:
        nn.init.eye_(layer.weight)
    else:
        nn.init.orthogonal_(layer.weight, generator=generator)
    if bias:
        nn.init.zeros_(layer.bias)
    return layer
