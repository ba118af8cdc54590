"""Alignment without a loaded model: to an index, to a file of vectors, and to an endpoint."""

import socket

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

import sentenc
from sentenc import AlignmentSettings, EndpointEncoder, EndpointError, Index
from sentenc.cli import cli
from sentenc.encoders import endpoint_client
from sentenc.errors import TextFileError
from sentenc.retrieval.vector_sources import read_text_vectors
from tests.support.embeddings_server import KEY, Refusal, loopback_only, stand_in_server, word_vectors
from tests.support.models import WORDS, make_bert, make_cse

CONNECT = socket.socket.connect
SETTINGS = AlignmentSettings(batch_size=16, rounds=20, learning_rate=0.02)


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", loopback_only(CONNECT))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(endpoint_client, "_FIRST_WAIT", 0.0)


def sentences(n: int, seed: int = 0) -> list[str]:
    rng = np.random.default_rng(seed)
    words = [word for word in WORDS if word.isascii()]
    return list(dict.fromkeys(" ".join(rng.choice(words, rng.integers(3, 9))) for _ in range(n)))


def teacher():
    return make_cse(widths=(), embedding_dim=8, bias=True)


def write_parquet(path, texts, vectors, names=("text", "embedding")):
    table = {names[0]: texts, names[1]: pa.array([list(map(float, row)) for row in vectors])}
    pq.write_table(pa.table(table), path)


def cosines(encoder, texts, expected):
    vectors = encoder.encode(texts)
    return np.einsum("nd,nd->n", vectors, expected) / (
        np.linalg.norm(vectors, axis=1) * np.linalg.norm(expected, axis=1)
    )


def test_an_index_is_aligned_from_its_own_vectors(tmp_path):
    model = teacher()
    texts, unseen = sentences(400), sentences(50, seed=9)
    index = Index(model)
    index.add([*texts, "to be deleted"])
    index.delete([len(texts)])
    index.save(tmp_path / "index")
    for source in (index, tmp_path / "index"):
        result = sentenc.align_vectors(source, settings=SETTINGS)
        assert result.report.n_vectors == len(texts) - result.report.n_held_out
        assert cosines(result.encoder, unseen, model.encode(unseen)).mean() > 0.98
        assert result.encoder.space == model.space
    # The table finds what the model finds.
    fast = Index.open(tmp_path / "index", model)
    exact = [hit.id for hit in fast.search(unseen[0], k=10, mode="vector")]
    fast.set_query_encoder(result.encoder)
    ids = [hit.id for hit in fast.search(unseen[0], k=10, mode="vector")]
    assert len(set(exact) & set(ids)) >= 8


def test_the_index_of_a_model_in_a_folder_is_asked_fast_and_exact(tmp_path):
    make_bert().save(tmp_path / "bert")
    texts = sentences(300)
    index = Index(tmp_path / "bert")
    index.add(texts)
    index.save(tmp_path / "index")
    run = CliRunner().invoke(
        cli, ["align", str(tmp_path / "index"), "-o", str(tmp_path / "fast"), "--rounds", "10"]
    )
    assert run.exit_code == 0, run.output
    assert "270 documents with their vectors" in run.output
    # Nothing was encoded, so there is nothing to cache.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bert", "fast", "index"]
    assert sentenc.load(tmp_path / "fast").space == sentenc.load(tmp_path / "bert").space
    opened = Index.open(tmp_path / "index")
    opened.set_query_encoder(tmp_path / "fast")
    for speed in ("fast", "exact"):
        assert len(opened.search(texts[7], k=3, queries=speed)) == 3


def test_files_of_vectors_are_aligned(tmp_path):
    model = teacher()
    texts = sentences(300)
    vectors = model.encode(texts)
    (tmp_path / "texts.txt").write_text("\n".join(texts))
    model.save(tmp_path / "model")
    for suffix in ("parquet", "jsonl"):
        file = tmp_path / f"encoded.{suffix}"
        arguments = ["encode", str(tmp_path / "texts.txt"), "-m", str(tmp_path / "model"), "-o", str(file)]
        assert CliRunner().invoke(cli, [*arguments, "-q"]).exit_code == 0
        result = sentenc.align_vectors(file, settings=SETTINGS)
        assert cosines(result.encoder, texts, vectors).mean() > 0.98
        # A Parquet file states the encoder of its vectors, and a JSON lines file cannot.
        assert (result.encoder.space == model.space) == (suffix == "parquet")
    np.savez(tmp_path / "v.npz", title=np.array(texts), vec=vectors)
    named = read_text_vectors(tmp_path / "v.npz", text_field="title", vector_field="vec")
    result = sentenc.align_vectors(named, settings=SETTINGS)
    assert cosines(result.encoder, texts, vectors).mean() > 0.98
    assert result.encoder.space.startswith("vectors-")


