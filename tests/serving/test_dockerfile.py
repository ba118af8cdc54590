"""The Dockerfile: its rules, the syntax of its shell commands, and the commands that the image runs."""

import http.server
import json
import re
import subprocess
import sys
import threading
import tomllib
from contextlib import nullcontext
from pathlib import Path

import pytest

from sentenc.cli import cli

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(not (ROOT / "Dockerfile").exists(), reason="an sdist has no Dockerfile")


def instructions():
    """The instructions of each stage as pairs of a name and arguments, without comments."""
    lines = (ROOT / "Dockerfile").read_text("utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    stages = []
    for line in filter(None, re.sub(r"\\\n\s*", " ", text).splitlines()):
        name, _, arguments = line.partition(" ")
        if name == "FROM":
            stages.append([])
        stages[-1].append((name, arguments.strip()))
    return stages


def of(stage, name):
    return [arguments for instruction, arguments in stage if instruction == name]


def command(name):
    return json.loads(of(instructions()[-1], name)[0])


def test_the_images_are_slim_and_of_a_version():
    for stage in instructions():
        assert re.fullmatch(r"python:3\.\d+-slim( AS build)?", stage[0][1])
    supported = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]["classifiers"]
    version = re.search(r"3\.\d+", instructions()[-1][0][1]).group()
    assert f"Programming Language :: Python :: {version}" in supported


def test_the_server_is_no_root_and_writes_nothing():
    last = instructions()[-1]
    names = [name for name, _ in last]
    user, group = of(last, "USER")[0].split(":")
    assert int(user) >= 10_000
    assert int(group) >= 10_000
    assert f"--uid {user} " in of(last, "RUN")[0]
    assert names.index("USER") > max(i for i, name in enumerate(names) if name in ("RUN", "COPY"))
    assert "PYTHONDONTWRITEBYTECODE=1" in of(last, "ENV")[0].split()
    assert "VOLUME" not in names
    assert not {name for stage in instructions() for name, _ in stage} & {"ADD", "MAINTAINER"}


def test_packages_leave_no_caches():
    for stage in instructions():
        for shell in of(stage, "RUN"):
            subprocess.run(["sh", "-n", "-c", shell], check=True)
            # "&&" ends a command that fails.
            assert ";" not in shell
            if "apt-get install" in shell:
                assert "--no-install-recommends" in shell
                assert shell.endswith("rm -rf /var/lib/apt/lists/*")
            if "pip install" in shell:
                assert "--no-cache-dir" in shell


def test_the_build_has_its_files():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    build = instructions()[0]
    extras = re.search(r'"\.\[(.+)\]"', of(build, "RUN")[-1]).group(1).split(",")
    assert set(extras) <= set(project["project"]["optional-dependencies"])
    copied = {name for arguments in of(build, "COPY") for name in arguments.split()[:-1]}
    needed = {"pyproject.toml", "hatch_build.py", "sentenc", project["project"]["readme"]}
    assert copied >= needed | set(project["project"]["license-files"])
    kept = {line[1:] for line in (ROOT / ".dockerignore").read_text("utf-8").splitlines() if line[:1] == "!"}
    assert kept == copied
    assert all((ROOT / name).exists() for name in copied)


def test_the_server_starts_as_in_the_image(monkeypatch):
    program, *arguments = [*command("ENTRYPOINT"), *command("CMD")]
    assert program == "sentenc"
    assert of(instructions()[-1], "EXPOSE") == [arguments[arguments.index("--port") + 1]]
    configs = []
    monkeypatch.setattr("sentenc.serving.serve", lambda app, config, **_: configs.append((app, config)))
    monkeypatch.setattr("sentenc.serving.bind", lambda config: nullcontext())
    monkeypatch.setattr("sentenc.serving.logs.log_to_stderr", lambda as_json: None)
    monkeypatch.setattr("sentenc.cli.serve.limit_blas", lambda threads: None)
    monkeypatch.setattr("gc.freeze", lambda: None)
    cli.main(arguments, standalone_mode=False)
    app, config = configs[0]
    assert (config.host, config.port) == ("0.0.0.0", 8000)
    assert list(app.state.sentenc.catalog.models) == ["cse-en"]


@pytest.mark.parametrize("status", [200, 503, None])
def test_the_health_check(status):
    class Server(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(status if self.path == "/health" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    options, _, check = of(instructions()[-1], "HEALTHCHECK")[0].partition("CMD ")
    assert "--interval=" in options
    program, *arguments = json.loads(check)
    assert program == "python"
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Server) as server:
        if status is not None:
            threading.Thread(target=server.serve_forever, daemon=True).start()
        port = str(server.server_port)
        changed = [argument.replace("8000", port).replace("timeout=3", "timeout=1") for argument in arguments]
        done = subprocess.run([sys.executable, *changed], capture_output=True, check=False)
        if status is not None:
            server.shutdown()
    assert (done.returncode == 0) == (status == 200)


def test_the_documentation_states_the_commands():
    guide = (ROOT / "docs" / "guides" / "serving.md").read_text("utf-8")
    assert "docker build -t sentenc ." in guide
    assert "--read-only" in guide
