"""Served encoders, indexes and classifiers, each with a thread that batches the work of all requests."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from sentenc.encoders.base import Encoder
from sentenc.encoders.encode_options import Vectors
from sentenc.encoders.lazy import LazyEncoder
from sentenc.encoders.pair import PairEncoder
from sentenc.encoders.roles import ROLES, Role
from sentenc.errors import QueueFullError, StoppedError
from sentenc.serving.api_errors import ApiError, overloaded, stopping
from sentenc.serving.batcher import Job, MicroBatcher
from sentenc.serving.config import ServerConfig
from sentenc.serving.metrics import Metrics

if TYPE_CHECKING:
    from sentenc.retrieval import Hit, Index
    from sentenc.retrieval.index_encoders import Speed
    from sentenc.retrieval.modes import Mode

# Bytes of UTF-8 per WordPiece token of English text, for estimates before a text is tokenized.
_BYTES_PER_TOKEN = 4
# Queries that are searched together: enough for one matrix product to serve many.
_QUERIES_PER_ROUND = 128
# Above this number of probabilities, sorting and formatting them would hold up the event loop.
_PROBABILITIES_IN_LOOP = 20_000


class ServedModel:
    """An encoder, and the thread that encodes for all requests. It is loaded when it is first used."""

    def __init__(self, name: str, source: LazyEncoder, config: ServerConfig, metrics: Metrics) -> None:
        self.name, self._source = name, source
        self._truncate, self._metrics = config.truncate, metrics
        self._by_role: dict[Role | None, tuple[Encoder, str | None]] = {}
        self._loading: dict[Role | None, asyncio.Task[tuple[Encoder, str | None]]] = {}
        self._batcher = MicroBatcher(
            f"encode {name}",
            self._run,
            budget=config.max_batch_tokens,
            max_queue=config.max_queue,
            observe=metrics.batch_observer("encode", name),
        )
        metrics.watch_queue("encode", name, lambda: self._batcher.waiting)

    @property
    def encoder(self) -> Encoder:
        """The encoder."""
        return self._source.encoder

    async def encode(
        self,
        texts: list[str],
        param: str,
        *,
        normalize: bool = False,
        dimensions: int | None = None,
        role: Role | None = None,
    ) -> tuple[Vectors, int]:
        """Encodes the texts of a request.

        Args:
            texts: n texts.
            param: The field of the request that contains them, for errors.
            normalize: Scale the vectors to unit length.
            dimensions: Keep the first ``dimensions`` components only.
            role: The role of the texts, whose encoder and prompt are used; None for :meth:`Encoder.encode`.

        Returns:
            The vectors (n, dim), and the number of tokens that were used.

        Raises:
            ApiError: The queue is full (429), the server is stopping (503), or a text is too long (400).
        """
        max_tokens = (await self._encoder_of(role)).max_tokens
        # Rounds are filled by an estimate, so that each text is tokenized only once, by the encoder.
        weights = [min(len(text.encode()) // _BYTES_PER_TOKEN + 1, max_tokens) for text in texts]
        job = Job(texts, (normalize, dimensions, role), weights)
        await _process(self._batcher, job)
        encoded = _Encoded.concatenate(job.parts)
        longest = int(np.argmax(encoded.counts))
        if encoded.counts[longest] > max_tokens and not self._truncate:
            where = f"{param}[{longest}]" if len(texts) > 1 else param
            raise ApiError(
                400,
                f"{where} has {encoded.counts[longest]} tokens, but {self.name} takes at most {max_tokens}: "
                "split the text, or start the server with --truncate to have such texts cut",
                param=param,
                code="context_length_exceeded",
            )
        tokens = int(np.minimum(encoded.counts, max_tokens).sum())
        self._metrics.count_texts(self.name, len(texts), tokens)
        return encoded.vectors, tokens

    def load(self) -> None:
        """Loads the encoder, and that of each role. No text is encoded."""
        for role in ROLES:
            self._for_role(role)

    def start(self) -> None:
        """Starts the thread."""
        self._batcher.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._batcher.stop()

    async def _encoder_of(self, role: Role | None) -> Encoder:
        if role not in self._by_role:
            if self._source.is_loaded and not isinstance(self.encoder, PairEncoder):
                self._by_role[role] = self._for_role(role)
            else:
                self._by_role[role] = await self._load_role(role)
        return self._by_role[role][0]

    async def _load_role(self, role: Role | None) -> tuple[Encoder, str | None]:
        """Loads an encoder in a thread, because it would hold up the event loop; one thread for all requests."""
        task = self._loading.get(role)
        if task is None or task.get_loop() is not asyncio.get_running_loop():
            task = asyncio.create_task(asyncio.to_thread(self._for_role, role))
            self._loading[role] = task
            # A failed load is repeated by the next request.
            task.add_done_callback(lambda _: self._loading.pop(role, None))
        # A client that disconnects must not cancel the load of the others.
        return await asyncio.shield(task)

    def _for_role(self, role: Role | None) -> tuple[Encoder, str | None]:
        return (self.encoder, None) if role is None else self.encoder.for_role(role)

    def _run(self, key: tuple[bool, int | None, Role | None], texts: list[str]) -> "_Encoded":
        normalize, dimensions, role = key
        encoder, prompt_name = self._by_role[role]
        return _Encoded(
            *encoder.encode_with_token_counts(
                texts, normalize_embeddings=normalize, truncate_dim=dimensions, prompt_name=prompt_name
            )
        )


@dataclass(frozen=True, slots=True)
class _Encoded:
    # Vectors (n, dim) of n texts and their token counts (n,), sliced together.

    vectors: Vectors
    counts: npt.NDArray[np.int64]

    @classmethod
    def concatenate(cls, parts: list[Self]) -> Self:
        if len(parts) == 1:
            return parts[0]
        return cls(
            np.concatenate([part.vectors for part in parts]), np.concatenate([part.counts for part in parts])
        )

    def __len__(self) -> int:
        return len(self.counts)

    def __getitem__(self, texts: slice) -> "_Encoded":
        return _Encoded(self.vectors[texts], self.counts[texts])


class SearchSettings(NamedTuple):
    """The settings of a search; searches with the same settings are run together.

    Attributes:
        k: Maximum number of items per query.
        mode: ``"hybrid"``, ``"vector"`` or ``"lexical"``.
        alpha: Weight of the vectors in a hybrid search; None for that of the index.
        where: A filter in JSON, or None.
        reranker: The served model that reorders the candidates, or None.
        candidates: Number of candidates per query.
        speed: Whether queries are encoded by the ``"fast"`` or the ``"exact"`` encoder; None for the default.
    """

    k: int
    mode: "Mode"
    alpha: float | None = None
    where: str | None = None
    reranker: ServedModel | None = None
    candidates: int = 100
    speed: "Speed | None" = None


class ServedIndex:
    """An index, the models that encode its queries, and the thread that searches for all requests.

    Args:
        name: The name that clients use.
        index: The index.
        models: The model of each speed of queries that the index has, the default first.
        config: The limits of the server.
        metrics: Counts the work.
    """

    def __init__(
        self,
        name: str,
        index: "Index",
        models: "Mapping[Speed, ServedModel]",
        config: ServerConfig,
        metrics: Metrics,
    ) -> None:
        self.name, self.index, self.models = name, index, dict(models)
        self.speeds: list[Speed] = list(self.models)
        self.model = self.models[self.speeds[0]]
        self._batcher = MicroBatcher(
            f"search {name}",
            self._run,
            budget=_QUERIES_PER_ROUND,
            max_queue=config.max_queue,
            observe=metrics.batch_observer("search", name),
        )
        metrics.watch_queue("search", name, lambda: self._batcher.waiting)
        metrics.watch_index(name, lambda: len(index))

    @property
    def modes(self) -> "list[Mode]":
        """The modes of a search; the default is the first."""
        return self.index.modes

    async def search(
        self, queries: list[str], vectors: Vectors | None, how: "SearchSettings"
    ) -> "list[list[Hit]]":
        """Searches for the best items of each of n queries.

        Args:
            queries: n texts.
            vectors: Their vectors (n, dim); None for a lexical search.
            how: The settings of the search.

        Raises:
            ApiError: The queue is full (429), the server is stopping (503), or a candidate of a reranker has no
                text (422).
        """
        rows: list[Any] = [None] * len(queries) if vectors is None else list(vectors)
        job = Job(list(zip(queries, rows, strict=True)), how)
        try:
            await _process(self._batcher, job)
        except ValueError as error:
            # Only reranking depends on the items: each of its candidates must have a text.
            if how.reranker is None:
                raise
            raise ApiError(422, str(error), param="rerank") from error
        return [hits for part in job.parts for hits in part]

    def describe(self) -> dict[str, Any]:
        """Returns the index's entry in the answer of ``GET /indexes``."""
        info = self.index.info()
        kind = info.get("searched by") or info["kind"]
        return {
            "name": self.name,
            "model": self.model.name,
            "items": info["items"],
            "dim": info["dim"],
            "metric": info["metric"],
            "kind": kind,
            "modes": self.modes,
            "queries": self.speeds,
        }

    def start(self) -> None:
        """Starts the thread."""
        self._batcher.start()

    def stop(self) -> None:
        """Ends the thread."""
        self._batcher.stop()

    def _run(
        self, how: "SearchSettings", queries: list[tuple[str, npt.NDArray[np.float32] | None]]
    ) -> "list[list[Hit]]":
        vectors = None if how.mode == "lexical" else np.stack([row for _, row in queries if row is not None])
        hits: list[list[Hit]] = self.index.search(
            [text for text, _ in queries],
            how.k,
            mode=how.mode,
            alpha=how.alpha,
            queries=how.speed if self.index.query_speeds else None,
            vectors=vectors,
            where=None if how.where is None else json.loads(how.where),
            rerank=None if how.reranker is None else how.reranker.encoder,
            candidates=how.candidates,
        )
        return hits


