"""From a TinyBERT to the model of transformers that can be fine-tuned, and back."""

import json
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sentenc.encoders.bert.config import LINEAR
from sentenc.encoders.bert.tokenizer_files import SETTINGS, TOKENIZER, write_tokenizer
from sentenc.encoders.bert.writing import transformers_config
from sentenc.errors import MissingExtraError

if TYPE_CHECKING:
    from sentenc.encoders.bert.encoder import BertEncoder


def torch_model(encoder: "BertEncoder") -> tuple[Any, Any]:
    """See :meth:`~sentenc.BertEncoder.torch_model`."""
    try:
        import torch
        from transformers import BertConfig, BertModel, PreTrainedTokenizerFast
    except ImportError as error:
        package = (error.name or "transformers").split(".")[0]
        raise MissingExtraError("train", package, "a model that can be fine-tuned") from error
    values = transformers_config(encoder.config, encoder.tokenizer)
    # What from_pretrained would set; the constructor knows neither.
    values = {name: value for name, value in values.items() if name not in ("architectures", "torch_dtype")}
    state = torch.random.get_rng_state()
    try:
        model = BertModel(BertConfig(**values), add_pooling_layer=False)
    finally:
        # Its random weights are replaced, and are not to cost the caller random numbers.
        torch.random.set_rng_state(state)
    weights = {
        name: torch.from_numpy(encoder.weight(name).copy())
        for name in encoder.config.shapes()
        if name != LINEAR
    }
    # What it may lack are buffers: positions, token types.
    lacking = model.load_state_dict(weights, strict=False)
    if lacking.unexpected_keys or set(lacking.missing_keys) & {name for name, _ in model.named_parameters()}:
        raise RuntimeError(f"BertModel of this transformers has other weights than expected: {lacking}")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_tokenizer(folder, encoder.tokenizer, encoder.max_tokens)
        settings = json.loads((folder / SETTINGS).read_text(encoding="utf-8"))
        tokens = {key: value for key, value in settings.items() if key.endswith("_token")}
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_file=str(folder / TOKENIZER), model_max_length=encoder.max_tokens, **tokens
        )
    return model.eval(), tokenizer


def from_torch(model: Any, like: "BertEncoder") -> "BertEncoder":
    """A TinyBERT of the weights of a ``BertModel``, in all else like another.

    Args:
        model: Of the other's shape; a pooler is left out.
        like: Whose tokenizer and settings it gets.
    """
    from sentenc.encoders.bert.encoder import BertEncoder

    state = model.state_dict()
    weights = {
        name: state[name].detach().float().cpu().numpy().copy()
        for name in like.config.shapes()
        if name != LINEAR
    }
    if like.config.linear:
        weights[LINEAR] = like.weight(LINEAR)
    return BertEncoder(like.config, weights, like.tokenizer, compute=like.compute, threads=like.threads)
