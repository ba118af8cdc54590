"""Our batched probe against the same protocol fold by fold in scikit-learn, in one run, task by task.

    python benchmarks/transfer_speed.py --data FOLDER [--dim 256] [--tasks MR,...] [--model NAME]

Both see the same vectors, folds and grid, and both results are compared: a fast wrong answer is no
answer. By default the vectors are random word averages, which are as hard to fit as any. scikit-learn
runs at its default tolerance, with the threads of BLAS that it is given; ours uses as many.
"""

import argparse
import os
import time
from dataclasses import replace

import machine
import numpy as np
from bag_of_words import FoldByFold
from transfer import RandomWords

from sentenc.evaluation import LogisticProbe, Probe
from sentenc.evaluation.embedder import CachedEmbedder, as_embedder
from sentenc.evaluation.probes.base import Labeled
from sentenc.evaluation.protocols import Outcome, k_fold, nested_k_fold, pair_features, senteval_order, split
from sentenc.evaluation.senteval_tasks import TASKS


def labeled_parts(name: str, store: CachedEmbedder, data: str) -> dict[str, Labeled]:
    task = TASKS[name]
    parts, found = task.read(data, "senteval")[0], {}
    for key, part in parts.items():
        order = senteval_order(part.texts, part.partners, part.targets)
        vectors = store.encode(part.texts)
        features = vectors if part.partners is None else pair_features(vectors, store.encode(part.partners))
        found[key] = Labeled(features[order], part.targets[order], len(task.classes))
    return found


def run(name: str, parts: dict[str, Labeled], probe: Probe) -> tuple[Outcome, dict[str, float]]:
    rng, protocol = np.random.default_rng(1111), TASKS[name].protocol
    wall, cpu = time.perf_counter(), time.process_time()
    if protocol == "nested-k-fold":
        outcome = nested_k_fold(parts["all"], probe, 10, 1111, rng)
    elif protocol == "k-fold":
        outcome = k_fold(parts["train"], parts["test"], probe, 10, 1111, rng)
    else:
        outcome = split(parts["train"], parts["dev"], parts["test"], probe, rng)
    return outcome, {"wall": time.perf_counter() - wall, "cpu": time.process_time() - cpu}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", required=True)
    parser.add_argument("--dim", type=int, default=256)
    parser.add_argument("--model", help="a model to encode with, by name or folder, instead")
    parser.add_argument("--cache", help="folder to keep vectors in between runs")
    parser.add_argument("--tasks", default="MR,CR,SUBJ,MPQA,SST2,TREC,MRPC,SICK-E")
    parser.add_argument("--tolerance", type=float, default=1e-4, help="of scikit-learn; 1e-4 is its default")
    parser.add_argument("--name", default="transfer_speed", help="of the result file")
    arguments = parser.parse_args()
    content = {**machine.circumstances(), "dim": arguments.dim, "tolerance": arguments.tolerance, "tasks": {}}
    content["OMP_NUM_THREADS"] = os.environ.get("OMP_NUM_THREADS")
    encoder = RandomWords(arguments.dim)
    if arguments.model:
        from sentenc.registry import load

        encoder = load(arguments.model)
        content["dim"] = encoder.dim
    content["vectors"] = arguments.model or "random word averages"
    store = CachedEmbedder(as_embedder(encoder), arguments.cache)
    total = {"ours": {"wall": 0.0, "cpu": 0.0}, "scikit-learn": {"wall": 0.0, "cpu": 0.0}}
    for name in arguments.tasks.split(","):
        parts = labeled_parts(name, store, arguments.data)
        ours, our_seconds = run(name, parts, LogisticProbe())
        reference = FoldByFold(arguments.tolerance)
        # In single precision its L-BFGS grinds on at the floor of what it can resolve.
        doubled = {
            key: replace(part, features=part.features.astype(np.float64)) for key, part in parts.items()
        }
        theirs, their_seconds = run(name, doubled, reference)
        row = {
            "ours": {"accuracy": ours.metrics["accuracy"], **our_seconds},
            "scikit-learn": {
                "accuracy": theirs.metrics["accuracy"],
                **their_seconds,
                "fits": reference.n_fits,
            },
            "ratio": {kind: their_seconds[kind] / our_seconds[kind] for kind in ("wall", "cpu")},
        }
        content["tasks"][name] = row
        for system, seconds in (("ours", our_seconds), ("scikit-learn", their_seconds)):
            for kind in ("wall", "cpu"):
                total[system][kind] += seconds[kind]
        print(name, row, flush=True)
        content["total"] = {
            **total,
            "ratio": {kind: total["scikit-learn"][kind] / total["ours"][kind] for kind in ("wall", "cpu")},
        }
        machine.write(arguments.name, content)
    print(content["total"])


if __name__ == "__main__":
    main()
