"""``sentenc index``: building, resuming after a kill, adding, deleting and describing."""

import gzip
import json
import os
import re
import signal
import subprocess
import sys

import pytest

from sentenc.cli import index_build
from sentenc.retrieval import Index
from tests.retrieval.conftest import LINES, TEXTS, build, run

pytestmark = pytest.mark.usefixtures("folder_of_its_own")


def killed(*arguments, saves):
    """Runs ``sentenc index`` and kills the process (SIGKILL) after a number of saves."""
    code = f"""
import os, signal
from sentenc.cli import index_build, main
from sentenc.retrieval import Index
index_build.RECORDS_PER_COMMIT = 30
save, saves = Index.save, []
def save_and_die(*arguments):
    save(*arguments)
    saves.append(1)
    if len(saves) == {saves}:
        os.kill(os.getpid(), signal.SIGKILL)
Index.save = save_and_die
main()
"""
    command = [sys.executable, "-c", code, "index", *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, timeout=120, check=False)
    assert result.returncode == -signal.SIGKILL, result.stderr


def content(folder):
    index = Index.open(folder)
    hits = index.search(TEXTS, 5)
    return [item.to_dict() for item in index], [
        [(h.id, round(h.score, 5)) for h in query_hits] for query_hits in hits
    ]


def test_build_and_info(model, lines):
    out, err = build(lines, "-o", "index", model=model)
    assert out == ""
    assert err.startswith("100 items, 24 dimensions, exact, ")
    assert "MB: index" in err
    index = Index.open("index")
    assert [item.text for item in index] == LINES
    assert [item.id for item in index] == list(range(100))
    assert {item.payload is None for item in index} == {True}
    assert index.notes["build"]["complete"]
    assert index.notes["build"]["records"] == 100
    out, _ = run("index", "info", "index", "--verify")
    assert "items: 100\n" in out
    assert "built from: lines.txt\n" in out
    assert "verified: true" in out
    info = json.loads(run("index", "info", "index", "--json")[0])
    assert (info["items"], info["dim"], info["metric"]) == (100, 24, "cosine")
    assert info["notes"]["build"]["options"]["model"] == model
    assert build(lines, "-o", "quiet", "-q", model=model) == ("", "")


def test_a_build_that_needs_faiss_fails_before_it_encodes(model, lines, monkeypatch):
    from sentenc.retrieval import ann

    monkeypatch.setitem(sys.modules, "faiss", None)
    _, err = build(lines, "-o", "ivf", "--kind", "ivf", model=model, code=1)
    assert "faiss-cpu" in err
    monkeypatch.setattr(ann, "EXACT_ROWS", 50)
    _, err = build(lines, "-o", "auto", model=model, code=1)
    assert "sentenc[retrieval]" in err
    assert len(Index.open("auto")) == 30


def test_a_long_encoding_is_announced(model, lines, monkeypatch):
    _, err = build(lines, "-o", "short", model=model)
    assert "needs about" not in err
    monkeypatch.setattr(index_build, "_SECONDS_TO_ANNOUNCE", 0.0)
    _, err = build(lines, "-o", "long", model=model)
    assert re.match(rf"{re.escape(model)} needs about \d+ seconds to encode 30 records; ", err), err
    assert build(lines, "-o", "quiet", "-q", model=model) == ("", "")


def test_build_of_many_files_with_fields(model, rows, tmp_path):
    (tmp_path / "b.csv.gz").write_bytes(gzip.compress(b"key,text,n\nx,dog,\ny,cat,7\n"))
    options = ["--id-field", "key", "--text-field", "text", "--metric", "dot", "--store", "int8"]
    options += ["--threads", 1]
    build(rows, "b.csv.gz", "-o", "index", *options, model=model)
    index = Index.open("index")
    assert len(index) == 102
    assert index.get(["k3", "x", "y"])[0].payload == {"n": 3}
    assert [item.payload for item in index.get(["x", "y"])] == [None, {"n": "7"}]
    assert (index.metric, index.info()["store"]) == ("dot", "int8")


