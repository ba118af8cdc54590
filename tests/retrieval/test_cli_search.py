"""``sentenc search`` and ``sentenc mine`` in a shell."""

import csv
import json
import os
import re
import subprocess
import sys

import numpy as np
import pytest

from sentenc.cli import cli
from sentenc.cli.search import _cut, _lines
from sentenc.retrieval import Hit, Index
from tests.retrieval.conftest import LINES, TEXTS, build, run
from tests.support.models import make_cse

pytestmark = pytest.mark.usefixtures("folder_of_its_own")


def test_search(model, rows):
    build(rows, "-o", "index", "--id-field", "key", model=model)
    out, _ = run("search", "index", LINES[2], "-k", 3)
    first, *others = out.splitlines()
    rank, score, name, text = first.split("  ", 3)
    assert (rank, name, text.strip()) == ("1", "k2", f'{LINES[2]}  {{"n": 2}}')
    assert float(score) > 1
    assert len(others) == 2
    out, _ = run("search", "index", LINES[2], "-k", 1000)
    assert len(out.splitlines()) == 100
    out, _ = run("search", "index", LINES[0], LINES[1], "-k", 1, "--json")
    answers = [json.loads(line) for line in out.splitlines()]
    assert [answer["query"] for answer in answers] == LINES[:2]
    assert [answer["results"][0]["id"] for answer in answers] == ["k0", "k1"]
    assert answers[0]["results"][0].keys() == {
        "score",
        "id",
        "text",
        "payload",
        "semantic",
        "lexical",
        "words",
    }
    out, _ = run("search", "index", "-k", 1, stdin=f"{LINES[3]}\n\n{LINES[4]}\n")
    blocks = out.strip().split("\n\n")
    assert [block.splitlines()[0] for block in blocks] == [LINES[3], LINES[4]]
    assert ["k3" in blocks[0], "k4" in blocks[1]] == [True, True]
    run("search", "none", "dog", code=1)
    run("search", "index", "dog", "-k", 0, code=2)


def test_search_with_a_filter(model, rows, tmp_path):
    build(rows, "-o", "index", "--id-field", "key", model=model)
    out, err = run("search", "index", LINES[2], "--where", "n>=90", "--where", "n!=95", "-k", 1000)
    assert sorted(line.split()[2] for line in out.splitlines()) == [
        f"k{n}" for n in range(90, 100) if n != 95
    ]
    assert err == ""
    out, _ = run("search", "index", LINES[2], "--where", '{"n": {"in": [3, 4, 777]}}', "--json")
    assert sorted(hit["id"] for hit in json.loads(out)["results"]) == ["k3", "k4"]
    out, _ = run("search", "index", "--where", "n=[3, 4]", "-k", 1, stdin="dog\n")
    assert "k3" in out or "k4" in out
    out, err = run("search", "index", "dog", "--where", 'n="3"', "--where", "m=1")
    assert (out, err) == (
        "",
        "no item meets the filter:\nn is a number in 100 items\nno item has a field m\n",
    )
    _, err = run("search", "index", "dog", "--where", "n", code=2)
    assert "the filter 'n' is wrong: expected FIELD=VALUE" in err
    (tmp_path / "years.csv").write_text("text,year\ndog,1999\ncat,2001\n")
    build("years.csv", "-o", "years", model=model)
    assert "cat" in run("search", "years", "dog", "--where", "year=2001")[0]
    _, err = run("search", "years", "dog", "--where", "year>2000")
    assert err == "no item meets the filter:\nyear is a string in 2 items\n"


def test_modes_of_search(model, rows):
    build(rows, "-o", "index", "--id-field", "key", "--language", "en", model=model)
    scores = {}
    for mode in ("hybrid", "vector", "lexical"):
        out, _ = run("search", "index", "dogs running", "-k", 3, "--mode", mode, "--json")
        scores[mode] = json.loads(out)["results"][0]
    assert scores["lexical"]["words"] == ["dog", "runs"]
    assert (scores["vector"]["lexical"], scores["lexical"]["semantic"]) == (None, None)
    out, _ = run("search", "index", "dogs", "-k", 1, "--alpha", 0, "--json")
    (hit,) = json.loads(out)["results"]
    assert (hit["semantic"], hit["score"]) == (0, pytest.approx(hit["lexical"]))
    run("search", "index", "dogs", "--alpha", 2, code=2)


def test_search_with_another_model(model, rows, tmp_path):
    build(rows, "-o", "index", model=model)
    make_cse("int8", combine="residual", phi="tanh").save(tmp_path / "other")
    _, err = run("search", "index", "dog", "-m", "other", code=1)
    assert "built by" in err
    run("search", "index", "dog", "-m", "other", "--force")
    nameless = Index(make_cse())
    nameless.add(["dog"])
    nameless.save("nameless")
    _, err = run("search", "nameless", "dog", code=1)
    assert "--model" in err


