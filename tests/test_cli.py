"""The command line in processes of its own."""

import csv
import gzip
import json
import lzma
import os
import signal
import subprocess
import sys
import time
from functools import partial

import numpy as np
import pytest

import sentenc
from sentenc.kernels.library import available_simd_levels, simd_level
from sentenc.threads import core_limit
from tests.support.models import make_cse

LINES = ["a man is playing the guitar", "", "dog cat", "crème 東京"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cli") / "model"
    make_cse("int8").save(folder)
    return str(folder)


COMMAND = [sys.executable, "-c", "from sentenc.cli import main; main()"]


def run(*arguments, stdin="", code=0, cwd=None):
    command = [*COMMAND, *map(str, arguments)]
    result = subprocess.run(
        command, input=stdin.encode(), capture_output=True, cwd=cwd, timeout=120, check=False
    )
    assert result.returncode == code, result.stderr.decode()
    assert b"Traceback" not in result.stderr
    return result.stdout.decode(), result.stderr.decode()


@pytest.fixture
def texts(tmp_path):
    path = tmp_path / "texts.txt"
    path.write_text("\n".join(LINES) + "\n", encoding="utf-8")
    return path


@pytest.fixture
def expected(model):
    return sentenc.load(model).encode(LINES)


def test_encode_npy_from_every_kind_of_input(model, texts, expected, tmp_path):
    plain = texts.read_bytes()
    (tmp_path / "texts.gz").write_bytes(gzip.compress(plain))
    (tmp_path / "texts.xz").write_bytes(lzma.compress(b"\xef\xbb\xbf" + plain.replace(b"\n", b"\r\n")))
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps({"t": line}) + "\n" for line in LINES))
    with open(tmp_path / "texts.csv", "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([["label", "text"], *([1, line] for line in LINES)])
    for name, options in [
        ("texts.txt", []),
        ("texts.gz", []),
        ("texts.xz", []),
        ("texts.jsonl", ["--text-field", "t"]),
        ("texts.csv", []),
    ]:
        out, _ = run("encode", tmp_path / name, "-o", tmp_path / "v.npy", "-m", model, *options)
        assert out == ""
        np.testing.assert_array_equal(np.load(tmp_path / "v.npy"), expected)
    _, err = run("encode", "-o", tmp_path / "w.npy", "-m", model, stdin=texts.read_text(encoding="utf-8"))
    assert "4 texts" in err
    np.testing.assert_array_equal(np.load(tmp_path / "w.npy"), expected)


def test_encode_other_formats_and_options(model, texts, expected, tmp_path):
    run("encode", texts, "-o", tmp_path / "v.npz", "-m", model, "-q")
    with np.load(tmp_path / "v.npz") as file:
        np.testing.assert_array_equal(file["embeddings"], expected)
        assert str(file["fingerprint"]) == sentenc.load(model).fingerprint()
    run("encode", texts, "-o", tmp_path / "v.jsonl", "-m", model)
    rows = [json.loads(line) for line in (tmp_path / "v.jsonl").read_text().splitlines()]
    assert [row["text"] for row in rows] == LINES
    np.testing.assert_array_equal(np.array([row["embedding"] for row in rows], np.float32), expected)
    parquet = pytest.importorskip("pyarrow.parquet")
    run(
        "encode",
        texts,
        "-o",
        tmp_path / "v.parquet",
        "-m",
        model,
        "--dtype",
        "float16",
        "--normalize",
        "--truncate-dim",
        6,
    )
    table = parquet.read_table(tmp_path / "v.parquet").to_pydict()
    assert table["text"] == LINES
    vectors = np.array(table["embedding"])
    expected = sentenc.load(model).encode(LINES, truncate_dim=6, normalize_embeddings=True, dtype="float16")
    np.testing.assert_array_equal(vectors, expected)
    (tmp_path / "half.jsonl").write_text('{"text": "dog \\ud83d"}\n')
    run("encode", tmp_path / "half.jsonl", "-o", tmp_path / "half.parquet", "-m", model)
    assert parquet.read_table(tmp_path / "half.parquet")["text"].to_pylist() == ["dog \ufffd"]


def test_encode_nothing(model, tmp_path):
    for suffix in ("npy", "npz", "jsonl"):
        run("encode", "-o", tmp_path / f"v.{suffix}", "-m", model, stdin="")
    assert np.load(tmp_path / "v.npy").shape == (0, sentenc.load(model).dim)


def test_bad_input_is_named_and_nothing_is_lost(model, tmp_path):
    target = tmp_path / "v.npy"
    target.write_bytes(b"older")
    bad = tmp_path / "bad.jsonl"
    for content, message in [
        (b"[" * 200_000, "line 1: not JSON"),
        (b'{"text": "a"}\n{"text": 3}\n', "line 2: field 'text' is a number"),
        (b'{"text": "a"}\n{"body": ""}\n', "line 2: no field 'text'"),
        (b'{"text": "a"}\nnonsense\n', "line 2: not JSON"),
        (b'{"text": "a"}\n\xff\n', "line 2: not UTF-8"),
        (gzip.compress(b'{"text": "a"}\n' * 9, mtime=0)[:-9], "after line"),
    ]:
        bad.write_bytes(content)
        _, err = run("encode", bad, "-o", target, "-m", model, "--text-field", "text", code=1)
        assert message in err
    assert target.read_bytes() == b"older"
    assert sorted(os.listdir(tmp_path)) == ["bad.jsonl", "v.npy"]


def test_wrong_usage(model, tmp_path, texts):
    for arguments, code, message in [
        (["encode", texts, "-o", tmp_path / "v.csv", "-m", model], 2, "expected one of"),
        (["encode", texts, "-o", tmp_path / "no" / "v.npy", "-m", model], 2, "does not exist"),
        (["encode", tmp_path / "none", "-o", tmp_path / "v.npy", "-m", model], 1, "none"),
        (["encode", texts, "-o", tmp_path / "v.npy", "-m", "nothing"], 1, "model is 'nothing'"),
        (
            ["encode", texts, "-o", tmp_path / "v.npy", "-m", model, "--truncate-dim", 999],
            1,
            "truncate_dim is 999",
        ),
        (["similarity", "one", "-m", model], 2, "1 text"),
        (["nonsense"], 2, "No such command"),
    ]:
        _, err = run(*arguments, code=code)
        assert message in err


def test_long_texts_warn_on_standard_error(model, tmp_path):
    _, err = run("encode", "-o", tmp_path / "v.npy", "-m", model, stdin="dog " * 99)
    assert "warning: 1 text is longer than max_tokens=64" in err
    run("encode", "-o", tmp_path / "w.npy", "-m", model, "--on-overflow", "error", stdin="dog " * 99, code=1)
    assert not (tmp_path / "w.npy").exists()


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_stopped_run_leaves_no_output(model, tmp_path, stop):
    command = [
        sys.executable,
        "-c",
        "from sentenc.cli import main; main()",
        "encode",
        "-",
        "-o",
        "v.npy",
        "-m",
        model,
    ]
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        cwd=tmp_path,
        # A shell without job control lets its background processes, and so this one, ignore Ctrl-C.
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),
    )
    process.stdin.write(b"dog cat\n" * 20_000)
    process.stdin.flush()
    deadline = time.monotonic() + 60
    while not any(tmp_path.iterdir()) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(stop)
    _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert b"Traceback" not in err
    assert not (tmp_path / "v.npy").exists()
    if stop == signal.SIGINT:
        assert process.returncode == 130
        assert os.listdir(tmp_path) == []


