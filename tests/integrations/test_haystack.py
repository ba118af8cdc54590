"""The components of Haystack, in its pipelines."""

import numpy as np
import pytest

pytest.importorskip("haystack")

from haystack import Document, Pipeline
from haystack.components.retrievers.in_memory import InMemoryEmbeddingRetriever
from haystack.components.writers import DocumentWriter
from haystack.document_stores.in_memory import InMemoryDocumentStore

import sentenc
from sentenc.integrations.haystack import (
    SentencDocumentEmbedder,
    SentencIndexWriter,
    SentencRetriever,
    SentencTextEmbedder,
    where_of,
)
from tests.support.models import make_bert, make_cse
from tests.support.pairs import with_prompts

TEXTS = ["a man is playing the guitar", "the stock market fell", "the dog runs in the park"]


@pytest.fixture(scope="module")
def encoder():
    return make_cse("int8")


@pytest.fixture
def documents():
    return [
        Document(id=name, content=text, meta={"year": year})
        for name, text, year in zip("gsd", TEXTS, (2019, 2021, 2023), strict=True)
    ]


def test_embeddings_are_those_of_the_roles(documents):
    encoder = with_prompts(make_bert(), query="someone ", document="the ")
    embedded = SentencDocumentEmbedder(encoder).run(documents)["documents"]
    vectors = np.array([document.embedding for document in embedded])
    np.testing.assert_allclose(vectors, encoder.encode_document(TEXTS), atol=1e-6)
    assert all(document.embedding is None for document in documents)
    query = SentencTextEmbedder(encoder).run(TEXTS[0])["embedding"]
    np.testing.assert_allclose(query, encoder.encode_query(TEXTS[0]), atol=1e-6)
    with_years = SentencDocumentEmbedder(
        encoder, meta_fields_to_embed=["year", "none"], embedding_separator=" "
    )
    vectors = np.array([document.embedding for document in with_years.run(documents)["documents"]])
    texts = [f"{document.meta['year']} {document.content}" for document in documents]
    np.testing.assert_allclose(vectors, encoder.encode_document(texts), atol=1e-6)


def test_a_pipeline_with_a_store_of_haystack(encoder, documents):
    store = InMemoryDocumentStore(embedding_similarity_function="cosine")
    writing = Pipeline()
    writing.add_component("embed", SentencDocumentEmbedder(encoder))
    writing.add_component("write", DocumentWriter(store))
    writing.connect("embed", "write")
    writing.run({"embed": {"documents": documents}})
    reading = Pipeline()
    reading.add_component("embed", SentencTextEmbedder(encoder))
    reading.add_component("retrieve", InMemoryEmbeddingRetriever(store, top_k=1))
    reading.connect("embed.embedding", "retrieve.query_embedding")
    assert reading.run({"embed": {"text": TEXTS[0]}})["retrieve"]["documents"][0].id == "g"


def test_a_pipeline_with_an_index(encoder, documents):
    index = sentenc.Index(encoder)
    retriever = SentencRetriever(index, top_k=2)
    assert retriever.run("guitar") == {"documents": []}
    writer = SentencIndexWriter(index)
    assert writer.run([]) == {"documents_written": 0}
    assert writer.run(documents) == {"documents_written": 3}
    assert writer.run(documents[:1]) == {"documents_written": 1}
    assert len(index) == 3
    pipeline = Pipeline()
    pipeline.add_component("retrieve", retriever)
    retrieved = pipeline.run({"retrieve": {"query": "stock"}})["retrieve"]["documents"]
    assert [document.id for document in retrieved] == [hit.id for hit in index.search("stock", k=2)]
    assert (retrieved[0].id, retrieved[0].content, retrieved[0].meta) == ("s", TEXTS[1], {"year": 2021})
    late = {"field": "meta.year", "operator": ">", "value": 2020}
    assert {d.id for d in retriever.run("guitar", filters=late, top_k=3)["documents"]} == {"s", "d"}
    embedded = SentencDocumentEmbedder(encoder).run(documents)["documents"]
    with pytest.raises(ValueError, match="all or none"):
        writer.run([embedded[0], documents[1]])


def test_pipelines_are_saved_and_loaded(tmp_path):
    index = sentenc.Index("cse-en-tiny")
    retriever = SentencRetriever(index)
    with pytest.raises(ValueError, match="no folder"):
        retriever.to_dict()
    index.save(tmp_path / "index")
    pipeline = Pipeline()
    pipeline.add_component("text", SentencTextEmbedder("cse-en-tiny", truncate_dim=8))
    pipeline.add_component(
        "documents", SentencDocumentEmbedder("cse-en-tiny", meta_fields_to_embed=["title"])
    )
    pipeline.add_component("write", SentencIndexWriter(index))
    pipeline.add_component("retrieve", SentencRetriever(str(tmp_path / "index"), top_k=3))
    pipeline.connect("documents", "write")
    again = Pipeline.loads(pipeline.dumps(), allowed_modules=["sentenc.integrations.haystack"])
    assert again.get_component("retrieve").top_k == 3
    assert again.get_component("documents").meta_fields_to_embed == ["title"]
    answer = again.run(
        {
            "text": {"text": "a guitar"},
            "documents": {"documents": [Document(id="one", content="a dog")]},
            "retrieve": {"query": "a guitar"},
        }
    )
    assert len(answer["text"]["embedding"]) == 8
    # The index has a folder, so the writer has saved it.
    assert [item.id for item in sentenc.Index.open(tmp_path / "index")] == ["one"]
    with pytest.raises(ValueError, match="passed as an object"):
        SentencTextEmbedder(make_cse()).to_dict()


def test_filters():
    leaf = {"field": "meta.a.b", "operator": "not in", "value": [1]}
    assert where_of(leaf) == {"a.b": {"nin": [1]}}
    assert where_of({"operator": "NOT", "conditions": [leaf, leaf]}) == {
        "not": {"and": [{"a.b": {"nin": [1]}}] * 2}
    }
    for wrong, words in (
        ({"field": "a", "operator": "~", "value": 1}, "operator is '~'"),
        ({"operator": "AND"}, "no list of conditions"),
        ({"operator": "==", "value": 1}, "no field"),
    ):
        with pytest.raises(ValueError, match=words):
            where_of(wrong)


def test_a_retriever_finds_what_a_writer_of_the_same_folder_has_written(tmp_path):
    folder = tmp_path / "index"
    sentenc.Index("cse-en-tiny").save(folder)
    writer, retriever = SentencIndexWriter(str(folder)), SentencRetriever(str(folder), top_k=1)
    for content in TEXTS:
        writer.run([Document(content=content)])
        assert retriever.run(content)["documents"][0].content == content
    # Another index has written to the folder since.
    other = sentenc.Index.open(folder)
    other.add(["hello world"])
    other.save()
    assert SentencRetriever(str(folder), top_k=1).run("hello")["documents"][0].content == "hello world"


@pytest.mark.parametrize("name", ["id", "content", "meta", "score"])
def test_filters_on_fields_outside_of_the_metadata_are_refused(name):
    with pytest.raises(ValueError, match=f"field is '{name}'"):
        where_of({"field": name, "operator": "==", "value": "a"})
    assert where_of({"field": f"meta.{name}", "operator": "==", "value": "a"}) == {name: {"eq": "a"}}
