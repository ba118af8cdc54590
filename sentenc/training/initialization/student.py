"""Builds the student that a run file describes, with its initial weights."""

import hashlib
import json
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

from sentenc.training.config.pretraining import RunConfig
from sentenc.training.initialization.build_cse import build_cse_student
from sentenc.training.students.base import EncoderStudent
from sentenc.training.teachers.base import Teacher


def initialize_student(
    run: RunConfig,
    texts: Callable[[], Iterable[str]],
    load_teacher: Callable[[], Teacher],
    corpus_fingerprint: str,
) -> EncoderStudent:
    """Builds the student of a pretraining run.

    Slow initializations are cached in the run's work folder.

    Args:
        run: The configuration of the run.
        texts: Returns an iterator over the texts in which tokens are counted; a new one at each call.
        load_teacher: Returns the teacher. It is called only if the initialization needs the teacher.
        corpus_fingerprint: The fingerprint of the corpus that ``texts`` reads.

    Raises:
        ValueError: The settings do not fit together.
        CheckpointError: The model or tokenizer to initialize from cannot be read.
        ModelNotFoundError: No model has this name.
    """
    teacher = None
    if run.teacher is not None:
        poolings = [model.pooling for model in run.teacher.joint]
        teacher = [run.teacher.names, run.teacher.model_weights, poolings]
    identity = json.dumps([asdict(run.student), teacher, corpus_fingerprint], sort_keys=True)
    cache = Path(run.work) / f"initialization-{hashlib.sha256(identity.encode()).hexdigest()[:16]}"
    if run.student.kind == "bert":
        # transformers is slow to import, and a CSE does without it.
        from sentenc.training.initialization.build_bert import build_bert_student

        return build_bert_student(run, texts, load_teacher, cache)
    return build_cse_student(run, texts, load_teacher, cache.with_suffix(".npz"))
