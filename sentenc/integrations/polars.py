"""An expression of Polars that computes sentence vectors."""

from typing import Any

from sentenc.encoders.encode_options import OnOverflow
from sentenc.encoders.roles import Role
from sentenc.errors import MissingExtraError
from sentenc.integrations.embedder import Model
from sentenc.integrations.worker_encoder import WorkerEncoder, import_pyarrow

try:
    import polars
except ImportError as error:
    raise MissingExtraError("polars", "polars", "an adapter of Polars") from error

_TEXT, _COLUMN = "text", "embedding"


def encode(
    texts: Any,
    *,
    model: Model = "cse-en",
    normalize_embeddings: bool = False,
    truncate_dim: int | None = None,
    batch_size: int = 64,
    on_overflow: OnOverflow = "warn",
    prompt_name: str | None = None,
    role: Role | None = None,
    threads: int | None = None,
) -> Any:
    """Returns an expression whose values are sentence vectors.

        >>> frame.with_columns(embedding=encode(polars.col("text"), model="cse-en"))

    It also runs in the streaming engine, as in ``sink_parquet``. A text that is null has the vector null. The process
    loads the model once.

    Args:
        texts: An expression of strings, or the name of a column.
        model: An encoder, or an argument of :func:`sentenc.load`.
        normalize_embeddings: Scale every vector to unit length.
        truncate_dim: Keep the first ``truncate_dim`` components. By default all.
        batch_size: The number of texts that go through the model together.
        on_overflow: ``"warn"``, ``"error"`` or ``"ignore"``, for texts with more tokens than the model uses.
        prompt_name: The name of a prompt of the model, which is put before every text. Not together with ``role``.
        role: ``"query"`` or ``"document"``, to encode the texts as these; None to encode them without a role.
        threads: The number of threads that encode. By default all cores, or those of the encoder.

    Returns:
        An expression of the type ``Array(Float32, dim)``.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: An option is out of range.
    """
    encoder = WorkerEncoder(
        model, threads=threads, text=_TEXT, column=_COLUMN, dtype="float32",
        normalize_embeddings=normalize_embeddings, truncate_dim=truncate_dim, batch_size=batch_size,
        on_overflow=on_overflow, prompt_name=prompt_name, role=role,
    )  # fmt: skip
    dim = encoder.empty().schema.field(_COLUMN).type.list_size
    expression = polars.col(texts) if isinstance(texts, str) else texts
    return expression.map_batches(
        _Vectors(encoder), return_dtype=polars.Array(polars.Float32, dim), is_elementwise=True
    )


class _Vectors:
    # A class can be pickled with an expression, and a closure cannot.
    def __init__(self, encoder: WorkerEncoder) -> None:
        self._encoder = encoder

    def __call__(self, texts: Any) -> Any:
        table = import_pyarrow().table({_TEXT: texts.to_arrow()})
        return polars.from_arrow(self._encoder(table)[_COLUMN]).rename(texts.name)
