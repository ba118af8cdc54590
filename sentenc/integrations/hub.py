"""Uploads models to the Hugging Face Hub."""

import tempfile
from pathlib import Path
from typing import Any

from sentenc.checkpoint import CARD
from sentenc.encoders.base import Encoder
from sentenc.errors import HubError, MissingExtraError
from sentenc.integrations.model_card import HUB_ID, hub_card

# An older model in the repository would be read by these files, also if the new one has none of them.
_OLDER_FILES = [
    "modules.json", "config_sentence_transformers.json", "sentence_bert_config.json", "router_config.json",
    "metadata.json", "*_Pooling/*", "*_Normalize/*", "*_Dense/*", "encoder/*", "documents/*", "queries/*",
]  # fmt: skip


def push(
    encoder: Encoder,
    repo_id: str,
    *,
    private: bool | None = None,
    token: str | None = None,
    revision: str | None = None,
    create_pr: bool = False,
    commit_message: str | None = None,
    **card: Any,
) -> str:
    """Uploads a model; see :meth:`sentenc.Encoder.push_to_hub`.

    Returns:
        The address of the commit or of the pull request.
    """
    if not isinstance(repo_id, str) or not HUB_ID.fullmatch(repo_id):
        raise ValueError(f"repo_id is {repo_id!r}, expected owner/name")
    try:
        from huggingface_hub import HfApi
    except ImportError as error:
        raise MissingExtraError("hub", "huggingface_hub", "an upload to the Hugging Face Hub") from error
    with tempfile.TemporaryDirectory(prefix="sentenc-") as temporary:
        folder = Path(temporary) / "model"
        encoder.save(folder)
        # The card is not among the files whose hashes a model folder states.
        path = folder / CARD
        written = path.read_text(encoding="utf-8") if path.exists() else ""
        path.write_text(hub_card(encoder, repo_id, written, card), encoding="utf-8")
        api = HfApi(token=token)
        try:
            api.create_repo(repo_id, private=private, exist_ok=True)
            if revision is not None and not create_pr:
                api.create_branch(repo_id, branch=revision, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repo_id,
                folder_path=folder,
                revision=revision,
                create_pr=create_pr,
                commit_message=commit_message or f"Upload {type(encoder).__name__} with sentenc",
                delete_patterns=_OLDER_FILES,
            )
        except Exception as error:  # many kinds: no network, no access, a full quota
            raise HubError(f"{repo_id} on the Hugging Face Hub cannot be written: {error}") from error
    return str(commit.pr_url or commit.commit_url)
