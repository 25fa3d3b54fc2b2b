"""Lessons in JupyterLab: run from top to bottom, and their controls used."""

import re
import time

import pytest
from conftest import LONGEST_RUN, SCREENSHOTS
from playwright.sync_api import expect

SOON = 30_000
NUMBER = re.compile(r"^\[\d+\]:$")
LAPTOP = {"width": 1280, "height": 800}
SHUT_DOWN_KERNELS = """async () => {
    const kernels = async () => (await fetch("/api/kernels")).json();
    const headers = { "X-XSRFToken": document.cookie.match(/_xsrf=([^;]+)/)[1] };
    for (const kernel of await kernels()) {
        await fetch(`/api/kernels/${kernel.id}`, { method: "DELETE", headers });
    }
    return (await kernels()).length;
}"""
PROMPT = ".jp-InputPrompt:not(.jp-Placeholder-prompt)"
"""The number beside a cell; one whose code is folded shows none."""


@pytest.fixture
def lesson(browser, jupyterlab, notebooks):
    """A function that opens a lesson, runs all of it and returns the page."""
    for saved in notebooks.glob("live_training*"):
        saved.unlink()
    page = browser.new_page(viewport=LAPTOP)

    def open_and_run(name, wait=True):
        page.goto(f"{jupyterlab}/{name}.ipynb?reset")
        run_all(page)
        if wait:
            wait_for_last_cell(page)
        return page

    yield open_and_run
    # A kernel outlives its page: a run in it would go on, and save itself for the next test.
    assert page.evaluate(SHUT_DOWN_KERNELS) == 0
    page.close()


def run_all(page):
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    cells.first.wait_for(timeout=SOON)
    # A saved lesson has numbers beside its cells; without outputs they can only be new.
    clear_outputs(page)
    menu(page, "Run", "Run All Cells")


def clear_outputs(page):
    menu(page, "Edit", "Clear Outputs of All Cells")
    expect(page.locator(".jp-Notebook .jp-OutputArea-child")).to_have_count(0, timeout=SOON)


def wait_for_last_cell(page):
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    last = cells.last.locator(".jp-InputPrompt", has_text=NUMBER)
    last.or_(errors(page)).first.wait_for(timeout=LONGEST_RUN)
    assert errors(page).count() == 0
    for prompt in cells.locator(PROMPT).all():
        expect(prompt).to_have_text(NUMBER)


def errors(page):
    return page.locator('.jp-Notebook [data-mime-type="application/vnd.jupyter.error"]')


def menu(page, name, entry):
    page.locator(".lm-MenuBar-item", has_text=re.compile(f"^{name}$")).click()
    page.locator(".lm-Menu-itemLabel", has_text=re.compile(f"^{entry}$")).click()


def output_with(page, label):
    """The output that holds the control of this label."""
    return page.locator(".jp-OutputArea-child", has=page.get_by_text(label, exact=True)).last


def press(slider, key, times=1):
    handle = slider.locator(".noUi-handle, [role=slider]").first
    handle.scroll_into_view_if_needed()
    handle.focus()
    for _ in range(times):
        handle.press(key)


def row(control, label):
    """The slider or field beside a label."""
    return control.locator(".widget-inline-hbox").filter(
        has_text=re.compile(f"^{re.escape(label)}")
    )


def seconds_until_changed(picture, before, act):
    began = time.perf_counter()
    act()
    expect(picture).not_to_have_attribute("src", before, timeout=SOON)
    return time.perf_counter() - began


def test_lesson_02_exploration_and_player(lesson):
    page = lesson("02_sampling")
    control = output_with(page, "exploration γ")
    picture = control.locator("img")
    expect(picture).to_have_attribute("alt", re.compile("ends with γ = 0.30"))
    press(row(control, "exploration γ"), "End")
    expect(picture).to_have_attribute("alt", re.compile("ends with γ = 1.00"), timeout=SOON)
    expect(control.get_by_text("γ = 1.00", exact=False).first).to_be_visible()
    times = []
    for _ in range(5):
        before = picture.get_attribute("src")
        moved = row(control, "exploration γ")
        times.append(seconds_until_changed(picture, before, lambda: press(moved, "ArrowLeft")))  # noqa: B023
    print(f"from the key to the new picture: {1000 * sorted(times)[2]:.0f} ms (median of 5)")
    page.screenshot(path=SCREENSHOTS / "lesson_02_exploration.png")

    player = output_with(page, "trajectory")
    picture = player.locator("img")
    before = picture.get_attribute("src")
    player.locator(".widget-play button, .jupyter-widgets-play button").first.click()
    expect(picture).not_to_have_attribute("src", before, timeout=SOON)
    player.scroll_into_view_if_needed()
    page.screenshot(path=SCREENSHOTS / "lesson_02_player.png")


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("03_backward_policy", "w, the weight of the agent's P_B"),
        ("04_trajectory_balance_loss", "log Z (nats)"),
        ("06_evaluation", "number of samples n"),
    ],
)
def test_a_slider_changes_the_picture_and_its_text(lesson, name, label):
    page = lesson(name)
    control = output_with(page, label)
    picture, numbers = control.locator("img"), control.locator("p").last
    src, text = picture.get_attribute("src"), numbers.inner_text()
    press(row(control, label), "ArrowLeft", times=2)
    expect(picture).not_to_have_attribute("src", src, timeout=SOON)
    expect(numbers).not_to_have_text(text, timeout=SOON)
    control.scroll_into_view_if_needed()
    page.screenshot(path=SCREENSHOTS / f"lesson_{name[:2]}.png")


