"""Compares the speed of the batched logistic probe with the same protocol fold by fold in scikit-learn.

    python benchmarks/transfer_speed.py --data FOLDER [--dim 256] [--tasks MR,...] [--model NAME]

Both probes use the same vectors, folds and grid. The results contain both accuracies, because speed is only
comparable at equal accuracy. By default the vectors are random word averages, which are as hard to fit as
any. scikit-learn runs at its default tolerance, with the threads that BLAS is configured for. The batched
probe uses the same number of threads.
"""

import argparse
import os
import time
from dataclasses import replace
from typing import Any

import machine
import numpy as np
from bag_of_words import FoldByFold
from transfer import RandomWords

from sentenc.evaluation import LogisticProbe, Probe
from sentenc.evaluation.embedder import CachedEmbedder, as_embedder
from sentenc.evaluation.probes.base import Labeled
from sentenc.evaluation.protocols.base import Outcome, ProtocolConfig, pair_features
from sentenc.evaluation.protocols.classification import senteval_order
from sentenc.evaluation.senteval_tasks import TASKS

CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


def labeled_parts(name: str, embedder: CachedEmbedder, data: str) -> dict[str, Labeled]:
    task = TASKS[name]
    labeled = {}
    for key, part in task.read(data, "senteval").items():
        order = senteval_order(part.texts, part.partners, part.targets)
        vectors = embedder.encode(part.texts)
        features = (
            vectors if part.partners is None else pair_features(vectors, embedder.encode(part.partners))
        )
        labeled[key] = Labeled(features[order], part.targets[order], len(task.classes))
    return labeled


def run(name: str, parts: dict[str, Labeled], probe: Probe) -> tuple[Outcome, dict[str, float]]:
    """Returns the outcome of a classification task and its wall and CPU time in seconds."""
    started = {kind: clock() for kind, clock in CLOCKS.items()}
    outcome = TASKS[name].protocol.classify(parts, ProtocolConfig(probe=probe), np.random.default_rng(1111))
    return outcome, {kind: clock() - started[kind] for kind, clock in CLOCKS.items()}


def compare(name: str, parts: dict[str, Labeled], tolerance: float) -> dict[str, Any]:
    """Returns accuracy and seconds of both probes on one task."""
    batched, batched_seconds = run(name, parts, LogisticProbe())
    reference = FoldByFold(tolerance)
    # In single precision scikit-learn's L-BFGS keeps iterating at the limit of what it can resolve.
    double = {key: replace(part, features=part.features.astype(np.float64)) for key, part in parts.items()}
    sequential, sequential_seconds = run(name, double, reference)
    return {
        "ours": {"accuracy": batched.metrics["accuracy"], **batched_seconds},
        "scikit-learn": {
            "accuracy": sequential.metrics["accuracy"],
            **sequential_seconds,
            "fits": reference.n_fits,
        },
        "ratio": {kind: sequential_seconds[kind] / batched_seconds[kind] for kind in CLOCKS},
    }


def totals(tasks: dict[str, dict[str, Any]]) -> dict[str, Any]:
    seconds = {
        system: {kind: sum(row[system][kind] for row in tasks.values()) for kind in CLOCKS}
        for system in ("ours", "scikit-learn")
    }
    ratio = {kind: seconds["scikit-learn"][kind] / seconds["ours"][kind] for kind in CLOCKS}
    return {**seconds, "ratio": ratio}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True, help="folder in SentEval's layout")
    parser.add_argument("--dim", type=int, default=256, help="dimensions of the random word vectors")
    parser.add_argument("--model", help="name or folder of a model to encode with instead of random vectors")
    parser.add_argument("--cache", help="folder in which vectors are stored between runs")
    parser.add_argument("--tasks", default="MR,CR,SUBJ,MPQA,SST2,TREC,MRPC,SICK-E")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="scikit-learn's tol (default: 1e-4)")
    parser.add_argument("--name", default="transfer_speed", help="name of the result file")
    arguments = parser.parse_args()
    content = {**machine.circumstances(), "dim": arguments.dim, "tolerance": arguments.tolerance, "tasks": {}}
    content["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS")
    encoder = RandomWords(arguments.dim)
    if arguments.model:
        from sentenc.registry import load

        encoder = load(arguments.model)
        content["dim"] = encoder.dim
    content["vectors"] = arguments.model or "random word averages"
    embedder = CachedEmbedder(as_embedder(encoder), arguments.cache)
    for name in arguments.tasks.split(","):
        parts = labeled_parts(name, embedder, arguments.data)
        content["tasks"][name] = compare(name, parts, arguments.tolerance)
        print(name, content["tasks"][name], flush=True)
        content["total"] = totals(content["tasks"])
        machine.write(arguments.name, content)
    print(content["total"])


if __name__ == "__main__":
    main()
