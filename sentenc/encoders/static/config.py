"""Configuration of a static model: everything but its rows and its tokenizer."""

from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from sentenc.encoders.cse.config import Unknown
from sentenc.validation import check_choice, check_integer, check_switch

Splitting = Literal["native", "tokenizers", "whitespace"]
Pooling = Literal["mean", "mean_sqrt_len", "max", "count", "presence"]

# A limit that no text reaches.
UNLIMITED = 2**31 - 1


@dataclass(frozen=True, kw_only=True)
class StaticConfig:
    """Configuration of a static model.

    Attributes:
        vocab_size: V, the number of rows.
        embedding_dim: d, the number of components of a row and of a vector. For ``"count"`` and ``"presence"``, V.
        splitting: ``"native"``: WordPiece or whole words, by sentenc's own tokenizer. ``"tokenizers"``: any
            ``tokenizer.json``, by the package of this name. ``"whitespace"``: the ``WhitespaceTokenizer`` of
            sentence-transformers.
        pooling: ``"mean"`` of the rows of a text, ``"mean_sqrt_len"``, their sum divided by the square root of their
            number, or ``"max"``. Bags of words have no rows: ``"count"`` adds the weight of every token to the
            component of this token, and ``"presence"`` sets the component to the weight.
        normalize: Whether vectors are scaled to unit length.
        unknown: ``"skip"`` leaves the unknown token out of the pooling. ``"row"`` includes its row.
        max_tokens: The number of tokens, unknown ones included, at which a text is cut.
        max_characters: The number of characters at which a text is cut before it is split into tokens, or None.

    Raises:
        TypeError: A value is of the wrong type.
        ValueError: A value is out of range.
    """

    vocab_size: int
    embedding_dim: int
    splitting: Splitting = "native"
    pooling: Pooling = "mean"
    normalize: bool = False
    unknown: Unknown = "skip"
    max_tokens: int = UNLIMITED
    max_characters: int | None = None

    def __post_init__(self) -> None:
        """Checks every value."""
        for name in ("vocab_size", "embedding_dim", "max_tokens"):
            object.__setattr__(self, name, check_integer(name, getattr(self, name)))
        check_choice("splitting", self.splitting, get_args(Splitting))
        check_choice("pooling", self.pooling, get_args(Pooling))
        check_choice("unknown", self.unknown, get_args(Unknown))
        check_switch("normalize", self.normalize)
        if self.max_characters is not None:
            check_integer("max_characters", self.max_characters)
        if not self.has_rows and self.embedding_dim != self.vocab_size:
            raise ValueError(
                f"embedding_dim is {self.embedding_dim}, expected vocab_size {self.vocab_size} for a bag of words"
            )

    @property
    def has_rows(self) -> bool:
        """Whether tokens have rows. Those of a bag of words have a weight each."""
        return self.pooling not in ("count", "presence")

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Returns the name and shape of every weight of a checkpoint."""
        if self.has_rows:
            return {"embeddings": (self.vocab_size, self.embedding_dim)}
        return {"weights": (self.vocab_size,)}

    def to_dict(self) -> dict[str, Any]:
        """Returns the fields as plain values, for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "StaticConfig":
        """Creates a configuration from the output of :meth:`to_dict`.

        Raises:
            TypeError: A value is of the wrong type.
            ValueError: A key is missing or unknown, or a value is out of range.
        """
        known = {field.name for field in fields(cls)}
        if set(values) != known:
            missing, unexpected = sorted(known - set(values)), sorted(set(values) - known)
            raise ValueError(
                f"keys missing: {missing}, unexpected: {unexpected}, expected exactly {sorted(known)}"
            )
        return cls(**values)
