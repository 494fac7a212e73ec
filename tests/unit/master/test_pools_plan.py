"""From a pool's settings to its plan: what `pm` does not use does not reach the decisions."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

import pytest

from pyfpm.master.pools import plan_of
from pyfpm.master.sizing import Plan

if TYPE_CHECKING:
    from pyfpm.config.directives import PoolSettings


def settings(pm: str) -> PoolSettings:
    found = SimpleNamespace(
        pm=pm,
        pm_max_children=9,
        pm_start_servers=3,
        pm_min_spare_servers=2,
        pm_max_spare_servers=4,
        pm_max_spawn_rate=5,
    )
    return cast("PoolSettings", found)


@pytest.mark.parametrize(
    ("pm", "plan"),
    [
        ("dynamic", Plan("dynamic", 9, 3, 2, 4, 5)),
        ("static", Plan("static", 9)),
        ("ondemand", Plan("ondemand", 9)),
    ],
)
def test_plans(pm: str, plan: Plan) -> None:
    assert plan_of(settings(pm)) == plan