def test_a_folder_of_parquet_files_is_aligned_like_one_file(tmp_path):
    model, texts = teacher(), sentences(200)
    (tmp_path / "shards").mkdir()
    for i in range(3):
        write_parquet(tmp_path / f"shards/{i}.parquet", texts[i::3], model.encode(texts[i::3]))
    ordered = [text for i in range(3) for text in texts[i::3]]
    write_parquet(tmp_path / "one.parquet", ordered, model.encode(ordered))
    whole, parts = (read_text_vectors(tmp_path / name) for name in ("one.parquet", "shards"))
    assert parts.texts == whole.texts == ordered
    np.testing.assert_array_equal(parts.vectors(range(200)), whole.vectors(range(200)))
    run = CliRunner().invoke(
        cli, ["align", str(tmp_path / "shards"), "-o", str(tmp_path / "fast"), "--rounds", "2"]
    )
    assert run.exit_code == 0, run.output
    assert "180 documents with their vectors" in run.output
    table = pa.table({"text": ["x"], "embedding": [[0.5] * 8]}, metadata={"fingerprint": "other"})
    pq.write_table(table, tmp_path / "shards/3.parquet")
    with pytest.raises(TextFileError, match=r"0\.parquet .*unstated.*3\.parquet .*other"):
        read_text_vectors(tmp_path / "shards")
    write_parquet(tmp_path / "shards/3.parquet", ["x"], np.ones((1, 9)))
    with pytest.raises(TextFileError, match=r"shards, 3\.parquet, row 1: .*9 numbers, expected 8"):
        read_text_vectors(tmp_path / "shards")


def test_the_command_aligns_a_file_with_other_names_and_counts_what_is_left_out(tmp_path):
    texts = sentences(100)
    vectors = teacher().encode(texts)
    vectors[3] = 0
    write_parquet(tmp_path / "v.parquet", texts, vectors, ("title", "vec"))
    arguments = ["align", str(tmp_path / "v.parquet"), "-o", str(tmp_path / "fast"), "--rounds", "2"]
    run = CliRunner().invoke(cli, arguments)
    assert "has no column 'text', 'texts', only 'title', 'vec'" in str(run.exception)
    run = CliRunner().invoke(cli, [*arguments, "--text-field", "title", "--vector-field", "vec"])
    assert run.exit_code == 0, run.output
    assert "left out: 1 with zero vector" in run.output
    assert sentenc.load(tmp_path / "fast").dim == 8


@pytest.mark.parametrize("dim", [1536, 4096])
def test_a_wide_space_has_rows_of_fewer_components(tmp_path, dim):
    encode = word_vectors(dim)
    texts = sentences(400)
    write_parquet(tmp_path / "v.parquet", texts, encode(texts))
    result = sentenc.align_vectors(tmp_path / "v.parquet", settings=SETTINGS)
    config = result.encoder.config
    # The vectors are sums of those of some 60 words.
    assert (config.embedding_dim, config.output_dim, result.encoder.dim) == (64, dim, dim)
    unseen = sentences(50, seed=9)
    assert cosines(result.encoder, unseen, encode(unseen)).mean() > 0.97
    result.encoder.save(tmp_path / "fast")
    loaded = sentenc.load(tmp_path / "fast")
    np.testing.assert_array_equal(loaded.encode(unseen), result.encoder.encode(unseen))


def test_an_index_of_an_endpoint_is_aligned_without_asking_it_again(tmp_path):
    with stand_in_server(word_vectors(1536)) as server:
        documents = sentences(300)
        encoder = EndpointEncoder(server.url, "text-embedding-3-small", dimensions=1536)
        index = Index(encoder)
        index.add(documents)
        index.save(tmp_path / "index")
        assert sorted(server.texts) == sorted(documents)
        n_requests = len(server.headers)
        result = sentenc.align_vectors(tmp_path / "index", settings=SETTINGS)
        assert len(server.headers) == n_requests
        assert result.encoder.space == encoder.space
        # The index states its space: its queries need no endpoint at all.
        alone = Index.open(tmp_path / "index")
        alone.set_query_encoder(result.encoder)
        assert alone.search(documents[9], k=1)[0].id == 9
        alone.close()
        fast = Index.open(tmp_path / "index", encoder)
        fast.set_query_encoder(result.encoder)
        query = documents[5]
        assert fast.search(query, k=1, mode="vector")[0].id == 5
        assert len(server.headers) == n_requests
        assert fast.search(query, k=1, mode="vector", queries="exact")[0].id == 5
        assert len(server.headers) == n_requests + 1


