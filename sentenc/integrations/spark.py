"""A function that adds a column of sentence vectors to a Spark DataFrame."""

from collections.abc import Iterator
from typing import Any

from sentenc.encoders.arrow_tables import Dtype
from sentenc.encoders.encode_options import OnOverflow
from sentenc.encoders.roles import Role
from sentenc.errors import MissingExtraError
from sentenc.integrations.embedder import Model
from sentenc.integrations.worker_encoder import WorkerEncoder, import_pyarrow
from sentenc.validation import check_choice

try:
    from pyspark.sql import types
except ImportError as error:
    raise MissingExtraError("spark", "pyspark", "an adapter of Spark") from error

_ELEMENTS = {"float32": types.FloatType, "int8": types.ByteType}


def encode_column(
    df: Any,
    text: str = "text",
    column: str = "embedding",
    *,
    model: Model = "cse-en",
    dtype: Dtype = "float32",
    normalize_embeddings: bool = False,
    truncate_dim: int | None = None,
    batch_size: int = 64,
    on_overflow: OnOverflow = "warn",
    prompt_name: str | None = None,
    role: Role | None = None,
    threads: int = 1,
) -> Any:
    """Adds a column of sentence vectors to a DataFrame, by ``mapInArrow``. Every Python worker loads the model once.

    The other columns are kept. A text that is null has the vector null. The driver loads the model as well, to check
    the options. The metadata of the new field contains the model, its fingerprint, its space and the dimension.

    Args:
        df: A DataFrame of ``pyspark.sql``.
        text: The name of the column of texts.
        column: The name of the new column, ``array<float>`` or ``array<tinyint>``.
        model: An encoder, or an argument of :func:`sentenc.load`. An encoder is sent to the workers with its weights,
            and keeps its own number of threads.
        dtype: ``"float32"``, or ``"int8"`` with a column of scales. Spark has no type for float16.
        normalize_embeddings: Scale every vector to unit length.
        truncate_dim: Keep the first ``truncate_dim`` components. By default all.
        batch_size: The number of texts that go through the model together. The rows of an Arrow batch are
            ``spark.sql.execution.arrow.maxRecordsPerBatch``.
        on_overflow: ``"warn"``, ``"error"`` or ``"ignore"``, for texts with more tokens than the model uses.
        prompt_name: The name of a prompt of the model, which is put before every text. Not together with ``role``.
        role: ``"query"`` or ``"document"``, to encode the texts as these; None to encode them without a role.
        threads: The number of threads of a worker. Spark runs a worker on each core.

    Returns:
        The DataFrame with the new column as its last.

    Raises:
        TypeError: An option is of the wrong type, or the column of texts contains no strings.
        ValueError: An option is out of range, the DataFrame has no column of texts of this name, or it has the new
            column already.
    """
    check_choice("dtype", dtype, tuple(_ELEMENTS))
    encoder = WorkerEncoder(
        model, threads=threads, text=text, column=column, dtype=dtype,
        normalize_embeddings=normalize_embeddings, truncate_dim=truncate_dim, batch_size=batch_size,
        on_overflow=on_overflow, prompt_name=prompt_name, role=role,
    )  # fmt: skip
    fields = list(df.schema.fields)
    _check_texts(fields, text)
    added = _added_fields(encoder.empty().schema, text, column, dtype)
    for name in {field.name for field in fields} & {field.name for field in added}:
        raise ValueError(
            f"the DataFrame has a column {name!r} already, expected another name for the new one"
        )

    def encode(batches: Iterator[Any]) -> Iterator[Any]:
        return (_with_lists(batch, column) for batch in encoder.batches(batches))

    # df.schema.add() would change the schema of the DataFrame itself.
    return df.mapInArrow(encode, types.StructType([*fields, *added]))


def _with_lists(batch: Any, column: str) -> Any:
    # Spark reads no lists of a fixed size.
    vectors = batch[column]
    lists = vectors.cast(import_pyarrow().list_(vectors.type.value_type))
    return batch.set_column(batch.schema.get_field_index(column), column, lists)


def _check_texts(fields: list[Any], text: str) -> None:
    names = [field.name for field in fields]
    if text not in names:
        raise ValueError(
            f"the DataFrame has no column {text!r}, expected one of {', '.join(map(repr, names))}"
        )
    stated = fields[names.index(text)].dataType
    if not isinstance(stated, types.StringType):
        raise TypeError(f"column {text!r} is {stated.simpleString()}, expected string")


def _added_fields(schema: Any, text: str, column: str, dtype: str) -> list[Any]:
    # The fields of the new columns, which follow the column of texts in the schema of an Arrow table.
    stated = {key.decode(): value.decode() for key, value in (schema.metadata or {}).items()}
    fields = []
    for name in schema.names:
        if name == column:
            vector = types.ArrayType(_ELEMENTS[dtype](), containsNull=False)
            metadata = {**stated, "dim": schema.field(name).type.list_size}
            fields.append(types.StructField(name, vector, nullable=True, metadata=metadata))
        elif name != text:
            fields.append(types.StructField(name, types.FloatType(), nullable=True))
    return fields