def test_results_fit_the_terminal():
    hits = [
        Hit(0.5, 7, "東京" * 30, {"n": 1}),
        Hit(0.25, "id", "a\n\ttext \x1b[31m", {"key": "value" * 20}),
        Hit(-0.125, "é", None, {"n": 1}),
        Hit(-0.5, 1234, "x" * 22, {"key": "value"}),
    ]
    plain = [line.replace("\x1b[2m", "").replace("\x1b[0m", "") for line in _lines(hits, 40)]
    assert plain == [
        "1   0.5000  7     " + "東京" * 5 + "…",
        '2   0.2500  id    a text [31m  {"key":…',
        '3  -0.1250  é     {"n": 1}',
        "4  -0.5000  1234  " + "x" * 22,
    ]
    whole = list(_lines(hits, None))
    assert whole[0].startswith("1   0.5000  7     " + "東京" * 30)
    assert [_cut("abc", width) for width in range(5)] == ["", "…", "a…", "abc", "abc"]
    assert _cut("東京", 3) == "東…"


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are Unix")
def test_prompt(model, rows):
    build(rows, "-o", "index", "--id-field", "key", model=model)
    out = at_terminal(
        ["search", "index", "-k", "2"],
        f"{LINES[2]}\n:k 1\n:k none\n{LINES[3]}\n"
        ":where n=5\n:where n\nfive\n:where n=-1\nnothing\n:where\nlast\n\n",
    )
    assert "100 items" in out
    assert re.search(rf"1  \d+\.\d+  k2 +{LINES[2]}", out)
    assert re.search(rf"1  \d+\.\d+  k3 +{LINES[3]}", out)
    assert "k is 'none'" in out
    assert re.search(f"1  .* k5 +{LINES[5]}", out)
    assert "the filter 'n' is wrong" in out
    assert "no item meets the filter:\nn is a number in 100 items" in out
    assert [sum(line.startswith(f"{rank}  ") for line in out.splitlines()) for rank in (1, 2)] == [4, 1]
    assert " ms" in out
    # Ctrl-D.
    assert "100 items" in at_terminal(["search", "index"], "\x04")


def at_terminal(arguments, typed):
    """Returns the output of a command that runs in a terminal and ends by itself."""
    import pty

    ours, theirs = pty.openpty()
    command = [sys.executable, "-c", "from sentenc.cli import main; main()", *arguments]
    environment = {**os.environ, "TERM": "dumb", "COLUMNS": "80"}
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment)
    os.close(theirs)
    shown = b""
    try:
        while b"> " not in shown:
            shown += os.read(ours, 4096)
        os.write(ours, typed.encode())
        while True:
            try:
                part = os.read(ours, 4096)
            except OSError:  # Linux reports in this way that the other end is closed
                break
            if not part:
                break
            shown += part
        assert process.wait(timeout=60) == 0, shown
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    return shown.decode().replace("\r\n", "\n")


