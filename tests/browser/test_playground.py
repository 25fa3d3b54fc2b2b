"""The playground served by Voilà: painted, trained, compared, on a laptop and on a phone."""

import re

import pytest
from conftest import LONGEST_RUN, SCREENSHOTS
from playwright.sync_api import expect

SOON = 60_000
TRAINED = re.compile("^finished: 500 of 500 updates")
WIDTHS = {"laptop": {"width": 1280, "height": 900}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(params=WIDTHS)
def page(request, browser, voila):
    page = browser.new_page(viewport=WIDTHS[request.param])
    page.device = request.param
    page.goto(voila)
    page.get_by_role("button", name="Start").first.wait_for(timeout=SOON)
    yield page
    page.close()


def test_paint_train_and_compare(page):
    assert "import" not in page.inner_text("body")  # no code in sight
    cell = page.locator('button[title^="cell (5, 5)"]')
    expect(cell).to_have_attribute("title", "cell (5, 5): reward 0.01")
    cell.click()
    expect(cell).to_have_attribute("title", "cell (5, 5): reward 0.1", timeout=SOON)
    page.get_by_label("updates", exact=True).first.select_option("500")
    page.get_by_label("compare two settings").check()
    second = page.get_by_label("updates", exact=True).nth(1)
    second.select_option("500")
    statuses = page.get_by_text(re.compile("updates|new run"))
    for _ in range(2):
        page.get_by_role("button", name="Start", exact=True).first.click()
        page.wait_for_timeout(500)
    expect(statuses.filter(has_text=TRAINED)).to_have_count(2, timeout=LONGEST_RUN)
    for picture in page.locator("img[alt^=Curves]").all():
        expect(picture).to_have_attribute("alt", re.compile("After 500 updates"), timeout=SOON)
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]
    height = page.evaluate(
        "Math.max(...[...document.querySelectorAll('*')].map(each => each.scrollHeight))"
    )
    page.set_viewport_size({**page.viewport_size, "height": height})
    page.screenshot(path=SCREENSHOTS / f"playground_{page.device}.png")
