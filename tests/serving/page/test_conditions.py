"""The page on phones, in both themes, with API keys, with errors, and without indexes."""

import json

import pytest

from sentenc.retrieval import Index
from tests.serving.page.conftest import KEY, TEXTS, fits, hits, ready


@pytest.mark.parametrize(
    "view",
    [
        "search?q=dog",
        "search?q=dog&where=n%3E%3D1%0An%3C90%0Aa+long+name+of+a+field%21%3Da+long+value",
        "compare?q=dog",
        "heatmap?texts=a+dog%0Aa+cat%0Ahello+world",
        "",
    ],
)
def test_fits_a_phone(open_page, address, view):
    page = open_page(
        f"{address}#{view}", viewport={"width": 360, "height": 740}, has_touch=True, is_mobile=True
    )
    ready(page)
    if view:
        page.locator(".hit:visible, #matrix td").first.wait_for()
    assert fits(page)
    # Every control lies within the screen.
    for box in page.locator("button:visible, select:visible, input:visible, textarea:visible").all():
        place = box.bounding_box()
        assert place["x"] >= 0
        assert place["x"] + place["width"] <= 360


def luminance(color):
    channels = [int(part) / 255 for part in color.removeprefix("rgb(").removesuffix(")").split(",")]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


CONTRAST = """
selectors => selectors.flatMap(selector => [...document.querySelectorAll(selector)]
  .filter(one => one.checkVisibility()).slice(0, 4).map(one => {
    let below = one;
    while (/rgba\\(.*, 0\\)/.test(getComputedStyle(below).backgroundColor)) below = below.parentElement;
    return [selector, getComputedStyle(one).color, getComputedStyle(below).backgroundColor];
  }))
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_contrast(open_page, address, scheme):
    # Without motion, because a color read during a transition is not a final one.
    page = open_page(f"{address}#compare?q=dog", color_scheme=scheme, reduced_motion="reduce")
    hits(page, "#results-b").first.wait_for()
    selectors = [
        ".text",
        ".label",
        ".label .name",
        ".number",
        ".other-rank",
        ".status",
        "[role=tab]",
        "footer p",
        "#theme-button",
        ".letter",
        "select",
        "h2",
        ".empty p",
        ".chip",
        ".hint",
        "th",
        "td",
    ]
    pairs = page.evaluate(CONTRAST, selectors)
    page.locator("#tab-heatmap").click()
    page.fill("#sentences", "a dog\na cat\nthe stock market fell")
    page.locator("#matrix td").nth(8).wait_for()
    pairs += page.evaluate(CONTRAST, selectors)
    assert len(pairs) > 20
    for selector, color, ground in pairs:
        bright, dim = sorted([luminance(color), luminance(ground)], reverse=True)
        assert (bright + 0.05) / (dim + 0.05) >= 4.5, (selector, color, ground)
    ground = luminance(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    assert ground < 0.1 if scheme == "dark" else ground > 0.8


def test_theme_is_kept(open_page, address):
    page = open_page(address, color_scheme="light")
    ground = "getComputedStyle(document.body).backgroundColor"
    assert luminance(page.evaluate(ground)) > 0.8
    button = page.locator("#theme-button")
    assert button.inner_text() == "Theme: auto"
    button.click()
    button.click()
    assert button.inner_text() == "Theme: dark"
    assert luminance(page.evaluate(ground)) < 0.1
    page.reload()
    assert button.inner_text() == "Theme: dark"
    assert luminance(page.evaluate(ground)) < 0.1


def test_reduced_motion_is_respected(open_page, address):
    motion = "[getComputedStyle(document.querySelector('#working'), '::after').animationName, getComputedStyle(document.querySelector('.chip')).transitionDuration]"
    assert open_page(address).evaluate(motion) == ["slide", "0.15s, 0.15s, 0.15s, 0.15s"]
    assert open_page(address, reduced_motion="reduce").evaluate(motion) == ["none", "0s"]


def test_key_is_requested_and_sent(open_page, servers, encoders):
    index = Index(encoders["tiny"])
    index.add(TEXTS[:3])
    address = servers(encoders, {"texts": index}, api_key=KEY)
    page = open_page(address + "#search?q=guitar", expect=["401"])
    dialog = page.locator("#key-dialog")
    dialog.wait_for()
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    page.get_by_text("The key was not accepted.").wait_for()
    page.keyboard.press("Escape")
    page.get_by_role("alert").get_by_text("requires an API key").wait_for()
    page.get_by_role("button", name="Enter the key").click()
    dialog.wait_for()
    page.fill("#key", KEY)
    page.get_by_role("button", name="Use the key").click()
    hits(page).first.wait_for()
    assert dialog.is_hidden()
    assert page.evaluate("Object.keys(localStorage)") == []
    page.reload()  # this tab keeps it
    hits(page).first.wait_for()
    assert dialog.is_hidden()


def error(status, message, headers=None):
    body = {"error": {"message": message, "type": "server_error", "param": None, "code": None}}
    return {
        "status": status,
        "headers": headers or {},
        "content_type": "application/json",
        "body": json.dumps(body),
    }


def test_requests_to_a_busy_server_are_retried(open_page, address):
    page = open_page(address, expect=["429", "503"])
    ready(page)
    answers = [
        error(429, "the queue is full", {"Retry-After": "60"}),
        error(503, "starting", {"Retry-After": "1"}),
    ]
    page.route("**/search", lambda route: route.fulfill(**answers.pop(0)) if answers else route.continue_())
    page.fill("#query", "guitar")
    notice = page.get_by_role("alert")
    notice.get_by_text("The server is busy").wait_for()
    assert "The queue is full." in notice.inner_text()
    assert "Trying again in 60 s" in notice.inner_text()
    notice.get_by_role("button").click()
    hits(page).first.wait_for()  # after the second refusal and its delay
    assert notice.count() == 0
    assert not answers


def test_other_errors_are_shown(open_page, address):
    page = open_page(address, expect=["413", "500", "ERR_FAILED"])
    ready(page)
    page.route("**/search", lambda route: route.fulfill(**error(413, "the query has 9 bytes, expected 8")))
    page.fill("#query", "guitar")
    page.get_by_role("alert").get_by_text("The query has 9 bytes, expected 8.").wait_for()
    page.unroute("**/search")
    page.route("**/search", lambda route: route.fulfill(status=500, body="<html>a proxy's page"))
    page.get_by_role("button", name="Try again").click()
    page.get_by_text("Something went wrong on the server").wait_for()
    page.unroute("**/search")
    page.route("**/search", lambda route: route.abort())
    page.fill("#query", "guitars")
    page.get_by_text("The server does not answer").wait_for()
    page.unroute("**/search")
    page.get_by_role("button", name="Try again").click()
    hits(page).first.wait_for()
    assert page.get_by_role("alert").count() == 0


def test_without_an_index(open_page, servers, encoders):
    page = open_page(servers(encoders, {}))
    page.get_by_text("No index is loaded").wait_for()
    page.fill("#query", "guitar")
    assert "sentenc serve cse-en --index my-index" in page.locator("#search-empty").inner_text()
    page.locator("#tab-compare").click()
    page.locator("#compare-empty").get_by_text("No index is loaded").wait_for()
    page.locator("#tab-heatmap").click()
    page.locator(".chip").first.click()
    page.locator("#matrix td").nth(63).wait_for()


def test_one_index_and_the_other_kinds_of_item(open_page, servers, encoders):
    vectors = Index(encoders["tiny"], metric="dot")
    vectors.add(vectors=encoders["tiny"].encode(TEXTS[:3]), ids=["first", "second", "third"])
    page = open_page(servers(encoders, {"vectors": vectors}) + "#search?q=guitar")
    hits(page).nth(2).wait_for()
    assert "not its text" in hits(page).first.inner_text()
    assert page.locator("#index-choice").is_hidden()
    page.locator("#tab-compare").click()
    page.get_by_text("comparing needs two").wait_for()
