"""Pairs of encoders: roles, laziness, folders."""

import json
import pickle
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import Mock

import numpy as np
import pytest
from click.testing import CliRunner

import sentenc
from sentenc import CheckpointError, PairEncoder
from sentenc.checkpoint import read_checkpoint
from sentenc.cli import cli
from sentenc.encoders.lazy import LazyEncoder
from tests.support.models import make_bert, make_cse
from tests.support.pairs import in_space, make_pair, with_prompts

TEXTS = ["a man is playing the guitar", "someone plays an instrument!", "", "dog", "☃"]
CLOSE = {"rtol": 0, "atol": 1e-5}


@pytest.fixture(scope="module")
def pair():
    return make_pair()


@pytest.fixture
def saved(pair, tmp_path):
    pair.save(tmp_path / "pair")
    return tmp_path / "pair"


def loaded_halves(pair):
    return [name for name, half in pair.halves.items() if half.is_loaded]


def test_each_role_has_its_encoder(pair):
    np.testing.assert_allclose(pair.encode_query(TEXTS), pair.queries.encode(TEXTS), **CLOSE)
    np.testing.assert_allclose(pair.encode_document(TEXTS), pair.documents.encode(TEXTS), **CLOSE)
    np.testing.assert_allclose(pair.encode(TEXTS), pair.documents.encode(TEXTS), **CLOSE)
    assert not np.allclose(pair.encode_query(TEXTS), pair.encode(TEXTS), atol=0.1)
    assert pair.max_tokens == pair.documents.max_tokens != pair.queries.max_tokens
    assert pair.encode_query("dog").shape == (24,)


def test_each_role_has_the_prompt_of_its_encoder():
    documents = with_prompts(in_space(make_bert()), query="dog ", document="the ")
    pair = PairEncoder(documents, with_prompts(in_space(make_cse(widths=())), query="cat "))
    np.testing.assert_allclose(pair.encode_query("man"), pair.queries.encode("cat man"), **CLOSE)
    np.testing.assert_allclose(pair.encode_document("man"), documents.encode("the man"), **CLOSE)
    np.testing.assert_allclose(pair.encode("man"), documents.encode("man"), **CLOSE)
    np.testing.assert_allclose(pair.encode("man", prompt_name="query"), documents.encode("dog man"), **CLOSE)
    assert dict(pair.prompts) == {"query": "dog ", "document": "the "}


def test_features_are_left_out():
    queries = make_cse(widths=(2,), combine="both", average_dim=6)
    pair = PairEncoder(in_space(make_bert()), in_space(queries))
    assert (pair.dim, pair.similarity_dim, queries.dim) == (24, 24, 38)
    assert pair.encode_query(TEXTS).shape == (5, 24)
    np.testing.assert_array_equal(pair.encode_query(TEXTS), queries.encode(TEXTS, truncate_dim=24))
    unit = pair.encode_query("dog", normalize_embeddings=True)
    np.testing.assert_allclose(np.linalg.norm(unit), 1, **CLOSE)
    reverse = PairEncoder(queries, in_space(make_bert()))
    np.testing.assert_array_equal(reverse.encode(TEXTS), queries.encode(TEXTS, truncate_dim=24))
    assert reverse.encode_document(TEXTS, truncate_dim=5).shape == (5, 5)


def test_queries_may_be_fitted_to_the_leading_components(tmp_path):
    documents = in_space(make_bert())
    pair = PairEncoder(documents, in_space(make_cse(embedding_dim=10, widths=()), "a-space[:10]"))
    assert (pair.dim, pair.space) == (10, "a-space[:10]")
    np.testing.assert_array_equal(pair.encode(TEXTS), documents.encode(TEXTS, truncate_dim=10))
    pair.save(tmp_path / "pair")
    twin = sentenc.load(tmp_path / "pair")
    np.testing.assert_array_equal(twin.encode_document(TEXTS), pair.encode(TEXTS))
    assert not (tmp_path / "pair" / "modules.json").exists()
    with pytest.raises(ValueError, match="expected two encoders of one space"):
        PairEncoder(documents, in_space(make_cse(embedding_dim=9, widths=()), "a-space[:10]"))


def test_encoders_of_other_spaces_are_refused_by_name():
    named = in_space(make_cse(), "another", name="mine")
    with pytest.raises(ValueError, match=r"BertEncoder of space 'a-space'.*CSE 'mine' of space 'another'"):
        PairEncoder(in_space(make_bert()), named)
    with pytest.raises(ValueError, match="expected two encoders of one space"):
        sentenc.pair(make_bert(), make_cse())
    with pytest.raises(ValueError, match=r"with 24 components to compare.*with 12"):
        PairEncoder(in_space(make_bert()), in_space(make_cse(embedding_dim=12, widths=())))
    with pytest.raises(TypeError, match=r"queries is str, expected an Encoder"):
        PairEncoder(make_bert(), "queries")
    with pytest.raises(TypeError, match=r"documents is PairEncoder, expected an Encoder that is not a pair"):
        PairEncoder(make_pair(), make_pair())


