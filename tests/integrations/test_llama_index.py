"""The adapters of LlamaIndex, with its own index and retrievers."""

import asyncio
import pickle

import numpy as np
import pytest

pytest.importorskip("llama_index.core")

from llama_index.core import StorageContext, VectorStoreIndex
from llama_index.core.ingestion import IngestionCache, IngestionPipeline
from llama_index.core.schema import TextNode
from llama_index.core.vector_stores.types import (
    FilterOperator,
    MetadataFilter,
    MetadataFilters,
    VectorStoreQuery,
    VectorStoreQueryMode,
)
from llama_index.core.vector_stores.utils import build_metadata_filter_fn

import sentenc
from sentenc.integrations.llama_index import SentencEmbedding, SentencVectorStore, where_of
from tests.support.models import make_bert, make_cse
from tests.support.pairs import with_prompts

TEXTS = ["a man is playing the guitar", "the stock market fell", "the dog runs in the park"]


@pytest.fixture(scope="module")
def encoder():
    return make_cse("int8")


@pytest.fixture
def nodes():
    return [
        TextNode(id_=name, text=text, metadata={"year": year, "tags": [name]})
        for name, text, year in zip("gsd", TEXTS, (2019, 2021, 2023), strict=True)
    ]


def test_embeddings_are_those_of_the_roles():
    encoder = with_prompts(make_bert(), query="someone ", document="the ")
    embedding = SentencEmbedding(encoder)
    vectors = np.array(embedding.get_text_embedding_batch(TEXTS))
    np.testing.assert_allclose(vectors, encoder.encode_document(TEXTS), atol=1e-6)
    query = np.array(embedding.get_query_embedding(TEXTS[0]))
    np.testing.assert_allclose(query, encoder.encode_query(TEXTS[0]), atol=1e-6)
    assert asyncio.run(embedding.aget_query_embedding(TEXTS[0])) == query.tolist()
    assert embedding.model_name == "BertEncoder"


def test_an_index_of_llama_index(encoder, nodes, tmp_path):
    store = SentencVectorStore(sentenc.Index(encoder))
    context = StorageContext.from_defaults(vector_store=store)
    embedding = SentencEmbedding(encoder)
    index = VectorStoreIndex(nodes, storage_context=context, embed_model=embedding)
    best = index.as_retriever(similarity_top_k=1).retrieve("the guitar")[0]
    # LlamaIndex embeds the metadata of a node together with its text, which the index stores alone.
    assert (
        best.node.node_id
        == store.client.search(np.array(embedding.get_query_embedding("the guitar"), np.float32), 1)[0].id
    )
    assert best.node.metadata["year"] in (2019, 2021, 2023)
    words = index.as_retriever(similarity_top_k=1, vector_store_query_mode="text_search")
    assert words.retrieve("stock")[0].node.text == TEXTS[1]
    both = index.as_retriever(similarity_top_k=3, vector_store_query_mode="hybrid", alpha=0.3)
    assert both.retrieve("stock")[0].node.node_id == "s"
    filters = MetadataFilters(filters=[MetadataFilter(key="year", value=2020, operator=FilterOperator.GT)])
    late = index.as_retriever(similarity_top_k=3, filters=filters).retrieve("guitar")
    assert {result.node.node_id for result in late} == {"s", "d"}
    store.persist(str(tmp_path / "index"))
    again = SentencVectorStore(sentenc.Index.open(tmp_path / "index", encoder))
    opened = VectorStoreIndex.from_vector_store(again, embed_model=embedding)
    assert opened.as_retriever(similarity_top_k=1).retrieve("the guitar")[0].node.node_id == best.node.node_id


def test_nodes_are_encoded_replaced_and_deleted(encoder, nodes):
    store = SentencVectorStore(sentenc.Index(encoder))
    assert store.query(VectorStoreQuery(query_str="a")).ids == []
    assert store.add([]) == []
    assert store.add(nodes) == ["g", "s", "d"]
    assert store.add(nodes[:1]) == ["g"]
    assert len(store.client) == 3
    result = store.query(VectorStoreQuery(query_str="guitar", similarity_top_k=2))
    assert result.ids[0] == "g"
    assert result.similarities[0] == pytest.approx(encoder.similarity("guitar", TEXTS[0])[0, 0], abs=1e-5)
    assert result.nodes[0].text == TEXTS[0]
    only = store.query(VectorStoreQuery(query_str="guitar", node_ids=["d"]))
    assert only.ids == ["d"]
    assert [node.node_id for node in store.get_nodes(["d", "none"])] == ["d"]
    store.delete_nodes(["d", "none"])
    assert [node.node_id for node in store.get_nodes()] == ["s", "g"]
    store.clear()
    assert len(store.client) == 0
    nodes[0].embedding = [0.0] * encoder.dim
    with pytest.raises(ValueError, match="all or none"):
        store.add(nodes)


def test_nodes_of_a_document_are_deleted(encoder):
    from llama_index.core import Document
    from llama_index.core.node_parser import SentenceSplitter

    store = SentencVectorStore(sentenc.Index(encoder))
    documents = [Document(doc_id="one", text="a man. " * 30), Document(doc_id="two", text="the dog")]
    parts = SentenceSplitter(chunk_size=30, chunk_overlap=0).get_nodes_from_documents(documents)
    store.add(parts)
    result = store.query(VectorStoreQuery(query_str="dog", doc_ids=["two"]))
    assert [node.text for node in result.nodes] == ["the dog"]
    store.delete("one")
    assert [node.text for node in store.get_nodes()] == ["the dog"]


