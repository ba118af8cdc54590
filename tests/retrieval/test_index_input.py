"""The input of an index: ids, vectors and encoders, and the errors about wrong ones."""

import numpy as np
import pytest

import sentenc
from sentenc import Index, IndexMismatchError
from tests.retrieval.test_index import clustered
from tests.support.models import make_cse


@pytest.fixture(scope="module")
def encoder():
    return make_cse()


def test_arguments_are_not_modified():
    vectors = np.array([[3.0, 4.0]])
    index = Index(dim=2)
    index.add(vectors=vectors)
    index.search(vectors)
    assert vectors.tolist() == [[3.0, 4.0]]


def test_queries_are_any_array_of_numbers():
    torch, pandas = pytest.importorskip("torch"), pytest.importorskip("pandas")
    index = Index(dim=2)
    index.add(vectors=torch.eye(2))
    for query in (torch.tensor([0.0, 1.0]), np.array([0, 1.0], object), pandas.Series([0, 1])):
        assert index.search(query, 1)[0].id == 1
    assert [hits[0].id for hits in index.search(torch.eye(2), 1)] == [0, 1]
    for texts in (pandas.Series(["a", float("nan")]), np.array([1.0, "a"], object)):
        with pytest.raises(TypeError, match=r"texts\[\d\] is float"):
            index.search(texts)


def test_str_ids_int_ids_and_automatic_ids():
    index = Index(dim=16)
    assert index.add(vectors=clustered(2), ids=[17, "17"]) == [17, "17"]
    assert index.add(vectors=clustered(2)) == [18, 19]
    assert index.delete(["17", "nobody"]) == 1
    assert 17 in index
    assert "17" not in index
    assert 3.0 not in index
    with pytest.raises(ValueError, match=r"ids\[1\] is 18, .* already"):
        index.add(vectors=clustered(2), ids=[1, 18])
    with pytest.raises(ValueError, match="'a' twice"):
        index.add(vectors=clustered(2), ids=["a", "a"])
    assert len(index) == 3
    index.add(vectors=clustered(1), ids=["17"])
    assert len(index) == 4


def test_invalid_arguments_are_named_and_change_nothing(encoder):
    index = Index(encoder)
    index.add(["dog"])
    with_nan = np.zeros((3, encoder.dim), np.float32)
    with_nan[1, 2] = np.nan
    with pytest.raises(ValueError, match=r"vectors\[1\] .*NaN"):
        index.add(vectors=with_nan)
    with pytest.raises(ValueError, match=r"queries\[1\] .*NaN"):
        index.search(with_nan)
    with pytest.raises(ValueError, match=r"queries .*\(1, 7\), .*24"):
        index.search(np.zeros(7))
    with pytest.raises(TypeError, match=r"texts\[1\] is NoneType"):
        index.add(["cat", None])
    with pytest.raises(TypeError, match=r"payloads\[0\] is str"):
        index.add(["cat"], payloads=["x"])
    with pytest.raises(TypeError, match=r"payloads\[0\] is not JSON"):
        index.add(["cat"], payloads=[{"x": object()}])
    with pytest.raises(TypeError, match=r"payloads\[1\] has the key int \(1\), expected str"):
        index.add(["cat", "cow"], payloads=[None, {1: "a", "1": "b"}])
    with pytest.raises(
        TypeError, match=r"payloads\[0\]\['x'\]\[1\] has the key NoneType \(None\), expected str"
    ):
        index.add(["cat"], payloads=[{"x": ["a", {None: 1}]}])
    with pytest.raises(ValueError, match=r"payloads\[0\] is not JSON"):
        index.add(["cat"], payloads=[{"x": float("nan")}])
    with pytest.raises(ValueError, match=r"2 payloads .*1 item"):
        index.add(["cat"], payloads=[None, None])
    with pytest.raises(ValueError, match=r"1 ids .*2 items"):
        index.add(["cat", "dog"], ids=[5])
    with pytest.raises(TypeError, match=r"ids\[0\] is float \(1.5\)"):
        index.add(["cat"], ids=[1.5])
    with pytest.raises(ValueError, match=r"1 texts .*3 vectors"):
        index.add(["cat"], vectors=np.zeros((3, encoder.dim)))
    with pytest.raises(ValueError, match="pass texts"):
        index.add()
    for k in (0, -1, 2.0, True, None):
        with pytest.raises(ValueError, match="expected an integer of"):
            index.search("dog", k)
    with pytest.raises(KeyError, match="zebra"):
        index.get(["zebra"])
    assert len(index) == 1
    assert index.add(["cat"]) == [1]


