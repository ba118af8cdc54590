"""An encoder whose vectors come from an OpenAI-compatible endpoint."""

import copy
import json
import os
import re
import threading
import unicodedata
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from itertools import islice
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.encoders.endpoint_client import EmbeddingsClient, EncodingFormat, Usage, embeddings_url
from sentenc.encoders.fingerprints import digest
from sentenc.encoders.roles import ROLES, Role, prompt_of
from sentenc.errors import CheckpointError, EndpointError
from sentenc.texts import as_text_list, replace_lone_surrogates
from sentenc.validation import check_choice, check_integer, check_number

# An estimate of the tokens of a subword vocabulary: up to six letters or digits of ASCII, or another character.
_TOKEN = re.compile(r"[A-Za-z0-9]{1,6}|[^\sA-Za-z0-9]")
# Requests in a block of texts for each that is sent at the same time, so that no thread waits for the others.
_REQUESTS_PER_THREAD = 4
# Control and format characters, surrogates, and unassigned code points.
_INVISIBLE = ("Cc", "Cf", "Cs", "Cn")


class EndpointEncoder(Encoder):
    """Encodes texts by requests to ``POST /v1/embeddings``, as OpenAI and many servers implement it.

    Every encoded text may cost money. Equal texts of one call are sent once, and texts without a visible
    character are not sent: they have the zero vector. :attr:`usage` counts the texts and tokens that were sent. Use
    an :class:`~sentenc.embedding_cache.EmbeddingCache` or an ``Index`` to keep the vectors.

    A request that fails for the moment is repeated, after the time for which the endpoint asks or after a growing
    one. A request that is refused as too large is divided.

    The contract of :class:`~sentenc.Encoder` holds as far as the endpoint keeps it. Its vectors of a text may
    differ in the last digits from request to request. The tokens of a text are estimated, because the tokenizer
    is unknown. The encoder has no weights, so that it cannot be saved.

    The endpoint may treat queries and documents in different ways: :meth:`encode_query` and :meth:`encode_document`
    put ``query_prompt`` and ``document_prompt`` before the texts, or send ``input_type``, or both.

    Args:
        url: The base URL, such as ``"https://api.openai.com/v1"``, or the address of the embeddings.
        model: Name of the model at the endpoint.
        api_key_env: Name of the environment variable that contains the key. The key itself is never stored. If
            the variable is not set, requests have no key.
        dimensions: The number of dimensions to ask for, if the model can shorten its vectors. By default all.
        query_prompt: Text before every query; none by default.
        document_prompt: Text before every document; none by default.
        input_type: Whether the requests of :meth:`encode_query` and :meth:`encode_document` have a field
            ``input_type`` with the value "query" or "document"; or the two values that the endpoint expects, such as
            ``{"query": "search_query", "document": "search_document"}``.
        texts_per_request: Maximum number of texts in one request.
        concurrency: Number of requests at the same time.
        max_tokens: The estimated number of tokens at which a text is cut.
        encoding_format: The format to ask for: ``"base64"`` has a quarter of the bytes of ``"float"``. The
            endpoint may answer with either.
        timeout: Seconds to wait for an answer.
        max_retries: Number of times that a request is repeated after a temporary failure.

    Raises:
        TypeError: An option is of the wrong type.
        ValueError: An option is out of range, or the URL is not one of http or https.
    """

    def __init__(
        self,
        url: str,
        model: str,
        *,
        api_key_env: str = "OPENAI_API_KEY",
        dimensions: int | None = None,
        query_prompt: str | None = None,
        document_prompt: str | None = None,
        input_type: bool | Mapping[str, str] = False,
        texts_per_request: int = 128,
        concurrency: int = 4,
        max_tokens: int = 8191,
        encoding_format: EncodingFormat = "base64",
        timeout: float = 60.0,
        max_retries: int = 6,
    ) -> None:
        for name, value in (("model", model), ("api_key_env", api_key_env)):
            if not isinstance(value, str) or not value:
                raise ValueError(f"{name} is {value!r}, expected a name")
        prompts = {"query": query_prompt, "document": document_prompt}
        for role, prompt in prompts.items():
            if prompt is not None and not isinstance(prompt, str):
                raise TypeError(f"{role}_prompt is {prompt!r}, expected a text or None")
        self.metadata = {"prompts": {role: prompt for role, prompt in prompts.items() if prompt}}
        self._input_types = _input_types(input_type)
        self._role: str | None = None
        self.texts_per_request = check_integer("texts_per_request", texts_per_request)
        self.concurrency = check_integer("concurrency", concurrency)
        self._max_tokens = check_integer("max_tokens", max_tokens)
        check_choice("encoding_format", encoding_format, get_args(EncodingFormat))
        self._client = EmbeddingsClient(
            embeddings_url(url),
            model,
            api_key_env=api_key_env,
            dimensions=None if dimensions is None else check_integer("dimensions", dimensions),
            encoding_format=encoding_format,
            timeout=check_number("timeout", timeout, above=0),
            max_retries=check_integer("max_retries", max_retries, at_least=0),
        )

    @property
    def name(self) -> str:
        """The name of the model at the endpoint."""
        return self._client.model

    @property
    def dim(self) -> int:
        """The number of components of a vector. If it is unknown yet, a request with one word asks for it."""
        if self._client.dim is None:
            self._client.embed(["a"], {}, threading.Event())
        return self._client.dim or 0

    @property
    def max_tokens(self) -> int:
        """The estimated number of tokens at which a text is cut."""
        return self._max_tokens

    @property
    def usage(self) -> Usage:
        """The numbers of requests, texts and tokens that the endpoint has answered since the encoder was made."""
        return self._client.usage

    def count_tokens(self, texts: Any) -> npt.NDArray[np.int64]:
        """Estimates the tokens of each text without asking the endpoint: shape (n,), int64.

        A token is counted for every six letters or digits of ASCII in a row, and for every other character but
        white space. In English text, the estimate is close to the count of OpenAI's models.
        """
        items = [texts] if isinstance(texts, str) else as_text_list(texts)
        return np.fromiter((sum(1 for _ in _TOKEN.finditer(text)) for text in items), np.int64, len(items))

    def fingerprint(self) -> str:
        """Returns a short hash of the address, the model and the settings; the weights are out of sight."""
        settings = [self._max_tokens, dict(self.prompts), self._input_types, self._role]
        return digest(
            [self._unprompted_fingerprint().encode(), json.dumps(settings, sort_keys=True).encode()]
        )

    def for_role(self, role: Role) -> tuple[Encoder, str | None]:
        """Returns an encoder that sends the ``input_type`` of a role, and the name of the prompt of the role."""
        encoder, prompt_name = super().for_role(role)
        if self._input_types:
            encoder = copy.copy(self)
            encoder._role = role
        return encoder, prompt_name

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Raises an error: the model is at the endpoint.

        Raises:
            CheckpointError: Always.
        """
        raise CheckpointError(
            f"{self._client.model!r} at {self._client.url} has no weights to save: create the encoder again, "
            "or fit a CSE to its vectors with sentenc.align and save that"
        )

    def _block_size(self, batch_size: int) -> int:
        # The size of the requests is an option of the encoder, because encode() has a default for all models.
        return self.texts_per_request * self.concurrency * _REQUESTS_PER_THREAD

    def encode_by_request(
        self, texts: Any, *, prompt_name: str | None = None
    ) -> Iterator[tuple[list[int], npt.NDArray[np.float32]]]:
        """Encodes texts and yields the vectors of each request as soon as it is answered.

        If a request fails, the vectors of all requests that were sent before are yielded before the error is
        raised, so that a caller can keep what was paid for.

        Args:
            texts: An ordered collection of n str.
            prompt_name: The name of a prompt to put before every text.

        Yields:
            Positions of m texts, and their vectors (m, dim) float32. Every position occurs once.

        Raises:
            TypeError: ``texts`` or one of its items is not text; the message has the index.
            EndpointError: A request has failed; the message has the position of the text if it is known.
        """
        prompt = "" if prompt_name is None else prompt_of(self.prompts, prompt_name)
        items = as_text_list(texts)
        return self._answers(items, prompt, self._counts(items, prompt))

    def _encode_block(
        self, texts: list[str], batch_size: int, out: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        return self._encode_prompted_block(texts, "", batch_size, out)

    def _encode_prompted_block(
        self, texts: list[str], prompt: str, batch_size: int, out: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        counts = self._counts(texts, prompt)
        for rows, vectors in self._answers(texts, prompt, counts):
            out[rows] = vectors
        return counts

    def _unprompted_fingerprint(self) -> str:
        client = self._client
        settings = [client.url, client.model, client.dimensions]
        return digest([b"endpoint", json.dumps(settings).encode()])

    def _counts(self, texts: list[str], prompt: str) -> npt.NDArray[np.int64]:
        return self.count_tokens([prompt + text for text in texts] if prompt else texts)

    def _answers(
        self, texts: list[str], prompt: str, counts: npt.NDArray[np.int64]
    ) -> Iterator[tuple[list[int], npt.NDArray[np.float32]]]:
        # The positions of every distinct text that is sent, and of those that are not.
        places: dict[str, list[int]] = {}
        unsent = []
        for place, (text, count) in enumerate(zip(texts, counts.tolist(), strict=True)):
            if any(map(_is_visible, text)):
                places.setdefault(self._cut(prompt + text, count), []).append(place)
            else:
                unsent.append(place)
        distinct = list(places)
        size = self.texts_per_request
        requests = [distinct[begin : begin + size] for begin in range(0, len(distinct), size)]
        for sent, vectors in self._embed(requests, {text: rows[0] for text, rows in places.items()}):
            rows = [place for text in sent for place in places[text]]
            yield rows, np.repeat(vectors, [len(places[text]) for text in sent], axis=0)
        if unsent:
            # Last, because the dimension is known from the answers to the other texts.
            yield unsent, np.zeros((len(unsent), self.dim), np.float32)

    def _cut(self, text: str, count: int) -> str:
        if count > self._max_tokens:
            last = next(islice(_TOKEN.finditer(text), self._max_tokens - 1, None))
            text = text[: last.end()]
        return replace_lone_surrogates(text)

    def _embed(
        self, requests: list[list[str]], first_places: Mapping[str, int]
    ) -> Iterator[tuple[list[str], npt.NDArray[np.float32]]]:
        # Yields the texts of each request with their vectors; ``first_places`` is for messages.
        stop = threading.Event()

        def embed(texts: list[str]) -> tuple[list[str], npt.NDArray[np.float32]]:
            try:
                return texts, self._client.embed(texts, self._fields(), stop)
            except EndpointError as error:
                if error.position is not None:
                    error.position = first_places[texts[error.position]]
                raise

        if len(requests) <= 1 or self.concurrency == 1:
            yield from map(embed, requests)
            return
        failures: list[BaseException] = []
        with ThreadPoolExecutor(min(self.concurrency, len(requests))) as pool:
            futures = [pool.submit(embed, texts) for texts in requests]
            try:
                for future in as_completed(futures):
                    if future.cancelled():
                        continue
                    if (failure := future.exception()) is None:
                        yield future.result()
                    else:
                        failures.append(failure)
                        _stop(futures, stop)
            finally:
                _stop(futures, stop)
        if failures:
            raise failures[0]

    def _fields(self) -> Mapping[str, str]:
        return {} if self._role is None else {"input_type": self._input_types[self._role]}


def _input_types(input_type: bool | Mapping[str, str]) -> dict[str, str]:
    # The value of the field for each role; empty if the field is not sent.
    if isinstance(input_type, bool):
        return {role: role for role in ROLES} if input_type else {}
    is_complete = isinstance(input_type, Mapping) and set(input_type) == set(ROLES)
    if not is_complete or not all(isinstance(value, str) and value for value in input_type.values()):
        raise ValueError(
            f"input_type is {input_type!r}, expected True, False or a text for 'query' and 'document'"
        )
    return dict(input_type)


def _is_visible(character: str) -> bool:
    return (
        not character.isspace()
        and unicodedata.category(character) not in _INVISIBLE
        and character != "\ufffd"
    )


def _stop(futures: list["Future[Any]"], stop: threading.Event) -> None:
    # Requests that have not begun are not sent, and no thread waits for another try.
    stop.set()
    for future in futures:
        future.cancel()
