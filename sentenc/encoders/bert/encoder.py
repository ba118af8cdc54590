"""A BERT or MPNet sentence encoder that computes with ONNX Runtime, without torch."""

import json
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt

from sentenc.checkpoint import Checkpoint, write_checkpoint
from sentenc.encoders.base import Encoder
from sentenc.encoders.bert.batching import Ids, between_special_tokens, spans_with_words, token_batches
from sentenc.encoders.bert.config import LINEAR, BertConfig, Compute, Pooling
from sentenc.encoders.bert.onnx_runtime import open_session, opening
from sentenc.encoders.bert.quantization import dequantized, quantized
from sentenc.encoders.bert.tokenizer_files import bert_tokenizer, special_tokens
from sentenc.encoders.fingerprints import model_digest, prompted_fingerprint
from sentenc.encoders.golden import golden_vectors
from sentenc.encoders.roles import stated_space
from sentenc.encoders.transformer import TransformerEncoder
from sentenc.encoders.weights import Weights, check_weights, dense_weight
from sentenc.errors import CheckpointError
from sentenc.forking import after_fork
from sentenc.io.atomic import replacing_folder
from sentenc.io.int4 import Bits
from sentenc.texts import as_text_list
from sentenc.threads import Threads, thread_count
from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.validation import check_choice

KIND = "tinybert"
# Padded tokens in a batch, for each text of ``batch_size``. A core is busy from some hundred tokens on, and
# many more no longer fit into its caches.
_TOKENS_PER_TEXT = 8
# Texts that are tokenized together where only their numbers of tokens are needed.
_TEXTS_PER_COUNT = 4096


