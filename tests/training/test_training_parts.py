"""Small parts of training: optimizers, prefetching, the log, saved settings, dev scores."""

import json
import threading
import time
from itertools import count

import numpy as np
import pytest
import torch
from torch import nn

from sentenc.errors import TextFileError
from sentenc.training.config.trainer import TrainerConfig
from sentenc.training.data.prefetch import Prefetched
from sentenc.training.engine.checkpointing import differences
from sentenc.training.engine.optimizer import Optimizer, clip_gradients
from sentenc.training.engine.run_log import LossWindow, RunLog, plot_curve, read_log, training_bar
from sentenc.training.recipes.dev_score import sts_score
from tests.support.models import make_cse

# Optimizer ------------------------------------------------------------------------------------------


def test_groups_have_their_own_rates():
    first, second = nn.Parameter(torch.zeros(2)), nn.Parameter(torch.zeros(2))
    config = TrainerConfig(steps=1, learning_rate=0.1, learning_rates={"two": 0.01})
    optimizer = Optimizer({"one": [first], "two": [second]}, [], config)
    for parameter in (first, second):
        parameter.grad = torch.tensor([3.0, -4.0])
    optimizer.step(0.5)
    # The first step of Adam has the size of the learning rate, whatever the gradient is.
    torch.testing.assert_close(first.detach(), torch.tensor([-0.05, 0.05]))
    torch.testing.assert_close(second.detach(), torch.tensor([-0.005, 0.005]))
    assert first.grad is None


def test_sparse_gradients_move_only_their_rows():
    table = nn.Parameter(torch.ones(4, 2))
    rest = nn.Parameter(torch.ones(1))
    config = TrainerConfig(steps=1, learning_rate=0.1, weight_decay=0.5)
    optimizer = Optimizer({"all": [table, rest]}, [table], config)
    nn.functional.embedding(torch.tensor([2, 0, 2]), table, sparse=True).sum().backward()
    rest.grad = torch.ones(1)
    assert clip_gradients([table, rest], None) == pytest.approx((2 * 1 + 2 * 4 + 1) ** 0.5)
    optimizer.step(1.0)
    expected = torch.tensor([[0.9, 0.9], [1, 1], [0.9, 0.9], [1, 1]])
    torch.testing.assert_close(table.detach(), expected)
    # Decay: 0.1 * 0.5 of 1; Adam: 0.1.
    torch.testing.assert_close(rest.detach(), torch.tensor([0.85]))


def test_clipping_scales_all_gradients_together():
    first, second, third = (nn.Parameter(torch.zeros(n)) for n in (2, 1, 5))
    first.grad, second.grad = torch.tensor([3.0, 0.0]), torch.tensor([4.0])
    assert clip_gradients([first, second, third], 10.0) == 5.0
    assert (first.grad[0], second.grad[0]) == (3.0, 4.0)
    assert clip_gradients([first, second, third], 1.0) == 5.0
    torch.testing.assert_close(first.grad, torch.tensor([0.6, 0.0]))
    torch.testing.assert_close(second.grad, torch.tensor([0.8]))
    assert third.grad is None
    assert clip_gradients([third], 1.0) == 0.0


# Prefetching ----------------------------------------------------------------------------------------


def test_items_are_in_order_and_computed_in_advance():
    produced = []

    def items():
        for number in range(100):
            produced.append(number)
            yield number

    ahead = Prefetched(items(), 3)
    assert next(ahead) == 0
    deadline = time.monotonic() + 5
    while len(produced) < 5 and time.monotonic() < deadline:
        time.sleep(0.01)
    # One item was taken, three are in the queue, and the thread holds one.
    assert len(produced) == 5
    assert list(ahead) == list(range(1, 100))


def test_an_error_is_raised_in_place_of_its_item():
    def items():
        yield 1
        raise KeyError("broken")

    ahead = Prefetched(items(), 3)
    assert next(ahead) == 1
    with pytest.raises(KeyError, match="broken"):
        next(ahead)
    assert list(ahead) == []


def test_closing_ends_the_thread():
    before = threading.active_count()
    ahead = Prefetched(iter(count()), 2)
    assert [next(ahead) for _ in range(5)] == [0, 1, 2, 3, 4]
    assert threading.active_count() == before + 1
    ahead.close()
    assert threading.active_count() == before
    assert list(ahead) == []


# Log ------------------------------------------------------------------------------------------------


