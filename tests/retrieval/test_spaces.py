"""Indexes and encoders of one space, prompts in an index, and how an index loads its encoder again."""

import json
from pathlib import Path

import numpy as np
import pytest

import sentenc
from sentenc import Index, IndexMismatchError, ModelNotFoundError
from sentenc.checkpoint import read_checkpoint
from sentenc.registry import load_checkpoint, resolve_model
from sentenc.retrieval.rerank_vectors import RerankVectors
from tests.support.models import make_bert, make_cse
from tests.support.pairs import in_space, with_prompts

TEXTS = ["a man is playing the guitar", "dog cat", "the stock market fell", "not good at all"]
QUERY = "someone plays a guitar in the park"
CLOSE = {"rtol": 0, "atol": 1e-5}


def scores(index, **options):
    hits = index.search(QUERY, k=len(TEXTS), mode="vector", **options)
    return [hit.score for hit in sorted(hits, key=lambda hit: hit.id)]


@pytest.fixture
def folder(tmp_path):
    index = Index(in_space(make_bert()))
    index.add(TEXTS)
    index.save(tmp_path / "index")
    return tmp_path / "index"


def edit(folder, change):
    path = folder / "index.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def test_an_encoder_of_the_same_space_searches_an_index(folder):
    query = in_space(make_cse(widths=()))
    opened = Index.open(folder, query)
    expected = query.similarity(query.encode(QUERY), make_bert().encode(TEXTS))[0]
    np.testing.assert_allclose(scores(opened), expected, **CLOSE)
    assert opened.info()["space"] == "a-space"


def test_an_encoder_of_another_space_is_refused_by_both_names(folder, tmp_path):
    make_bert().save(tmp_path / "mine")
    with pytest.raises(
        IndexMismatchError, match=r"of space a-space, but \S*mine has the space \w+: .*reencode"
    ):
        Index.open(folder, tmp_path / "mine")
    with pytest.raises(IndexMismatchError, match="of space a-space, but this encoder has the space b-space"):
        Index.open(folder, in_space(make_bert(), "b-space"))
    assert Index.open(folder, make_bert(), force=True).encoder.space != "a-space"


def test_an_older_index_without_a_space_is_matched_by_its_fingerprint(tmp_path):
    built = make_bert()
    index = Index(built)
    index.add(TEXTS)
    index.save(tmp_path / "index")
    edit(tmp_path / "index", lambda content: content["encoder"].pop("space"))
    assert Index.open(tmp_path / "index", make_bert()).encoder is not None
    # A model that was fitted into the space of the older one.
    Index.open(tmp_path / "index", in_space(make_cse(widths=()), built.fingerprint()))
    # Older versions took the fingerprint for the space.
    edit(tmp_path / "index", lambda content: content["encoder"].update(space=built.fingerprint()))
    assert Index.open(tmp_path / "index", make_bert()).encoder is not None
    with pytest.raises(IndexMismatchError, match=f"of space {built.fingerprint()}"):
        Index.open(tmp_path / "index", make_bert(normalize=False))


@pytest.mark.parametrize("options", [{"max_tokens": 20}, {"compute": "int8"}])
def test_another_length_or_type_of_matrices_is_no_other_space(tmp_path, options):
    make_bert().save(tmp_path / "model")
    index = Index(str(tmp_path / "model"))
    index.add(TEXTS)
    index.save(tmp_path / "index")
    opened = Index.open(tmp_path / "index", sentenc.load(tmp_path / "model", **options))
    np.testing.assert_allclose(scores(opened), scores(index), rtol=0, atol=0.05)


def test_a_model_that_was_moved_is_named_with_the_way_out(tmp_path):
    make_bert().save(tmp_path / "model")
    index = Index(str(tmp_path / "model"))
    index.add(TEXTS)
    index.save(tmp_path / "index")
    (tmp_path / "model").rename(tmp_path / "moved")
    message = r"index needs the model \S+/model, which cannot be found; if it was moved, pass .*--model"
    with pytest.raises(ModelNotFoundError, match=message):
        Index.open(tmp_path / "index")
    assert scores(Index.open(tmp_path / "index", tmp_path / "moved")) == scores(index)


def test_another_prompt_is_no_other_space(tmp_path):
    index = Index(with_prompts(make_bert(), document="good "))
    index.add(TEXTS)
    index.save(tmp_path / "index")
    Index.open(tmp_path / "index", with_prompts(make_bert(), query="the word "))


def test_items_are_documents_and_queries_are_queries(tmp_path):
    encoder = with_prompts(make_bert(pooling="cls"), query="the word ", document="good ")
    index = Index(encoder)
    index.add(TEXTS)
    expected = encoder.similarity(encoder.encode_query(QUERY), encoder.encode_document(TEXTS))[0]
    np.testing.assert_allclose(scores(index), expected, **CLOSE)
    np.testing.assert_allclose(
        RerankVectors.of(TEXTS, encoder).vectors,
        encoder.encode_document(TEXTS, normalize_embeddings=True),
        **CLOSE,
    )
    plain = Index(make_cse())
    plain.add(TEXTS)
    hits = plain.search(QUERY, k=4, mode="vector", rerank=encoder)
    np.testing.assert_allclose([hit.rerank for hit in hits], expected[[hit.id for hit in hits]], **CLOSE)


