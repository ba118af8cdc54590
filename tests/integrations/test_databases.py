"""The embedding functions of Chroma and LanceDB, with their own collections and tables."""

import numpy as np
import pytest

import sentenc
from tests.support.models import make_bert, make_cse
from tests.support.pairs import with_prompts

TEXTS = ["a man is playing the guitar", "the stock market fell", "the dog runs in the park"]


def test_chroma_embeds_roles():
    pytest.importorskip("chromadb")
    from sentenc.integrations.chroma import SentencEmbeddingFunction

    encoder = with_prompts(make_bert(), query="someone ", document="the ")
    function = SentencEmbeddingFunction(encoder)
    np.testing.assert_allclose(np.array(function(TEXTS)), encoder.encode_document(TEXTS), atol=1e-6)
    np.testing.assert_allclose(np.array(function.embed_query(TEXTS)), encoder.encode_query(TEXTS), atol=1e-6)
    with pytest.raises(ValueError, match="passed as an object"):
        function.get_config()


def test_chroma_stores_the_function_with_a_collection(tmp_path):
    chromadb = pytest.importorskip("chromadb")
    from sentenc.integrations.chroma import SentencEmbeddingFunction

    client = chromadb.PersistentClient(str(tmp_path))
    function = SentencEmbeddingFunction("cse-en-tiny", truncate_dim=32)
    collection = client.create_collection("texts", embedding_function=function)
    collection.add(ids=["g", "s", "d"], documents=TEXTS)
    # The collection is opened without the function.
    again = client.get_collection("texts")
    answer = again.query(query_texts=["someone plays an instrument"], n_results=1)
    assert answer["ids"] == [["g"]]
    cosine = sentenc.load("cse-en-tiny").encode(
        ["someone plays an instrument", TEXTS[0]], truncate_dim=32, normalize_embeddings=True
    )
    assert 1 - answer["distances"][0][0] == pytest.approx(cosine[0] @ cosine[1], abs=1e-4)


def test_lancedb_stores_the_function_with_a_table(tmp_path):
    lancedb = pytest.importorskip("lancedb")
    from lancedb.embeddings import get_registry
    from lancedb.pydantic import LanceModel, Vector

    from sentenc.integrations.lancedb import SentencEmbeddings

    assert get_registry().get("sentenc") is SentencEmbeddings
    encoder = make_cse()
    with_prompts(encoder, query="someone ", document="the ")
    encoder.save(tmp_path / "model")
    function = get_registry().get("sentenc").create(name=str(tmp_path / "model"), truncate_dim=7)
    assert function.ndims() == 7
    query = function.compute_query_embeddings("guitar")[0]
    np.testing.assert_allclose(query, encoder.encode_query("guitar", truncate_dim=7), atol=1e-6)

    class Text(LanceModel):
        text: str = function.SourceField()
        vector: Vector(function.ndims()) = function.VectorField()

    database = lancedb.connect(str(tmp_path / "database"))
    table = database.create_table("texts", schema=Text)
    table.add([{"text": text} for text in TEXTS])
    stored = np.array(table.to_arrow()["vector"].to_pylist())
    np.testing.assert_allclose(stored, encoder.encode_document(TEXTS, truncate_dim=7), atol=1e-6)
    # The table is opened without the function.
    rows = database.open_table("texts").search("the guitar").metric("cosine").limit(3).to_list()
    expected = encoder.encode_query("the guitar", truncate_dim=7) @ stored.T / np.linalg.norm(stored, axis=1)
    assert [row["text"] for row in rows] == [TEXTS[i] for i in np.argsort(-expected)]


def test_databases_store_the_absolute_path_of_a_model_folder(tmp_path, monkeypatch):
    make_cse().save(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    pytest.importorskip("chromadb")
    from sentenc.integrations.chroma import SentencEmbeddingFunction

    function = SentencEmbeddingFunction("model")
    assert function.get_config()["model"] == str(tmp_path / "model")
    assert SentencEmbeddingFunction("cse-en-tiny").get_config()["model"] == "cse-en-tiny"
    pytest.importorskip("lancedb")
    from lancedb.embeddings import get_registry

    import sentenc.integrations.lancedb  # noqa: F401

    create = get_registry().get("sentenc").create
    assert create(name="model").safe_model_dump()["name"] == str(tmp_path / "model")
    assert create(name="cse-en-tiny").safe_model_dump()["name"] == "cse-en-tiny"