def test_an_encoder_is_loaded_when_it_is_used(saved):
    pair = sentenc.load(saved)
    facts = pair.dim, pair.max_tokens, pair.space, dict(pair.prompts), pair.fingerprint(), pair.metadata
    assert loaded_halves(pair) == []
    assert facts[0:3] == (24, 48, "a-space")
    pair.encode_query(TEXTS)
    assert loaded_halves(pair) == ["queries"]
    twin = pickle.loads(pickle.dumps(sentenc.load(saved)))
    twin.encode(TEXTS)
    assert loaded_halves(twin) == ["documents"]


def test_threads_load_an_encoder_once():
    loads = []

    def load():
        loads.append(threading.get_ident())
        started.wait(30)
        return make_cse()

    started = threading.Event()
    source = LazyEncoder(load)
    with ThreadPoolExecutor(8) as pool:
        encoders = [pool.submit(lambda: source.encoder) for _ in range(8)]
        assert not source.is_loaded
        started.set()
        assert len({id(each.result()) for each in encoders}) == 1
    assert len(loads) == 1
    assert source.is_loaded


def test_a_load_that_fails_is_repeated():
    source = LazyEncoder(Mock(side_effect=[OSError("gone"), make_cse()]))
    with pytest.raises(OSError, match="gone"):
        _ = source.encoder
    assert source.encoder.dim == 24


def test_a_folder_has_both_encoders(pair, saved):
    twin = sentenc.load(saved, threads=1)
    assert twin.fingerprint() == pair.fingerprint()
    assert (twin.space, twin.metadata) == (pair.space, {"hybrid_alpha": 0.3})
    np.testing.assert_array_equal(twin.encode_query(TEXTS), pair.encode_query(TEXTS))
    np.testing.assert_array_equal(twin.encode_document(TEXTS), pair.encode_document(TEXTS))
    assert [encoder.fingerprint() for encoder in (twin.documents, twin.queries)] == [
        encoder.fingerprint() for encoder in (pair.documents, pair.queries)
    ]
    assert twin.documents.threads == twin.queries.threads == 1
    np.testing.assert_array_equal(sentenc.load(saved / "queries").encode(TEXTS), pair.encode_query(TEXTS))
    np.testing.assert_array_equal(sentenc.load(saved / "documents").encode(TEXTS), pair.encode(TEXTS))


def test_a_loaded_pair_is_saved_again(saved, tmp_path):
    pair = sentenc.load(saved)
    pair.card = "# A pair"
    pair.save(tmp_path / "copy")
    assert sentenc.load(tmp_path / "copy").fingerprint() == pair.fingerprint()
    assert sentenc.load(tmp_path / "copy").card == "# A pair"
    pair.save(saved)  # over the folder that it was loaded from
    np.testing.assert_array_equal(sentenc.load(saved).encode_query(TEXTS), pair.encode_query(TEXTS))


@pytest.mark.parametrize("make", [lambda: make_cse(widths=(2,)), lambda: make_bert(num_hidden_layers=1)])
def test_any_two_encoders_are_a_pair(make, tmp_path):
    pair = PairEncoder(in_space(make_bert("int8")), in_space(make()))
    pair.save(tmp_path / "pair")
    assert not (tmp_path / "pair" / "modules.json").exists()
    np.testing.assert_array_equal(
        sentenc.load(tmp_path / "pair").encode_query(TEXTS), pair.encode_query(TEXTS)
    )
    assert sentenc.verify(tmp_path / "pair").texts == 8
    assert sentenc.load(tmp_path / "pair", compute="float32").documents.compute == "float32"
    assert sentenc.load(tmp_path / "pair").documents.compute == "int8"


@pytest.mark.parametrize(("stored", "other"), [("int8", "float32"), ("float32", "int8")])
def test_the_fingerprint_depends_on_compute(stored, other, tmp_path):
    documents = in_space(make_bert(stored))
    PairEncoder(documents, in_space(make_cse(widths=()))).save(tmp_path / "pair")
    plain = sentenc.load(tmp_path / "pair")
    same, changed = (sentenc.load(tmp_path / "pair", compute=compute) for compute in (stored, other))
    assert plain.fingerprint() == same.fingerprint() != changed.fingerprint()
    assert loaded_halves(plain) == []
    assert plain.space == changed.space
    assert changed.fingerprint() == PairEncoder(documents.with_compute(other), plain.queries).fingerprint()
    changed.save(tmp_path / "changed")
    assert sentenc.load(tmp_path / "changed").fingerprint() == changed.fingerprint()
    np.testing.assert_array_equal(sentenc.load(tmp_path / "changed").encode(TEXTS), changed.encode(TEXTS))
    assert sentenc.verify(tmp_path / "changed").texts == 8


