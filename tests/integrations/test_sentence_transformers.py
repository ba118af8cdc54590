"""Encoders as SentenceTransformers: their vectors, roles, functions and evaluators, and the folders that load."""

import json
import pickle
import subprocess
import sys

import numpy as np
import pytest

import sentenc
from sentenc import CheckpointError
from tests.support.models import make_bert, make_cse, make_sentence_transformer
from tests.support.pairs import make_pair, with_prompts

pytest.importorskip("sentence_transformers", minversion="5.4")

import sentence_transformers
from sentence_transformers import util
from sentence_transformers.sentence_transformer.evaluation import EmbeddingSimilarityEvaluator

TEXTS = ["a man is playing the guitar", "the stock market fell", "", "someone plays", "unheard-of", "dog"]


def stock(folder, **options):
    return sentence_transformers.SentenceTransformer(
        str(folder), device="cpu", local_files_only=True, **options
    )


def cosines(a, b):
    norms = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    return (a * b).sum(axis=1)[norms > 0] / norms[norms > 0]


@pytest.mark.parametrize("make", [make_cse, make_bert, make_pair])
def test_vectors_are_those_of_the_encoder(make):
    encoder = make()
    model = encoder.to_sentence_transformers()
    np.testing.assert_allclose(model.encode(TEXTS), encoder.encode(TEXTS), atol=1e-6)
    np.testing.assert_allclose(model.encode(TEXTS[0]), encoder.encode(TEXTS[0]), atol=1e-6)
    options = {"truncate_dim": 5, "normalize_embeddings": True}
    np.testing.assert_allclose(model.encode(TEXTS, **options), encoder.encode(TEXTS, **options), atol=1e-6)
    np.testing.assert_allclose(
        model.similarity(model.encode(TEXTS[:2]), model.encode(TEXTS)),
        encoder.similarity(TEXTS[:2], TEXTS),
        atol=1e-5,
    )
    assert model.get_embedding_dimension() == encoder.similarity_dim
    assert model.max_seq_length == encoder.max_tokens
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(model)).encode(TEXTS), model.encode(TEXTS))


def test_features_for_classifiers_are_left_out_by_default():
    encoder = make_cse("int8", combine="both", average_dim=6)
    columns = encoder.to_sentence_transformers().encode(TEXTS)
    np.testing.assert_array_equal(columns, encoder.encode(TEXTS, truncate_dim=encoder.similarity_dim))
    every = encoder.to_sentence_transformers(truncate_dim=encoder.dim)
    np.testing.assert_array_equal(every.encode(TEXTS), encoder.encode(TEXTS))
    with pytest.raises(ValueError, match="truncate_dim"):
        encoder.to_sentence_transformers(truncate_dim=encoder.dim + 1)


def test_roles_have_their_prompts():
    encoder = with_prompts(make_bert(), query="someone : ", document="the ", other="a ")
    model = encoder.to_sentence_transformers()
    assert model.prompts == {"query": "someone : ", "document": "the ", "other": "a "}
    np.testing.assert_allclose(model.encode_query(TEXTS), encoder.encode_query(TEXTS), atol=1e-6)
    np.testing.assert_allclose(model.encode_document(TEXTS), encoder.encode_document(TEXTS), atol=1e-6)
    named = encoder.encode(TEXTS, prompt_name="other")
    np.testing.assert_allclose(model.encode(TEXTS, prompt_name="other"), named, atol=1e-6)
    literal = encoder.encode([f"not {text}" for text in TEXTS])
    np.testing.assert_allclose(model.encode(TEXTS, prompt="not "), literal, atol=1e-6)


def test_each_role_of_a_pair_has_its_encoder(tmp_path):
    pair = make_pair(widths=(2,), combine="both", average_dim=6)
    model = pair.to_sentence_transformers()
    model.save(str(tmp_path / "model"))
    for each in (model, stock(tmp_path / "model", trust_remote_code=True)):
        np.testing.assert_allclose(each.encode_query(TEXTS), pair.encode_query(TEXTS), atol=1e-6)
        np.testing.assert_allclose(each.encode_document(TEXTS), pair.encode_document(TEXTS), atol=1e-6)


