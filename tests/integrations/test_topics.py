"""The backends of BERTopic and KeyBERT."""

import numpy as np
import pytest

import sentenc

TEXTS = [
    "The bank raised its interest rates.", "Shares fell on the stock market.", "The company reported a profit.",
    "Investors bought government bonds.", "The striker scored two goals.", "The team won the football match.",
    "The tennis player lost the final.", "Fans cheered for their club.",
]  # fmt: skip


def test_bertopic():
    pytest.importorskip("bertopic")
    from bertopic import BERTopic
    from sklearn.cluster import KMeans
    from sklearn.decomposition import PCA

    from sentenc.integrations.bertopic import SentencBackend

    encoder = sentenc.load("cse-en-tiny")
    backend = SentencBackend(encoder)
    vectors = encoder.encode(TEXTS, truncate_dim=encoder.similarity_dim)
    np.testing.assert_array_equal(backend.embed_documents(TEXTS), vectors)
    model = BERTopic(
        embedding_model=backend,
        umap_model=PCA(2, random_state=0),
        hdbscan_model=KMeans(2, random_state=0, n_init=1),
    )
    topics, _ = model.fit_transform(TEXTS)
    assert len(set(topics)) == 2
    nearest, _ = model.find_topics("a football match", top_n=1)
    assert nearest[0] == topics[5]


def test_keybert():
    pytest.importorskip("keybert")
    from keybert import KeyBERT

    from sentenc.integrations.keybert import SentencBackend

    encoder = sentenc.load("cse-en-tiny")
    keywords = KeyBERT(SentencBackend(encoder)).extract_keywords(TEXTS[5], top_n=2)
    assert len(keywords) == 2
    word, score = keywords[0]
    assert score == pytest.approx(encoder.similarity(word, TEXTS[5])[0, 0], abs=1e-3)
