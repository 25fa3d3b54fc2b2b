"""The web site that `make site` built, in a real browser, wide and narrow, light and dark."""

import functools
import http.server
import threading

import pytest
from conftest import ROOT, SCREENSHOTS

SITE = ROOT / "build" / "site"
LESSON = "notebooks/04_trajectory_balance_loss.html"


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
    page.locator("#search-results li a", has_text="balance").first.wait_for()
    page.goto(f"{address}/{LESSON}")
    page.locator("mjx-container").first.wait_for()  # a formula is typeset
    solution = page.locator("details", has_text="Solution").first
    assert not solution.locator("pre").first.is_visible()
    solution.locator("summary").click()
    assert solution.locator("pre").first.is_visible()
    wider = page.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    assert wider <= 0, "the page scrolls sideways"
    SCREENSHOTS.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=SCREENSHOTS / f"site_{width}_{scheme}.png")
    page.locator(".prev-next-footer a.right-next, .prev-next-area a.right-next").click()
    page.wait_for_url("**/05_training.html")
    assert all(url.startswith(address) for url in asked), "a request to another host"
    page.close()
