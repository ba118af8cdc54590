"""OpenAI's embeddings and models, as its clients speak them."""

import asyncio
import json
import time
from base64 import b64encode
from typing import Any

import numpy as np

from sentenc.encoders.base import Vectors
from sentenc.serving.errors import ApiError, shown
from sentenc.serving.services import Catalog, ServedModel
from sentenc.serving.validation import integer, texts

# Writing more numbers than this takes long enough to be done beside the event loop.
_MANY_NUMBERS = 1 << 15


class OpenAI:
    """``POST /v1/embeddings`` and ``GET /v1/models``.

    Vectors are of unit length, as OpenAI's are (an unknown text's stays zero); ``dimensions`` keeps the
    first so many and scales them to unit length again.
    """

    def __init__(self, catalog: Catalog, max_inputs: int) -> None:
        self._catalog, self._max_inputs = catalog, max_inputs
        self._created = int(time.time())

    async def embeddings(self, fields: dict[str, Any]) -> bytes:
        """The vectors of ``input``, in ``encoding_format`` float or base64 (little-endian float32)."""
        model = self._catalog.model(fields.get("model"))
        inputs = fields.get("input")
        if isinstance(inputs, list) and inputs and isinstance(inputs[0], int | list):
            raise ApiError(
                400, f"input[0] is {shown(inputs[0])}: tokens are not taken, expected text", param="input"
            )
        items = texts(fields, "input", self._max_inputs)
        layout = fields.get("encoding_format")
        if layout not in (None, "float", "base64"):
            raise ApiError(
                400,
                f"encoding_format is {shown(layout)}, expected 'float' or 'base64'",
                param="encoding_format",
            )
        dimensions = integer(fields, "dimensions", 1, model.encoder.dim, status=400)
        vectors, tokens = await model.encode(items, "input", normalize=True, dimensions=dimensions)
        if layout == "base64":
            return _answer(_base64_rows(vectors), model.name, tokens)
        if vectors.size <= _MANY_NUMBERS:
            return _answer(number_rows(vectors), model.name, tokens)
        return await asyncio.to_thread(lambda: _answer(number_rows(vectors), model.name, tokens))

    async def models(self, fields: dict[str, Any]) -> bytes:
        """All models that are served."""
        data = [self._describe(model) for model in self._catalog.models.values()]
        return json.dumps({"object": "list", "data": data}).encode()

    async def one_model(self, name: str) -> bytes:
        """A model by its name."""
        return json.dumps(self._describe(self._catalog.model(name))).encode()

    def _describe(self, model: ServedModel) -> dict[str, Any]:
        return {
            "id": model.name, "object": "model", "created": self._created, "owned_by": "sentenc",
            "dim": model.encoder.dim, "max_tokens": model.encoder.max_tokens,
        }  # fmt: skip


def number_rows(matrix: Vectors) -> list[bytes]:
    """Each row of a matrix (n, d) as a JSON array; nine digits give every float32 back exactly."""
    layout = "[" + ",".join(["%.9g"] * matrix.shape[1]) + "]"
    return [(layout % tuple(row.tolist())).encode() for row in matrix]


def _base64_rows(matrix: Vectors) -> list[bytes]:
    rows = np.ascontiguousarray(matrix, "<f4")
    return [b'"%b"' % b64encode(row) for row in rows]


def _answer(rows: list[bytes], model: str, tokens: int) -> bytes:
    data = b",".join(
        [b'{"object":"embedding","index":%d,"embedding":%b}' % (i, row) for i, row in enumerate(rows)]
    )
    return b'{"object":"list","data":[%b],"model":%b,"usage":{"prompt_tokens":%d,"total_tokens":%d}}' % (
        data, json.dumps(model).encode(), tokens, tokens,
    )  # fmt: skip