def test_lesson_05_trains_under_the_hand_and_survives_the_kernel(lesson):
    page = lesson("05_training")
    control, button, status = dashboard(page)
    maps = control.locator("img[alt^=Maps]")
    before = maps.get_attribute("src")
    button.click()
    expect(status).to_have_text(re.compile(r"^\d[\d,]+ of 2,000 updates"), timeout=SOON)
    first = loss_in(status)
    expect(maps).not_to_have_attribute("src", before, timeout=SOON)
    page.wait_for_timeout(2500)  # so that a save has been made, and the loss has fallen
    button.click()
    expect(status).to_have_text(re.compile("^paused"), timeout=SOON)
    done = updates_in(status)
    assert 0 < done < 2000
    assert loss_in(status) < first
    page.wait_for_timeout(500)
    assert updates_in(status) == done
    control.scroll_into_view_if_needed()
    page.screenshot(path=SCREENSHOTS / "lesson_05_paused.png")

    # As the lesson says: after a restart the set-up cell, then the dashboard's.
    menu(page, "Kernel", "Restart Kernel…")
    page.get_by_role("button", name="Confirm Kernel Restart").click()
    clear_outputs(page)
    expect(numbered_cells(page)).to_have_count(0, timeout=SOON)
    cells = page.locator(".jp-Notebook .jp-CodeCell")
    for number, cell in enumerate([cells.first, cells.filter(has_text="training_dashboard(")], 1):
        cell.last.locator(".jp-InputArea-editor").click()
        page.keyboard.press("Control+Enter")
        prompt = cell.last.locator(".jp-InputPrompt")
        expect(prompt).to_have_text(f"[{number}]:", timeout=LONGEST_RUN)
    control, button, status = dashboard(page)
    expect(status).to_have_text(re.compile("^paused"), timeout=SOON)
    assert updates_in(status) == done
    button.click()
    expect(status).to_have_text(re.compile("^finished: 2,000 of 2,000"), timeout=LONGEST_RUN)
    error = float(re.search(r"exact L1 ([\d.]+)", status.inner_text())[1])
    assert error < 0.05
    control.scroll_into_view_if_needed()
    page.screenshot(path=SCREENSHOTS / "lesson_05_finished.png")


def test_start_is_answered_while_cells_are_running(lesson):
    page = lesson("05_training", wait=False)
    _, button, status = dashboard(page)
    button.or_(errors(page)).first.wait_for(timeout=LONGEST_RUN)
    button.click()
    expect(status).to_have_text(re.compile("^compiling|^\\d"), timeout=SOON)
    assert (
        numbered_cells(page).count() < page.locator(f".jp-Notebook .jp-CodeCell {PROMPT}").count()
    )
    wait_for_last_cell(page)
    expect(status).to_have_text(re.compile("^finished: 2,000 of 2,000"), timeout=LONGEST_RUN)


def dashboard(page):
    """Container, start button and status of the training dashboard."""
    control = output_with(page, "updates per picture")
    button = control.get_by_role("button", name=re.compile("Start|Pause|Continue|Finished"))
    return control, button, control.locator(".widget-html-content").first


def numbered_cells(page):
    """The cells that have run."""
    return page.locator(".jp-Notebook .jp-CodeCell").filter(
        has=page.locator(".jp-InputPrompt", has_text=NUMBER)
    )


def loss_in(status):
    return float(re.search(r"loss ([\d.e+-]+) nats", status.inner_text())[1])


def updates_in(status):
    return int(re.search(r"([\d,]+) of", status.inner_text())[1].replace(",", ""))
