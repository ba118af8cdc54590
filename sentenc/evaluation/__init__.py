"""Evaluates any encoder on SentEval's transfer and similarity tasks, in minutes.

    >>> from sentenc.evaluation import evaluate, to_markdown
    >>> results = evaluate(encoder, tasks="all", data="data/senteval")
    >>> results.scores["MR"], results.averages["STS avg"]
    >>> print(to_markdown(results))

Every score contains its protocol and settings, to show whether two scores are comparable.
"""

from sentenc.errors import DataError, DataMismatchWarning, NotConvergedWarning
from sentenc.evaluation.harness import evaluate
from sentenc.evaluation.probes.base import LogisticProbe, Probe
from sentenc.evaluation.probes.senteval import SentEvalProbe
from sentenc.evaluation.results import Results, Score
from sentenc.evaluation.results_markdown import to_markdown
from sentenc.evaluation.results_plot import plot
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
    "plot",
    "to_markdown",
]
