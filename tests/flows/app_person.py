"""A person in front of FiftyOne's App: a real browser, and what hands do in the Annotate tab."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

CHROMIUM = Path("/usr/bin/chromium")
SHOTS = Path(__file__).resolve().parents[2] / "test-output" / "app"  # looked at after a run of CI
PAUSE = 0.6  # s; what a page needs to follow a hand
SETTLED = 2.5  # s; the page saves a second after the last change


@contextmanager
def browser_page() -> Iterator[object]:
    """A page of Debian's chromium; the test is skipped, and says so, where there is none."""
    if not CHROMIUM.exists():
        pytest.skip(f"needs a browser at {CHROMIUM}")
    from playwright.sync_api import sync_playwright

    SHOTS.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=str(CHROMIUM),
            args=["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"],
        )
        page = browser.new_page(viewport={"width": 1500, "height": 950})
        page.set_default_timeout(20_000)
        yield page
        browser.close()


class Person:
    """Somebody who labels images of `width` x `height` pixels on a page."""

    def __init__(self, page, width: int, height: int) -> None:
        self.page, self.width, self.height = page, width, height

    def shot(self, name: str) -> None:
        self.page.screenshot(path=str(SHOTS / f"{name}.png"))

    def open(self, link: str) -> None:
        """Go to a link and wait for its images."""
        self.page.goto(link)
        self.page.locator("[data-cy=looker]").first.wait_for(timeout=90_000)
        hint = self.page.get_by_text("Dismiss", exact=True)
        if hint.count():
            hint.first.evaluate("element => element.click()")
        time.sleep(PAUSE)

    def annotate(self, number: int = 0) -> None:
        """Open an image of the grid and its Annotate tab."""
        self.page.locator("[data-cy=looker]").nth(number).click()
        self.page.locator("[data-cy=annotate]").click()
        self.canvas.wait_for()
        time.sleep(3)

    @property
    def canvas(self):
        return self.page.locator("[data-cy=lighter-sample-renderer-canvas]")

    def at(self, x: float, y: float) -> tuple[float, float]:
        """Where a pixel of the image lies on the page."""
        area = self.canvas.bounding_box()
        scale = min(area["width"] / self.width, area["height"] / self.height)
        left = area["x"] + (area["width"] - self.width * scale) / 2
        top = area["y"] + (area["height"] - self.height * scale) / 2
        return left + x * scale, top + y * scale

    def click(self, x: float, y: float) -> None:
        self.page.mouse.click(*self.at(x, y))
        time.sleep(PAUSE)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        (x1, y1), (x2, y2) = self.at(*start), self.at(*end)
        mouse = self.page.mouse
        mouse.move(x1, y1)
        mouse.down()
        for step in range(1, 6):
            mouse.move(x1 + (x2 - x1) * step / 5, y1 + (y2 - y1) * step / 5)
            time.sleep(0.05)
        mouse.up()
        time.sleep(PAUSE)

    def choose(self, words: str) -> None:
        """One of the buttons of the field that is open."""
        self.page.get_by_label(words, exact=True).first.click(force=True)
        time.sleep(PAUSE)

    def pick(self, x: float, y: float) -> None:
        """Open the box that lies there."""
        if self.hint.is_visible():
            self.page.locator("[data-cy=select-action]").click()
        self.click(x, y)

    @property
    def hint(self):
        """Whether the page draws; a box that was looked at or deleted leaves it in this mode."""
        return self.page.get_by_text("Click and drag to create a bounding box")

    def delete(self, x: float, y: float) -> None:
        self.pick(x, y)
        self.page.locator("[data-cy=label-menu-trigger]").click()
        time.sleep(PAUSE)
        self.page.get_by_text("Delete label", exact=True).click()
        time.sleep(PAUSE)

    def draw(self, start: tuple[float, float], end: tuple[float, float], name: str) -> None:
        if not self.hint.is_visible():
            self.page.locator("[data-cy=detection-mode]").click()
        self.hint.wait_for()
        self.drag(start, end)
        self.choose(name)
        self.back()

    def back(self) -> None:
        """From one box, or one field, to all of them."""
        self.settle()
        button = self.page.locator("[data-cy=annotate-edit-back]")
        if button.count():
            button.click()
            time.sleep(PAUSE)

    def field(self, name: str, value: str) -> None:
        """Say something of the image: `review_status`, `skip_reason`."""
        self.page.locator(f"[data-cy={name}-field]").last.click()
        time.sleep(PAUSE)
        self.choose(value)
        self.back()

    def switch_on(self, name: str) -> None:
        """A field that is on or off."""
        self.page.locator(f"[data-cy={name}-field]").last.click()
        self.page.get_by_text("True", exact=True).click()
        self.back()

    def operate(self, label: str, expected: str, name: str) -> None:
        """Run an operator from the App's list of operators, and read what it says."""
        self.page.keyboard.press("Backquote")
        time.sleep(PAUSE)
        self.page.keyboard.type(label)
        time.sleep(PAUSE)
        self.page.keyboard.press("Enter")
        execute = self.page.get_by_role("button", name="Execute").first
        execute.wait_for()
        time.sleep(2)  # the form asks its operator once more what to show; a click before that is lost
        execute.click()
        try:
            self.page.get_by_text(expected).first.wait_for()
        finally:
            self.shot(name)
        self.page.keyboard.press("Escape")
        time.sleep(PAUSE)

    def select(self, number: int) -> None:
        """Tick an image of the grid."""
        self.page.locator("[data-cy=looker]").nth(number).hover()
        self.page.locator("[data-cy=looker] input[type=checkbox]").nth(number).evaluate("box => box.click()")
        time.sleep(PAUSE)

    def show_panel(self, label: str) -> None:
        """Open a panel beside the grid."""
        self.page.locator("[data-cy=new-panel-btn]").first.click()
        time.sleep(PAUSE)
        self.page.get_by_text(label, exact=True).last.click()
        time.sleep(PAUSE)

    def show_tab(self, label: str) -> None:
        self.page.get_by_text(label, exact=True).first.click()
        self.page.locator("[data-cy=looker]").first.wait_for()

    def settle(self) -> None:
        time.sleep(SETTLED)

    def close(self) -> None:
        self.page.keyboard.press("Escape")
        time.sleep(PAUSE)