def test_a_log_is_truncated_after_a_step(tmp_path):
    log = RunLog(tmp_path / "work" / "log.jsonl")
    log.truncate(3)
    for step in (2, 4, 6):
        log.add({"step": step})
    with open(log.path, "a") as file:
        file.write('{"step": 8, "lo')
    assert [row["step"] for row in read_log(log.path)] == [2, 4, 6]
    log.truncate(4)
    log.add({"step": 5})
    assert [json.loads(line)["step"] for line in log.path.read_text().splitlines()] == [2, 4, 5]


def test_a_window_returns_means():
    window = LossWindow(since=10.0)
    assert window.row(20.0) == {}
    window.add(3.0, {"a": 1.0, "b": 4.0}, 0.5, 32, 0)
    window.add(5.0, {"a": 3.0, "b": 4.0}, 1.5, 32, 1)
    assert window.row(14.0) == {
        "epoch": 1,
        "loss": 4.0,
        "losses": {"a": 2.0, "b": 4.0},
        "gradient_norm": 1.0,
        "examples_per_second": 16.0,
    }


def test_a_curve_shows_every_loss_and_the_score(tmp_path):
    rows = [{"step": 0, "dev": 60.0}]
    rows += [{"step": step, "losses": {"one": 5 / step, "two": 2.0}} for step in (10, 20, 30)]
    rows += [{"step": 30, "dev": 70.0}]
    plot_curve(rows, tmp_path / "curve.svg")
    plot_curve(rows[1:-1], tmp_path / "curve.png")
    assert (tmp_path / "curve.png").read_bytes().startswith(b"\x89PNG")
    # Text is drawn as paths, and comments contain it.
    drawn = (tmp_path / "curve.svg").read_text()
    assert all(f"<!-- {label} -->" in drawn for label in ("loss: one", "loss: two", "dev score", "step"))
    with pytest.raises(ValueError, match="no row with a loss"):
        plot_curve(rows[:1], tmp_path / "none.png")


def test_the_bar_is_drawn_on_a_terminal_only(monkeypatch, capsys):
    with training_bar(True) as bar:
        bar.show(0.5, "loss 1.2500")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    with training_bar(True) as bar:
        bar.show(0.5, "loss 1.2500, dev 70.12 (sts 80.00, drinks 60.25)")
        bar.show(0.4, "loss 1.2500")
        bar.show(1.0, "loss 0.7500")
    drawn = capsys.readouterr().err
    assert "training" in drawn
    assert "loss 1.2500, dev 70.12 (sts 80.00, drinks 60.25)" in drawn
    assert "100%" in drawn


# Saved settings -------------------------------------------------------------------------------------


def test_differences_of_settings_are_named():
    before = {"a": {"b": 1, "c": 2}, "d": 3, "same": [1]}
    assert differences(before, {"a": {"b": 5, "c": 2}, "e": 4, "same": [1]}) == [
        "a.b was 1 and is 5",
        "d was 3 and is 'absent'",
        "e was 'absent' and is 4",
    ]
    assert differences(before, {"a": {"c": 3}, "d": 4, "same": [1]}, ["a.b", "d"]) == ["a.c was 2 and is 3"]


# Dev scores -----------------------------------------------------------------------------------------


def test_a_dev_score_is_the_correlation_of_cosines(tmp_path):
    pairs = [("the dog runs", "the dog runs"), ("a man", "the market fell"), ("hello world", "hello people")]
    path = tmp_path / "dev.tsv"
    encoder = make_cse()
    cosines = [float(encoder.similarity(*encoder.encode(pair))[0, 0]) for pair in pairs]
    ranks = np.argsort(np.argsort(cosines))
    path.write_text(
        "".join(f"{2 * rank + 1.5}\t{a}\t{b}\n" for rank, (a, b) in zip(ranks, pairs, strict=True))
    )
    assert sts_score(path)(encoder) == pytest.approx(100)
    path.write_text("".join(f"{-rank}\t{a}\t{b}\n" for rank, (a, b) in zip(ranks, pairs, strict=True)))
    assert sts_score(path)(encoder) == pytest.approx(-100)
    expected = 100 * np.corrcoef(cosines, -ranks)[0, 1]
    assert sts_score(path, "pearson")(encoder) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("1\ta\tb\ngood\ta\tb\n", r"dev\.tsv, line 2: .*expected score<TAB>text<TAB>text"),
        ("1\ta\tb\n2\ta\n", r"dev\.tsv, line 2"),
        ("1\ta\tb\tc\n2\ta\tb\n", r"dev\.tsv, line 1"),
        ("1\ta\tb\n", r"has 1 pairs, expected at least 2"),
    ],
)
def test_a_damaged_dev_file_is_refused(tmp_path, content, message):
    path = tmp_path / "dev.tsv"
    path.write_text(content)
    with pytest.raises(TextFileError, match=message):
        sts_score(path)
