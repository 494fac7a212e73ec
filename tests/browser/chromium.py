"""A headless Chromium with a profile of its own.

Runs in: tests.
Fails by: selenium's exceptions; WaitTimeout where a condition does not come true.
"""

from __future__ import annotations

import base64
import contextlib
import json
import shutil
import subprocess
import tempfile
from typing import TYPE_CHECKING, Any

from selenium.webdriver import Chrome, ChromeOptions, ChromeService

from tests.harness.waits import PATIENCE, Deadline

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage",
    "--window-size=1400,1200",
)  # fmt: skip


class Browser:
    """One window. What it logged and what it asked the network for is kept until it is taken."""

    def __init__(self, profile: str) -> None:
        options = ChromeOptions()
        options.binary_location = _program("chromium")
        for flag in (*FLAGS, f"--user-data-dir={profile}"):
            options.add_argument(flag)
        options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
        # The wrapper of Debian's chromium says things about the machine on stderr.
        service = ChromeService(_program("chromedriver"), log_output=subprocess.DEVNULL)
        self.driver = Chrome(options, service)
        self.driver.set_page_load_timeout(PATIENCE)

    def command(self, name: str, **arguments: object) -> dict[str, Any]:
        """A command of the browser's own debugging protocol."""
        answer: dict[str, Any] = self.driver.execute_cdp_cmd(name, arguments)
        return answer

    def be_window(self, width: int, height: int, dark: bool = False, scale: float = 1) -> None:
        """This size in CSS pixels, exactly: a real window cannot be as narrow as a phone."""
        phone = width < 600
        self.command(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=phone
        )
        self.command("Emulation.setScrollbarsHidden", hidden=True)
        wishes = {"prefers-color-scheme": "dark" if dark else "light", "prefers-reduced-motion": "reduce"}
        features = [{"name": name, "value": value} for name, value in wishes.items()]
        self.command("Emulation.setEmulatedMedia", features=features)

    def allow_scripts(self, allowed: bool) -> None:
        """Whether pages may run scripts; ours can nevertheless look at them."""
        self.command("Emulation.setScriptExecutionDisabled", value=not allowed)

    def open(self, url: str) -> None:
        self.driver.get(url)

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        return self.driver.execute_script(f"return ({expression})")

    def wait(self, expression: str, seconds: float = PATIENCE) -> Any:
        """Ask until it is true; each asking is a round trip to another process."""
        deadline = Deadline(seconds, expression)
        while not (found := self.ask(expression)):
            deadline.pause()
        return found

    def forget(self) -> None:
        """What was logged until now."""
        self.errors()
        self.requested()

    def errors(self) -> list[str]:
        """What stood in the console since the last time: exceptions, violations of CSP, failed loads."""
        logged: list[dict[str, str]] = self.driver.get_log("browser")  # type: ignore[no-untyped-call]
        return [entry["message"] for entry in logged]

    def requested(self) -> list[str]:
        """The addresses that pages asked for since the last time."""
        entries = self.driver.get_log("performance")  # type: ignore[no-untyped-call]
        events = [json.loads(entry["message"])["message"] for entry in entries]
        sent = [event["params"] for event in events if event["method"] == "Network.requestWillBeSent"]
        return [url for one in sent if not (url := one["request"]["url"]).startswith("data:")]

    def shoot(self, path: Path) -> None:
        """A picture of what is in the window."""
        picture = self.command("Page.captureScreenshot", format="png")
        path.write_bytes(base64.b64decode(picture["data"]))


def _program(name: str) -> str:
    found = shutil.which(name)
    assert found, f"{name} is not installed"
    return found


@contextlib.contextmanager
def fresh_browser() -> Iterator[Browser]:
    with tempfile.TemporaryDirectory(prefix="pyfpm-browser-", ignore_cleanup_errors=True) as profile:
        browser = Browser(profile)
        try:
            yield browser
        finally:
            browser.driver.quit()
