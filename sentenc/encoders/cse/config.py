"""Configuration of a CSE: everything but its weights."""

from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from sentenc.validation import check_choice, check_integer

Combine = Literal["residual", "concat", "both"]
Phi = Literal["identity", "tanh", "relu", "gelu"]
Pooling = Literal["mean", "sum", "max"]
Windows = Literal["valid", "padded"]
Unknown = Literal["skip", "row"]

_CHOICES: dict[str, tuple[str, ...]] = {
    "combine": get_args(Combine),
    "phi": get_args(Phi),
    "pooling": get_args(Pooling),
    "windows": get_args(Windows),
    "unknown": get_args(Unknown),
}
_POSITIVE = ("vocab_size", "embedding_dim", "num_filters", "max_tokens")


@dataclass(frozen=True, kw_only=True)
class CSEConfig:
    """Configuration of the n-gram CNN sentence encoder (Jiao, Wang, Feng, COLING 2018).

    With token embeddings x_1..x_n, filters W_h of width h and bias b_h, the features of a width are
    s_h = pool_i phi(sum_j x_{i+j} W_h^(j) + b_h), and the word path is u = sum_i a_i x_i / sum_i a_i. With a
    bias b, the word path computes u P + b / n for a text of n tokens.

    Attributes:
        vocab_size: V, the number of rows of the embedding matrix.
        embedding_dim: d, the number of components of a token embedding.
        output_dim: D, the number of components of u P. With None, P is the identity and D = d.
        widths: H, the n-gram widths in rising order. Empty for an average of words without n-grams.
        num_filters: k, the number of filters of each width.
        combine: ``"residual"``: e = u P + sum_h s_h Q_h. ``"concat"``: e = [u P; s_h for h in H].
            ``"both"``: e = [u P + sum_h s_h Q_h; s_h for h in H], which keeps the features for a classifier.
        phi: The non-linearity of the n-gram path. With ``"identity"`` and sum pooling, the model is almost a
            bag of words.
        pooling: The pooling over the windows of a sentence.
        windows: ``"valid"``: the windows within the sentence; a sentence shorter than h has one window,
            zero-padded on the right. ``"padded"``: one window begins at every token, with h - 1 zero rows on
            the right.
        average_dim: A, the number of components of a plain average that follows the sentence vector:
            mean_i y_i of the rows y of a V x A matrix, without weights. A classifier can use what the
            weights a_i suppress, function words above all. It comes after u P + ..., and before concatenated
            s_h.
        bias: Whether the word path has a bias. It is divided by the number of tokens, so that its part in the
            direction of a vector is the same for texts of any length: n (u P + b / n) is a sum of rows plus a
            constant. A bias that is not divided would be the same as another row for every token.
        word_path: Whether the model has u. Without it, ``combine`` is ``"concat"``.
        unknown: ``"skip"`` leaves unknown words out. ``"row"`` uses the row of the unknown token for them.
        max_tokens: The number of tokens at which a text is cut. The model itself has no limit.

    Raises:
        TypeError: A value is of the wrong type. The message has the name, the value and what was expected.
        ValueError: A value is out of range. The message has the same three.
    """

    vocab_size: int
    embedding_dim: int = 256
    output_dim: int | None = None
    widths: tuple[int, ...] = (2, 3)
    num_filters: int = 128
    combine: Combine = "residual"
    phi: Phi = "relu"
    pooling: Pooling = "mean"
    windows: Windows = "valid"
    average_dim: int = 0
    bias: bool = False
    word_path: bool = True
    unknown: Unknown = "skip"
    max_tokens: int = 8192

    def __post_init__(self) -> None:
        """Checks every value."""
        for name, choices in _CHOICES.items():
            check_choice(name, getattr(self, name), choices)
        for name in _POSITIVE:
            self._set(name, check_integer(name, getattr(self, name)))
        self._set("average_dim", check_integer("average_dim", self.average_dim, at_least=0))
        if self.output_dim is not None:
            self._set("output_dim", check_integer("output_dim", self.output_dim))
        self._set("widths", tuple(check_integer("widths", width) for width in self.widths))
        if list(self.widths) != sorted(set(self.widths)):
            raise ValueError(f"widths is {self.widths}, expected distinct integers in rising order")
        if not isinstance(self.bias, bool):
            raise TypeError(f"bias is {self.bias!r}, expected True or False")
        if self.bias and not self.word_path:
            raise ValueError("bias=True requires word_path=True, expected a model with a word path")
        if not self.word_path and (self.combine != "concat" or not self.widths):
            raise ValueError("word_path=False requires combine='concat' and at least one width")

    def _set(self, name: str, value: Any) -> None:
        # Sets a field of the frozen dataclass. NumPy's integers have become Python's, which JSON can write.
        object.__setattr__(self, name, value)

    @classmethod
    def paper(cls, vocab_size: int, **changes: Any) -> "CSEConfig":
        """Returns the configuration that its authors released: 100 linear filters of widths 1, 2 and 3.

        Their windows are summed, and the sums of the widths concatenated. The released code adds the padding
        of a batch to the sum; this one does not.
        """
        preset = cls(
            vocab_size=vocab_size, embedding_dim=300, widths=(1, 2, 3), num_filters=100, combine="concat",
            phi="identity", pooling="sum", windows="padded", word_path=False, unknown="row",
        )  # fmt: skip
        return replace(preset, **changes)

    @property
    def word_dim(self) -> int:
        """The number of components of u P; 0 without the word path."""
        return (self.output_dim or self.embedding_dim) if self.word_path else 0

    @property
    def num_features(self) -> int:
        """The number of n-gram features of all widths."""
        return len(self.widths) * self.num_filters

    @property
    def dim(self) -> int:
        """The number of components of the vector e."""
        return self.word_dim + self.average_dim + (self.num_features if self.combine != "residual" else 0)

    @property
    def sentence_dim(self) -> int:
        """The number of leading components of e, without plain average and features of ``"both"``."""
        has_more = self.combine == "both" or self.average_dim
        return self.word_dim if has_more and self.word_path else self.dim

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the name and shape of every weight of a checkpoint."""
        v, d, k = self.vocab_size, self.embedding_dim, self.num_filters
        shapes: dict[str, tuple[int, ...]] = {"embeddings": (v, d)}
        if self.word_path:
            shapes["token_weights"] = (v,)
            if self.output_dim is not None:
                shapes["projection"] = (d, self.output_dim)
            if self.bias:
                shapes["bias"] = (self.word_dim,)
        if self.average_dim:
            shapes["average"] = (v, self.average_dim)
        for h in self.widths:
            shapes[f"filters.{h}"] = (h, d, k)
            shapes[f"biases.{h}"] = (k,)
            if self.combine != "concat":
                shapes[f"output.{h}"] = (k, self.word_dim)
        return shapes

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain values, for JSON; ``bias`` only if there is one.

        Models without a bias therefore keep the fingerprints that they had before there was one.
        """
        values = asdict(self) | {"widths": list(self.widths)}
        if not self.bias:
            del values["bias"]
        return values

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "CSEConfig":
        """Creates a configuration from the output of :meth:`to_dict`.

        ``average_dim`` and ``bias`` may be missing: older models have neither.

        Raises:
            TypeError: A value is of the wrong type.
            ValueError: A key is missing or unknown, or a value is out of range.
        """
        values = {"average_dim": 0, "bias": False} | values
        known = {field.name for field in fields(cls)}
        if set(values) != known:
            missing, unexpected = sorted(known - set(values)), sorted(set(values) - known)
            raise ValueError(
                f"keys missing: {missing}, unexpected: {unexpected}, expected exactly {sorted(known)}"
            )
        return cls(**values | {"widths": tuple(values["widths"])})
