"""OpenAI-compatible routes of embeddings and models."""

import asyncio
import json
import time
from base64 import b64encode
from typing import Any, cast

import numpy as np

from sentenc.encoders.encode_options import Vectors
from sentenc.encoders.roles import ROLES, Role
from sentenc.serving.api_errors import ApiError, shown
from sentenc.serving.catalog import Catalog
from sentenc.serving.responses import json_rows
from sentenc.serving.services import ServedModel
from sentenc.serving.validation import choice, integer, texts

# Above this number of values, formatting them would hold up the event loop.
_VALUES_IN_LOOP = 1 << 15


class EmbeddingRoutes:
    """``POST /v1/embeddings`` and ``GET /v1/models``.

    Vectors have unit length, as OpenAI's have; a text without a known token has the zero vector. They
    contain the first ``dimensions`` components, scaled to unit length. The default is
    :attr:`~sentenc.Encoder.similarity_dim`, so that a client's cosine is that of the library.
    """

    def __init__(self, catalog: Catalog, max_inputs: int) -> None:
        self._catalog, self._max_inputs = catalog, max_inputs
        self._created = int(time.time())

    async def embeddings(self, fields: dict[str, Any]) -> bytes:
        """Answers the vectors of ``input``, in ``encoding_format`` float or base64 (little-endian float32).

        With ``input_type`` "query" or "document", the texts are encoded in this role.

        Raises:
            ApiError: A field is wrong (400, 422), or the model is unknown (404).
        """
        model = self._catalog.model(fields.get("model"))
        inputs = fields.get("input")
        if isinstance(inputs, list) and inputs and isinstance(inputs[0], int | list):
            raise ApiError(
                400,
                f"input[0] is {shown(inputs[0])}: token ids are not supported, send texts. In LangChain, use "
                "OpenAIEmbeddings(..., check_embedding_ctx_length=False)",
                param="input",
            )
        items = texts(fields, "input", self._max_inputs)
        encoding = fields.get("encoding_format")
        if encoding not in (None, "float", "base64"):
            raise ApiError(
                400,
                f"encoding_format is {shown(encoding)}, expected 'float' or 'base64'",
                param="encoding_format",
            )
        dimensions = integer(fields, "dimensions", 1, model.encoder.dim, status=400)
        if dimensions is None:
            dimensions = model.encoder.similarity_dim
        role = cast("Role | None", choice(fields, "input_type", ROLES))
        vectors, tokens = await model.encode(items, "input", normalize=True, dimensions=dimensions, role=role)
        if encoding == "base64":
            return _answer(_base64_rows(vectors), model.name, tokens)
        if vectors.size <= _VALUES_IN_LOOP:
            return _answer(json_rows(vectors), model.name, tokens)
        return await asyncio.to_thread(lambda: _answer(json_rows(vectors), model.name, tokens))

    async def models(self, fields: dict[str, Any]) -> bytes:
        """Lists all models."""
        data = [self._describe(model) for model in self._catalog.models.values()]
        return json.dumps({"object": "list", "data": data}).encode()

    async def model(self, name: str) -> bytes:
        """Answers the description of one model.

        Raises:
            ApiError: The model is unknown (404).
        """
        return json.dumps(self._describe(self._catalog.model(name))).encode()

    def _describe(self, model: ServedModel) -> dict[str, Any]:
        return {
            "id": model.name,
            "object": "model",
            "created": self._created,
            "owned_by": "sentenc",
            "dim": model.encoder.dim,
            "similarity_dim": model.encoder.similarity_dim,
            "max_tokens": model.encoder.max_tokens,
        }


def _base64_rows(matrix: Vectors) -> list[bytes]:
    return [b'"%b"' % b64encode(row) for row in np.ascontiguousarray(matrix, "<f4")]


def _answer(embeddings: list[bytes], model: str, tokens: int) -> bytes:
    data = b",".join(
        b'{"object":"embedding","index":%d,"embedding":%b}' % (i, embedding)
        for i, embedding in enumerate(embeddings)
    )
    return b'{"object":"list","data":[%b],"model":%b,"usage":{"prompt_tokens":%d,"total_tokens":%d}}' % (
        data,
        json.dumps(model).encode(),
        tokens,
        tokens,
    )
