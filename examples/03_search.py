"""Semantic search: builds an index, searches it with and without a filter, saves, opens and changes it."""

import tempfile
from pathlib import Path

import sentenc
from sentenc.collections import read_collection

passages = read_collection("factbook")  # 4,960 sentences about the countries of the world

index = sentenc.Index("cse-en")
index.add([p.text for p in passages], payloads=[p.payload for p in passages])
for hit in index.search("islands threatened by rising seas", k=3):
    print(f"{hit.score:.3f}  {hit.payload['country']}: {hit.text}")

where = {"topic": "Economy", "country": {"nin": ["Maldives", "Kiribati"]}}
for hit in index.search("islands threatened by rising seas", k=3, where=where):
    print(f"{hit.score:.3f}  {hit.payload['country']}: {hit.text}")

with tempfile.TemporaryDirectory() as folder:
    index.save(Path(folder) / "countries")

    index = sentenc.Index.open(Path(folder) / "countries")  # memory-mapped
    index.add(["The Moon has no atmosphere to speak of."], ids=["moon"])
    index.delete([0, 1, 2])
    index.save()  # writes only the changes; if the process is killed here, the last save stays complete

    print(len(index), "items:", index.search("a world without air", k=1)[0].id)
