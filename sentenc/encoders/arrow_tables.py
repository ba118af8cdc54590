"""The method of every encoder that encodes a column of an Arrow table."""

import json
import math
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from sentenc.arrow_texts import ArrowTexts
from sentenc.encoders.encode_options import Finish, Int8Finish, Int8Vectors, OnOverflow, Overflow
from sentenc.encoders.roles import Role, prompt_of
from sentenc.errors import MissingExtraError
from sentenc.texts import describe
from sentenc.validation import check_choice

Dtype = Literal["float32", "float16", "int8"]
_DTYPES = ("float32", "float16", "int8")
# Texts whose tokens are counted at a time.
_TEXTS_PER_COUNT = 8192


class ArrowTables:
    """Base class of :class:`~sentenc.Encoder` with its method for tables."""

    def encode_table(
        self,
        table: Any,
        *,
        text: str = "text",
        column: str = "embedding",
        dtype: Dtype = "float32",
        normalize_embeddings: bool = False,
        truncate_dim: int | None = None,
        batch_size: int = 64,
        on_overflow: OnOverflow = "warn",
        prompt_name: str | None = None,
        role: Role | None = None,
    ) -> Any:
        """Encodes a column of an Arrow table, and returns the table with a column of vectors.

        The vectors equal those of :meth:`encode` for the list of the texts. Where possible, the encoder reads the
        buffers of the column, and no Python string is made. A dictionary column is encoded once for each of its
        values if these are fewer than the rows.

        In int8, a vector is ``embedding * scale``, with a scale for each row in a column of its own. A component of
        a unit vector is much smaller than 1, so without a scale most of the 255 values would not be used. A scale
        for all rows would depend on the other rows of a table, and those of two tables would differ.

        Args:
            table: A ``pa.Table`` or ``pa.RecordBatch``.
            text: The name of the column of texts: string, large string, string view, or a dictionary of them.
            column: The name of the new column.
            dtype: The type of its numbers: ``"float32"``, ``"float16"`` or ``"int8"``.
            normalize_embeddings: As for :meth:`encode`.
            truncate_dim: As for :meth:`encode`.
            batch_size: As for :meth:`encode`.
            on_overflow: As for :meth:`encode`. There is one warning for the table.
            prompt_name: The name of a prompt to put before every text.
            role: ``"query"`` or ``"document"`` to encode as :meth:`encode_query` or :meth:`encode_document` does.

        Returns:
            A ``pa.Table`` of all columns as they are, followed by the new one, of type
            ``fixed_size_list<dtype>[dim]``. It is null where the text is null, and a zero vector where the text is
            empty. With int8, ``<column>_scale`` (float32) comes last. The metadata of the schema keeps its keys and
            has ``model``, ``fingerprint`` and ``space`` of the encoder, as a file of ``sentenc encode`` does.

        Raises:
            MissingExtraError: pyarrow is not installed.
            TypeError: ``table`` or the column of texts has another type.
            ValueError: There is no column of texts, or there is a column of the new name; or an option is out of
                range.
            TextTooLongError: A text is too long and ``on_overflow="error"``.
        """
        check_choice("dtype", dtype, _DTYPES)
        if role is not None and prompt_name is not None:
            raise ValueError(f"role is {role!r} and prompt_name is {prompt_name!r}, expected one of them")
        names = [column, f"{column}_scale"] if dtype == "int8" else [column]
        table = _checked_table(table, text, names)
        whole: Any = self
        encoder, prompt_name = (whole, prompt_name) if role is None else whole.for_role(role)
        prompt = None if prompt_name is None else prompt_of(encoder.prompts, prompt_name)
        truncate_dim = whole._columns_of(encoder, truncate_dim)
        make_finish = Int8Finish if dtype == "int8" else Finish
        number = "float32" if dtype == "int8" else dtype
        finish = make_finish(encoder.dim, batch_size, normalize_embeddings, truncate_dim, number, on_overflow)
        texts = ArrowTexts(table.column(text), f"the column {text!r}")
        vectors = _encode(encoder, texts, finish, batch_size, prompt, on_overflow)
        return _with_columns(table, names, vectors, texts.is_valid(), _description(whole))


