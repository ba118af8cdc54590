import json
import signal
from itertools import count

import numpy as np
import pytest
import torch

from sentenc.errors import CheckpointError
from sentenc.training.engine.trainer import LossTerm, Trainer, TrainerConfig
from sentenc.training.losses import make_loss
from tests.support.training import (
    TEACHER_DIM,
    assert_same,
    rows,
    score,
    sentences,
    stream,
    teacher,
    trainer,
    weights,
)

SPARSE = {"sparse_embeddings": True, "accumulate": 2}
REGULARIZED = {"regularization": {"embeddings": 0.1, "ngrams": 0.1}}


# Step 1 is in the middle of the first mega-batch, step 5 ends an epoch, and step 7 is after an evaluation.
@pytest.mark.parametrize(("changes", "stop"), [({}, 1), ({}, 7), (SPARSE, 5), (REGULARIZED, 7)])
def test_a_resumed_run_equals_an_uninterrupted_one_bit_for_bit(tmp_path, changes, stop):
    whole = trainer(tmp_path / "whole", evaluate=score, **changes)
    expected = whole.run()
    assert expected.finished
    assert expected.steps == 14
    first = trainer(tmp_path / "parts", evaluate=score, **changes)
    assert not first.run(stop_at=stop).finished
    second = trainer(tmp_path / "parts", evaluate=score, **changes)
    result = second.run()
    assert (result.finished, result.best_step, result.best_score) == (
        True,
        expected.best_step,
        expected.best_score,
    )
    assert_same(whole, second)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_the_state_and_raises(tmp_path, number):
    whole = trainer(tmp_path / "whole")
    whole.run()

    def interrupting(epoch, start):
        for place, item in enumerate(stream(1)(epoch, start)):
            if place == 6:
                signal.raise_signal(number)
            yield item

    before = signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt, match=r"stopped at step \d+ of 14; the state is in"):
        trainer(tmp_path / "parts", batches=interrupting).run()
    assert signal.getsignal(number) == before
    resumed = trainer(tmp_path / "parts")
    resumed.run()
    assert_same(whole, resumed)


def test_a_stop_before_an_evaluation_leaves_it_to_the_resumed_run(tmp_path):
    whole = trainer(tmp_path / "whole", evaluate=score)
    whole.run()
    evaluated = []

    def counted(encoder):
        evaluated.append(stopped.step)
        return score(encoder)

    stopped = trainer(tmp_path / "parts", evaluate=counted)
    # The update after step 5 is the last one before the evaluation at step 6.
    stopped.loss_terms[0].loss.register_forward_hook(
        lambda _module, _inputs, _loss: signal.raise_signal(signal.SIGTERM) if stopped.step == 5 else None
    )
    with pytest.raises(KeyboardInterrupt, match="stopped at step 6 of 14"):
        stopped.run()
    assert evaluated == [0]
    resumed = trainer(tmp_path / "parts", evaluate=score)
    resumed.run()
    assert_same(whole, resumed)
    assert rows(tmp_path / "parts") == rows(tmp_path / "whole")


def test_training_lowers_the_loss_and_leaves_torchs_generator_alone(tmp_path):
    before = torch.get_rng_state()
    trainer(
        tmp_path,
        steps=60,
        log_every=20,
        evaluate_every=20,
        learning_rate=0.02,
        learning_rates={"ngrams": 0.01},
    ).run()
    assert torch.equal(before, torch.get_rng_state())
    losses = [row["loss"] for row in rows(tmp_path)]
    assert len(losses) == 3
    assert losses[-1] < 0.8 * losses[0]
    first = rows(tmp_path)[0]
    assert first["loss"] == pytest.approx(first["losses"]["distill"] + 0.5 * first["losses"]["margin"])


def test_the_best_weights_come_back_or_the_last_stay(tmp_path):
    scores = iter([1.0, 3.0, 2.0, 0.5])
    seen = []

    def evaluate(encoder):
        seen.append(encoder.encode("a man is playing the guitar"))
        return next(scores)

    best = trainer(tmp_path / "best", evaluate=evaluate)
    result = best.run()
    assert (result.best_step, result.best_score) == (6, 3.0)
    vector = best.student.encoder(best.output_map()).encode("a man is playing the guitar")
    np.testing.assert_array_equal(vector, seen[1])
    assert not np.array_equal(vector, seen[3])
    assert [row.get("dev") for row in rows(tmp_path / "best")] == [1.0, None, 3.0, None, 2.0, 0.5]
    assert [row["step"] for row in rows(tmp_path / "best")] == [0, 4, 6, 8, 12, 14]
    scores = iter([1.0, 3.0, 2.0, 0.5])
    last = trainer(tmp_path / "last", evaluate=evaluate, keep="last")
    last.run()
    vector = last.student.encoder(last.output_map()).encode("a man is playing the guitar")
    np.testing.assert_array_equal(vector, seen[7])


def test_a_finished_run_is_not_evaluated_again_and_can_be_extended(tmp_path):
    calls = []

    def evaluate(encoder):
        calls.append(0)
        return score(encoder)

    trainer(tmp_path, evaluate=evaluate).run()
    before = len(calls)
    again = trainer(tmp_path, evaluate=evaluate).run()
    assert (again.finished, again.steps, len(calls)) == (True, 14, before)
    assert trainer(tmp_path, evaluate=evaluate, steps=20, save_minutes=1.0).run().steps == 20
    assert [row["step"] for row in rows(tmp_path)] == [0, 4, 6, 8, 12, 14, 16, 18, 20]


