"""Measures the CPU time and the memory of a command with all processes that it starts. It needs Linux."""

import ctypes
import os
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

_TICKS = os.sysconf("SC_CLK_TCK")
_CPU_INTERVAL = 0.05
# A reading of the memory takes the kernel some milliseconds for each process.
_MEMORY_INTERVAL = 0.5
_PR_SET_CHILD_SUBREAPER = 36


@dataclass
class Usage:
    """The resources of a command and its descendants.

    Attributes:
        wall: Seconds from the start of the command to its end.
        cpu: CPU seconds, user and system. They are the larger of two sums: the resource usage of the command with the
            children that it waited for, and the last samples of all processes, which were taken every 0.05 s.
        peak_pss: The largest sum of the proportional set sizes of all processes, in bytes, sampled every 0.5 s.
        processes: The number of processes that were seen.
    """

    wall: float = 0.0
    cpu: float = 0.0
    peak_pss: int = 0
    processes: int = 0
    _last: dict[tuple[int, int], float] = field(default_factory=dict, repr=False)


def run(command: Sequence[str], environment: dict[str, str], log: Path) -> Usage:
    """Runs a command to its end and returns its resources. It kills the processes that the command leaves.

    Args:
        command: The command and its arguments.
        environment: The variables of its environment.
        log: The file that its output is written to.

    Raises:
        SystemExit: The command failed; the message has the end of its output.
    """
    # Orphans of the command become children of this process, and so are still measured.
    ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    usage = Usage()
    with log.open("wb") as output:
        start = time.perf_counter()
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=subprocess.STDOUT)
        status, rusage = _watch(process.pid, usage, start)
        usage.wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    usage.cpu = max(rusage.ru_utime + rusage.ru_stime, sum(usage._last.values()))
    usage.processes = len(usage._last)
    _kill_orphans()
    if process.returncode != 0:
        tail = log.read_text(encoding="utf-8", errors="replace")[-3000:]
        raise SystemExit(f"exit code {process.returncode}: {' '.join(command)}\n{tail}")
    return usage


def _watch(pid: int, usage: Usage, start: float):
    next_memory = 0.0
    while True:
        ended, status, rusage = os.wait4(pid, os.WNOHANG)
        if ended:
            return status, rusage
        processes = _descendants(os.getpid())
        for number, started, cpu in processes:
            usage._last[number, started] = cpu
        now = time.perf_counter() - start
        if now >= next_memory:
            usage.peak_pss = max(usage.peak_pss, sum(_pss(number) for number, _, _ in processes))
            next_memory = now + _MEMORY_INTERVAL
        time.sleep(_CPU_INTERVAL)


def _descendants(root: int) -> list[tuple[int, int, float]]:
    # Returns the number, the start and the CPU seconds of every process below root.
    children: dict[int, list[tuple[int, int, float]]] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        try:
            stat = Path(entry.path, "stat").read_text(errors="replace")
        except OSError:
            continue
        # The name of the program, in parentheses, may contain spaces.
        fields = stat.rpartition(")")[2].split()
        parent, cpu, started = int(fields[1]), (int(fields[11]) + int(fields[12])) / _TICKS, int(fields[19])
        children.setdefault(parent, []).append((int(entry.name), started, cpu))
    below, waiting = [], [root]
    while waiting:
        for process in children.get(waiting.pop(), []):
            below.append(process)
            waiting.append(process[0])
    return below


def _pss(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("Pss:")), 0)


def _kill_orphans() -> None:
    for pid, _, _ in _descendants(os.getpid()):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    while True:
        try:
            os.wait4(-1, 0)
        except ChildProcessError:
            return
