"""Encoders of queries: pairs, encoders that are set, and when each of them is loaded."""

import json
import re
import shutil

import numpy as np
import pytest

import sentenc
from sentenc import Index, IndexMismatchError
from sentenc.errors import IndexFormatError
from sentenc.retrieval.words import DEFAULT_ALPHA, TABLE_ALPHA, hybrid_alpha
from tests.retrieval.conftest import run
from tests.support.doubles import Wrapper
from tests.support.models import make_bert, make_cse, make_static
from tests.support.pairs import in_space, make_pair, with_prompts

TEXTS = [
    "a man is playing the guitar",
    "dog cat",
    "the stock market fell",
    "a dog runs in the park",
    "not good",
]
QUERY = "someone plays a guitar in the park"
CLOSE = {"rtol": 0, "atol": 1e-5}


def scores(index, query=QUERY, **options):
    """The score of every item, by id."""
    return {hit.id: hit.score for hit in index.search(query, k=len(TEXTS), mode="vector", **options)}


def expected(query_vector, encoder):
    return dict(enumerate(encoder.similarity(query_vector, encoder.encode_document(TEXTS))[0]))


def assert_scores(got, wanted):
    assert set(got) == set(wanted)
    np.testing.assert_allclose([got[i] for i in sorted(got)], [wanted[i] for i in sorted(got)], **CLOSE)


@pytest.fixture(scope="module")
def pair():
    return make_pair()


@pytest.fixture(scope="module")
def folders(pair, tmp_path_factory):
    """The folders of a pair and of its halves."""
    folder = tmp_path_factory.mktemp("models")
    pair.save(folder / "pair")
    pair.documents.save(folder / "documents")
    pair.queries.save(folder / "queries")
    return folder


@pytest.fixture
def index(pair):
    index = Index(pair)
    index.add(TEXTS)
    return index


def loaded(index):
    """The encoders of an opened index that have been loaded."""
    encoders = index._state.encoders
    sources = {"items": encoders.items, "queries": encoders.queries}
    return [name for name, source in sources.items() if source is not None and source.is_loaded]


def test_a_pair_encodes_items_and_queries(index, pair):
    assert index.query_speeds == ["fast", "exact"]
    fast = expected(pair.queries.encode(QUERY), pair)
    exact = expected(pair.documents.encode(QUERY), pair)
    assert_scores(scores(index), fast)
    assert_scores(scores(index, queries="fast"), fast)
    assert_scores(scores(index, queries="exact"), exact)
    assert max(abs(fast[i] - exact[i]) for i in fast) > 0.05
    assert index.query_encoder is pair.queries


def test_prompts_of_roles_are_used():
    documents = with_prompts(in_space(make_bert()), query="dog ", document="the ")
    index = Index(documents)
    index.add(TEXTS)
    assert_scores(scores(index), expected(documents.encode("dog " + QUERY), documents))
    queries = with_prompts(in_space(make_cse(widths=())), query="cat ")
    index.set_query_encoder(queries)
    assert_scores(scores(index), expected(queries.encode("cat " + QUERY), documents))
    assert_scores(scores(index, queries="exact"), expected(documents.encode("dog " + QUERY), documents))


def test_an_encoder_of_queries_is_set_and_removed(pair):
    index = Index(pair.documents)
    index.add(TEXTS)
    exact = scores(index)
    assert index.query_speeds == ["exact"]
    assert index.query_encoder is None
    with pytest.raises(ValueError, match=r"queries is 'fast', but .* set_query_encoder"):
        index.search(QUERY, queries="fast")
    index.set_query_encoder(pair.queries)
    assert index.query_speeds == ["fast", "exact"]
    assert_scores(scores(index), expected(pair.queries.encode(QUERY), pair))
    assert_scores(scores(index, queries="exact"), exact)
    assert index.encoder is pair.documents
    index.set_query_encoder(None)
    assert_scores(scores(index), exact)


def test_the_encoder_of_queries_may_replace_that_of_a_pair(index, pair):
    other = in_space(make_cse(widths=(2,)))
    index.set_query_encoder(other)
    assert_scores(scores(index), expected(other.encode(QUERY), pair))
    assert_scores(scores(index, queries="exact"), expected(pair.documents.encode(QUERY), pair))
    index.set_query_encoder(None)
    assert_scores(scores(index), expected(pair.queries.encode(QUERY), pair))


