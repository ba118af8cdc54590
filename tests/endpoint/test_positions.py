"""The position of a refused text, if another encoder is around that of the endpoint."""

import pytest

import sentenc
from sentenc import EndpointEncoder, EndpointError, HybridEncoder, PairEncoder
from tests.support.embeddings_server import Refusal
from tests.support.models import make_cse
from tests.support.pairs import in_space

TEXTS = [f"text {i}" for i in range(50)]
MESSAGE = r"texts\[43\] = '.*text 43'"


@pytest.fixture
def encoder(server):
    def before(request):
        if any("text 43" in text for text in request["input"]):
            raise Refusal(400, "maximum context length is 8192 tokens")

    server.before = before
    # A block has 8 texts.
    return EndpointEncoder(
        server.url, "m", dimensions=8, texts_per_request=2, concurrency=1, document_prompt="the "
    )


def around(encoder, kind):
    if kind == "hybrid":
        return HybridEncoder(encoder, columns=8)
    if kind == "pair":
        return PairEncoder(encoder, in_space(make_cse(embedding_dim=8, widths=()), encoder.space))
    return encoder if kind == "alone" else sentenc.hybrid(around(encoder, "pair"), columns=8)


@pytest.mark.parametrize("kind", ["alone", "hybrid", "pair", "pair of hybrids"])
def test_the_position_is_that_among_all_texts(encoder, kind):
    outer = around(encoder, kind)
    for encode in (
        outer.encode,
        outer.encode_document,
        lambda texts: list(outer.encode_iter(iter(texts))),
        lambda texts: outer.encode(texts, prompt_name="document"),
        lambda texts: outer.encode(texts, show_progress_bar=True),
        outer.encode_with_token_counts,
    ):
        with pytest.raises(EndpointError, match=MESSAGE) as raised:
            encode(TEXTS)
        assert raised.value.position == 43


def test_a_failure_of_no_single_text_has_no_position(server):
    def before(request):
        if "text 43" in request["input"]:
            raise Refusal(401)

    server.before = before
    encoder = EndpointEncoder(server.url, "m", dimensions=8, texts_per_request=2, concurrency=1)
    with pytest.raises(EndpointError, match="HTTP 401") as raised:
        HybridEncoder(encoder, columns=8).encode(TEXTS)
    assert raised.value.position is None
