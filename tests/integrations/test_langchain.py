"""The adapters of LangChain, with its own retrievers and stores."""

import asyncio

import numpy as np
import pytest

pytest.importorskip("langchain_core")

from langchain_core.documents import Document
from langchain_core.embeddings import DeterministicFakeEmbedding
from langchain_core.vectorstores import InMemoryVectorStore

import sentenc
from sentenc.integrations.langchain import SentencEmbeddings, SentencVectorStore
from tests.support.models import make_bert, make_cse
from tests.support.pairs import with_prompts

TEXTS = ["a man is playing the guitar", "the stock market fell", "the dog runs in the park"]
YEARS = [{"year": 2019}, {"year": 2021}, {"year": 2023}]


@pytest.fixture(scope="module")
def encoder():
    return make_cse("int8", combine="both", average_dim=6)


@pytest.fixture
def store(encoder):
    return SentencVectorStore.from_texts(TEXTS, SentencEmbeddings(encoder), YEARS, ids=["g", "s", "d"])


def test_embeddings_are_those_of_the_roles():
    encoder = with_prompts(make_bert(), query="someone ", document="the ")
    embeddings = SentencEmbeddings(encoder, truncate_dim=5)
    documents = np.array(embeddings.embed_documents(TEXTS))
    np.testing.assert_allclose(documents, encoder.encode_document(TEXTS, truncate_dim=5), atol=1e-6)
    query = np.array(embeddings.embed_query(TEXTS[0]))
    np.testing.assert_allclose(query, encoder.encode_query(TEXTS[0], truncate_dim=5), atol=1e-6)
    assert asyncio.run(embeddings.aembed_query(TEXTS[0])) == embeddings.embed_query(TEXTS[0])


def test_other_stores_take_the_embeddings(encoder):
    store = InMemoryVectorStore.from_texts(TEXTS, SentencEmbeddings(encoder))
    assert store.similarity_search(TEXTS[0], k=1)[0].page_content == TEXTS[0]


def test_searches_are_those_of_the_index(store, encoder):
    hits = store.index.search("the guitar", k=2)
    documents = store.similarity_search("the guitar", k=2)
    assert [document.id for document in documents] == [hit.id for hit in hits]
    assert documents[0] == Document(id="g", page_content=TEXTS[0], metadata={"year": 2019})
    scored = store.similarity_search_with_score("the guitar", k=2, mode="lexical")
    assert [score for _, score in scored] == [
        hit.score for hit in store.index.search("the guitar", k=2, mode="lexical")
    ]
    vector = encoder.encode(TEXTS[1], truncate_dim=encoder.similarity_dim)
    assert store.similarity_search_by_vector(vector.tolist(), k=1)[0].id == "s"
    late = store.similarity_search("guitar", k=3, filter={"year": {"gte": 2020}})
    assert {document.id for document in late} == {"s", "d"}
    assert store.similarity_search("guitar", k=0) == []


def test_relevance_scores_are_cosines(store, encoder):
    scored = store.similarity_search_with_relevance_scores(TEXTS[0], k=3)
    cosines = encoder.similarity(TEXTS[0], [document.page_content for document, _ in scored])[0]
    np.testing.assert_allclose([score for _, score in scored], np.clip(cosines, 0, 1), atol=1e-5)
    options = {"search_type": "similarity_score_threshold", "search_kwargs": {"score_threshold": 0.99}}
    retrieved = store.as_retriever(**options).invoke(TEXTS[0])
    assert [document.id for document in retrieved] == ["g"]


def test_scores_that_are_no_cosines_are_no_relevance_scores(store, encoder):
    for mode in ("hybrid", "lexical"):
        with pytest.raises(ValueError, match=f"mode is '{mode}'"):
            store.similarity_search_with_relevance_scores(TEXTS[0], mode=mode)
    dot = SentencVectorStore(sentenc.Index(encoder, metric="dot"))
    dot.add_texts(TEXTS)
    with pytest.raises(ValueError, match="metric 'dot'"):
        dot.similarity_search_with_relevance_scores(TEXTS[0])


def test_retrievers(store):
    assert store.as_retriever(search_kwargs={"k": 1}).invoke("the stock market")[0].id == "s"
    assert asyncio.run(store.as_retriever(search_kwargs={"k": 1}).ainvoke("the dog"))[0].id == "d"
    store.add_texts([TEXTS[0]], ids=["twin"])
    diverse = store.as_retriever(search_type="mmr", search_kwargs={"k": 2, "lambda_mult": 0.0})
    ids = {document.id for document in diverse.invoke(TEXTS[0])}
    assert len(ids & {"g", "twin"}) == 1


def test_items_are_replaced_and_deleted(store):
    assert store.add_texts(["a cat", "a dog"], ids=["g", None])[0] == "g"
    assert len(store.index) == 4
    assert store.get_by_ids(["g", "none"])[0].page_content == "a cat"
    assert store.delete(["g", "none"])
    assert not store.delete(["g"])
    added = store.add_documents([Document(id="n", page_content="a cat", metadata={"year": 1})])
    assert added == ["n"]
    with pytest.raises(ValueError, match="2 ids for 1 texts"):
        store.add_texts(["a"], ids=["a", "b"])
    with pytest.raises(ValueError, match="an id twice"):
        store.add_texts(["a", "b"], ids=["a", "a"])
    assert store.delete()
    assert len(store.index) == 0
    assert store.similarity_search("a cat") == []


def test_an_index_with_numbers_as_ids(encoder, tmp_path):
    index = sentenc.Index(encoder)
    index.add(TEXTS)
    store = SentencVectorStore(index)
    assert store.similarity_search("guitar", k=1)[0].id == "0"
    assert store.get_by_ids(["2"])[0].page_content == TEXTS[2]
    assert store.delete(["1"])
    store.save(tmp_path / "index")
    again = SentencVectorStore(sentenc.Index.open(tmp_path / "index", encoder))
    assert [document.id for document in again.similarity_search("dog", k=1)] == ["2"]


def test_other_embeddings_with_an_index():
    fake = DeterministicFakeEmbedding(size=8)
    store = SentencVectorStore.from_texts(TEXTS, fake, ids=["g", "s", "d"])
    assert store.embeddings is fake
    assert store.similarity_search(TEXTS[1], k=1)[0].id == "s"
    with pytest.raises(ValueError, match="pass embedding"):
        SentencVectorStore(sentenc.Index(dim=8))


def test_a_document_replaces_the_item_with_its_integer_id(encoder):
    index = sentenc.Index(encoder)
    index.add(TEXTS)
    store = SentencVectorStore(index)
    best = store.similarity_search("the guitar", k=1)[0]
    best.metadata["year"] = 2019
    assert store.add_documents([best]) == ["0"]
    assert len(index) == 3
    assert index.get([0])[0].payload == {"year": 2019}


def test_ids_are_those_of_documents_and_each_counts_once(encoder):
    index = sentenc.Index(encoder)
    index.add(TEXTS, ids=[0, 1, -2])
    store = SentencVectorStore(index)
    other = ["--2", "00", "-0", "+1", " 1", "\u0661", str(2**63), "9" * 5000]
    assert store.get_by_ids(other) == []
    assert not store.delete(other)
    assert [document.id for document in store.get_by_ids(["-2", "1", "1"])] == ["-2", "1"]
    assert store.delete(["1", "1"])
    assert [item.id for item in index] == [0, -2]
