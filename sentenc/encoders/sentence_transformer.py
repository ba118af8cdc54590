"""Wraps any sentence-transformers model as an encoder."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.bert.config import Pooling
from sentenc.encoders.bert.reading import METADATA, is_plain_bert_folder, pooling_missing, read_metadata
from sentenc.encoders.bert.tokenizer_files import write_json
from sentenc.encoders.fingerprints import model_digest, prompted_fingerprint
from sentenc.encoders.roles import stated_space
from sentenc.encoders.transformer import TransformerEncoder, has_known_tokens, single_token_batch
from sentenc.errors import CheckpointError, MissingExtraError, NotBertError
from sentenc.forking import lock_before_fork, outside_forked_thread
from sentenc.texts import as_text_list, replace_lone_surrogates
from sentenc.validation import check_integer

# Single tokens that go through the model together.
_TOKENS_PER_BATCH = 256


class SentenceTransformerEncoder(TransformerEncoder):
    """A ``SentenceTransformer`` with the contract of an :class:`~sentenc.Encoder`.

    A text without known tokens has the zero vector, as with every encoder of sentenc. The wrapped model would
    return the vector of its special tokens.

    Args:
        model: A loaded ``SentenceTransformer``, or a folder to load one from.
        name: The name of the encoder in reports. By default the name of the folder.
        pooling: ``"mean"`` or ``"cls"``, for a folder of a transformer that states no pooling.
        max_tokens: The number of tokens at which texts are cut, by default the one that the model states.
        prompts: Prompts by name, in addition to those of the model or instead of them.

    Raises:
        MissingExtraError: sentence-transformers is not installed.
        CheckpointError: The folder states no pooling, and none was passed, or the model is no transformer.
        TypeError: ``max_tokens`` is no integer.
        ValueError: A pooling was passed with a model that has its own, or ``max_tokens`` is out of range.
    """

    def __init__(
        self,
        model: Any,
        name: str | None = None,
        *,
        pooling: Pooling | None = None,
        max_tokens: int | None = None,
        prompts: Mapping[str, str] | None = None,
    ) -> None:
        if isinstance(model, str | os.PathLike):
            folder = Path(model)
            name = name or folder.name
            self.metadata = read_metadata(folder)
            model = load_sentence_transformer(folder, pooling)
        elif pooling is not None:
            raise ValueError(f"pooling is {pooling!r}, expected None for a loaded model")
        positions = _positions(model)
        if max_tokens is not None:
            model.max_seq_length = check_integer("max_tokens", max_tokens, at_most=positions)
        elif positions is not None and (model.max_seq_length or positions + 1) > positions:
            model.max_seq_length = positions
        if prompts:
            model.prompts = {**model.prompts, **prompts}
        self.model = model
        self.name = name or type(model).__name__
        self._tokenizer = model.tokenizer
        special_ids = getattr(self._tokenizer, "all_special_ids", None)
        if special_ids is None:
            raise NotBertError(
                f"{self.name} has the modules {', '.join(self._module_names())}, whose tokenizer is a "
                f"{type(self._tokenizer).__name__}, expected the tokenizer of a transformer"
            )
        self._special_ids = np.array(sorted(special_ids), np.int64)
        self._digests: dict[str, str] = {}
        self._lock = lock_before_fork()
        # Not every model states the size of its vectors, so one vector is computed.
        self._dim = int(model.encode("a", show_progress_bar=False).shape[0])

    @property
    def dim(self) -> int:
        """The number of components of a vector."""
        return self._dim

    @property
    def max_tokens(self) -> int:
        """The number of tokens of a text that are used, special tokens included."""
        return int(self.model.max_seq_length or 2**31 - 1)

    def count_tokens(self, texts: Any) -> npt.NDArray[np.int64]:
        """Counts the tokens of each text, special tokens included: shape (n,), int64."""
        items = [texts] if isinstance(texts, str) else as_text_list(texts)
        return np.array([len(ids) for ids in self._token_ids(items)], np.int64)

    @property
    def prompts(self) -> Mapping[str, str]:
        """The prompts of the wrapped model, read-only. Empty ones are left out if it has no default prompt."""
        stated = self.model.prompts
        has_default = self.model.default_prompt_name is not None
        return MappingProxyType({name: text for name, text in stated.items() if text or has_default})

    def fingerprint(self) -> str:
        """Returns a short hash of the weights, the encoder's name and settings, ``max_tokens`` and prompts."""
        return prompted_fingerprint(self._unprompted_fingerprint(), self.prompts)

    def _unprompted_fingerprint(self) -> str:
        settings = self._space_settings()
        if self.model.default_prompt_name is not None:
            settings["default_prompt_name"] = self.model.default_prompt_name
        return self._digest(_described(f"{self.name} {self.max_tokens}", settings))

    @property
    def space(self) -> str:
        """The identifier of the space of the vectors; see :attr:`Encoder.space`."""
        return stated_space(self.metadata) or self._digest(_described("space", self._space_settings()))

    def _space_settings(self) -> dict[str, Any]:
        # The settings that change the vectors, and that no weight shows. Mean pooling is not listed, so that most
        # models have the same fingerprint as ever.
        poolings = [
            self._pooling_modes(module) for module in self.model if type(module).__name__ == "Pooling"
        ]
        settings = {"pooling": poolings, "truncate_dim": getattr(self.model, "truncate_dim", None)}
        return {name: value for name, value in settings.items() if value not in (None, [], [["mean"]])}

    @staticmethod
    def _pooling_modes(module: Any) -> list[str]:
        stated = module.pooling_mode
        return [stated] if isinstance(stated, str) else list(stated)

    def _digest(self, described: str) -> str:
        if described not in self._digests:
            state = self.model.state_dict()
            weights = ((key, state[key].float().cpu().numpy()) for key in sorted(state))
            self._digests[described] = model_digest(described, None, weights)
        return self._digests[described]

    def save(self, folder: str | os.PathLike[str]) -> None:
        """Writes the wrapped model as sentence-transformers does.

        The folder is replaced completely or not at all.

        Raises:
            CheckpointError: ``folder`` exists and is not a model folder.
        """
        from sentenc.io.atomic import replacing_folder

        with replacing_folder(Path(folder), "modules.json", CheckpointError, "a model folder") as staging:
            self.model.save(str(staging))
            # sentence-transformers has written the prompts.
            if rest := {key: value for key, value in self.metadata.items() if key != "prompts"}:
                write_json(staging / METADATA, rest)

    @property
    def vocabulary(self) -> dict[str, int]:
        """The id of every token."""
        vocabulary: dict[str, int] = self._tokenizer.get_vocab()
        return vocabulary

    @property
    def normalize(self) -> bool:
        """Whether the vectors are scaled to unit length after pooling."""
        return "Normalize" in self._module_names()

    def token_embeddings(self) -> npt.NDArray[np.float32]:
        """Returns the input embeddings of V tokens, by id: shape (V, d), float32.

        Raises:
            ValueError: The wrapped model is not a transformer.
        """
        table: npt.NDArray[np.float32] = (
            self._transformer().get_input_embeddings().weight.detach().float().cpu().numpy()
        )
        return table

    @outside_forked_thread
    def encode_tokens(self, ids: npt.ArrayLike) -> npt.NDArray[np.float32]:
        """Encodes n single tokens, each between the model's special tokens.

        Args:
            ids: Token ids, shape (n,).

        Returns:
            Shape (n, dim), float32.

        Raises:
            ValueError: The wrapped model is not a transformer.
        """
        import torch

        self._transformer()
        tokens = torch.from_numpy(single_token_batch(self._tokenizer, ids))
        out = np.empty((len(tokens), self.dim), np.float32)
        with torch.no_grad():
            for start in range(0, len(tokens), _TOKENS_PER_BATCH):
                batch = tokens[start : start + _TOKENS_PER_BATCH].to(self.model.device)
                output = self.model({"input_ids": batch, "attention_mask": torch.ones_like(batch)})
                vectors = output["sentence_embedding"].float().cpu().numpy()
                out[start : start + len(batch)] = vectors
        return out

    def torch_model(self) -> tuple[Any, Any]:
        """Returns the wrapped transformer itself, not a copy, and its tokenizer.

        Raises:
            ValueError: The wrapped model is not a transformer.
        """
        return self._transformer(), self._tokenizer

    def pooling(self) -> Pooling:
        """Returns the pooling over the last hidden states, ``"mean"`` or ``"cls"``.

        Raises:
            ValueError: The model has other modules, another pooling, a default prompt or a truncation,
                or its transformer has no ``max_position_embeddings``.
        """
        kinds = self._module_names()
        if kinds[:2] != ["Transformer", "Pooling"] or kinds[2:] not in ([], ["Normalize"]):
            raise ValueError(
                f"{self.name} has the modules {', '.join(kinds)}, "
                "expected Transformer, Pooling and optionally Normalize"
            )
        modes = self._pooling_modes(self.model[1])
        if modes not in (["mean"], ["cls"]):
            raise ValueError(f"{self.name} pools by {', '.join(modes)}, expected mean or cls pooling")
        for setting in ("default_prompt_name", "truncate_dim"):
            if (value := getattr(self.model, setting, None)) is not None:
                raise ValueError(f"{self.name} has {setting} {value!r}, expected none")
        transformer = self._transformer()
        if not hasattr(transformer.config, "max_position_embeddings"):
            raise ValueError(f"{self.name} is a {type(transformer).__name__}, expected a BERT")
        return "mean" if modes == ["mean"] else "cls"

    def _module_names(self) -> list[str]:
        return [type(module).__name__ for module in self.model]

    def _transformer(self) -> Any:
        model = getattr(self.model[0], "auto_model", None)
        if model is None:
            raise ValueError(f"{self.name} begins with {self._module_names()[0]}, expected a transformer")
        return model

    def __getstate__(self) -> dict[str, Any]:
        """Returns all attributes but the lock, which cannot be pickled."""
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restores the attributes and creates a new lock."""
        self.__dict__.update(state)
        self._lock = lock_before_fork()

    def _encode_block(
        self, texts: list[str], batch_size: int, out: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        return self._encode_prompted_block(texts, None, batch_size, out)

    @outside_forked_thread
    def _encode_prompted_block(
        self, texts: list[str], prompt: str | None, batch_size: int, out: npt.NDArray[np.float32]
    ) -> npt.NDArray[np.int64]:
        clean = [replace_lone_surrogates(text) for text in texts]
        ids = self._token_ids(clean)
        # The wrapped model puts the prompt before the texts, because its pooling may leave the prompt out.
        # Without a prompt, it uses its default prompt, if it has one.
        with self._lock:
            out[...] = self.model.encode(
                clean, prompt=prompt, batch_size=batch_size, convert_to_numpy=True, show_progress_bar=False
            )
        for row, row_ids in enumerate(ids):
            if not has_known_tokens(row_ids, self._special_ids):
                out[row] = 0.0
        if prompt:
            ids = self._token_ids([prompt + text for text in clean])
        return np.array([len(row_ids) for row_ids in ids], np.int64)

    def _token_ids(self, texts: list[str]) -> list[list[int]]:
        if not texts:
            return []
        clean = [replace_lone_surrogates(text) for text in texts]
        # The tokenizer stores padding and truncation as state, so two threads must not use it at once.
        # verbose=False: its own warning about long texts has less information than TruncationWarning.
        with self._lock:
            encoded = self._tokenizer(clean, truncation=False, padding=False, verbose=False)
        ids: list[list[int]] = encoded["input_ids"]
        return ids


def _described(name: str, settings: dict[str, Any]) -> str:
    return f"{name} {json.dumps(settings, sort_keys=True)}" if settings else name


def _positions(model: Any) -> int | None:
    # The number of positions of a transformer, if it has a table of them.
    transformer = getattr(model[0], "auto_model", None)
    table = getattr(getattr(transformer, "embeddings", None), "position_embeddings", None)
    if table is None or not hasattr(table, "num_embeddings"):
        return getattr(getattr(transformer, "config", None), "max_position_embeddings", None)
    # The positions of RoBERTa and MPNet begin after that of the padding.
    first = 0 if table.padding_idx is None else table.padding_idx + 1
    return int(table.num_embeddings) - first


def load_sentence_transformer(folder: Path, pooling: Pooling | None) -> Any:
    """Loads the ``SentenceTransformer`` of a folder without a connection.

    Args:
        folder: The folder.
        pooling: The pooling of a folder that states none; None for any other.

    Raises:
        CheckpointError: The folder states no pooling, and none was passed.
        MissingExtraError: sentence-transformers is not installed.
        ValueError: The folder states its pooling, and one was passed.
    """
    is_plain = is_plain_bert_folder(folder)
    if is_plain and pooling is None:
        raise CheckpointError(pooling_missing(folder))
    if not is_plain and pooling is not None:
        raise ValueError(f"pooling is {pooling!r}, expected None: {folder} states its modules")
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        feature = f"loading {folder}, which is no BERT, DistilBERT or MPNet with mean or cls pooling,"
        raise MissingExtraError("sentence-transformers", "sentence-transformers", feature) from error
    try:
        model = SentenceTransformer(str(folder), device=None, local_files_only=True)
    except Exception as error:  # many kinds: no tokenizer, no weights, code that is not trusted
        raise CheckpointError(f"{folder} cannot be loaded by sentence-transformers: {error}") from error
    if pooling is not None:
        # The second module of a folder without modules is mean pooling.
        model[1] = type(model[1])(model[0].auto_model.config.hidden_size, pooling_mode=pooling)
    return model
