"""Filters as a user types them."""

import re

import pytest

from sentenc.retrieval.filter_expressions import parse_filter, why_nothing_matches


@pytest.mark.parametrize(
    ("expressions", "where"),
    [
        (["country=France"], {"country": {"in": ["France"]}}),
        (["country = United Kingdom "], {"country": {"in": ["United Kingdom"]}}),
        (["country=Trinidad and Tobago"], {"country": {"in": ["Trinidad and Tobago"]}}),
        (["country!=France"], {"country": {"nin": ["France"]}}),
        (["year=2000"], {"year": {"in": [2000, "2000"]}}),
        (["year==2000"], {"year": {"in": [2000, "2000"]}}),
        (['year="2000"'], {"year": {"in": ["2000"]}}),
        (["code=007"], {"code": {"in": ["007"]}}),
        (["open=true"], {"open": {"in": [True, "true"]}}),
        (["x=null"], {"x": {"in": [None]}}),
        (["x=NaN"], {"x": {"in": ["NaN"]}}),
        (["x="], {"x": {"in": [""]}}),
        (['tag=[1, "b"]'], {"tag": {"in": [1, "b"]}}),
        (["tag!=[1]"], {"tag": {"nin": [1]}}),
        (["year>=2000"], {"year": {"gte": 2000}}),
        (["year > 2000"], {"year": {"gt": 2000}}),
        (["year<-1.5"], {"year": {"lt": -1.5}}),
        (["date<=2000-01-31"], {"date": {"lte": "2000-01-31"}}),
        (["author.name=Anne"], {"author.name": {"in": ["Anne"]}}),
        (["first name=Anne"], {"first name": {"in": ["Anne"]}}),
        (["a>" + "[" * 50_000], {"a": {"gt": "[" * 50_000}}),
        (["a=b=c"], {"a": {"in": ["b=c"]}}),
        (['{"or": [{"a": 1}, {"b": {"gt": 2}}]}'], {"or": [{"a": 1}, {"b": {"gt": 2}}]}),
        (["a=b", '{"c": 1}'], {"and": [{"a": {"in": ["b"]}}, {"c": 1}]}),
    ],
)
def test_expressions_are_read_as_filters(expressions, where):
    assert parse_filter(expressions) == where


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        (
            "France",
            "the filter 'France' is wrong: expected FIELD=VALUE (or !=, >, >=, <, <=) or a filter in JSON",
        ),
        ("", "the filter '' is wrong: expected FIELD=VALUE"),
        ("=France", "the filter '=France' is wrong: expected FIELD=VALUE"),
        (" =France", "the filter ' =France' is wrong: expected FIELD=VALUE"),
        ("a!b=1", "the filter 'a!b=1' is wrong: expected FIELD=VALUE"),
        ("a!", "the filter 'a!' is wrong: expected FIELD=VALUE"),
        ('{"a": ', "the filter '{\"a\": ' is wrong: it is not JSON"),
        (
            '{"a": {"above": 1}}',
            "the filter '{\"a\": {\"above\": 1}}' is wrong: where['a'] has the operator 'above'",
        ),
        (
            "a>null",
            "the filter 'a>null' is wrong: where['a']['gt'] is NoneType (None), expected a str or a number",
        ),
        ('a={"b": 1}', "the filter 'a={\"b\": 1}' is wrong: where['a']['in'][0] is dict, expected a str"),
    ],
)
def test_errors_quote_the_expression(expression, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        parse_filter([expression])


def test_all_expressions_together_have_a_limited_number_of_fields():
    expressions = [f"f{i}=1" for i in range(65)]
    assert len(parse_filter(expressions[:64])["and"]) == 64
    with pytest.raises(ValueError, match="the filter has 65 fields, expected at most 64"):
        parse_filter(expressions)


def test_spaces_take_linear_time():
    # With a time that grows with the square, each of them would take hours.
    spaces = " " * 2_000_000
    assert parse_filter([f"a=x{spaces}y{spaces}"]) == {"a": {"in": [f"x{spaces}y"]}}
    assert parse_filter([f"{spaces}a{spaces}>{spaces}1"]) == {"a": {"gt": 1}}
    with pytest.raises(ValueError, match="expected FIELD=VALUE"):
        parse_filter(["a" + spaces])


def test_reasons_name_the_kinds_of_values():
    fields = {"year": {"number": 0, "string": 1200, "null": 1}, "yaer": {"number": 0}}
    assert why_nothing_matches(fields) == [
        "year is a string in 1,200 items and null in 1 item",
        "no item has a field yaer",
    ]