def test_a_folder_stands_for_its_files(model, tmp_path):
    folder = tmp_path / "notes"
    (folder / "more").mkdir(parents=True)
    (folder / "b.txt").write_text("second\n")
    (folder / "a.txt").write_text("first\n")
    (folder / "more" / "c.txt").write_text("third\n")
    (folder / ".hidden").write_text("none\n")
    build(folder, "-o", "index", model=model)
    assert [item.text for item in Index.open("index")] == ["first", "second", "third"]
    (tmp_path / "empty").mkdir()
    _, err = run("index", "build", tmp_path / "empty", "-o", "other", code=2)
    assert "contains no file" in err


def test_build_from_standard_input(model):
    build("-", "-o", "index", model=model, stdin="\n".join(LINES))
    assert len(Index.open("index")) == 100
    _, err = build("-", "-o", "index", model=model, stdin="x", code=1)
    assert "--overwrite" in err
    build("-", "-o", "index", "--overwrite", model=model, stdin="dog\n")
    assert len(Index.open("index")) == 1


def test_build_of_nothing(model, tmp_path):
    (tmp_path / "empty.txt").touch()
    _, err = build("empty.txt", "-o", "index", model=model)
    assert err.startswith("0 items")
    assert run("search", "index", "dog") == ("", "")
    assert "items: 0\n" in run("index", "info", "index")[0]


@pytest.mark.parametrize("saves", [1, 2, 4])
def test_killed_build_is_resumed(model, rows, saves):
    arguments = [rows, "-o", "index", "--id-field", "key", "-m", model]
    killed("build", *arguments, saves=saves)
    done = min(30 * saves, 100)
    assert len(Index.open("index")) == done
    out, _ = run("index", "info", "index")
    assert re.search(rf"built from: rows\.jsonl .*unfinished.* {done} records", out)
    _, err = run("index", "build", *arguments)
    assert re.search(rf"index is unfinished.* {done} records", err)
    run("index", "build", rows, "-o", "whole", "--id-field", "key", "-m", model)
    assert content("index") == content("whole")
    run("index", "info", "index", "--verify")
    _, err = run("index", "build", *arguments, code=1)
    assert "--overwrite" in err


def test_killed_build_stores_its_sources_and_options(model, lines, tmp_path):
    arguments = [lines, "-o", "index", "-m", model]
    killed("build", *arguments, saves=2)
    before = (tmp_path / "index" / "index.json").read_bytes()
    _, err = run("index", "build", *arguments, "--store", "float16", code=1)
    assert "unfinished build of other options" in err
    (tmp_path / "other.txt").write_text("dog\n")
    _, err = build("other.txt", "-o", "index", "--metric", "dot", model=model, code=1)
    assert "unfinished build of other sources and options" in err
    with open(lines, "a", encoding="utf-8") as file:
        file.write("cat\n")
    _, err = run("index", "build", *arguments, code=1)
    assert "unfinished build of other sources" in err
    assert (tmp_path / "index" / "index.json").read_bytes() == before
    run("index", "build", *arguments, "--overwrite")
    assert len(Index.open("index")) == 101


def test_build_from_standard_input_cannot_be_resumed(model, lines, monkeypatch):
    save = index_build._save

    def save_once(index, folder, plan, done, complete):
        if done > 30:
            raise OSError("the disk is full")
        save(index, folder, plan, done, complete)

    with monkeypatch.context() as patch:
        patch.setattr(index_build, "_save", save_once)
        _, err = build("-", "-o", "index", model=model, stdin="\n".join(LINES), code=1)
        assert "to resume" not in err
        _, err = build(lines, "-o", "other", model=model, code=1)
        assert re.search("30 records .*to resume", err)
    _, err = build("-", "-o", "index", model=model, stdin="x", code=1)
    assert "standard input" in err
    assert "--overwrite" in err