def test_other_settings_and_damaged_states_are_refused(tmp_path):
    trainer(tmp_path, identity={"corpora": {"text": "abc"}}).run(stop_at=2)
    with pytest.raises(ValueError, match=r"training\.learning_rate was 0\.003 and is 0\.1"):
        trainer(tmp_path, identity={"corpora": {"text": "abc"}}, learning_rate=0.1).run()
    free = {"steps": 4, "save_minutes": 9.0, "keep": "last", "max_minutes": 60.0}
    assert trainer(tmp_path, identity={"corpora": {"text": "abc"}}, **free).run().steps == 4
    with pytest.raises(ValueError, match=r"corpora\.text was 'abc' and is 'abd'"):
        trainer(tmp_path, identity={"corpora": {"text": "abd"}}).run()
    path = tmp_path / "state.pt"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match=r"state\.pt is damaged"):
        trainer(tmp_path, identity={"corpora": {"text": "abc"}}).run()


def test_a_loss_that_is_not_finite_leaves_its_texts_and_the_last_state(tmp_path):
    trainer(tmp_path).run(stop_at=4)
    before = (tmp_path / "state.pt").read_bytes()
    broken = trainer(tmp_path)
    broken.loss_terms[0].loss.register_forward_hook(
        lambda _module, _inputs, loss: loss * (float("nan") if broken.step == 5 else 1)
    )
    with pytest.raises(
        FloatingPointError, match=r"the loss of distill is nan at step 5.*failed-step-5\.json"
    ):
        broken.run()
    failure = json.loads((tmp_path / "failed-step-5.json").read_text())
    # An epoch has five batches, so that step 5 has the first batch of the second epoch.
    assert [tuple(example) for example in failure["examples"]["distill"][0]] == next(stream(1)(1, 0))[1]
    assert (tmp_path / "state.pt").read_bytes() == before


def test_a_time_limit_compresses_the_schedule(tmp_path, monkeypatch):
    clock = count()
    # The clock advances by one second at every reading.
    monkeypatch.setattr("sentenc.training.engine.trainer.time.monotonic", lambda: float(next(clock)))
    result = trainer(tmp_path, steps=1000, max_minutes=0.5, warmup=0, log_every=1, schedule="linear").run()
    assert result.finished
    assert 20 <= result.steps <= 30
    log = rows(tmp_path)
    rates = [row["rate"] for row in log]
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] < 0.1 * rates[0]
    assert log[14]["progress"] == pytest.approx(0.5, abs=0.05)
    assert log[14]["rate"] == pytest.approx(0.003 * (1 - log[14]["progress"]), rel=1e-4)


def test_loss_terms_that_do_not_fit_are_refused(tmp_path):
    whole = trainer(tmp_path)
    distill = whole.loss_terms[0]
    config = TrainerConfig(steps=1, device="cpu")
    without_targets = LossTerm(name="a", loss=distill.loss, batches=stream(1))
    for loss_terms, message in (
        ([], "loss_terms is empty"),
        ([without_targets], "loss term a has no targets"),
        ([distill, distill], "different names"),
        (
            [distill, LossTerm(name="b", loss=distill.loss, batches=stream(1), targets=teacher)],
            "at most one",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            Trainer(whole.student, loss_terms, config, tmp_path)
    for changes, message in (
        (
            {"learning_rates": {"filters": 0.1}},
            r"learning_rates names filters, expected .*embeddings, ngrams, losses",
        ),
        ({"regularization": {"filters": 0.1}}, r"filters.* regularization"),
        (
            {"sparse_embeddings": True, "regularization": {"embeddings": 0.1}},
            r"regularization\.embeddings is 0\.1 with sparse_embeddings",
        ),
    ):
        with pytest.raises(ValueError, match=message):
            trainer(tmp_path, **changes)
    with pytest.raises(ValueError, match="sparse_embeddings is True, but the student has 0"):
        Trainer(
            whole.student, [distill], TrainerConfig(steps=1, device="cpu", sparse_embeddings=True), tmp_path
        )


def test_accumulated_batches_are_averaged(tmp_path):
    """Two accumulated batches of an additive loss have the step of one batch with all their examples."""
    result = {}
    for name, size, accumulate in (("one", 16, 1), ("two", 8, 2)):

        def batches(epoch, start, size=size):
            texts = sentences(5, 64)
            for number in count(start):
                yield epoch, [(t,) for t in texts[number * size % 64 :][:size]]

        whole = trainer(tmp_path / name, dropout=0.0)
        generator = torch.Generator().manual_seed(1)
        term = LossTerm(
            name="cosine",
            batches=batches,
            targets=teacher,
            loss=make_loss(
                "embedding_distillation",
                {"relation_weight": 0.0},
                dim=16,
                teacher_dim=TEACHER_DIM,
                generator=generator,
            ),
        )
        config = TrainerConfig(steps=3, accumulate=accumulate, device="cpu", warmup=0)
        result[name] = Trainer(whole.student, [term], config, tmp_path / name, show_progress_bar=False)
        result[name].run()
    for name, value in weights(result["one"]).items():
        torch.testing.assert_close(value, weights(result["two"])[name], rtol=1e-4, atol=1e-5)


def test_batches_that_end_are_an_error(tmp_path):
    whole = trainer(tmp_path, batches=lambda epoch, start: iter([(0, [("a man",), ("a dog",)])]))
    with pytest.raises(ValueError, match="loss term distill"):
        whole.run()
