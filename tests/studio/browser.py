"""Headless Chromium, Debian's or whichever is on PATH."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from selenium.common.exceptions import TimeoutException
from selenium.webdriver import Chrome, ChromeOptions, ChromeService
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

DEADLINE_S = 40


def _find(*names: str) -> str:
    for name in names:
        if found := shutil.which(name):
            return found
    raise AssertionError(
        f"none of {', '.join(names)} is on PATH; Debian: apt-get install chromium chromium-driver"
    )


@contextmanager
def chromium() -> Iterator[Browser]:
    """A browser window of a desktop's size."""
    options = ChromeOptions()
    options.binary_location = _find("chromium", "chromium-browser", "google-chrome")
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.add_argument("--window-size=1280,1000")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = Chrome(options=options, service=ChromeService(_find("chromedriver")))
    try:
        yield Browser(driver)
    finally:
        driver.quit()


class Browser:
    """What a person does with the page: read, click, type."""

    def __init__(self, driver: Chrome) -> None:
        self.driver = driver

    def open(self, url: str) -> None:
        self.driver.get(url)

    def until(self, look: Callable[[], Any]) -> Any:
        """Look until there is something."""

        def quietly(_: Any) -> Any:
            try:
                return look()
            except Exception:  # the page is being rebuilt under the look
                return None

        try:
            return WebDriverWait(self.driver, DEADLINE_S, 0.1).until(quietly)
        except TimeoutException:
            raise AssertionError(f"the page says:\n{self.text()}") from None

    def text(self, selector: str = "body") -> str:
        return self.driver.find_element(By.CSS_SELECTOR, selector).text

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def says(self, text: str, selector: str = "body") -> None:
        """Wait until an element shows a text."""
        self.until(lambda: text in self.text(selector))

    def press(self, name: str, within: str = "body") -> None:
        """Press the first button of an accessible name."""

        def pressed() -> bool:
            (target, *_) = [
                b
                for b in self.all(f"{within} button")
                if b.is_displayed() and name in (b.accessible_name, b.text)
            ]
            target.click()
            return True

        self.until(pressed)

    def choose(self, text: str, within: str) -> str:
        """Press the first button that shows a text among others; all it shows."""

        def chosen() -> str:
            (target, *_) = [b for b in self.all(f"{within} button") if text in b.text]
            shown = target.text
            target.click()
            return shown

        shown: str = self.until(chosen)
        return shown

    def type(self, label: str, text: str) -> None:
        """Type into the field of an accessible name."""

        def typed() -> bool:
            (field, *_) = [
                f for f in self.all("textarea, input") if label in (f.accessible_name or "")
            ]
            field.clear()
            field.send_keys(text)
            return True

        self.until(typed)

    def complaints(self) -> list[str]:
        """What the browser's console has of errors."""
        return [e["message"] for e in self.driver.get_log("browser") if e["level"] == "SEVERE"]