def test_similarity(model):
    out, _ = run("similarity", "dog cat", "dog cat", "-m", model)
    assert out == "1.0000\n"
    out, _ = run("similarity", "dog", "cat", "the park", "-m", model)
    assert len(out.splitlines()) == 3
    out, _ = run("similarity", "dog", "cat", "-m", model, "--json")
    assert json.loads(out)["similarity"][0][0] == 1.0


def test_info_of_the_system():
    out, _ = run("info", "--system", "--json")
    content = json.loads(out)
    assert content["sentenc"] == sentenc.__version__
    assert content["versions"]["numpy"] == np.__version__
    assert content["simd"] == simd_level()
    assert content["simd"] in content["available_simd"]
    assert (content["threads"], content["threads_by"]) == core_limit()
    assert sorted(content["models"]) == sentenc.available_models()
    out, _ = run("info", "--system")
    assert f"simd: {simd_level()}" in out.splitlines()
    assert f"threads_by: {core_limit().reason}" in out.splitlines()
    assert f"  numpy: {np.__version__}" in out.splitlines()
    for arguments in ((), ("cse-en", "--system")):
        out, err = run("info", *arguments, code=2)
        assert "expected either MODEL or --system" in out + err


def test_the_environment_chooses_the_instruction_set():
    command = [sys.executable, "-m", "sentenc", "info", "--system", "--json"]
    for level, expected in (("baseline", "baseline"), ("", available_simd_levels()[-1])):
        environment = os.environ | {"SENTENC_SIMD": level}
        result = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True, timeout=120
        )
        assert json.loads(result.stdout)["simd"] == expected
    environment = os.environ | {"SENTENC_SIMD": "mmx"}
    result = subprocess.run(
        command, env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert result.returncode == 1
    assert "'mmx'" in result.stderr
    assert "baseline" in result.stderr


def test_models_info_verify(model):
    out, _ = run("models")
    assert [line.split()[0] for line in out.splitlines()] == sentenc.available_models()
    out, _ = run("info", model)
    assert "embedding_dim: 24" in out
    out, _ = run("info", model, "--json")
    assert json.loads(out)["fingerprint"] == sentenc.load(model).fingerprint()
    out, _ = run("verify", model)
    assert out.startswith("ok: 8 golden texts")
    run("verify", "nothing", code=1)


def test_closed_pipe_is_quiet(model):
    command = f"{sys.executable} -c 'from sentenc.cli import main; main()' info {model} --json | head -c 10"
    result = subprocess.run(["bash", "-c", command], capture_output=True, timeout=60, check=False)
    assert result.stderr == b""


def test_closed_pipe_is_success(model, tmp_path):
    (tmp_path / "texts.txt").write_text(
        "".join(f"{LINES[i % 4]} dog {i}\n" for i in range(300)), encoding="utf-8"
    )
    for command in ("mine {folder}/texts.txt -q --threshold -1 -m {model}", "--help", "mine --help"):
        words = command.format(folder=tmp_path, model=model).split()
        process = subprocess.Popen([*COMMAND, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        if command.startswith("mine {"):
            assert os.read(process.stdout.fileno(), 5) == b"score"
        process.stdout.close()
        assert process.wait(60) == 0
        assert process.stderr.read() == b""
        process.stderr.close()


# Without a locale, the error handler of Python's output is "surrogateescape".
@pytest.mark.parametrize("handler", ["strict", "surrogateescape"])
def test_texts_that_the_encoding_of_the_output_lacks_are_escaped(model, tmp_path, handler):
    texts = tmp_path / "texts.txt"
    texts.write_text("a smile \U0001f600 and é\na smile 東\n", encoding="utf-8")
    environment = {"PYTHONIOENCODING": f"cp1252:{handler}", "PYTHONUTF8": "0"}
    run("index", "build", texts, "-o", tmp_path / "ix", "-m", model, "-q")
    commands = [
        ["search", tmp_path / "ix", "a smile"],
        ["search", tmp_path / "ix", "a smile", "--json"],
        ["mine", texts, "-q", "--threshold", "-1", "-m", model],
        ["similarity", "a smile \U0001f600 and é", "a 東", "a man", "-m", model],
    ]
    for arguments in commands:
        result = subprocess.run(
            [*COMMAND, *map(str, arguments)],
            capture_output=True,
            env={**os.environ, **environment},
            timeout=120,
        )
        assert result.returncode == 0, result.stderr
        printed = result.stdout.decode("cp1252")
        assert "smile \\ud83d\\ude00 and é" in printed
        assert "\\u6771" in printed
        if "--json" in arguments:
            texts_of_hits = {hit["text"] for hit in json.loads(printed)["results"]}
            assert texts_of_hits == {"a smile \U0001f600 and é", "a smile 東"}


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_full_device_is_reported(model, texts):
    with open("/dev/full", "wb") as full:
        result = subprocess.run(
            [*COMMAND, "similarity", "a", "b", "-m", model], stdout=full, stderr=subprocess.PIPE, timeout=60
        )
    assert result.returncode == 1
    message = result.stderr.decode().splitlines()
    assert len(message) == 1
    assert "No space left" in message[0]


def test_the_package_runs_as_the_command():
    result = subprocess.run(
        [sys.executable, "-m", "sentenc", "models"], capture_output=True, text=True, timeout=60, check=True
    )
    assert result.stdout.startswith("cse-en")
