"""The texts of an alignment with few queries, and options that do not apply to an endpoint."""

import pytest
from click.testing import CliRunner

from sentenc import AlignmentSettings
from sentenc.cli import cli
from sentenc.training.alignment.texts import choose_texts
from tests.training.test_alignment import sentences


@pytest.mark.parametrize("n_queries", [1, 9])
def test_a_few_queries_are_all_used_for_training(n_queries):
    queries, documents = sentences(n_queries), sentences(200, seed=5)
    texts = choose_texts(queries, documents, AlignmentSettings())
    asked = [text for text, is_query in zip(texts.training, texts.are_queries, strict=True) if is_query]
    assert sorted(asked) == sorted(queries)
    assert set(texts.held_out) <= set(documents)
    n_sentences = len(texts.training) - n_queries
    assert n_sentences + len(texts.held_out) == len(set(documents) - set(queries))


@pytest.mark.parametrize("option", [("--threads", "2"), ("--pooling", "cls")])
def test_an_endpoint_has_no_threads_and_no_pooling(option, tmp_path):
    arguments = ["align", "--endpoint", "http://127.0.0.1:1/v1", "--model", "m", "-o", str(tmp_path / "out")]
    (tmp_path / "queries.txt").write_text("\n".join(sentences(50)), encoding="utf-8")
    run = CliRunner().invoke(cli, [*arguments, "--queries", str(tmp_path / "queries.txt"), *option])
    assert run.exit_code == 2
    assert f"{option[0]} is for a folder, and an endpoint computes the vectors itself" in run.output