def test_an_endpoint_is_a_teacher_and_a_stopped_run_pays_no_text_twice(tmp_path):
    with stand_in_server(word_vectors(1536)) as server:
        queries, documents = sentences(300), sentences(40, seed=3)
        server.before = lambda request: fail_if(len(server.requests) >= 2)
        options = {"endpoint": server.url, "model": "small", "cache": tmp_path, "settings": SETTINGS}
        with pytest.raises(EndpointError, match="HTTP 403"):
            sentenc.align(queries=queries, corpus=documents, **options)
        paid = set(server.texts)
        assert len(paid) > 20
        server.before = lambda request: None
        result = sentenc.align(queries=queries, corpus=documents, **options)
        assert len(server.texts) == len(set(server.texts))
        assert set(queries) | set(documents) <= set(server.texts)
        assert result.report.n_documents == len(documents)
        assert (result.encoder.dim, result.report.overlap > 0.9) == (1536, True)
        assert result.encoder.space == EndpointEncoder(server.url, "small").space
        # Everything is in the cache now: the endpoint is not asked even for its dimension.
        n_requests = len(server.headers)
        again = sentenc.align(queries=queries, corpus=documents, **options)
        assert len(server.headers) == n_requests
        assert again.encoder.fingerprint() == result.encoder.fingerprint()


def fail_if(condition):
    if condition:
        raise Refusal(403, "stop here")


def test_the_command_asks_an_endpoint_and_counts_texts_and_tokens(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", KEY)
    monkeypatch.delenv("OPENAI_API_KEY")
    queries = sentences(100)
    (tmp_path / "queries.txt").write_text("\n".join(queries))
    with stand_in_server(word_vectors(16)) as server:
        arguments = ["align", "--endpoint", server.url, "--model", "m", "-o", str(tmp_path / "fast")]
        arguments += ["--queries", str(tmp_path / "queries.txt"), "--rounds", "2"]
        run = CliRunner().invoke(cli, arguments)
        assert "no key was sent: set the environment variable OPENAI_API_KEY" in str(run.exception)
        run = CliRunner().invoke(cli, [*arguments, "--api-key-env", "MY_KEY"])
        assert run.exit_code == 0, run.output
        tokens = sum(len(query.split()) for query in queries)
        assert f"sent {len(queries)} texts ({tokens} tokens) in" in run.output
        assert KEY not in run.output
        assert KEY.encode() not in b"".join(
            path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()
        )


def test_contradicting_sources_are_errors(tmp_path):
    texts = sentences(30)
    with pytest.raises(
        ValueError, match="teacher is None, endpoint is None and model is None, expected either a teacher"
    ):
        sentenc.align(queries=texts)
    with pytest.raises(ValueError, match=r"endpoint is 'http://h/v1' and model is None, expected either"):
        sentenc.align(queries=texts, endpoint="http://h/v1")
    with pytest.raises(
        ValueError, match=r"teacher is 'cse-en', endpoint is 'http://h/v1' .* expected either"
    ):
        sentenc.align("cse-en", queries=texts, endpoint="http://h/v1", model="m")
    with pytest.raises(ValueError, match="teacher is 'cse-en', endpoint is None and model is 'm'"):
        sentenc.align("cse-en", queries=texts, model="m")
    write_parquet(tmp_path / "v.parquet", texts, teacher().encode(texts))
    (tmp_path / "queries.txt").write_text("\n".join(texts))
    output = ["-o", str(tmp_path / "fast"), "--queries", str(tmp_path / "queries.txt")]
    for arguments, message in (
        ([], "expected either TEACHER or VECTORS, or --endpoint and --model"),
        (["--endpoint", "http://h/v1"], "expected either TEACHER or VECTORS, or --endpoint and --model"),
        (["cse-en", "--endpoint", "http://h/v1", "--model", "m"], "expected either TEACHER or VECTORS"),
        (["--endpoint", "host", "--model", "m"], "--endpoint: url is 'host'"),
        ([str(tmp_path / "v.parquet"), "--endpoint", "http://h/v1"], "--endpoint is a teacher, and"),
        ([str(tmp_path / "v.parquet"), "--model", "m"], "--model applies to a teacher, and"),
        ([str(tmp_path / "v.parquet"), "--threads", "2"], "--threads applies to a teacher, and"),
        ([str(tmp_path / "v.parquet"), "--api-key-env", "K"], "--api-key-env applies to a teacher, and"),
        (["cse-en", "--api-key-env", "K"], "--api-key-env is 'K', but applies to --endpoint only"),
        (["cse-en", "--vector-field", "v"], "--vector-field applies to VECTORS"),
    ):
        run = CliRunner().invoke(cli, ["align", *arguments, *output])
        assert (run.exit_code, message in run.output) == (2, True), run.output
    run = CliRunner().invoke(cli, ["align", str(tmp_path / "v.parquet"), "--format", "csv", *output[:2]])
    assert "--format applies to --queries and --corpus" in run.output


def test_leading_components_have_a_space_that_an_index_of_them_accepts():
    model = teacher()
    texts = sentences(300)
    result = sentenc.align(model, queries=texts, dim=3, settings=SETTINGS)
    assert (result.encoder.dim, result.encoder.space) == (3, f"{model.space}[:3]")
    narrow = Index(model, dim=3)
    narrow.add(texts)
    narrow.set_query_encoder(result.encoder)
    assert texts[4] in [hit.text for hit in narrow.search(texts[4], k=3, mode="vector")]
    with pytest.raises(ValueError, match="has the space"):
        Index(model, dim=2).set_query_encoder(result.encoder)
