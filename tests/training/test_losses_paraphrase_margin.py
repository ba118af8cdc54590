"""The margin loss worked by hand, and the choice of its negatives."""

import numpy as np
import pytest
import torch

from sentenc.training.losses import ParaphraseMargin, paraphrase_margin, paraphrase_margin_loss
from sentenc.training.losses.paraphrase_margin import choose_negatives, scrambled

# Angles in degrees show which sentence of another pair is nearest.
ANGLES = {"a1": 0, "a2": 10, "b1": 25, "b2": 70, "c1": 100, "c2": 140, "d1": 180, "d2": 201}
PAIRS = [("a1", "a2"), ("b1", "b2"), ("c1", "c2"), ("d1", "d2")]
NEAREST = {"a1": "b1", "a2": "b1", "b1": "a2", "b2": "c1", "c1": "b2", "c2": "d1", "d1": "c2", "d2": "c2"}


def encode(texts: list[str]) -> torch.Tensor:
    angles = torch.tensor([np.radians(ANGLES[text]) for text in texts])
    # The norms differ, because the choice is by cosine.
    return torch.stack([angles.cos(), angles.sin()], 1).float() * (1 + torch.arange(len(texts)))[:, None]


def never(texts: list[str]) -> torch.Tensor:
    raise AssertionError("nothing needs to be encoded")


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_loss_by_hand():
    a = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    b = torch.tensor([[3.0, 4.0], [0.0, 1.0]])
    n_a = torch.tensor([[4.0, 3.0], [1.0, 0.0]])
    n_b = torch.tensor([[0.0, 5.0], [-3.0, 4.0]])
    # Pair 1: cosines ab 0.6, a n_a 0.8, b n_b 0.8: 0.6 + 0.6. Pair 2: 1, 0, 0.8: 0 (not -0.6) + 0.2.
    assert paraphrase_margin_loss(a, b, n_a, n_b, 0.4).item() == pytest.approx((1.2 + 0.2) / 2, rel=1e-6)
    # With margin 0.6: 0.8 + 0.8 and 0 + 0.4.
    assert ParaphraseMargin(margin=0.6).loss([a, b, n_a, n_b], None).item() == pytest.approx(1.0, rel=1e-6)


def test_max_chooses_the_most_similar_sentence_of_another_pair():
    (batch,) = ParaphraseMargin().prepare([PAIRS], encode, rng())
    assert batch == [(a, b, NEAREST[a], NEAREST[b]) for a, b in PAIRS]


def test_negatives_are_chosen_from_the_mega_batch_and_batches_are_kept():
    criterion = ParaphraseMargin(mega_batch=3)
    assert (criterion.columns, criterion.lookahead) == (2, 3)
    batches = criterion.prepare([PAIRS[:1], PAIRS[1:3], PAIRS[3:]], encode, rng())
    expected = [(a, b, NEAREST[a], NEAREST[b]) for a, b in PAIRS]
    assert batches == [expected[:1], expected[1:3], expected[3:]]
    # A single batch has only its own sentences as negatives.
    ((b, c),) = criterion.prepare([PAIRS[1:3]], encode, rng())
    assert (b[2:], c[2:]) == (("c1", "c1"), ("b2", "b2"))


def test_the_choice_does_not_depend_on_blocks(monkeypatch):
    monkeypatch.setattr(paraphrase_margin, "_SENTENCES_PER_BLOCK", 3)
    (batch,) = ParaphraseMargin().prepare([PAIRS], encode, rng())
    assert batch == [(a, b, NEAREST[a], NEAREST[b]) for a, b in PAIRS]


def test_random_negatives_are_all_sentences_but_the_pair_itself():
    seen: dict[str, set[str]] = {text: set() for text in ANGLES}
    criterion, generator = ParaphraseMargin(negatives="random"), rng()
    for _ in range(60):
        (batch,) = criterion.prepare([PAIRS], never, generator)
        for a, b, n_a, n_b in batch:
            seen[a].add(n_a)
            seen[b].add(n_b)
    for a, b in PAIRS:
        assert seen[a] == seen[b] == set(ANGLES) - {a, b}


