"""Prompts, the roles of texts, and the space of vectors, for every encoder."""

import copy
import pickle
import warnings
from collections.abc import Mapping

import numpy as np
import pytest

import sentenc
from sentenc import (
    CheckpointError,
    Encoder,
    HybridEncoder,
    PairEncoder,
    SentenceTransformerEncoder,
    TextTooLongError,
    TruncationWarning,
)
from tests.support.models import make_bert, make_cse

TEXTS = ["a man is playing the guitar", "", "dog", "☃ ☃☃", "you and the cat in the park"]
KNOWN = [0, 2, 4]
PROMPTS = {"query": "the word: ", "document": "good ", "other": "market "}
CLOSE = {"rtol": 0, "atol": 1e-5}


def with_prompts(encoder: Encoder, prompts: dict[str, str] = PROMPTS) -> Encoder:
    twin = copy.deepcopy(encoder)
    if isinstance(twin, SentenceTransformerEncoder):
        twin.model.prompts = dict(prompts)
    else:
        twin.metadata = dict(twin.metadata) | {"prompts": dict(prompts)}
    return twin


@pytest.fixture(scope="module")
def encoder(encoder):
    if isinstance(encoder, PairEncoder | HybridEncoder):
        pytest.skip("its prompts and its space are those of its encoders")
    return encoder


@pytest.fixture(scope="module")
def prompted(encoder):
    return with_prompts(encoder)


def expected(encoder, prompt, **options):
    """The vectors of the texts with a prompt before each; texts without known tokens have zero vectors."""
    vectors = encoder.encode([prompt + text for text in TEXTS], **options)
    vectors[[row for row in range(len(TEXTS)) if row not in KNOWN]] = 0
    return vectors


def test_without_prompts_the_roles_are_encoded_alike(encoder):
    assert isinstance(encoder.prompts, Mapping)
    assert dict(encoder.prompts) == {}
    with pytest.raises(TypeError):
        encoder.prompts["query"] = "a "
    options = {"truncate_dim": 5, "normalize_embeddings": True, "dtype": "float64", "batch_size": 2}
    for encode in (encoder.encode_query, encoder.encode_document):
        assert np.array_equal(encode(TEXTS), encoder.encode(TEXTS))
        assert np.array_equal(encode(TEXTS[0], **options), encoder.encode(TEXTS[0], **options))
    assert encoder.for_role("query") == (encoder, None)
    with pytest.raises(ValueError, match="prompt_name is 'query', expected None, because the model has no"):
        encoder.encode(TEXTS, prompt_name="query")


def test_a_prompt_is_put_before_every_text(encoder, prompted):
    assert dict(prompted.prompts) == PROMPTS
    assert np.array_equal(prompted.encode(TEXTS), encoder.encode(TEXTS))
    for name, prompt in PROMPTS.items():
        vectors = prompted.encode(TEXTS, prompt_name=name)
        np.testing.assert_allclose(vectors, expected(encoder, prompt), **CLOSE)
        assert not np.allclose(vectors[KNOWN], encoder.encode(TEXTS)[KNOWN], **CLOSE)
        np.testing.assert_allclose(prompted.encode(TEXTS[0], prompt_name=name), vectors[0], **CLOSE)
    for name in ("queries", "", 3):
        with pytest.raises(
            ValueError, match=f"prompt_name is {name!r}, expected 'query' or 'document' or 'other'"
        ):
            prompted.encode(TEXTS, prompt_name=name)


def test_a_role_uses_its_prompt(encoder, prompted):
    np.testing.assert_allclose(prompted.encode_query(TEXTS), expected(encoder, PROMPTS["query"]), **CLOSE)
    np.testing.assert_allclose(
        prompted.encode_document(TEXTS), expected(encoder, PROMPTS["document"]), **CLOSE
    )
    assert prompted.for_role("document") == (prompted, "document")
    with pytest.raises(ValueError, match="role is 'passage'"):
        prompted.for_role("passage")
    queries = with_prompts(encoder, {"query": "the word: "})
    assert np.array_equal(queries.encode_document(TEXTS), queries.encode(TEXTS))
    # A model with prompts that states none for a role has an empty one, as in sentence-transformers.
    np.testing.assert_allclose(queries.encode(TEXTS, prompt_name="document"), queries.encode(TEXTS), **CLOSE)