class BertEncoder(TransformerEncoder):
    """A BERT with mean or cls pooling, such as TinyBERT (Jiao et al., Findings of EMNLP 2020), or an MPNet.

    Args:
        config: The model's shape.
        weights: Every weight of ``config.shapes()``, float16 or float32. A matrix may be int8 and then
            comes with its scales (rows,), named ``<name>.scale``.
        tokenizer: A tokenizer that keeps unknown words, or the content of a ``tokenizer.json``. The encoder
            adds [CLS] and [SEP], or an MPNet's <s> and </s>. Special tokens in a text have their own ids.
        compute: The type in which matrices are multiplied: ``"float32"``, or ``"int8"`` (the vectors differ
            by about a hundredth).
        threads: The number of batches computed at a time. By default (``"auto"``) all cores the process may use.
        metadata: Name, sources and scores, and ``prompts`` and ``space`` if there are any, stored in the
            model folder.
        card: The model card, Markdown.

    Raises:
        CheckpointError: A weight is missing, unexpected, misshapen or not finite, or a special token is
            not in the vocabulary.
        TypeError: ``threads`` is neither an integer nor ``"auto"``.
        ValueError: An option is out of range, or the tokenizer leaves unknown words out.
    """

    def __init__(
        self,
        config: BertConfig,
        weights: Weights,
        tokenizer: Tokenizer | str,
        *,
        compute: Compute = "float32",
        threads: Threads | None = None,
        metadata: dict[str, Any] | None = None,
        card: str | None = None,
    ) -> None:
        check_choice("compute", compute, get_args(Compute))
        tokenizer = bert_tokenizer(tokenizer, config.model_type)
        if tokenizer.vocab_size > config.vocab_size:
            raise CheckpointError(
                f"tokenizer.json has ids up to {tokenizer.vocab_size - 1}, "
                f"expected ids below vocab_size {config.vocab_size}"
            )
        shapes = config.shapes()
        check_weights(weights, shapes, {name for name, shape in shapes.items() if len(shape) == 2})
        self.config = config
        self.tokenizer = tokenizer
        self.compute: Compute = compute
        self.threads = thread_count(threads)
        self.metadata: dict[str, Any] = metadata or {}
        self.card = card
        self._weights = dict(weights)
        vocabulary, special = tokenizer.vocabulary, special_tokens(config.model_type)
        self._pad, self._cls, self._sep = (vocabulary[i] for i in (special.pad, special.cls, special.sep))
        self._special_ids = tokenizer.special_ids
        self._session: Any = None
        self._digests: dict[str, str] = {}
        # A session that runs at the moment of a fork may have locked its memory, so a child opens its own.
        after_fork(self, BertEncoder._forget_session)

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, *, compute: Compute | None = None, threads: int | None = None
    ) -> "BertEncoder":
        """Creates the encoder from the content of a model folder, in the stored ``compute`` by default.

        Raises:
            CheckpointError: The configuration or a weight is missing or damaged.
        """
        values = dict(checkpoint.config)
        try:
            stored = values.pop("compute")
            check_choice("compute", stored, get_args(Compute))
            config = BertConfig.from_dict(values)
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"config.json has a bad config: {error}") from error
        return cls(
            config, checkpoint.tensors, checkpoint.tokenizer, compute=compute or stored, threads=threads,
            metadata=checkpoint.metadata, card=checkpoint.card,
        )  # fmt: skip

    @classmethod
    def from_folder(
        cls, folder: str | os.PathLike[str], *, compute: Compute | None = None, threads: int | None = None,
        pooling: Pooling | None = None, max_tokens: int | None = None,
        modules: list[dict[str, Any]] | None = None,
    ) -> "BertEncoder":  # fmt: skip
        """Reads the model in a Hugging Face or sentence-transformers folder. See :func:`sentenc.load`.

        Raises:
            NotBertError: The folder contains another kind of model, or another pooling than mean or cls.
            CheckpointError: A file is missing or damaged, or no pooling is stated.
            MissingExtraError: The weights are a ``pytorch_model.bin``, and torch is not installed.
            ValueError: The folder states another pooling, or the model has fewer positions.
        """
        from sentenc.encoders.bert.reading import read_bert_folder

        model = read_bert_folder(Path(folder), pooling=pooling, max_tokens=max_tokens, modules=modules)
        return cls(
            model.config, model.weights, model.tokenizer, compute=compute or model.compute, threads=threads,
            metadata=model.metadata, card=model.card,
        )  # fmt: skip

    @property
    def dim(self) -> int:
        """The number of components of a vector: the hidden size."""
        return self.config.hidden_size

    @property
    def max_tokens(self) -> int:
        """The number of tokens of a text that are used, special tokens included."""
        return self.config.max_tokens

    def count_tokens(self, texts: Any) -> npt.NDArray[np.int64]:
        """Counts the tokens of each text, special tokens included: shape (n,), int64."""
        items = [texts] if isinstance(texts, str) else as_text_list(texts)
        starts = range(0, len(items), _TEXTS_PER_COUNT)
        counts = [self.tokenizer.encode(items[i : i + _TEXTS_PER_COUNT])[2] + 2 for i in starts]
        return np.concatenate(counts) if counts else np.zeros(0, np.int64)

    def fingerprint(self) -> str:
        """Returns a short hash of configuration, tokenizer, weights in float32, and prompts."""
        return prompted_fingerprint(self._unprompted_fingerprint(), self.prompts)

    def _unprompted_fingerprint(self) -> str:
        return self._digest(self._settings())

    @property
    def space(self) -> str:
        """The identifier of the space of the vectors; see :attr:`Encoder.space`."""
        limits = {"compute": "float32", "max_tokens": self.config.max_position_embeddings}
        return stated_space(self.metadata) or self._digest(self._settings() | limits)

    def _digest(self, values: dict[str, Any]) -> str:
        settings = json.dumps(values, sort_keys=True)
        if settings not in self._digests:
            spec = json.dumps(json.loads(self.tokenizer.spec), sort_keys=True)
            weights = ((name, self.weight(name)) for name in sorted(self.config.shapes()))
            self._digests[settings] = model_digest(settings, spec, weights)
        return self._digests[settings]

    def weight(self, name: str) -> npt.NDArray[np.float32]:
        """Returns a weight of ``config.shapes()`` in float32."""
        return dense_weight(self._weights, name)

    def with_compute(self, compute: Compute, *, threads: int | None = None) -> "BertEncoder":
        """Returns the same model, with matrices multiplied in float32 or int8."""
        options = {**self._options(), "compute": compute, "threads": threads or self.threads}
        changed = BertEncoder(self.config, self._weights, self.tokenizer, **options)
        changed.loaded_as = self.loaded_as and (self.loaded_as[0], {**self.loaded_as[1], "compute": compute})
        return changed

    @property
    def is_compressed(self) -> bool:
        """Whether the matrices are stored in int8."""
        return self._weights["embeddings.word_embeddings.weight"].dtype == np.int8

    def compressed(self, bits: Bits = 8) -> "BertEncoder":
        """Returns the same model with its matrices in int8, one scale per row: a quarter of the size.

        With ``bits=4``, :meth:`save_compact` writes them in 4 bits, in about half of that.

        Raises:
            ValueError: ``bits`` is neither 8 nor 4.
        """
        return BertEncoder(self.config, quantized(self._weights, bits), self.tokenizer, **self._options())

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes a folder that transformers, sentence-transformers and :func:`sentenc.load` can read.

        The weights are written in float32. The folder is replaced completely or not at all.

        Raises:
            CheckpointError: ``folder`` exists and is not a model folder.
        """
        from sentenc.encoders.bert.writing import write_bert_folder

        with replacing_folder(Path(folder), "modules.json", CheckpointError, "a model folder") as staging:
            write_bert_folder(
                staging, self.config, dequantized(self._weights), self.tokenizer, compute=self.compute,
                metadata=self.metadata, card=self.card,
            )  # fmt: skip

    def save_compact(self, folder: str | os.PathLike[str]) -> None:
        """Writes a folder of sentenc's own format, with int8 matrices and golden vectors.

        Matrices of ``compressed(bits=4)`` are written in 4 bits. The golden vectors are those of
        ``compute="float32"``: int8 activations depend on the last bits of a sum, and these on the processor.
        The folder is replaced completely or not at all.

        Raises:
            CheckpointError: ``folder`` exists and is not a model folder.
        """
        compact = self.compressed()
        write_checkpoint(
            folder,
            Checkpoint(
                kind=KIND, config=compact._settings(), tensors=compact._weights, tokenizer=self.tokenizer.spec,
                golden=golden_vectors(compact.with_compute("float32")), metadata=self.metadata, card=self.card,
            ),
        )  # fmt: skip

    def export_onnx(
        self,
        path: str | os.PathLike[str],
        *,
        compute: Compute = "float32",
        texts: list[str] | None = None,
        score: Callable[[Encoder], float] | None = None,
    ) -> dict[str, Any]:
        """Writes the model as an ONNX file, and a report of its accuracy as ``<path>.json``.

        Inputs are ``input_ids`` and ``attention_mask`` (B, L) int64, special tokens included. The output
        is ``sentence_embedding`` (B, dim) float32.

        Args:
            path: The file to write.
            compute: The type in which the file multiplies matrices.
            texts: Texts on which its vectors are compared with those of float32. A few by default.
            score: Scores an encoder, x 100, and higher is better: such as the correlation with an STS set. It
                is called with both encoders.

        Returns:
            The content of the report.

        Raises:
            ValueError: The mean cosine is below 0.99, or the score drops by more than 0.5. No file is
                written then.
        """
        from sentenc.encoders.bert.onnx_export import export_model
        from sentenc.encoders.bert.onnx_graph import bert_graph

        model = bert_graph(self.config, self._weights, compute=compute)
        candidate = self.with_compute(compute)
        candidate._session = open_session(model)
        return export_model(
            model, Path(path), self.config, compute=compute, reference=self.with_compute("float32"),
            candidate=candidate, texts=texts, score=score,
        )  # fmt: skip

    def torch_model(self) -> tuple[Any, Any]:
        """Returns a ``BertModel`` or ``MPNetModel`` in evaluation mode, and its ``PreTrainedTokenizerFast``.

        Raises:
            MissingExtraError: torch or transformers is not installed.
        """
        from sentenc.encoders.bert.torch_conversion import to_torch

        return to_torch(self.config, self._weights, self.tokenizer)

    def with_torch_weights(self, model: Any) -> "BertEncoder":
        """Returns an encoder with the weights of a fine-tuned :meth:`torch_model`, otherwise like this one.

        Args:
            model: A ``BertModel`` or ``MPNetModel`` of transformers, of the same shape. Its pooler is left out.
        """
        from sentenc.encoders.bert.torch_conversion import from_torch

        weights = from_torch(model, self.config)
        if self.config.linear:
            weights[LINEAR] = self.weight(LINEAR)
        # The new weights leave the space and the scores of the old ones, and are used with the same prompts.
        metadata = {"prompts": dict(self.prompts)} if self.prompts else None
        options = self._options() | {"metadata": metadata, "card": None}
        return BertEncoder(self.config, weights, self.tokenizer, **options)

    @property
    def vocabulary(self) -> dict[str, int]:
        """The id of every token."""
        return self.tokenizer.vocabulary

    @property
    def normalize(self) -> bool:
        """Whether the vectors are scaled to unit length after pooling."""
        return self.config.normalize

    def token_embeddings(self) -> npt.NDArray[np.float32]:
        """Returns the input embeddings of all tokens, by id: shape (vocab_size, hidden_size), float32."""
        return self.weight("embeddings.word_embeddings.weight")

    def pooling(self) -> Pooling:
        """Returns the pooling, or raises ``ValueError`` if a linear map follows it."""
        if self.config.linear:
            raise ValueError("the BERT has a linear map after pooling, expected pooling alone")
        return self.config.pooling

    def encode_tokens(self, ids: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Encodes the tokens of ids (n,), each between special tokens: shape (n, dim), float32."""
        tokens = np.asarray(ids, np.int64)
        out = np.empty((len(tokens), self.dim), np.float32)
        ends = np.arange(1, len(tokens) + 1)
        self._encode_rows(tokens, ends - 1, ends, np.arange(len(tokens)), 64, out)
        return out

    def _options(self) -> dict[str, Any]:
        return {
            "compute": self.compute, "threads": self.threads, "metadata": self.metadata, "card": self.card,
        }  # fmt: skip

    def _settings(self) -> dict[str, Any]:
        return self.config.to_dict() | {"compute": self.compute}

    def _encode_block(
        self, texts: list[str], batch_size: int, out: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        ids, ends, counts = self.tokenizer.encode(texts, self.max_tokens - 2)
        starts, with_words = spans_with_words(ids, ends, self._special_ids)
        out[~with_words] = 0.0
        self._encode_rows(ids, starts, ends, np.flatnonzero(with_words), batch_size, out)
        return counts + 2

    def _have_known_tokens(self, texts: list[str]) -> npt.NDArray[np.bool_]:
        ids, ends, _ = self.tokenizer.encode(texts, self.max_tokens - 2)
        return spans_with_words(ids, ends, self._special_ids)[1]

    def _encode_rows(
        self, ids: npt.NDArray[np.integer], starts: Ids, ends: Ids, rows: Ids, batch_size: int,
        out: npt.NDArray[np.float32],
    ) -> None:  # fmt: skip
        # Texts of similar length go together, the longest first: no thread is then busy alone at the end.
        rows = rows[np.argsort(starts[rows] - ends[rows], kind="stable")]
        batches = token_batches((ends - starts)[rows] + 2, batch_size * _TOKENS_PER_TEXT)
        if not batches:
            return
        session = self._open_session()

        def encode_batch(part: slice) -> None:
            chosen = rows[part]
            texts = [ids[a:b] for a, b in zip(starts[chosen], ends[chosen], strict=True)]
            table, mask = between_special_tokens(texts, self._cls, self._sep, self._pad)
            out[chosen] = session.run(["sentence_embedding"], {"input_ids": table, "attention_mask": mask})[0]

        if self.threads == 1 or len(batches) < 2:
            for part in batches:
                encode_batch(part)
            return
        with ThreadPoolExecutor(min(self.threads, len(batches))) as pool:
            list(pool.map(encode_batch, batches))  # raises the exception of a thread, if there is one

    def _open_session(self) -> Any:
        # The runtime is imported, and the graph is built, when the first text is encoded.
        session = self._session
        if session is None:
            with opening:
                if self._session is None:
                    from sentenc.encoders.bert.onnx_graph import bert_graph

                    self._session = open_session(bert_graph(self.config, self._weights, compute=self.compute))
                session = self._session
        return session

    def _forget_session(self) -> None:
        self._session = None

    def __reduce__(self) -> tuple[Any, ...]:
        # The session cannot be pickled; the copy opens its own.
        make = partial(BertEncoder, **self._options())
        return make, (self.config, self._weights, self.tokenizer), {"loaded_as": self.loaded_as}
