"""SentEval's transfer and similarity tasks, on any encoder, in minutes.

    >>> from sentenc.evaluation import evaluate
    >>> results = evaluate(encoder, tasks="all", data="data/senteval")
    >>> results.scores["MR"], results.averages["STS avg"]

Every score carries its protocol, so that it is never compared with one made differently.
"""

from sentenc.evaluation.harness import DataMismatchWarning, evaluate
from sentenc.evaluation.probes.base import LogisticProbe, Probe
from sentenc.evaluation.probes.lbfgs import NotConvergedWarning
from sentenc.evaluation.probes.senteval import SentEvalProbe
from sentenc.evaluation.readers import DataError
from sentenc.evaluation.results import Results, Score
from sentenc.evaluation.senteval_tasks import GROUPS, TASKS
from sentenc.evaluation.tasks import Part, Task

__all__ = [
    "GROUPS",
    "TASKS",
    "DataError",
    "DataMismatchWarning",
    "LogisticProbe",
    "NotConvergedWarning",
    "Part",
    "Probe",
    "Results",
    "Score",
    "SentEvalProbe",
    "Task",
    "evaluate",
]
