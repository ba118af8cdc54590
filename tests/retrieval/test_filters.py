"""Filters: their language, compared with a plain reading of it, and searches with every kind of index."""

import math
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sentenc import Index
from sentenc.retrieval import columns, snapshot
from sentenc.retrieval.filters import compile_filter
from tests.support.models import make_cse

PAYLOADS = [
    {"country": "France", "year": 2001, "tag": ["wine", "cheese"], "author": {"name": "Anne"}},
    {"country": "Spain", "year": 1999, "tag": [], "author": {"name": "Luis", "born": 1950}},
    {"country": "France", "year": 2001.5, "tag": "wine", "open": True},
    {"country": None, "year": "2001", "tag": ["beer", None, 3], "open": False},
    None,
    {"year": True, "open": 1, "authors": [{"name": "Anne"}, {"name": "Bo"}], "a.b": 1, "a": {"b": 2}},
    {"year": 2**60 + 1, "tag": [["wine"]], "a": {"b": 3}},
    {"year": 2**60, "country": "", "tag": ["zebra", "apple"], "a": {"b.c": 4}},
]


def make_index(payloads, **options):
    index = Index(dim=2, **options)
    angles = np.arange(len(payloads)) / len(payloads)
    index.add(vectors=np.stack([np.cos(angles), np.sin(angles)], axis=1), payloads=payloads)
    return index


def matching(where, payloads=PAYLOADS):
    index = make_index(payloads)
    hits = index.search(np.array([1.0, 0.0]), k=len(payloads), where=where)
    assert [hit.payload for hit in hits] == [payloads[hit.id] for hit in hits]
    return sorted(hit.id for hit in hits)


@pytest.mark.parametrize(
    ("where", "ids"),
    [
        ({}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"country": "France"}, [0, 2]),
        ({"country": {"eq": "France"}}, [0, 2]),
        ({"country": "france"}, []),
        ({"country": {"ne": "France"}}, [1, 3, 4, 5, 6, 7]),
        ({"country": {"in": ["Spain", ""]}}, [1, 7]),
        ({"country": {"in": []}}, []),
        ({"country": {"nin": ["Spain", "France"]}}, [3, 4, 5, 6, 7]),
        ({"country": {"nin": []}}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"country": {"gte": "France"}}, [0, 1, 2]),
        ({"country": {"lt": "France"}}, [7]),
        ({"country": None}, [3, 4, 5, 6]),
        ({"country": {"ne": None}}, [0, 1, 2, 7]),
        ({"country": {"in": [None, "Spain"]}}, [1, 3, 4, 5, 6]),
        ({"country": {"exists": True}}, [0, 1, 2, 3, 7]),
        ({"country": {"exists": False}}, [4, 5, 6]),
        ({"country": {"exists": True, "eq": None}}, [3]),
        ({"year": 2001}, [0]),
        ({"year": 2001.0}, [0]),
        ({"year": "2001"}, [3]),
        ({"year": 1}, []),
        ({"year": True}, [5]),
        ({"open": True}, [2]),
        ({"open": 1}, [5]),
        ({"year": {"gt": 2001}}, [2, 6, 7]),
        ({"year": {"gte": 2001, "lt": 2002}}, [0, 2]),
        ({"year": {"lte": 2001}}, [0, 1]),
        ({"year": {"gt": 2**60}}, [6]),
        ({"year": 2**60 + 1}, [6]),
        ({"year": 2**60 + 2}, []),
        ({"year": {"gte": "0"}}, [3]),
        ({"year": {"ne": 2001}}, [1, 2, 3, 4, 5, 6, 7]),
        ({"tag": "wine"}, [0, 2]),
        ({"tag": {"in": ["beer", "cheese"]}}, [0, 3]),
        ({"tag": {"nin": ["wine"]}}, [1, 3, 4, 5, 6, 7]),
        ({"tag": {"gte": "b", "lt": "d"}}, [0, 3]),
        # "zebra" and "apple" are on both sides of the range, and no element is in it.
        ({"tag": {"gt": "b", "lt": "c"}}, [3]),
        ({"tag": None}, [3, 4, 5]),
        ({"tag": {"exists": True}}, [0, 1, 2, 3, 6, 7]),
        ({"author.name": "Anne"}, [0]),
        ({"authors.name": "Bo"}, [5]),
        ({"author": {"exists": True}}, [0, 1]),
        ({"author.name.first": {"exists": True}}, []),
        ({"a.b": 1}, [5]),
        ({"a.b": {"gte": 2}}, [6]),
        ({"a.b.c": 4}, [7]),
        ({"country": "France", "year": {"lt": 2001.2}}, [0]),
        ({"and": [{"country": "France"}, {"tag": "cheese"}]}, [0]),
        ({"or": [{"country": "Spain"}, {"open": False}]}, [1, 3]),
        ({"not": {"or": [{"country": "Spain"}, {"year": {"gt": 0}}]}}, [3, 4, 5]),
        ({"or": [{"country": "France"}, {"country": "Spain"}], "year": {"lt": 2001}}, [1]),
        ({"and": []}, [0, 1, 2, 3, 4, 5, 6, 7]),
        ({"or": []}, []),
        ({"$or": [{"country": {"$eq": "Spain"}}, {"tag": {"$in": ["beer"]}}]}, [1, 3]),
        ({"nothing": 1}, []),
    ],
)
def test_items_that_meet_a_filter_are_found(where, ids):
    assert matching(where) == ids


