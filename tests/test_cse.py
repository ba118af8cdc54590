"""CSE: tables equal the dense form, published facts hold, and bad weights are named in errors."""

import itertools
from dataclasses import replace

import numpy as np
import pytest
import torch

import sentenc
from sentenc import CSE, CheckpointError, CSEConfig
from sentenc.checkpoint import read_checkpoint, write_checkpoint
from sentenc.encoders.cse import tables
from sentenc.nn.cse import CSEModule
from sentenc.tokenization.tokenizer import Tokenizer
from tests.support.models import make_cse, random_weights, word_spec, wordpiece_spec

TEXTS = [
    "",
    "dog",
    "dog cat",
    "dog cat runs",
    "a man is playing the guitar in the park",
    "not good at all!",
    "東京 crème " * 9,
]
SHAPES = [
    {"combine": combine, "phi": phi, "pooling": pooling, "windows": windows, "widths": widths}
    for combine, phi, pooling, windows, widths in itertools.product(
        ("residual", "concat"),
        ("identity", "tanh", "relu", "gelu"),
        ("mean", "sum", "max"),
        ("valid", "padded"),
        ((2, 3), (1, 4), ()),
    )
]
# The vector with its features for classifiers: e = [u P + sum_h s_h Q_h; mean_i y_i; s_h].
SHAPES += [
    {"combine": combine, "average_dim": average_dim, "output_dim": output_dim, "widths": widths}
    for combine, average_dim, output_dim, widths in itertools.product(
        ("residual", "concat", "both"), (0, 5), (None, 10), ((1, 2, 3), ())
    )
]
SHAPES += [
    {
        "combine": "both",
        "average_dim": 5,
        "phi": phi,
        "pooling": pooling,
        "windows": windows,
        "widths": (1, 3, 4),
    }
    for phi, pooling, windows in itertools.product(
        ("identity", "relu", "gelu"), ("mean", "sum", "max"), ("valid", "padded")
    )
]
SHAPES += [
    {"combine": "concat", "word_path": False, "average_dim": 5, "windows": windows, "widths": widths}
    for windows, widths in itertools.product(("valid", "padded"), ((2, 3), (1,)))
]
# More windows than the kernel takes at a time, and more than twice as many.
LONG = [" ".join(itertools.islice(itertools.cycle(TEXTS[4].split()), n)) for n in (33, 40, 65, 150)]
SHAPES += [
    {"bias": True, "combine": combine, "average_dim": average_dim, "output_dim": output_dim}
    for combine, average_dim, output_dim in itertools.product(
        ("residual", "concat", "both"), (0, 5), (None, 10)
    )
]
SHAPES += [{"output_dim": 10}, {"word_path": False, "combine": "concat"}, {"num_filters": 7}]


def dense_module(encoder: CSE, dtype=torch.float64) -> CSEModule:
    module = CSEModule(encoder.config).to(dtype)
    with torch.no_grad():
        for name in encoder.config.shapes():
            module[name].copy_(torch.from_numpy(encoder.weight(name)))
    return module


def padded_ids(encoder: CSE, texts: list[str], padding: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    ids, ends, _ = encoder.tokenizer.encode(texts, encoder.max_tokens)
    rows = np.split(ids, ends[:-1])
    table = np.full((len(rows), max(map(len, rows)) + padding), 5)
    for row, values in zip(table, rows, strict=True):
        row[: len(values)] = values
    return torch.from_numpy(table), torch.tensor([len(values) for values in rows])


@pytest.mark.parametrize("shape", SHAPES, ids=lambda shape: "-".join(map(str, shape.values())))
def test_table_form_is_dense_form(shape):
    encoder = make_cse(**shape, max_tokens=200)
    texts = TEXTS + LONG
    expected = dense_module(encoder)(*padded_ids(encoder, texts)).detach().numpy()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(encoder.encode(texts) / scale, expected / scale, rtol=0, atol=1e-5)
    assert encoder.dim == expected.shape[1]


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"combine": "concat", "phi": "tanh"},
        {"output_dim": 12, "pooling": "max"},
        {"combine": "both", "average_dim": 20},
    ],
)
def test_int8_tables_are_close_to_dense(shape):
    encoder = make_cse("int8", embedding_dim=64, num_filters=32, **shape)
    expected = dense_module(encoder)(*padded_ids(encoder, TEXTS[1:])).detach().numpy()
    cosines = np.diag(encoder.similarity(expected, encoder.encode(TEXTS[1:])))
    assert cosines.min() > 0.999