def test_mix_chooses_half_of_the_negatives_at_random():
    criterion, generator = ParaphraseMargin(negatives="mix"), rng()
    hard = [
        (n_a == NEAREST[a]) + (n_b == NEAREST[b])
        for _ in range(200)
        for a, b, n_a, n_b in criterion.prepare([PAIRS], encode, generator)[0]
    ]
    # One half, and one in six of the random half.
    assert sum(hard) / (2 * len(hard)) == pytest.approx(0.5 + 0.5 / 6, abs=0.04)
    assert 1 in hard


def test_copies_are_never_negatives():
    # Without the exclusion, the negative of each a1 would be the other a1, with cosine 1.
    pairs = [("a1", "a2"), ("a1", "c1"), ("b1", "b2")]
    (batch,) = ParaphraseMargin().prepare([pairs], encode, rng())
    assert [row[2:] for row in batch] == [("b1", "b1"), ("a2", "b2"), ("a2", "c1")]
    with pytest.raises(ValueError, match="no negative for 'a1': all 4 sentences"):
        ParaphraseMargin().prepare([[("a1", "a2"), ("a2", "a1")]], encode, rng())
    with pytest.raises(ValueError, match="no negative for 'a1': all 2 sentences"):
        ParaphraseMargin(negatives="random").prepare([PAIRS[:1]], encode, rng())


def test_scrambling_shuffles_both_sentences_with_the_given_probability():
    words = " ".join(f"w{i}" for i in range(30))
    pairs = [(f"{i} {words}", f"{words} {i}") for i in range(400)]
    (batch,) = ParaphraseMargin(negatives="random", scramble=0.3).prepare([pairs], never, rng())
    shuffled = 0
    for (a, b), (new_a, new_b, *_) in zip(pairs, batch, strict=True):
        assert (new_a != a) == (new_b != b)
        assert sorted(new_a.split()) == sorted(a.split())
        assert sorted(new_b.split()) == sorted(b.split())
        shuffled += new_a != a
    assert shuffled / 400 == pytest.approx(0.3, abs=0.07)
    # Negatives are sentences of the prepared batch.
    texts = {text for row in batch for text in row[:2]}
    assert {text for row in batch for text in row[2:]} <= texts


def test_without_scrambling_texts_stay_as_they_are():
    pairs = [("two  spaces", "x y"), ("p q", "r s")]
    (batch,) = ParaphraseMargin(negatives="random").prepare([pairs], never, rng())
    assert [row[:2] for row in batch] == pairs


def test_scrambled_words():
    assert sorted(scrambled(" one two\tthree ", rng()).split(" ")) == ["one", "three", "two"]
    assert scrambled("", rng()) == ""
    assert {scrambled("a b c", rng(i)) for i in range(60)} == {
        "a b c",
        "a c b",
        "b a c",
        "b c a",
        "c a b",
        "c b a",
    }


def test_the_same_generator_gives_the_same_choices():
    criterion = ParaphraseMargin(negatives="mix", scramble=0.5)
    pairs = [(f"a{i} x y z", f"b{i} u v w") for i in range(20)]
    prepared = [criterion.prepare([pairs], lambda t: torch.ones(len(t), 2), rng(seed)) for seed in (4, 4, 5)]
    assert prepared[0] == prepared[1] != prepared[2]


def test_negatives_by_similarity_and_by_chance_in_one_call():
    texts = list(ANGLES)
    use_random = np.array([False, True] * 4)
    chosen = choose_negatives(texts, encode, use_random, rng(3))
    for i, text in enumerate(texts):
        assert chosen[i] // 2 != i // 2
        if not use_random[i]:
            assert texts[chosen[i]] == NEAREST[text]
    assert [texts[chosen[i]] for i in (1, 3, 5, 7)] != [NEAREST[texts[i]] for i in (1, 3, 5, 7)]