def test_functions_and_evaluators_of_sentence_transformers():
    encoder = make_cse("int8")
    model = encoder.to_sentence_transformers()
    hits = util.semantic_search(model.encode(TEXTS[:1]), model.encode(TEXTS), top_k=1)
    assert hits[0][0]["corpus_id"] == 0
    assert len(util.paraphrase_mining(model, TEXTS)) == 15
    scores = encoder.similarity(TEXTS[:1], TEXTS[1:4])[0].tolist()
    evaluator = EmbeddingSimilarityEvaluator(TEXTS[:1] * 3, TEXTS[1:4], scores, write_csv=False)
    assert evaluator(model)["spearman_cosine"] == pytest.approx(1.0)


def test_saved_folder_loads_in_both_libraries(tmp_path):
    encoder = make_cse("int8", combine="both", average_dim=6)
    encoder.to_sentence_transformers(truncate_dim=7).save(str(tmp_path / "saved"))
    assert not encoder.save_sentence_transformers(tmp_path / "written")
    for name, columns in (("saved", 7), ("written", encoder.similarity_dim)):
        folder = tmp_path / name
        with pytest.raises(ValueError, match="trust_remote_code"):
            stock(folder)
        model = stock(folder, trust_remote_code=True)
        np.testing.assert_array_equal(model.encode(TEXTS), encoder.encode(TEXTS, truncate_dim=columns))
        again = sentenc.load(folder)
        assert again.fingerprint() == encoder.fingerprint()
    # A folder is replaced, unless it contains something else.
    assert not encoder.save_sentence_transformers(tmp_path / "written")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="folder of sentence-transformers"):
        encoder.save_sentence_transformers(tmp_path / "other")


@pytest.mark.parametrize("shape", [{}, {"output_dim": 10}, {"tables": "int8"}])
def test_words_alone_are_a_stock_static_embedding(tmp_path, shape):
    encoder = make_cse(**{"widths": ()} | shape)
    if "tables" in shape:
        encoder = encoder.compressed()
    encoder.metadata = {"name": "words", "prompts": {"query": "the "}}
    assert encoder.save_sentence_transformers(tmp_path / "model")
    modules = json.loads((tmp_path / "model" / "modules.json").read_text())
    assert all(module["type"].startswith("sentence_transformers.models.") for module in modules)
    stated = json.loads((tmp_path / "model" / "config_sentence_transformers.json").read_text())
    assert ("requirements" in stated) == ("tables" in shape)
    model = stock(tmp_path / "model")
    for vectors, own in (
        (model.encode(TEXTS), encoder.encode(TEXTS)),
        (model.encode_query(TEXTS), encoder.encode_query(TEXTS)),
    ):
        norms = np.linalg.norm(vectors, axis=1)
        np.testing.assert_allclose(norms[np.linalg.norm(own, axis=1) > 0], 1, atol=1e-5)
        np.testing.assert_allclose(cosines(vectors, own), 1, atol=1e-5)
    again = sentenc.load(tmp_path / "model")
    assert again.metadata["name"] == "words"
    np.testing.assert_allclose(cosines(again.encode(TEXTS), encoder.encode(TEXTS)), 1, atol=1e-5)


def test_a_bert_is_a_stock_transformer(tmp_path):
    encoder = make_bert()
    assert encoder.save_sentence_transformers(tmp_path / "model")
    np.testing.assert_allclose(
        stock(tmp_path / "model").encode(TEXTS[:2]), encoder.encode(TEXTS[:2]), atol=1e-5
    )
    wrapped = sentenc.SentenceTransformerEncoder(make_sentence_transformer(tmp_path))
    assert wrapped.save_sentence_transformers(tmp_path / "wrapped")
    np.testing.assert_array_equal(stock(tmp_path / "wrapped").encode(TEXTS[:2]), wrapped.encode(TEXTS[:2]))


def test_folders_are_written_without_torch(tmp_path):
    code = (
        "import sys\nsys.modules['torch'] = sys.modules['sentence_transformers'] = None\n"
        "import sentenc\nencoder = sentenc.load('cse-en-tiny')\n"
        f"print(encoder.save_sentence_transformers({str(tmp_path / 'model')!r}))\n"
        f"print(sentenc.load({str(tmp_path / 'model')!r}).fingerprint() == encoder.fingerprint())\n"
        "try:\n    encoder.to_sentence_transformers()\n"
        "except sentenc.MissingExtraError as error:\n    print('sentenc[sentence-transformers]' in str(error))"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (result.stdout.split(), result.stderr) == (["False", "True", "True"], "")
