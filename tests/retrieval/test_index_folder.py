"""An index on disk: saving, opening, codes, and damaged files."""

import json

import numpy as np
import pytest

from sentenc import Index, IndexFormatError, ModelNotFoundError
from sentenc.retrieval import ann, persistence
from tests.retrieval.test_index import assert_same, clustered
from tests.support.models import make_cse

KINDS = ["exact", "ivf", "hnsw"]


def vectors_index(n=100, **options):
    index = Index(dim=16, **options)
    index.add(vectors=clustered(n), payloads=[{"i": i} for i in range(n)])
    return index


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("store", ["float32", "float16", "int8", "binary"])
def test_a_saved_index_is_opened_unchanged(tmp_path, kind, store):
    index = vectors_index(600, kind=kind, store=store)
    index.delete([5])
    index.optimize()
    index.save(tmp_path / "index")
    again = Index.open(tmp_path / "index")
    again.verify()
    queries = clustered(20, seed=3)
    # Both search the codes that are stored on disk.
    assert_same(again.search(queries, 7), index.search(queries, 7))
    assert again.info() == index.info()
    assert list(again) == list(index)
    assert 5 not in again


def test_codes_have_the_expected_size(tmp_path):
    vectors = clustered(4000)
    exact = Index(dim=16)
    exact.add(vectors=vectors)
    expected = [{hit.id for hit in hits} for hits in exact.search(vectors[:50], 10)]
    overlap, size = {}, {}
    for store in ("float32", "float16", "int8", "binary"):
        index = Index(dim=16, store=store)
        index.add(vectors=vectors)
        index.save(tmp_path / store)
        size[store] = (tmp_path / store / "segment-000001-0000" / "vectors.npy").stat().st_size
        answers = index.search(vectors[:50], 10)
        overlap[store] = np.mean(
            [len({h.id for h in a} & r) / 10 for a, r in zip(answers, expected, strict=True)]
        )
    assert overlap["float32"] == 1.0
    assert overlap["float16"] > 0.97
    assert overlap["int8"] > 0.9
    assert overlap["binary"] > 0.1
    assert size["float32"] > 1.9 * size["float16"] > 3.6 * size["int8"] > 20 * size["binary"]


def test_appending_writes_only_what_is_new(tmp_path):
    index = vectors_index(500)
    index.save(tmp_path / "index")
    first = tmp_path / "index" / "segment-000001-0000" / "vectors.npy"
    before = first.stat().st_ino, first.stat().st_mtime_ns
    index.add(vectors=clustered(20, seed=1))
    index.save()
    assert (first.stat().st_ino, first.stat().st_mtime_ns) == before
    again = Index.open(tmp_path / "index")
    assert len(again) == 520
    assert again.info()["segments"] == 2


def test_many_small_saves_make_few_segments(tmp_path):
    index = Index(dim=16)
    index.add(vectors=clustered(1))
    index.save(tmp_path / "index")
    for i in range(40):
        index.add(vectors=clustered(1, seed=i), ids=[f"n{i}"])
        index.save()
    again = Index.open(tmp_path / "index")
    assert len(again) == 41
    assert again.info()["segments"] < 8
    assert all(f"n{i}" in again for i in range(40))
    named = {path.name for path in (tmp_path / "index").iterdir()}
    assert len(named) == again.info()["segments"] + 2  # the manifest and the lock


def test_saving_elsewhere_copies_and_replaces_only_indexes(tmp_path):
    index = vectors_index(50, store="int8")
    index.save(tmp_path / "a")
    index.add(vectors=clustered(3, seed=1))
    index.save(tmp_path / "b")
    assert len(Index.open(tmp_path / "a")) == 50
    again = Index.open(tmp_path / "b")
    again.verify()
    assert len(again) == 53
    index.save(tmp_path / "a")
    assert len(Index.open(tmp_path / "a")) == 53
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "precious.txt").write_text("x")
    with pytest.raises(IndexFormatError, match=r"other .*not .*an index"):
        index.save(tmp_path / "other")
    assert (tmp_path / "other" / "precious.txt").exists()


