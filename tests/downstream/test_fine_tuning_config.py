"""The fine-tuning configuration: its checks, and its import without torch."""

import subprocess
import sys
from dataclasses import FrozenInstanceError

import pytest

from sentenc.downstream.fine_tuning_config import FineTuningConfig


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"epochs": 0}, ValueError, "epochs is 0"),
        ({"patience": -1}, ValueError, "patience is -1"),
        ({"batch_size": 8.0}, TypeError, "batch_size is 8.0"),
        ({"epochs": True}, TypeError, "epochs is True"),
        ({"learning_rate": "1e-3"}, TypeError, "learning_rate is '1e-3'"),
        ({"head_learning_rate": -0.1}, ValueError, "head_learning_rate is -0.1"),
        ({"regularization": float("nan")}, ValueError, "regularization is nan"),
        ({"regularization": float("inf")}, ValueError, "regularization is inf"),
        ({"dropout": 1.0}, ValueError, "dropout is 1.0"),
        ({"word_dropout": 1}, ValueError, "word_dropout is 1"),
        ({"max_minutes": 0}, ValueError, "max_minutes is 0"),
        ({"max_minutes": False}, TypeError, "max_minutes is False"),
    ],
)
def test_wrong_settings_are_refused(settings, error, message):
    with pytest.raises(error, match=message):
        FineTuningConfig(**settings)


def test_settings_at_the_ends_of_their_ranges():
    config = FineTuningConfig(
        epochs=1, patience=1, batch_size=1, learning_rate=0, regularization=0, dropout=0
    )
    assert (config.learning_rate, config.dropout, config.max_minutes) == (0, 0, None)
    assert FineTuningConfig(max_minutes=0.5).max_minutes == 0.5
    with pytest.raises(FrozenInstanceError):
        config.epochs = 2


def test_the_config_is_imported_without_torch():
    code = "import sys, sentenc.downstream.fine_tuning_config; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
