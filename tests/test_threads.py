"""Functions that run together, and the number of threads that a process uses."""

import os
import subprocess
import sys
import threading
from functools import partial

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

import sentenc
from sentenc import threads
from sentenc.checkpoint import read_checkpoint
from sentenc.cli import cli
from sentenc.registry import resolve_model
from sentenc.threads import core_limit, run_together, stated_threads, thread_count

MACHINE, AFFINITY = 16, 8


@pytest.fixture(params=[1, 2])
def cores(request, monkeypatch):
    monkeypatch.setattr(threads, "usable_cores", lambda: request.param)
    return request.param


@pytest.fixture(autouse=True)
def _no_variable(monkeypatch):
    monkeypatch.delenv("SENTENC_THREADS", raising=False)


@pytest.fixture
def machine(monkeypatch):
    """A machine of 16 cores, on 8 of which the process may run."""
    monkeypatch.setattr(os, "cpu_count", lambda: MACHINE)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(AFFINITY)), raising=False)


def cgroups(root, lines, limits):
    """Writes the cgroups of a process, and the files with limits by their paths below ``/sys/fs/cgroup``."""
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text("".join(f"{line}\n" for line in lines))
    for name, content in limits.items():
        path = root / "sys/fs/cgroup" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    return root


def fail(error):
    raise error


def test_both_results_are_returned(cores):
    first, second = run_together(threading.get_ident, lambda: [threading.get_ident()])
    assert second == [threading.get_ident()]
    assert (first == second[0]) == (cores == 1)


@pytest.mark.usefixtures("cores")
def test_errors_of_either_are_raised():
    before = threading.active_count()
    with pytest.raises(KeyError, match="one"):
        run_together(lambda: fail(KeyError("one")), lambda: 2)
    with pytest.raises(IndexError, match="two"):
        run_together(lambda: 1, lambda: fail(IndexError("two")))
    # No thread is left, also after an error of the other function.
    assert threading.active_count() == before


def test_they_run_at_the_same_time(monkeypatch):
    monkeypatch.setattr(threads, "usable_cores", lambda: 2)
    barrier = threading.Barrier(2, timeout=30)
    run_together(barrier.wait, barrier.wait)