def test_build_refuses_wrong_arguments(model, lines, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "precious").touch()
    for arguments, code, message in [
        ([lines, "-o", "full"], 1, "full contains files"),
        ([lines, "-o", "full", "--overwrite"], 1, "full contains files"),
        (["none.txt", "-o", "index"], 1, "none.txt"),
        ([lines, "-o", "index", "--text-field", "text"], 1, "lines.txt is read as plain text"),
        ([lines, "-o", "index", "--kind", "best"], 2, "'best' is not one of"),
        (["-o", "index"], 2, "Missing argument"),
    ]:
        _, err = build(*arguments, model=model, code=code)
        assert message in err
    assert os.listdir("full") == ["precious"]
    assert not os.path.exists("index")


def test_damaged_index_is_refused(model, lines, tmp_path):
    build(lines, "-o", "index", model=model)
    part = next((tmp_path / "index").rglob("*.npy"))
    data = bytearray(part.read_bytes())
    data[-1] ^= 1
    part.write_bytes(data)
    run("index", "info", "index")
    _, err = run("index", "info", "index", "--verify", code=1)
    assert part.name in err
    (tmp_path / "index" / "index.json").write_text("{}")
    for arguments in (["build", lines, "-o", "index", "-m", model], ["info", "index"], ["optimize", "index"]):
        _, err = run("index", *arguments, code=1)
        assert "format_version" in err


def test_error_in_a_later_block_leaves_the_earlier_ones(model, tmp_path):
    rows = [json.dumps({"id": i, "text": "dog"}) for i in [*range(70), 5]]
    (tmp_path / "a.jsonl").write_text("\n".join(rows))
    _, err = build("a.jsonl", "-o", "index", "--id-field", "id", model=model, code=1)
    assert "60 records are indexed" in err
    assert "a.jsonl, line 71: the id 5 is already in the index" in err


def test_add_and_update(model, rows, lines, tmp_path):
    build(rows, "-o", "index", "--id-field", "key", model=model)
    _, err = run("index", "add", "index", lines)
    assert "100 items added, 0 replaced" in err
    assert "index has 200" in err
    (tmp_path / "c.csv").write_text("key,text\nk1,new text\nnew,cat\nk1,newest\n")
    _, err = run("index", "add", "index", "c.csv", "--id-field", "key", code=1)
    assert "'k1'" in err
    assert len(Index.open("index")) == 200
    _, err = run("index", "add", "index", "c.csv", "--id-field", "key", "--update")
    assert "1 items added, 2 replaced" in err
    index = Index.open("index")
    assert [(item.text, item.payload) for item in index.get(["k1", "new"])] == [
        ("newest", None),
        ("cat", None),
    ]
    assert len(index) == 201
    _, err = run("index", "add", "index", lines, "--update", code=2)
    assert "--update requires --id-field" in err
    assert run("index", "add", "index", lines, "-q") == ("", "")
    run("index", "add", "none", lines, code=1)


def test_a_failed_add_reports_the_items_that_were_added(model, lines, tmp_path):
    build(lines, "-o", "index", model=model)
    (tmp_path / "bad.txt").write_bytes(b"dog\n" * 70 + b"\xff\n")
    _, err = run("index", "add", "index", "bad.txt", code=1)
    assert "first 60 records" in err
    assert "line 71: not UTF-8" in err
    assert len(Index.open("index")) == 160


def test_a_repeated_id_is_reported_with_its_line(model, tmp_path):
    (tmp_path / "a.csv").write_text("key,text\n" + "".join(f"{i},dog {i}\n" for i in range(20)) + "7,again\n")
    _, err = run("index", "build", "a.csv", "-o", "a", "--id-field", "key", "-m", model, code=1)
    assert "a.csv, line 22: the id '7' is also in a.csv, line 9, expected distinct ids" in err
    (tmp_path / "b.csv").write_text("key,text\n" + "".join(f"{i},dog {i}\n" for i in range(40)) + "7,again\n")
    _, err = run("index", "build", "b.csv", "-o", "b", "--id-field", "key", "-m", model, code=1)
    # The first 30 records are another commit.
    assert "b.csv, line 42: the id '7' is already in the index" in err
    (tmp_path / "c.csv").write_text("key,text\n50,new\n3,known\n")
    _, err = run("index", "add", "b", "c.csv", "--id-field", "key", code=1)
    assert "c.csv, line 3: the id '3' is already in the index" in err
    run("index", "add", "b", "c.csv", "--id-field", "key", "--update")


