"""The options of commands for a model whose folder does not state its pooling and prompt."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

import sentenc
from sentenc import Index
from sentenc.cli import cli
from tests.support.models import make_bert

TEXTS = ["a man is playing the guitar", "dog cat", "the stock market fell", "not good at all"]
OPTIONS = ["--pooling", "cls", "--query-prompt", "the word "]


def run(*arguments, code=0):
    result = CliRunner().invoke(cli, list(map(str, arguments)))
    assert result.exit_code == code, result.output
    # The entry point of the program prints errors of sentenc.
    return f"{result.output}{result.exception}" if code else result.output


@pytest.fixture
def plain(tmp_path):
    """A folder of Hugging Face, the encoder in it, and a file of texts."""
    make_bert(normalize=False).save(tmp_path / "bert")
    (tmp_path / "bert" / "modules.json").unlink()
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n")
    return tmp_path / "bert"


@pytest.fixture
def encoder(plain):
    return sentenc.load(plain, pooling="cls", query_prompt="the word ")


def test_texts_are_encoded_in_a_role(plain, encoder, tmp_path):
    out = tmp_path / "v.npy"
    for arguments, expected in (
        ([], encoder.encode(TEXTS)),
        (["--role", "query"], encoder.encode_query(TEXTS)),
        (["--role", "document"], encoder.encode(TEXTS)),
        (["--prompt-name", "query"], encoder.encode_query(TEXTS)),
    ):
        run("encode", tmp_path / "texts.txt", "-o", out, "-m", plain, *OPTIONS, *arguments)
        np.testing.assert_allclose(np.load(out), expected, atol=1e-6)
    texts = ["encode", tmp_path / "texts.txt", "-o", out, "-m", plain, *OPTIONS]
    assert "either --role or --prompt-name" in run(
        *texts, "--role", "query", "--prompt-name", "query", code=2
    )
    assert "'title', but the prompts of the model are: query" in run(*texts, "--prompt-name", "title", code=2)
    assert "pooling='mean'" in run("encode", tmp_path / "texts.txt", "-o", out, "-m", plain, code=1)


def test_an_index_is_built_extended_and_searched(plain, encoder, tmp_path):
    folder, texts = tmp_path / "index", tmp_path / "texts.txt"
    run("index", "build", texts, "-o", folder, "-m", plain, *OPTIONS, "--threads", 1)
    expected = encoder.similarity(encoder.encode_query("dog"), encoder.encode(TEXTS))[0]

    def scores(*arguments):
        output = run("search", folder, "dog", "--json", "--mode", "vector", "-k", 4, *arguments)
        hits = json.loads(output)["results"]
        return [hit["score"] for hit in sorted(hits, key=lambda hit: hit["id"])]

    # The index has stored the options.
    assert scores() == pytest.approx(expected.tolist(), abs=1e-5)
    without = ["-m", plain, "--pooling", "cls"]
    prompted = encoder.similarity(encoder.encode("dog"), encoder.encode(TEXTS))[0]
    assert scores(*without) == pytest.approx(prompted.tolist(), abs=1e-5)
    assert "require --model" in run("search", folder, "dog", "--pooling", "cls", code=2)
    assert "not comparable" in run("search", folder, "dog", "-m", plain, "--pooling", "mean", code=1)

    (tmp_path / "more.txt").write_text("new york\n")
    run("index", "add", folder, tmp_path / "more.txt")
    run("index", "add", folder, tmp_path / "more.txt", "-m", plain, *OPTIONS)
    assert len(Index.open(folder)) == 6
    run("index", "reencode", folder)
    assert Index.open(folder).encoder.fingerprint() == encoder.fingerprint()
    run("index", "reencode", folder, "-m", plain, "--pooling", "mean")
    assert Index.open(folder).encoder.config.pooling == "mean"


def test_a_model_is_evaluated_with_its_options(plain, encoder, tmp_path):
    rows = [{"_id": f"d{row}", "text": text} for row, text in enumerate(TEXTS)]
    data = tmp_path / "data"
    (data / "qrels").mkdir(parents=True)
    (data / "corpus.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    (data / "queries.jsonl").write_text(json.dumps({"_id": "q", "text": "someone plays"}) + "\n")
    order = np.argsort(-encoder.similarity(encoder.encode_query("someone plays"), encoder.encode(TEXTS))[0])
    (data / "qrels" / "test.tsv").write_text(f"query-id\tcorpus-id\tscore\nq\td{order[1]}\t1\n")
    run("eval", plain, "--tasks", data, "-o", tmp_path / "out", *OPTIONS)
    records = json.loads((tmp_path / "out" / "bert.json").read_text())
    assert '"MRR@10": 50.0' in json.dumps(records)
    assert "for one MODEL" in run("eval", plain, "cse-en", "--tasks", data, *OPTIONS, code=2)


def test_texts_are_compared_with_a_pooling(plain, encoder, tmp_path):
    output = run("similarity", *TEXTS[:2], "-m", plain, "--pooling", "cls")
    assert float(output) == pytest.approx(float(encoder.similarity(*TEXTS[:2])[0, 0]), abs=1e-4)
    (tmp_path / "twice.txt").write_text("\n".join([*TEXTS, TEXTS[0]]) + "\n")
    output = run("mine", tmp_path / "twice.txt", "-m", plain, "--pooling", "cls", "-q", "--threshold", 0.999)
    assert TEXTS[0] in output


def test_a_pooling_of_a_model_that_has_no_choice_is_refused(tmp_path):
    (tmp_path / "texts.txt").write_text("a dog\n")
    arguments = ["-o", tmp_path / "out.npy", "-m", "cse-en-tiny", "--pooling", "cls"]
    message = " ".join(run("encode", tmp_path / "texts.txt", *arguments, code=2).split())
    assert "pooling is 'cls', expected None for" in message
    assert "the option is for transformers" in message