def test_a_single_str_is_refused(encoder):
    index = Index(encoder)
    with pytest.raises(TypeError, match="texts is str"):
        index.add("dog")
    index.add(["dog", "cat"], ids=["a", "b"])
    with pytest.raises(TypeError, match="texts is str"):
        index.update(["a"], "dog")
    for call in (index.delete, index.get):
        with pytest.raises(TypeError, match="ids is str"):
            call("ab")
        with pytest.raises(TypeError, match=r"ids is int \(17\)"):
            call(17)
    assert len(index) == 2
    index.update([])
    assert index.delete(name for name in ["a"]) == 1
    assert index.get(iter(["b"]))[0].text == "cat"


def test_membership_and_stored_vectors(encoder):
    index = Index(dim=2)
    index.add(vectors=[[1, 0], [0, 1], [3, 4]])
    assert np.int64(2) in index
    assert True not in index
    assert 2**70 not in index
    assert None not in index
    assert index.search([0.0, 2.0], 1)[0].id == 1
    assert [hits[0].id for hits in index.search([[1, 0], [3, 4]], np.int64(1))] == [0, 2]
    assert index.search(np.array([3e38, 3e38]), 1)[0].score == pytest.approx(0.7 * 2**0.5, abs=1e-3)


def test_numbers_beyond_float16_are_named():
    index = Index(dim=2, metric="dot", store="float16")
    with pytest.raises(ValueError, match=r"vectors\[1\] .*65504"):
        index.add(vectors=[[1.0, 2.0], [70000.0, 0.0]])
    assert len(index) == 0


def test_ids_with_equal_hashes_are_different(monkeypatch):
    from sentenc.retrieval import segments, snapshot

    for module in (snapshot, segments):
        monkeypatch.setattr(module, "hash_ids", lambda ids: np.zeros(len(ids), np.uint64))
    index = Index(dim=4)
    index.add(vectors=np.eye(4), ids=["a", "b", 7, "7"])
    assert [item.id for item in index.get(["7", 7, "a"])] == ["7", 7, "a"]
    assert "c" not in index
    assert index.delete(["b"]) == 1
    assert "b" not in index


def test_invalid_settings_are_named():
    for options, message in [
        ({"dim": 4, "metric": "l2"}, "metric is 'l2', .*cosine, dot"),
        ({"dim": 4, "kind": "lsh"}, "kind is 'lsh'"),
        ({"dim": 4, "store": "int4"}, "store is 'int4'"),
        ({"dim": 0}, "dim is 0"),
        ({}, "encoder or dim"),
        ({"encoder": make_cse(), "dim": 25}, "dim is 25, .*24"),
    ]:
        with pytest.raises(ValueError, match=message):
            Index(**options)
    with pytest.raises(TypeError, match="encoder is int"):
        Index(7)
    index = Index(dim=4)
    index.add(vectors=np.eye(4))
    with pytest.raises(ValueError, match=r"target_recall is 1.5"):
        index.optimize(1.5)
    with pytest.raises(ValueError, match="has no encoder"):
        index.search("text")
    with pytest.raises(ValueError, match="no folder yet"):
        index.save()


def test_an_index_of_another_encoder_is_not_opened(tmp_path, encoder):
    index = Index(encoder)
    index.add(["dog"])
    index.save(tmp_path / "index")
    other = make_cse(num_filters=4)
    with pytest.raises(IndexMismatchError, match="not comparable"):
        Index.open(tmp_path / "index", other)
    assert Index.open(tmp_path / "index", other, force=True).search("dog", 1)[0].id == 0
    with pytest.raises(IndexMismatchError, match=r" 24 .*8"):
        Index.open(tmp_path / "index", make_cse(embedding_dim=8), force=True)
    assert Index.open(tmp_path / "index", encoder).search("dog", 1)[0].text == "dog"
    assert Index.open(tmp_path / "index").search(encoder.encode("dog"), 1)[0].text == "dog"