def test_rows_without_a_text_can_be_skipped(model, tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "dog"}\n{"text": null}\n{"text": ""}\n{"text": "cat"}\n')
    _, err = run("index", "build", "a.jsonl", "-o", "a", "-m", model, code=1)
    assert "a.jsonl, line 2: field 'text' is null, expected a text: --skip-empty leaves such rows out" in err
    _, err = run("index", "build", "a.jsonl", "-o", "a", "-m", model, "--skip-empty")
    assert err.startswith("2 items")
    assert err.endswith(": a, 2 rows without a text skipped\n")
    _, err = run("index", "add", "a", "a.jsonl", code=1)
    assert "--skip-empty" in err
    _, err = run("index", "add", "a", "a.jsonl", "--skip-empty")
    assert "a has 4, 2 rows without a text skipped" in err
    _, err = run("mine", "a.jsonl", "-m", model, code=1)
    assert "--skip-empty" in err
    _, err = run("mine", "a.jsonl", "-m", model, "--skip-empty")
    assert err.startswith("2 texts")
    assert err.endswith(" s, 2 rows without a text skipped\n")


def test_killed_add_loses_nothing_saved(model, lines, tmp_path):
    build(lines, "-o", "index", model=model)
    killed("add", "index", lines, saves=2)
    index = Index.open("index")
    assert [item.text for item in index] == LINES + LINES[:60]
    run("index", "info", "index", "--verify")
    run("index", "add", "index", lines)
    assert len(Index.open("index")) == 260


def test_delete(model, rows, lines, tmp_path):
    build(lines, "-o", "index", model=model)
    (tmp_path / "b.csv").write_text("key,text\n17,a string of an id\n")
    run("index", "add", "index", "b.csv", "--id-field", "key")
    _, err = run("index", "delete", "index", "17", "18", "018", "1_9", "none", "99999999999999999999")
    assert "not in the index: 018, 1_9, none, 99999999999999999999\n" in err
    assert "2 items deleted: index has 99" in err
    index = Index.open("index")
    # A string id takes precedence over the number it spells.
    assert ("17" in index, 17 in index, 18 in index, 19 in index) == (False, True, False, True)
    run("index", "delete", "index", "17")
    assert 17 not in Index.open("index")
    _, err = run("index", "delete", "index", *range(1000, 1012), code=1)
    assert "1009, ... (12 in all)" in err
    (tmp_path / "ids").write_text("20\n\n21\n20\n")
    run("index", "delete", "index", "22", "--ids-from", "ids")
    run("index", "delete", "index", "--ids-from", "-", stdin="23\n")
    assert len(Index.open("index")) == 94
    _, err = run("index", "delete", "index", code=2)
    assert "at least one id" in err
    _, err = run("index", "optimize", "index")
    assert err.startswith("94 items")


def test_long_fields_of_csv_are_read(model, tmp_path):
    (tmp_path / "a.csv").write_text("text\n" + "dog " * 15 + "x" * 300_000 + "\n")
    build("a.csv", "-o", "index", model=model)
    (tmp_path / "b.csv").write_text('text\n"' + "dog\n" * 5_000_000)
    _, err = build("b.csv", "-o", "other", model=model, code=1)
    assert "b.csv, line 2: " in err
    assert "field larger than field limit" in err


def test_long_texts_make_smaller_blocks(model, lines, monkeypatch):
    monkeypatch.setattr(index_build, "_CHARACTERS_PER_COMMIT", 100)
    saved = []
    save = index_build._save
    monkeypatch.setattr(index_build, "_save", lambda *a, **o: (saved.append(a[3]), save(*a, **o)))
    build(lines, "-o", "index", model=model)
    assert len(saved) > 20
    assert [item.text for item in Index.open("index")] == LINES