def test_mine(model, tmp_path):
    texts = ["dog cat", 'a "man"\tplays', "dog cat", "", "the stock market", "dog  cat"]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"t": text}) + "\n" for text in texts))
    out, err = run("mine", "a.jsonl", "-m", model)
    rows = list(csv.DictReader(out.splitlines(), delimiter="\t"))
    assert [(row["score"], row["line_a"], row["line_b"], row["text_b"]) for row in rows] == [
        ("1.0", "1", "3", "dog cat"),
        ("1.0", "1", "6", "dog  cat"),
    ]
    assert re.search(r"6 texts, 2 pairs .*0\.9", err)
    run("mine", "a.jsonl", "-m", model, "--threshold", -1, "-o", "pairs.tsv", "-q")
    with open("pairs.tsv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    # A TSV has no quotes: a tab in a text becomes a space.
    assert 'a "man" plays' in {row["text_a"] for row in rows}
    scores = [float(row["score"]) for row in rows]
    assert scores == sorted(scores, reverse=True)
    _, err = run("mine", "a.jsonl", "-m", model, "--threshold", -1, "--top", 1, "-o", "pairs.jsonl")
    assert re.search(rf"{len(rows)} pairs .*-1\.0 .*the best 1 ", err)
    (row,) = map(json.loads, (tmp_path / "pairs.jsonl").read_text().splitlines())
    assert row == {"score": 1.0, "line_a": 1, "line_b": 3, "text_a": "dog cat", "text_b": "dog cat"}


def test_mine_groups(model, tmp_path):
    (tmp_path / "a.txt").write_text("dog cat\n\nthe park\ndog cat\ndog  cat\nthe park\nword\n")
    out, _ = run("mine", "a.txt", "-m", model, "--groups")
    assert [line.split("\t") for line in out.splitlines()] == [
        ["group", "line", "text"],
        ["1", "1", "dog cat"],
        ["1", "4", "dog cat"],
        ["1", "5", "dog  cat"],
        ["2", "3", "the park"],
        ["2", "6", "the park"],
    ]
    run("mine", "a.txt", "-m", model, "--groups", "-o", "groups.jsonl", "--threads", 1)
    groups = [json.loads(line) for line in (tmp_path / "groups.jsonl").read_text().splitlines()]
    assert groups[1] == {"group": 2, "lines": [3, 6], "texts": ["the park", "the park"]}
    out, err = run("mine", "-", "-m", model, stdin="dog\ncat\n", code=0)
    assert out == ""
    assert err.startswith("2 texts, 0 pairs")


def test_mine_refuses_wrong_arguments(model, lines, tmp_path):
    for arguments, code, message in [
        ([lines, "-o", "pairs.csv"], 2, "expected .tsv or .jsonl"),
        ([lines, "-o", "no/pairs.tsv"], 2, "does not exist"),
        ([lines, "--threshold", "1.5"], 2, "1.5 is not in the range"),
        (["none.txt"], 1, "none.txt"),
    ]:
        _, err = run("mine", *arguments, "-m", model, code=code)
        assert message in err


def test_commands_are_listed_in_the_help():
    for command in ("index", "search", "mine"):
        assert command in cli.list_commands(None)
        run(command, "--help")


def test_passages_and_reranking(model, tmp_path):
    long = " ".join(
        ["a dog runs in the park."] * 30 + ["the stock market fell."] + ["a man is playing the guitar."] * 30
    )
    (tmp_path / "long.jsonl").write_text(
        json.dumps({"text": long}) + "\n" + json.dumps({"text": "dog cat"}) + "\n"
    )
    _, summary = build(
        "long.jsonl",
        "-o",
        "index",
        "--chunk-tokens",
        16,
        "--overlap",
        4,
        "--rerank-store",
        model,
        model=model,
    )
    info = json.loads(run("index", "info", "index", "--json", "--verify")[0])
    assert summary.startswith(f"2 items, {info['passages']} passages, ")
    assert info["chunking"] == {"tokens": 16, "overlap": 4}
    assert info["reranker"]["model"] == model
    assert info["items"] == 2
    assert info["passages"] > 20
    out, _ = run("search", "index", "stock market", "-k", 1)
    assert out.split("  ")[-1].count("stock market fell") == 1
    assert len(out) < 150
    for options in ([], ["--candidates", 1]):
        out, _ = run("search", "index", "stock market", "--json", "--rerank", model, *options)
        first = json.loads(out)["results"][0]
        assert first["passage"] == long[slice(*first["span"])]
        assert 0 < first["rerank"] <= 1
    # More documents are divided in the same way.
    run("index", "add", "index", "long.jsonl")
    assert len(Index.open("index", model).search("stock", 10, rerank=model)) >= 2
    assert json.loads(run("index", "info", "index", "--json")[0])["passages"] > 40


def test_bad_passage_options(model, lines):
    _, error = build(lines, "-o", "index", "--overlap", 4, model=model, code=2)
    assert "--overlap requires --chunk or --chunk-tokens" in error
    _, error = build(lines, "-o", "index", "--chunk-tokens", 15, model=model, code=1)
    assert "chunk_tokens is 15, expected an integer from 16" in error
    build(lines, "-o", "index", "--chunk", model=model)
    _, error = run("search", "index", "dog", "--rerank", "no-such-model", code=1)
    assert "no-such-model" in error


def test_an_interrupted_build_with_passages_is_resumed(model, lines, monkeypatch):
    original, calls = Index.add, []

    def add(self, *arguments, **options):
        calls.append(1)
        if len(calls) == 3:
            raise OSError("interrupted")
        return original(self, *arguments, **options)

    monkeypatch.setattr(Index, "add", add)
    build(lines, "-o", "index", "--chunk", model=model, code=1)
    _, error = build(lines, "-o", "index", "--chunk-tokens", 32, model=model, code=1)
    assert "unfinished build of other options" in error
    _, error = build(lines, "-o", "index", "--chunk", model=model)
    assert "resuming after 60 records" in error
    assert len(Index.open("index", encoder=False)) == 100


def test_an_index_without_an_encoder_is_searched_by_words():
    index = Index(dim=2)
    index.add(TEXTS, vectors=np.eye(4, 2))
    index.save("index")
    out, _ = run("search", "index", "guitar", "--json")
    assert [hit["id"] for hit in json.loads(out)["results"]] == [hit.id for hit in index.search("guitar")]
    _, err = run("search", "index", "guitar", "--mode", "vector", code=1)
    assert "no encoder" in err


def test_an_encoder_without_a_name_is_asked_for():
    index = Index(make_cse())
    index.add(TEXTS)
    index.save("index")
    _, err = run("search", "index", "guitar", code=1)
    assert "--model" in err
    assert "--mode lexical" in err
    out, _ = run("search", "index", "guitar", "--mode", "lexical")
    assert TEXTS[0] in out
