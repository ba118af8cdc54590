"""Columns of payload values."""

import json

import numpy as np
import pytest

from sentenc.retrieval.columns import MISSING, read_columns


def columns_of(payloads, paths):
    lines = [json.dumps([i, None, payload]).encode() + b"\n" for i, payload in enumerate(payloads)]
    offsets = np.cumsum([0, *map(len, lines)])
    return read_columns(b"".join(lines), offsets, paths)


def test_fields_that_no_payload_has_share_a_column():
    columns = columns_of([{"a": 1}, None, {"b": {"c": 2}}], ["x", "a", "y", "b.z"])
    assert columns["x"] is columns["y"] is columns["b.z"]
    assert columns["x"] is not columns["a"]
    assert columns["x"].codes.tolist() == [MISSING] * 3
    assert len(columns["x"].numbers) == 0


@pytest.mark.parametrize("n_before", [0, 1, 3])
@pytest.mark.parametrize(("value", "has_two"), [(1, False), ([2, 1], True), ([], False), (None, False)])
def test_rows_before_the_first_value_are_missing(n_before, value, has_two):
    payloads = [{}] * n_before + [{"a": value}, {}, {"a": 1}]
    column = columns_of(payloads, ["a"])["a"]
    accepted = np.arange(column.n_codes) == MISSING
    assert column.rows(accepted).tolist() == [True] * n_before + [False, True, False]
    assert (column.starts is not None) == has_two
    assert len(column.codes) == len(payloads) + has_two


def test_no_rows():
    assert columns_of([], ["a"])["a"].codes.shape == (0,)
