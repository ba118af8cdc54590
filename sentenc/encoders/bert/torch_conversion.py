"""Converts the weights of a BERT or MPNet to a model of transformers that can be fine-tuned, and back."""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sentenc.encoders.bert.config import LINEAR, BertConfig
from sentenc.encoders.bert.quantization import dequantized
from sentenc.encoders.bert.tokenizer_files import SETTINGS, TOKENIZER, write_tokenizer
from sentenc.encoders.bert.transformers_names import bert_weights, transformers_weights
from sentenc.encoders.bert.writing import transformers_config
from sentenc.encoders.weights import Weights
from sentenc.errors import MissingExtraError
from sentenc.tokenization.tokenizer import Tokenizer


def to_torch(config: BertConfig, weights: Weights, tokenizer: Tokenizer) -> tuple[Any, Any]:
    """Returns a ``BertModel`` or ``MPNetModel`` in evaluation mode, and its ``PreTrainedTokenizerFast``.

    Args:
        config: The model's shape.
        weights: Every weight of ``config.shapes()``. The linear map after pooling is left out.
        tokenizer: A tokenizer that keeps unknown words.

    Raises:
        MissingExtraError: torch or transformers is not installed.
    """
    try:
        import torch
        import transformers
    except ImportError as error:
        package = (error.name or "transformers").split(".")[0]
        raise MissingExtraError("train", package, "a model that can be fine-tuned") from error
    values = transformers_config(config, tokenizer)
    # from_pretrained sets these two; the constructor does not accept them.
    values = {name: value for name, value in values.items() if name not in ("architectures", "torch_dtype")}
    kind = "MPNet" if config.is_mpnet else "Bert"
    make_config, make_model = (getattr(transformers, f"{kind}{part}") for part in ("Config", "Model"))
    # The random weights are replaced below, so they must not use up the caller's random numbers.
    with torch.random.fork_rng([]):
        model = make_model(make_config(**values), add_pooling_layer=False)
    named = transformers_weights(dequantized(weights), config)
    tensors = {name: torch.from_numpy(value.copy()) for name, value in named.items() if name != LINEAR}
    # Only buffers may be missing: positions and token types.
    mismatch = model.load_state_dict(tensors, strict=False)
    if mismatch.unexpected_keys or set(mismatch.missing_keys) & {
        name for name, _ in model.named_parameters()
    }:
        raise RuntimeError(
            f"{kind}Model of this transformers version has other weights than expected: {mismatch}"
        )
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tokenizer(folder, tokenizer, config.max_tokens, config.model_type)
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        tokens = {key: value for key, value in settings.items() if key.endswith("_token")}
        fast_tokenizer = transformers.PreTrainedTokenizerFast(
            tokenizer_file=str(folder / TOKENIZER), model_max_length=config.max_tokens, **tokens
        )
    return model.eval(), fast_tokenizer


def from_torch(model: Any, config: BertConfig) -> dict[str, npt.NDArray[np.float32]]:
    """Returns the weights of a ``BertModel`` or ``MPNetModel``, without pooler and linear map.

    Args:
        model: A model of the shape of ``config``.
        config: Names the weights to take.
    """
    state = {name: value.detach().float().cpu().numpy().copy() for name, value in model.state_dict().items()}
    named = bert_weights(state, config.model_type)
    return {name: named[name] for name in config.shapes() if name != LINEAR}
