"""Static models as CSEs."""

import numpy as np
import pytest
from click.testing import CliRunner

import sentenc
from sentenc import CSE, NotStaticError
from sentenc.cli import cli
from tests.support.models import (
    make_bag_of_words,
    make_cse,
    make_static,
    package_spec,
    whitespace_spec,
    word_spec,
)

TEXTS = ["a man is playing the guitar", "dog ☃", "Crème, NAÏVE straße", "", "not good at all!"]
UNIT = {"normalize_embeddings": True}


@pytest.mark.parametrize(("rows", "tolerance"), [("float32", 1e-6), ("float16", 1e-3), ("int8", 2e-2)])
def test_directions_are_kept(rows, tolerance, tmp_path):
    static = make_static(normalize=True)
    result = sentenc.convert(static, rows=rows)
    assert isinstance(result.encoder, CSE)
    np.testing.assert_allclose(
        result.encoder.encode(TEXTS, **UNIT), static.encode(TEXTS), rtol=0, atol=tolerance
    )
    assert result.encoder.space == static.space
    assert result.encoder.stored_weight("embeddings")[0].dtype == rows
    result.encoder.save(tmp_path / "cse")
    loaded = sentenc.load(tmp_path / "cse")
    np.testing.assert_array_equal(loaded.encode(TEXTS), result.encoder.encode(TEXTS))


def test_int8_rows_are_taken_as_they_are():
    static = make_static(word_spec(), dtype="int8", unknown="row")
    result = sentenc.convert(static)
    np.testing.assert_allclose(result.encoder.encode(TEXTS), static.encode(TEXTS), rtol=0, atol=1e-6)
    stored, scale = result.encoder.stored_weight("embeddings")
    assert np.array_equal(stored, static.weights["embeddings"])
    assert np.array_equal(scale, static.weights["embeddings.scale"])
    assert result.changes == [
        "A text of unknown words alone has the row of the unknown token, and not the zero vector."
    ]


def test_the_command_states_what_changes(tmp_path):
    make_static(normalize=True, max_characters=300).save(tmp_path / "static")
    arguments = ["convert", str(tmp_path / "static"), "-o", str(tmp_path / "cse"), "--rows", "int8"]
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 0, result.output
    for words in (
        "is a CSE of 24 dimensions in", "not scaled to unit length", "Rows are int8: the lowest cosine", "in 7 texts",
        "at 64 tokens alone, and not at 300 characters", "Unknown words do not count", "such as [SEP], is text",
    ):  # fmt: skip
        assert words in result.output
    assert isinstance(sentenc.load(tmp_path / "cse"), CSE)


def test_other_models_are_refused_with_the_reason():
    pytest.importorskip("tokenizers")
    by_package = make_static(package_spec(), splitting="tokenizers")
    with pytest.raises(NotStaticError, match="neither WordPiece nor splits texts"):
        sentenc.convert(by_package)
    words = make_static(whitespace_spec(), splitting="whitespace")
    for other in (words, make_bag_of_words()):
        with pytest.raises(NotStaticError, match="neither WordPiece nor splits texts"):
            sentenc.convert(other)
    with pytest.raises(NotStaticError, match="pooling max, expected the mean"):
        sentenc.convert(make_static(pooling="max"))
    with pytest.raises(TypeError, match="the model is a CSE, expected a static model"):
        sentenc.convert(make_cse())
    with pytest.raises(ValueError, match="rows is 'int4'"):
        sentenc.convert(make_static(), rows="int4")


def test_training_names_the_conversion(tmp_path):
    pytest.importorskip("torch")
    from sentenc.downstream.trainable_encoder import make_trainable
    from sentenc.training.config.pretraining import StudentConfig
    from sentenc.training.initialization.build_cse import _load_model

    static = make_static()
    static.save(tmp_path / "static")
    with pytest.raises(
        ValueError, match=r"a static model, expected a CSE: .* sentenc convert .*static -o FOLDER"
    ):
        _load_model(StudentConfig(kind="cse", init=str(tmp_path / "static")))
    with pytest.raises(
        ValueError, match=r"cannot be fine-tuned, expected a CSE or a BERT: use sentenc\.convert"
    ):
        make_trainable(static, ["dog"], init="weights", rng=np.random.default_rng(0))