@pytest.mark.parametrize("dim", [1536, 4096])
def test_a_projection_to_a_wide_space(dim, tmp_path, monkeypatch):
    # The vocabulary has several blocks, the last of them smaller.
    monkeypatch.setattr(tables, "_ROWS_PER_BLOCK", 32)
    wide = make_cse(embedding_dim=16, output_dim=dim, widths=(2,))
    expected = dense_module(wide)(*padded_ids(wide, TEXTS[1:])).detach().numpy()
    scale = np.abs(expected).max()
    np.testing.assert_allclose(wide.encode(TEXTS[1:]) / scale, expected / scale, rtol=0, atol=1e-5)
    small = make_cse("int8", embedding_dim=16, output_dim=dim, widths=(2,)).compressed()
    vectors = small.encode(TEXTS[1:])
    cosines = np.diag(wide.similarity(expected, vectors))
    assert vectors.shape == (len(TEXTS) - 1, dim)
    assert cosines.min() > 0.999
    small.save(tmp_path / "wide")
    np.testing.assert_array_equal(sentenc.load(tmp_path / "wide").encode(TEXTS[1:]), vectors)


def test_dense_form_does_not_see_padding():
    encoder = make_cse(phi="tanh")
    module = dense_module(encoder)
    for padding in (1, 2, 9):
        difference = module(*padded_ids(encoder, TEXTS)) - module(*padded_ids(encoder, TEXTS, padding))
        assert difference.abs().max() < 1e-12


def test_a_new_model_is_a_word_average():
    config = CSEConfig(vocab_size=50, embedding_dim=16, num_filters=4)
    module = CSEModule(config, torch.Generator().manual_seed(1))
    ids = torch.tensor([[3, 7, 7, 9]])
    expected = module["embeddings"][ids[0]].mean(0)
    torch.testing.assert_close(module(ids, torch.tensor([4]))[0], expected)


def test_token_weights_are_logarithms_of_a_weighted_mean():
    encoder = make_cse(widths=())
    dog, cat = (encoder.tokenizer.vocabulary[word] for word in ("dog", "cat"))
    x, w = encoder.weight("embeddings"), encoder.weight("token_weights").astype(np.float64)
    a, b = np.exp(w[dog]), np.exp(w[cat])
    expected = (2 * a * x[dog] + b * x[cat]) / (2 * a + b)
    np.testing.assert_allclose(encoder.encode("dog cat dog"), expected, atol=1e-6)


def test_a_bias_is_divided_by_the_number_of_tokens():
    encoder = make_cse(widths=(), bias=True, max_tokens=4)
    plain = CSE(
        replace(encoder.config, bias=False),
        {name: encoder.weight(name) for name in ("embeddings", "token_weights")},
        encoder.tokenizer,
        tables="float32",
    )
    bias = encoder.weight("bias")
    texts = ["dog", "dog cat", "dog cat dog cat dog cat", "\u2603"]
    expected = plain.encode(texts, on_overflow="ignore") + bias * np.array([1, 1 / 2, 1 / 4, 0])[:, None]
    np.testing.assert_allclose(encoder.encode(texts, on_overflow="ignore"), expected, atol=1e-6)
    np.testing.assert_allclose(encoder.encode("dog cat"), expected[1], atol=1e-6)


def test_a_bias_requires_a_word_path_and_is_absent_from_other_configs():
    with pytest.raises(ValueError, match="bias=True requires word_path=True"):
        CSEConfig(vocab_size=5, bias=True, word_path=False, combine="concat")
    with pytest.raises(TypeError, match="bias is 1"):
        CSEConfig(vocab_size=5, bias=1)
    with_bias = CSEConfig(vocab_size=5, bias=True)
    assert CSEConfig.from_dict(with_bias.to_dict()) == with_bias
    # The fingerprint of a model contains its configuration.
    assert "bias" not in CSEConfig(vocab_size=5).to_dict()


def test_the_plain_average_has_no_weights():
    encoder = make_cse(combine="both", average_dim=3)
    dog, cat = (encoder.tokenizer.vocabulary[word] for word in ("dog", "cat"))
    y, d = encoder.weight("average"), encoder.config.word_dim
    vector = encoder.encode("dog cat dog")
    np.testing.assert_allclose(vector[d : d + 3], (2 * y[dog] + y[cat]) / 3, atol=1e-6)
    # The sentence vector and the features are those of the models that have one of them alone.
    for combine, kept in (("residual", vector[:d]), ("concat", vector[d + 3 :])):
        config = replace(encoder.config, combine=combine, average_dim=0)
        weights = {name: encoder.weight(name) for name in config.shapes()}
        alone = CSE(config, weights, encoder.tokenizer, tables="float32").encode("dog cat dog")
        np.testing.assert_allclose(alone[-len(kept) :], kept, atol=1e-6)


