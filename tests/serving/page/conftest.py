"""Chromium on the page of an application. Skipped without Chromium, playwright or the server's packages."""

import shutil
import socket
import threading
import time

import pytest

from sentenc.retrieval import Index
from tests.support.models import make_cse

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
SCRIPT = '<img src="nowhere" onerror="window.wasRun = true"><script>window.wasRun = true</script> dog and cat'
TEXTS = [
    "a man is playing the guitar",
    "someone plays an instrument",
    "the stock market fell",
    "the dog runs in the park",
    "she was not at the park all day",
    "a cat and a dog",
    "hello world",
    "new york and tokyo",
    SCRIPT,
    "words " * 150,
]
KEY = "a-key-of-the-test"


@pytest.fixture(scope="module")
def servers():
    """Returns a function that starts an application in a thread, on a free port, and returns its address."""
    pytest.importorskip("starlette")
    uvicorn = pytest.importorskip("uvicorn")
    running = []

    def start(encoders, indexes, **config):
        from sentenc.serving import ServerConfig, create_app

        listener = socket.create_server(("127.0.0.1", 0))
        app = create_app(encoders, indexes, ServerConfig(**config))
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="on"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        running.append((server, thread))
        deadline = time.monotonic() + 60
        while not server.started and thread.is_alive() and time.monotonic() < deadline:
            time.sleep(0.02)
        assert server.started
        return f"http://127.0.0.1:{listener.getsockname()[1]}/"

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join(30)


@pytest.fixture(scope="module")
def encoders():
    return {"tiny": make_cse(max_tokens=256), "tiny-words": make_cse(max_tokens=256).word_path()}


@pytest.fixture(scope="module")
def address(servers, encoders):
    indexes = {}
    for name, model in [("texts", "tiny"), ("texts-words", "tiny-words")]:
        indexes[name] = Index(encoders[model])
        indexes[name].add(
            TEXTS, payloads=[{"<b>place</b>": f"<i>{i}</i>", "n": i} for i in range(len(TEXTS))]
        )
    return servers(encoders, indexes)


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("Chromium is not installed")
    playwright = pytest.importorskip("playwright.sync_api")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser):
    """Opens a page in a new context. In the end, checks for console errors and requests to other servers."""
    opened = []

    def open_at(url, expect=(), **options):
        context = browser.new_context(**options)
        page = context.new_page()
        page.set_default_timeout(15_000)
        complaints, requests = [], []
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type == "error" else None
        )
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        opened.append((context, page, complaints, requests, url, expect))
        page.goto(url)
        return page

    yield open_at
    for context, page, complaints, requests, url, expect in opened:
        assert page.evaluate("window.wasRun") is None
        assert [line for line in complaints if not any(words in line for words in expect)] == []
        origin = url.split("/", 3)[2]
        assert [request for request in requests if request.split("/", 3)[2] != origin] == []
        context.close()


def hits(page, place="#results"):
    return page.locator(f"{place} .hit")


def ready(page):
    page.locator("#about", has_text="item").wait_for()


def shown(page, query):
    """Waits for the results of a query, which is URL-encoded."""
    page.locator("#curl", has_text=f"q={query}&").wait_for(state="attached")


def fits(page):
    return page.evaluate("document.documentElement.scrollWidth <= document.documentElement.clientWidth")