def test_values_of_numpy_are_those_of_python():
    where = {"year": {"in": np.array([2001, 1999])}, "country": np.str_("Spain")}
    assert matching(where) == [1]
    assert matching({"open": np.bool_(True)}) == [2]
    assert matching({"year": {"gt": np.float32(2001.25)}}) == [2, 6, 7]


def test_strings_are_compared_by_code_points():
    payloads = [{"s": text} for text in ["a", "Z", "ä", "\ue000", "\U0001f600", "\ud800", "a\n,b", '"', ""]]
    for text in [payload["s"] for payload in payloads]:
        expected = [i for i, payload in enumerate(payloads) if payload["s"] >= text]
        assert matching({"s": {"gte": text}}, payloads) == expected
        assert matching({"s": text}, payloads) == [
            i for i, payload in enumerate(payloads) if payload["s"] == text
        ]


@pytest.mark.parametrize(
    ("where", "error", "message"),
    [
        ("country=France", TypeError, "where is str, expected a dict of fields and conditions"),
        ([{"a": 1}], TypeError, "where is list, expected a dict"),
        ({1: "a"}, TypeError, "where has the key int (1), expected str"),
        ({"a": [1, 2]}, TypeError, "where['a'] is list, expected a value or a dict of operators"),
        ({"a": {}}, ValueError, "where['a'] is an empty dict, expected one of the operators eq"),
        ({"a": {"above": 1}}, ValueError, "where['a'] has the operator 'above', expected one of eq, ne"),
        ({"a": {1: 1}}, ValueError, "where['a'] has the operator 1, expected one of eq, ne"),
        ({"a": object()}, TypeError, "where['a'] is object, expected a str, number, bool or None"),
        ({"a": {"gte": None}}, TypeError, "where['a']['gte'] is NoneType (None), expected a str or a number"),
        ({"a": {"lt": True}}, TypeError, "where['a']['lt'] is bool (True), expected a str or a number"),
        ({"a": {"lt": [1]}}, TypeError, "where['a']['lt'] is list, expected a str or a number"),
        ({"a": math.nan}, ValueError, "where['a'] is nan, expected a finite number"),
        ({"a": {"lt": math.inf}}, ValueError, "where['a']['lt'] is inf, expected a finite number"),
        ({"a": {"in": "abc"}}, TypeError, "where['a']['in'] is str, expected a list of values"),
        ({"a": {"nin": [1, {}]}}, TypeError, "where['a']['nin'][1] is dict, expected a str, number, bool or"),
        ({"a": {"exists": 1}}, TypeError, "where['a']['exists'] is int (1), expected True or False"),
        ({"and": {"a": 1}}, TypeError, "where['and'] is dict, expected a list of filters"),
        ({"or": [{"a": 1}, 2]}, TypeError, "where['or'][1] is int (2), expected a dict of fields"),
        ({"not": [{"a": 1}]}, TypeError, "where['not'] is list, expected a dict of fields"),
        ({"and": [{"not": {"a": {"x": 1}}}]}, ValueError, "where['and'][0]['not']['a'] has the operator 'x'"),
    ],
)
def test_errors_name_the_place_in_the_filter(where, error, message):
    with pytest.raises(error) as caught:
        make_index(PAYLOADS).search(np.array([1.0, 0.0]), where=where)
    assert str(caught.value).startswith(message)


