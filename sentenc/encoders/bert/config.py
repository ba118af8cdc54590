"""The shape of a BERT with mean pooling: everything but its weights."""

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

HiddenAct = Literal["gelu", "relu"]
# What matrices are multiplied in.
Compute = Literal["float32", "int8"]

_HIDDEN_ACTS = ("gelu", "relu")
_POSITIVE = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings", "type_vocab_size",
)  # fmt: skip
_SWITCHES = ("normalize", "linear")
# A text is cut to [CLS], at least one token of its own, [SEP].
_LEAST_TOKENS = 3

LINEAR = "linear.weight"


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """Configuration of a BERT sentence encoder (Devlin et al., NAACL 2019; TinyBERT: Jiao et al., 2020).

    The vector of a text is the mean of its tokens' last hidden states, special tokens included.

    Attributes:
        vocab_size: V, the rows of the word embeddings.
        hidden_size: d, the length of a hidden state, and of the sentence vector.
        num_hidden_layers: Transformer layers.
        num_attention_heads: Heads of each; they share out d evenly.
        intermediate_size: Width of the feed-forward network.
        max_position_embeddings: Positions that have an embedding.
        type_vocab_size: Rows of the token type embeddings; only the first is used.
        layer_norm_eps: Added to the variance in every layer norm.
        hidden_act: phi of the feed-forward network; ``"gelu"`` is the exact one, by the error function.
        normalize: Whether the mean is scaled to unit length.
        max_tokens: Where a text is cut, special tokens included.
        linear: Whether a matrix (d, d) without bias comes after all that.

    Raises:
        ValueError: A value is out of range; the message says which, and what was expected.
    """

    vocab_size: int
    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    intermediate_size: int
    max_position_embeddings: int = 512
    type_vocab_size: int = 2
    layer_norm_eps: float = 1e-12
    hidden_act: HiddenAct = "gelu"
    normalize: bool = True
    max_tokens: int = 128
    linear: bool = False

    def __post_init__(self) -> None:
        """Checks every value."""
        for name in _POSITIVE:
            _check_integer(name, getattr(self, name))
        _check_integer("max_tokens", self.max_tokens, _LEAST_TOKENS)
        for name in _SWITCHES:
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name} is {getattr(self, name)!r}, expected True or False")
        if self.hidden_act not in _HIDDEN_ACTS:
            raise ValueError(f"hidden_act is {self.hidden_act!r}, expected one of {', '.join(_HIDDEN_ACTS)}")
        eps = self.layer_norm_eps
        if not isinstance(eps, int | float) or isinstance(eps, bool) or not math.isfinite(eps) or eps <= 0:
            raise ValueError(f"layer_norm_eps is {eps!r}, expected a number above 0")
        if self.hidden_size % self.num_attention_heads:
            raise ValueError(
                f"hidden_size is {self.hidden_size}, expected a multiple of num_attention_heads"
                f" ({self.num_attention_heads})"
            )
        if self.max_tokens > self.max_position_embeddings:
            raise ValueError(
                f"max_tokens is {self.max_tokens}, expected at most max_position_embeddings"
                f" ({self.max_position_embeddings})"
            )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every weight, named as ``transformers.BertModel`` names them, (out, in).

        The matrix of ``linear`` is ``"linear.weight"``, (out, in) as well.
        """
        d, wide = self.hidden_size, self.intermediate_size
        shapes: dict[str, tuple[int, ...]] = {
            "embeddings.word_embeddings.weight": (self.vocab_size, d),
            "embeddings.position_embeddings.weight": (self.max_position_embeddings, d),
            "embeddings.token_type_embeddings.weight": (self.type_vocab_size, d),
            "embeddings.LayerNorm.weight": (d,),
            "embeddings.LayerNorm.bias": (d,),
        }
        for layer in range(self.num_hidden_layers):
            for name, rows, columns in (
                ("attention.self.query", d, d),
                ("attention.self.key", d, d),
                ("attention.self.value", d, d),
                ("attention.output.dense", d, d),
                ("intermediate.dense", wide, d),
                ("output.dense", d, wide),
            ):
                shapes[f"encoder.layer.{layer}.{name}.weight"] = (rows, columns)
                shapes[f"encoder.layer.{layer}.{name}.bias"] = (rows,)
            for name in ("attention.output.LayerNorm", "output.LayerNorm"):
                shapes[f"encoder.layer.{layer}.{name}.weight"] = (d,)
                shapes[f"encoder.layer.{layer}.{name}.bias"] = (d,)
        if self.linear:
            shapes[LINEAR] = (d, d)
        return shapes

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "BertConfig":
        """The inverse of :meth:`to_dict`; refuses missing and unknown keys."""
        known = {field.name for field in fields(cls)}
        if set(values) != known:
            missing, unexpected = sorted(known - set(values)), sorted(set(values) - known)
            raise ValueError(
                f"keys missing: {missing}, unexpected: {unexpected}, expected exactly {sorted(known)}"
            )
        return cls(**values)


def _check_integer(name: str, value: Any, least: int = 1) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{name} is {value!r}, expected an integer of {least} or more")
