"""Transformer distillation: a student BERT learns its teacher's attention, hidden states and embeddings.

TinyBERT (Jiao et al., Findings of EMNLP 2020), equations 7 to 9. Every loss is a mean over the tokens of a
text and then over the texts. Padding is excluded, so neither the loss of a text nor its gradient depends on
the other texts of the batch.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sentenc.nn.bert_states import BertStates, attention_modules, bert_states
from sentenc.training.losses.base import StateLoss, unit
from sentenc.validation import check_number

_PARTS = ("attention", "hidden", "embeddings", "sentence")


def attention_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Computes the batch mean of sum_ij m_i m_j (A^S_ij - A^T_ij)^2 / (h sum_ij m_i m_j), summed over heads.

    Args:
        student: (B, h, L, L) scores before the softmax.
        teacher: (B, h, L, L).
        mask: (B, L) bool, m.
    """
    pairs = (mask[:, :, None] & mask[:, None, :]).to(student.dtype)
    squares = ((student - teacher) ** 2).mean(1) * pairs
    return (squares.sum((1, 2)) / pairs.sum((1, 2)).clamp(min=1)).mean()


def hidden_state_loss(student: Tensor, teacher: Tensor, mask: Tensor) -> Tensor:
    """Computes the batch mean of sum_i m_i |s_i - t_i|^2 / (d sum_i m_i).

    Args:
        student: (B, L, d) hidden states, in the teacher's space.
        teacher: (B, L, d).
        mask: (B, L) bool, m.
    """
    tokens = mask.to(student.dtype)
    squares = ((student - teacher) ** 2).mean(2) * tokens
    return (squares.sum(1) / tokens.sum(1).clamp(min=1)).mean()