def test_other_folders_are_left_alone(tmp_path):
    index = vectors_index(5)
    website = tmp_path / "website"
    website.mkdir()
    (website / "index.json").write_text("{}")
    (website / "page.html").write_text("x")
    with pytest.raises(IndexFormatError, match=r"website .*not .*an index"):
        index.save(website)
    assert (website / "page.html").exists()
    index.save(tmp_path / "index")
    (tmp_path / "index" / "mine.txt").write_text("x")
    index.add(vectors=clustered(1))
    index.save()
    assert (tmp_path / "index" / "mine.txt").exists()


def test_links_and_spellings_are_one_folder(tmp_path, monkeypatch):
    vectors_index(5).save(tmp_path / "index")
    (tmp_path / "link").symlink_to(tmp_path / "index")
    monkeypatch.chdir(tmp_path)
    index = Index.open("link")
    index.add(vectors=clustered(1))
    index.save(tmp_path / "index")
    vectors_index(9).save(tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert len(Index.open("index")) == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["index", "link"]


@pytest.mark.parametrize("store", ["int8", "binary"])
def test_codes_and_calibration_are_replaced_together(tmp_path, store):
    index = vectors_index(2000, store=store)
    index.save(tmp_path / "index")
    other = 50 + 7 * clustered(2000, seed=1)
    index.update(list(range(2000)), vectors=other)
    index.optimize()  # removes the old codes and their calibration
    index.save()
    again = Index.open(tmp_path / "index")
    again.verify()
    assert_same(again.search(other[:20], 5), index.search(other[:20], 5))
    if store == "int8":
        assert np.mean([hits[0].id == i for i, hits in enumerate(again.search(other[:200], 1))]) > 0.9
    index.delete(list(range(2000)))
    index.optimize()
    index.add(vectors=clustered(1500, seed=2))
    index.save()
    queries = clustered(9, seed=2)
    assert_same(Index.open(tmp_path / "index").search(queries, 5), index.search(queries, 5))


@pytest.mark.parametrize("store", ["int8", "binary"])
def test_an_index_that_starts_small_is_calibrated_later(tmp_path, store):
    vectors = clustered(3000)
    index = Index(dim=16, store=store)
    index.add(vectors=vectors[:1])
    index.save(tmp_path / "index")
    assert not list((tmp_path / "index").glob("calibration-*"))
    index.add(vectors=vectors[1:])
    index.save()
    again = Index.open(tmp_path / "index")
    assert len(list((tmp_path / "index").glob("calibration-*"))) == 1
    (codes,) = (tmp_path / "index").glob("segment-*/vectors.npy")
    assert np.load(codes).dtype == {"int8": np.int8, "binary": np.uint8}[store]
    own = np.mean([hits[0].id == i for i, hits in enumerate(again.search(vectors[:300], 1))])
    assert own > (0.98 if store == "int8" else 0.2)


def test_a_large_binary_index_is_searched_by_hamming_distance(tmp_path, monkeypatch):
    vectors = clustered(3000, dim=64)
    index = Index(dim=64, store="binary")
    index.add(vectors=vectors)
    index.save(tmp_path / "index")
    index.delete([5, 7])
    exact = index.search(vectors[:40], 10)
    monkeypatch.setattr(ann, "EXACT_ROWS", 1000)
    assert index.info()["searched by"] == "hamming"
    approximate = index.search(vectors[:40], 10)
    overlap = [
        len({h.id for h in a} & {h.id for h in b}) / 10 for a, b in zip(exact, approximate, strict=True)
    ]
    assert np.mean(overlap) > 0.9
    assert not {5, 7} & {hit.id for hits in approximate for hit in hits}
    # Items that are not saved yet have no binary codes, so that the search is exact.
    index.add(vectors=vectors[:1])
    assert index.info()["searched by"] == "exact"


def test_large_saves_make_large_segments(tmp_path, monkeypatch):
    monkeypatch.setattr(persistence, "_MAX_SEGMENT_ROWS_FROM_TO", (100, 400))
    index = Index(dim=16)
    for i in range(20):
        index.add(vectors=clustered(100, seed=i))
        index.save(tmp_path / "index")
    again = Index.open(tmp_path / "index")
    again.verify()
    assert [len(np.load(path)) for path in (tmp_path / "index").glob("segment-*/vectors.npy")] == [400] * 5
    assert [item.id for item in again] == list(range(2000))


def test_notes_and_empty_indexes(tmp_path):
    index = Index(make_cse())
    index.notes["build"] = {"done": 0}
    index.save(tmp_path / "index")
    again = Index.open(tmp_path / "index", make_cse())
    assert again.notes == {"build": {"done": 0}}
    assert again.search("dog") == []
    again.optimize()
    again.add(["dog"])
    again.save()
    assert Index.open(tmp_path / "index", make_cse()).search("dog", 3)[0].text == "dog"


def test_an_index_can_be_opened_without_an_encoder(tmp_path):
    make_cse().save(tmp_path / "model")
    index = Index(tmp_path / "model")
    index.add(["dog", "cat"])
    index.save(tmp_path / "index")
    assert Index.open(tmp_path / "index").search("dog", 1)[0].id == 0
    (tmp_path / "model").rename(tmp_path / "elsewhere")
    with pytest.raises(ModelNotFoundError):
        Index.open(tmp_path / "index")
    opened = Index.open(tmp_path / "index", encoder=False)
    assert opened.delete([0]) == 1
    with pytest.raises(ValueError, match="has no encoder"):
        opened.search("dog", mode="vector")
    assert [hit.id for hit in opened.search("cat dog")] == [1]
    opened.close()
    assert Index.open(tmp_path / "index", tmp_path / "elsewhere").search("cat", 1)[0].id == 1


def test_any_text_is_restored(tmp_path):
    texts = ["naïve 東京 🎉", "two\nlines\u2028and more", "\ud800 lone", '"quotes" \\ and \x00 zero', ""]
    index = Index(make_cse())
    index.add(texts, ids=["é", "\udfff", "a\nb", "", " "])
    index.save(tmp_path / "index")
    again = Index.open(tmp_path / "index")
    assert [item.text for item in again] == texts
    assert again.get(["\udfff", ""])[0].text == texts[1]


@pytest.mark.parametrize("damage", ["vectors.npy", "items.jsonl", "offsets.npy"])
def test_damage_is_named(tmp_path, damage):
    vectors_index(50).save(tmp_path / "index")
    path = tmp_path / "index" / "segment-000001-0000" / damage
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(IndexFormatError, match=f"{damage} .*sha256"):
        Index.open(tmp_path / "index").verify()
    path.write_bytes(content[:-3])
    with pytest.raises(IndexFormatError, match=f"{damage} .*bytes"):
        Index.open(tmp_path / "index")
    path.unlink()
    with pytest.raises(IndexFormatError, match=damage):
        Index.open(tmp_path / "index")


def test_a_bad_manifest_is_named(tmp_path):
    vectors_index(5).save(tmp_path / "index")
    manifest = tmp_path / "index" / "index.json"
    content = json.loads(manifest.read_text())
    for change, message in [
        ({"format_version": 99}, "index.json .*99, expected at most 3"),
        ({"surprise": 1}, "index.json .*surprise"),
    ]:
        manifest.write_text(json.dumps(content | change))
        with pytest.raises(IndexFormatError, match=message):
            Index.open(tmp_path / "index")
    manifest.write_text("{")
    with pytest.raises(IndexFormatError, match="not JSON"):
        Index.open(tmp_path / "index")
    vectors_index(3).save(tmp_path / "index")  # a damaged index can be replaced
    assert len(Index.open(tmp_path / "index")) == 3
    with pytest.raises(IndexFormatError, match="is not an index"):
        Index.open(tmp_path)
    with pytest.raises(IndexFormatError, match=r"no folder .*absent"):
        Index.open(tmp_path / "absent")


def changed(content, place, value):
    """Returns a copy of nested objects and lists with another value at a place; KeyError removes it."""
    content = json.loads(json.dumps(content))
    inner = content
    for key in place[:-1]:
        inner = inner[key]
    if value is KeyError:
        del inner[place[-1]]
    else:
        inner[place[-1]] = value
    return content


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        (["format_version"], [1], "format_version"),
        (["format_version"], True, "format_version"),
        (["dim"], 4, "dim is 4"),
        (["dim"], "3", "dim is str, expected int"),
        (["dim"], 0, "dim is 0"),
        (["metric"], "l2", "metric is 'l2'"),
        (["kind"], "tree", "kind is 'tree'"),
        (["store"], "int4", "store is 'int4'"),
        (["store"], "float16", "float16"),
        (["generation"], None, "generation is NoneType"),
        (["next_id"], 1.5, "next_id is float"),
        (["notes"], [], "notes is list"),
        (["segments"], None, "segments is NoneType"),
        (["segments", 0], "a", r"segments\[0\] is str"),
        (["segments", 0, "name"], KeyError, r"segments\[0\] has no key 'name'"),
        (["segments", 0, "name"], "other", r"segments\[0\] is 'other'"),
        (["segments", 0, "rows"], 9, "rows of segment-.* is 9"),
        (["segments", 0, "first_id"], "0", r"segments\[0\].first_id is str"),
        (["files"], {}, r"segments\[0\] is 'segment-"),
        (["files"], [], "files is list"),
        (["files", "segment-000001-0000/vectors.npy", "bytes"], KeyError, r"vectors.npy'\] has no key 'bytes'"),
        (["encoder", "fingerprint"], KeyError, "encoder has no key 'fingerprint'"),
        (["encoder", "model"], 5, "encoder.model is int"),
        (["encoder", "options"], [], "encoder.options is list"),
        (["words", "stemmer"], KeyError, "words has no key 'stemmer'"),
        (["words", "language"], "English", "words.language is 'English'"),
        (["words", "alpha"], "0.4", "words.alpha is str"),
        (["moments"], "absent.npy", "moments is 'absent.npy'"),
        (["structure"], {}, "structure has no key 'name'"),
        (["chunking"], {"tokens": 5}, "chunking has no key 'overlap'"),
        (["query_encoder"], {"model": None}, "query_encoder has no key"),
    ],
)  # fmt: skip
def test_a_damaged_value_of_a_manifest_is_named(tmp_path, place, value, message):
    index = Index(dim=3, language="en")
    index.add(["a", "b"], vectors=np.eye(2, 3))
    index._manifest.encoder = {"model": None, "fingerprint": "f", "space": "s", "options": {}}
    index.save(tmp_path / "index")
    path = tmp_path / "index" / "index.json"
    path.write_text(json.dumps(changed(json.loads(path.read_text()), place, value)))
    with pytest.raises(IndexFormatError, match=f"index.json.*{message}"):
        Index.open(tmp_path / "index")


def test_notes_are_json(tmp_path):
    index = vectors_index(3)
    index.notes["text"] = "\udc80 \u00e9"
    index.save(tmp_path / "index")
    assert Index.open(tmp_path / "index").notes == index.notes
    cyclic = {}
    cyclic["a"] = cyclic
    for value, kind in ((float("nan"), ValueError), ({1, 2}, TypeError), (cyclic, ValueError)):
        index.notes["n"] = value
        with pytest.raises(kind, match="notes is not JSON"):
            index.save()
        assert "n" not in Index.open(tmp_path / "index").notes
    del index.notes["n"]
    index.save()
