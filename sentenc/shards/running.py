"""Encodes many files: finds those that are left, and runs them in one process or several."""

import warnings
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import NamedTuple, TypeVar

from sentenc.errors import SentencError, ShardError, TruncationWarning
from sentenc.io.formats import file_format
from sentenc.io.progress import Bar, is_drawn, progress_bar, resize
from sentenc.io.remote import is_remote
from sentenc.io.tables import estimate_rows
from sentenc.shards.encoding import Job
from sentenc.shards.footers import count_rows
from sentenc.shards.manifest import Manifest, Shard
from sentenc.shards.sources import Source
from sentenc.shards.workers import Done, Failed, run_here, run_in_processes

# Requests to an object store that wait at the same time.
_REQUESTS = 16
_NAMES_IN_MESSAGE = 5

R = TypeVar("R")


class EncodingReport(NamedTuple):
    """The result of :func:`sentenc.encode_files`.

    Attributes:
        files: The number of input files. The output can contain more, those of runs with other inputs.
        rows: The number of rows of these files.
        skipped: The number of these files that an earlier run had encoded.
        dim: The number of components of a vector.
    """

    files: int
    rows: int
    skipped: int
    dim: int


def run(job: Job, sources: Sequence[Source], processes: int, show_progress_bar: bool) -> EncodingReport:
    """Encodes all sources that are not encoded yet.

    Raises:
        ShardError: The folder belongs to other vectors or to another run, or files could not be encoded.
    """
    with job.folder.locked():
        manifest = Manifest(job.folder, job.described)
        left, whole = _left(job, manifest, sources)
        manifest.add(whole)
        manifest.write()
        try:
            rows = _Run(job, left, manifest, len(sources)).run(processes, show_progress_bar)
        finally:
            manifest.write()
    rows += sum(shard.rows for shard in whole)
    return EncodingReport(len(sources), rows, len(whole), job.described["dim"])


def _uses_store(job: Job, sources: Sequence[Source]) -> bool:
    """Returns whether the output or a source is on an object store."""
    return any(map(is_remote, (job.folder.path_of(""), *(source.path for source in sources))))


def _left(job: Job, manifest: Manifest, sources: Sequence[Source]) -> tuple[list[Source], list[Shard]]:
    left, whole, reasons = [], [], []
    for source, state in zip(
        sources, _each(manifest.state_of, sources, _uses_store(job, sources)), strict=True
    ):
        if isinstance(state, Shard):
            whole.append(state)
            continue
        left.append(source)
        if state is not None:
            reasons.append(state)
    if reasons:
        message = f"{_count(reasons, 'is', 'are')} encoded again: {_some(reasons)}"
        warnings.warn(message, stacklevel=5)
    # The largest come first, so that none of them keeps a single process busy at the end.
    return sorted(left, key=lambda source: -source.size), whole


class _Run:
    """The files that are left, their rows that are done, and what their encoding warned of."""

    def __init__(self, job: Job, sources: list[Source], manifest: Manifest, n_files: int) -> None:
        self._job, self._sources, self._manifest, self._n_files = job, sources, manifest, n_files
        self._uses_store = _uses_store(job, sources)
        self._counted = [0] * len(sources)
        self._expected: list[int] = []
        self._messages: list[str] = []
        self._truncated: list[str] = []
        self._failures: dict[str, str] = {}

    def run(self, processes: int, show_progress_bar: bool) -> int:
        """Encodes the files, and returns the number of their rows."""
        draws = show_progress_bar and is_drawn() and bool(self._sources)
        self._expected = (
            [round(rows) for rows in _each(self._expected_rows, self._sources, self._uses_store)]
            if draws
            else self._counted[:]
        )
        rows, is_full = 0, False
        with (
            progress_bar(sum(self._expected), "encoding", draws) as bar,
            closing(self._events(processes, bar)) as events,
        ):
            for event in events:
                source = self._sources[event.task]
                if isinstance(event, Failed):
                    self._failures[source.path] = event.reason
                    if event.is_fatal:
                        is_full = True
                        break
                    continue
                rows += event.result.rows
                self._manifest.add([Shard(event.result.rows, source)])
                self._messages += event.result.warnings
                self._truncated += [source.path] * event.result.is_truncated
                resize(bar, event.result.rows - self._expected[event.task])
                self._progress(bar, event.task, event.result.rows)
        self._report(is_full)
        return rows

    def _expected_rows(self, source: Source) -> float:
        try:
            if (self._job.options.format or file_format(source.path)) == "parquet":
                return count_rows(source.path)
            # Of a remote file, the beginning would have to be transferred.
            return 0 if is_remote(source.path) else estimate_rows(source.path)
        except (SentencError, OSError):
            # The file fails when its turn comes.
            return 0

    def _events(self, processes: int, bar: Bar) -> Generator[Done | Failed, None, None]:
        def on_progress(task: int, rows: int) -> None:
            self._progress(bar, task, rows)

        processes = min(processes, len(self._sources))
        if processes <= 1:
            return run_here(self._job, self._sources, on_progress)
        # The connections of an object store belong to threads, and would not work in a forked process.
        may_fork = not self._uses_store
        return run_in_processes(self._job, self._sources, processes, on_progress, may_fork=may_fork)

    def _progress(self, bar: Bar, task: int, rows: int) -> None:
        # A file that is tried again begins anew, but the bar does not go back.
        if rows > self._counted[task]:
            bar.update(rows - self._counted[task])
            self._counted[task] = rows

    def _report(self, is_full: bool) -> None:
        for message in dict.fromkeys(self._messages):
            warnings.warn(message, stacklevel=6)
        if self._truncated:
            limit = self._job.encoder.max_tokens
            have = _count(self._truncated, "has", "have")
            message = f"{have} texts longer than max_tokens={limit}, whose rest was cut off: {_some(self._truncated)}"
            warnings.warn(message, TruncationWarning, stacklevel=6)
        if not self._failures:
            return
        lines = [reason if path in reason else f"{path}: {reason}" for path, reason in self._failures.items()]
        rest = ", and the others were not tried" if is_full else ""
        raise ShardError(
            f"{len(self._failures)} of {self._n_files} files could not be encoded{rest}; the same command tries "
            "them again:\n" + "\n".join(lines),
            self._failures,
        )


def _each(function: Callable[[Source], R], sources: Sequence[Source], with_requests: bool) -> Iterable[R]:
    if not with_requests:
        return map(function, sources)
    with ThreadPoolExecutor(_REQUESTS) as pool:
        return list(pool.map(function, sources))


def _count(names: Sequence[str], verb: str, plural_verb: str) -> str:
    return f"1 file {verb}" if len(names) == 1 else f"{len(names)} files {plural_verb}"


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_NAMES_IN_MESSAGE]) + (", ..." if len(names) > _NAMES_IN_MESSAGE else "")
