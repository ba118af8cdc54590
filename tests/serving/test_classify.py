"""The routes ``/classify`` and ``/classifiers``."""

import asyncio
import json
import threading

import numpy as np
import pytest

pytest.importorskip("sklearn")

from sentenc import SentenceClassifier, SentencePairClassifier, SentencePairRegressor
from sentenc.serving import create_app
from tests.serving.conftest import SENTENCES, samples_of, wait_until, wait_until_ready
from tests.serving.test_embeddings import refusal
from tests.support.doubles import Gated
from tests.support.labeled import labeled, scored_pairs

OPTIONS = {"C": 4.0, "random_state": 0}


@pytest.fixture(scope="module")
def fitted(tiny):
    texts, labels = map(list, zip(*labeled(), strict=True))
    pairs = [(a, b) for a, b, _ in scored_pairs()]
    scores = [score for _, _, score in scored_pairs()]
    words = tiny.word_path()
    return {
        "topics": SentenceClassifier(tiny, **OPTIONS).fit(texts, labels),
        "odd": SentenceClassifier(words, **OPTIONS).fit(texts, [len(label) % 2 == 1 for label in labels]),
        "several": SentenceClassifier(tiny, **OPTIONS).fit(
            [f"{a} {b}" for a, b in zip(texts, texts[7:] + texts[:7], strict=True)],
            [[a, b] for a, b in zip(labels, labels[7:] + labels[:7], strict=True)],
        ),
        "pairs": SentencePairClassifier(tiny, **OPTIONS).fit(pairs, [f"s{score}" for score in scores]),
        "scores": SentencePairRegressor(tiny, **OPTIONS).fit(pairs, scores),
    }


@pytest.fixture
def client(client_of, tiny, fitted):
    return client_of({"tiny": tiny}, classifiers=fitted)


def ask(client, **fields):
    answer = client.post("/classify", json=fields)
    assert answer.status_code == 200, answer.text
    return answer.json()


def test_one_text_and_many(client, fitted):
    proba = fitted["topics"].predict_proba(SENTENCES)
    answer = ask(client, model="topics", texts=SENTENCES)
    assert answer["model"] == "topics"
    assert [result["label"] for result in answer["results"]] == fitted["topics"].predict(SENTENCES).tolist()
    for result, row in zip(answer["results"], proba, strict=True):
        assert result["probability"] == pytest.approx(row.max(), abs=1e-6)
        expected = dict(zip(fitted["topics"].classes_.tolist(), row.tolist(), strict=True))
        assert result["probabilities"] == pytest.approx(expected, abs=1e-6)
        assert list(result["probabilities"].values()) == sorted(
            result["probabilities"].values(), reverse=True
        )
    # A single text counts as a list of one.
    (first,) = ask(client, model="topics", texts=SENTENCES[0])["results"]
    assert first["label"] == answer["results"][0]["label"]
    assert first["probabilities"] == pytest.approx(answer["results"][0]["probabilities"], abs=1e-6)


def test_top_k(client, fitted):
    (result,) = ask(client, model="topics", texts="dog", top_k=1)["results"]
    assert result["probabilities"] == {result["label"]: result["probability"]}


def test_labels_that_are_not_strings(client, fitted):
    (result,) = ask(client, model="odd", texts="dog")["results"]
    assert result["label"] is bool(fitted["odd"].predict(["dog"])[0])
    assert set(result["probabilities"]) == {"true", "false"}


def test_several_labels(client, fitted):
    texts = ["dog cat stock market", "dog dog dog", "the"]
    results = ask(client, model="several", texts=texts)["results"]
    assert [set(result["labels"]) for result in results] == [set(x) for x in fitted["several"].predict(texts)]
    assert len(results[0]["probabilities"]) == 3


def test_pairs_and_scores(client, fitted):
    pairs = [["dog cat park", "dog cat park"], ["dog", "market"]]
    results = ask(client, model="pairs", pairs=pairs)["results"]
    assert [result["label"] for result in results] == fitted["pairs"].predict(pairs).tolist()
    scores = [result["score"] for result in ask(client, model="scores", pairs=pairs)["results"]]
    np.testing.assert_allclose(scores, fitted["scores"].predict(pairs), atol=1e-5)