def test_a_filter_may_not_be_nested_without_end():
    where = {"a": 1}
    for _ in range(40):
        where = {"not": where}
    with pytest.raises(ValueError, match="nested more than 32 times"):
        compile_filter(where)


def test_a_filter_has_a_limited_number_of_fields():
    compile_filter({"and": [{f"f{i % 64}": i} for i in range(1000)]})
    with pytest.raises(ValueError, match="the filter has 65 fields, expected at most 64"):
        compile_filter({"or": [{f"f{i}": 1} for i in range(65)]})


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.sampled_from([0, 1, 2, 1.5, -1, 2**60, 2**60 + 1, 2**70]),
    st.sampled_from(["", "a", "b"]),
)
FIELDS = st.sampled_from(["x", "y"])
OPERANDS = st.sampled_from([0, 1, 1.0, 1.5, 2**60 + 1, 2**70, "", "a", "ab"])
CONDITIONS = st.one_of(
    SCALARS,
    st.dictionaries(st.sampled_from(["gt", "gte", "lt", "lte"]), OPERANDS, min_size=1),
    st.fixed_dictionaries({}, optional={"eq": SCALARS, "ne": SCALARS, "exists": st.booleans()}).filter(bool),
    st.dictionaries(st.sampled_from(["in", "nin"]), st.lists(SCALARS, max_size=3), min_size=1),
)
FILTERS = st.recursive(
    st.dictionaries(FIELDS, CONDITIONS, max_size=2),
    lambda inner: st.one_of(
        st.fixed_dictionaries({"and": st.lists(inner, max_size=2)}),
        st.fixed_dictionaries({"or": st.lists(inner, max_size=2)}),
        st.fixed_dictionaries({"not": inner}),
    ),
    max_leaves=4,
)
VALUES = st.one_of(SCALARS, st.lists(SCALARS, max_size=3))


def same(a, b):
    return isinstance(a, bool) == isinstance(b, bool) and a == b


def passes(value, operator, operand):
    """Whether one element of a payload passes one operator; a missing field is None here."""
    if operator in ("eq", "in"):
        return any(same(value, other) for other in (operand if operator == "in" else [operand]))
    if isinstance(value, bool) or isinstance(value, str) != isinstance(operand, str):
        return False
    if not isinstance(value, str | int | float):
        return False
    return {"gt": value > operand, "gte": value >= operand, "lt": value < operand, "lte": value <= operand}[
        operator
    ]


def meets(payload, where):
    """A plain reading of a filter, one payload at a time."""
    for key, condition in where.items():
        if key in ("and", "or"):
            met = (all if key == "and" else any)(meets(payload, part) for part in condition)
        elif key == "not":
            met = not meets(payload, condition)
        else:
            value = payload.get(key)
            values = value if isinstance(value, list) else [value]
            operators = condition if isinstance(condition, dict) else {"eq": condition}
            positive = {
                name: operand for name, operand in operators.items() if name not in ("ne", "nin", "exists")
            }
            met = not positive or any(all(passes(v, *test) for test in positive.items()) for v in values)
            if "ne" in operators:
                met &= not any(passes(v, "eq", operators["ne"]) for v in values)
            if "nin" in operators:
                met &= not any(passes(v, "in", operators["nin"]) for v in values)
            if "exists" in operators:
                met &= (key in payload) == operators["exists"]
        if not met:
            return False
    return True