def test_an_encoder_of_another_space_is_refused_by_name(index):
    with pytest.raises(ValueError, match=r"has the space 'another', expected that of the index .*'a-space'"):
        index.set_query_encoder(in_space(make_cse(), "another"))
    with pytest.raises(ValueError, match="12 dimensions, expected those of the index, 24"):
        index.set_query_encoder(in_space(make_cse(embedding_dim=12, widths=())))
    with pytest.raises(ValueError, match="queries is 'slow', expected one of fast, exact"):
        index.search(QUERY, queries="slow")
    assert index.query_speeds == ["fast", "exact"]


def test_the_weight_of_the_vectors_is_that_of_the_encoder_of_the_queries(pair):
    index = Index(in_space(make_bert(), hybrid_alpha=0.8))
    index.add(TEXTS)

    def top(**options):
        return [hit.score for hit in index.search(QUERY, k=5, **options)]

    assert top() == top(alpha=0.8) != top(alpha=0.3)
    index.set_query_encoder(pair.queries)
    assert top() == top(alpha=0.3) != top(alpha=0.8)
    assert top(queries="exact") == top(queries="exact", alpha=0.8)
    both = Index(pair)
    both.add(TEXTS)
    index = both
    assert top() == top(alpha=0.3)
    assert (
        top(queries="exact") == top(queries="exact", alpha=DEFAULT_ALPHA) != top(queries="exact", alpha=0.3)
    )


def test_encoders_without_a_weight_have_the_default_of_their_kind():
    tables = in_space(make_cse(widths=(), tables="int8"))
    pair = sentenc.pair(in_space(make_bert()), tables)
    for encoder in (tables, make_static(), pair):
        assert hybrid_alpha(encoder) == TABLE_ALPHA == 0.4
    for encoder in (make_bert(), None, Wrapper(make_cse())):
        assert hybrid_alpha(encoder) == DEFAULT_ALPHA == 0.6
    assert hybrid_alpha(in_space(make_static(), hybrid_alpha=0.9)) == 0.9


def test_the_rest_of_a_search_is_as_with_any_encoder(pair):
    index = Index(pair, chunk_tokens=16, overlap=0)
    texts = [*TEXTS[:-1], "the stock market fell. " * 8 + "new york runs a day. " * 4]
    index.add(texts, payloads=[{"n": i} for i in range(len(TEXTS))])
    assert index.info()["passages"] > len(TEXTS)
    for speed in ("fast", "exact"):
        hits = index.search(
            QUERY, k=2, queries=speed, where={"n": {"gte": 2}}, rerank=make_cse(), candidates=3
        )
        assert len(hits) == 2
        assert all(hit.payload["n"] >= 2 and hit.rerank is not None for hit in hits)
        assert len(index.search([QUERY, "dog"], queries=speed)[1]) == len(TEXTS)
        assert index.search("dog", queries=speed, mode="lexical")[0].id in (1, 3)
        best = index.search("new york day", k=1, mode="lexical", queries=speed)[0]
        assert best.span[0] > 0


def test_vectors_of_queries_need_no_encoder(folders, tmp_path, pair):
    index = Index(str(folders / "documents"))
    index.add(TEXTS)
    index.set_query_encoder(str(folders / "queries"))
    index.save(tmp_path / "index")
    opened = Index.open(tmp_path / "index")
    opened.search(pair.encode_query(QUERY))
    opened.search(QUERY, vectors=pair.encode_query(QUERY), mode="vector")
    opened.search(QUERY, mode="lexical")
    opened.add(["new york"], vectors=pair.encode(["new york"]))
    assert loaded(opened) == []


def test_an_opened_index_loads_the_encoder_that_it_needs(folders, tmp_path, pair):
    index = Index(str(folders / "documents"))
    index.add(TEXTS)
    index.set_query_encoder(str(folders / "queries"))
    index.save(tmp_path / "index")
    opened = Index.open(tmp_path / "index")
    assert opened.query_speeds == ["fast", "exact"]
    assert opened.info()["query encoder"] == {
        "model": str(folders / "queries"), "fingerprint": pair.queries.fingerprint(), "space": "a-space",
        "items": len(TEXTS),
    }  # fmt: skip
    assert_scores(scores(opened), expected(pair.queries.encode(QUERY), pair))
    assert loaded(opened) == ["queries"]
    assert_scores(scores(opened, queries="exact"), expected(pair.documents.encode(QUERY), pair))
    assert loaded(opened) == ["items", "queries"]
    again = Index.open(tmp_path / "index")
    again.add(["new york"])
    assert loaded(again) == ["items"]
    again.close()
    passed = Index.open(tmp_path / "index", pair.documents)
    assert passed.query_speeds == ["exact"]
    passed.add(["dog"])
    passed.save()
    assert Index.open(tmp_path / "index").query_speeds == ["fast", "exact"]
    again = Index.open(tmp_path / "index")
    again.set_query_encoder(None)
    again.save()
    assert Index.open(tmp_path / "index").query_speeds == ["exact"]


