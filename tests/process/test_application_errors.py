"""What a faulty application does to its client, to the log and its worker: one request fails and is found."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from tests.harness.daemon import fresh_daemon
from tests.harness.fcgi_client import Connection, get_parameters, request_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.harness.daemon import Daemon
    from tests.harness.stage import Stage


@pytest.fixture(scope="module")
def site(stage: Stage) -> Iterator[Daemon]:
    with fresh_daemon(stage) as daemon:
        daemon.add_pool()
        daemon.start()
        yield daemon


@pytest.fixture(autouse=True)
def same_worker(site: Daemon) -> Iterator[None]:
    """Nothing that an application raises ends its worker."""
    before = site.get("/pid").body
    yield
    assert site.get("/pid").body == before


def test_the_code_stands_behind_the_first_line_and_no_other(site: Daemon) -> None:
    start = site.log_end()
    assert site.get("/raise", "find=me").status == 500
    site.wait_log(r'(?m)"GET /raise\?find=me" failed: ValueError: .* \[PYFPM-504\]$', start=start)
    site.wait_log(r"(?m)child \d+ ValueError: [^[]*$", start=start)
    assert site.log.read()[start:].count("PYFPM") == 1
    site.get("/length", "said=5&given=3")
    site.wait_log(r"(?m) failed.*: ApplicationError: .* \[PYFPM-505\]$", start=start)


def test_raised_before_the_headers(site: Daemon) -> None:
    answer = site.get("/raise", "q=1")
    assert answer.status == 500
    assert answer.body == b"Internal Server Error\n"
    assert answer.ended is not None
    assert b"secret" not in answer.stderr
    site.wait_log(
        r'ERROR: \[pool www\] child \d+ "GET /raise\?q=1" failed: ValueError: a secret that no client may see'
    )
    site.wait_log(r'ERROR: \[pool www\] child \d+ +File ".*apps\.py", line \d+, in _raise')
    assert "pyfpm/worker" not in site.log.read(), "the traceback begins in the application"


def test_raised_after_the_headers(site: Daemon) -> None:
    answer = site.get("/raise-late")
    assert answer.body == b"a beginning"
    assert answer.ended is None, "the client must not take it for the whole"
    site.wait_log(r'"GET /raise-late" failed after a part of the answer was sent: ValueError: a secret')


@pytest.mark.parametrize("code", ["0", "3"])
def test_sys_exit_ends_the_request_and_not_the_worker(site: Daemon, code: str) -> None:
    assert site.get("/sysexit", f"code={code}").status == 500
    site.wait_log(rf'"GET /sysexit\?code={code}" failed: SystemExit: {code}')


@pytest.mark.parametrize(
    ("given", "said", "words"),
    [(3, 5, "shorter than its Content-Length: 3 of 5 bytes"), (5, 3, "longer than its Content-Length of 3 bytes")],
)
def test_a_wrong_content_length_is_never_sent_as_if_it_were_right(
    site: Daemon, given: int, said: int, words: str
) -> None:
    answer = site.get("/length", f"given={given}&said={said}")
    assert len(answer.body) <= said
    assert not (answer.ended and len(answer.body) == given)
    site.wait_log(re.escape(words))
    if given < said:
        assert answer.ended is None


def test_a_client_that_leaves_is_no_error(site: Daemon) -> None:
    with Connection(site.address()) as client:
        client.send(request_bytes(get_parameters("/drip")))
        site.gate.wait_inside()
    site.gate.release()
    assert site.get("/pid").status == 200


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import sys\nsys.exit('no')\n", r"cannot load bad:application: SystemExit: no"),
        ("application = 5\n", r"cannot load bad:application: application is int, which cannot be called"),
        ("applicaton = print\n", r"cannot load bad:application: AttributeError: module 'bad' has no attribute"),
        ("def application(:\n", r"cannot load bad:application: SyntaxError"),
        ("raise KeyboardInterrupt\n", r"cannot load bad:application: KeyboardInterrupt"),
    ],
)
@pytest.mark.parametrize("preload", ["yes", "no"])
def test_what_cannot_be_loaded_says_why(daemon: Daemon, source: str, words: str, preload: str) -> None:
    daemon.write_app("bad.py", source)
    daemon.add_pool("www", {"app": "bad:application", "preload": preload})
    daemon.launch()
    daemon.expect("no pool can serve")
    daemon.expect("failed twice in a row")
    assert daemon.wait_exit() == 70
    daemon.wait_log(words)