def test_an_index_loads_its_encoder_with_the_options_that_built_it(tmp_path, monkeypatch):
    make_bert(normalize=False).save(tmp_path / "bert")
    (tmp_path / "bert" / "modules.json").unlink()
    monkeypatch.chdir(tmp_path)
    encoder = sentenc.load("bert", pooling="cls", query_prompt="the word ", max_tokens=20)
    assert encoder.loaded_as == (
        str(tmp_path / "bert"), {"pooling": "cls", "query_prompt": "the word ", "max_tokens": 20},
    )  # fmt: skip
    index = Index(encoder)
    index.add(TEXTS)
    index.save(tmp_path / "index")
    monkeypatch.chdir("/")
    opened = Index.open(tmp_path / "index")
    assert (opened.encoder.max_tokens, opened.encoder.config.pooling) == (20, "cls")
    assert scores(opened) == scores(index)
    assert make_bert().loaded_as is None


def test_an_encoder_remembers_how_it_was_loaded(tmp_path, monkeypatch):
    make_bert().save(tmp_path / "bert")
    (tmp_path / "words.txt").write_text("dog 1 2\ncat 2 1\n")
    monkeypatch.chdir(tmp_path)
    assert sentenc.load("bert").loaded_as == (str(tmp_path / "bert"), {})
    assert sentenc.load(Path("words.txt")).loaded_as == (str(tmp_path / "words.txt"), {})
    assert sentenc.load("bert", compute="int8").loaded_as[1] == {"compute": "int8"}
    assert sentenc.load("bert", max_tokens=9).with_compute("int8").loaded_as == (
        str(tmp_path / "bert"), {"max_tokens": 9, "compute": "int8"},
    )  # fmt: skip
    # A folder of this name is not the shipped model, which has priority.
    (tmp_path / "cse-en-tiny").mkdir()
    assert sentenc.load("cse-en-tiny").loaded_as == ("cse-en-tiny", {})


@pytest.mark.parametrize("name", ["mine", "cse-en-tiny"])
def test_an_index_of_a_loaded_folder_opens_with_its_encoder(name, tmp_path, monkeypatch):
    # The name in the metadata of a model may be that of a shipped one, from which it was made.
    model = make_cse()
    model.metadata = {**model.metadata, "name": name}
    model.save(tmp_path / "model")
    monkeypatch.chdir(tmp_path)
    index = Index(sentenc.load("model"))
    index.add(TEXTS)
    index.save("index")
    monkeypatch.chdir("/")
    opened = Index.open(tmp_path / "index")
    assert opened.info()["encoder"] == str(tmp_path / "model")
    assert opened.encoder.fingerprint() == model.fingerprint()
    assert scores(opened) == scores(index)


def test_a_shipped_name_is_stated_for_the_shipped_model_alone():
    shipped = load_checkpoint(read_checkpoint(resolve_model("cse-en-tiny")))
    assert shipped.loaded_as is None
    assert Index(shipped).info()["encoder"] == "cse-en-tiny"
    changed = make_cse()
    changed.metadata = {**changed.metadata, "name": "cse-en-tiny"}
    assert Index(changed).info()["encoder"] is None


def test_a_reopened_index_encodes_with_the_same_compute(tmp_path):
    make_bert().save(tmp_path / "bert")
    index = Index(sentenc.load(tmp_path / "bert", compute="int8"))
    index.add_reranker(sentenc.load(tmp_path / "bert", compute="int8"))
    index.add(TEXTS)
    index.save(tmp_path / "index")
    opened = Index.open(tmp_path / "index")
    assert opened.encoder.compute == "int8"
    # The stored reranker is loaded for new texts, and must be the one of the stored vectors.
    opened.add(["a new text"])
    assert len(opened) == len(TEXTS) + 1


def test_texts_need_the_encoder_of_an_index_even_if_it_has_no_name(tmp_path):
    index = Index(make_cse())
    index.add(TEXTS)
    index.save(tmp_path / "index")
    from_table = Index.from_arrow(index.to_arrow())
    for opened in (Index.open(tmp_path / "index"), from_table):
        for query in (QUERY, [QUERY]):
            with pytest.raises(ValueError, match=r"no name.*encoder=.*mode='lexical'"):
                opened.search(query)
        assert opened.search(QUERY, mode="lexical")
        assert opened.search(QUERY, vectors=make_cse().encode(QUERY))
        assert opened.search(make_cse().encode(QUERY))
        opened.set_query_encoder(make_cse())
        assert opened.search(QUERY)
    without = Index.open(tmp_path / "index", encoder=False)
    assert [hit.semantic for hit in without.search("dog")] == [None] * len(without.search("dog"))
    assert scores(Index.open(tmp_path / "index", make_cse())) == scores(index)
