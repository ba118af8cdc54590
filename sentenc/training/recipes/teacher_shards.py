"""Lists the files of cached embeddings that a run trains on, so that other runs may add files to a shared cache."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from sentenc.errors import CacheError
from sentenc.io.atomic import write_text

_FILE = "teacher-shards.json"


def write_shards(work: Path, shards: Mapping[str, Sequence[str]]) -> None:
    """Writes the names of the shards that a run begins with into its work folder.

    Args:
        work: The work folder.
        shards: Names of the shards, by the name of their folder in the teacher's cache; "." is the cache itself.
    """
    write_text(work / _FILE, json.dumps(shards, indent=1) + "\n")


def read_shards(work: Path, cache: Path) -> dict[str, list[str]] | None:
    """Returns the names of the shards that a run began with; None if its work folder has no list of them.

    Args:
        work: The work folder.
        cache: The teacher's cache.

    Raises:
        CacheError: The list is damaged, or a shard is missing.
    """
    path = work / _FILE
    if not path.exists():
        return None
    try:
        shards = {
            folder: list(map(str, names)) for folder, names in json.loads(path.read_text("utf-8")).items()
        }
    except (ValueError, AttributeError, TypeError) as error:
        raise CacheError(
            f"{path} is damaged, expected JSON with lists of file names ({error}): delete it"
        ) from error
    listed = [cache / folder / name for folder, names in shards.items() for name in names]
    if missing := [shard for shard in listed if not shard.exists()]:
        raise CacheError(
            f"teacher.cache is {cache}, which lacks {len(missing)} of the {len(listed)} files that the run began with, "
            f"first {missing[0]}: restore them, or start again (--fresh, or resume=False)"
        )
    return shards
