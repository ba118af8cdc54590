"""Averages of fine-tuned models."""

import numpy as np
import pytest
from click.testing import CliRunner

import sentenc
from sentenc import CSE, BertEncoder
from sentenc.cli import cli
from sentenc.training.students.cse_rotation import map_output
from sentenc.training.students.model_soup import average_berts, average_models
from tests.support.models import WORDS, make_bert, make_cse, word_spec
from tests.support.pairs import in_space, with_prompts

TEXTS = ["the dog runs", "a cat fell in the park", "the man is playing the guitar", "stock market", ""]
SHAPES = {
    "residual": {},
    "both": {"combine": "both", "average_dim": 6},
    "projected": {"output_dim": 12},
    "words": {"widths": ()},
}


def weights_of(model):
    return {name: model.weight(name) for name in model.config.shapes()}


def refined(model, seed, strength=0.02):
    """Returns the model with a little noise and a rotated output."""
    rng = np.random.default_rng(seed)
    weights = {
        name: (weight + rng.normal(0, strength * np.abs(weight).mean(), weight.shape)).astype(np.float32)
        if name != "average"
        else weight
        for name, weight in weights_of(model).items()
    }
    rotation = np.linalg.qr(rng.normal(size=(model.config.word_dim,) * 2))[0]
    config, weights = map_output(model.config, weights, rotation)
    return CSE(config, weights, model.tokenizer, tables="float32")


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_the_mean_of_rotated_copies_is_the_model(shape):
    model = make_cse(**shape)
    mean = average_models([refined(model, seed, 0) for seed in range(3)])
    vectors, expected = mean.encode(TEXTS), model.encode(TEXTS)
    np.testing.assert_allclose(
        mean.similarity(vectors, vectors), model.similarity(expected, expected), atol=0.01
    )
    assert mean.config == model.config
    assert not vectors[-1].any()


def test_the_mean_is_closer_to_the_original_than_its_parts():
    model = make_cse(combine="both", average_dim=6)
    rng = np.random.default_rng(0)
    texts = [" ".join(rng.choice(WORDS, 6)) for _ in range(100)]
    expected = model.similarity(v := model.encode(texts), v)

    def off(encoder):
        vectors = encoder.encode(texts)
        return float(np.abs(encoder.similarity(vectors, vectors) - expected).mean())

    parts = [refined(model, seed, 0.3) for seed in range(8)]
    # Independent errors shrink by the root of their number, 2.8; int8 adds a little.
    assert off(average_models(parts)) < 0.6 * np.mean([off(part) for part in parts])


def test_the_plain_average_stays_and_the_axes_are_the_first_models():
    model = make_cse(combine="both", average_dim=6)
    first, second = refined(model, 1), refined(model, 2)
    mean = average_models([first, second])
    np.testing.assert_allclose(mean.weight("average"), first.weight("average"), atol=0.05)
    assert mean.tables == first.tables == "float32"
    rows = mean.weight("embeddings") - first.weight("embeddings")
    assert np.linalg.norm(rows) < 0.1 * np.linalg.norm(first.weight("embeddings"))


def test_tables_are_of_the_first_models_kind():
    models = [CSE(m.config, weights_of(m), m.tokenizer, tables="int8") for m in (make_cse(), make_cse())]
    assert average_models(models).tables == "int8"


@pytest.mark.parametrize(
    ("models", "message"),
    [
        (lambda: [make_cse()], "got 1 models, expected at least 2"),
        (lambda: [make_cse(), make_cse(num_filters=4)], "model 1 has another shape or tokenizer"),
        (lambda: [make_cse(), make_cse(spec=word_spec())], "model 1 has another shape or tokenizer"),
        (lambda: [make_cse(combine="concat")] * 2, "combine is 'concat'"),
    ],
)
def test_models_that_cannot_be_averaged_are_refused(models, message):
    with pytest.raises(ValueError, match=message):
        average_models(models())


def test_an_unrelated_model_is_refused():
    model = make_cse()
    weights = weights_of(model)
    rng = np.random.default_rng(0)
    weights["embeddings"] = rng.permuted(weights["embeddings"], axis=0)
    with pytest.raises(ValueError, match="model 1 differ from those of model 0"):
        average_models([model, CSE(model.config, weights, model.tokenizer)])


