"""Encoders in the form that can be tuned, and back."""

import numpy as np
import pytest
import torch

import sentenc
from sentenc import SentenceTransformerEncoder
from sentenc.downstream.trainable_encoder import TrainableCSE, random_encoder, tunable
from sentenc.encoders.base import Encoder
from sentenc.nn.cse import CSEModule
from tests.support.models import make_cse, make_sentence_transformer

TEXTS = ["the dog runs in a park", "not good at all!", "dog", "new york people", "the man plays guitar"]
SHAPES = {
    "residual": {},
    "both and average": {"combine": "both", "average_dim": 4},
    "projected": {"output_dim": 10},
    "words alone": {"widths": ()},
    "paper": {
        "combine": "concat", "phi": "identity", "pooling": "sum", "windows": "padded", "word_path": False,
        "unknown": "row", "widths": (1, 2, 3),
    },
}  # fmt: skip


def rng(seed=0):
    return np.random.default_rng(seed)


def vectors(form, texts):
    form.module.eval()
    with torch.no_grad():
        return form.vectors(form.prepare(texts)).numpy()


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    pytest.importorskip("sentence_transformers")
    return SentenceTransformerEncoder(make_sentence_transformer(tmp_path_factory.mktemp("bert")))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_vectors_are_the_encoders(shape):
    encoder = make_cse(**shape)
    form = tunable(encoder, TEXTS, rng=rng())
    np.testing.assert_allclose(vectors(form, [*TEXTS, ""]), encoder.encode([*TEXTS, ""]), atol=1e-5)
    # Back again: rows in int8, the rest in float16.
    found, expected = form.finished().encode(TEXTS), encoder.encode(TEXTS)
    cosines = (found * expected).sum(1) / np.linalg.norm(found, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() > 0.999
    assert form.finished().config == encoder.config


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_step_is_that_of_the_whole_vocabulary(shape):
    encoder = make_cse(**shape)
    form = tunable(encoder, TEXTS, rng=rng())
    whole = CSEModule(encoder.config)
    with torch.no_grad():
        for name in encoder.config.shapes():
            whole[name].copy_(torch.from_numpy(encoder.weight(name)))
    ids, ends, _ = encoder.tokenizer.encode(TEXTS)
    lengths = np.diff(ends, prepend=0)
    table = np.zeros((len(TEXTS), lengths.max()), np.int64)
    table[np.arange(lengths.max()) < lengths[:, None]] = ids
    vectors = [
        form.vectors(form.prepare(TEXTS)),
        whole(torch.from_numpy(table), torch.from_numpy(lengths)),
    ]
    torch.testing.assert_close(*vectors, atol=1e-5, rtol=0)
    for found, module in zip(vectors, (form.module, whole), strict=True):
        (found**2).sum().backward()
        # A rate for which the size of a gradient counts, which it does not for Adam.
        torch.optim.SGD(module.parameters(), lr=1e-2).step()
    used = np.unique(ids)
    for name in encoder.config.shapes():
        full = whole[name].detach().numpy()
        rows = full[used] if name in ("embeddings", "token_weights", "average") else full
        # The row of token 0 is there for texts without tokens, and no text has it.
        mine = form.module[name].detach().numpy()
        mine = mine[-len(used) :] if name in ("embeddings", "token_weights", "average") else mine
        np.testing.assert_allclose(mine, rows, atol=1e-5, rtol=1e-4, err_msg=name)
        # Something was learned, and by nothing else.
        start = encoder.weight(name)
        assert np.abs(full - start).max() > 1e-5
        if full is not rows:
            others = np.setdiff1d(np.arange(len(full)), used)
            np.testing.assert_array_equal(full[others], start[others])


def test_rows_of_other_tokens_stay_as_they_were():
    encoder = make_cse(average_dim=4).compressed()
    form = tunable(encoder, TEXTS, rng=rng())
    with torch.no_grad():
        for parameter in form.module.parameters():
            parameter.add_(1.0)
    finished = form.finished()
    used = np.unique(encoder.tokenizer.encode(TEXTS)[0])
    others = np.setdiff1d(np.arange(1, encoder.config.vocab_size), used)
    for name in ("embeddings", "average"):
        # To the last bit, as they are stored.
        for stored in (name, f"{name}.scale"):
            np.testing.assert_array_equal(finished._weights[stored][others], encoder._weights[stored][others])
        np.testing.assert_array_equal(finished.weight(name)[others], encoder.weight(name)[others])
        assert (finished.weight(name)[used] != encoder.weight(name)[used]).all(axis=1).all()


def test_tokens_of_no_training_text_are_left_out():
    encoder = make_cse(widths=())
    form = tunable(encoder, ["the dog"], rng=rng())
    assert [len(ids) for ids in form.prepare(["the dog", "the cat dog", "cat", ""])] == [2, 2, 0, 0]
    # Of lower numbers than those that are trained, between them, and of higher.
    assert form.prepare(["man the guitar dog cat"])[0].tolist() == [1, 2]
    np.testing.assert_allclose(vectors(form, ["the cat dog"]), vectors(form, ["the dog"]))


def test_random_weights_come_from_the_generator():
    encoder = make_cse(combine="both", average_dim=4)
    one, same, other = (random_encoder(encoder, rng(seed)).encode(TEXTS) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3
    assert np.abs(one - encoder.encode(TEXTS)).max() > 1e-3
    assert random_encoder(encoder, rng()).config == encoder.config
    # All rows, also of tokens that no text has.
    left = random_encoder(encoder, rng(1)).weight("embeddings")
    assert (np.abs(left - encoder.weight("embeddings")).max(axis=1) > 1e-3).all()


def test_dropout_is_for_training():
    form = TrainableCSE(make_cse(), TEXTS, dropout=0.5)
    form.module.train()
    ids = form.prepare(TEXTS)
    assert (form.vectors(ids) - form.vectors(ids)).abs().max() > 1e-3
    form.module.eval()
    assert (form.vectors(ids) - form.vectors(ids)).abs().max() == 0


def test_groups_hold_every_parameter_once():
    form = tunable(make_cse(combine="both", average_dim=4), TEXTS, rng=rng())
    groups = form.groups()
    assert set(groups) == {"embeddings", "ngrams"}
    found = [id(p) for group in groups.values() for p in group]
    assert sorted(found) == sorted(id(p) for p in form.module.parameters())
    assert all(p.requires_grad for group in groups.values() for p in group)


def test_a_bert_is_tuned_and_saved(bert, tmp_path):
    form = tunable(bert, TEXTS, rng=rng())
    np.testing.assert_allclose(vectors(form, TEXTS), bert.encode(TEXTS), atol=1e-5)
    before = bert.encode(TEXTS)
    with torch.no_grad():
        for parameter in form.groups()["all"]:
            parameter.mul_(1.1)
    finished = form.finished()
    np.testing.assert_array_equal(bert.encode(TEXTS), before)
    assert np.abs(finished.encode(TEXTS) - before).max() > 1e-3
    finished.save(tmp_path / "tuned")
    np.testing.assert_allclose(
        sentenc.load(tmp_path / "tuned").encode(TEXTS), finished.encode(TEXTS), atol=1e-5
    )
    assert np.abs(random_encoder(bert, rng(1)).encode(TEXTS) - before).max() > 1e-3


def test_what_cannot_be_tuned_is_told(bert):
    class Other(Encoder):
        dim = max_tokens = 4

        def count_tokens(self, texts): ...
        def fingerprint(self): ...
        def save(self, folder): ...
        def _encode_block(self, texts, batch_size, out): ...

    with pytest.raises(ValueError, match=r"Other .*expected a CSE, or a BERT"):
        tunable(Other(), TEXTS, rng=rng())
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    pooled = SentenceTransformer(modules=[bert.model[0], Pooling(24, pooling_mode="cls")], device="cpu")
    with pytest.raises(ValueError, match="mine pools by cls"):
        tunable(SentenceTransformerEncoder(pooled, name="mine"), TEXTS, rng=rng())


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_finished_is_what_was_trained(shape):
    for encoder in (make_cse(**shape), make_cse("int8", **shape).compressed()):
        form = tunable(encoder, TEXTS, rng=rng())
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in form.module.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        finished, expected = form.finished(), vectors(form, [*TEXTS, ""])
        found = finished.encode([*TEXTS, ""])
        lengths = np.linalg.norm(expected[:-1], axis=1)
        cosines = (found * expected).sum(1)[:-1] / np.linalg.norm(found[:-1], axis=1) / lengths
        assert cosines.min() > 0.999
        assert not found[-1].any()
        assert (np.linalg.norm(encoder.encode(TEXTS) - expected[:-1], axis=1) > 0.05 * lengths).all()
        assert finished.tables == encoder.tables
        # Nothing is left to round: it is saved as it is.
        assert finished._weights["embeddings"].dtype == np.int8
        # The dense form of the finished weights, exactly.
        again = tunable(finished, TEXTS, rng=rng())
        if finished.tables == "float32":
            np.testing.assert_allclose(vectors(again, TEXTS), found[:-1], atol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "max", "sum"])
def test_empty_texts_have_no_vector_and_no_gradient(pooling):
    form = tunable(make_cse(combine="both", average_dim=4, pooling=pooling), ["", "dog"], rng=rng())
    ids = form.prepare(["", "dog", ""])
    assert [len(row) for row in ids] == [0, 1, 0]
    found = form.vectors(ids)
    assert not found[0].any()
    assert found[1].any()
    found.square().sum().backward()
    for name, parameter in form.module.named_parameters():
        assert parameter.grad.isfinite().all(), name
    form.module.zero_grad()
    form.vectors(ids[:1]).sum().backward()
    assert all(not p.grad.any() for p in form.module.parameters() if p.grad is not None)
    # No text at all.
    assert form.prepare([]) == []
    assert len(tunable(make_cse(), [], rng=rng()).prepare(["dog"])[0]) in (0, 1)


def test_unknown_words_with_a_row_of_their_own():
    encoder = make_cse(unknown="row", widths=())
    word = "\N{GREEK SMALL LETTER OMEGA}"
    form = tunable(encoder, [f"dog {word}"], rng=rng())
    assert [len(ids) for ids in form.prepare([f"dog {word}", word, "cat"])] == [2, 1, 0]
    np.testing.assert_allclose(vectors(form, [word]), encoder.encode([word]), atol=1e-5)


def test_a_berts_text_without_words_has_no_vector(bert):
    form = tunable(bert, TEXTS, rng=rng())
    found = vectors(form, ["", "dog", " "])
    np.testing.assert_allclose(found, bert.encode(["", "dog", " "]), atol=1e-5)
    assert not found[0].any()
    assert not found[2].any()


def test_a_berts_random_weights_are_seeded(bert):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    one, same, other = (random_encoder(bert, rng(seed)).encode(TEXTS) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 1e-3


def test_a_tuned_bert_can_be_tuned_again(bert):
    once = tunable(bert, TEXTS, rng=rng()).finished()
    form = tunable(once, TEXTS, rng=rng())
    np.testing.assert_allclose(vectors(form, TEXTS), bert.encode(TEXTS), atol=1e-5)
    once.turn = np.eye(24, dtype=np.float32)
    with pytest.raises(ValueError, match="linear map after pooling"):
        tunable(once, TEXTS, rng=rng())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"truncate_dim": 8}, "mine has truncate_dim 8"),
        ({"prompts": {"query": "find: "}, "default_prompt_name": "query"},
         "mine has default_prompt_name 'query'"),
    ],
)  # fmt: skip
def test_a_bert_whose_vectors_are_not_its_own_is_refused(bert, settings, message):
    from sentence_transformers import SentenceTransformer

    other = SentenceTransformer(modules=list(bert.model), device="cpu", **settings)
    with pytest.raises(ValueError, match=message):
        tunable(SentenceTransformerEncoder(other, name="mine"), TEXTS, rng=rng())
