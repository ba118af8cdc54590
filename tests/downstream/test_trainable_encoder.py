"""Students made from encoders, and the encoders made from these."""

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file

import sentenc
from sentenc import SentenceTransformerEncoder
from sentenc.downstream.trainable_encoder import TrainableCSE, make_trainable, random_encoder
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
        "combine": "concat",
        "phi": "identity",
        "pooling": "sum",
        "windows": "padded",
        "word_path": False,
        "unknown": "row",
        "widths": (1, 2, 3),
    },
}


def rng(seed=0):
    return np.random.default_rng(seed)


def vectors(student, texts):
    student.eval()
    with torch.no_grad():
        return student(*student.tokenize(texts)).numpy()


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    pytest.importorskip("sentence_transformers")
    return SentenceTransformerEncoder(make_sentence_transformer(tmp_path_factory.mktemp("bert")))


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_vectors_equal_those_of_the_encoder(shape):
    encoder = make_cse(**shape)
    student = make_trainable(encoder, TEXTS, rng=rng())
    np.testing.assert_allclose(vectors(student, [*TEXTS, ""]), encoder.encode([*TEXTS, ""]), atol=1e-5)
    # The finished encoder has rows in int8, and the other weights in float16.
    encoded, expected = student.finished().encode(TEXTS), encoder.encode(TEXTS)
    cosines = (encoded * expected).sum(1) / np.linalg.norm(encoded, axis=1) / np.linalg.norm(expected, axis=1)
    assert cosines.min() > 0.999
    assert student.finished().config == encoder.config


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_a_step_is_that_of_the_whole_vocabulary(shape):
    encoder = make_cse(**shape)
    student = make_trainable(encoder, TEXTS, rng=rng())
    whole = CSEModule(encoder.config)
    with torch.no_grad():
        for name in encoder.config.shapes():
            whole[name].copy_(torch.from_numpy(encoder.weight(name)))
    ids, ends, _ = encoder.tokenizer.encode(TEXTS)
    lengths = np.diff(ends, prepend=0)
    table = np.zeros((len(TEXTS), lengths.max()), np.int64)
    table[np.arange(lengths.max()) < lengths[:, None]] = ids
    vectors = [
        student(*student.tokenize(TEXTS)),
        whole(torch.from_numpy(table), torch.from_numpy(lengths)),
    ]
    torch.testing.assert_close(*vectors, atol=1e-5, rtol=0)
    for encoded, module in zip(vectors, (student.module, whole), strict=True):
        (encoded**2).sum().backward()
        # In contrast to Adam, the step depends on the size of the gradient.
        torch.optim.SGD(module.parameters(), lr=1e-2).step()
    used = np.unique(ids)
    for name in encoder.config.shapes():
        full = whole[name].detach().numpy()
        rows = full[used] if name in ("embeddings", "token_weights", "average") else full
        # The row of token 0 is always included, and occurs in no text.
        mine = student.module[name].detach().numpy()
        mine = mine[-len(used) :] if name in ("embeddings", "token_weights", "average") else mine
        np.testing.assert_allclose(mine, rows, atol=1e-5, rtol=1e-4, err_msg=name)
        # The rows of the tokens changed, and no other rows.
        start = encoder.weight(name)
        assert np.abs(full - start).max() > 1e-5
        if full is not rows:
            others = np.setdiff1d(np.arange(len(full)), used)
            np.testing.assert_array_equal(full[others], start[others])


def tensors_of(encoder, folder):
    encoder.save(folder)
    return load_file(folder / "model.safetensors")


def test_rows_of_other_tokens_stay_as_they_were(tmp_path):
    encoder = make_cse(average_dim=4).compressed()
    student = make_trainable(encoder, TEXTS, rng=rng())
    with torch.no_grad():
        for parameter in student.module.parameters():
            parameter.add_(1.0)
    finished = student.finished()
    used = np.unique(encoder.tokenizer.encode(TEXTS)[0])
    others = np.setdiff1d(np.arange(1, encoder.config.vocab_size), used)
    after, before = tensors_of(finished, tmp_path / "after"), tensors_of(encoder, tmp_path / "before")
    for name in ("embeddings", "average"):
        # The stored rows and scales are equal to the last bit.
        for stored in (name, f"{name}.scale"):
            np.testing.assert_array_equal(after[stored][others], before[stored][others])
        np.testing.assert_array_equal(finished.weight(name)[others], encoder.weight(name)[others])
        assert (finished.weight(name)[used] != encoder.weight(name)[used]).all(axis=1).all()


