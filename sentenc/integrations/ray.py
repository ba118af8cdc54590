"""A class for ``map_batches`` of Ray Data."""

from typing import Any

from sentenc.encoders.arrow_tables import Dtype
from sentenc.encoders.encode_options import OnOverflow
from sentenc.encoders.roles import Role
from sentenc.integrations.embedder import Model
from sentenc.integrations.worker_encoder import WorkerEncoder, import_pyarrow


class EncodeBatch:
    """Adds sentence vectors to the batches of a Ray dataset. Every actor loads the model once.

        >>> dataset.map_batches(
        ...     EncodeBatch,
        ...     fn_constructor_kwargs={"model": "cse-en"},
        ...     batch_format="pyarrow",
        ...     batch_size=8192,
        ...     compute=ray.data.ActorPoolStrategy(size=4),
        ... )

    The other columns are kept. The new one is a list of a fixed size, and null for a text that is null.

    Args:
        model: An encoder, or an argument of :func:`sentenc.load`. An encoder is sent to every actor with its weights,
            and keeps its own number of threads.
        text: The name of the column of texts.
        column: The name of the new column.
        dtype: ``"float32"``, ``"float16"``, or ``"int8"`` with a column of scales.
        normalize_embeddings: Scale every vector to unit length.
        truncate_dim: Keep the first ``truncate_dim`` components. By default all.
        batch_size: The number of texts that go through the model together. It is not the ``batch_size`` of
            ``map_batches``.
        on_overflow: ``"warn"``, ``"error"`` or ``"ignore"``, for texts with more tokens than the model uses.
        prompt_name: The name of a prompt of the model, which is put before every text. Not together with ``role``.
        role: ``"query"`` or ``"document"``, to encode the texts as these; None to encode them without a role.
        threads: The number of threads of an actor. Ray counts one core for each by default.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: An option is out of range.
    """

    def __init__(
        self,
        model: Model = "cse-en",
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
        threads: int = 1,
    ) -> None:
        self._encoder = WorkerEncoder(
            model, threads=threads, text=text, column=column, dtype=dtype,
            normalize_embeddings=normalize_embeddings, truncate_dim=truncate_dim, batch_size=batch_size,
            on_overflow=on_overflow, prompt_name=prompt_name, role=role,
        )  # fmt: skip
        # Loads the model while the actor starts, and checks the options.
        self._encoder.empty()

    def __call__(self, batch: Any) -> Any:
        """Returns the rows of a batch with their vectors, a ``pyarrow.Table``.

        Raises:
            TypeError: The batch is not Arrow, or the texts are not strings.
        """
        if not isinstance(batch, import_pyarrow().Table):
            raise TypeError(
                f"the batch is {type(batch).__name__}, expected pyarrow.Table: "
                "pass batch_format='pyarrow' to map_batches"
            )
        return self._encoder(batch)
