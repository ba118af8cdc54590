"""Checks of single values: the values that they accept, and the facts in their messages."""

import math

import numpy as np
import pytest

from sentenc.validation import check_choice, check_integer, check_number, check_switch


def test_accepted_values_are_returned_as_python_values():
    assert type(check_integer("steps", np.int64(3))) is int
    assert type(check_number("rate", 1, at_least=1, at_most=1)) is float
    assert check_number("rate", np.float32(0.5), above=0, below=1) == 0.5
    assert check_integer("warmup", 0, at_least=0) == 0
    assert check_integer("dim", 4, at_most=4) == 4
    assert check_switch("normalize", False) is False
    assert check_choice("compute", "int8", ("float32", "int8")) == "int8"


@pytest.mark.parametrize("value", [1.0, "1", None, True])
def test_other_types_are_no_integers(value):
    with pytest.raises(TypeError, match=rf"steps is {value!r}, expected an integer >= 1"):
        check_integer("steps", value)


@pytest.mark.parametrize("value", ["1", None, True, 1j])
def test_other_types_are_no_numbers(value):
    with pytest.raises(TypeError, match=r"rate is .*, expected a finite number"):
        check_number("rate", value)


def test_an_integer_out_of_range_is_refused_with_the_range():
    with pytest.raises(ValueError, match="steps is 0, expected an integer >= 1"):
        check_integer("steps", 0)
    with pytest.raises(ValueError, match="dim is 9, expected an integer from 1 to 8"):
        check_integer("dim", 9, at_most=8)


@pytest.mark.parametrize("value", [-0.1, 1, math.nan, math.inf, -math.inf])
def test_a_number_out_of_range_is_refused_with_the_range(value):
    with pytest.raises(ValueError, match=rf"dropout is {value}, expected a finite number >= 0 and < 1"):
        check_number("dropout", value, at_least=0, below=1)


@pytest.mark.parametrize("bounds", [{"above": 1}, {"below": 1}, {"at_most": 0.5}, {"at_least": 1.5}])
def test_every_bound_counts(bounds):
    with pytest.raises(ValueError, match="rate is 1"):
        check_number("rate", 1, **bounds)


@pytest.mark.parametrize("value", [0, 1, "true", None])
def test_only_a_bool_is_a_switch(value):
    with pytest.raises(TypeError, match=rf"normalize is {value!r}, expected True or False"):
        check_switch("normalize", value)


@pytest.mark.parametrize("value", ["int4", None, 8, np.array(["int8", "int8"])])
def test_only_a_listed_string_is_a_choice(value):
    with pytest.raises(ValueError, match=r"compute is .*, expected 'float32' or 'int8'"):
        check_choice("compute", value, ("float32", "int8"))
    with pytest.raises(ValueError, match="kind is 'rnn', expected 'bert', 'cse' or 'lstm'"):
        check_choice("kind", "rnn", ("bert", "cse", "lstm"))
