"""The options of a run, and the description of its encoder that is stored with the vectors."""

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from sentenc.encoders.encode_options import OnOverflow
from sentenc.encoders.roles import Role

if TYPE_CHECKING:
    from sentenc.encoders.base import Encoder

VectorType = Literal["float32", "float16", "int8"]
# Options that change neither a vector nor a column.
_NOT_STORED = ("batch_size", "on_overflow")


@dataclass(frozen=True)
class EncodingOptions:
    """The options of a run; see :func:`sentenc.encode_files`."""

    text: str | None = None
    column: str = "embedding"
    columns: tuple[str, ...] | None = None
    dtype: VectorType = "float32"
    normalize_embeddings: bool = False
    truncate_dim: int | None = None
    prompt_name: str | None = None
    role: Role | None = None
    format: str | None = None
    batch_size: int = 64
    on_overflow: OnOverflow = "warn"

    def for_table(self) -> dict[str, Any]:
        """Returns the options for ``Encoder.encode_table``, apart from the name of the text column."""
        names = (
            "column", "dtype", "normalize_embeddings", "truncate_dim", "prompt_name", "role", "batch_size",
            "on_overflow",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names}

    def described(self, model: str, encoder: "Encoder") -> dict[str, Any]:
        """Returns the model and the options on which vectors and columns depend, as values of JSON."""
        options = {name: value for name, value in asdict(self).items() if name not in _NOT_STORED}
        return {
            "model": model,
            "fingerprint": encoder.fingerprint(),
            "space": encoder.space,
            "dim": encoder.dim if self.truncate_dim is None else self.truncate_dim,
            "options": options | {"columns": None if self.columns is None else list(self.columns)},
        }


def difference(described: dict[str, Any], other: dict[str, Any]) -> str | None:
    """Returns how two descriptions differ, "THIS, expected OTHER", or None if their vectors would be equal."""
    if described["fingerprint"] != other["fingerprint"]:
        return (
            f"the model is {described['model']!r} (fingerprint {described['fingerprint']}), expected "
            f"{other['model']!r} (fingerprint {other['fingerprint']})"
        )
    mine, theirs = described["options"], other["options"]
    names = [name for name in {**mine, **theirs} if mine.get(name) != theirs.get(name)]
    if not names:
        return None
    return "; ".join(f"{name} is {mine.get(name)!r}, expected {theirs.get(name)!r}" for name in names)
