"""What goes with a page, whoever answers it."""

from __future__ import annotations

import pytest

from pyfpm.status.dashboard import CSP
from pyfpm.status.headers import HTML, PLAIN, headers_of


@pytest.mark.parametrize("kind", [PLAIN, HTML, "application/json"])
def test_no_page_is_kept_or_taken_for_another_kind(kind: str) -> None:
    headers = dict(headers_of(kind))
    assert headers["Content-Type"] == kind
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert "no-store" in headers["Cache-Control"]


def test_the_page_for_people_alone_has_a_policy() -> None:
    policies = {kind: dict(headers_of(kind)).get("Content-Security-Policy") for kind in (HTML, PLAIN)}
    assert policies == {HTML: CSP, PLAIN: None}