V2 = ["0::/kube/pod"]
V1 = ["4:memory:/pod", "3:cpu,cpuacct:/docker/pod", "1:name=systemd:/x", "0::/"]


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize(
    ("lines", "limits", "expected", "reason"),
    [
        # Version 2: the group's own limit, that of a parent, and the smaller of both.
        (V2, {"kube/pod/cpu.max": "200000 100000\n"}, 2, "2 cores"),
        (V2, {"kube/cpu.max": "300000 100000\n", "kube/pod/cpu.max": "max 100000\n"}, 3, "kube/cpu.max"),
        (V2, {"kube/cpu.max": "300000 100000", "kube/pod/cpu.max": "400000 100000"}, 3, "kube/cpu.max"),
        # In a container, the path may be that of the host, or lie outside of the container's root.
        (V2, {"cpu.max": "150000 100000\n"}, 2, "1.5 cores"),
        (["0::/../../other"], {"cpu.max": "100000 100000"}, 1, "1 cores"),
        (V2, {"kube/pod/cpu.max": "10000 100000\n"}, 1, "0.1 cores"),
        # Version 1, alone and together with version 2.
        (V1, {"cpu/docker/pod/cpu.cfs_quota_us": "250000", "cpu/docker/pod/cpu.cfs_period_us": "100000"}, 3, "2.5"),
        (V1, {"cpu,cpuacct/cpu.cfs_quota_us": "50000", "cpu,cpuacct/cpu.cfs_period_us": "25000"}, 2, "2 cores"),
        (["2:cpu:/", "0::/"], {"unified/cpu.max": "300000 100000"}, 3, "unified"),
        (V1, {"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, AFFINITY, "affinity of 8 of 16"),
        # No limit, limits above the number of cores, and contents that no kernel writes.
        (V2, {"kube/pod/cpu.max": "max 100000\n"}, AFFINITY, "affinity"),
        (V2, {"kube/pod/cpu.max": "max"}, AFFINITY, "affinity"),
        (V2, {"kube/pod/cpu.max": "750000 100000"}, AFFINITY, "affinity"),
        (V2, {"kube/pod/cpu.max": "3200000 100000"}, AFFINITY, "affinity"),
        (V2, {"kube/pod/cpu.max": ""}, AFFINITY, "affinity"),
        (V2, {"kube/pod/cpu.max": "100000 0"}, AFFINITY, "affinity"),
        (["nonsense", ""], {"cpu.max": "many 100000"}, AFFINITY, "affinity"),
        ([], {}, AFFINITY, "affinity"),
    ],
)  # fmt: skip
def test_quotas_of_cgroups(tmp_path, lines, limits, expected, reason):
    limit = core_limit(cgroups(tmp_path, lines, limits))
    assert limit.number == expected
    assert reason in limit.reason


def test_without_cgroups(tmp_path, machine, monkeypatch):
    assert core_limit(tmp_path).number == AFFINITY
    monkeypatch.delattr(os, "sched_getaffinity")
    assert core_limit(tmp_path) == (MACHINE, "all cores of the machine")
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert core_limit(tmp_path).number == 1


@given(line=st.text(), limit=st.text())
def test_any_content_of_the_files(tmp_path_factory, line, limit):
    root = tmp_path_factory.mktemp("root")
    (root / "proc/self").mkdir(parents=True)
    (root / "proc/self/cgroup").write_text(f"0::/a{line}", encoding="utf-8", errors="replace")
    (root / "sys/fs/cgroup").mkdir(parents=True)
    (root / "sys/fs/cgroup/cpu.max").write_text(limit, encoding="utf-8", errors="replace")
    assert core_limit(root).number >= 1


@pytest.mark.usefixtures("machine")
def test_the_environment_comes_first(tmp_path, monkeypatch):
    root = cgroups(tmp_path, V2, {"cpu.max": "100000 100000"})
    for value, expected in (("3", 3), (" 40 ", 40), ("", 1), ("  ", 1)):
        monkeypatch.setenv("SENTENC_THREADS", value)
        assert core_limit(root).number == expected
    monkeypatch.setenv("SENTENC_THREADS", "3")
    assert "SENTENC_THREADS" in core_limit(root).reason


@pytest.mark.parametrize("value", ["0", "-1", "many", "1.5", "1_0", "٣", "auto"])
def test_wrong_values_of_the_environment(monkeypatch, value):
    monkeypatch.setenv("SENTENC_THREADS", value)
    with pytest.raises(ValueError, match=rf"SENTENC_THREADS is '{value}', expected"):
        core_limit()
    with pytest.raises(ValueError, match="SENTENC_THREADS"):
        sentenc.load("cse-en-tiny")


def test_threads_of_an_encoder(monkeypatch):
    checkpoint = read_checkpoint(resolve_model("cse-en-tiny"))
    monkeypatch.setenv("SENTENC_THREADS", "3")
    for load in (partial(sentenc.load, "cse-en-tiny"), partial(sentenc.CSE.from_checkpoint, checkpoint)):
        for stated, expected in ((None, 3), ("auto", 3), (2, 2), (5, 5)):
            assert load(threads=stated).threads == expected
        for wrong, error in (
            (0, ValueError),
            (-1, ValueError),
            ("all", ValueError),
            (1.0, TypeError),
            (True, TypeError),
        ):
            with pytest.raises(error, match=f"threads is {wrong!r}, expected an integer >= 1"):
                load(threads=wrong)


def test_stated_threads():
    assert stated_threads("auto") is stated_threads(None) is None
    assert stated_threads(4) == thread_count(4) == 4


def test_threads_of_an_index(tmp_path, monkeypatch):
    monkeypatch.setenv("SENTENC_THREADS", "3")
    index = sentenc.Index("cse-en-tiny")
    index.add(["dog", "cat"])
    index.save(tmp_path / "index")
    for given_threads, expected in (("auto", 3), (2, 2)):
        assert sentenc.Index.open(tmp_path / "index", threads=given_threads).encoder.threads == expected
    with pytest.raises(ValueError, match="threads is 'all'"):
        sentenc.Index.open(tmp_path / "index", threads="all")


@pytest.mark.parametrize(
    ("value", "fails"),
    [("auto", False), ("2", False), ("0", True), ("-2", True), ("all", True), ("1.5", True)],
)
def test_the_option_of_commands(tmp_path, value, fails):
    texts = tmp_path / "texts.txt"
    texts.write_text("dog\ncat\n")
    arguments = ["encode", str(texts), "-m", "cse-en-tiny", "-o", str(tmp_path / "v.npy"), "--threads", value]
    if fails:
        with pytest.raises(click.BadParameter, match=f"'{value}' is neither an integer"):
            cli.main(arguments, standalone_mode=False)
    else:
        cli.main(arguments, standalone_mode=False)
    assert (tmp_path / "v.npy").exists() != fails


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no fork, or another BLAS")
def test_limit_of_blas():
    """It holds in other threads and in forked processes, and does nothing without threadpoolctl."""
    pytest.importorskip("threadpoolctl")
    code = (
        "import numpy, os, sys, threading\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "from threadpoolctl import threadpool_info\n"
        "from sentenc.threads import limit_blas\n"
        "def counts(): return [one['num_threads'] for one in threadpool_info() if one['user_api'] == 'blas']\n"
        "before = counts()\n"
        "limit_blas(3)\n"
        "numpy.ones((64, 64)) @ numpy.ones((64, 64))\n"
        "with ThreadPoolExecutor(1) as pool: print(len(before) > 0, {*counts(), *pool.submit(counts).result()})\n"
        "if not os.fork(): print({*counts()}, flush=True); os._exit(0)\n"
        "os.wait()\n"
        "sys.modules['threadpoolctl'] = None\n"
        "limit_blas(1)\n"
        "print({*counts()})\n"
    )
    result = subprocess.run(
        [sys.executable, "-u", "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert result.stdout.splitlines() == ["True {3}", "{3}", "{3}"]


def test_every_command_has_the_same_option():
    commands = [cli.get_command(None, name) for name in cli.list_commands(None)]
    options = {}
    for command in commands:
        for inner in [command, *getattr(command, "commands", {}).values()]:
            options |= {option: inner.name for option in inner.params if option.name == "threads"}
    assert {"encode", "serve", "mine", "classify", "fit", "align", "build"} <= set(options.values())
    for option, name in options.items():
        context = click.Context(click.Command(name))
        assert option.type.convert("auto", option, context) == "auto", name
