"""A real Chromium without a window, for tests that open a page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

FLAGS = (
    "headless=new",
    "no-sandbox",
    "disable-gpu",
    "disable-quic",
    "no-first-run",
    "disable-background-networking",
    "disable-component-update",
    "disable-sync",
)
WAIT_S = 20


@contextmanager
def chromium(profile: Path) -> Iterator[Browser]:
    """Skips the test where there is none."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    binary = shutil.which("chromium") or shutil.which("google-chrome")
    driver = shutil.which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("no browser: apt-get install chromium chromium-driver")
    options = webdriver.ChromeOptions()
    options.binary_location = binary
    for flag in (*FLAGS, f"user-data-dir={profile}"):
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    started = webdriver.Chrome(options=options, service=Service(driver))
    try:
        yield Browser(started)
    finally:
        started.quit()


class Browser:
    """What tests do with a browser."""

    def __init__(self, driver) -> None:
        self.driver = driver
        self.run = driver.execute_script
        self.send = driver.execute_cdp_cmd

    def media(self, scheme: str = "light", kind: str = "screen") -> None:
        self.send(
            "Emulation.setEmulatedMedia",
            {"media": kind, "features": [{"name": "prefers-color-scheme", "value": scheme}]},
        )

    def width(self, pixels: int) -> None:
        self.send(
            "Emulation.setDeviceMetricsOverride",
            {"width": pixels, "height": 1200, "deviceScaleFactor": 1, "mobile": False},
        )

    def scripts(self, allowed: bool) -> None:
        self.send("Emulation.setScriptExecutionDisabled", {"value": not allowed})

    def open(self, page: Path) -> None:
        for kind in ("browser", "performance"):
            self.driver.get_log(kind)
        self.driver.get(f"file://{page}")

    def until(self, condition: str):
        """What the expression is once it is true. Raises selenium's ``TimeoutException``."""
        from selenium.webdriver.support.ui import WebDriverWait

        return WebDriverWait(self.driver, WAIT_S).until(lambda _: self.run(f"return {condition}"))

    def draw_all(self) -> int:
        """Unfold everything, bring every chart into view, and wait until all are drawn; how many there are."""
        self.run("document.querySelectorAll('details').forEach(one => one.open = true)")
        charts = self.run("return document.querySelectorAll('.chart').length")
        for number in range(charts):
            self.run(f"document.querySelectorAll('.chart')[{number}].scrollIntoView()")
            self.until(f"document.querySelectorAll('.chart')[{number}].matches('.drawn')")
        return charts

    def requests(self) -> list[str]:
        """Addresses asked for since the page was opened, but for itself and what is inside it."""
        events = [json.loads(entry["message"])["message"] for entry in self.driver.get_log("performance")]
        asked = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
        return [url for url in asked if not url.startswith(("file://", "data:", "blob:"))]

    def errors(self) -> list[str]:
        return [entry["message"] for entry in self.driver.get_log("browser") if entry["level"] == "SEVERE"]