def test_dropout_that_drops_nothing_changes_nothing():
    # Filters are computed for the tokens of a batch, or, with dropout, for every place.
    encoder = make_cse(combine="both", widths=(1, 2, 3), average_dim=5)
    batch = padded_ids(encoder, TEXTS, padding=2)
    gradients = []
    for rates in ({}, {"dropout": 1e-9}, {"word_dropout": 1e-9}):
        module = CSEModule(encoder.config, **rates).double().train()
        module.load_state_dict(dense_module(encoder).state_dict())
        torch.testing.assert_close(module(*batch), dense_module(encoder)(*batch))
        module(*batch).square().sum().backward()
        gradients.append(torch.cat([parameter.grad.flatten() for parameter in module.parameters()]))
    torch.testing.assert_close(gradients[1], gradients[0])
    torch.testing.assert_close(gradients[2], gradients[0])


def test_no_texts_give_no_rows():
    module = CSEModule(make_cse(combine="both", average_dim=5).config)
    assert module(torch.zeros(0, 1, dtype=torch.int64), torch.zeros(0, dtype=torch.int64)).shape[0] == 0


def test_bigrams_by_hand():
    encoder = make_cse(widths=(2,), combine="concat", num_filters=3, embedding_dim=4)
    ids = [encoder.tokenizer.vocabulary[word] for word in ("dog", "cat", "runs")]
    x, w, b = (encoder.weight(name) for name in ("embeddings", "filters.2", "biases.2"))
    windows = [np.maximum(x[p] @ w[0] + x[q] @ w[1] + b, 0) for p, q in itertools.pairwise(ids)]
    np.testing.assert_allclose(encoder.encode("dog cat runs")[4:], np.mean(windows, axis=0), atol=1e-6)
    alone = np.maximum(x[ids[0]] @ w[0] + b, 0)  # one window, zero-padded on the right
    np.testing.assert_allclose(encoder.encode("dog")[4:], alone, atol=1e-6)


def paper(phi: str) -> CSE:
    return make_cse(
        widths=(1, 2, 3), combine="concat", phi=phi, pooling="sum", windows="padded", word_path=False
    )


def test_linear_sum_pooled_cse_is_a_bag_of_words_after_the_first_two():
    # FACTS of the released model: s_3 = S W^(0) + (S - x_1) W^(1) + (S - x_1 - x_2) W^(2).
    encoder = paper("identity")
    a, b = encoder.encode(["the dog runs in a park", "the dog park a in runs"])
    np.testing.assert_allclose(a, b, atol=1e-4)
    c = encoder.encode("dog the runs in a park")
    assert np.abs(a - c).max() > 1e-2
    x = encoder.weight("embeddings")
    ids = [encoder.tokenizer.vocabulary[word] for word in ["the", "dog", "runs", "in", "a", "park"]]
    total = x[ids].sum(0)
    w, k = encoder.weight("filters.2"), encoder.config.num_filters
    expected = total @ w[0] + (total - x[ids[0]]) @ w[1] + 6 * encoder.weight("biases.2")
    np.testing.assert_allclose(a[k : 2 * k], expected, atol=1e-4)


def test_a_nonlinearity_makes_order_count():
    a, b = paper("tanh").encode(["the dog runs in a park", "the dog park a in runs"])
    assert np.abs(a - b).max() > 1e-2


def test_paper_preset():
    config = CSEConfig.paper(1000)
    weights = sum(int(np.prod(shape)) for name, shape in config.shapes().items() if name != "embeddings")
    assert weights == 180_300
    assert config.dim == 300
    assert CSEConfig.paper(1000, phi="tanh").phi == "tanh"


@pytest.mark.parametrize("shape", [{}, {"combine": "both", "average_dim": 2}])
def test_gradients(shape):
    config = CSEConfig(vocab_size=6, embedding_dim=3, num_filters=2, phi="gelu", **shape)
    module = CSEModule(config, torch.Generator().manual_seed(0)).double()
    ids, lengths = torch.tensor([[1, 2, 3, 4], [5, 1, 0, 0], [2, 0, 0, 0]]), torch.tensor([4, 2, 0])
    names = list(config.shapes())
    values = [torch.rand(config.shapes()[name], dtype=torch.float64, requires_grad=True) for name in names]

    def run(*parameters):
        state = {f"weights.{n.replace('.', '_')}": p for n, p in zip(names, parameters, strict=True)}
        return torch.func.functional_call(module, state, (ids, lengths))

    assert torch.autograd.gradcheck(run, values)