def test_an_opened_index_loads_the_half_of_a_pair_that_it_needs(folders, tmp_path):
    index = Index(str(folders / "pair"))
    index.add(TEXTS)
    index.save(tmp_path / "index")
    opened = Index.open(tmp_path / "index")
    halves = opened.encoder.halves
    fast = scores(opened)
    assert [name for name, half in halves.items() if half.is_loaded] == ["queries"]
    assert scores(opened, queries="exact") != fast
    assert Index.open(tmp_path / "index", encoder=False).query_speeds == []


def test_an_encoder_without_a_name_is_set_again(pair, tmp_path):
    index = Index(pair.documents)
    index.add(TEXTS)
    index.set_query_encoder(pair.queries)
    index.save(tmp_path / "index")
    opened = Index.open(tmp_path / "index", pair.documents)
    assert opened.query_speeds == ["exact"]
    opened.set_query_encoder(pair.queries)
    assert opened.query_speeds == ["fast", "exact"]
    opened.close()
    # The index states the space of its items, so that their encoder is not needed.
    alone = Index.open(tmp_path / "index")
    with pytest.raises(ValueError, match=r"has the space 'another', expected that of the index .*'a-space'"):
        alone.set_query_encoder(in_space(make_cse(), "another"))
    alone.set_query_encoder(pair.queries)
    assert alone.query_speeds == ["fast"]


def test_an_index_that_does_not_state_its_space_needs_the_encoder_of_its_items(pair, tmp_path):
    index = Index(pair.documents)
    index.add(TEXTS)
    del index._manifest.encoder["space"]  # as in older versions
    index.save(tmp_path / "index")
    with pytest.raises(ValueError, match="the space of the index is not known"):
        Index.open(tmp_path / "index").set_query_encoder(pair.queries)
    Index.open(tmp_path / "index", pair.documents).set_query_encoder(pair.queries)


def test_an_encoder_that_has_changed_is_refused_when_it_is_used(folders, tmp_path, pair):
    pair.queries.save(tmp_path / "queries")
    index = Index(str(folders / "documents"))
    index.add(TEXTS)
    index.set_query_encoder(str(tmp_path / "queries"))
    index.save(tmp_path / "index")
    in_space(make_cse(widths=(2,))).save(tmp_path / "queries")  # better, and of the same space
    assert Index.open(tmp_path / "index").search(QUERY)
    in_space(make_cse(widths=()), "another").save(tmp_path / "queries")
    with pytest.raises(IndexMismatchError, match=r"space is now 'another'"):
        Index.open(tmp_path / "index").search(QUERY)
    assert Index.open(tmp_path / "index").search(QUERY, queries="exact")


def test_an_index_of_vectors_alone_may_have_an_encoder_of_queries(folders, tmp_path, pair):
    index = Index(dim=24)
    index.add(TEXTS, vectors=pair.encode_document(TEXTS))
    index.set_query_encoder(str(folders / "queries"))
    assert index.query_speeds == ["fast"]
    index.save(tmp_path / "index")
    opened = Index.open(tmp_path / "index")
    assert_scores(scores(opened), expected(pair.queries.encode(QUERY), pair))
    assert opened.search(QUERY)[0].lexical is not None
    with pytest.raises(ValueError, match="queries is 'exact', but the index has no encoder of its items"):
        opened.search(QUERY, queries="exact")
    with pytest.raises(ValueError, match="the index has no encoder"):
        opened.add(["dog"])


def test_the_manifest_of_an_index_without_an_encoder_of_queries_is_read(index, tmp_path):
    index.save(tmp_path / "index")
    path = tmp_path / "index" / "index.json"
    content = json.loads(path.read_text())
    del content["query_encoder"]
    path.write_text(json.dumps(content))
    with pytest.raises(IndexFormatError, match="query_encoder"):
        Index.open(tmp_path / "index", index.encoder)
    path.write_text(json.dumps(content | {"format_version": 2}))
    assert Index.open(tmp_path / "index", index.encoder).query_speeds == ["fast", "exact"]


