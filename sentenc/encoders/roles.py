"""Roles of texts: the prompts of queries and documents, and the space that vectors belong to."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Literal, get_args

from sentenc.errors import CheckpointError

Role = Literal["query", "document"]
ROLES = get_args(Role)

_NO_PROMPTS: Mapping[str, str] = MappingProxyType({})


def stated_prompts(metadata: Mapping[str, Any]) -> Mapping[str, str]:
    """Returns the prompts that the metadata of a model state under ``"prompts"``, read-only.

    Raises:
        CheckpointError: They are not texts by name.
    """
    prompts = metadata.get("prompts")
    if prompts is None:
        return _NO_PROMPTS
    if not isinstance(prompts, Mapping) or not all(
        isinstance(name, str) and isinstance(prompt, str) for name, prompt in prompts.items()
    ):
        raise CheckpointError(f"the metadata have the prompts {prompts!r}, expected texts by name")
    return MappingProxyType(dict(prompts))


def with_prompts(metadata: Mapping[str, Any], prompts: Mapping[str, str]) -> dict[str, Any]:
    """Returns the metadata of a model with other prompts. An empty prompt removes the one of its name."""
    if not prompts:
        return dict(metadata)
    merged = {name: text for name, text in {**stated_prompts(metadata), **prompts}.items() if text}
    rest = {key: value for key, value in metadata.items() if key != "prompts"}
    return rest | {"prompts": merged} if merged else rest


def stated_space(metadata: Mapping[str, Any]) -> str | None:
    """Returns the space that the metadata of a model state under ``"space"``, or None.

    Raises:
        CheckpointError: It is no text, or empty.
    """
    space = metadata.get("space")
    if space is not None and (not isinstance(space, str) or not space):
        raise CheckpointError(f"the metadata have the space {space!r}, expected a text that identifies it")
    return space


def prompt_of(prompts: Mapping[str, str], name: str) -> str:
    """Returns the prompt of a name.

    A model with prompts that states none for a role has an empty one, as in sentence-transformers.

    Raises:
        ValueError: There is none of this name.
    """
    if prompts and name in ROLES:
        return prompts.get(name, "")
    if not isinstance(name, str) or name not in prompts:
        expected = " or ".join(map(repr, prompts)) or "None, because the model has no prompts"
        raise ValueError(f"prompt_name is {name!r}, expected {expected}")
    return prompts[name]
