"""The web site that `make site` built: its files, and a reader's way through it in a browser."""

import functools
import html.parser
import http.server
import re
import threading
import urllib.parse

import pytest
from axe_playwright_python.sync_playwright import Axe
from conftest import ROOT, SCREENSHOTS

SITE = ROOT / "build" / "site"
LESSON = "notebooks/04_trajectory_balance_loss.html"
# Tags that make a browser load something at once. What <a> names is loaded only when clicked.
LOADING = {"script", "link", "img", "source", "iframe", "video", "audio", "embed", "object"}

# The theme fades its buttons from black when a page opens; halfway they have no contrast.
COLOURS_AT_REST = "Promise.all(document.getAnimations().map(each => each.finished)).then(() => 0)"


class Page(html.parser.HTMLParser):
    """What a page is made of: the anchors in it, what it links to, and what it loads."""

    def __init__(self, path):
        super().__init__()
        self.anchors, self.links, self.loads, self.empty = set(), [], [], []
        self.feed(path.read_text())

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        self.anchors |= {values.get("id"), values.get("name")}
        address = values.get("href") or values.get("src") or values.get("data")
        if address and (tag == "a" or tag in LOADING):
            (self.loads if tag in LOADING else self.links).append(address)
        if tag == "img" and not values.get("alt"):
            self.empty.append(address)


@pytest.fixture(scope="module")
def pages():
    """Every page of the site."""
    files = {*SITE.rglob("*.html")} - {*SITE.glob("_static/**/*")}
    found = {path: Page(path) for path in files}
    assert len(found) > 20, "run `make site` first"
    return found


def elsewhere(address):
    return re.match(r"(?:[a-z]+:)?//", address) is not None


def test_every_link_leads_to_a_page_and_a_place_in_it(pages):
    broken, followed = [], 0
    for path, page in pages.items():
        for address in page.links + page.loads:
            if elsewhere(address) or address.startswith(("data:", "mailto:")):
                continue
            parts = urllib.parse.urlsplit(address)
            target = path
            if parts.path:
                target = (path.parent / urllib.parse.unquote(parts.path)).resolve()
            anchor = urllib.parse.unquote(parts.fragment)
            there = target in pages and (not anchor or anchor in pages[target].anchors)
            followed += 1
            if not there and not (target.is_file() and not anchor):
                broken.append(f"{path.relative_to(SITE)}: {address}")
    assert followed > 1000
    assert not broken


def test_nothing_is_loaded_from_another_host(pages):
    loads = [address for page in pages.values() for address in page.loads]
    assert len(loads) > 100
    assert not [address for address in loads if elsewhere(address)]
    for path in SITE.rglob("*.css"):
        named = re.findall(r"""(?:url\(|@import)\s*["']?([^"')\s]+)""", path.read_text())
        assert not [address for address in named if elsewhere(address)], path


def test_every_picture_has_a_text_for_who_cannot_see_it(pages):
    empty = {path.name: page.empty for path, page in pages.items() if page.empty}
    assert not empty


def test_lessons_lead_to_the_symbols_that_they_introduce(pages):
    links = pages[SITE / LESSON].links
    assert "../glossary.html#term-trajectory-balance" in links
    for path, page in pages.items():
        if path.parent.name == "notebooks" and path.name != "playground.html":
            assert any(link.startswith("../glossary.html") for link in page.links), path


def test_shapes_in_docstrings_stay_whole():
    text = re.sub("<[^>]+>", "", (SITE / "api.html").read_text())
    assert text.count("[B, T]") > 5


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address():
    """Where the built site is served."""
    handler = functools.partial(Quiet, directory=SITE)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1366, 390])
def test_a_reader_finds_a_lesson_reads_it_and_goes_on(browser, address, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{address}/search.html?q=trajectory+balance")
    page.locator("#search-results li a", has_text="When is the water in balance?").first.click()
    page.wait_for_url(f"**/{LESSON}*")
    page.locator("mjx-container").first.wait_for()  # a formula is typeset
    assert luminance(page) > 200 if scheme == "light" else luminance(page) < 50
    solution = page.locator("details", has_text="Solution").first
    assert not solution.locator("pre").first.is_visible()
    solution.locator("summary").click()
    assert solution.locator("pre").first.is_visible()
    assert not sideways(page)
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"site_{width}_{scheme}.png")
    page.locator(".prev-next-footer a.right-next, .prev-next-area a.right-next").click()
    page.wait_for_url("**/05_training.html")
    assert all(url.startswith(address) for url in asked), "a request to another host"
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_landing_page_and_a_lesson_have_no_serious_accessibility_fault(browser, address, scheme):
    page = browser.new_page(viewport={"width": 1366, "height": 900}, color_scheme=scheme)
    for name in ("index.html", "watch.html", "notebooks/00_start_here.html"):
        page.goto(f"{address}/{name}")
        page.evaluate(COLOURS_AT_REST)
        found = Axe().run(page, options={"resultTypes": ["violations"]}).response
        assert len(found["passes"]) > 15  # it did look
        serious = [
            (fault["id"], [node["html"] for node in fault["nodes"]])
            for fault in found["violations"]
            if fault["impact"] in ("serious", "critical")
        ]
        assert not serious, name
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1366, 390])
def test_a_reader_watches_a_recorded_run_without_a_kernel(browser, address, width, scheme):
    page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page.goto(f"{address}/index.html")
    page.locator(".bd-article a[href='watch.html']").first.click()
    slider, numbers = page.get_by_label("Updates made"), page.locator(".watch-numbers")
    before, colours = numbers.inner_text(), cells(page)
    assert len(colours) == 64
    slider.press("End")  # by keyboard alone
    assert page.locator(".watch-count").inner_text() == "2000"
    assert error(numbers.inner_text()) < 0.1 * error(before)
    assert cells(page) != colours
    page.get_by_label("A ring").check()
    assert cells(page, ".watch-target") != colours
    page.get_by_role("button", name="Play").click()  # from the start again
    page.get_by_role("button", name="Pause").wait_for()
    page.wait_for_function("document.querySelector('#watch-frame').value > 1")
    page.get_by_role("button", name="Pause").click()
    assert 0 < int(slider.input_value()) < int(slider.get_attribute("max"))
    assert not sideways(page)
    slider.press("End")
    page.screenshot(path=SCREENSHOTS / f"watch_{width}_{scheme}.png", full_page=True)
    page.close()


def cells(page, picture=".watch-learned"):
    """The colours of a picture's cells."""
    return page.eval_on_selector_all(
        f"{picture} rect", "cells => cells.map(each => each.getAttribute('fill'))"
    )


def error(numbers):
    return float(re.search(r"error ([\d.]+)", numbers)[1])


def luminance(page):
    """How bright the page's ground is, from 0 to 255."""
    colour = page.evaluate("getComputedStyle(document.body).backgroundColor")
    return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3


def sideways(page):
    """Whether the page, and not only a box in it, scrolls to the side."""
    return page.evaluate("document.documentElement.scrollWidth > window.innerWidth")
