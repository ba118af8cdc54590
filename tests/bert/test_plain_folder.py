"""A published BERT with cls pooling and a query prompt, which its folder does not state."""

from pathlib import Path

import numpy as np
import pytest

import sentenc
from tests.support.bert import KNOWN

FOLDER = Path(__file__).parents[3] / "shared" / "teachers" / "arctic-xs"
PROMPT = "Represent this sentence for searching relevant passages: "

pytestmark = pytest.mark.skipif(not FOLDER.exists(), reason="the model is not on this machine")


@pytest.fixture(scope="module")
def encoder():
    return sentenc.load(FOLDER, pooling="cls", query_prompt=PROMPT)


def test_vectors_equal_those_of_transformers(encoder):
    transformers = pytest.importorskip("transformers")
    import torch

    assert encoder.max_tokens == 512
    model = transformers.BertModel.from_pretrained(FOLDER, add_pooling_layer=False, dtype=torch.float32)
    tokenizer = transformers.AutoTokenizer.from_pretrained(FOLDER)
    for prompt, vectors in (("", encoder.encode_document(KNOWN)), (PROMPT, encoder.encode_query(KNOWN))):
        batch = tokenizer([prompt + text for text in KNOWN], padding=True, return_tensors="pt")
        with torch.inference_mode():
            expected = model(**batch).last_hidden_state[:, 0].numpy()
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-5)