def _checked_table(table: Any, text: str, new_names: list[str]) -> Any:
    try:
        import pyarrow as pa
    except ImportError as error:
        raise MissingExtraError("parquet", "pyarrow", "encode_table") from error
    if isinstance(table, pa.RecordBatch):
        table = pa.Table.from_batches([table])
    if not isinstance(table, pa.Table):
        raise TypeError(f"table is {describe(table)}, expected a pyarrow.Table or pyarrow.RecordBatch")
    columns = table.column_names
    if columns.count(text) != 1:
        n_columns = "several columns" if text in columns else "no column"
        raise ValueError(
            f"the table has {n_columns} {text!r}, expected one of {', '.join(map(repr, columns))}"
        )
    for name in new_names:
        if name in columns:
            raise ValueError(f"the table has a column {name!r}, expected a name of a new column")
    return table


def _encode(
    encoder: Any,
    texts: ArrowTexts,
    finish: Finish,
    batch_size: int,
    prompt: str | None,
    on_overflow: OnOverflow,
) -> "Int8Vectors | npt.NDArray[Any]":
    # Returns the vectors of all rows. Those of nulls are the vectors of empty texts.
    distinct = texts.distinct()
    items, rows = (texts, None) if distinct is None else distinct
    overflow = Overflow(encoder.max_tokens, on_overflow)
    if on_overflow == "error":
        for start in range(0, len(items), _TEXTS_PER_COUNT):
            block: Any = items[start : start + _TEXTS_PER_COUNT]
            overflow.add(encoder.count_tokens([prompt + item for item in block] if prompt else block))
        overflow.report()
    vectors: Int8Vectors | npt.NDArray[Any] = finish.new_vectors(len(items), _new_array)
    counts = encoder._encode_all(items, batch_size, finish, vectors, prompt)
    overflow.add(counts if rows is None else counts[rows])
    overflow.report()
    return vectors if rows is None else _taken(vectors, rows)


def _taken(vectors: "Int8Vectors | npt.NDArray[Any]", rows: npt.NDArray[np.int64]) -> Any:
    if isinstance(vectors, Int8Vectors):
        return Int8Vectors(_taken(vectors.embeddings, rows), _taken(vectors.scales, rows))
    # The mode skips a copy of the output, and no row is out of range.
    taken = _new_array((len(rows), *vectors.shape[1:]), vectors.dtype)
    return np.take(vectors, rows, axis=0, out=taken, mode="clip")


def _new_array(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    # Arrow's allocator uses the memory of the tables before again. For a large array, numpy asks the system for new
    # memory, and clearing it can take half as long as encoding.
    import pyarrow as pa

    size = math.prod(shape)
    return np.frombuffer(pa.allocate_buffer(size * dtype.itemsize), dtype, size).reshape(shape)


def _with_columns(
    table: Any,
    names: list[str],
    vectors: "Int8Vectors | npt.NDArray[Any]",
    is_valid: npt.NDArray[np.bool_],
    described: Mapping[str, str],
) -> Any:
    import pyarrow as pa

    embeddings = vectors.embeddings if isinstance(vectors, Int8Vectors) else vectors
    numbers, dim = pa.from_numpy_dtype(embeddings.dtype), embeddings.shape[1]
    n_null = len(is_valid) - int(np.count_nonzero(is_valid))
    valid_bits = pa.py_buffer(np.packbits(is_valid, bitorder="little")) if n_null else None
    # The column has the memory of the array, without a copy.
    values = pa.Array.from_buffers(numbers, embeddings.size, [None, pa.py_buffer(embeddings)])
    column = pa.Array.from_buffers(
        pa.list_(numbers, dim), len(embeddings), [valid_bits], n_null, children=[values]
    )
    table = table.append_column(names[0], column)
    if isinstance(vectors, Int8Vectors):
        scales = pa.py_buffer(vectors.scales)
        column = pa.Array.from_buffers(pa.float32(), len(embeddings), [valid_bits, scales], n_null)
        table = table.append_column(names[1], column)
    added = {key.encode(): value.encode() for key, value in described.items()}
    return table.replace_schema_metadata({**(table.schema.metadata or {}), **added})


def _description(encoder: Any) -> dict[str, str]:
    # The name by which the model was loaded can load it again.
    name = encoder.loaded_as[0] if encoder.loaded_as else encoder.metadata.get("name")
    name = name or getattr(encoder, "name", None) or type(encoder).__name__
    described = {"model": str(name), "fingerprint": encoder.fingerprint(), "space": encoder.space}
    options = dict(encoder.loaded_as[1]) if encoder.loaded_as else {}
    return described | ({"options": json.dumps(options)} if options else {})