class ServedClassifier:
    """A fitted estimator of :mod:`sentenc.downstream`, and the model that encodes for it.

    Args:
        name: The name that clients use.
        estimator: A fitted estimator.
        model: The served encoder of the estimator.
    """

    def __init__(self, name: str, estimator: Any, model: ServedModel) -> None:
        from sentenc.downstream import SentenceClassifier

        self.name, self.estimator, self.model = name, estimator, model
        self.takes = "texts" if isinstance(estimator, SentenceClassifier) else "pairs"
        if hasattr(estimator, "steps_"):
            self.kind, classes = "score", estimator.steps_
        else:
            self.kind, classes = "multi-label" if estimator.multi_label_ else "label", estimator.classes_
        self.labels: list[Any] = classes.tolist()

    async def results(self, items: list[Any], top_k: int) -> bytes:
        """Classifies n texts or pairs.

        Returns:
            The n results, as a JSON array.

        Raises:
            ApiError: The queue is full (429), the server is stopping (503), or a text is too long (400).
        """
        if self.takes == "texts":
            features, _ = await self.model.encode(items, self.takes)
        else:
            from sentenc.downstream.features import pair_features

            first, _ = await self.model.encode([first for first, _ in items], self.takes)
            second, _ = await self.model.encode([second for _, second in items], self.takes)
            features = pair_features(first, second)
        if len(items) * len(self.labels) > _PROBABILITIES_IN_LOOP:
            return await asyncio.to_thread(self._results, features, top_k)
        return self._results(features, top_k)

    def describe(self) -> dict[str, Any]:
        """Returns the classifier's entry in the answer of ``GET /classifiers``."""
        return {
            "name": self.name,
            "model": self.model.name,
            "takes": self.takes,
            "predicts": self.kind,
            "labels": self.labels,
        }

    def _results(self, features: Vectors, top_k: int) -> bytes:
        probabilities = self.estimator.head_.probabilities(features)
        return b"[" + b",".join(self._result(row, top_k) for row in probabilities) + b"]"

    def _result(self, row: Any, top_k: int) -> bytes:
        if self.kind == "score":
            return json.dumps({"score": float(row @ np.asarray(self.labels, np.float64))}).encode()
        best = np.argsort(-row, kind="stable")[:top_k].tolist()
        # Keys of a JSON object are strings, whatever the labels are.
        probabilities = {_key(self.labels[i]): float(row[i]) for i in best}
        if self.kind == "multi-label":
            labels = [self.labels[i] for i in np.nonzero(row > 0.5)[0].tolist()]
            return json.dumps({"labels": labels, "probabilities": probabilities}).encode()
        likeliest = {"label": self.labels[best[0]], "probability": float(row[best[0]])}
        return json.dumps({**likeliest, "probabilities": probabilities}).encode()


def _key(label: Any) -> str:
    return json.dumps(label) if isinstance(label, bool) else str(label)


async def _process(batcher: MicroBatcher, job: Job) -> None:
    try:
        await batcher.process(job)
    except QueueFullError as error:
        raise overloaded(error.seconds) from None
    except StoppedError:
        raise stopping() from None