@given(st.lists(st.dictionaries(FIELDS, VALUES, max_size=2), min_size=1, max_size=8), FILTERS)
@settings(deadline=None, max_examples=200)
def test_filters_agree_with_a_plain_reading(payloads, where):
    assert matching(where, payloads) == [i for i, payload in enumerate(payloads) if meets(payload, where)]


@pytest.mark.parametrize(
    ("kind", "store"),
    [(kind, "float32") for kind in ("auto", "exact", "ivf", "ivfpq", "hnsw")]
    + [("exact", "float16"), ("exact", "int8"), ("exact", "binary"), ("auto", "binary"), ("ivf", "binary")],
)
def test_every_kind_of_index_returns_k_matching_items(kind, store, tmp_path, monkeypatch):
    if kind in ("ivf", "ivfpq", "hnsw") or store == "binary":
        pytest.importorskip("faiss")
    # Otherwise an index of a test would never search its ANN index under a filter.
    monkeypatch.setattr(snapshot, "_SCANNED_ROWS", 20)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(3000, 16)).astype(np.float32)
    payloads = [{"i": i, "half": i % 2 == 0, "tenth": i % 10 == 0, "one": i == 1234} for i in range(3000)]
    index = Index(dim=16, kind=kind, store=store)
    index.add(vectors=vectors[:2900], payloads=payloads[:2900])
    index.save(tmp_path / "index")
    index.optimize()
    index.add(vectors=vectors[2900:], payloads=payloads[2900:])
    index.delete(range(0, 100))
    index.save()
    index = Index.open(tmp_path / "index")
    queries = rng.normal(size=(5, 16))
    for where, allowed in [
        ({"half": True}, [i for i in range(100, 3000) if i % 2 == 0]),
        ({"tenth": True}, [i for i in range(100, 3000) if i % 10 == 0]),
        ({"one": True}, [1234]),
        ({"i": {"gte": 2890}}, list(range(2890, 3000))),
        ({"i": {"lt": 107}}, list(range(100, 107))),
        ({"i": {"lt": 100}}, []),
        ({"i": {"gte": 0}}, list(range(100, 3000))),
    ]:
        for k in (1, 10, 200):
            answers = index.search(queries, k, where=where)
            assert [len(hits) for hits in answers] == [min(k, len(allowed))] * 5
            assert all(hit.id in allowed for hits in answers for hit in hits)
            scores = [[hit.score for hit in hits] for hits in answers]
            assert scores == [sorted(part, reverse=True) for part in scores]
        # All matching items, so that nothing can be missed.
        everything = index.search(queries[0], 3000, where=where)
        assert sorted(hit.id for hit in everything) == allowed


@pytest.mark.parametrize("share", [2, 20, 500])
def test_exact_search_ranks_matching_items_as_a_search_for_all(share):
    rng = np.random.default_rng(1)
    vectors = rng.normal(size=(4000, 8))
    index = Index(dim=8, metric="dot")
    index.add(vectors=vectors, payloads=[{"match": i % share == 0} for i in range(4000)])
    queries = rng.normal(size=(3, 8))
    everything = index.search(queries, 4000)
    for hits, expected in zip(index.search(queries, 7, where={"match": True}), everything, strict=True):
        matches = [hit for hit in expected if hit.payload["match"]][:7]
        assert [hit.id for hit in hits] == [hit.id for hit in matches]
        np.testing.assert_allclose([hit.score for hit in hits], [hit.score for hit in matches], rtol=1e-5)


