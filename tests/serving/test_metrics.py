"""The metrics of a server, as Prometheus reads them."""

import asyncio
import json
import os
import subprocess
import sys
from collections import Counter
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sentenc import Index
from sentenc.serving.metrics import Metrics
from sentenc.serving.middleware import RequestMiddleware
from tests.serving.conftest import SENTENCES, samples_of, wait_until_ready
from tests.serving.test_embeddings import ask

# Dashboards and alerts refer to these names, types and labels.
METRICS = {
    "sentenc_requests_total": ("counter", {"route", "status"}),
    "sentenc_request_seconds": ("histogram", {"route", "le"}),
    "sentenc_requests_in_flight": ("gauge", set()),
    "sentenc_queue_requests": ("gauge", {"queue", "name"}),
    "sentenc_batch_requests": ("histogram", {"queue", "name", "le"}),
    "sentenc_batch_items": ("histogram", {"queue", "name", "le"}),
    "sentenc_tokens_total": ("counter", {"model"}),
    "sentenc_texts_total": ("counter", {"model"}),
    "sentenc_index_items": ("gauge", {"index"}),
}

# Two processes, one after the other, each with its own counts and gauges.
SHARED = """
import json, os, sys
from sentenc.serving.metrics import Metrics, forget_process, share_metrics
folder, number, counts = sys.argv[1], int(sys.argv[2]), json.loads(sys.argv[3])
if sys.argv[4] == "imported before":
    import prometheus_client
if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    share_metrics(folder, number)
metrics = Metrics()
assert metrics.is_shared
metrics.watch_in_flight(lambda: counts)
metrics.watch_index("shared", lambda: 7)
metrics.watch_queue("encode", "a", lambda: counts)
for _ in range(counts):
    metrics.count_request("/search", 200, 0.3)
    metrics.count_texts("a", 2, 10)
    metrics.batch_observer("encode", "a")(1, 2)
if sys.argv[5] == "ended":
    metrics.refresh()
    forget_process(folder, number)
else:
    sys.stdout.buffer.write(metrics.exposition())
"""


def test_counts(client_of, tiny):
    index = Index(tiny)
    index.add(SENTENCES)
    client = client_of({"tiny": tiny}, {'odd"name': index})
    wait_until_ready(client)
    before = scraped(client)
    ask(client, input=SENTENCES)
    ask(client, input="")
    client.get("/search?q=man")
    client.get("/nowhere")
    client.get("/elsewhere")
    after = scraped(client)

    def gained(name, /, **labels):
        key = (name, frozenset(labels.items()))
        return after.get(key, 0) - before.get(key, 0)

    tokens = int(tiny.count_tokens([*SENTENCES, "man"]).sum())
    assert gained("sentenc_requests_total", route="/v1/embeddings", status="200") == 1
    assert gained("sentenc_requests_total", route="/v1/embeddings", status="400") == 1
    assert gained("sentenc_requests_total", route="/search", status="200") == 1
    assert gained("sentenc_requests_total", route="other", status="404") == 2
    assert gained("sentenc_request_seconds_count", route="/v1/embeddings") == 2
    assert gained("sentenc_request_seconds_bucket", route="/v1/embeddings", le="+Inf") == 2
    assert gained("sentenc_tokens_total", model="tiny") == tokens
    assert gained("sentenc_texts_total", model="tiny") == len(SENTENCES) + 1
    assert gained("sentenc_batch_requests_count", queue="encode", name="tiny") == 2
    assert gained("sentenc_batch_items_sum", queue="encode", name="tiny") == len(SENTENCES) + 1
    assert gained("sentenc_batch_items_count", queue="search", name='odd"name') == 1
    assert after["sentenc_index_items", frozenset({("index", 'odd"name')})] == len(SENTENCES)
    assert after["sentenc_queue_requests", frozenset({("queue", "encode"), ("name", "tiny")})] == 0
    assert after["sentenc_requests_in_flight", frozenset()] == 0


def test_names_types_and_labels(client_of, tiny):
    index = Index(tiny)
    index.add(SENTENCES)
    client = client_of({"tiny": tiny}, {"texts": index})
    wait_until_ready(client)
    client.get("/search?q=man")
    text = client.get("/metrics").text
    types = dict(line.split()[2:] for line in text.splitlines() if line.startswith("# TYPE"))
    assert types == {name: kind for name, (kind, _) in METRICS.items()}
    labels = Counter()
    for name, pairs in samples_of(text):
        family = next(known for known in METRICS if name.startswith(known))
        assert name.removeprefix(family) in ("", "_bucket", "_sum", "_count")
        expected = METRICS[family][1] - (set() if name.endswith("_bucket") else {"le"})
        assert {label for label, _ in pairs} == expected
        labels[family] += 1
    assert set(labels) == set(METRICS)


