"""The pictures in docs/screenshots: python -m tests.browser.screenshots [FOLDER]

Runs in: a developer's shell.
Fails by: whatever keeps Chromium from starting.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.browser.chromium import fresh_browser
from tests.browser.pools import Site, a_bad_night
from tests.rules.source import ROOT


def main(folder: Path) -> None:
    with fresh_browser() as browser, a_bad_night() as pools, Site(lambda: [pool.snapshot() for pool in pools]) as site:
        browser.be_window(1200, 1180)
        browser.open(site.url())
        browser.shoot(folder / "dashboard.png")
        browser.be_window(390, 844, dark=True, scale=1.5)
        browser.open(site.url())
        browser.shoot(folder / "dashboard-phone.png")
        browser.open(site.url() + "#pool-0")
        browser.shoot(folder / "dashboard-phone-pool.png")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "docs" / "screenshots")
