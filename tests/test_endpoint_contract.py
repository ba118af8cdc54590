"""The contract of all encoders, kept by an encoder at an endpoint.

Its tests of ``save`` are left out: the weights are at the endpoint.
"""

import socket

import pytest

from sentenc import EndpointEncoder
from tests.support.embeddings_server import KEY, loopback_only, stand_in_server
from tests.support.models import make_cse
from tests.test_arrow import (  # noqa: F401
    test_every_encoder_encodes_tables,
    test_every_encoder_refuses_nulls_outside_of_tables,
    test_float16,
    test_int8_is_within_half_a_step,
    test_small_tables,
)
from tests.test_encoder_contract import (  # noqa: F401
    test_a_megabyte_of_text,
    test_all_unknown_is_zero,
    test_any_ordered_collection_is_taken,
    test_any_text_encodes_alone_as_among_others,
    test_bad_options_are_named,
    test_bad_out_is_refused,
    test_bad_texts_are_named,
    test_batch_size_order_and_neighbors_do_not_matter,
    test_count_tokens,
    test_eight_threads_agree,
    test_empty_list_has_shape_0_dim_and_dtype,
    test_encode_iter_equals_encode_and_reads_no_further_than_it_must,
    test_encode_prints_nothing_and_leaves_random_state,
    test_list_gives_matrix_of_distinct_rows,
    test_order_is_truncate_normalize_cast,
    test_out_memmap_is_filled,
    test_overflow_error_and_ignore,
    test_overflow_warns_once_with_count_and_longest,
    test_pickle_and_deepcopy,
    test_similarity,
    test_str_gives_vector,
    test_text_without_tokens_is_zero_also_when_normalized,
    test_tokens_that_are_cut_off_do_not_count,
    test_unknown_keyword_is_typeerror,
    test_vectors_come_with_token_counts,
)

CONNECT = socket.socket.connect


@pytest.fixture(autouse=True)
def _no_network(monkeypatch):
    monkeypatch.setattr(socket.socket, "connect", loopback_only(CONNECT))
    monkeypatch.setenv("OPENAI_API_KEY", KEY)


@pytest.fixture(scope="module")
def server():
    model = make_cse()
    with stand_in_server(lambda texts: model.encode(texts, on_overflow="ignore")) as stand_in:
        yield stand_in


@pytest.fixture(scope="module")
def encoder(server):
    return EndpointEncoder(server.url, "tiny", max_tokens=64, texts_per_request=256)
