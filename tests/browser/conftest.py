"""One Chromium for all tests; starting it takes longer than most of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.browser.chromium import Browser, fresh_browser

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with fresh_browser() as started:
        yield started


@pytest.fixture
def browser(chromium: Browser) -> Iterator[Browser]:
    """A window of a desktop, and at the end the proof that its console is empty."""
    chromium.allow_scripts(True)
    chromium.be_window(1280, 900)
    chromium.open("about:blank")
    chromium.forget()
    yield chromium
    assert chromium.errors() == []