def test_filters_and_modes():
    filters = MetadataFilters(
        filters=[
            MetadataFilter(key="year", value=2020, operator=FilterOperator.GTE),
            MetadataFilters(
                filters=[
                    MetadataFilter(key="tags", value="a", operator=FilterOperator.CONTAINS),
                    MetadataFilter(key="tags", value=["b", "c"], operator=FilterOperator.ALL),
                ],
                condition="or",
            ),
            MetadataFilters(filters=[MetadataFilter(key="x", value=1)], condition="not"),
        ]
    )
    tags = {"or": [{"tags": {"eq": "a"}}, {"and": [{"tags": "b"}, {"tags": "c"}]}]}
    assert where_of(filters) == {"and": [{"year": {"gte": 2020}}, tags, {"not": {"or": [{"x": {"eq": 1}}]}}]}
    bad = MetadataFilter(key="x", value="a", operator=FilterOperator.TEXT_MATCH)
    with pytest.raises(ValueError, match="operator is 'text_match'"):
        where_of(MetadataFilters(filters=[bad]))
    store = SentencVectorStore(sentenc.Index(dim=3))
    with pytest.raises(ValueError, match="mode is 'mmr'"):
        store.query(VectorStoreQuery(query_str="a", mode=VectorStoreQueryMode.MMR))
    with pytest.raises(ValueError, match="expected node_ids"):
        store.delete_nodes(filters=filters)


def test_an_embedding_is_restored_with_its_model_and_options():
    embedding = SentencEmbedding(model_name="cse-en-tiny", truncate_dim=8, normalize_embeddings=True)
    tiny = sentenc.load("cse-en-tiny")
    expected = tiny.encode_document(TEXTS, truncate_dim=8, normalize_embeddings=True)
    copies = (pickle.loads(pickle.dumps(embedding)), SentencEmbedding.from_dict(embedding.to_dict()))
    for each in (embedding, *copies):
        assert (each.model_name, each.fingerprint) == ("cse-en-tiny", tiny.fingerprint())
        np.testing.assert_allclose(each.get_text_embedding_batch(TEXTS), expected, atol=1e-6)
    with pytest.raises(ValueError, match="model_name is 'cse-en'"):
        SentencEmbedding("cse-en-tiny", model_name="cse-en")


def test_an_encoder_object_is_pickled_and_never_replaced_by_another_model():
    encoder = sentenc.load("cse-en-tiny", max_tokens=20)
    embedding = SentencEmbedding(encoder)
    copy = pickle.loads(pickle.dumps(embedding))
    assert copy.fingerprint == encoder.fingerprint()
    assert copy.get_text_embedding(TEXTS[0]) == embedding.get_text_embedding(TEXTS[0])
    with pytest.raises(ValueError, match=encoder.fingerprint()):
        SentencEmbedding.from_dict(embedding.to_dict() | {"model_name": "cse-en-tiny"})


def test_a_cache_of_llama_index_keeps_models_and_options_apart(encoder):
    cache = IngestionCache()
    node = TextNode(text=TEXTS[0])
    embeddings = [
        SentencEmbedding(encoder),
        SentencEmbedding(encoder, truncate_dim=8),
        SentencEmbedding(encoder, normalize_embeddings=True),
        SentencEmbedding(make_cse("float32")),
    ]
    for embedding in embeddings:
        pipeline = IngestionPipeline(transformations=[embedding], cache=cache)
        assert pipeline.run(nodes=[node])[0].embedding == embedding.get_text_embedding(TEXTS[0])


def test_items_that_llama_index_has_not_added_become_nodes(encoder):
    index = sentenc.Index(encoder)
    index.add(TEXTS, payloads=[{"year": 2019}, None, None])
    store = SentencVectorStore(index)
    result = store.query(VectorStoreQuery(query_str=TEXTS[0], similarity_top_k=1))
    assert (result.ids, result.nodes[0].node_id) == (["0"], "0")
    assert (result.nodes[0].text, result.nodes[0].metadata) == (TEXTS[0], {"year": 2019})
    # A node that replaces an item has the string of its id.
    assert store.add([TextNode(id_="0", text="a dog")]) == ["0"]
    assert [node.text for node in store.get_nodes()] == [*TEXTS[1:], "a dog"]


@pytest.mark.parametrize(
    "metadata", [{}, {"x": None}, {"x": ""}, {"x": []}, {"x": 0}, {"x": False}, {"x": ["a"]}]
)
def test_is_empty_is_that_of_llama_index(encoder, metadata):
    store = SentencVectorStore(sentenc.Index(encoder))
    store.add([TextNode(text=TEXTS[0], metadata=metadata)])
    filters = MetadataFilters(filters=[MetadataFilter(key="x", value=None, operator=FilterOperator.IS_EMPTY)])
    expected = build_metadata_filter_fn(lambda _: metadata, filters)("any")
    query = VectorStoreQuery(query_str="guitar", similarity_top_k=1, filters=filters)
    assert bool(store.query(query).ids) is expected
