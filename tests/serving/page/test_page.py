"""The page in a real browser: search, compare, heat map, keyboard, address."""

import pytest

from sentenc.retrieval import Index
from tests.serving.page.conftest import SCRIPT, TEXTS, fits, hits, ready, shown
from tests.support.pairs import make_pair

STYLES = "all => all.map(one => one.getAttribute('style'))"


def test_results_follow_the_typing(open_page, address, encoders):
    page = open_page(address + "#search?mode=vector")
    page.get_by_text("Search 10 texts by meaning").wait_for()
    page.locator("#query").press_sequentially("the dog runs in the park", delay=5)
    page.locator(".hit .number", has_text="1.000").wait_for()
    first = hits(page).first
    assert first.locator(".text").inner_text() == "the dog runs in the park"
    assert first.locator("mark").all_inner_texts() == ["dog", "runs", "park"]
    assert first.locator(".label").all_inner_texts() == ["<b>place</b> <i>3</i>", "n 3"]
    assert hits(page).count() == 10
    status = page.locator("#search-status").inner_text()
    assert "10 of 10 items" in status
    assert status.count(" ms") == 3
    # Scores decrease, and the bars have the lengths of the scores.
    scores = [float(score) for score in page.locator(".number").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    vectors = encoders["tiny"].encode(["the dog runs in the park", *TEXTS])
    expected = sorted(encoders["tiny"].similarity(vectors[0], vectors[1:])[0], reverse=True)
    assert scores == pytest.approx(expected, abs=2e-3)
    widths = page.eval_on_selector_all(".fill", "all => all.map(one => parseFloat(one.style.width))")
    assert widths == pytest.approx([100 * max(score, 0) for score in scores], abs=0.2)
    page.locator("#count").select_option("5")
    page.locator("#search-status", has_text="5 of 10").wait_for()
    assert hits(page).count() == 5
    assert "search?q=the+dog+runs+in+the+park&k=5&index=texts" in page.locator("#curl").text_content()


def test_bars_show_the_parts_of_a_score(open_page, address):
    page = open_page(address + "#search?q=playing+guitar")
    first = hits(page).first
    first.get_by_text("a man is playing the guitar", exact=True).wait_for()
    assert page.locator("#mode option").all_inner_texts() == ["meaning and words", "meaning", "words"]
    assert page.locator("#parts").is_visible()
    # The matched words are marked.
    assert first.locator("mark").all_inner_texts() == ["playing", "guitar"]
    widths = [
        float(style.split("%")[0].split(" ")[-1]) for style in first.locator(".fill").evaluate_all(STYLES)
    ]
    assert len(widths) == 2
    # The best result has the whole width, divided in the ratio of its parts.
    assert sum(widths) == pytest.approx(100, abs=0.2)
    label = first.locator(".bar").get_attribute("aria-label")
    meaning, words = (float(part.split(" ")[1].replace("−", "-")) for part in label.split(", "))
    assert float(first.locator(".number").inner_text()) == pytest.approx(meaning + words, abs=0.02)
    assert widths[0] / widths[1] == pytest.approx(meaning / words, rel=0.05)
    page.locator("#mode").select_option("lexical")
    hits(page).nth(1).wait_for(state="detached")
    assert first.locator(".fill").count() == 1
    assert page.locator("#parts").is_hidden()
    assert page.url.endswith("#search?q=playing+guitar&mode=lexical")
    assert "&mode=lexical" in page.locator("#curl").text_content()
    page.fill("#query", "zzz")
    page.get_by_text("No text contains a word of the query.").wait_for()


def test_results_are_filtered(open_page, address):
    page = open_page(address + "#search?q=dog")
    hits(page).first.wait_for()
    page.fill("#filter", "n>=7")
    page.press("#filter", "Enter")
    page.locator("#search-status", has_text="3 of 10").wait_for()
    assert page.input_value("#filter") == ""
    assert page.locator("#fields option").evaluate_all("all => all.map(one => one.value)") == [
        "<b>place</b>=",
        "n=",
    ]
    # A click on a value of a result adds a filter for it. Names that cannot be typed are not offered.
    assert page.locator("#results button.label").count() == 3
    page.locator("button.label", has_text="n 8").click()
    page.locator("#search-status", has_text="1 of 10").wait_for()
    assert page.locator("#filters .chip").all_inner_texts() == ["n>=7\n×", "n=8\n×"]
    assert page.url.endswith("#search?q=dog&where=n%3E%3D7%0An%3D8")
    assert "&where=n%3E%3D7&where=n%3D8'" in page.locator("#curl").text_content()
    # The address keeps the filters.
    other = open_page(page.url)
    other.locator("#search-status", has_text="1 of 10").wait_for()
    other.get_by_role("button", name="Remove the filter n>=7").click()
    other.locator("#filters .chip").nth(1).wait_for(state="detached")
    other.fill("#filter", "m=1")
    other.press("#filter", "Enter")
    other.get_by_text(
        "No item meets the filter: n is a number in 10 items; no item has a field m."
    ).wait_for()
    other.get_by_role("button", name="Clear").click()
    other.locator("#search-status", has_text="10 of 10").wait_for()
    # What is no filter is not sent.
    other.fill("#filter", "France")
    other.press("#filter", "Enter")
    assert other.evaluate("document.getElementById('filter').validationMessage").startswith("Type a filter")
    assert other.locator("#filters .chip").count() == 0


def test_the_last_query_wins(open_page, address):
    page = open_page(address)
    ready(page)
    # The answer to the first query is delayed until no request waits for it.
    is_first = lambda request: request.method == "POST" and "hello" in request.post_data  # noqa: E731
    page.route("**/search", lambda route: None if is_first(route.request) else route.continue_())
    with page.expect_request(is_first):
        page.fill("#query", "hello")
    with page.expect_event("requestfailed", is_first) as given_up:
        page.fill("#query", "the stock market fell")
    assert given_up.value.failure == "net::ERR_ABORTED"
    hits(page).first.get_by_text("the stock market fell", exact=True).wait_for()
    page.fill("#query", "")
    page.get_by_text("Search 10 texts by meaning").wait_for()
    assert hits(page).count() == 0


def test_texts_stay_texts(open_page, address):
    page = open_page(
        address + "#search?q=" + "%3Cimg%20src%3Dx%20onerror%3D%22window.wasRun%3Dtrue%22%3E%20dog"
    )
    hits(page).first.wait_for()
    page.fill("#query", SCRIPT)
    hits(page).first.get_by_text("onerror").wait_for()
    assert hits(page).first.locator(".text").inner_text() == SCRIPT
    assert page.locator("main img, main script, main b, main i").count() == 0


def test_long_texts_are_cut_and_can_be_read(open_page, address):
    page = open_page(address + "#search?q=words")
    first = hits(page).first
    first.get_by_role("button", name="Show all").click()
    assert len(first.locator(".text").inner_text()) > 850


def test_keyboard_alone(open_page, address):
    page = open_page(address + "#search?mode=vector")
    ready(page)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "query"
    page.keyboard.type("guitar/dog")
    assert page.input_value("#query") == "guitar/dog"
    shown(page, "guitar%2Fdog")
    rank = "[...document.querySelectorAll('.hit')].indexOf(document.activeElement.closest('.hit'))"
    page.keyboard.press("ArrowDown")
    assert page.evaluate(rank) == 0
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.evaluate(rank) == 2
    page.keyboard.press("End")
    assert page.evaluate(rank) == 9
    page.keyboard.press("ArrowUp")
    page.keyboard.press("Home")
    wanted = hits(page).first.locator(".text").inner_text()
    page.keyboard.press("Enter")
    page.locator(".hit .number", has_text="1.000").wait_for()
    assert page.input_value("#query") == wanted
    assert page.evaluate(rank) == 0
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement.id") == "query"
    # The results are a single tab stop.
    order = []
    page.reload()
    hits(page).first.wait_for()
    for _ in range(10):
        page.keyboard.press("Tab")
        order.append(page.evaluate("document.activeElement.id || document.activeElement.className"))
    assert order == [
        "skip",
        "tab-search",
        "theme-button",
        "query",
        "index",
        "mode",
        "count",
        "filter",
        "similar",
        "link",
    ]
    page.focus("#tab-search")
    page.keyboard.press("ArrowRight")
    assert page.locator("[role=tab][aria-selected=true]").inner_text() == "Compare"
    assert page.locator("#panel-compare").is_visible()
    assert page.locator("#panel-search").is_hidden()


def test_the_address_keeps_the_state(open_page, address):
    page = open_page(address)
    ready(page)
    page.fill("#query", "a cat and a dog")
    page.locator("#index").select_option("texts-words")
    page.locator("#search-status", has_text="10 of 10").wait_for()
    url = page.url
    assert url.endswith("#search?q=a+cat+and+a+dog&index=texts-words")
    other = open_page(url)
    hits(other).first.get_by_text("a cat and a dog", exact=True).wait_for()
    assert other.input_value("#index") == "texts-words"
    assert other.title() == "a cat and a dog – sentenc"
    other.locator("#tab-heatmap").click()
    other.go_back()
    assert other.locator("#panel-search").is_visible()
    assert other.input_value("#query") == "a cat and a dog"


def test_compare(open_page, address):
    page = open_page(address + "#compare?q=the+dog+in+the+park&k=5")
    page.locator("#compare-status", has_text="in both").wait_for()
    texts = {side: page.locator(f"#results-{side} .text").all_inner_texts() for side in "ab"}
    assert len(texts["a"]) == len(texts["b"]) == 5
    both = [text for text in texts["a"] if text in texts["b"]]
    assert f"{len(both)} of 5 in both" in page.locator("#compare-status").inner_text()
    for here, there in ["ab", "ba"]:
        for rank, text in enumerate(texts[here]):
            hit = hits(page, f"#results-{here}").nth(rank)
            note = hit.locator(".other-rank").inner_text()
            if text not in texts[there]:
                assert note == f"only in {here.upper()}"
                continue
            places = texts[there].index(text) - rank
            many = "1 place" if abs(places) == 1 else f"{abs(places)} places"
            direction = f"▲ {many} higher" if places < 0 else f"▼ {many} lower"
            assert note == (
                f"{direction} in {there.upper()}" if places else f"= same rank in {there.upper()}"
            )
    hits(page, "#results-a").nth(texts["a"].index(both[0])).hover()
    assert page.locator("#results-b .pointed .text").inner_text() == both[0]
    page.focus("#query")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.closest('ol').id") == "results-b"
    page.locator("#index-b").select_option("texts")
    page.locator("#compare-status", has_text="5 of 5 in both").wait_for()
    assert page.url.endswith("#compare?q=the+dog+in+the+park&k=5&b=texts")


def test_heat_map(open_page, address, encoders):
    page = open_page(address)
    page.locator("#tab-heatmap").click()
    lines = ["a dog", "the stock market fell", "a cat", "<b>hello</b> world"]
    page.fill("#sentences", "\n".join(["", *lines[:2], "   ", *lines[2:], ""]))
    page.locator("#matrix td").nth(15).wait_for()
    vectors = encoders["tiny"].encode(lines)
    expected = encoders["tiny"].similarity(vectors, vectors)
    values = [float(text.replace("−", "-")) for text in page.locator("#matrix td").all_inner_texts()]
    assert values == pytest.approx(expected.ravel(), abs=0.006)
    assert page.locator("#matrix .sentence").all_inner_texts() == lines
    page.locator("#matrix td").nth(1).hover()
    assert "a dog" in page.locator("#reading").inner_text()
    assert lines[1] in page.locator("#reading").inner_text()
    page.locator("#matrix td").nth(0).focus()
    for key in ["ArrowRight", "ArrowDown", "ArrowDown", "End", "ArrowDown", "ArrowDown"]:
        page.keyboard.press(key)
    assert page.locator("#reading strong").inner_text() == "1.000"
    assert page.locator("#reading").inner_text().count(lines[3]) == 2
    page.locator("#group").check()
    assert sorted(page.locator("#matrix tbody .at").all_inner_texts()) == ["1", "2", "3", "4"]
    page.locator("#model").select_option("tiny-words")
    page.wait_for_url(lambda url: "model=tiny-words" in url)
    other = open_page(page.url)
    other.locator("#matrix td").nth(15).wait_for()
    assert other.input_value("#sentences").splitlines()[1:3] == lines[:2]


def test_heat_map_takes_forty(open_page, address):
    page = open_page(address + "#heatmap")
    page.fill("#sentences", "a dog")
    page.locator("#heatmap-status", has_text="second sentence").wait_for()
    page.fill("#sentences", "\n".join(f"word {'dog ' * (i % 5)}" for i in range(43)))
    page.locator("#heatmap-status", has_text="first 40").wait_for()
    page.locator("#matrix td").nth(1599).wait_for()
    assert page.locator("#matrix td").count() == 1600
    assert fits(page)


def test_panels_and_dialog_have_accessible_names(open_page, address):
    page = open_page(address)
    for name, panel in [("Search", "search"), ("Compare", "compare"), ("Heat map", "heatmap")]:
        page.get_by_role("tab", name=name).click()
        assert page.get_by_role("tabpanel", name=name).get_attribute("id") == f"panel-{panel}"
    page.evaluate("document.getElementById('key-dialog').showModal()")
    assert page.get_by_role("dialog", name="This server requires an API key").count() == 1


def test_the_best_passage_is_shown_and_highlighted(servers, encoders, open_page):
    index = Index(encoders["tiny"], chunk_tokens=16, overlap=0)
    # A character beyond the basic plane has two units in JavaScript.
    index.add(
        ["\U0001f600 the dog runs in the park. " * 12 + "the stock market fell. " + "hello world. " * 30]
    )
    page = open_page(servers(encoders, {"long": index}) + "#search?q=stock+market")
    text = page.locator(".hit .text").first
    text.locator("mark", has_text="stock").wait_for()
    (hit,) = index.search("stock market", 1)
    assert text.inner_text().startswith(f"… {hit.passage}…")
    text.get_by_text("Show all").click()
    assert text.inner_text() == hit.text.strip()
    assert text.locator(".passage").inner_text() == hit.passage


def test_queries_are_fast_or_exact(open_page, servers):
    pair = make_pair()
    index = Index(pair)
    index.add(TEXTS[:8])
    page = open_page(servers({"pair": pair}, {"texts": index}) + "#search?q=playing+guitar")
    hits(page).first.wait_for()
    assert page.locator("#speed option").all_inner_texts() == ["fast query", "exact query"]
    fast = page.locator(".number").first.inner_text()
    page.locator("#speed").select_option("exact")
    page.wait_for_function("fast => document.querySelector('.number').innerText !== fast", arg=fast)
    assert page.url.endswith("#search?q=playing+guitar&queries=exact")
    assert "&queries=exact" in page.locator("#curl").text_content()
