"""Signals during a training: the first one requests a stop, and only a later Ctrl-C interrupts."""

import signal

import pytest

from sentenc.training.engine import signals
from sentenc.training.engine.signals import catch_stop_signals


@pytest.fixture
def clock(monkeypatch):
    """The seconds that the module reads, in a list of one number."""
    now = [100.0]
    monkeypatch.setattr(signals, "monotonic", lambda: now[0])
    return now


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_a_request(clock, number):
    before = signal.getsignal(number)
    with catch_stop_signals() as request:
        assert not request.is_made
        signal.raise_signal(number)
        assert request.is_made
    assert signal.getsignal(number) == before


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("second", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_that_torchrun_repeats_does_not_interrupt(clock, first, second):
    with catch_stop_signals() as request:
        signal.raise_signal(first)
        for seconds in (0.01, 1.9):
            clock[0] += seconds
            signal.raise_signal(second)
        assert request.is_made


def test_a_late_second_ctrl_c_interrupts_and_a_late_sigterm_does_not(clock):
    with catch_stop_signals():
        signal.raise_signal(signal.SIGTERM)
        clock[0] += 25
        signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt, match="interrupted twice"):
            signal.raise_signal(signal.SIGINT)