def test_the_roles_take_the_options_of_encode(encoder, prompted):
    options = {"truncate_dim": 5, "normalize_embeddings": True, "dtype": "float16", "batch_size": 2}
    out = np.zeros((len(TEXTS), 5), np.float16)
    for encode, role in ((prompted.encode_query, "query"), (prompted.encode_document, "document")):
        assert encode(TEXTS, out=out, **options) is out
        np.testing.assert_allclose(out, expected(encoder, PROMPTS[role], **options), rtol=0, atol=2e-3)
        assert encode([]).shape == (0, encoder.dim)
        with pytest.raises(TypeError, match=r"texts\[1\] is NoneType"):
            encode(["a", None])
        with pytest.raises(ValueError, match="truncate_dim is 0"):
            encode(TEXTS, truncate_dim=0)


def test_a_prompt_counts_as_part_of_the_text(prompted):
    extra = int(prompted.count_tokens("")[0])
    fits = " ".join(["dog"] * (prompted.max_tokens - extra))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        prompted.encode(fits)
    with pytest.warns(TruncationWarning, match="1 text ") as seen:
        prompted.encode_query(["dog", fits])
    assert [warning.filename for warning in seen] == [__file__]
    with pytest.raises(TextTooLongError, match="1 text "):
        prompted.encode_query(["dog", fits], on_overflow="error")
    _, counts = prompted.encode_with_token_counts([*TEXTS, fits], prompt_name="query")
    assert np.array_equal(counts, prompted.count_tokens([PROMPTS["query"] + text for text in [*TEXTS, fits]]))


def test_streams_and_counts_take_prompts(encoder, prompted):
    vectors, _ = prompted.encode_with_token_counts(TEXTS, prompt_name="query")
    np.testing.assert_allclose(vectors, expected(encoder, PROMPTS["query"]), **CLOSE)
    blocks = prompted.encode_iter(iter(TEXTS), prompt_name="document")
    np.testing.assert_allclose(np.concatenate(list(blocks)), expected(encoder, PROMPTS["document"]), **CLOSE)
    with pytest.raises(ValueError, match="prompt_name is 'b'"):
        prompted.encode_iter(TEXTS, prompt_name="b")


def test_prompts_change_the_fingerprint_and_not_the_space(encoder, prompted):
    assert prompted.space == encoder.space
    others = [with_prompts(encoder, {"query": text}) for text in ("", "a ", "b ")]
    assert len({other.fingerprint() for other in [encoder, prompted, *others]}) == 4
    assert others[0].fingerprint() == encoder.fingerprint()


def test_prompts_are_saved_copied_and_pickled(prompted, tmp_path):
    prompted.save(tmp_path / "model")
    backend = "torch" if isinstance(prompted, SentenceTransformerEncoder) else None
    for twin in (
        sentenc.load(tmp_path / "model", backend=backend), pickle.loads(pickle.dumps(prompted)),
    ):  # fmt: skip
        assert dict(twin.prompts) == PROMPTS
        assert np.array_equal(twin.encode_query(TEXTS), prompted.encode_query(TEXTS))
        assert twin.fingerprint() == prompted.fingerprint() or backend  # a folder's name is in the latter


def test_a_stated_space_is_that_of_the_encoder(encoder, tmp_path):
    twin = copy.deepcopy(encoder)
    twin.metadata = dict(twin.metadata) | {"space": "joint-384"}
    assert twin.space == "joint-384"
    assert twin.fingerprint() == encoder.fingerprint()
    twin.save(tmp_path / "model")
    backend = "torch" if isinstance(encoder, SentenceTransformerEncoder) else None
    assert sentenc.load(tmp_path / "model", backend=backend).space == "joint-384"


@pytest.mark.parametrize("make", [make_cse, make_bert])
@pytest.mark.parametrize("prompts", [["a "], {"query": 3}, "a "])
def test_bad_metadata_are_named(make, prompts):
    encoder = make()
    encoder.metadata = {"prompts": prompts, "space": ""}
    with pytest.raises(CheckpointError, match="prompts"):
        encoder.encode_query("a")
    with pytest.raises(CheckpointError, match="space ''"):
        _ = encoder.space


def test_the_default_prompt_of_a_wrapped_model_gives_way_to_others(tmp_path):
    pytest.importorskip("sentence_transformers")
    from tests.support.models import make_sentence_transformer

    plain = SentenceTransformerEncoder(make_sentence_transformer(tmp_path / "plain"))
    model = make_sentence_transformer(tmp_path / "default")
    model.prompts, model.default_prompt_name = {"query": "", "document": "good "}, "document"
    encoder = SentenceTransformerEncoder(model)
    np.testing.assert_allclose(encoder.encode(TEXTS), expected(plain, "good "), **CLOSE)
    np.testing.assert_allclose(encoder.encode_document(TEXTS), expected(plain, "good "), **CLOSE)
    np.testing.assert_allclose(encoder.encode_query(TEXTS), plain.encode(TEXTS), **CLOSE)
