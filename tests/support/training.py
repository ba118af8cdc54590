"""A student, loss terms and a trainer that take milliseconds a step, for the tests of training."""

import json
from itertools import count

import numpy as np
import torch

from sentenc import CSEConfig
from sentenc.tokenization.tokenizer import Tokenizer
from sentenc.training.engine.trainer import LossTerm, Trainer, TrainerConfig
from sentenc.training.losses import make_loss
from sentenc.training.students.cse import CSEStudent
from tests.support.models import WORDS, wordpiece_spec

TEACHER_DIM = 12


def sentences(seed, n):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS[:60], rng.integers(2, 7))) for _ in range(n)]


def stream(columns, size=8, per_epoch=5):
    """Batches that depend on their number alone, so that they can start at any number."""

    def batches(epoch, start):
        for number in range(start, per_epoch):
            texts = sentences([epoch, number], size * columns)
            yield epoch, [tuple(texts[i * columns : (i + 1) * columns]) for i in range(size)]
        for later in count(epoch + 1):
            for number in range(per_epoch):
                texts = sentences([later, number], size * columns)
                yield later, [tuple(texts[i * columns : (i + 1) * columns]) for i in range(size)]

    return batches


def teacher(texts):
    """Sums of random vectors of the words, which a student can learn."""
    table = np.random.default_rng(0).normal(size=(len(WORDS), TEACHER_DIM))
    sums = np.stack([sum(table[WORDS.index(word)] for word in text.split()) for text in texts])
    return (sums / np.linalg.norm(sums, axis=1, keepdims=True)).astype(np.float32)


def trainer(
    folder,
    *,
    evaluate=None,
    batches=None,
    student=None,
    identity=None,
    processes=None,
    dropout=0.1,
    initial_seed=3,
    **changes,
):
    """A trainer with dropout, distillation and mega-batches: all parts that have a state."""
    generator = torch.Generator().manual_seed(initial_seed)
    tokenizer = Tokenizer(wordpiece_spec())
    config = CSEConfig(vocab_size=tokenizer.vocab_size, embedding_dim=16, num_filters=4)
    sparse = changes.get("sparse_embeddings", False)
    student = student or CSEStudent(
        config, tokenizer, generator=generator, dropout=dropout, ngram_warmup=0.4, sparse_embeddings=sparse
    )
    loss_terms = [
        LossTerm(
            name="distill",
            loss=make_loss(
                "embedding_distillation", {}, dim=16, teacher_dim=TEACHER_DIM, generator=generator
            ),
            batches=batches or stream(1),
            targets=teacher,
        ),
        LossTerm(
            name="margin",
            loss=make_loss(
                "paraphrase_margin", {"mega_batch": 3, "negatives": "mix", "scramble": 0.5}, dim=16
            ),
            batches=stream(2),
            weight=0.5,
        ),
    ]
    encoded = None if evaluate is None else lambda output_map: evaluate(student.encoder(output_map))
    options = {"steps": 14, "warmup": 3, "log_every": 4, "evaluate_every": 6, "device": "cpu"} | changes
    return Trainer(
        student,
        loss_terms,
        TrainerConfig(**options),
        folder,
        encoded,
        processes=processes,
        identity=identity,
        show_progress_bar=False,
    )


def score(encoder):
    return float(encoder.encode("hello world a dog runs")[0])


def weights(trained):
    modules = (trained.student, trained.losses)
    return {f"{i}.{name}": value for i, m in enumerate(modules) for name, value in m.state_dict().items()}


def assert_same(left, right):
    assert weights(left).keys() == weights(right).keys()
    for name, value in weights(left).items():
        assert torch.equal(value, weights(right)[name]), name


def assert_close_weights(actual, trained):
    assert weights(trained).keys() == actual.keys()
    for name, value in weights(trained).items():
        torch.testing.assert_close(actual[name], value, rtol=1e-4, atol=1e-5, msg=name)


def rows(folder):
    timed = {"minutes", "examples_per_second"}
    lines = (folder / "log.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if k not in timed} for line in lines]
