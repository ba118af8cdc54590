"""Settings of end-to-end tuning: checked where they are made, and without torch."""

import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest

from sentenc.downstream.fine_tuning_config import FineTuningConfig


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs is 0, expected 1 or more"),
        ({"patience": -1}, ValueError, "patience is -1, expected 1 or more"),
        ({"batch_size": 8.0}, TypeError, "batch_size is 8.0, expected a whole number"),
        ({"epochs": True}, TypeError, "epochs is True, expected a whole number"),
        ({"learning_rate": "1e-3"}, TypeError, "learning_rate is '1e-3', expected a number"),
        ({"head_learning_rate": -0.1}, ValueError, "head_learning_rate is -0.1, expected a finite number"),
        ({"regularization": float("nan")}, ValueError, "regularization is nan, expected a finite number"),
        ({"regularization": float("inf")}, ValueError, "regularization is inf, expected a finite number"),
        ({"dropout": 1.0}, ValueError, r"dropout is 1.0, expected a share in \[0, 1\)"),
        ({"word_dropout": 1}, ValueError, r"word_dropout is 1, expected a share in \[0, 1\)"),
        ({"max_minutes": 0}, ValueError, "max_minutes is 0, expected a positive number or None"),
        ({"max_minutes": False}, TypeError, "max_minutes is False, expected a number"),
    ],
)
def test_a_bad_setting_is_told(settings, error, message):
    with pytest.raises(error, match=message):
        FineTuningConfig(**settings)


def test_settings_at_their_ends():
    found = FineTuningConfig(epochs=1, patience=1, batch_size=1, learning_rate=0, regularization=0, dropout=0)
    assert (found.learning_rate, found.dropout, found.max_minutes) == (0, 0, None)
    assert FineTuningConfig(max_minutes=0.5).max_minutes == 0.5
    with pytest.raises(FrozenInstanceError):
        found.epochs = 2


def test_it_is_imported_without_torch():
    code = "import sys, sentenc.downstream.fine_tuning_config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
