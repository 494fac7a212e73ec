"""The dashboard of a site in trouble: read, sorted, filtered, on any screen, and when nobody answers."""

from __future__ import annotations

import importlib.resources
from typing import TYPE_CHECKING

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.browser.pools import Pool, Site, a_bad_night

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.browser.chromium import Browser

PIDS = "[...document.querySelectorAll('.pool:nth-of-type({}) .workers tbody th')].map(cell => cell.innerText)"
SORTS = (
    "[...document.querySelectorAll('#pool-0 thead th')].map(head => head.getAttribute('aria-sort') ?? '-').join(' ')"
)
POOLS = (
    "[...document.querySelectorAll('.pools tbody tr')].filter(row => !row.hidden).map(row => row.cells[0].innerText)"
)
SHOWN = "[...document.querySelectorAll('.pool')].filter(pool => pool.checkVisibility()).map(pool => pool.id)"
TIMES = "document.querySelectorAll('.workers tbody tr').length"
WIDTH = "[document.documentElement.scrollWidth, innerWidth]"


@pytest.fixture(scope="module")
def pools() -> Iterator[list[Pool]]:
    with a_bad_night() as made:
        yield made


@pytest.fixture
def site(pools: list[Pool]) -> Iterator[Site]:
    with Site(lambda: [pool.snapshot() for pool in pools]) as made:
        yield made


def requests_of(browser: Browser, pool: int = 0) -> list[str]:
    cells = f"[...document.querySelectorAll('#pool-{pool} .request bdi')].map(one => one.textContent)"
    found: list[str] = browser.ask(cells)
    return found


def test_first_what_is_wrong_then_where(browser: Browser, site: Site) -> None:
    browser.open(site.url())
    assert browser.ask("document.querySelector('h1').innerText") == "1 of 4 pools has a problem, 1 needs a look"
    first, second, third = browser.ask("[...document.querySelectorAll('.concerns li')].map(one => one.innerText)")
    assert first == "Problem shop All 4 workers are busy, and 23 connections wait."
    assert second.startswith("Notice shop 3 requests run for more than 30 s")
    assert third.startswith("Notice blog The last reload, 3 min 10 s ago, was refused")
    browser.driver.find_element(By.CSS_SELECTOR, ".concerns a").click()
    assert browser.ask("location.hash") == "#pool-0"
    assert requests_of(browser)[0].startswith("/reports/turnover"), "the longest first"


def test_sorting_by_mouse(browser: Browser, site: Site) -> None:
    browser.open(site.url())
    assert browser.ask(SORTS) == "- - descending - - - - - -"
    served = browser.driver.find_element(By.XPATH, "//section[@id='pool-0']//button[text()='Served']")
    served.click()
    assert browser.ask(SORTS) == "- - - - descending - - - -"
    assert requests_of(browser)[0] == "/cart?added=88213"
    served.click()
    assert browser.ask(SORTS) == "- - - - ascending - - - -"
    assert requests_of(browser)[0].startswith("/reports/turnover")


def test_sorting_by_keyboard_lasts(browser: Browser, site: Site) -> None:
    browser.open(site.url())
    browser.ask("document.querySelector('#pool-0 thead button').focus()")
    active = browser.driver.switch_to.active_element
    active.send_keys(Keys.TAB * 3)
    assert browser.ask("document.activeElement.textContent") == "Request"
    browser.driver.switch_to.active_element.send_keys(Keys.ENTER)
    ordered = requests_of(browser)
    assert ordered == sorted(ordered)
    assert browser.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    wait_for_the_next_look(browser)
    assert requests_of(browser) == ordered
    assert browser.ask("document.activeElement.textContent") == "Request", "it has not lost the focus"
    assert browser.ask(SORTS) == "- - - ascending - - - - -"


def wait_for_the_next_look(browser: Browser) -> None:
    """The page shows what it has fetched: what a test has scribbled on it is gone."""
    browser.ask("document.querySelector('time').textContent = 'scribbled'")
    browser.wait("document.querySelector('time').textContent !== 'scribbled'")


