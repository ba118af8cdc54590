"""Runs benchmarks of MTEB on an encoder. It needs a network, because MTEB downloads the data.

    python benchmarks/mteb_benchmarks.py --model cse-en --output build/mteb
    python benchmarks/mteb_benchmarks.py --benchmark NanoBEIR
    python benchmarks/mteb_benchmarks.py --tasks STSBenchmark NanoSCIDOCSRetrieval

By default it runs MTEB(eng, v2) and NanoBEIR. MTEB keeps the result of every task in the folder OUTPUT, so
that a run that was stopped continues. The report has the main score of every task, times 100, and the mean of
each type of task. Needs the extra "mteb".
"""

import argparse
import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import mteb

import sentenc
from sentenc.integrations.mteb import SentencModel
from sentenc.io.atomic import write_text

BENCHMARKS = ["MTEB(eng, v2)", "NanoBEIR"]


def main_scores(model: SentencModel, tasks: Any, folder: Path) -> dict[str, dict[str, float]]:
    """Returns the main score of every task, times 100, by the type of the task and its name."""
    results = mteb.evaluate(model, tasks, cache=mteb.ResultCache(folder))
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    for result in results.task_results:
        scores[result.task_type][result.task_name] = round(100 * result.get_score(), 2)
    return dict(scores)


def report(name: str, scores: dict[str, dict[str, float]]) -> str:
    """Returns the scores as text."""
    lines = [name]
    for kind, tasks in sorted(scores.items()):
        lines.append(f"  {kind}: {sum(tasks.values()) / len(tasks):.2f}, mean of {len(tasks)}")
        lines += [f"    {task}: {score:.2f}" for task, score in sorted(tasks.items())]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="cse-en", help="name, folder or Hub id")
    parser.add_argument("--benchmark", action="append", help="name of a benchmark of MTEB; may be repeated")
    parser.add_argument("--tasks", nargs="+", help="names of tasks of MTEB, instead of benchmarks")
    parser.add_argument("--output", type=Path, default=Path("build/mteb"), help="folder of the results")
    options = parser.parse_args()
    model = SentencModel(options.model)
    written: dict[str, Any] = {
        "model": options.model,
        "fingerprint": model.model.fingerprint(),
        "versions": {"sentenc": sentenc.__version__, "mteb": mteb.__version__},
        "scores": {},
    }
    if options.tasks:
        chosen = {"tasks": mteb.get_tasks(options.tasks)}
    else:
        chosen = {name: mteb.get_benchmark(name) for name in options.benchmark or BENCHMARKS}
    for name, tasks in chosen.items():
        written["scores"][name] = main_scores(model, tasks, options.output)
        print(report(name, written["scores"][name]), flush=True)
        write_text(options.output / "scores.json", json.dumps(written, indent=1) + "\n")


if __name__ == "__main__":
    main()
