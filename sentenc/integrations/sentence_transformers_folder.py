"""Writes encoders as folders of sentence-transformers, without sentence-transformers and PyTorch."""

import os
from pathlib import Path
from typing import Any

from sentenc.encoders.base import Encoder
from sentenc.encoders.bert.encoder import BertEncoder
from sentenc.encoders.bert.reading import METADATA, MODULES, PROMPTS
from sentenc.encoders.bert.tokenizer_files import write_json
from sentenc.encoders.inner_folder import ENCODER_FOLDER, ENCODER_MODULE
from sentenc.encoders.roles import ROLES
from sentenc.encoders.router import FACTORS_VERSION, write_static_modules
from sentenc.encoders.sentence_transformer import SentenceTransformerEncoder
from sentenc.encoders.static_embedding import has_static_form
from sentenc.errors import CheckpointError
from sentenc.io.atomic import replacing_folder


def write_folder(encoder: Encoder, folder: str | os.PathLike[str]) -> bool:
    """Writes a folder; see :meth:`sentenc.Encoder.save_sentence_transformers`.

    Returns:
        Whether it loads without sentenc.
    """
    if isinstance(encoder, BertEncoder | SentenceTransformerEncoder):
        # Their own folders are folders of sentence-transformers.
        encoder.save(folder)
        return True
    kind = "a folder of sentence-transformers"
    with replacing_folder(Path(folder), MODULES, CheckpointError, kind) as staging:
        stated = settings(encoder)
        if has_static_form(encoder):
            modules = write_static_modules(staging, encoder)
            if encoder.stored_weight("embeddings")[1] is not None:
                # Older versions do not know the factors of int8 rows.
                stated["requirements"] = {"sentence-transformers": f">={FACTORS_VERSION}"}
            if rest := {key: value for key, value in encoder.metadata.items() if key != "prompts"}:
                write_json(staging / METADATA, rest)
        else:
            modules = [("", ENCODER_MODULE)]
            encoder.save(staging / ENCODER_FOLDER)
            write_json(staging / "config.json", {"truncate_dim": None})
        entries = [
            {"idx": i, "name": str(i), "path": path, "type": module}
            for i, (path, module) in enumerate(modules)
        ]
        write_json(staging / MODULES, entries)
        write_json(staging / PROMPTS, stated)
        if card := getattr(encoder, "card", None):
            (staging / "README.md").write_text(card, encoding="utf-8")
    return modules[0][1] != ENCODER_MODULE


def settings(encoder: Encoder) -> dict[str, Any]:
    """Returns the content of ``config_sentence_transformers.json``: prompts and similarity."""
    return {
        "default_prompt_name": None,
        "prompts": prompts_of(encoder),
        "similarity_fn_name": "cosine",
    }


def prompts_of(encoder: Encoder) -> dict[str, str]:
    """Returns the prompts by name; those of roles are the prompts of the encoders of the roles."""
    prompts = dict(encoder.prompts)
    for role in ROLES:
        own, name = encoder.for_role(role)
        if name is None:
            prompts.pop(role, None)
        else:
            prompts[role] = own.prompts[name]
    return prompts