def test_the_filter(browser: Browser, site: Site) -> None:
    browser.open(site.url())
    field = browser.driver.find_element(By.CSS_SELECTOR, "#filter input")
    field.send_keys("checkout")
    assert browser.ask(SHOWN) == ["pool-0"]
    assert browser.ask("document.querySelector('#filter output').textContent") == "2 of 15 workers"
    wait_for_the_next_look(browser)
    assert browser.ask(SHOWN) == ["pool-0"]
    field.clear()
    field.send_keys("INTRA")
    assert (browser.ask(POOLS), browser.ask(SHOWN)) == (["intranet"], ["pool-2"])
    field.clear()
    field.send_keys(Keys.SPACE)
    assert len(browser.ask(SHOWN)) == 4


def test_no_screen_is_too_narrow(browser: Browser, site: Site) -> None:
    browser.open(site.url())
    for width in (320, 360, 480, 768, 991, 993, 1280, 2560):
        browser.be_window(width, 700)
        wide, window = browser.ask(WIDTH)
        assert wide <= window == width
        assert browser.ask("getComputedStyle(document.querySelector('.workers tbody tr')).display") == (
            "table-row" if width > 992 else "flex"
        )


@pytest.mark.parametrize(("width", "dark"), [(360, True), (1280, False)])
def test_axe_finds_nothing(browser: Browser, site: Site, width: int, dark: bool) -> None:
    browser.be_window(width, 700, dark)
    browser.open(site.url())
    lightness = browser.ask("getComputedStyle(document.body).backgroundColor.match(/\\d+/g).map(Number)")
    assert (max(lightness) < 60) == dark
    assert accessibility_faults(browser) == []


def test_when_nobody_answers_it_says_so(browser: Browser, site: Site) -> None:
    browser.open(site.url())
    site.failing = True
    browser.wait("document.querySelector('#lost').textContent.startsWith('Not answering')")
    assert browser.ask("document.documentElement.classList.contains('stale')")
    assert accessibility_faults(browser) == []
    site.failing = False
    browser.ask("document.dispatchEvent(new Event('visibilitychange'))")  # who comes back sees at once how it is now
    browser.wait("document.querySelector('#lost').textContent === ''")
    assert not browser.ask("document.documentElement.classList.contains('stale')")
    assert all("502" in error for error in browser.errors())


def test_pools_come_and_go(browser: Browser, pools: list[Pool]) -> None:
    shown = pools[:2]
    with Site(lambda: [pool.snapshot() for pool in shown]) as site:
        browser.open(site.url())
        browser.driver.find_element(By.XPATH, "//section[@id='pool-0']//button[text()='PID']").click()
        shown.append(pools[2])
        browser.wait("document.querySelectorAll('.pool').length === 3")
        assert browser.ask("document.querySelectorAll('#pool-2 thead button').length") == 9
        heads = "[...document.querySelectorAll('#pool-2 thead th')].map(head => head.getAttribute('aria-sort'))"
        assert browser.ask(heads)[0] == "ascending", "the order that was chosen counts for it, too"
        del shown[0]
        browser.wait("document.querySelectorAll('.pool').length === 2")
        assert browser.ask("[...document.querySelectorAll('.pool h2')].map(one => one.innerText)") == [
            "blog",
            "intranet",
        ]


def test_a_thousand_workers(browser: Browser) -> None:
    crowd = Pool("crowd", 1000)
    for number in range(1000):
        crowd.idle(f"/page/{number}", number / 1000)
    with Site(lambda: [crowd.snapshot()]) as site:
        browser.open(site.url())
        assert browser.ask(TIMES) == 1000
        took = browser.ask("(() => { const t = performance.now(); document.querySelector('thead button').click();"
                           " return performance.now() - t })()")  # fmt: skip
        assert took < 3000  # milliseconds; it is a hundred, on a machine that does nothing else
        wait_for_the_next_look(browser)
        assert browser.ask("document.querySelector('.workers tbody th').innerText") == "21840"
    crowd.board.close()


def accessibility_faults(browser: Browser) -> list[str]:
    """What axe-core finds."""
    axe = importlib.resources.files("axe_core_python").joinpath("axe.min.js").read_text(encoding="utf-8")
    browser.driver.execute_script(axe)
    found = browser.driver.execute_async_script("axe.run().then(arguments[arguments.length - 1])")
    return [f"{one['id']}: {one['nodes'][0]['html'][:200]}" for one in found["violations"]]
