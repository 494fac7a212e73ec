"""Recycling: it goes by requests served, and by nothing else."""

from __future__ import annotations

from pyfpm.worker.recycling import Recycling


def test_only_a_further_request_is_a_reason() -> None:
    limits = Recycling(requests=0, memory=1, proportional=False)
    assert limits.is_due(0) == ""
    assert limits.is_due(1).endswith("(pm.max_memory), request 1")
    assert Recycling(requests=2, memory=0, proportional=False).is_due(2) == "after 2 requests (pm.max_requests)"
