"""Measures the peak memory of ``sentenc index build`` for files of several sizes.

    python benchmarks/index_memory.py --texts FILE [--sizes 100000,1000000,2000000] [--store int8]

FILE contains one sentence per line. Each size indexes that number of lines from its beginning, by the command
line. The anonymous memory of the process is sampled, so that mapped files do not count.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import machine


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--texts", type=Path, required=True, help="text file with one sentence per line")
    parser.add_argument("--sizes", default="100000,1000000,2000000", help="numbers of lines to index")
    parser.add_argument("--store", default="int8", help="how the index stores vectors")
    arguments = parser.parse_args()
    content = {**machine.circumstances(), "store": arguments.store, "builds": []}
    for size in map(int, arguments.sizes.split(",")):
        for kind in ("exact", "ivf"):
            with tempfile.TemporaryDirectory() as folder:
                content["builds"].append(build(arguments, size, kind, Path(folder)))
            print(content["builds"][-1], flush=True)
            machine.write("index_memory", content)


def build(arguments: argparse.Namespace, size: int, kind: str, folder: Path) -> dict:
    lines = folder / "lines.txt"
    with open(arguments.texts, encoding="utf-8") as source, open(lines, "w", encoding="utf-8") as target:
        target.writelines(islice(source, size))
    command = [sys.executable, "-m", "sentenc", "index", "build", str(lines), "-o", str(folder / "index")]
    started, peak = time.perf_counter(), 0
    child = subprocess.Popen([*command, "--kind", kind, "--store", arguments.store, "--quiet"])
    while child.poll() is None:
        peak = max(peak, machine.own_memory(child.pid))
        time.sleep(0.02)
    if child.returncode:
        raise SystemExit(f"{' '.join(command)} ended with exit code {child.returncode}")
    seconds = time.perf_counter() - started
    size_on_disk = sum(file.stat().st_size for file in (folder / "index").rglob("*") if file.is_file())
    return {
        "lines": size,
        "kind": kind,
        "seconds": round(seconds, 1),
        "MiB of its own": peak,
        "MB on disk": round(size_on_disk / 1e6, 1),
    }


if __name__ == "__main__":
    main()