def test_the_queries_are_the_first_argument(index):
    with pytest.raises(TypeError, match="query"):
        index.search(queries=[QUERY])
    assert sentenc.Index.search.__doc__


def test_commands_use_both_encoders(folders, tmp_path, pair, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lines.txt").write_text("\n".join(TEXTS) + "\n")

    def printed_scores(*options):
        out, _ = run("search", "index", QUERY, "-k", 5, "--mode", "vector", "--json", *options)
        return {hit["id"]: hit["score"] for hit in json.loads(out)["results"]}

    run("index", "build", "lines.txt", "-o", "index", "-m", folders / "pair")
    fast, exact = (expected(half.encode(QUERY), pair) for half in (pair.queries, pair.documents))
    assert_scores(printed_scores(), fast)
    assert_scores(printed_scores("--queries", "exact"), exact)
    run("index", "build", "lines.txt", "-o", "index", "-m", folders / "documents", "--overwrite")
    assert_scores(printed_scores(), exact)
    assert "set_query_encoder" in run("search", "index", QUERY, "--queries", "fast", code=1)[1]
    _, err = run("index", "set-query-encoder", "index", folders / "queries")
    assert pair.queries.fingerprint() in err
    assert_scores(printed_scores(), fast)
    assert_scores(printed_scores("--queries", "exact"), exact)
    assert_scores(printed_scores("-m", folders / "documents"), exact)
    assert "queries" in run("index", "info", "index")[0]
    assert "removed" in run("index", "set-query-encoder", "index", "--remove")[1]
    assert_scores(printed_scores(), exact)
    run("index", "set-query-encoder", "index", code=2)
    run("index", "set-query-encoder", "index", "none", code=1)


def test_an_encoder_of_queries_outlives_new_vectors_of_its_space(pair):
    index = Index(pair.documents)
    index.add(TEXTS)
    index.set_query_encoder(pair.queries)
    better = in_space(make_bert(num_hidden_layers=1))
    index.reencode(better)
    assert index.query_speeds == ["fast", "exact"]
    assert_scores(scores(index), expected(pair.queries.encode(QUERY), better))
    index.reencode(make_cse())
    assert index.query_speeds == ["exact"]
    assert index.info()["query encoder"] is None


def test_an_encoder_of_queries_of_the_leading_components_outlives_new_vectors(pair):
    index = Index(pair.documents, dim=8)
    index.add(TEXTS)
    index.set_query_encoder(in_space(make_cse(embedding_dim=8), "a-space[:8]"))
    index.reencode(pair.documents, dim=8)
    assert index.query_speeds == ["fast", "exact"]
    index.reencode(pair.documents)
    assert index.query_speeds == ["exact"]


@pytest.mark.parametrize("space", ["another-space", "a-third-space"])
def test_a_command_renews_an_index_whose_models_were_both_replaced(tmp_path, pair, space):
    for name in ("documents", "queries"):
        getattr(pair, name).save(tmp_path / name)
    index = Index(tmp_path / "documents")
    index.add(TEXTS)
    index.set_query_encoder(tmp_path / "queries")
    index.save(tmp_path / "index")
    documents = in_space(make_bert(num_hidden_layers=1), "another-space")
    queries = in_space(make_cse(combine="concat", widths=()), space)
    for name, encoder in (("documents", documents), ("queries", queries)):
        shutil.rmtree(tmp_path / name)
        encoder.save(tmp_path / name)
    with pytest.raises(IndexMismatchError, match=r"`sentenc index reencode .*index`"):
        Index.open(tmp_path / "index").search(QUERY)
    _, err = run("index", "reencode", tmp_path / "index")
    opened = Index.open(tmp_path / "index")
    if space == "another-space":
        assert opened.query_speeds == ["fast", "exact"]
        assert_scores(scores(opened), expected(queries.encode(QUERY), documents))
    else:
        assert re.search("encoder of queries, .*queries, is removed: .*a-third-space", err)
        assert opened.query_speeds == ["exact"]


def test_an_encoder_of_queries_is_loaded_with_its_options(folders, tmp_path, pair):
    index = Index(pair.documents)
    index.add(TEXTS)
    index.set_query_encoder(sentenc.load(folders / "queries", query_prompt="dog "))
    index.save(tmp_path / "index")
    opened = Index.open(tmp_path / "index")
    assert_scores(scores(opened), expected(pair.queries.encode("dog " + QUERY), pair))