@given(st.text(st.characters(codec=None, categories=["L", "N", "P", "S", "Z", "C", "Cs"]), max_size=20))
def test_any_name_of_a_model(name):
    metrics = Metrics()
    metrics.count_texts(name, 3, 9)
    metrics.watch_queue("encode", name, lambda: 2)
    metrics.watch_index(name, lambda: 5)
    metrics.batch_observer("encode", name)(1, 1)
    values = samples_of(metrics.exposition().decode("utf-8"))
    (key,) = (key for key in values if key[0] == "sentenc_texts_total")
    ((label, shown),) = key[1]
    assert (label, values[key]) == ("model", 3)
    if "\0" not in name and not any("\ud800" <= character <= "\udfff" for character in name):
        assert shown == name
    assert len(shown) == len(name.encode("utf-16", "surrogatepass").decode("utf-16", "replace"))


def test_missing_library(monkeypatch):
    from sentenc import MissingExtraError

    monkeypatch.setitem(sys.modules, "prometheus_client", None)
    with pytest.raises(MissingExtraError, match=r"prometheus_client.*sentenc\[serve\]"):
        Metrics()


@pytest.mark.parametrize("first", ["imported before", "not imported"])
def test_several_processes_add_up(tmp_path, first):
    def process(number, counts, state="alive"):
        arguments = [str(tmp_path), str(number), json.dumps(counts), first, state]
        command = [sys.executable, "-W", "error", "-c", SHARED, *arguments]
        return samples_of(
            subprocess.run(command, check=True, capture_output=True, timeout=120).stdout.decode()
        )

    a = frozenset({("model", "a")})
    queue = frozenset({("queue", "encode"), ("name", "a")})
    assert process(0, 1)["sentenc_texts_total", a] == 2
    values = process(1, 3)
    assert values["sentenc_texts_total", a] == 8
    assert values["sentenc_tokens_total", a] == 40
    assert values["sentenc_requests_total", frozenset({("route", "/search"), ("status", "200")})] == 4
    assert values["sentenc_request_seconds_bucket", frozenset({("route", "/search"), ("le", "0.5")})] == 4
    assert values["sentenc_batch_items_sum", queue] == 8
    # Requests are in flight in both processes, and both have the same index.
    assert values["sentenc_requests_in_flight", frozenset()] == 4
    assert values["sentenc_queue_requests", queue] == 4
    assert values["sentenc_index_items", frozenset({("index", "shared")})] == 7
    # The counts of a process that has ended remain, and its gauges do not. The next one continues its number.
    assert process(0, 5, "ended") == {}
    values = process(1, 0)
    assert values["sentenc_texts_total", a] == 18
    assert values["sentenc_requests_in_flight", frozenset()] == 0
    assert len(list(tmp_path.glob("counter_*.db"))) == 2


def test_variable_of_the_environment(tmp_path):
    """Other servers that run the application in several processes set it, as for every program with the library."""
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    for total in (3, 6):
        command = [sys.executable, "-W", "error", "-c", SHARED, "unused", "0", "3", "not imported", "alive"]
        result = subprocess.run(command, check=True, capture_output=True, timeout=120, env=environment)
        values = samples_of(result.stdout.decode())
        assert values["sentenc_requests_total", frozenset({("route", "/search"), ("status", "200")})] == total


def scraped(client):
    answer = client.get("/metrics")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return samples_of(answer.text)


@pytest.mark.parametrize("chunks", [1, 3])
def test_a_request_is_counted_before_its_answer_ends(chunks):
    counted, seen = [], []

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for i in range(chunks):
            await send({"type": "http.response.body", "body": b"x", "more_body": i < chunks - 1})

    async def send(message):
        seen.append(len(counted))

    metrics = SimpleNamespace(count_request=lambda *values: counted.append(values[:2]))
    lifecycle = SimpleNamespace(started=True, draining=False, in_flight=0, metrics=metrics)
    scope = {"type": "http", "path": "/search", "headers": []}
    asyncio.run(RequestMiddleware(app, lifecycle, None)(scope, None, send))
    # Several workers share their counts: another one may answer for them as soon as the client has its answer.
    assert seen == [0] * chunks + [1]
    assert counted == [("/search", 200)]