def test_the_command_writes_a_model(tmp_path):
    model = make_cse()
    names = []
    for seed in range(2):
        names.append(str(tmp_path / f"refined-{seed}"))
        refined(model, seed).save(names[-1])
    result = CliRunner().invoke(cli, ["average", *names, "-o", str(tmp_path / "mean")])
    assert result.exit_code == 0, result.output
    assert "2 models" in result.output
    assert sentenc.load(tmp_path / "mean").dim == model.dim


def test_the_command_refuses_what_it_cannot_average(tmp_path):
    make_cse().save(tmp_path / "a")
    make_bert().save_compact(tmp_path / "b")
    result = CliRunner().invoke(cli, ["average", str(tmp_path / "a"), "-o", str(tmp_path / "c")])
    assert result.exit_code == 2
    assert "expected at least 2" in result.output
    result = CliRunner().invoke(
        cli, ["average", str(tmp_path / "a"), str(tmp_path / "b"), "-o", str(tmp_path / "c")]
    )
    assert result.exit_code == 1
    assert "BertEncoder, expected only CSEs or only BertEncoders" in result.output
    result = CliRunner().invoke(
        cli, ["average", *[str(tmp_path / "a")] * 2, "--weight", "1", "-o", str(tmp_path / "c")]
    )
    assert "weights is [1.0], expected 2 positive numbers, one for each model" in str(result.exception)
    assert not (tmp_path / "c").exists()


def changed(model, factor, **metadata):
    """Returns the BERT with all weights multiplied."""
    weights = {name: weight * np.float32(factor) for name, weight in weights_of(model).items()}
    return BertEncoder(model.config, weights, model.tokenizer, metadata=model.metadata | metadata)


def test_the_mean_of_berts_is_that_of_their_weights():
    model = with_prompts(in_space(make_bert()), query="query: ")
    for weights, factor in ((None, 1.1), ((3, 1), 1.05)):
        mean = average_berts([changed(model, 1), changed(model, 1.2)], weights=weights)
        for name, weight in weights_of(model).items():
            np.testing.assert_allclose(mean.weight(name), factor * weight, rtol=1e-5)
        assert (mean.space, mean.prompts) == (model.space, model.prompts)
    assert mean.metadata["shares"] == [0.75, 0.25]


@pytest.mark.parametrize(
    ("other", "options", "message"),
    [
        (lambda: make_bert(hidden_size=16), {}, "model 1 has another shape or tokenizer"),
        (lambda: in_space(make_bert(), "elsewhere"), {}, "the space 'elsewhere', expected .* 'a-space'"),
        (make_bert, {}, "the space None, expected"),
        (lambda: with_prompts(in_space(make_bert()), query="q: "), {}, "has the prompts {'query': 'q: '}"),
        (lambda: changed(in_space(make_bert()), -1), {}, "model 1 differ from those of model 0"),
        (lambda: in_space(make_bert()), {"weights": [1]}, r"weights is \[1\], expected 2 positive numbers"),
        (lambda: in_space(make_bert()), {"weights": [1, 0]}, "expected 2 positive numbers"),
        (lambda: in_space(make_bert()), {"weights": [1, float("nan")]}, "expected 2 positive numbers"),
    ],
)
def test_berts_that_cannot_be_averaged_are_refused(other, options, message):
    with pytest.raises(ValueError, match=message):
        average_berts([in_space(make_bert()), other()], **options)


def test_the_command_averages_berts(tmp_path):
    model = make_bert()
    for name, factor in (("a", 1), ("b", 1.2)):
        changed(model, factor).save(tmp_path / name)
    names = [str(tmp_path / name) for name in "ab"]
    result = CliRunner().invoke(cli, ["average", *names, "-w", "1", "-w", "3", "-o", str(tmp_path / "mean")])
    assert result.exit_code == 0, result.output
    mean = sentenc.load(tmp_path / "mean")
    np.testing.assert_allclose(
        mean.weight("embeddings.word_embeddings.weight"), 1.15 * model.token_embeddings(), rtol=1e-3
    )


def test_weights_of_cses_count():
    model = make_cse()
    parts = [model, CSE(model.config, {k: 1.2 * w for k, w in weights_of(model).items()}, model.tokenizer)]
    rows = average_models(parts, weights=[1, 3]).weight("embeddings")
    np.testing.assert_allclose(rows, 1.15 * model.weight("embeddings"), atol=0.02 * np.abs(rows).max())