def test_a_shipped_model_with_another_compute_is_not_referred_to(tmp_path):
    pair = sentenc.load("pair-en", compute="float32")
    pair.save(tmp_path / "float32", references=True)
    assert (tmp_path / "float32" / "documents").exists()
    assert sentenc.load(tmp_path / "float32").documents.compute == "float32"


def test_a_shipped_model_may_be_referred_to(tmp_path):
    queries = in_space(make_cse(embedding_dim=160, widths=()), sentenc.load("cse-en-tiny").space)
    pair = sentenc.pair("cse-en-tiny", queries)
    pair.save(tmp_path / "small", references=True)
    assert not (tmp_path / "small" / "documents").exists()
    small = sentenc.load(tmp_path / "small")
    np.testing.assert_array_equal(small.encode(TEXTS), pair.encode(TEXTS))
    small.save(tmp_path / "smaller", references=True)
    assert not (tmp_path / "smaller" / "documents").exists()
    small.save(tmp_path / "whole")
    assert (tmp_path / "whole" / "documents" / "config.json").exists()
    assert sentenc.load(tmp_path / "whole").fingerprint() == pair.fingerprint()
    for change, message in (({"fingerprint": "0" * 16}, "ships one of fingerprint"), ({"model": "x"}, "'x'")):
        config = json.loads((tmp_path / "smaller" / "config.json").read_text())
        config["config"]["documents"] |= change
        (tmp_path / "smaller" / "config.json").write_text(json.dumps(config))
        with pytest.raises(CheckpointError, match=message):
            sentenc.load(tmp_path / "smaller").encode("dog")


def test_verify_sees_a_changed_half(saved):
    assert sentenc.verify(saved).max_difference < 1e-4
    other = in_space(make_cse(widths=(), tables="int8"), hybrid_alpha=0.3)
    other.save(saved / "queries")
    with pytest.raises(CheckpointError, match=r"queries has the fingerprint"):
        sentenc.verify(saved)
    golden = read_checkpoint(saved).golden
    assert np.shape(golden["queries"]) == np.shape(golden["embeddings"]) == (8, 24)


def test_info_describes_both_encoders(saved):
    result = CliRunner().invoke(cli, ["info", str(saved), "--json"])
    described = json.loads(result.stdout)
    pair = sentenc.load(saved)
    assert described["kind"] == "pair"
    assert (described["space"], described["fingerprint"]) == (pair.space, pair.fingerprint())
    halves = described["config"]
    assert [halves[name]["class"] for name in ("documents", "queries")] == ["BertEncoder", "CSE"]
    assert halves["queries"]["parameters"] == pair.queries.config.vocab_size * 25
    assert described["parameters"] == sum(half["parameters"] for half in halves.values())
    files = [path for path in saved.rglob("*") if path.is_file()]
    assert described["megabytes"] == round(sum(path.stat().st_size for path in files) / 1e6, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": "24"}, "dim '24'"),
        ({"queries": None}, "queries None, expected an object"),
        ({"documents": {"model": None}}, "documents"),
    ],
)
def test_a_damaged_configuration_is_refused(saved, change, message):
    config = json.loads((saved / "config.json").read_text())
    config["config"] |= change
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        sentenc.load(saved)


def test_a_damaged_number_of_tokens_is_named(saved):
    config = json.loads((saved / "config.json").read_text())
    config["config"]["queries"]["max_tokens"] = "64"
    (saved / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=r"queries.*max_tokens '64'"):
        sentenc.load(saved)


def test_a_failed_save_leaves_the_old_folder(saved, pair, monkeypatch):
    def fail(*_):
        raise OSError("no space left")

    monkeypatch.setattr("sentenc.encoders.pair_folder.write_files", fail)
    with pytest.raises(OSError, match="no space left"):
        make_pair(embedding_dim=24).save(saved)
    assert sentenc.load(saved).fingerprint() == pair.fingerprint()
    assert [path.name for path in saved.parent.iterdir()] == ["pair"]


def test_a_wrapped_model_may_be_a_half(tmp_path):
    pytest.importorskip("sentence_transformers")
    from tests.support.models import make_sentence_transformer

    documents = sentenc.SentenceTransformerEncoder(make_sentence_transformer(tmp_path), "wrapped")
    pair = PairEncoder(documents, in_space(make_cse(widths=()), documents.space))
    pair.save(tmp_path / "pair")
    twin = sentenc.load(tmp_path / "pair")
    assert isinstance(twin.documents, sentenc.SentenceTransformerEncoder)
    assert twin.documents.fingerprint() == documents.fingerprint()
    np.testing.assert_array_equal(twin.encode(TEXTS), pair.encode(TEXTS))