def test_classifiers_are_described(client, fitted):
    described = {entry["name"]: entry for entry in client.get("/classifiers").json()["classifiers"]}
    assert described["topics"] == {
        "name": "topics",
        "model": "tiny",
        "takes": "texts",
        "predicts": "label",
        "labels": ["market", "music", "pets"],
    }
    # The classifier has another encoder, which is served under the name of the classifier.
    assert described["odd"]["model"] == "odd"
    assert (described["scores"]["predicts"], described["scores"]["takes"]) == ("score", "pairs")
    assert described["several"]["predicts"] == "multi-label"
    models = [model["id"] for model in client.get("/v1/models").json()["data"]]
    assert models == ["tiny", "odd"]


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({}, 400, "texts is missing"),
        ({"texts": ""}, 400, "texts is an empty text"),
        ({"texts": []}, 400, "texts is an empty list"),
        ({"texts": ["a", None]}, 400, "texts[1] is NoneType"),
        ({"texts": ["a"] * 21}, 422, "texts has 21 texts, expected at most 20"),
        ({"texts": ["a", "man " * 70]}, 400, "texts[1] has 70 tokens"),
        ({"texts": "a", "top_k": 0}, 422, "expected 1 to 1000"),
        ({"texts": "a", "top_k": "3"}, 400, "top_k is '3'"),
        ({"texts": "a", "model": "other"}, 404, "no classifier 'other' here, expected one of topics, odd"),
        ({"texts": "a", "model": 3}, 400, "model is int (3)"),
        ({"pairs": [["a", "b"]]}, 400, "topics takes texts, got pairs"),
        ({"model": "pairs", "texts": "a"}, 400, "pairs takes pairs, got texts"),
        ({"model": "pairs"}, 400, "pairs is missing"),
        ({"model": "pairs", "pairs": "a"}, 400, "pairs is 'a'"),
        ({"model": "pairs", "pairs": []}, 400, "pairs is an empty list"),
        ({"model": "pairs", "pairs": [["a"]]}, 400, "pairs[0] is list"),
        ({"model": "pairs", "pairs": [["a", "b"], ["a", 1]]}, 400, "pairs[1] is int (1)"),
        ({"model": "pairs", "pairs": [["a", "b"], ["a", "man " * 70]]}, 400, "pairs[1] has 70 tokens"),
        ({"model": "pairs", "pairs": [["a", "b"]] * 11}, 422, "pairs has 22 texts, expected at most 20"),
        ({"texts": "a", "k": 3}, 400, "no field 'k', expected one of model, texts, pairs, top_k"),
        ({"texts": "a", "model": None}, 400, "model is missing, expected one of topics, odd"),
    ],
)
def test_wrong_fields_are_refused(client_of, tiny, fitted, fields, status, words):
    client = client_of({"tiny": tiny}, classifiers=fitted, max_inputs=20)
    assert words in refusal(client.post("/classify", json={"model": "topics", **fields}), status)["message"]


def test_server_without_classifiers(client_of, tiny):
    client = client_of({"tiny": tiny})
    assert "no classifier" in refusal(client.post("/classify", json={"texts": "a"}), 404)["message"]
    assert client.get("/classifiers").json() == {"classifiers": []}


def test_a_classifier_alone_brings_its_encoder(client_of, tiny, fitted):
    client = client_of({}, classifiers={"topics": fitted["topics"]})
    vectors = client.post("/v1/embeddings", json={"model": "topics", "input": "dog"}).json()["data"]
    unit = tiny.encode(["dog"], normalize_embeddings=True)[0]
    np.testing.assert_allclose(vectors[0]["embedding"], unit, atol=1e-6)


def test_same_name_for_two_encoders(tiny, fitted):
    with pytest.raises(ValueError, match="'odd'"):
        create_app({"odd": tiny}, classifiers={"odd": fitted["odd"]})


def test_key_and_metrics(client_of, tiny, fitted):
    client = client_of({"tiny": tiny}, classifiers=fitted, api_key="sesame")
    refusal(client.post("/classify", json={"texts": "a"}), 401)
    key = {"authorization": "Bearer sesame"}
    assert client.post("/classify", json={"texts": "a", "model": "topics"}, headers=key).status_code == 200
    assert (
        'sentenc_requests_total{route="/classify",status="200"} 1' in client.get("/metrics", headers=key).text
    )


def test_requests_are_encoded_together(client_of, fitted):
    encoder = Gated(fitted["topics"].encoder_)
    client = client_of({"gated": encoder}, classifiers={"topics": fitted["topics"]})
    texts = ["dog", "cat", "market", "guitar", "stock park"]
    wait_until_ready(client)
    encoder.batches.clear()
    encoder.entered.clear()
    encoder.open.clear()
    answers = {}
    threads = [
        threading.Thread(
            target=lambda text=text: answers.update(
                {text: ask(client, model="topics", texts=text)["results"][0]}
            )
        )
        for text in texts
    ]
    threads[0].start()
    assert encoder.entered.wait(60)
    for thread in threads[1:]:
        thread.start()
    waiting = "sentenc_queue_requests", frozenset({("queue", "encode"), ("name", "gated")})
    wait_until(lambda: samples_of(client.get("/metrics").text)[waiting] == 4)
    encoder.open.set()
    for thread in threads:
        thread.join()
    assert sorted(map(len, encoder.batches)) == [1, 4]
    expected = fitted["topics"].predict(texts).tolist()
    assert [answers[text]["label"] for text in texts] == expected


def test_answer_of_many_labels_is_complete(fitted):
    from sentenc.serving.services import ServedClassifier

    class Head:
        def probabilities(self, features):
            return np.tile(np.linspace(1, 0, 2000) / 1000, (len(features), 1))

    class Many(SentenceClassifier):
        def __init__(self):
            self.classes_, self.multi_label_, self.head_ = np.arange(2000), False, Head()

    class Model:
        name = "model"

        async def encode(self, items, param):
            return np.zeros((len(items), 4), np.float32), len(items)

    results = json.loads(asyncio.run(ServedClassifier("many", Many(), Model()).results(["a"] * 20, 3)))
    assert len(results) == 20
    assert list(results[7]["probabilities"]) == ["0", "1", "2"]
