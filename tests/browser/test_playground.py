"""The playground served by Voilà: painted, trained, compared, on a laptop and on a phone."""

import re

import pytest
from conftest import LONGEST_RUN, SCREENSHOTS
from playwright.sync_api import expect

SOON = 60_000
TRAINED = re.compile("^finished: 500 of 500 updates")
WIDTHS = {"laptop": {"width": 1366, "height": 768}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(params=WIDTHS)
def page(request, browser, voila):
    page = browser.new_page(viewport=WIDTHS[request.param])
    page.device = request.param
    page.goto(voila, timeout=LONGEST_RUN)
    page.get_by_role("button", name="Start", exact=True).first.wait_for(timeout=SOON)
    yield page
    page.close()


def test_paint_train_and_compare(page):
    assert "import" not in page.inner_text("body")  # no code in sight
    for link in page.locator("a[href]:not([href^='#'])").all():
        assert page.request.get(link.evaluate("each => each.href")).ok
    maps, curves = page.locator("img[alt^=Maps]"), page.locator("img[alt^=Curves]")
    # Labels can be read where pictures are not made smaller.
    for picture in (maps.first, curves.first):
        assert picture.evaluate("each => each.naturalWidth <= each.clientWidth")
    if page.device == "laptop":
        box = maps.first.bounding_box()
        assert box["y"] + box["height"] <= page.viewport_size["height"]
    page.screenshot(path=SCREENSHOTS / f"playground_{page.device}_first.png")

    paint(page, "1e-5", (5, 5))
    page.get_by_label("updates", exact=True).first.select_option("500")
    page.get_by_label("compare two settings").check()
    page.get_by_label("updates", exact=True).nth(1).select_option("500")
    statuses = page.get_by_text(re.compile("updates, loss|^ready"))
    expect(page.get_by_text("ready: 500 updates")).to_have_count(2, timeout=SOON)
    page.get_by_role("button", name="Start both").click()
    expect(statuses.filter(has_text=TRAINED)).to_have_count(2, timeout=LONGEST_RUN)
    for picture in maps.all():
        expect(picture).to_have_attribute("alt", re.compile("after 500 updates"), timeout=SOON)
    for picture in curves.all():
        expect(picture).to_have_attribute("alt", re.compile("finished: 500 of"), timeout=SOON)
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    whole_page(page, "compared")

    # Another reward: nothing of the old runs stays.
    paint(page, "2", (5, 5))
    expect(page.get_by_text("ready: 500 updates")).to_have_count(2, timeout=SOON)
    for picture in maps.all():
        expect(picture).to_have_attribute("alt", re.compile("after 0 updates"), timeout=SOON)
    for picture in curves.all():
        expect(picture).to_have_attribute("alt", re.compile("ready: 500"), timeout=SOON)


def test_start_pause_and_start_the_other(page):
    page.get_by_label("compare two settings").check()
    first, second = (
        page.get_by_role("button", name=re.compile("^(Start|Pause|Continue)$")).nth(number)
        for number in range(2)
    )
    first.click()
    expect(first).to_have_text("Pause", timeout=SOON)
    expect(page.get_by_text(re.compile(r"^\d+ of 2,000 updates"))).to_have_count(1, timeout=SOON)
    first.click()
    expect(first).to_have_text("Continue", timeout=SOON)
    page.get_by_label("show the flow as pipes").first.check()
    expect(page.locator("img[alt^=Pipes]")).to_have_count(1, timeout=SOON)
    second.click()
    expect(second).to_have_text("Pause", timeout=SOON)
    expect(first).to_have_text("Continue")
    whole_page(page, "pipes")


def paint(page, level, cell):
    page.get_by_role("button", name=level, exact=True).first.click()
    button = page.locator(f'button[title^="cell {cell}"]')
    button.click()
    expect(button).to_have_attribute(
        "title", re.compile(rf"reward {float(level):.2g}$"), timeout=SOON
    )


def whole_page(page, name):
    """A screenshot as high as the page."""
    before = page.viewport_size
    height = page.evaluate(
        "Math.max(...[...document.querySelectorAll('*')].map(each => each.scrollHeight))"
    )
    page.set_viewport_size({**before, "height": height})
    page.screenshot(path=SCREENSHOTS / f"playground_{page.device}_{name}.png")
    page.set_viewport_size(before)
