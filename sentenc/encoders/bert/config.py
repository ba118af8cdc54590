"""Configuration of a BERT sentence encoder: everything but its weights."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from sentenc.validation import check_choice, check_integer, check_number, check_switch

HiddenAct = Literal["gelu", "relu"]
# The last hidden states that make the sentence vector: the mean of all, or that of [CLS].
Pooling = Literal["mean", "cls"]
# model_type of transformers. A DistilBERT is read as a BERT.
ModelType = Literal["bert", "mpnet"]
# The type in which matrices are multiplied.
Compute = Literal["float32", "int8"]

_POSITIVE = (
    "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size",
    "max_position_embeddings",
)  # fmt: skip
_SWITCHES = ("normalize", "linear")
# Fields that older folders lack, and what they mean there.
_LATER = {"pooling": "mean", "model_type": "bert"}
# A cut text has [CLS], at least one token of its own and [SEP].
MIN_TOKENS = 3

LINEAR = "linear.weight"
# The groups of distances of two tokens of an MPNet, each of which has a bias.
DISTANCE_GROUPS = 32
TOKEN_TYPES, DISTANCES = "embeddings.token_type_embeddings.weight", "encoder.relative_attention_bias.weight"


@dataclass(frozen=True, kw_only=True)
class BertConfig:
    """Configuration of a BERT sentence encoder (Devlin et al., NAACL 2019; TinyBERT: Jiao et al., 2020).

    An MPNet (Song et al., NeurIPS 2020) is a BERT with special tokens of its own, without token types, and with
    a learned bias of each head for each distance of two tokens.

    The vector of a text is the mean of the last hidden states of its tokens, special tokens included, or the
    last hidden state of [CLS].

    Attributes:
        vocab_size: V, the number of rows of the word embeddings.
        hidden_size: d, the number of components of a hidden state, and of the sentence vector.
        num_hidden_layers: The number of transformer layers.
        num_attention_heads: The number of heads of each layer. It divides d.
        intermediate_size: The width of the feed-forward network.
        max_position_embeddings: The number of positions that have an embedding.
        type_vocab_size: The number of token type embeddings. Only the first is used. 0 for an MPNet.
        layer_norm_eps: The number that every layer norm adds to the variance.
        hidden_act: The activation of the feed-forward network. ``"gelu"`` is the exact one, by the error
            function.
        pooling: ``"mean"`` of all last hidden states, or ``"cls"``, the one of [CLS].
        normalize: Whether the pooled vector is scaled to unit length.
        max_tokens: The number of tokens at which a text is cut, special tokens included.
        linear: Whether a matrix (d, d) without bias follows.
        model_type: ``"bert"``, or ``"mpnet"``.

    Raises:
        TypeError: A value is of the wrong type. The message has the name, the value and what was expected.
        ValueError: A value is out of range. The message has the same three.
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
    pooling: Pooling = "mean"
    model_type: ModelType = "bert"

    def __post_init__(self) -> None:
        """Checks every value."""
        for name in _POSITIVE:
            self._set(name, check_integer(name, getattr(self, name)))
        self._set("max_tokens", check_integer("max_tokens", self.max_tokens, at_least=MIN_TOKENS))
        check_choice("model_type", self.model_type, get_args(ModelType))
        least, most = (0, 0) if self.is_mpnet else (1, None)
        types = check_integer("type_vocab_size", self.type_vocab_size, at_least=least, at_most=most)
        self._set("type_vocab_size", types)
        for name in _SWITCHES:
            check_switch(name, getattr(self, name))
        check_choice("pooling", self.pooling, get_args(Pooling))
        check_choice("hidden_act", self.hidden_act, get_args(HiddenAct))
        self._set("layer_norm_eps", check_number("layer_norm_eps", self.layer_norm_eps, above=0))
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

    @property
    def is_mpnet(self) -> bool:
        """Whether the model is an MPNet."""
        return self.model_type == "mpnet"

    def _set(self, name: str, value: Any) -> None:
        # Sets a field of the frozen dataclass. NumPy's numbers have become Python's, which JSON can write.
        object.__setattr__(self, name, value)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the name, as in ``transformers.BertModel``, and the shape of every weight.

        Matrices have shape (out, in). The matrix of ``linear`` is named ``"linear.weight"``.
        """
        d, wide = self.hidden_size, self.intermediate_size
        shapes: dict[str, tuple[int, ...]] = {
            "embeddings.word_embeddings.weight": (self.vocab_size, d),
            "embeddings.position_embeddings.weight": (self.max_position_embeddings, d),
        }
        if self.is_mpnet:
            shapes[DISTANCES] = (DISTANCE_GROUPS, self.num_attention_heads)
        else:
            shapes[TOKEN_TYPES] = (self.type_vocab_size, d)
        shapes |= {"embeddings.LayerNorm.weight": (d,), "embeddings.LayerNorm.bias": (d,)}
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
        """Returns the fields as plain values, for JSON, without those that have the meaning of older folders."""
        # Models that were saved before these fields existed keep their fingerprints.
        values = asdict(self)
        return {name: value for name, value in values.items() if name not in _LATER or value != _LATER[name]}

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "BertConfig":
        """Creates a configuration from the output of :meth:`to_dict`.

        What :meth:`to_dict` leaves out may be missing.

        Raises:
            TypeError: A value is of the wrong type.
            ValueError: A key is missing or unknown, or a value is out of range.
        """
        values = _LATER | values
        known = {field.name for field in fields(cls)}
        if set(values) != known:
            missing, unexpected = sorted(known - set(values)), sorted(set(values) - known)
            raise ValueError(
                f"keys missing: {missing}, unexpected: {unexpected}, expected exactly {sorted(known)}"
            )
        return cls(**values)