def test_config_round_trip_and_refusals():
    config = CSEConfig(vocab_size=9, widths=(1, 2), output_dim=5, combine="both", average_dim=4)
    assert config.dim == 5 + 4 + 2 * config.num_filters
    assert CSEConfig.from_dict(config.to_dict()) == config
    with pytest.raises(ValueError, match="unexpected: \\['color'\\]"):
        CSEConfig.from_dict(config.to_dict() | {"color": 1})
    for change, message in [
        ({"phi": "sine"}, "phi is 'sine'"),
        ({"widths": (3, 2)}, "widths is"),
        ({"embedding_dim": 0}, "embedding_dim is 0"),
        ({"vocab_size": 2.5}, "vocab_size is 2.5"),
        ({"word_path": False}, "word_path"),
        ({"widths": (0,)}, "widths is 0"),
        ({"average_dim": -1}, "average_dim is -1, expected an integer >= 0"),
        ({"average_dim": 0.0}, "average_dim is 0.0"),
        ({"combine": "all"}, "combine is 'all', expected 'residual', 'concat' or 'both'"),
        ({"word_path": False, "combine": "both"}, "word_path"),
    ]:
        with pytest.raises((TypeError, ValueError), match=message):
            CSEConfig(**{"vocab_size": 9} | change)


def test_bad_weights_are_named():
    tokenizer = Tokenizer(wordpiece_spec())
    config = CSEConfig(vocab_size=tokenizer.vocab_size, embedding_dim=4, num_filters=2, average_dim=3)
    good = random_weights(config)
    nan = good["filters.2"].copy()
    nan[0, 0, 0] = np.nan
    for change, message in [
        ({"more": np.zeros(1, np.float32)}, "unexpected: \\['more'\\]"),
        ({"biases.2": np.zeros(3, np.float32)}, "biases.2 of shape \\(3,\\), expected \\(2,\\)"),
        ({"filters.2": nan}, "filters.2 that are not finite"),
        ({"filters.3": good["filters.3"].astype(np.float64)}, "filters.3 of dtype float64"),
        ({"embeddings": good["embeddings"].astype(np.int8)}, "missing: \\['embeddings.scale'\\]"),
        ({"average": good["average"].astype(np.int8)}, "missing: \\['average.scale'\\]"),
        ({"average": good["average"][:, :2]}, "average of shape"),
        ({"biases.2": good["biases.2"].astype(np.int8)}, "biases.2 of dtype int8"),
    ]:
        with pytest.raises(CheckpointError, match=message):
            CSE(config, good | change, tokenizer)
    with pytest.raises(CheckpointError, match="vocab_size 9"):
        CSE(CSEConfig(vocab_size=9), good, tokenizer)


def test_models_from_before_the_plain_average_load(tmp_path):
    encoder = make_cse()
    encoder.save(tmp_path / "new")
    new = read_checkpoint(tmp_path / "new")
    assert new.config.pop("average_dim") == 0
    write_checkpoint(tmp_path / "old", new)
    np.testing.assert_array_equal(sentenc.load(tmp_path / "old").encode(TEXTS), encoder.encode(TEXTS))
    new.config.pop("phi")
    with pytest.raises(ValueError, match=r"missing: \['phi'\]"):
        CSEConfig.from_dict({name: value for name, value in new.config.items() if name != "tables"})


def test_unknown_row():
    encoder = make_cse(spec=word_spec(), unknown="row", widths=())
    np.testing.assert_allclose(encoder.encode("xyzzy"), encoder.weight("embeddings")[0], atol=1e-6)


def test_compressed_is_close_and_small():
    encoder = make_cse("int8", embedding_dim=64, num_filters=32)
    small = encoder.compressed()
    assert np.diag(encoder.similarity(encoder.encode(TEXTS[1:]), small.encode(TEXTS[1:]))).min() > 0.999
    assert small.encode(TEXTS).tolist() == small.compressed().encode(TEXTS).tolist()


@pytest.mark.parametrize(
    "shape", [{}, {"combine": "both", "average_dim": 5, "output_dim": 10}, {"bias": True}]
)
def test_word_path_is_the_model_less_its_ngrams(shape):
    encoder = make_cse(**shape)
    weights = random_weights(encoder.config)
    weights |= {f"output.{h}": np.zeros_like(weights[f"output.{h}"]) for h in (2, 3)}
    silent = CSE(encoder.config, weights, encoder.tokenizer, tables="float32")
    words = encoder.word_path()
    assert words.dim == encoder.config.word_dim + encoder.config.average_dim
    np.testing.assert_allclose(words.encode(TEXTS), silent.encode(TEXTS)[:, : words.dim], atol=1e-6)
    small = encoder.compressed().word_path()
    np.testing.assert_allclose(small.encode(TEXTS), words.encode(TEXTS), atol=0.02)
    with pytest.raises(ValueError, match="no word path"):
        make_cse(combine="concat", word_path=False, average_dim=5).word_path()


def test_threads_do_not_change_a_bit():
    single, four = make_cse("int8", max_tokens=100), make_cse("int8", max_tokens=100)
    single.threads, four.threads = 1, 4
    texts = [f"{TEXTS[i % len(TEXTS)]} {i}" for i in range(5000)]
    np.testing.assert_array_equal(single.encode(texts), four.encode(texts))
