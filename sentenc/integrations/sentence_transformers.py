"""A module of sentence-transformers that encodes with an encoder of sentenc."""

from pathlib import Path
from typing import Any, Self

import numpy as np

from sentenc.encoders.base import Encoder
from sentenc.encoders.inner_folder import ENCODER_FOLDER
from sentenc.errors import MissingExtraError
from sentenc.integrations.sentence_transformers_folder import prompts_of
from sentenc.registry import load
from sentenc.validation import check_integer

try:
    import torch
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.base.modules import InputModule
except ImportError as error:
    raise MissingExtraError(
        "sentence-transformers", "sentence-transformers 5.4 or later", "a SentenceTransformer"
    ) from error


def as_sentence_transformer(encoder: Encoder, truncate_dim: int | None = None) -> Any:
    """Returns a ``SentenceTransformer``; see :meth:`sentenc.Encoder.to_sentence_transformers`."""
    module = EncoderModule(encoder, truncate_dim)
    # The encoder runs on the CPU, so its vectors should not be moved elsewhere.
    return SentenceTransformer(modules=[module], prompts=prompts_of(encoder), device="cpu")


class EncoderModule(InputModule):  # type: ignore[misc, unused-ignore]
    """The only module of a ``SentenceTransformer`` that encodes with an encoder of sentenc.

    Args:
        encoder: The encoder.
        truncate_dim: The number of leading components to keep; None for the encoder's ``similarity_dim``.

    Raises:
        TypeError: ``truncate_dim`` is no integer.
        ValueError: ``truncate_dim`` is out of range.
    """

    forward_kwargs = {"task"}  # noqa: RUF012

    def __init__(self, encoder: Encoder, truncate_dim: int | None = None) -> None:
        super().__init__()
        if truncate_dim is not None:
            truncate_dim = check_integer("truncate_dim", truncate_dim, at_most=encoder.dim)
        self.encoder = encoder
        self.truncate_dim = truncate_dim

    def preprocess(
        self, inputs: Any, prompt: str | None = None, task: str | None = None, **options: Any
    ) -> dict[str, Any]:
        """Returns the texts, their prompt and their role. The encoder tokenizes them itself."""
        return {"texts": list(inputs), "prompt": prompt, "task": task}

    def forward(self, features: dict[str, Any], **options: Any) -> dict[str, Any]:
        """Adds the ``sentence_embedding``, a tensor (n, dim) in float32, to the features."""
        texts, prompt, role = features["texts"], features.get("prompt"), features.get("task")
        encoder = self.encoder if role is None else self.encoder.for_role(role)[0]
        name = next((name for name, text in encoder.prompts.items() if text == prompt), None)
        if prompt and name is None:
            texts = [prompt + text for text in texts]
        vectors = encoder.encode(
            texts, truncate_dim=self.get_embedding_dimension(), prompt_name=name, on_overflow="ignore"
        )
        features["sentence_embedding"] = torch.from_numpy(np.ascontiguousarray(vectors))
        return features

    def get_embedding_dimension(self) -> int:
        """Returns the number of components of a vector."""
        return self.encoder.similarity_dim if self.truncate_dim is None else self.truncate_dim

    @property
    def max_seq_length(self) -> int:
        """The number of tokens of a text that are used."""
        return self.encoder.max_tokens

    def get_config_dict(self) -> dict[str, Any]:
        """Returns the content of ``config.json``."""
        return {"truncate_dim": self.truncate_dim}

    def save(self, output_path: str, *args: Any, safe_serialization: bool = True, **options: Any) -> None:
        """Writes the encoder's folder and ``config.json`` into a folder."""
        self.encoder.save(Path(output_path) / ENCODER_FOLDER)
        self.save_config(output_path)

    @classmethod
    def load(cls, model_name_or_path: str, subfolder: str = "", **options: Any) -> Self:
        """Loads the module from a folder or a model of the Hub, for sentence-transformers."""
        hub = {
            key: options[key]
            for key in ("token", "cache_folder", "revision", "local_files_only")
            if key in options
        }
        config = cls.load_config(model_name_or_path, subfolder=subfolder, **hub)
        inner = f"{subfolder}/{ENCODER_FOLDER}" if subfolder else ENCODER_FOLDER
        return cls(load(cls.load_dir_path(model_name_or_path, subfolder=inner, **hub)), **config)