@pytest.mark.parametrize("kind", ["ivf", "hnsw"])
def test_an_ann_index_finds_the_nearest_of_the_matching_items(kind, monkeypatch):
    pytest.importorskip("faiss")
    monkeypatch.setattr(snapshot, "_SCANNED_ROWS", 20)
    rng = np.random.default_rng(2)
    vectors = rng.normal(size=(6000, 16))
    index = Index(dim=16, kind=kind)
    index.add(vectors=vectors, payloads=[{"tenth": i % 10 == 0} for i in range(6000)])
    index.optimize()
    index._snapshot.ann.effort = min(index._snapshot.ann.efforts())
    queries = rng.normal(size=(50, 16))
    exact = Index(dim=16)
    exact.add(vectors=vectors, payloads=[{"tenth": i % 10 == 0} for i in range(6000)])

    def recall(where):
        pairs = zip(index.search(queries, where=where), exact.search(queries, where=where), strict=True)
        return np.mean([len({h.id for h in a} & {h.id for h in b}) / 10 for a, b in pairs])

    # The effort rises with the part of the items that is left out, so that recall does not fall.
    assert recall({"tenth": True}) >= recall(None) - 0.02


def test_updated_payloads_are_filtered(tmp_path):
    index = make_index([{"n": i} for i in range(5)])
    query = np.array([1.0, 0.0])
    assert [hit.id for hit in index.search(query, where={"n": 3})] == [3]
    index.update([3], payloads=[{"n": 30}])
    assert index.search(query, where={"n": 3}) == []
    assert [hit.id for hit in index.search(query, where={"n": 30})] == [3]
    index.delete([4])
    assert index.search(query, where={"n": 4}) == []
    index.save(tmp_path / "index")
    assert [hit.id for hit in Index.open(tmp_path / "index").search(query, where={"n": {"gt": 1}})] == [2, 3]


def test_texts_are_searched_with_a_filter():
    index = Index(make_cse())
    index.add(["dog", "cat", "dog"], payloads=[{"n": 0}, {"n": 1}, {"n": 2}])
    assert [hit.id for hit in index.search("dog", where={"n": {"gt": 0}})] == [2, 1]
    answers = index.search(["dog", "cat"], k=1, where={"n": {"gt": 0}})
    assert [[hit.id for hit in hits] for hits in answers] == [[2], [1]]
    assert Index(make_cse()).search("dog", where={"n": 1}) == []


def test_columns_are_read_once_and_only_the_last_used_are_kept(monkeypatch):
    calls = []
    read = columns.read_columns

    def counted(data, offsets, paths):
        calls.append(list(paths))
        return read(data, offsets, paths)

    monkeypatch.setattr(columns, "read_columns", counted)
    index = make_index([{name: f"{name}{i:060}" for name in "abc"} for i in range(200)])
    query = np.array([1.0, 0.0])
    for name in "aabba":
        assert len(index.search(query, where={name: {"gte": ""}})) == 10
    # Each of these columns alone takes more than half of the limit.
    assert calls == [["a"], [], ["b"], [], ["a"]]
    index.search(query, where={"a": "", "b": ""})
    assert calls[-1] == ["b"]


def test_several_threads_filter_at_once():
    index = make_index([{"n": i, "m": -i} for i in range(500)])
    failures = []

    def work(field, sign):
        for i in range(20):
            if [hit.id for hit in index.search(np.array([1.0, 0.0]), where={field: sign * i})] != [i]:
                failures.append((field, i))

    threads = [threading.Thread(target=work, args=pair) for pair in [("n", 1), ("m", -1)] * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []


def test_a_filter_is_described():
    index = make_index(PAYLOADS)
    index.delete([7])
    kinds = {"null": 1, "bool": 0, "number": 1, "string": 3, "object": 2}
    assert index.describe_filter({"tag": "wine"}) == {"items": 2, "fields": {"tag": kinds}}
    none = dict.fromkeys(kinds, 0)
    assert index.describe_filter({"x": {"ne": 1}, "y": None}) == {
        "items": 7,
        "fields": {"x": none, "y": none},
    }
    assert Index(dim=2).describe_filter({"x": 1}) == {"items": 0, "fields": {"x": {}}}
