"""The slides that `make site` made, shown one after the other by a browser."""

import pytest
from conftest import LONGEST_RUN, ROOT, SCREENSHOTS
from lessons import LESSONS

SLIDES = ROOT / "build" / "site" / "slides"
SHOWN = {"03_backward_policy": 11}  # a lesson, and the slide of which a screenshot is left
HEIGHT = 720  # of a slide, and its padding on the right, in pixels
PADDING = 24

# Of the slide on show: its height, how far text or pictures reach beyond it, what is on it.
SLIDE = """() => {
    const slide = Reveal.getCurrentSlide(), right = slide.getBoundingClientRect().right;
    const edges = [...slide.querySelectorAll("p, li, td, pre, img, mjx-math")]
        .filter(each => !each.closest(".notes"))
        .map(each => each.getBoundingClientRect().right);
    const size = parseFloat(slide.style.fontSize || 1);
    return {
        height: slide.scrollHeight, beyond: Math.max(...edges) - right, size: size,
        shows: slide.innerText.trim().length + slide.querySelectorAll("img").length
    };
}"""


@pytest.mark.parametrize("lesson", [path.stem for path in LESSONS])
def test_all_of_a_slide_is_seen_and_nothing_comes_from_elsewhere(browser, lesson):
    page = browser.new_page(viewport={"width": 1366, "height": 768})
    page.set_default_timeout(LONGEST_RUN)
    asked, errors = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    page.goto((SLIDES / f"{lesson}.html").as_uri())
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    number = page.evaluate("Reveal.getTotalSlides()")
    assert number > 10
    for at in range(number):
        slide = page.evaluate(SLIDE)
        assert slide["shows"], at
        assert slide["height"] <= HEIGHT, at
        assert slide["beyond"] <= 0, at
        assert slide["size"] > 0.7, at  # smaller letters cannot be read from the last row
        if at == SHOWN.get(lesson):
            SCREENSHOTS.mkdir(parents=True, exist_ok=True)
            page.screenshot(path=SCREENSHOTS / f"slides_{lesson}.png")
        page.evaluate("Reveal.next()")
    assert page.locator("mjx-container").count()  # formulas are typeset
    assert not page.locator("mjx-merror").count()
    assert not errors
    assert all(url.startswith(("file:", "data:")) for url in asked), asked
    page.close()


def test_the_notes_hold_the_prose_and_the_solutions_and_the_slides_do_not(browser):
    page = browser.new_page()
    page.set_default_timeout(LONGEST_RUN)
    page.goto((SLIDES / "04_trajectory_balance_loss.html").as_uri())
    page.wait_for_function("window.Reveal && Reveal.isReady()")
    notes = "\n".join(page.locator("aside.notes").all_text_contents())
    remove = "document.querySelectorAll('aside.notes').forEach(each => each.remove())"
    page.evaluate(remove)
    slides = "\n".join(page.locator(".slides").all_text_contents())
    for text in ("log_z - delta", "One trajectory is enough to compute it", "log Z grows by log 2"):
        assert text in notes
        assert text not in slides
    for text in ("def one_knob(", "Which of the five trajectories notice"):
        assert text in slides
    page.close()