def test_only_the_leading_components_are_stored():
    encoder = make_cse(combine="both", average_dim=8)
    assert encoder.dim > encoder.similarity_dim == 24
    index = Index(encoder)
    index.add(["dog", "cat"])
    index.add(vectors=encoder.encode(["man"]), texts=["man"])
    assert index.dim == 24
    assert [hit.text for hit in index.search(["dog", "man"], 1)[1]] == ["man"]
    assert index.search(encoder.encode("cat"), 1)[0].text == "cat"
    shorter = Index(encoder, dim=5)
    shorter.add(["dog", "cat"])
    assert shorter.dim == 5
    assert shorter.search("dog", 1)[0].score == pytest.approx(1)
    with pytest.raises(ValueError, match="expected"):
        index.search(np.zeros(30, np.float32))


def test_ids_of_texts_have_an_order():
    index = Index(dim=2)
    for ids in ({1, 2}, frozenset([1, 2])):
        with pytest.raises(TypeError, match=r"ids is (frozen)?set.*no order"):
            index.add(vectors=np.eye(2), ids=ids)
    assert index.add(vectors=np.eye(2), ids=dict.fromkeys([2, 1]).keys()) == [2, 1]
    with pytest.raises(TypeError, match="ids is set"):
        index.update({1, 2}, ["a", "b"], vectors=np.eye(2))
    assert index.delete({1, 2}) == 2


def test_payloads_are_any_ordered_collection():
    index = Index(dim=2)
    for payloads in ("ab", {"a": 1}, {1, 2}, 5):
        with pytest.raises(TypeError, match=f"payloads is {type(payloads).__name__}"):
            index.add(vectors=np.eye(2), payloads=payloads)
    index.add(vectors=np.eye(2), payloads=({"n": i} for i in range(2)))
    index.update([0, 1], payloads=({"n": i} for i in (5, 6)))
    assert [item.payload for item in index] == [{"n": 5}, {"n": 6}]


def test_automatic_ids_have_64_bits():
    index = Index(dim=2)
    index.add(vectors=np.eye(1, 2), ids=[2**63 - 2])
    before = index.info()
    with pytest.raises(ValueError, match=rf"the next id is {2**63 - 1}, .*pass ids"):
        index.add(vectors=np.eye(2))
    assert index.info() == before
    assert index.add(vectors=np.eye(1, 2)) == [2**63 - 1]
    with pytest.raises(ValueError, match=rf"the next id is {2**63}"):
        index.add(vectors=np.eye(1, 2))
    assert index.add(vectors=np.eye(1, 2), ids=["a"]) == ["a"]
    assert index.get([2**63 - 1])[0].id == 2**63 - 1


def test_queries_and_vectors_have_one_length(encoder):
    for index in (Index(dim=2), Index(encoder)):
        for wrong in ([[1, 2], [3]], [[1.0], []]):
            with pytest.raises(ValueError, match=rf"queries .*different lengths.* {index.dim} numbers"):
                index.search(wrong)
            with pytest.raises(ValueError, match=r"vectors .*different lengths"):
                index.add(vectors=wrong)
            with pytest.raises(ValueError, match=r"vectors .*different lengths"):
                index.search(["a", "b"], vectors=wrong)


def test_a_payload_that_contains_itself_is_named():
    index = Index(dim=2)
    payload = {}
    payload["a"] = [payload]
    with pytest.raises(ValueError, match=r"payloads\[1\] contains itself"):
        index.add(vectors=np.eye(2), payloads=[None, payload])
    assert len(index) == 0


@pytest.mark.parametrize("folder", [None, 5, b"index"])
def test_a_folder_is_a_str_or_a_path(folder):
    with pytest.raises(TypeError, match=rf"folder is {type(folder).__name__}"):
        Index.open(folder)
    with pytest.raises(TypeError, match=rf"model is {type(folder).__name__}"):
        sentenc.load(folder)


def test_a_folder_to_save_to_is_a_str_or_a_path():
    with pytest.raises(TypeError, match="folder is int"):
        Index(dim=2).save(5)