def layer_map(layers: int, teacher_layers: int, kind: str | Sequence[int]) -> tuple[int, ...]:
    """Returns g(m) for the student's layers m = 1 to M: the teacher's layer, 1 to N, that each learns from.

    Args:
        layers: M.
        teacher_layers: N.
        kind: "uniform" (m N / M, halves rounded up), "top" (m + N - M), "bottom" (m), or a list of g(1) to
            g(M).

    Raises:
        ValueError: ``kind`` is unknown, the list does not have M numbers from 1 to N, or M is above N and
            ``kind`` is no list.
    """
    if not isinstance(kind, str):
        numbers = tuple(kind)
        if len(numbers) != layers or not all(
            isinstance(g, int) and 1 <= g <= teacher_layers for g in numbers
        ):
            raise ValueError(
                f"layer_map is {list(numbers)}, expected {layers} numbers from 1 to {teacher_layers}, the "
                "teacher's layers"
            )
        return numbers
    if layers > teacher_layers:
        raise ValueError(
            f"the student has {layers} layers and the teacher {teacher_layers}: layer_map must be a list of "
            "the teacher's layers"
        )
    maps = {
        "uniform": [(2 * m * teacher_layers + layers) // (2 * layers) for m in range(1, layers + 1)],
        "top": [m + teacher_layers - layers for m in range(1, layers + 1)],
        "bottom": list(range(1, layers + 1)),
    }
    if kind not in maps:
        raise ValueError(f"layer_map is {kind!r}, expected {', '.join(map(repr, maps))} or a list of numbers")
    return tuple(maps[kind])


class TransformerDistillation(StateLoss):
    """The distillation of layer states on single texts, or pairs in one sequence.

    The teacher computes its states of every batch. Each layer of the student has its own projection (d', d)
    to the teacher's hidden size. It is initialized as the identity if d' = d, and as orthogonal otherwise.

    Args:
        student: The student's ``BertModel``, of which only the shape is used.
        teacher: A model built like BERT. It is put into evaluation mode and frozen, and is not part of this
            module's parameters or state.
        tokens: (V,) int64, the teacher's id of each of the student's tokens. None if the ids are equal.
        attention: Weight of the attention losses, summed over the student's layers.
        hidden: Weight of the hidden state losses, summed over the student's layers.
        embeddings: Weight of the embedding loss.
        sentence: Weight of one minus the cosine between the student's sentence vectors (through a projection,
            if the dimensions differ) and the mean of the teacher's last hidden states.
        layer_map: See :func:`layer_map`.
        bias: Give the projections a bias, unlike the paper.
        generator: Source of the initial projections.

    Raises:
        TypeError: A model is not built like BERT, or a weight is not a number.
        ValueError: The models do not fit, or no weight is above zero.
    """

    columns = 1
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
        weights = dict(zip(_PARTS, (attention, hidden, embeddings, sentence), strict=True))
        self.weights = {name: check_number(name, value, at_least=0) for name, value in weights.items()}
        if not any(self.weights.values()):
            raise ValueError(f"{', '.join(_PARTS)} are all 0, expected at least one above 0")
        student_layers, teacher_layers = attention_modules(student), attention_modules(teacher)
        self.map = _layer_map(len(student_layers), len(teacher_layers), layer_map)
        heads = student_layers[0].num_attention_heads, teacher_layers[0].num_attention_heads
        if self.weights["attention"] and heads[0] != heads[1]:
            raise ValueError(
                f"the student has {heads[0]} attention heads, expected {heads[1]}, the teacher's, or "
                "attention = 0"
            )
        sizes = _hidden_size(student), _hidden_size(teacher)
        self.projections = nn.ModuleList(
            _projection(*sizes, bias, generator) for _ in range(len(student_layers) + 1)
        )
        self.sentence_projection = _projection(*sizes, bias, generator)
        self._check_tokens(student, teacher, tokens)
        self.register_buffer("tokens", tokens, persistent=False)
        # In a tuple the teacher is no submodule: it is not trained, saved or counted.
        self._teacher = (teacher.eval().requires_grad_(False),)
        self.parts: dict[str, float] = {}

    def forward(self, states: BertStates) -> Tensor:
        """Computes the weighted sum of the losses of a batch, and stores the unweighted losses in ``parts``.

        Raises:
            ValueError: The teacher is in training mode, or the states lack sentence vectors that are needed.
        """
        target = self._teacher_states(states)
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
                    hidden_state_loss(project(hidden), target.hidden[g - 1], states.mask)
                    for project, hidden, g in triples
                ]
            ).sum()
        if self.weights["embeddings"]:
            losses["embeddings"] = hidden_state_loss(
                self.projections[0](states.embeddings), target.embeddings, states.mask
            )
        if self.weights["sentence"]:
            losses["sentence"] = self._sentence_loss(states, target)
        self.parts = {name: float(value.detach()) for name, value in losses.items()}
        return torch.stack([self.weights[name] * value for name, value in losses.items()]).sum()

    def _teacher_states(self, states: BertStates) -> BertStates:
        (teacher,) = self._teacher
        if teacher.training:
            raise ValueError("the teacher is in training mode, expected evaluation mode (no dropout)")
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
            raise ValueError("sentence is above 0, but the states have no sentence vectors")
        tokens = states.mask[..., None].to(target.hidden[-1].dtype)
        mean = (target.hidden[-1] * tokens).sum(1) / tokens.sum(1).clamp(min=1)
        cosines = (unit(self.sentence_projection(states.vectors)) * unit(mean)).sum(1)
        return (1 - cosines).mean()

    def _check_tokens(self, student: Any, teacher: Any, tokens: Tensor | None) -> None:
        sizes = int(student.config.vocab_size), int(teacher.config.vocab_size)
        if tokens is None and sizes[0] > sizes[1]:
            raise ValueError(
                f"the student has {sizes[0]} tokens and the teacher {sizes[1]}: pass the teacher's ids as "
                "tokens"
            )
        if tokens is not None and (tokens.ndim != 1 or int(tokens.max()) >= sizes[1]):
            raise ValueError(
                f"tokens has shape {tuple(tokens.shape)} and maximum {int(tokens.max())}, expected shape "
                f"(V,) and ids below {sizes[1]}"
            )


def token_map(student: Any, teacher: Any) -> Tensor | None:
    """Returns the teacher's id of each of a student's tokens, (V,) int64; None if the vocabularies are equal.

    With this map the teacher encodes a text in the student's tokens, so that positions correspond.

    Args:
        student: The student's ``PreTrainedTokenizerFast``.
        teacher: The teacher's.

    Raises:
        ValueError: The student has a token that the teacher lacks.
    """
    student_ids, teacher_ids = student.get_vocab(), teacher.get_vocab()
    if student_ids == teacher_ids:
        return None
    missing = sorted(set(student_ids) - set(teacher_ids))
    if missing:
        raise ValueError(
            f"the teacher lacks {len(missing)} of the student's {len(student_ids)} tokens, first "
            f"{missing[0]!r}, expected a vocabulary that is a part of the teacher's"
        )
    tokens = torch.zeros(max(student_ids.values()) + 1, dtype=torch.int64)
    for token, index in student_ids.items():
        tokens[index] = teacher_ids[token]
    return tokens


# The constructor's argument has the name of the function.
_layer_map = layer_map


def _hidden_size(model: Any) -> int:
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