def test_tokens_of_no_training_text_are_left_out():
    encoder = make_cse(widths=())
    student = make_trainable(encoder, ["the dog"], rng=rng())
    assert student.tokenize(["the dog", "the cat dog", "cat", ""])[1].tolist() == [2, 2, 0, 0]
    # Tokens before, between and after the trained ones in the vocabulary.
    assert student.tokenize(["man the guitar dog cat"])[0].tolist() == [[1, 2]]
    np.testing.assert_allclose(vectors(student, ["the cat dog"]), vectors(student, ["the dog"]))


def test_random_weights_come_from_the_generator():
    encoder = make_cse(combine="both", average_dim=4)
    first, same, other = (random_encoder(encoder, rng(seed)).encode(TEXTS) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 1e-3
    assert np.abs(first - encoder.encode(TEXTS)).max() > 1e-3
    assert random_encoder(encoder, rng()).config == encoder.config
    # All rows are random, including those of tokens that occur in no text.
    left = random_encoder(encoder, rng(1)).weight("embeddings")
    assert (np.abs(left - encoder.weight("embeddings")).max(axis=1) > 1e-3).all()


def test_dropout_is_for_training():
    student = TrainableCSE(make_cse(), TEXTS, dropout=0.5)
    student.train()
    batch = student.tokenize(TEXTS)
    assert (student(*batch) - student(*batch)).abs().max() > 1e-3
    student.eval()
    assert (student(*batch) - student(*batch)).abs().max() == 0


def test_groups_hold_every_parameter_once():
    student = make_trainable(make_cse(combine="both", average_dim=4), TEXTS, rng=rng())
    groups = student.groups()
    assert set(groups) == {"embeddings", "ngrams"}
    encoded = [id(p) for group in groups.values() for p in group]
    assert sorted(encoded) == sorted(id(p) for p in student.module.parameters())
    assert all(p.requires_grad for group in groups.values() for p in group)


def test_a_bert_is_trained_and_saved(bert, tmp_path):
    student = make_trainable(bert, TEXTS, rng=rng())
    np.testing.assert_allclose(vectors(student, TEXTS), bert.encode(TEXTS), atol=1e-5)
    before = bert.encode(TEXTS)
    with torch.no_grad():
        for parameter in student.groups()["all"]:
            parameter.mul_(1.1)
    finished = student.finished()
    np.testing.assert_array_equal(bert.encode(TEXTS), before)
    assert np.abs(finished.encode(TEXTS) - before).max() > 1e-3
    finished.save(tmp_path / "tuned")
    np.testing.assert_allclose(
        sentenc.load(tmp_path / "tuned").encode(TEXTS), finished.encode(TEXTS), atol=1e-5
    )
    assert np.abs(random_encoder(bert, rng(1)).encode(TEXTS) - before).max() > 1e-3


def test_other_encoders_are_refused(bert):
    class Other(Encoder):
        dim = max_tokens = 4

        def count_tokens(self, texts): ...
        def fingerprint(self): ...
        def save(self, folder): ...
        def _encode_block(self, texts, batch_size, out): ...

    with pytest.raises(ValueError, match=r"Other .*CSE or a BERT"):
        make_trainable(Other(), TEXTS, rng=rng())
    from sentence_transformers import SentenceTransformer
    from sentence_transformers.sentence_transformer.modules import Pooling

    pooled = SentenceTransformer(modules=[bert.model[0], Pooling(24, pooling_mode="max")], device="cpu")
    with pytest.raises(ValueError, match="mine pools by max"):
        make_trainable(SentenceTransformerEncoder(pooled, name="mine"), TEXTS, rng=rng())


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_finished_encoder_has_the_trained_vectors(shape, tmp_path):
    for encoder in (make_cse(**shape), make_cse("int8", **shape).compressed()):
        student = make_trainable(encoder, TEXTS, rng=rng())
        torch.manual_seed(0)
        with torch.no_grad():
            for parameter in student.module.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
        finished, expected = student.finished(), vectors(student, [*TEXTS, ""])
        encoded = finished.encode([*TEXTS, ""])
        lengths = np.linalg.norm(expected[:-1], axis=1)
        cosines = (encoded * expected).sum(1)[:-1] / np.linalg.norm(encoded[:-1], axis=1) / lengths
        assert cosines.min() > 0.999
        assert not encoded[-1].any()
        assert (np.linalg.norm(encoder.encode(TEXTS) - expected[:-1], axis=1) > 0.05 * lengths).all()
        assert finished.tables == encoder.tables
        # Nothing is left to round when it is saved.
        finished.save(tmp_path / "model")
        saved = sentenc.load(tmp_path / "model")
        for name in finished.config.shapes():
            np.testing.assert_array_equal(saved.weight(name), finished.weight(name), err_msg=name)
        # A student made from the finished encoder has the same vectors.
        again = make_trainable(finished, TEXTS, rng=rng())
        if finished.tables == "float32":
            np.testing.assert_allclose(vectors(again, TEXTS), encoded[:-1], atol=1e-4)


@pytest.mark.parametrize("pooling", ["mean", "max", "sum"])
def test_empty_texts_have_no_vector_and_no_gradient(pooling):
    student = make_trainable(make_cse(combine="both", average_dim=4, pooling=pooling), ["", "dog"], rng=rng())
    ids, lengths = student.tokenize(["", "dog", ""])
    assert lengths.tolist() == [0, 1, 0]
    encoded = student(ids, lengths)
    assert not encoded[0].any()
    assert encoded[1].any()
    encoded.square().sum().backward()
    for name, parameter in student.module.named_parameters():
        assert parameter.grad.isfinite().all(), name
    student.zero_grad()
    student(ids[:1], lengths[:1]).sum().backward()
    assert all(not p.grad.any() for p in student.module.parameters() if p.grad is not None)
    # Without any text.
    assert student.tokenize([])[0].shape[0] == 0
    assert make_trainable(make_cse(), [], rng=rng()).tokenize(["dog"])[1].tolist() == [0]


def test_unknown_words_with_a_row_of_their_own():
    encoder = make_cse(unknown="row", widths=())
    word = "\N{GREEK SMALL LETTER OMEGA}"
    student = make_trainable(encoder, [f"dog {word}"], rng=rng())
    assert student.tokenize([f"dog {word}", word, "cat"])[1].tolist() == [2, 1, 0]
    np.testing.assert_allclose(vectors(student, [word]), encoder.encode([word]), atol=1e-5)


def test_a_berts_text_without_words_has_no_vector(bert):
    student = make_trainable(bert, TEXTS, rng=rng())
    encoded = vectors(student, ["", "dog", " "])
    np.testing.assert_allclose(encoded, bert.encode(["", "dog", " "]), atol=1e-5)
    assert not encoded[0].any()
    assert not encoded[2].any()


def test_a_berts_random_weights_are_seeded(bert):
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first, same, other = (random_encoder(bert, rng(seed)).encode(TEXTS) for seed in (1, 1, 2))
    assert torch.equal(torch.random.get_rng_state(), before)
    np.testing.assert_array_equal(first, same)
    assert np.abs(first - other).max() > 1e-3


def test_a_trained_bert_can_be_trained_again(bert):
    once = make_trainable(bert, TEXTS, rng=rng()).finished()
    student = make_trainable(once, TEXTS, rng=rng())
    np.testing.assert_allclose(vectors(student, TEXTS), bert.encode(TEXTS), atol=1e-5)
    once.linear = np.eye(24, dtype=np.float32)
    with pytest.raises(ValueError, match="linear map after pooling"):
        make_trainable(once, TEXTS, rng=rng())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"truncate_dim": 8}, "mine has truncate_dim 8"),
        (
            {"prompts": {"query": "find: "}, "default_prompt_name": "query"},
            "mine has default_prompt_name 'query'",
        ),
    ],
)
def test_a_bert_with_changed_vectors_is_refused(bert, settings, message):
    from sentence_transformers import SentenceTransformer

    other = SentenceTransformer(modules=list(bert.model), device="cpu", **settings)
    with pytest.raises(ValueError, match=message):
        make_trainable(SentenceTransformerEncoder(other, name="mine"), TEXTS, rng=rng())
