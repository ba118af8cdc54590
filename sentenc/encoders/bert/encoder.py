"""TinyBERT, a small BERT with mean pooling, in the form that encodes: ONNX Runtime and no torch."""

import json
import os
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.checkpoint import Checkpoint, write_checkpoint
from sentenc.encoders.base import digest
from sentenc.encoders.bert.batching import Ids, between_special_tokens, spans_with_words, token_batches
from sentenc.encoders.bert.config import BertConfig, Compute
from sentenc.encoders.bert.quantization import dense_weight, dequantized, quantized
from sentenc.encoders.bert.tokenizer_files import CLS, PAD, SEP, check_tokenizer
from sentenc.encoders.golden import golden_vectors
from sentenc.encoders.transformer import TransformerEncoder
from sentenc.errors import CheckpointError
from sentenc.io.atomic import replacing_folder
from sentenc.texts import as_text_list
from sentenc.threads import usable_cores
from sentenc.tokenization.tokenizer import Tokenizer

KIND = "tinybert"
_OUTPUT = "sentence_embedding"
# Padded tokens in a batch, for each text of ``batch_size``: a core is busy from some hundred tokens on,
# and beyond its caches with many more.
_TOKENS_PER_TEXT = 8
_BLOCK = 4096


class BertEncoder(TransformerEncoder):
    """A small BERT with mean pooling (TinyBERT: Jiao et al., Findings of EMNLP 2020), or any other BERT.

    Args:
        config: The model's shape.
        weights: Every weight of ``config.shapes()``, float16 or float32; a matrix may be int8 with its
            scales (rows,) beside it, as ``<name>.scale``.
        tokenizer: One that keeps unknown words, or the content of a ``tokenizer.json``. The special
            tokens are added here.
        compute: What matrices are multiplied in: ``"float32"``, or ``"int8"`` (vectors differ by about a
            hundredth).
        threads: Batches that are computed at a time; all cores that the process may use by default.
        metadata: Name, sources, scores; kept in the folder.
        card: The model card.

    Raises:
        CheckpointError: A weight is missing, unexpected, misshapen or not finite, or a special token is
            not in the vocabulary.
    """

    def __init__(
        self,
        config: BertConfig,
        weights: Mapping[str, npt.NDArray[Any]],
        tokenizer: Tokenizer | str,
        *,
        compute: Compute = "float32",
        threads: int | None = None,
        metadata: dict[str, Any] | None = None,
        card: str | None = None,
    ) -> None:
        if compute not in ("float32", "int8"):
            raise ValueError(f"compute is {compute!r}, expected 'float32' or 'int8'")
        if threads is not None and threads < 1:
            raise ValueError(f"threads is {threads}, expected 1 or more")
        if isinstance(tokenizer, str):
            tokenizer = Tokenizer(tokenizer, skip_unknown=False)
        if tokenizer.skip_unknown:
            raise ValueError(
                "tokenizer.skip_unknown is True, expected False: a BERT has a row for unknown words"
            )
        check_tokenizer(tokenizer)
        if tokenizer.vocab_size > config.vocab_size:
            raise CheckpointError(
                f"tokenizer.json has ids up to {tokenizer.vocab_size - 1}, expected fewer than vocab_size {config.vocab_size}"
            )
        check_bert_weights(config, weights)
        self.config = config
        self.tokenizer = tokenizer
        self.compute: Compute = compute
        self.threads = threads or usable_cores()
        self.metadata = metadata or {}
        self.card = card
        self._weights = dict(weights)
        vocabulary = tokenizer.vocabulary
        self._pad, self._cls, self._sep = (vocabulary[token] for token in (PAD, CLS, SEP))
        self._session: Any = None
        self._fingerprint: str | None = None
        self._lock = threading.Lock()

    @classmethod
    def from_checkpoint(
        cls, checkpoint: Checkpoint, *, compute: Compute | None = None, threads: int | None = None
    ) -> "BertEncoder":
        """The model in a folder's content; it says itself what it computes in, unless that is given."""
        values = dict(checkpoint.config)
        try:
            stored = values.pop("compute")
            config = BertConfig.from_dict(values)
        except (KeyError, ValueError, TypeError) as error:
            raise CheckpointError(f"config.json has a bad config: {error}") from error
        return cls(
            config, checkpoint.tensors, checkpoint.tokenizer, compute=compute or stored, threads=threads,
            metadata=checkpoint.metadata, card=checkpoint.card,
        )  # fmt: skip

    @classmethod
    def from_folder(
        cls, folder: str | os.PathLike[str], *, compute: Compute | None = None, threads: int | None = None
    ) -> "BertEncoder":
        """The model in a Hugging Face or sentence-transformers folder.

        Raises:
            NotBertError: It holds another kind of model than a BERT with mean pooling.
            CheckpointError: A file is missing or damaged.
            MissingExtraError: The weights are a ``pytorch_model.bin``, and torch is not installed.
        """
        from sentenc.encoders.bert.reading import read_bert_folder

        found = read_bert_folder(Path(folder))
        return cls(
            found.config, found.weights, found.tokenizer, compute=compute or found.compute, threads=threads,
            metadata=found.metadata, card=found.card,
        )  # fmt: skip

    @property
    def dim(self) -> int:
        """Length of the vectors: the hidden size."""
        return self.config.hidden_size

    @property
    def max_tokens(self) -> int:
        """Tokens of a text that are used, special tokens included."""
        return self.config.max_tokens

    def count_tokens(self, texts: Any) -> npt.NDArray[np.int64]:
        """Counts the tokens of each text, [CLS] and [SEP] included: (n,) int64."""
        items = [texts] if isinstance(texts, str) else as_text_list(texts)
        counts = [self.tokenizer.encode(items[i : i + _BLOCK])[2] + 2 for i in range(0, len(items), _BLOCK)]
        return np.concatenate(counts) if counts else np.zeros(0, np.int64)

    def fingerprint(self) -> str:
        """A short hash of configuration, tokenizer and weights; the same however the weights are stored."""
        if self._fingerprint is None:
            spec = json.dumps(json.loads(self.tokenizer.spec), sort_keys=True)
            parts = [json.dumps(self._settings(), sort_keys=True).encode(), spec.encode()]
            for name in sorted(self.config.shapes()):
                parts += [name.encode(), np.ascontiguousarray(self.weight(name)).tobytes()]
            self._fingerprint = digest(parts)
        return self._fingerprint

    def weight(self, name: str) -> npt.NDArray[np.float32]:
        """A weight of ``config.shapes()`` in float32, whatever it is stored in."""
        return dense_weight(self._weights, name)

    def computing(self, compute: Compute, *, threads: int | None = None) -> "BertEncoder":
        """The same model, with matrices multiplied in float32 or int8."""
        return BertEncoder(
            self.config, self._weights, self.tokenizer, compute=compute, threads=threads or self.threads,
            metadata=self.metadata, card=self.card,
        )  # fmt: skip

    def compressed(self) -> "BertEncoder":
        """The same model with its matrices in int8 (a scale per row): a quarter the size."""
        return BertEncoder(
            self.config, quantized(self._weights), self.tokenizer, compute=self.compute, threads=self.threads,
            metadata=self.metadata, card=self.card,
        )  # fmt: skip

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes a folder that transformers, sentence-transformers and :func:`sentenc.load` read, all or nothing.

        Weights are float32 there.
        """
        from sentenc.encoders.bert.writing import write_bert_folder

        with replacing_folder(Path(folder), "modules.json", CheckpointError, "a model folder") as staging:
            write_bert_folder(
                staging, self.config, dequantized(self._weights), self.tokenizer, compute=self.compute,
                metadata=self.metadata, card=self.card,
            )  # fmt: skip

    def save_compact(self, folder: str | os.PathLike[str]) -> None:
        """Writes a folder of sentenc's own, with int8 matrices and golden vectors; all of it, or nothing.

        The golden vectors are those of ``compute="float32"``: rounding to int8 on the way hangs on the
        last bits of a sum, and those on the processor.
        """
        compact = self.compressed()
        write_checkpoint(
            folder,
            Checkpoint(
                kind=KIND, config=compact._settings(), tensors=compact._weights, tokenizer=self.tokenizer.spec,
                golden=golden_vectors(compact.computing("float32")), metadata=self.metadata, card=self.card,
            ),
        )  # fmt: skip

    def export_onnx(
        self,
        path: str | os.PathLike[str],
        *,
        compute: Compute = "float32",
        texts: list[str] | None = None,
        sts: str | os.PathLike[str] | None = None,
    ) -> dict[str, Any]:
        """Writes the model as an ONNX file, with ``<path>.json`` beside it that says what it is worth.

        Inputs are ``input_ids`` and ``attention_mask`` (B, L) int64, [CLS] and [SEP] included; the output
        is ``sentence_embedding`` (B, dim) float32.

        Args:
            path: Where to.
            compute: What the file's matrices are multiplied in.
            texts: Texts on which its vectors are compared with the model's own in float32.
            sts: TSV of score, text, text: pairs on which Spearman's correlation must not suffer.

        Returns:
            What stands in the JSON file.

        Raises:
            ValueError: The mean cosine is below 0.99, or the correlation (x 100) drops by more than 0.5;
                nothing is written then.
        """
        from sentenc.encoders.bert.onnx_export import export

        return export(self, Path(path), compute, texts, None if sts is None else Path(sts))

    def torch_model(self) -> tuple[Any, Any]:
        """A ``transformers.BertModel`` in evaluation mode, and its ``PreTrainedTokenizerFast``.

        Raises:
            MissingExtraError: torch or transformers is not installed.
        """
        from sentenc.encoders.bert.torch_conversion import torch_model

        return torch_model(self)

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

    def check_mean_pooling(self) -> None:
        """Raises ``ValueError`` if the model has a linear map after mean pooling."""
        if self.config.linear:
            raise ValueError("the BERT has a linear map after pooling, expected mean pooling alone")

    def encode_tokens(self, ids: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Vectors of n single tokens, each between [CLS] and [SEP].

        Args:
            ids: (n,) token ids.

        Returns:
            Shape (n, dim), float32.
        """
        tokens = np.asarray(ids, np.int64)
        out = np.empty((len(tokens), self.dim), np.float32)
        ends = np.arange(1, len(tokens) + 1)
        self._encode_rows(tokens, ends - 1, ends, np.arange(len(tokens)), 64, out)
        return out

    def _settings(self) -> dict[str, Any]:
        return self.config.to_dict() | {"compute": self.compute}

    def _encode_block(
        self, texts: list[str], batch_size: int, out: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        ids, ends, counts = self.tokenizer.encode(texts, self.max_tokens - 2)
        starts, with_words = spans_with_words(ids, ends, self.tokenizer.unknown_id)
        out[~with_words] = 0.0
        self._encode_rows(ids, starts, ends, np.flatnonzero(with_words), batch_size, out)
        return counts + 2

    def _encode_rows(
        self, ids: npt.NDArray[np.integer], starts: Ids, ends: Ids, rows: Ids, batch_size: int,
        out: npt.NDArray[np.float32],
    ) -> None:  # fmt: skip
        # Texts of like length go together, the longest first, so that no thread is left with them in the end.
        rows = rows[np.argsort(starts[rows] - ends[rows], kind="stable")]
        batches = token_batches((ends - starts)[rows] + 2, batch_size * _TOKENS_PER_TEXT)
        if not batches:
            return
        session = self._started()

        def encode_batch(part: slice) -> None:
            chosen = rows[part]
            texts = [ids[a:b] for a, b in zip(starts[chosen], ends[chosen], strict=True)]
            table, mask = between_special_tokens(texts, self._cls, self._sep, self._pad)
            out[chosen] = session.run([_OUTPUT], {"input_ids": table, "attention_mask": mask})[0]

        if self.threads == 1 or len(batches) < 2:
            for part in batches:
                encode_batch(part)
            return
        with ThreadPoolExecutor(min(self.threads, len(batches))) as pool:
            for _ in pool.map(encode_batch, batches):
                pass  # pass on what a thread raised

    def _started(self) -> Any:
        # The runtime is imported, and the graph built, when the first text is encoded.
        with self._lock:
            if self._session is None:
                from sentenc.encoders.bert.onnx_graph import bert_graph

                self._session = _session(bert_graph(self.config, self._weights, compute=self.compute))
            return self._session

    def _use(self, model: bytes) -> None:
        # Encodes with this very model, to see what it is worth.
        self._session = _session(model)

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = (
            self.config,
            self._weights,
            self.tokenizer,
            self.compute,
            self.threads,
            self.metadata,
            self.card,
        )
        return _rebuild, arguments


def _session(model: bytes) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    # Threads of ours each run a batch: they neither wait for each other, nor change how a sum is split.
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Only errors, which it raises as well.
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def check_bert_weights(config: BertConfig, weights: Mapping[str, npt.NDArray[Any]]) -> None:
    """Raises ``CheckpointError`` unless there is every weight of a configuration, well-formed, and no other."""
    expected = config.shapes()
    for name, shape in list(expected.items()):
        if len(shape) == 2 and name in weights and weights[name].dtype == np.int8:
            expected[f"{name}.scale"] = shape[:1]
    missing, unexpected = sorted(set(expected) - set(weights)), sorted(set(weights) - set(expected))
    if missing or unexpected:
        raise CheckpointError(
            f"model.safetensors has weights missing: {missing[:5]}, unexpected: {unexpected[:5]}"
        )
    for name, shape in expected.items():
        value = weights[name]
        if value.shape != shape:
            raise CheckpointError(f"model.safetensors has {name} of shape {value.shape}, expected {shape}")
        if value.dtype == np.int8 and len(shape) == 2:
            continue
        if value.dtype not in (np.float16, np.float32):
            raise CheckpointError(
                f"model.safetensors has {name} of dtype {value.dtype}, expected float16 or float32"
            )
        if not np.isfinite(value).all():
            raise CheckpointError(f"model.safetensors has values in {name} that are not finite")


def _rebuild(
    config: BertConfig,
    weights: dict[str, npt.NDArray[Any]],
    tokenizer: Tokenizer,
    compute: Compute,
    threads: int,
    metadata: dict[str, Any],
    card: str | None,
) -> BertEncoder:
    return BertEncoder(
        config, weights, tokenizer, compute=compute, threads=threads, metadata=metadata, card=card
    )
