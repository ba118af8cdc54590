"""Memory of `sentenc index build` as the file grows: the process's own, sampled; mapped files do not count.

    python benchmarks/index_memory.py --texts FILE [--sizes 100000,1000000,2000000] [--store int8]

FILE has a sentence a line; of it the first so many lines are indexed, from the command line as a user does.
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
    parser.add_argument("--texts", type=Path, required=True)
    parser.add_argument("--sizes", default="100000,1000000,2000000")
    parser.add_argument("--store", default="int8")
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
        raise SystemExit(f"{' '.join(command)} ended with {child.returncode}")
    return {
        "lines": size, "kind": kind, "seconds": round(time.perf_counter() - started, 1), "MiB of its own": peak,
        "MB on disk": round(sum(f.stat().st_size for f in (folder / "index").rglob("*") if f.is_file()) / 1e6, 1),
    }  # fmt: skip


if __name__ == "__main__":
    main()
